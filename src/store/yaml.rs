//! A YAML document as a tree that knows its lines, and the notes of what is wrong with it.
//!
//! The tree is built here, from the parser's events, because a file that many people edit needs more than a loader
//! gives: repeated keys are problems like any other, aliases are refused (a few lines of them can unfold into more nodes
//! than any memory holds), and depth is bounded (dropping a deep tree would end the process).

use std::{borrow::Cow, fmt};

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScanError, Span, StrInput};

use crate::config::Problems;

/// How deep a document may nest. The resource needs 5 levels.
const MAX_DEPTH: usize = 16;

/// What is wrong at one place of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblem {
    /// The line, counted from 1.
    pub line: usize,
    /// The field, as `subscriptions[3].target.url`; empty when it concerns the document.
    pub field: String,
    /// The same as a JSON Pointer (RFC 6901), as `/subscriptions/3/target/url`. What is missing is pointed at as well.
    pub pointer: String,
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
        self.push(line, path, path.pointer(), text.into());
    }

    /// A problem with what is not there.
    pub(super) fn add_missing(&mut self, line: usize, path: &Path<'_>, name: &str) {
        self.push(line, path, Path::Field(path, name).pointer(), format!("{name} is missing"));
    }

    fn push(&mut self, line: usize, path: &Path<'_>, pointer: String, text: String) {
        let (field, subscription) = (path.to_string(), self.subscription.clone());
        self.problems.push(FileProblem { line, field, pointer, subscription, text });
    }
}

/// Where in the document something stands. Text is made of it only when there is a problem.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl Path<'_> {
    /// As a JSON Pointer.
    fn pointer(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Field(parent, name) => {
                format!("{}/{}", parent.pointer(), name.replace('~', "~0").replace('/', "~1"))
            }
            Self::Item(parent, index) => format!("{}/{index}", parent.pointer()),
        }
    }
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
                Event::DocumentStart(_) if root.is_some() => {
                    self.notes.add(line(span), &Path::Root, "a second document: expected one");
                    return Ok(root);
                }
                Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::Nothing => {}
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
        let levels: Vec<String> = (1..40)
            .map(|level| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", ")))
            .collect();
        let bomb = format!("a0: &a0 [x, x, x]\n{}", levels.concat());
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
