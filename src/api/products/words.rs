//! What is wrong with canonical fields, told in a product's words. Pure.

use crate::api::problem::FieldError;

/// Canonical places and what a product calls them, the longest first: JSON Pointers, or beginnings of them.
pub(super) type Words = &'static [(&'static str, &'static str)];

/// What is wrong in all, in the product's words. What is told of a field already is not told again.
pub(super) fn in_words(words: Words, told: Vec<FieldError>, canonical: Vec<FieldError>) -> Vec<FieldError> {
    let translated = canonical.into_iter().map(|error| {
        let pointer = error.pointer.map(|pointer| renamed(words, &pointer));
        FieldError { pointer, ..error }
    });
    let new = translated.filter(|error| !told.iter().any(|known| error.is_within(known))).collect();
    [told, new].concat()
}

fn renamed(words: Words, pointer: &str) -> String {
    let word = words.iter().find_map(|(canonical, word)| Some((word, below(pointer, canonical)?)));
    word.map_or_else(|| pointer.to_owned(), |(word, rest)| format!("{word}{rest}"))
}

/// What of a pointer is below another one; empty if they are the same, and `None` if it is somewhere else.
fn below<'a>(pointer: &'a str, above: &str) -> Option<&'a str> {
    pointer.strip_prefix(above).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Words = &[("/target/url", "/address"), ("/target", "/headers")];

    #[test]
    fn a_pointer_below_a_canonical_place_is_one_below_its_word() {
        for (canonical, word) in [
            ("/target/url", "/address"),
            ("/target/url/0", "/address/0"),
            ("/target", "/headers"),
            ("/targets", "/targets"),
            ("/target/urls", "/headers/urls"),
            ("/events/0", "/events/0"),
            ("", ""),
        ] {
            assert_eq!(renamed(WORDS, canonical), word);
        }
    }

    #[test]
    fn a_field_that_is_told_already_is_not_told_again_and_every_other_is() {
        let told = vec![FieldError::at("/address", "is no address")];
        let canonical = ["/target/url", "/events/0", "/target"].map(|at| FieldError::at(at, "is wrong")).into();
        let all = in_words(WORDS, told, canonical);
        let pointers: Vec<_> = all.iter().filter_map(|error| error.pointer.as_deref()).collect();
        assert_eq!(pointers, ["/address", "/events/0", "/headers"]);
    }
}
