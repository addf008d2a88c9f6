//! What is wrong with what the operator wrote: every problem at once, one a line, never a secret.

use std::{error::Error, fmt};

/// What is wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was set: a file, an environment variable, or the defaults.
    pub place: String,
    /// Which setting, as `broker.url`; empty when it concerns the whole place.
    pub key: String,
    /// What was expected and what was found, never repeating a secret.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.place, self.text),
            key => write!(f, "{}: {key}: {}", self.place, self.text),
        }
    }
}

/// All problems of one source; one a line when shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems<P = Problem>(Vec<P>);

impl<P> Problems<P> {
    /// None yet.
    #[must_use]
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// One more.
    pub fn push(&mut self, problem: P) {
        self.0.push(problem);
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &P> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The value if there is no problem.
    ///
    /// # Errors
    /// All the problems, if there is one.
    pub fn unless_any<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl Problems {
    /// One more, about one setting.
    pub(super) fn add(&mut self, place: impl Into<String>, key: &str, text: impl Into<String>) {
        self.push(Problem { place: place.into(), key: key.to_owned(), text: text.into() });
    }
}

impl<P: fmt::Display> fmt::Display for Problems<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl<P: fmt::Display + fmt::Debug> Error for Problems<P> {}

/// ` (did you mean "x"?)` when one of the known names is close to what was written, otherwise nothing.
#[must_use]
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let most = 1 + written.chars().count() / 4;
    known
        .into_iter()
        .map(|name| (distance(written, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| format!(" (did you mean {name:?}?)"))
        .unwrap_or_default()
}

/// How many letters must be inserted, removed or replaced to make one of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut left = index + 1;
        next.push(left);
        for (pair, wanted) in row.windows(2).zip(&other) {
            let &[diagonal, above] = pair else { continue };
            left = (diagonal + usize::from(letter != *wanted)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_suggested_and_a_far_one_is_not() {
        let known = ["broker.url", "broker.prefetch"];
        assert_eq!(did_you_mean("broker.prefech", known), " (did you mean \"broker.prefetch\"?)");
        assert_eq!(did_you_mean("nothing.like.it", known), "");
    }

    #[test]
    fn distance_counts_single_letters() {
        for (one, other, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("ä", "a", 1)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn problems_are_shown_one_a_line() {
        let mut problems = Problems::none();
        problems.add("a.toml", "broker.url", "must not be empty");
        problems.add("b.toml", "", "cannot be read");
        assert_eq!(problems.to_string(), "a.toml: broker.url: must not be empty\nb.toml: cannot be read");
    }
}
