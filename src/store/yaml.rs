//! A YAML document as a tree that knows its lines, and typed reading of it that notes every problem with its path.
//!
//! The tree is built here, from the parser's events, because a file that many people edit needs more than a loader
//! gives: repeated keys are problems like any other, aliases are refused (a few lines of them can unfold into more nodes
//! than any memory holds), and depth is bounded (dropping a deep tree would end the process).

use std::{borrow::Cow, collections::HashSet, fmt, str::FromStr, time::Duration};

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScanError, Span, StrInput};

use crate::config::{Problems, did_you_mean};

/// How deep a document may nest. The resource needs 5 levels.
const MAX_DEPTH: usize = 16;

/// What is wrong at one place of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblem {
    /// The line, counted from 1.
    pub line: usize,
    /// The field, as `subscriptions[3].target.url`; empty when it concerns the document.
    pub field: String,
    /// The id of the subscription, if it could be read.
    pub subscription: Option<String>,
    /// What was expected and what was found, never repeating a secret.
    pub text: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}", self.field)?;
            if let Some(id) = &self.subscription {
                write!(f, " (subscription {id:?})")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.text)
    }
}

/// Everything that is wrong with a file.
pub type FileProblems = Problems<FileProblem>;

/// The problems found so far, and whose they are.
pub(super) struct Notes {
    /// Everything that is wrong.
    pub(super) problems: FileProblems,
    /// The id of the subscription that is being read.
    pub(super) subscription: Option<String>,
}

impl Notes {
    pub(super) fn none() -> Self {
        Self { problems: FileProblems::none(), subscription: None }
    }

    pub(super) fn add(&mut self, line: usize, path: &Path<'_>, text: impl Into<String>) {
        self.problems.push(FileProblem {
            line,
            field: path.to_string(),
            subscription: self.subscription.clone(),
            text: text.into(),
        });
    }
}

/// Where in the document something stands. Text is made of it only when there is a problem.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Path::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A node of the document.
pub(super) struct Node<'t> {
    pub(super) line: usize,
    pub(super) kind: Kind<'t>,
}

/// What a node is.
pub(super) enum Kind<'t> {
    Scalar(Scalar<'t>),
    List(Vec<Node<'t>>),
    Table(Vec<Field<'t>>),
    /// Something that was refused and noted while the document was read.
    Refused,
}

/// One key of a mapping with its value.
pub(super) struct Field<'t> {
    pub(super) name: Cow<'t, str>,
    pub(super) line: usize,
    pub(super) value: Node<'t>,
}

/// Reads a text that holds one document. `None` when it is empty or cannot be read at all; why has been noted.
pub(super) fn document<'t>(text: &'t str, notes: &mut Notes) -> Option<Node<'t>> {
    let mut builder = Builder { parser: Parser::new_from_str(text.trim_start_matches('\u{feff}')), notes };
    match builder.document() {
        Ok(root) => root,
        Err(Stop::Syntax(error)) => {
            let line = error.marker().line();
            let hint = if text
                .lines()
                .nth(line.saturating_sub(1))
                .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'))
            {
                " (YAML is indented with spaces, never with tabs)"
            } else {
                ""
            };
            notes.add(line, &Path::Root, format!("not valid YAML: {}{hint}", error.info()));
            None
        }
        Err(Stop::TooDeep { line }) => {
            notes.add(line, &Path::Root, format!("nested too deeply: at most {MAX_DEPTH} levels"));
            None
        }
    }
}

/// Why the rest of a document cannot be read.
enum Stop {
    Syntax(ScanError),
    TooDeep { line: usize },
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Self {
        Self::Syntax(error)
    }
}

struct Builder<'t, 'n> {
    parser: Parser<'t, StrInput<'t>>,
    notes: &'n mut Notes,
}

impl<'t> Builder<'t, '_> {
    fn document(&mut self) -> Result<Option<Node<'t>>, Stop> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    self.notes.add(line(span), &Path::Root, "a second document: expected one");
                    return Ok(root);
                }
                Event::DocumentStart(_) => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        Ok(root)
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, ScanError> {
        self.parser.next().transpose()
    }

    /// The node that begins with `event`.
    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node<'t>, Stop> {
        let line = line(span);
        if depth > MAX_DEPTH {
            return Err(Stop::TooDeep { line });
        }
        let kind = match event {
            Event::Scalar(text, style, _, tag) => {
                match Scalar::parse_from_cow_and_metadata(text, style, tag.as_ref()) {
                    Some(scalar) => Kind::Scalar(scalar),
                    None => self.refuse(line, "the value is not what its tag says"),
                }
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                while let Some((event, span)) = self.next()? {
                    if event == Event::SequenceEnd {
                        break;
                    }
                    items.push(self.node(event, span, depth + 1)?);
                }
                Kind::List(items)
            }
            Event::MappingStart(..) => Kind::Table(self.fields(depth)?),
            Event::Alias(_) => self.refuse(line, "aliases (*name) are not supported: write the value out"),
            _ => Kind::Refused,
        };
        Ok(Node { line, kind })
    }

    fn fields(&mut self, depth: usize) -> Result<Vec<Field<'t>>, Stop> {
        let mut fields = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let name = match event {
                // A key is a name whatever it looks like: `on` or `1` are names too.
                Event::Scalar(text, ..) => Some((text, line(span))),
                event => {
                    let key = self.node(event, span, depth + 1)?;
                    if !matches!(key.kind, Kind::Refused) {
                        self.refuse(key.line, "expected a name before the colon");
                    }
                    None
                }
            };
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, span, depth + 1)?;
            if let Some((name, line)) = name {
                fields.push(Field { name, line, value });
            }
        }
        Ok(fields)
    }

    fn refuse(&mut self, line: usize, text: &str) -> Kind<'t> {
        self.notes.add(line, &Path::Root, text);
        Kind::Refused
    }
}

fn line(span: Span) -> usize {
    span.start.line()
}

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
    pub(super) fn number(&self, range: std::ops::RangeInclusive<u32>, notes: &mut Notes) -> Option<u32> {
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

    /// A duration within a range, as `15s`.
    pub(super) fn duration(&self, range: std::ops::RangeInclusive<Duration>, notes: &mut Notes) -> Option<Duration> {
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
            self.at.problem(notes, format!("{name} is missing"));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problems(text: &str) -> String {
        let mut notes = Notes::none();
        document(text, &mut notes);
        notes.problems.to_string()
    }

    #[test]
    fn aliases_are_refused_so_that_no_bomb_unfolds() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..40 {
            let before = level - 1;
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{before}"); 9].join(", ")));
        }
        assert!(problems(&bomb).starts_with("line 2: aliases (*name) are not supported"));
    }

    #[test]
    fn depth_is_bounded_so_that_no_stack_overflows() {
        for text in ["- ".repeat(100_000), "[".repeat(200), "{a: ".repeat(200), "? ".repeat(100_000)] {
            assert!(problems(&text).contains("nested too deeply"), "{}", problems(&text));
        }
    }

    #[test]
    fn a_second_document_is_refused() {
        assert_eq!(problems("a: 1\n---\na: 2\n"), "line 2: a second document: expected one");
    }

    #[test]
    fn tabs_are_named_as_the_reason() {
        assert!(problems("a:\n\tb: 1\n").contains("never with tabs"), "{}", problems("a:\n\tb: 1\n"));
    }

    #[test]
    fn a_byte_order_mark_is_no_problem() {
        assert_eq!(problems("\u{feff}a: 1\n"), "");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-?:,\\[\\]{}#&*!|>'\"%@` \t\na-c0-9~]{0,60}") {
            problems(&text);
        }
    }
}
