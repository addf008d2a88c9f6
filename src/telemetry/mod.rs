//! What the process says about itself: log lines here, [`metrics`], and spans in [`trace`].

pub(crate) mod fields;
pub mod metrics;
pub mod trace;

use std::io::{self, IsTerminal as _, Stderr, Stdout};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::FilterFn, fmt::MakeWriter, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::{LogConfig, LogFormat};

/// The AMQP client warns of each message that comes back from an exchange without a queue, and shows all of it: a document.
/// In halves: nothing of the client is used here, it is only named.
const NO_RETURNED_MESSAGES: &str = concat!("lapin", "::returned_messages=off");

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// For the service: its log is its output, and that is where containers are read.
    Stdout,
    /// For every other command: its output is what was asked for, and must not be mixed with logs.
    Stderr,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The setting is no filter.
    #[error("log.level {level:?} is not a filter such as \"info\" or \"docrelay=debug,warn\"")]
    BadLevel {
        /// What it says.
        level: String,
        /// What is wrong with it.
        #[source]
        error: tracing_subscriber::filter::ParseError,
    },
    /// Called twice.
    #[error("logging has begun already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Begins logging for the whole process. Once only.
///
/// # Errors
/// When the level is no filter, or logging has begun already.
pub fn init(config: &LogConfig, output: Output) -> Result<(), InitError> {
    match output {
        Output::Stdout => begin::<fn() -> Stdout>(config, io::stdout, io::stdout().is_terminal()),
        Output::Stderr => begin::<fn() -> Stderr>(config, io::stderr, io::stderr().is_terminal()),
    }
}

fn begin<W>(config: &LogConfig, writer: W, is_terminal: bool) -> Result<(), InitError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let all = tracing_subscriber::registry().with(filter(&config.level)?);
    if as_text(config.format, is_terminal) {
        all.with(lines.with_ansi(is_terminal)).try_init()?;
    } else {
        all.with(lines.json().flatten_event(true)).try_init()?;
    }
    Ok(())
}

/// What is shown. For all that listens, and not a filter of one layer: that one remembers what it was asked last, and when a
/// library asks and then says nothing, as the database's driver does, it would swallow the next line, whoever's that is.
fn filter(level: &str) -> Result<impl Layer<Registry> + Send + Sync + 'static, InitError> {
    let bad = |error| InitError::BadLevel { level: level.to_owned(), error };
    let filter = EnvFilter::builder().parse(level).map_err(bad)?;
    let filter = filter.add_directive(NO_RETURNED_MESSAGES.parse().map_err(bad)?);
    Ok(filter.and_then(FilterFn::new(shows_no_secrets)))
}

/// At the lowest level libraries show what is on the wire: passwords, headers, documents.
fn shows_no_secrets(line: &Metadata<'_>) -> bool {
    let is_ours = line.target().strip_prefix("docrelay").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    is_ours || *line.level() <= Level::DEBUG
}

fn as_text(format: LogFormat, is_terminal: bool) -> bool {
    match format {
        LogFormat::Auto => is_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn lines_are_text_on_a_terminal_and_json_otherwise_unless_the_format_is_set() {
        assert!(as_text(LogFormat::Auto, true) && !as_text(LogFormat::Auto, false));
        assert!(as_text(LogFormat::Text, false) && !as_text(LogFormat::Json, true));
    }

    #[test]
    fn a_level_may_be_a_filter_by_module_and_nonsense_is_refused() {
        for fine in ["info", "docrelay=debug,warn", "off", "docrelay::broker=trace"] {
            assert!(filter(fine).is_ok(), "{fine}");
        }
        assert!(matches!(filter("docrelay=loud"), Err(InitError::BadLevel { .. })));
    }

    fn lines(level: &str) -> impl tracing::Subscriber + Send + Sync {
        into(io::sink, level)
    }

    fn into<W>(writer: W, level: &str) -> impl tracing::Subscriber + Send + Sync
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let lines = tracing_subscriber::fmt::layer().with_writer(writer);
        tracing_subscriber::registry().with(filter(level).unwrap()).with(lines)
    }

    #[test]
    fn no_line_is_lost_after_a_library_asked_whether_it_may_say_something_and_said_nothing() {
        for level in ["info", "docrelay=debug,info"] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let of_a_library = tracing::debug_span!(target: "library::query", "query");
            tracing::subscriber::with_default(into(Arc::new(file.reopen().unwrap()), level), || {
                let asked = of_a_library.metadata().unwrap();
                tracing::dispatcher::get_default(|all| all.enabled(asked));
                tracing::info!("Something happened");
            });
            assert!(std::fs::read_to_string(file.path()).unwrap().contains("Something happened"), "{level}");
        }
    }

    #[test]
    fn libraries_never_show_what_is_on_the_wire() {
        for level in ["trace", "lapin=trace", concat!("lapin", "::channel=trace")] {
            tracing::subscriber::with_default(lines(level), || {
                let on_the_wire = tracing::enabled!(target: concat!("lapin", "::channel"), tracing::Level::TRACE);
                assert!(!on_the_wire, "{level}");
                assert!(tracing::enabled!(target: concat!("lapin", "::channel"), tracing::Level::DEBUG), "{level}");
            });
        }
        tracing::subscriber::with_default(lines("trace"), || {
            assert!(tracing::enabled!(target: "docrelay::broker", tracing::Level::TRACE));
        });
    }

    #[test]
    fn a_message_that_an_exchange_returns_is_never_shown_at_any_level() {
        for level in ["info", "trace", "lapin=trace"] {
            tracing::subscriber::with_default(lines(level), || {
                assert!(
                    !tracing::enabled!(target: concat!("lapin", "::returned_messages"), tracing::Level::ERROR),
                    "{level}"
                );
                assert!(tracing::enabled!(target: concat!("lapin", "::channel"), tracing::Level::ERROR), "{level}");
            });
        }
    }
}
