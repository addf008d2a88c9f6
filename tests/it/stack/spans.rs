//! What the dashboards search for among spans, held against the tables of docs/tracing.md. No Tempo is asked.

use std::collections::{BTreeMap, BTreeSet};

use super::{dashboards, panels, text};

/// The spans that the document's table names, and what they are to OpenTelemetry.
const SPANS: [(&str, &[&str]); 5] = [
    ("process", &["consumer"]),
    ("attempts", &["client", "producer"]),
    ("waits", &["internal"]),
    ("results", &["producer"]),
    ("logins", &["client"]),
];

/// On which spans each attribute stands.
type Standing = BTreeMap<String, BTreeSet<&'static str>>;

fn standing() -> Standing {
    let document = text("docs/tracing.md");
    let table = document.split("\n## Attributes\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut standing = Standing::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let [names, on] = [1, 2].map(|column| row.split('|').nth(column).unwrap());
        let spans: BTreeSet<_> = SPANS.iter().map(|(span, _)| *span).filter(|span| is_on(on, span)).collect();
        assert!(!spans.is_empty(), "on which spans is that? {row}");
        for name in names.split('`').skip(1).step_by(2) {
            standing.insert(name.to_owned(), spans.clone());
        }
    }
    standing
}

/// Whether the second column of a row names a span.
fn is_on(column: &str, span: &str) -> bool {
    let by_another_name = match span {
        // At an exchange an attempt is a message that is published, as a result is.
        "attempts" => column.contains("publish") || column.contains("exchanges"),
        "results" => column.contains("publish") && !column.contains("at a target"),
        _ => false,
    };
    column.contains(span) || column.contains("what failed") || by_another_name
}

/// The attributes of spans that a text names.
fn attributes(text: &str) -> Vec<&str> {
    let is_of_a_name = |it: char| it.is_ascii_alphanumeric() || "._".contains(it);
    text.split("span.").skip(1).map(|rest| &rest[..rest.find(|it| !is_of_a_name(it)).unwrap_or(rest.len())]).collect()
}

/// Whether a filter lets spans of a kind through, by what it says of `kind`.
fn admits(filter: &str, kind: &str) -> bool {
    let words: Vec<_> = filter.split_whitespace().collect();
    words.windows(3).all(|words| match words {
        ["kind", "=", only] => *only == kind,
        ["kind", "!=", not] => *not != kind,
        _ => true,
    })
}

/// What is wrong with a search: some kind of span has to have all that is asked of it, and every kind that is found what is
/// shown of it.
fn problems(search: &str, standing: &Standing) -> Vec<String> {
    let (filter, shown) = search.split_once('}').unwrap();
    assert!(!shown.contains('{'), "one set of spans is understood here: {search}");
    let (asked, shown) = (attributes(filter), attributes(shown));
    let unknown: Vec<_> = asked.iter().chain(&shown).filter(|name| !standing.contains_key(**name)).collect();
    if !unknown.is_empty() {
        return vec![format!("not in docs/tracing.md: {unknown:?}")];
    }
    let has = |span: &str, name: &str| standing[name].contains(span);
    let found: Vec<_> = SPANS
        .iter()
        .filter(|(_, kinds)| kinds.iter().any(|kind| admits(filter, kind)))
        .map(|(span, _)| *span)
        .filter(|span| asked.iter().all(|name| has(span, name)))
        .collect();
    if found.is_empty() {
        return vec![format!("no span has all of {asked:?}")];
    }
    let pairs = shown.iter().flat_map(|name| found.iter().map(move |span| (*span, *name)));
    pairs
        .filter(|(span, name)| !has(span, name))
        .map(|(span, name)| format!("it finds {span}, without {name}"))
        .collect()
}

#[test]
fn every_attribute_that_is_searched_for_is_one_of_the_spans() {
    let (standing, mut wrong, mut searches) = (standing(), Vec::new(), 0);
    for (file, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let queries = panel["targets"].as_array().into_iter().flatten().filter_map(|it| it["query"].as_str());
            // A variable alone is a trace id.
            for search in queries.filter(|query| query.contains('{')) {
                searches += 1;
                wrong.extend(problems(search, &standing).iter().map(|it| format!("{file}: {}: {it}", panel["title"])));
            }
        }
    }
    assert!(searches > 5, "the queries have moved");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn a_search_for_what_stands_on_no_span_together_is_found_to_be_wrong() {
    let standing = standing();
    for (search, expected) in [
        ("{ span.docrelay.organization = 1 && span.docrelay.doc = 1 }", "not in docs/tracing.md"),
        ("{ span.docrelay.event.id = 1 && span.docrelay.delivery = 1 }", "no span has all"),
        ("{ span.docrelay.delivery != nil && kind = consumer }", "no span has all"),
        (
            "{ span.docrelay.outcome = 1 && kind = producer } | select(span.docrelay.document)",
            "it finds results, without",
        ),
        (
            "{ span.docrelay.attempt > 0 && kind != internal } | select(span.server.address)",
            "it finds results, without",
        ),
    ] {
        let found = problems(search, &standing);
        assert!(found.len() == 1 && found[0].contains(expected), "{search}: {found:?}");
    }
    let attempts = "{ span.docrelay.delivery != nil && span.docrelay.outcome = 1 } | select(span.docrelay.document)";
    assert_eq!(problems(attempts, &standing), [""; 0]);
}
