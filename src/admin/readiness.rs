//! Whether events flow, and if not, why. Pure but for reading the current values.

use std::fmt;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    broker::Standing,
    policy::share::Share,
    telemetry::metrics::{Publishing, ServiceReadings},
};

/// What readiness depends on, as its owners report it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness {
    publishing: watch::Receiver<Standing>,
    consuming: watch::Receiver<bool>,
    subscriptions: watch::Receiver<Option<usize>>,
    store: Option<watch::Receiver<bool>>,
    share: Option<watch::Receiver<Share>>,
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
    /// Whether the store answers; `None` without one. While it is away, what was loaded stays in force.
    pub store: Option<bool>,
    /// What part of every limit this replica may use. Whoever may use none yet is ready all the same.
    pub share: Option<Share>,
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
        Self { publishing, consuming, subscriptions, store: None, share: None, stopping }
    }

    /// The same, with a store that must answer.
    #[must_use]
    pub fn with_store(self, answers: Option<watch::Receiver<bool>>) -> Self {
        Self { store: answers, ..self }
    }

    /// The same, with the share of this replica to be shown.
    #[must_use]
    pub fn with_share(self, share: watch::Receiver<Share>) -> Self {
        Self { share: Some(share), ..self }
    }

    /// The conditions now.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            publishing: *self.publishing.borrow(),
            consuming: *self.consuming.borrow(),
            subscriptions: *self.subscriptions.borrow(),
            store: self.store.as_ref().map(|answers| *answers.borrow()),
            share: self.share.as_ref().map(|share| *share.borrow()),
            stopping: self.stopping.is_cancelled(),
        }
    }
}

impl Report {
    /// Whether every condition is met.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.publishing == Standing::Open
            && self.consuming
            && self.subscriptions.is_some()
            && self.store != Some(false)
            && !self.stopping
    }
}

impl From<Report> for ServiceReadings {
    fn from(report: Report) -> Self {
        Self {
            ready: report.is_ready(),
            publishing: match report.publishing {
                Standing::Disconnected => Publishing::Away,
                Standing::Open => Publishing::Open,
                Standing::Blocked => Publishing::Blocked,
            },
            consuming: report.consuming,
            store: report.store,
            subscriptions: report.subscriptions,
            // Before it has joined it knows of nobody else.
            replicas: report.share.filter(|share| share.limited).map(|share| share.replicas.get()),
        }
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
        match self.store {
            None => {}
            Some(true) => writeln!(f, "store: connected")?,
            Some(false) => writeln!(f, "store: away, what was loaded stays in force")?,
        }
        match self.share {
            None => {}
            Some(Share { replicas, limited: true, .. }) => writeln!(f, "replicas: {replicas}")?,
            Some(Share { replicas, .. }) => writeln!(f, "replicas: {replicas} so far, nothing limited is sent")?,
        }
        if self.stopping { writeln!(f, "stopping") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Report = Report {
        publishing: Standing::Open,
        consuming: true,
        subscriptions: Some(2),
        store: None,
        share: None,
        stopping: false,
    };

    #[test]
    fn everything_together_is_ready_and_each_condition_alone_is_not() {
        assert!(READY.is_ready());
        assert!(Report { subscriptions: Some(0), ..READY }.is_ready());
        assert!(Report { store: Some(true), ..READY }.is_ready());
        assert!(Report { share: Some(Share::NOT_JOINED), ..READY }.is_ready());
        for missing in [
            Report { publishing: Standing::Disconnected, ..READY },
            Report { publishing: Standing::Blocked, ..READY },
            Report { consuming: false, ..READY },
            Report { subscriptions: None, ..READY },
            Report { store: Some(false), ..READY },
            Report { stopping: true, ..READY },
        ] {
            assert!(!missing.is_ready(), "{missing}");
        }
    }

    #[test]
    fn a_report_has_one_line_for_each_condition() {
        assert_eq!(READY.to_string(), "publishing: connected\nconsuming: yes\nsubscriptions: 2 loaded\n");
        let away = Report { store: Some(false), ..READY }.to_string();
        assert!(away.ends_with("store: away, what was loaded stays in force\n"), "{away}");
        let joining = Report { share: Some(Share::NOT_JOINED), ..READY }.to_string();
        assert!(joining.ends_with("loaded\nreplicas: 1 so far, nothing limited is sent\n"), "{joining}");
        let joined = Report { share: Some(Share { limited: true, ..Share::NOT_JOINED }), ..READY }.to_string();
        assert!(joined.ends_with("loaded\nreplicas: 1\n"), "{joined}");
        let stopping = Report {
            publishing: Standing::Blocked,
            consuming: false,
            subscriptions: None,
            store: None,
            share: None,
            stopping: true,
        };
        assert_eq!(stopping.to_string(), "publishing: blocked\nconsuming: no\nsubscriptions: not loaded\nstopping\n");
    }
}
