//! Whether events flow, and if not, why. Pure but for reading the current values.

use std::fmt;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::broker::Standing;

/// What readiness depends on, as its owners report it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness {
    publishing: watch::Receiver<Standing>,
    consuming: watch::Receiver<bool>,
    subscriptions: watch::Receiver<Option<usize>>,
    stopping: CancellationToken,
}

/// The conditions at one moment. Its `Display` is one line each, as `/readyz` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// How publishing stands.
    pub publishing: Standing,
    /// Whether messages can come in.
    pub consuming: bool,
    /// How many subscriptions there are; `None` before the first complete load. None at all is no fault.
    pub subscriptions: Option<usize>,
    /// Whether the service is about to end.
    pub stopping: bool,
}

impl Readiness {
    /// Readiness by these values; `stopping` is cancelled when the service begins to stop.
    #[must_use]
    pub fn new(
        publishing: watch::Receiver<Standing>,
        consuming: watch::Receiver<bool>,
        subscriptions: watch::Receiver<Option<usize>>,
        stopping: CancellationToken,
    ) -> Self {
        Self { publishing, consuming, subscriptions, stopping }
    }

    /// The conditions now.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            publishing: *self.publishing.borrow(),
            consuming: *self.consuming.borrow(),
            subscriptions: *self.subscriptions.borrow(),
            stopping: self.stopping.is_cancelled(),
        }
    }
}

impl Report {
    /// Whether every condition is met.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.publishing == Standing::Open && self.consuming && self.subscriptions.is_some() && !self.stopping
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let publishing = match self.publishing {
            Standing::Open => "connected",
            Standing::Disconnected => "disconnected",
            Standing::Blocked => "blocked",
        };
        writeln!(f, "publishing: {publishing}")?;
        writeln!(f, "consuming: {}", if self.consuming { "yes" } else { "no" })?;
        match self.subscriptions {
            Some(count) => writeln!(f, "subscriptions: {count} loaded")?,
            None => writeln!(f, "subscriptions: not loaded")?,
        }
        if self.stopping { writeln!(f, "stopping") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Report =
        Report { publishing: Standing::Open, consuming: true, subscriptions: Some(2), stopping: false };

    #[test]
    fn everything_together_is_ready_and_each_condition_alone_is_not() {
        assert!(READY.is_ready());
        assert!(Report { subscriptions: Some(0), ..READY }.is_ready());
        for missing in [
            Report { publishing: Standing::Disconnected, ..READY },
            Report { publishing: Standing::Blocked, ..READY },
            Report { consuming: false, ..READY },
            Report { subscriptions: None, ..READY },
            Report { stopping: true, ..READY },
        ] {
            assert!(!missing.is_ready(), "{missing}");
        }
    }

    #[test]
    fn a_report_has_one_line_for_each_condition() {
        assert_eq!(READY.to_string(), "publishing: connected\nconsuming: yes\nsubscriptions: 2 loaded\n");
        let stopping = Report { publishing: Standing::Blocked, consuming: false, subscriptions: None, stopping: true };
        assert_eq!(stopping.to_string(), "publishing: blocked\nconsuming: no\nsubscriptions: not loaded\nstopping\n");
    }
}
