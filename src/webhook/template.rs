//! `:id` in a URL: replaced by the document's id in path and query, and nowhere else. Pure.
//!
//! Every occurrence is replaced that no letter, digit or underscore follows. The id is encoded as one segment or value,
//! so it can neither add a segment nor leave the path; scheme, user information, host and port are never touched.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::domain::{DocumentId, PLACEHOLDER, continues_a_word};

/// Everything but the unreserved characters of RFC 3986, 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The document's id cannot stand in a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a document with the id {0:?} has no URL: no encoding keeps it from being read as a path")]
pub struct TemplateError(pub String);

/// Fills the template.
///
/// # Errors
/// For the ids `.` and `..`: servers read them as directories however they are encoded. Trying again does not help.
pub(super) fn fill(template: &Url, id: &DocumentId) -> Result<Url, TemplateError> {
    if matches!(id.as_str(), "." | "..") {
        return Err(TemplateError(id.as_str().to_owned()));
    }
    let value = utf8_percent_encode(id.as_str(), RESERVED).to_string();
    let mut url = template.clone();
    if let Some(path) = replace(template.path(), &value) {
        url.set_path(&path);
    }
    if let Some(query) = template.query().and_then(|query| replace(query, &value)) {
        url.set_query(Some(&query));
    }
    Ok(url)
}

/// `text` with every placeholder replaced, `None` when there is none.
fn replace(text: &str, value: &str) -> Option<String> {
    let mut parts = text.split(PLACEHOLDER);
    let mut filled = parts.next()?.to_owned();
    let mut found = false;
    for part in parts {
        // What follows `:id` begins `part`, or is the next placeholder's colon, or nothing.
        if continues_a_word(part) {
            filled.push_str(PLACEHOLDER);
        } else {
            filled.push_str(value);
            found = true;
        }
        filled.push_str(part);
    }
    found.then_some(filled)
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode;
    use proptest::prelude::*;

    use super::*;

    fn filled(template: &str, id: &str) -> String {
        fill(&template.parse().unwrap(), &id.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn every_placeholder_in_path_and_query_is_replaced() {
        let table = [
            ("https://a.example/documents/:id", "42", "https://a.example/documents/42"),
            ("https://a.example/:id/x/:id?doc=:id&again=:id", "42", "https://a.example/42/x/42?doc=42&again=42"),
            ("https://a.example/x-:id.json", "42", "https://a.example/x-42.json"),
            ("https://a.example/:id:id", "42", "https://a.example/4242"),
            ("https://a.example/:id/", "a/b?c#d%e f", "https://a.example/a%2Fb%3Fc%23d%25e%20f/"),
            ("https://a.example/?d=:id", "a&b=c+d", "https://a.example/?d=a%26b%3Dc%2Bd"),
            ("https://a.example/:id", "ação", "https://a.example/a%C3%A7%C3%A3o"),
            ("https://a.example/:id", "../../admin", "https://a.example/..%2F..%2Fadmin"),
            ("https://a.example/x/:id", "...", "https://a.example/x/..."),
            ("https://a.example/:id", "%2e%2e", "https://a.example/%252e%252e"),
            ("https://a.example/:id", ":id", "https://a.example/%3Aid"),
            ("https://a.example/:id", "A-b.c_d~e", "https://a.example/A-b.c_d~e"),
        ];
        for (template, id, expected) in table {
            assert_eq!(filled(template, id), expected, "{template} with {id}");
        }
    }

    #[test]
    fn what_only_looks_like_a_placeholder_stays() {
        let stays = [
            "https://a.example/:identity",
            "https://a.example/:id5",
            "https://a.example/:id_x",
            "https://a.example/:id%C3%A9",
            "https://a.example/:id%65",
            "https://a.example:5000/x",
            "https://user:id@a.example/x",
            "https://:id@a.example/x",
            "https://a.example/%3Aid",
            "https://a.example/:ID",
            "https://a.example/?x=:identity",
        ];
        for template in stays {
            assert_eq!(filled(template, "42"), template);
        }
        assert_eq!(filled("https://a.example/:id%2Fx", "42"), "https://a.example/42%2Fx", "a slash ends the word");
    }

    #[test]
    fn the_ids_dot_and_dot_dot_are_refused() {
        for id in [".", ".."] {
            let template = "https://a.example/documents/:id".parse().unwrap();
            assert_eq!(fill(&template, &id.parse().unwrap()), Err(TemplateError(id.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn an_id_never_changes_the_shape_of_the_url(
            id in "[./\\\\?#%&=+@: a-zé\\x00-\\x1f]{1,12}",
            template in "(/(:id|x|\\.:id|:id\\.|:identity|x:id)){1,4}(\\?a=:id)?",
        ) {
            let template: Url = format!("https://user:id@a.example:5000{template}").parse().unwrap();
            if let Ok(url) = fill(&template, &id.parse().unwrap()) {
                prop_assert_eq!(url.path_segments().unwrap().count(), template.path_segments().unwrap().count());
                prop_assert_eq!(url.query().is_some(), template.query().is_some());
                prop_assert_eq!(url.authority(), template.authority());
                prop_assert_eq!(url.scheme(), template.scheme());
                prop_assert_eq!(url.fragment(), None);
            }
        }

        #[test]
        fn the_receiver_reads_the_id_back(id in "\\PC{1,16}") {
            prop_assume!(id != "." && id != "..");
            let template: Url = "https://a.example/documents/:id?id=:id".parse().unwrap();
            let url = fill(&template, &id.parse().unwrap()).unwrap();
            let segment = url.path_segments().unwrap().next_back().unwrap();
            prop_assert_eq!(percent_decode(segment.as_bytes()).decode_utf8().unwrap(), id.as_str());
            let (_, value) = url.query_pairs().next().unwrap();
            prop_assert_eq!(value, id.as_str());
        }
    }
}
