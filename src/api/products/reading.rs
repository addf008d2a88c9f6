//! Reads a product's JSON: which fields are there, which must be, and what is wrong with them. No problem repeats a value
//! that may be a secret. Pure.

use serde_json::Value;

use crate::{
    api::{problem::FieldError, secrets::Json},
    config::did_you_mean,
};

/// The fields that a product's object may have.
pub(super) struct Names {
    /// Those that may be given.
    pub(super) given: &'static [&'static str],
    /// Those that are told, never given.
    pub(super) told: &'static [&'static str],
}

/// An object in a product's words, and what is wrong with it so far.
pub(super) struct Reader<'a> {
    body: &'a Json,
    /// Whether `null` is something to be said: in a patch it takes away.
    nulls: bool,
    pub(super) errors: Vec<FieldError>,
}

impl<'a> Reader<'a> {
    /// Begins to read what is to be made. `null` is as good as nothing.
    pub(super) fn new(body: &'a Json, names: &Names) -> Self {
        Self::of(body, names, false)
    }

    /// Begins to read a patch.
    pub(super) fn patch(body: &'a Json, names: &Names) -> Self {
        Self::of(body, names, true)
    }

    /// Names that may not be given are told at once.
    fn of(body: &'a Json, names: &Names, nulls: bool) -> Self {
        let strange = body.keys().filter(|name| !names.given.contains(&name.as_str()));
        let errors = strange.map(|name| {
            let text = if names.told.contains(&name.as_str()) {
                "is read-only: docrelay tells it, leave it out".to_owned()
            } else {
                format!("unknown field{}", did_you_mean(name, names.given.iter().copied()))
            };
            FieldError::at(pointer(name), text)
        });
        Self { body, nulls, errors: errors.collect() }
    }

    /// A field that says something.
    pub(super) fn given(&self, name: &str) -> Option<&'a Value> {
        self.body.get(name).filter(|value| self.nulls || !value.is_null())
    }

    /// A field that must be given.
    pub(super) fn required(&mut self, name: &str) -> Option<&'a Value> {
        let found = self.given(name);
        if found.is_none() {
            self.problem(name, format!("{name} is missing"));
        }
        found
    }

    /// A text that must be given.
    pub(super) fn required_text(&mut self, name: &str) -> Option<&'a str> {
        let value = self.required(name)?;
        match value {
            Value::String(text) if text.is_empty() => self.problem(name, "must not be empty"),
            Value::String(text) => return Some(text),
            other => self.expected(name, "text", other),
        }
        None
    }

    /// Tells what is wrong with a field.
    pub(super) fn problem(&mut self, name: &str, text: impl Into<String>) {
        self.errors.push(FieldError::at(pointer(name), text));
    }

    /// Tells that a field should be something else. Says what kind of thing was found, not which.
    pub(super) fn expected(&mut self, name: &str, expected: &str, found: &Value) {
        self.expected_at(pointer(name), expected, found);
    }

    /// The same of what is at a JSON Pointer.
    pub(super) fn expected_at(&mut self, pointer: String, expected: &str, found: &Value) {
        let found = kind(found);
        let error = FieldError::at(pointer, format!("expected {expected}, got {found}"));
        self.errors.push(FieldError { expected: Some(expected.to_owned()), got: Some(found.to_owned()), ..error });
    }

    /// The same of a field that is no secret: says which.
    pub(super) fn expected_instead(&mut self, name: &str, expected: &str, found: &Value) {
        let error = FieldError::at(pointer(name), format!("expected {expected}, got {found}"));
        let got = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
        self.errors.push(FieldError { expected: Some(expected.to_owned()), got: Some(got), ..error });
    }
}

/// What kind of thing a value is.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A field as a JSON Pointer.
pub(super) fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}
