//! `:id` in a target's URL: where it stands for the document's id, and where it only looks like it. Pure.

use percent_encoding::percent_decode;
use url::Url;

/// What the document's id is put in for.
pub const PLACEHOLDER: &str = ":id";

/// Whether path or query have a placeholder. Scheme, user information, host and port never do.
#[must_use]
pub fn has_placeholder(url: &Url) -> bool {
    [Some(url.path()), url.query()].into_iter().flatten().any(|text| {
        // What stands before the first one is followed by none.
        text.split(PLACEHOLDER).skip(1).any(|rest| !continues_a_word(rest))
    })
}

/// Whether what follows `:id` makes it a part of a longer word: it begins with a letter, a digit or an underscore,
/// percent-encoded ones included. Then it is no placeholder.
#[must_use]
pub fn continues_a_word(rest: &str) -> bool {
    // A character has at most four bytes, twelve when encoded.
    let start = rest.as_bytes().get(..12).unwrap_or(rest.as_bytes());
    let decoded = percent_decode(start).decode_utf8_lossy();
    decoded.chars().next().is_some_and(|next| next.is_alphanumeric() || next == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_ends_where_its_name_ends() {
        for text in ["/:id", "/documents/:id", "/:id/pages", "/x?a=:id&b=1", "/:identity/:id", "/:id.json", "/:id:id"] {
            let url = Url::parse(&format!("http://host{text}")).unwrap();
            assert!(has_placeholder(&url), "{text}");
        }
        for text in ["", "/documents/id", "/:identity", "/:id_", "/:id5", "/:ID", "/:idé", "/:id%C3%A9", "/%3Aid"] {
            let url = Url::parse(&format!("http://user:id@host:5000{text}")).unwrap();
            assert!(!has_placeholder(&url), "{text}");
        }
    }
}
