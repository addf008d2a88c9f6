//! Rules about the documents: what they point at is there, and what is there stands in them.

use std::{collections::BTreeSet, path::Path};

use docrelay::{
    config,
    domain::{FailureKind, InvalidReason, Outcome},
    store::{self, Defaults},
};

use super::{File, expect_none, files, root};

/// What people read.
const DOCUMENTS: [&str; 5] = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs"];

/// Documents that name tests.
const NAMING_TESTS: [&str; 4] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/requirements.md", "docs/adr"];

fn documents() -> Vec<File> {
    files(&DOCUMENTS, &[".md"])
}

fn document(path: &str) -> File {
    files(&[path], &[".md"]).pop().unwrap()
}

#[test]
fn every_link_leads_somewhere() {
    let mut problems = Vec::new();
    for file in documents() {
        let folder = Path::new(&file.path).parent().unwrap().to_owned();
        for link in links(&file.text) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { root().join(&file.path) } else { root().join(&folder).join(path) };
            let Ok(text) = std::fs::read_to_string(&target) else {
                if !target.is_dir() {
                    problems.push(format!("{}: {link} leads nowhere", file.path));
                }
                continue;
            };
            if !anchor.is_empty() && !headings(&text).contains(anchor) {
                problems.push(format!("{}: {link}: there is no such heading", file.path));
            }
        }
    }
    expect_none(&problems);
}

#[test]
fn every_test_and_module_that_is_named_exists() {
    let mut problems = Vec::new();
    for file in files(&NAMING_TESTS, &[".md"]) {
        for name in paths_in(&file.text) {
            if test_of(name).is_none() && !is_module(name) {
                problems.push(format!("{}: there is no {name}", file.path));
            }
        }
    }
    expect_none(&problems);
}

#[test]
fn every_invariant_names_a_test() {
    let text = document("ARCHITECTURE.md").text;
    let invariants = text.split("\n## Invariants").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<_> = invariants.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(rows.len() > 10, "the table has moved");
    let without = rows.into_iter().filter(|row| paths_in(row).filter_map(test_of).count() == 0);
    expect_none(&without.map(str::to_owned).collect::<Vec<_>>());
}

#[test]
fn every_requirement_stands_in_the_list_once_and_says_what_keeps_it() {
    let text = document("docs/requirements.md").text;
    let mut problems = Vec::new();
    for (section, count) in [("X", 8), ("S1.", 26), ("S2.", 27), ("S3.", 24)] {
        for number in 1..=count {
            let begin = format!("| {section}{number} | ");
            let rows: Vec<_> = text.lines().filter(|line| line.starts_with(&begin)).collect();
            let answered = |row: &&str| {
                let last = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
                last.starts_with("not yet")
                    || last.starts_with("not built: ")
                    || last.starts_with("upstream's")
                    || last.starts_with('`')
            };
            if rows.len() != 1 || !rows.iter().all(answered) {
                problems.push(format!("{section}{number}: {} rows, or no answer", rows.len()));
            }
        }
    }
    expect_none(&problems);
}

#[test]
fn every_error_reason_and_outcome_is_explained() {
    let (errors, results) = (document("docs/errors.md").text, document("docs/results.md").text);
    let kinds = FailureKind::ALL.iter().map(|kind| (&errors, kind.as_str()));
    let reasons = InvalidReason::ALL.iter().map(|reason| (&errors, reason.as_str()));
    let outcomes = Outcome::ALL.iter().map(|outcome| (&results, outcome.as_str()));
    let missing = kinds.chain(reasons).chain(outcomes).filter(|(text, name)| !text.contains(&format!("`{name}`")));
    expect_none(&missing.map(|(_, name)| format!("{name} is not explained")).collect::<Vec<_>>());
}

#[test]
fn every_example_of_subscriptions_is_accepted() {
    let targets = [("URL", "amqp://h/"), ("ALLOW", "acme:erp.in")];
    let targets = targets.map(|(name, value)| (format!("DOCRELAY__TARGETS__AMQP__{name}"), value.to_owned()));
    let config = config::load(&[], targets.into_iter()).unwrap();
    let (mut examples, mut problems) = (0, Vec::new());
    for file in documents() {
        for block in file.text.split("```yaml\n").skip(1) {
            examples += 1;
            let text = block.split("```").next().unwrap();
            if let Err(found) = store::parse(text, &Defaults::from(&config)) {
                problems.push(format!("{}: {found}", file.path));
            }
        }
    }
    assert!(examples >= 2, "the examples have moved");
    expect_none(&problems);
}

#[test]
fn nothing_speaks_of_the_machine_it_was_written_on() {
    // In halves, so that this file does not find itself.
    let words = [("/wo", "rk/"), ("/tmp", "/wt"), ("/ho", "me/"), ("/ro", "ot/"), ("../sha", "red")];
    let places = [
        ".ci",
        ".config",
        "bench",
        "config",
        "deploy",
        "docs",
        "proto",
        "scripts",
        "src",
        "tests",
        "Cargo.toml",
        "Makefile",
        "Dockerfile",
        "docker-compose.yml",
        "docker-compose.postgres.yml",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
    ];
    let mut problems = Vec::new();
    for file in files(&places, &[""]) {
        for (one, two) in words {
            let word = format!("{one}{two}");
            // `$work/` in a script is a variable.
            if file.text.match_indices(&word).any(|(at, _)| {
                !file.text[..at].ends_with(|letter: char| letter.is_alphanumeric() || ".-_}".contains(letter))
            }) {
                problems.push(format!("{}: {word}", file.path));
            }
        }
    }
    expect_none(&problems);
}

/// The targets of links within the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://"))
}

/// The anchors of a document's headings.
fn headings(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let kept = line.trim_start_matches('#').trim().chars();
            let kept = kept.filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}

/// Paths of modules and functions between backticks: small letters and `::` only.
fn paths_in(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted.filter(|name| {
        name.contains("::")
            && name.split("::").all(|part| !part.is_empty())
            && name
                .chars()
                .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_:".contains(letter))
    })
}

/// Where a test is: in the file of its module, or in the tests beside it.
fn test_of(name: &str) -> Option<String> {
    let (module, function) = name.rsplit_once("::")?;
    let function = format!("fn {function}(");
    let is_there =
        |path: &String| std::fs::read_to_string(root().join(path)).is_ok_and(|text| text.contains(&function));
    files_of(module).into_iter().find(is_there)
}

fn is_module(name: &str) -> bool {
    files_of(name).iter().any(|path| root().join(path).is_file())
}

fn files_of(module: &str) -> Vec<String> {
    let module = module.replace("::", "/");
    let forms = [format!("{module}.rs"), format!("{module}/mod.rs"), format!("{module}/tests.rs")];
    let below = |folder: &str| forms.iter().map(|form| format!("{folder}/{form}")).collect::<Vec<_>>();
    [below("src"), below("tests/it"), below("bench/src")].concat()
}
