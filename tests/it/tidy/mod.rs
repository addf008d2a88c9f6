//! Rules about the repository itself that no compiler checks: who may import whom, how files begin, and that the
//! documents say what is there. `code` and `documents` hold the rules; here is only how files are read.

mod code;
mod documents;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file of the repository.
struct File {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

impl File {
    /// The text without comments. Good enough for names: nobody hides an import in a string.
    fn code(&self) -> String {
        let line = |line: &str| {
            let is_comment =
                |at: &usize| line.get(..*at).is_none_or(|before| before.trim_end() != before || before.is_empty());
            let end = line.match_indices("//").map(|(at, _)| at).find(is_comment).unwrap_or(line.len());
            line.get(..end).unwrap_or_default().to_owned() + "\n"
        };
        self.text.lines().map(line).collect()
    }

    fn is_below(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of these folders (and files) with one of these endings, in a fixed order.
fn files(places: &[&str], endings: &[&str]) -> Vec<File> {
    let root = root();
    let mut paths = Vec::new();
    for place in places {
        collect(&root.join(place), &mut paths);
    }
    paths.sort();
    let files: Vec<_> = paths
        .into_iter()
        .filter(|path| endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)))
        .map(|path| File {
            text: String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned(),
            path: path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"),
        })
        .collect();
    assert!(!files.is_empty(), "nothing is there to be checked in {places:?}");
    files
}

fn collect(path: &Path, into: &mut Vec<PathBuf>) {
    let name = path.file_name().unwrap_or_default();
    if name == "target" || name == ".git" || name == "node_modules" {
        return;
    }
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), into);
        }
    } else {
        into.push(path.to_owned());
    }
}

/// Fails with every problem at once.
fn expect_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}
