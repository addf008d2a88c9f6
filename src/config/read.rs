//! Reads single settings: text, durations, sizes, lists. A bad one becomes a problem and gets a stand-in, so that all
//! problems are found in one go; with a problem noted, no [`Config`](super::Config) is made of the stand-ins.

use std::{ops::RangeInclusive, time::Duration};

use ::config::{Config as Merged, Value, ValueKind};

use super::{
    layers::{kind_of, place_of, value_at},
    problems::Problems,
};

const KIB: u64 = 1024;
const KB: u64 = 1000;

/// Units of sizes, longest first where one ends in another.
const UNITS: [(&str, u64); 7] = [
    ("KiB", KIB),
    ("MiB", KIB * KIB),
    ("GiB", KIB * KIB * KIB),
    ("kB", KB),
    ("MB", KB * KB),
    ("GB", KB * KB * KB),
    ("B", 1),
];

/// Reads settings from the merged layers and notes what is wrong with them.
pub(super) struct Reader<'a> {
    /// All layers as one.
    pub(super) merged: &'a Merged,
    /// What was found wrong.
    pub(super) problems: &'a mut Problems,
}

impl Reader<'_> {
    /// Notes a problem with a setting, at the place where it was set.
    pub(super) fn problem(&mut self, key: &str, text: impl Into<String>) {
        let place = value_at(self.merged, key).map_or_else(String::new, |value| place_of(value).to_owned());
        self.problems.add(place, key, text);
    }

    /// Whether nothing was found wrong with any of these so far.
    pub(super) fn are_sound(&self, keys: &[&str]) -> bool {
        !self.problems.iter().any(|problem| keys.contains(&problem.key.as_str()))
    }

    /// Any text.
    pub(super) fn text(&mut self, key: &str) -> String {
        self.read(key, "text", |value| match &value.kind {
            ValueKind::String(text) => Some(text.clone()),
            _ => None,
        })
    }

    /// A text that `parse` understands; `expected` says what that would be. The text is not repeated: it may be a secret.
    pub(super) fn parsed<T: Default>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
        let text = self.text(key);
        if !self.are_sound(&[key]) {
            return T::default();
        }
        parse(&text).unwrap_or_else(|complaint| {
            self.problem(key, complaint);
            T::default()
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)], stand_in: T) -> T {
        let text = self.text(key);
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return *choice;
        }
        if self.are_sound(&[key]) {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            self.problem(key, format!("expected {}, got {text:?}", names.join(" or ")));
        }
        stand_in
    }

    /// A whole number within a range.
    pub(super) fn number(&mut self, key: &str, range: RangeInclusive<u32>) -> u32 {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, &expected, |value| u32::try_from(whole(value)?).ok().filter(|number| range.contains(number)))
    }

    /// The same, or 0 for none.
    pub(super) fn number_or_none(&mut self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let expected = format!("0 or a whole number from {} to {}", range.start(), range.end());
        self.read(key, &expected, |value| {
            let number = u32::try_from(whole(value)?).ok()?;
            (number == 0 || range.contains(&number)).then_some(Some(number).filter(|number| *number != 0))
        })
    }

    /// A number within a range, whole or not, or 0 for none.
    pub(super) fn decimal_or_none(&mut self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let expected = format!("0 or a number from {} to {}", range.start(), range.end());
        self.read(key, &expected, |value| {
            let number = decimal(value)?;
            (number == 0.0 || range.contains(&number)).then_some(Some(number).filter(|number| *number != 0.0))
        })
    }

    /// A number of bytes within a range: `1048576`, `"1MiB"`.
    pub(super) fn bytes(&mut self, key: &str, range: RangeInclusive<u64>) -> u64 {
        let expected = format!(
            "a size such as \"8MiB\" or a number of bytes, from {} to {}",
            size(*range.start()),
            size(*range.end())
        );
        self.read(key, &expected, |value| {
            match &value.kind {
                ValueKind::String(text) => parse_size(text),
                _ => whole(value),
            }
            .filter(|bytes| range.contains(bytes))
        })
    }

    /// A duration within a range: `"15s"`.
    pub(super) fn duration(&mut self, key: &str, range: RangeInclusive<Duration>) -> Duration {
        let shown = |duration: &Duration| humantime::format_duration(*duration).to_string();
        let expected = format!("a duration such as \"15s\", from {} to {}", shown(range.start()), shown(range.end()));
        self.read(key, &expected, |value| match &value.kind {
            ValueKind::String(text) => humantime::parse_duration(text).ok().filter(|found| range.contains(found)),
            _ => None,
        })
    }

    /// A list; as one text, as from the environment, with commas or line ends between. Each item that `parse` refuses is a
    /// problem of its own.
    pub(super) fn list<T>(&mut self, key: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
        self.items(key, expected, |item, _| parse(item).ok_or_else(|| format!("expected {expected}, got {item:?}")))
    }

    /// The same for a list of secrets: a bad one is told by its place in the list, not by its text.
    pub(super) fn secrets<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        self.items(key, expected, |item, number| parse(item).map_err(|wrong| format!("item {number}: {wrong}")))
    }

    fn items<T>(&mut self, key: &str, expected: &str, parse: impl Fn(&str, usize) -> Result<T, String>) -> Vec<T> {
        let items = self.read(key, &format!("a list of {expected}"), |value| match &value.kind {
            ValueKind::String(text) => Some(text.split([',', '\n']).map(str::to_owned).collect::<Vec<_>>()),
            ValueKind::Array(items) => items
                .iter()
                .map(|item| match &item.kind {
                    ValueKind::String(text) => Some(text.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        });
        let mut list = Vec::with_capacity(items.len());
        let items = items.iter().map(|item| item.trim()).filter(|item| !item.is_empty());
        for (item, number) in items.zip(1..) {
            match parse(item, number) {
                Ok(item) => list.push(item),
                Err(wrong) => self.problem(key, wrong),
            }
        }
        list
    }

    fn read<T: Default>(&mut self, key: &str, expected: &str, parse: impl FnOnce(&Value) -> Option<T>) -> T {
        let Some(value) = value_at(self.merged, key) else {
            self.problem(key, format!("is missing: expected {expected}"));
            return T::default();
        };
        parse(value).unwrap_or_else(|| {
            self.problem(key, format!("expected {expected}, got {}", shown(value)));
            T::default()
        })
    }
}

/// A value as it was found. Only for settings that are no secrets.
fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Table(_) | ValueKind::Array(_) | ValueKind::Nil => kind_of(value).to_owned(),
        number => number.to_string(),
    }
}

fn whole(value: &Value) -> Option<u64> {
    match &value.kind {
        ValueKind::I64(number) => u64::try_from(*number).ok(),
        ValueKind::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn decimal(value: &Value) -> Option<f64> {
    match &value.kind {
        // Beyond `u32` it is out of every range here.
        ValueKind::I64(number) => u32::try_from(*number).ok().map(f64::from),
        ValueKind::Float(number) => Some(*number),
        ValueKind::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Reads `"8MiB"`, `"8 MB"`, `"8388608"`.
fn parse_size(text: &str) -> Option<u64> {
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, *factor)))
        .unwrap_or((text, 1));
    number.trim_end().parse::<u64>().ok()?.checked_mul(factor)
}

/// A number of bytes in the largest binary unit that divides it.
pub(super) fn size(bytes: u64) -> String {
    UNITS
        .iter()
        .take(3)
        .rev()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .map_or_else(|| bytes.to_string(), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("12B", 12),
            ("8MiB", 8 << 20),
            ("8 MiB", 8 << 20),
            ("3kB", 3000),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "8mib", "99999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_size_reads_back_as_it_was_shown(bytes in any::<u64>(), shift in 0u32..40) {
            let bytes = bytes >> 24 << shift;
            prop_assert_eq!(parse_size(&size(bytes)), Some(bytes));
        }
    }
}
