//! JSON Merge Patch (RFC 7396) for subscriptions. Pure.

use serde_json::{Map, Value};

use super::secrets::Json;

/// Lays a patch over an object: `null` takes away, objects are laid over each other, everything else replaces.
pub(super) fn merge(target: &mut Json, patch: &Json) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.shift_remove(name);
            }
            Value::Object(patch) => {
                let below = target.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
                if !below.is_object() {
                    *below = Value::Object(Map::new());
                }
                if let Value::Object(below) = below {
                    merge(below, patch);
                }
            }
            other => {
                target.insert(name.clone(), other.clone());
            }
        }
    }
}

/// Takes the headers away that a patch names in other capitals: in header names they make no difference.
pub(super) fn rename_headers(target: &mut Json, patch: &Json) {
    for names in [&["target", "headers"][..], &["auth", "login", "headers"]] {
        let (Some(below), Some(above)) = (inner_mut(target, names), inner(patch, names)) else { continue };
        for name in above.keys().filter(|name| !below.contains_key(*name)).cloned().collect::<Vec<_>>() {
            let other = below.keys().find(|other| other.eq_ignore_ascii_case(&name)).cloned();
            if let Some(value) = other.and_then(|other| below.shift_remove(&other)) {
                below.insert(name, value);
            }
        }
    }
}

fn inner<'a>(json: &'a Json, names: &[&str]) -> Option<&'a Json> {
    match names.split_first() {
        Some((first, rest)) => inner(json.get(*first)?.as_object()?, rest),
        None => Some(json),
    }
}

fn inner_mut<'a>(json: &'a mut Json, names: &[&str]) -> Option<&'a mut Json> {
    match names.split_first() {
        Some((first, rest)) => inner_mut(json.get_mut(*first)?.as_object_mut()?, rest),
        None => Some(json),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Json {
        let Value::Object(object) = value else { panic!("expected an object, got {value}") };
        object
    }

    #[test]
    fn the_examples_of_the_specification_hold() {
        // RFC 7396, appendix A, where target and patch are objects.
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = object(target);
            merge(&mut merged, &object(patch));
            assert_eq!(Value::Object(merged), result);
        }
    }

    #[test]
    fn a_header_is_the_same_in_other_capitals() {
        let mut target = object(json!({"target": {"headers": {"X-Key": "old", "X-Other": "o"}}}));
        let patch = object(json!({"target": {"headers": {"x-key": "new"}}}));
        rename_headers(&mut target, &patch);
        merge(&mut target, &patch);
        assert_eq!(Value::Object(target), json!({"target": {"headers": {"X-Other": "o", "x-key": "new"}}}));
    }
}
