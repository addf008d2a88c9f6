//! Typed reading of a YAML tree: texts, numbers, durations, lists, mappings. Whatever is not as expected is noted with its
//! line and path; no note repeats a value that may be a secret.

use std::{collections::HashSet, fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use saphyr::Scalar;

use super::yaml::{Field, Kind, Node, Notes, Path};
use crate::config::did_you_mean;

/// A node at its place, to be read as something.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) node: &'a Node<'a>,
    pub(super) path: Path<'a>,
}

impl<'a> At<'a> {
    /// Notes a problem here.
    pub(super) fn problem(&self, notes: &mut Notes, text: impl Into<String>) {
        notes.add(self.node.line, &self.path, text);
    }

    /// Notes that something else was expected here. Says what kind of thing was found, not which: it may be a secret.
    pub(super) fn expected(&self, notes: &mut Notes, what: &str) {
        let found = match &self.node.kind {
            Kind::Refused => return,
            Kind::Scalar(Scalar::Null) => "nothing",
            Kind::Scalar(Scalar::Boolean(_)) => "true or false (put it in quotes if it is meant as text)",
            Kind::Scalar(Scalar::Integer(_) | Scalar::FloatingPoint(_)) => {
                "a number (put it in quotes if it is meant as text)"
            }
            Kind::Scalar(Scalar::String(_)) => "text",
            Kind::List(_) => "a list",
            Kind::Table(_) => "a mapping",
        };
        self.problem(notes, format!("expected {what}, got {found}"));
    }

    /// A text that is not empty.
    pub(super) fn text(&self, notes: &mut Notes) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Scalar(Scalar::String(text)) if text.is_empty() => {
                self.problem(notes, "must not be empty");
                None
            }
            Kind::Scalar(Scalar::String(text)) => Some(text),
            _ => {
                self.expected(notes, "text");
                None
            }
        }
    }

    /// A text that parses, for example an id. Not for secrets if the error repeats the text.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&self, notes: &mut Notes) -> Option<T> {
        self.text(notes)?.parse().map_err(|error: T::Err| self.problem(notes, error.to_string())).ok()
    }

    /// `true` or `false`.
    pub(super) fn claim(&self, notes: &mut Notes) -> Option<bool> {
        if let Kind::Scalar(Scalar::Boolean(claim)) = &self.node.kind {
            return Some(*claim);
        }
        self.expected(notes, "true or false");
        None
    }

    /// A whole number within a range.
    pub(super) fn number(&self, range: RangeInclusive<u32>, notes: &mut Notes) -> Option<u32> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let Kind::Scalar(Scalar::Integer(number)) = &self.node.kind else {
            self.expected(notes, &expected);
            return None;
        };
        let fitting = u32::try_from(*number).ok().filter(|number| range.contains(number));
        if fitting.is_none() {
            self.problem(notes, format!("expected {expected}, got {number}"));
        }
        fitting
    }

    /// A number within a range, whole or not.
    pub(super) fn decimal(&self, range: RangeInclusive<f64>, notes: &mut Notes) -> Option<f64> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let (number, shown) = match &self.node.kind {
            #[expect(
                clippy::cast_precision_loss,
                reason = "numbers that are not exact are far out of every range here"
            )]
            Kind::Scalar(Scalar::Integer(whole)) => (*whole as f64, whole.to_string()),
            // Debug, because it writes 1e300 so, and not with 300 digits.
            Kind::Scalar(Scalar::FloatingPoint(number)) => (number.into_inner(), format!("{:?}", number.into_inner())),
            _ => {
                self.expected(notes, &expected);
                return None;
            }
        };
        let fitting = Some(number).filter(|number| range.contains(number));
        if fitting.is_none() {
            self.problem(notes, format!("expected {expected}, got {shown}"));
        }
        fitting
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&self, choices: &[(&str, T)], notes: &mut Notes) -> Option<T> {
        let text = self.text(notes)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            let guess = did_you_mean(text, names.iter().copied());
            self.problem(notes, format!("expected {}, got {text:?}{guess}", names.join(" or ")));
        }
        found
    }

    /// A duration within a range, as `15s`.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>, notes: &mut Notes) -> Option<Duration> {
        let Kind::Scalar(Scalar::String(text)) = &self.node.kind else {
            self.expected(notes, "a duration such as 15s or 500ms");
            return None;
        };
        let fitting = humantime::parse_duration(text).ok().filter(|duration| range.contains(duration));
        if fitting.is_none() {
            let [least, most] = [range.start(), range.end()].map(|end| humantime::format_duration(*end));
            self.problem(
                notes,
                format!("expected a duration such as 15s or 500ms, from {least} to {most}, got {text:?}"),
            );
        }
        fitting
    }

    /// The items of a list, each at its place.
    pub(super) fn items(&'a self, notes: &mut Notes) -> Option<impl Iterator<Item = At<'a>> + use<'a>> {
        let Kind::List(items) = &self.node.kind else {
            self.expected(notes, "a list");
            return None;
        };
        Some(items.iter().enumerate().map(|(index, node)| At { node, path: Path::Item(&self.path, index) }))
    }

    /// The fields of a mapping.
    pub(super) fn table(&'a self, notes: &mut Notes) -> Option<Table<'a>> {
        let Kind::Table(fields) = &self.node.kind else {
            self.expected(notes, "a mapping");
            return None;
        };
        Some(Table { fields, at: self })
    }
}

/// Which names a mapping may have.
pub(super) struct Names {
    /// Names that are read.
    pub(super) known: &'static [&'static str],
    /// Names that will be read one day; until then they are refused, never ignored.
    pub(super) later: &'static [&'static str],
    /// Names that are told, never given.
    pub(super) read_only: &'static [&'static str],
}

/// The fields of a mapping.
pub(super) struct Table<'a> {
    fields: &'a [Field<'a>],
    at: &'a At<'a>,
}

impl<'a> Table<'a> {
    /// A field, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<At<'a>> {
        self.fields
            .iter()
            .find(|field| field.name == name)
            .map(|field| At { node: &field.value, path: Path::Field(&self.at.path, &field.name) })
    }

    /// A field that must be there.
    pub(super) fn required(&self, name: &str, notes: &mut Notes) -> Option<At<'a>> {
        let found = self.get(name);
        if found.is_none() {
            notes.add_missing(self.at.node.line, &self.at.path, name);
        }
        found
    }

    /// Each field with its name.
    pub(super) fn each(&self) -> impl Iterator<Item = (&'a str, At<'a>)> {
        self.fields
            .iter()
            .map(|field| (&*field.name, At { node: &field.value, path: Path::Field(&self.at.path, &field.name) }))
    }

    /// Notes every name that may not be here.
    pub(super) fn check_names(&self, names: &Names, notes: &mut Notes) {
        for field in self.fields {
            let name = &*field.name;
            if names.known.contains(&name) {
                continue;
            }
            let text = if names.later.contains(&name) {
                "not supported yet: leave it out".to_owned()
            } else if names.read_only.contains(&name) {
                "is read-only: docrelay tells it, leave it out".to_owned()
            } else {
                format!("unknown field{}", did_you_mean(name, names.known.iter().copied()))
            };
            notes.add(field.line, &Path::Field(&self.at.path, name), text);
        }
        self.check_repeats(notes);
    }

    /// Notes every name that stands here twice.
    pub(super) fn check_repeats(&self, notes: &mut Notes) {
        let mut seen = HashSet::with_capacity(self.fields.len());
        for field in self.fields {
            if !seen.insert(&*field.name) {
                notes.add(field.line, &Path::Field(&self.at.path, &field.name), "stands here twice");
            }
        }
    }
}
