//! Rules about the code.

use super::{File, expect_none, files};

/// Where each dependency may be named. What is not listed may be named everywhere.
const DEPENDENCIES: [(&str, &[&str]); 36] = [
    ("flate2", &["src/broker/codec/packed.rs"]),
    ("lapin", &["src/broker/"]),
    ("prost", &["src/broker/codec/"]),
    ("prost_types", &["src/broker/codec/"]),
    ("wire", &["src/broker/codec/", "src/broker/wire.rs"]),
    ("reqwest", &["src/webhook/", "src/cli/healthcheck.rs"]),
    ("hyper", &["src/api/server.rs", "src/webhook/"]),
    ("hyper_util", &["src/api/server.rs"]),
    ("hmac", &["src/artifacts/", "src/webhook/signature.rs"]),
    ("rustix", &["src/files.rs", "src/memory.rs"]),
    ("rustls", &["src/webhook/", "src/broker/connection.rs"]),
    ("axum", &["src/admin/", "src/api/", "src/artifacts/serve.rs", "src/cli/receive.rs"]),
    ("object_store", &["src/artifacts/cloud.rs"]),
    ("aws_lc_rs", &["src/artifacts/"]),
    ("std::env", &["src/config/mod.rs"]),
    ("ipnet", &["src/config/", "src/webhook/"]),
    ("governor", &["src/cli/publish/pace.rs", "src/policy/lane/limiter.rs"]),
    ("saphyr", &["src/store/"]),
    ("saphyr_parser", &["src/store/"]),
    ("arc_swap", &["src/store/"]),
    ("rpds", &["src/store/"]),
    ("sqlx", &["src/store/database/"]),
    ("sha2", &["src/store/database/keys.rs", "src/webhook/signature.rs"]),
    ("subtle", &["src/store/database/keys.rs"]),
    ("chacha20poly1305", &["src/secrets/"]),
    ("tracing_subscriber", &["src/telemetry/", "src/config/check/"]),
    ("prometheus_client", &["src/telemetry/metrics/"]),
    ("opentelemetry", &["src/telemetry/trace/"]),
    ("opentelemetry_otlp", &["src/telemetry/trace/"]),
    ("opentelemetry_sdk", &["src/telemetry/trace/"]),
    ("clap", &["src/cli/", "src/main.rs"]),
    ("indicatif", &["src/cli/"]),
    ("anyhow", &["src/app.rs", "src/cli/", "src/main.rs"]),
    ("mimalloc", &["src/main.rs"]),
    ("::config", &["src/config/"]),
    ("SystemTime::now", &["src/domain/time.rs"]),
];

/// Which parts of the crate a part may import, besides itself. `app`, `cli` and `main` put things together: they may
/// import everything.
const PARTS: [(&str, &[&str]); 16] = [
    ("domain", &[]),
    ("backoff", &[]),
    ("files", &[]),
    ("memory", &[]),
    ("policy", &["domain"]),
    ("payload", &["domain"]),
    ("secrets", &["domain"]),
    ("config", &["domain", "secrets"]),
    ("webhook", &["config", "domain", "telemetry"]),
    ("store", &["config", "domain", "secrets"]),
    ("telemetry", &["config", "domain"]),
    ("broker", &["backoff", "config", "domain", "policy", "telemetry"]),
    ("admin", &["broker", "policy", "telemetry"]),
    ("api", &["config", "domain", "flow", "secrets", "store"]),
    ("artifacts", &["config", "domain"]),
    ("flow", &["artifacts", "broker", "config", "domain", "payload", "policy", "store", "telemetry", "webhook"]),
];

/// Thinks, and does nothing else.
const PURE: [&str; 18] = [
    "src/domain/",
    "src/policy/",
    "src/payload/",
    "src/api/kind.rs",
    "src/api/merge.rs",
    "src/api/place.rs",
    "src/api/render.rs",
    "src/api/secrets/",
    "src/api/view.rs",
    "src/artifacts/path.rs",
    "src/artifacts/sas.rs",
    "src/artifacts/signature.rs",
    "src/flow/decide.rs",
    "src/flow/intake.rs",
    "src/flow/matching.rs",
    "src/webhook/login/token.rs",
    "src/webhook/signature.rs",
    "src/webhook/template.rs",
];

/// What pure code does not name: I/O, clocks, dice, logs.
const IMPURE: [&str; 11] = [
    "tokio",
    "lapin",
    "reqwest",
    "axum",
    "sqlx",
    "fastrand",
    "tracing",
    "std::net",
    "std::fs",
    "Instant::now",
    "SystemTime::now",
];

/// A file is read in one sitting.
const MOST_LINES: usize = 400;

/// Files that are longer, and why. Whoever shortens one takes it off the list.
const LONGER: [(&str, &str); 0] = [];

#[test]
fn each_dependency_stays_in_its_folder() {
    let mut problems = Vec::new();
    for file in files(&["src"], &[".rs"]) {
        let code = file.code();
        for (name, places) in DEPENDENCIES {
            if !file.is_below(places) && names(&code, name) {
                problems.push(format!("{}: {name} may only be named in {}", file.path, places.join(", ")));
            }
        }
    }
    expect_none(&problems);
}

#[test]
fn each_part_imports_only_what_it_may() {
    let mut problems = Vec::new();
    for file in files(&["src"], &[".rs"]) {
        let part = part_of(&file);
        let Some((_, allowed)) = PARTS.iter().find(|(name, _)| *name == part) else {
            assert!(
                ["app", "cli", "lib", "main"].contains(&&*part),
                "{}: a new part; list what it may import",
                file.path
            );
            continue;
        };
        for imported in imports(&file.code()) {
            if imported != part && !allowed.contains(&&*imported) {
                problems.push(format!("{}: {part} may not import {imported}", file.path));
            }
        }
    }
    expect_none(&problems);
}

#[test]
fn what_decides_knows_no_io_no_clock_and_no_dice() {
    let mut problems = Vec::new();
    for file in files(&["src"], &[".rs"]).into_iter().filter(|file| file.is_below(&PURE)) {
        if file.path == "src/domain/time.rs" {
            continue; // the one place that reads the wall clock
        }
        let code = file.code();
        let tests = code.find("#[cfg(test)]\nmod tests").unwrap_or(code.len());
        let code = &code[..tests];
        for name in IMPURE.into_iter().filter(|name| names(code, name)) {
            problems.push(format!("{}: is pure, and may not name {name}", file.path));
        }
    }
    expect_none(&problems);
}

#[test]
fn every_file_begins_by_saying_what_it_does() {
    let silent = files(&["src", "tests", "bench", "build.rs"], &[".rs"]).into_iter();
    let silent: Vec<_> = silent.filter(|file| !file.text.starts_with("//! ")).map(|file| file.path).collect();
    expect_none(&silent);
}

#[test]
fn no_file_is_longer_than_400_lines_without_a_reason() {
    let mut problems = Vec::new();
    let files = files(&["src"], &[".rs"]);
    for file in &files {
        let lines = file.text.lines().count();
        let listed = LONGER.iter().any(|(path, _)| *path == file.path);
        match (lines > MOST_LINES, listed) {
            (true, false) => problems.push(format!("{}: {lines} lines; split it, or list it with a reason", file.path)),
            (false, true) => problems.push(format!("{}: {lines} lines; take it off the list", file.path)),
            (true, true) | (false, false) => {}
        }
    }
    let gone = LONGER.iter().filter(|(path, _)| files.iter().all(|file| file.path != *path));
    problems.extend(gone.map(|(path, _)| format!("{path}: is listed, and does not exist")));
    expect_none(&problems);
}

#[test]
fn nothing_is_left_undone_or_silenced() {
    // In two halves, so that this file does not find itself.
    let words = [("#[", "ignore"), ("todo", "!("), ("unimplemented", "!("), ("[", "allow("), ("dbg", "!(")];
    let mut problems = Vec::new();
    for file in files(&["src", "tests", "bench", "build.rs"], &[".rs"]) {
        let code = file.code();
        for (one, two) in words {
            let word = format!("{one}{two}");
            if code.contains(&word) {
                problems.push(format!("{}: {word}", file.path));
            }
        }
    }
    expect_none(&problems);
}

/// Whether the code names something: as a path of its own, not as a part of a longer name.
fn names(code: &str, name: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (code[..at].chars().next_back(), &code[at + name.len()..]);
        let begins = !before.is_some_and(is_word);
        // `reqwest::Client` and `use reqwest;`, but no variable of that name; a function with or without its call.
        let is_path = after.starts_with("::") || (after.starts_with(';') && code[..at].ends_with("use "));
        // A function, with or without its call.
        let is_function = name.ends_with("::now") && !after.starts_with(is_word);
        begins && (is_path || is_function)
    })
}

/// `src/<part>/...` or `src/<part>.rs`
fn part_of(file: &File) -> String {
    file.path.split('/').nth(1).unwrap_or_default().trim_end_matches(".rs").to_owned()
}

/// The parts of the crate that the code imports: the first names behind `crate::`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        let rest = &code[at + start.len()..];
        if let Some(list) = rest.strip_prefix('{') {
            found.extend(list_of_imports(list));
        } else {
            found.push(first_name(rest));
        }
    }
    found
}

/// The first names of the items of `a::b, c::{d, e}}`.
fn list_of_imports(list: &str) -> Vec<String> {
    let (mut depth, mut item, mut items) = (0, String::new(), Vec::new());
    for letter in list.chars() {
        match (letter, depth) {
            ('}', 0) => break,
            ('{', _) => depth += 1,
            ('}', _) => depth -= 1,
            (',', 0) => items.push(std::mem::take(&mut item)),
            (_, 0) => item.push(letter),
            _ => {}
        }
    }
    items.push(item);
    items.iter().map(|item| first_name(item.trim())).filter(|name| !name.is_empty()).collect()
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[test]
fn imports_are_found_however_they_are_written() {
    let code = "use crate::{\n    broker::{Acked, codec::{self}},\n    domain::Owed,\n};\nuse crate::policy::wait;\n";
    assert_eq!(imports(code), ["broker", "domain", "policy"]);
    assert!(names("use lapin::{Channel};", "lapin"));
    assert!(names("x: ::config::Config", "::config"));
    assert!(!names("use crate::config::Config;", "::config"));
    assert!(!names("my_lapin::x(); let lapin = 1;", "lapin"));
}
