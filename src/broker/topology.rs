//! The topology as data: what exists on the broker, and why. It can be printed, compared and declared.
//!
//! Arguments of a queue cannot be changed once it exists, so each is chosen for good; limits that an operator may want
//! to tune belong into policies.

use std::time::Duration;

use crate::{config::BrokerConfig, policy::wait::Tier};

/// Returns of one message before the broker sets it aside. Positive on purpose: `-1` means "unlimited" on RabbitMQ 4
/// and "none" on 3.10, and 4 has 20 by default.
const DELIVERY_LIMIT: i64 = 50;

/// Looking at dead letters counts as a return; nothing may ever vanish from there because people looked.
const DEAD_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// Exchanges, queues and bindings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// In the order in which they are declared.
    pub exchanges: Vec<ExchangeSpec>,
    /// In the order in which they are declared: what is dead-lettered to comes before what dead-letters there, because
    /// an at-least-once dead letter that finds no route is tried again only after minutes.
    pub queues: Vec<QueueSpec>,
    /// Declared before the delay queues can dead-letter anything.
    pub bindings: Vec<BindingSpec>,
    /// The names the service uses.
    pub names: Names,
}

/// The names of what the service publishes to and consumes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Upstream publishes here.
    pub events_exchange: String,
    /// Results go here.
    pub results_exchange: String,
    /// What waits, and what is set aside, goes here.
    pub park_exchange: String,
    /// The intake.
    pub events_queue: String,
    /// Parked messages whose wait is over.
    pub due_queue: String,
    /// What cannot be processed.
    pub dead_queue: String,
    /// One consumer for each living replica.
    pub presence_queue: String,
    /// The shortest wait.
    pub delay_unit: Duration,
}

/// Routing keys of the park exchange.
pub mod keys {
    /// Back to the intake (redriving).
    pub const EVENTS: &str = "events";
    /// To the parked messages whose wait is over (redriving).
    pub const DUE: &str = "due";
    /// Set aside.
    pub const DEAD: &str = "dead";
}

/// An exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeSpec {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: ExchangeKind,
    /// Where messages go that find no queue. Without one they are dropped.
    pub alternate: Option<String>,
    /// What it is for.
    pub purpose: &'static str,
}

/// The kinds of exchange in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By exact key.
    Direct,
    /// To everyone.
    Fanout,
    /// By pattern.
    Topic,
}

impl ExchangeKind {
    /// The kind's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
        }
    }
}

/// A durable quorum queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSpec {
    /// Its name.
    pub name: String,
    /// How long a message stays before it is dead-lettered.
    pub ttl: Option<Duration>,
    /// The key of the park exchange it dead-letters to, at least once.
    pub dead_letter_key: Option<&'static str>,
    /// Returns before a message is set aside.
    pub delivery_limit: Option<i64>,
    /// What it is for.
    pub purpose: &'static str,
}

/// A value of a queue's argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// A queue bound to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingSpec {
    /// From.
    pub exchange: String,
    /// To.
    pub queue: String,
    /// By this key.
    pub key: String,
}

impl Topology {
    /// The topology for these settings.
    #[must_use]
    pub fn new(config: &BrokerConfig) -> Self {
        let names = Names::new(config);
        let unrouted = format!("{}.unrouted", config.queue_prefix);
        let bind = |exchange: &str, queue: &str, key: &str| BindingSpec {
            exchange: exchange.to_owned(),
            queue: queue.to_owned(),
            key: key.to_owned(),
        };
        let mut bindings = vec![
            bind(&unrouted, &names.dead_queue, ""),
            bind(&names.park_exchange, &names.dead_queue, keys::DEAD),
            bind(&names.park_exchange, &names.due_queue, keys::DUE),
            bind(&names.park_exchange, &names.events_queue, keys::EVENTS),
        ];
        bindings.extend(
            Tier::all().map(|tier| bind(&names.park_exchange, &names.delay_queue(tier), &names.delay_key(tier))),
        );
        bindings.push(bind(&names.events_exchange, &names.events_queue, &config.events_binding));
        Self { exchanges: exchanges(&names, &unrouted), queues: queues(&names), bindings, names }
    }

    /// The topology as text, for people.
    #[must_use]
    pub fn render(&self) -> String {
        let mut lines = vec!["exchanges".to_owned()];
        lines.extend(self.exchanges.iter().map(|exchange| {
            let alternate = exchange.alternate.as_ref().map(|name| format!(", alternate-exchange {name}"));
            let (kind, alternate) = (exchange.kind.as_str(), alternate.unwrap_or_default());
            format!("  {} ({kind}, durable{alternate})  {}", exchange.name, exchange.purpose)
        }));
        lines.push("queues (quorum, durable)".to_owned());
        for queue in &self.queues {
            lines.push(format!("  {}  {}", queue.name, queue.purpose));
            let arguments = queue.arguments(&self.names.park_exchange);
            lines.extend(arguments.into_iter().map(|(name, value)| format!("      {name} = {value}")));
        }
        lines.push("bindings".to_owned());
        let bindings = self.bindings.iter();
        lines
            .extend(bindings.map(|binding| format!("  {} --[{}]--> {}", binding.exchange, binding.key, binding.queue)));
        lines.join("\n") + "\n"
    }
}

fn exchanges(names: &Names, unrouted: &str) -> Vec<ExchangeSpec> {
    vec![
        ExchangeSpec {
            name: unrouted.to_owned(),
            kind: ExchangeKind::Fanout,
            alternate: None,
            purpose: "keeps what found no queue",
        },
        ExchangeSpec {
            name: names.park_exchange.clone(),
            kind: ExchangeKind::Direct,
            alternate: Some(unrouted.to_owned()),
            purpose: "what waits, one key per delay queue; what is set aside",
        },
        ExchangeSpec {
            name: names.results_exchange.clone(),
            kind: ExchangeKind::Topic,
            alternate: None,
            purpose: "what became of deliveries; nobody has to be bound",
        },
        ExchangeSpec {
            name: names.events_exchange.clone(),
            kind: ExchangeKind::Topic,
            alternate: None,
            purpose: "upstream publishes document events here",
        },
    ]
}

fn queues(names: &Names) -> Vec<QueueSpec> {
    let work = |name: &str, purpose| QueueSpec {
        name: name.to_owned(),
        ttl: None,
        dead_letter_key: Some(keys::DEAD),
        delivery_limit: Some(DELIVERY_LIMIT),
        purpose,
    };
    let mut queues = vec![
        QueueSpec {
            name: names.dead_queue.clone(),
            ttl: None,
            dead_letter_key: None,
            delivery_limit: Some(DEAD_DELIVERY_LIMIT),
            purpose: "what cannot be processed, with reason and field in its headers",
        },
        work(&names.due_queue, "parked messages whose wait is over"),
        work(&names.events_queue, "the intake"),
        QueueSpec {
            name: names.presence_queue.clone(),
            ttl: None,
            dead_letter_key: None,
            delivery_limit: Some(DELIVERY_LIMIT),
            purpose: "one consumer for each living replica, and no messages",
        },
    ];
    queues.extend(Tier::all().map(|tier| QueueSpec {
        name: names.delay_queue(tier),
        ttl: Some(tier.length(names.delay_unit)),
        dead_letter_key: Some(keys::DUE),
        delivery_limit: None,
        purpose: "waits, then goes to the due queue",
    }));
    queues
}

impl Names {
    fn new(config: &BrokerConfig) -> Self {
        let prefix = &config.queue_prefix;
        Self {
            events_exchange: config.events_exchange.clone(),
            results_exchange: config.results_exchange.clone(),
            park_exchange: format!("{prefix}.park"),
            events_queue: format!("{prefix}.events"),
            due_queue: format!("{prefix}.due"),
            dead_queue: format!("{prefix}.dead"),
            presence_queue: format!("{prefix}.presence"),
            delay_unit: config.delay_unit,
        }
    }

    /// The delay queue of a tier; its name carries the wait, so that two settings of the unit never clash.
    #[must_use]
    pub fn delay_queue(&self, tier: Tier) -> String {
        let prefix = self.park_exchange.strip_suffix(".park").unwrap_or(&self.park_exchange);
        format!("{prefix}.{}", self.delay_key(tier))
    }

    /// The key of the park exchange that leads to a tier's queue.
    #[must_use]
    pub fn delay_key(&self, tier: Tier) -> String {
        let wait = tier.length(self.delay_unit);
        match wait.subsec_millis() {
            0 => format!("delay.{}s", wait.as_secs()),
            _ => format!("delay.{}ms", wait.as_millis()),
        }
    }
}

impl QueueSpec {
    /// The arguments it is declared with.
    #[must_use]
    pub fn arguments(&self, park_exchange: &str) -> Vec<(&'static str, Argument)> {
        let text = |value: &str| Argument::Text(value.to_owned());
        let mut arguments = vec![("x-queue-type", text("quorum"))];
        if let Some(ttl) = self.ttl {
            arguments.push(("x-message-ttl", Argument::Number(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))));
        }
        if let Some(key) = self.dead_letter_key {
            arguments.push(("x-dead-letter-exchange", text(park_exchange)));
            arguments.push(("x-dead-letter-routing-key", text(key)));
            // At least once needs reject-publish: without it the broker silently falls back to at most once.
            arguments.push(("x-dead-letter-strategy", text("at-least-once")));
            arguments.push(("x-overflow", text("reject-publish")));
        }
        if let Some(limit) = self.delivery_limit {
            arguments.push(("x-delivery-limit", Argument::Number(limit)));
        }
        arguments
    }
}

impl std::fmt::Display for Argument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    fn topology() -> Topology {
        let environment = [("DOCRELAY__SUBSCRIPTIONS__FILE".to_owned(), "none.yaml".to_owned())];
        Topology::new(&crate::config::load(&[], environment.into_iter()).unwrap().broker)
    }

    #[test]
    fn the_topology_is_what_was_reviewed() {
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => Path::new("snapshots") }, {
            insta::assert_snapshot!("topology", topology().render());
        });
    }

    /// An at-least-once dead letter that finds no route is tried again only after three minutes.
    #[test]
    fn whatever_is_dead_lettered_to_is_declared_and_bound_before() {
        let topology = topology();
        let (mut exchanges, mut queues) = (BTreeSet::new(), BTreeSet::new());
        for exchange in &topology.exchanges {
            if let Some(alternate) = &exchange.alternate {
                assert!(exchanges.contains(alternate), "{alternate} comes after {}", exchange.name);
            }
            exchanges.insert(&exchange.name);
        }
        for queue in &topology.queues {
            if let Some(key) = queue.dead_letter_key {
                let leads =
                    |binding: &&BindingSpec| binding.exchange == topology.names.park_exchange && binding.key == key;
                let target = topology.bindings.iter().find(leads).map(|binding| &binding.queue);
                assert!(target.is_some_and(|target| queues.contains(target)), "{} to {target:?}", queue.name);
            }
            queues.insert(&queue.name);
        }
        assert!(topology.bindings.iter().all(|it| exchanges.contains(&it.exchange) && queues.contains(&it.queue)));
    }

    #[test]
    fn whatever_is_dead_lettered_goes_at_least_once_and_every_limit_is_positive() {
        let topology = topology();
        for queue in &topology.queues {
            let arguments: std::collections::BTreeMap<_, _> = queue.arguments("park").into_iter().collect();
            let text = |text: &str| Some(Argument::Text(text.to_owned()));
            assert_eq!(arguments.get("x-queue-type").cloned(), text("quorum"));
            if ![&topology.names.dead_queue, &topology.names.presence_queue].contains(&&queue.name) {
                assert_eq!(arguments.get("x-dead-letter-exchange").cloned(), text("park"));
                assert_eq!(arguments.get("x-dead-letter-strategy").cloned(), text("at-least-once"));
                assert_eq!(arguments.get("x-overflow").cloned(), text("reject-publish"));
            }
            match arguments.get("x-delivery-limit") {
                Some(limit) => assert!(matches!(limit, Argument::Number(1..)), "{}: {limit}", queue.name),
                None => assert!(queue.ttl.is_some(), "{} is consumed and needs a limit of its own", queue.name),
            }
        }
    }
}
