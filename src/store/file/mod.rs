//! Reads subscriptions from YAML: the resource that docs/subscriptions.md describes, checked field by field. No file is touched here.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use super::{
    auth, export,
    fields::{At, Names, Table},
    limits, target,
    yaml::{self, FileProblems, Kind, Node, Notes, Path},
};
use crate::{
    config::{Config, did_you_mean, ranges},
    domain::{
        BadId, EventName, EventSet, ExchangePolicy, Payload, RateLimit, RetryOn, RetryPolicy, State, Subscription,
        SubscriptionId, WhileDown,
    },
};

const DOCUMENT: Names = Names { known: &["subscriptions"], later: &[], read_only: &[] };

const SUBSCRIPTION: Names = Names {
    known: &[
        "id",
        "name",
        "organization",
        "inboxes",
        "projects",
        "events",
        "payload",
        "file",
        "target",
        "auth",
        "signing_secrets",
        "retry",
        "rate_limit",
        "max_in_flight",
        "enabled",
    ],
    later: &[],
    read_only: &["origin", "created_at", "updated_at", "disabled_reason"],
};

const RETRY: Names =
    Names { known: &["on", "backoff", "max_attempts", "while_down", "max_age"], later: &[], read_only: &[] };

const RETRY_ON: [(&str, RetryOn); 2] = [("any_failure", RetryOn::AnyFailure), ("no_response", RetryOn::NoResponse)];

/// What a subscription gets that does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The deadline of one attempt.
    pub timeout: Duration,
    /// When and how often it is tried again.
    pub retry: RetryPolicy,
    /// How fast its target's lane may send.
    pub rate_limit: Option<RateLimit>,
    /// Requests in flight at its target.
    pub max_in_flight: u32,
    /// Whether there is an artifact store that links to files can be made for.
    pub links: bool,
    /// Which organization may use which exchange.
    pub exchanges: Arc<ExchangePolicy>,
}

impl From<&Config> for Defaults {
    fn from(config: &Config) -> Self {
        Self {
            timeout: config.delivery.timeout,
            retry: RetryPolicy {
                on: RetryOn::AnyFailure,
                backoff: config.delivery.backoff,
                max_attempts: config.delivery.max_attempts,
                max_age: config.delivery.max_age,
                while_down: WhileDown::default(),
            },
            rate_limit: config.limits.rate,
            max_in_flight: config.limits.max_in_flight,
            links: config.artifacts.place.is_some(),
            exchanges: Arc::clone(&config.targets.amqp.exchanges),
        }
    }
}

impl Defaults {
    /// The same for what is stored already: the operator's list of exchanges is not asked
    /// ([`ExchangePolicy::without_list`]).
    #[must_use]
    pub fn for_stored(&self) -> Self {
        Self { exchanges: Arc::new(self.exchanges.without_list()), ..self.clone() }
    }
}

/// The subscriptions of a YAML text, in its order.
///
/// # Errors
/// Everything that is wrong with it, each problem with its line and field, none with a secret.
pub fn parse(text: &str, defaults: &Defaults) -> Result<Vec<Subscription>, FileProblems> {
    let mut notes = Notes::none();
    let root = yaml::document(text, &mut notes);
    if root.is_none() && notes.problems.is_empty() {
        notes.add(1, &Path::Root, "the file is empty: expected subscriptions: [...]");
    }
    let subscriptions = root.map_or_else(Vec::new, |root| document(&root, defaults, &mut notes));
    notes.problems.unless_any(subscriptions)
}

/// One subscription that is a tree already.
pub(super) fn one(root: &Node<'_>, defaults: &Defaults) -> Result<Subscription, FileProblems> {
    let mut notes = Notes::none();
    let root = At { node: root, path: Path::Root };
    let found = subscription(&root, defaults, &mut HashMap::new(), &mut notes);
    if found.is_none() && notes.problems.is_empty() {
        root.problem(&mut notes, "is no subscription");
    }
    match (found, notes.problems) {
        (Some(subscription), problems) => problems.unless_any(subscription),
        (None, problems) => Err(problems),
    }
}

fn document(root: &Node<'_>, defaults: &Defaults, notes: &mut Notes) -> Vec<Subscription> {
    let root = At { node: root, path: Path::Root };
    let Kind::Table(_) = root.node.kind else {
        root.expected(notes, "a mapping with the field subscriptions");
        return Vec::new();
    };
    let Some(table) = root.table(notes) else { return Vec::new() };
    table.check_names(&DOCUMENT, notes);
    let Some(list) = table.required("subscriptions", notes) else { return Vec::new() };
    let Some(items) = list.items(notes) else { return Vec::new() };
    let mut lines: HashMap<SubscriptionId, usize> = HashMap::new();
    let mut subscriptions = Vec::new();
    for item in items {
        notes.subscription = None;
        if let Some(subscription) = subscription(&item, defaults, &mut lines, notes) {
            subscriptions.push(subscription);
        }
    }
    subscriptions
}

/// One subscription. `lines` says where the ids so far stand.
fn subscription(
    at: &At<'_>,
    defaults: &Defaults,
    lines: &mut HashMap<SubscriptionId, usize>,
    notes: &mut Notes,
) -> Option<Subscription> {
    let table = at.table(notes)?;
    // First of all, so that every other problem can name the subscription.
    let id = table.required("id", notes).and_then(|at| id(&at, lines, notes));
    table.check_names(&SUBSCRIPTION, notes);
    let name = table.get("name").map(|at| at.text(notes));
    let organization = table.required("organization", notes).and_then(|at| at.parsed(notes));
    let inboxes = table.get("inboxes").map_or_else(Vec::new, |at| ids(&at, notes));
    let projects = table.get("projects").map_or_else(Vec::new, |at| ids(&at, notes));
    let payload = table.get("payload").map_or(Some(Payload::ContractFit), |at| payload(&at, defaults, notes));
    let events = table.required("events", notes).and_then(|at| events(&at, payload, notes));
    let given = auth::auth(&table, notes);
    let fixed = given.as_ref().and_then(|given| given.authorization.as_ref());
    let target = target::target(&table, (payload, organization.as_ref()), fixed, defaults, notes);
    let file = export::file(&table, payload, notes);
    let signing_secrets = auth::signing_secrets(&table, notes);
    let retry = retry(&table, payload, defaults, notes);
    let limits = limits::limits(&table, target.as_ref(), defaults, notes);
    let enabled = table.get("enabled").map_or(Some(true), |at| at.claim(notes));

    let (id, organization, target, limits) = (id?, organization?, target?, limits?);
    Some(Subscription {
        name: name.unwrap_or_else(|| Some(id.as_str()))?.to_owned(),
        inboxes,
        projects,
        events: events?,
        payload: payload?,
        file: file.ok()?,
        auth: given?.auth,
        signing_secrets: signing_secrets?,
        retry: retry?,
        rate_limit: limits.rate,
        max_in_flight: limits.in_flight,
        lane: limits.lane(&organization, &id, &target),
        state: State::enabled(enabled?),
        id,
        organization,
        target,
    })
}

fn id(at: &At<'_>, lines: &mut HashMap<SubscriptionId, usize>, notes: &mut Notes) -> Option<SubscriptionId> {
    let id: SubscriptionId = at.parsed(notes)?;
    notes.subscription = Some(id.as_str().to_owned());
    match lines.insert(id.clone(), at.node.line) {
        None => Some(id),
        Some(line) => {
            at.problem(notes, format!("must be unique, but line {line} has it too"));
            None
        }
    }
}

/// A list of inboxes or projects; each one once. Empty means all.
fn ids<T: FromStr<Err = BadId> + Clone + Eq + Hash>(at: &At<'_>, notes: &mut Notes) -> Vec<T> {
    let (mut ids, mut seen) = (Vec::new(), HashSet::new());
    for item in at.items(notes).into_iter().flatten() {
        if let Some(id) = item.parsed::<T>(notes)
            && seen.insert(id.clone())
        {
            ids.push(id);
        }
    }
    ids
}

fn payload(at: &At<'_>, defaults: &Defaults, notes: &mut Notes) -> Option<Payload> {
    let name = at.text(notes)?;
    let found = Payload::ALL.into_iter().find(|payload| payload.as_str() == name);
    if found == Some(Payload::SmartDocumentorFile) && !defaults.links {
        at.problem(notes, "needs an artifact store that it can link to: set artifacts.url");
        return None;
    }
    if found.is_none() {
        let names = Payload::ALL.map(Payload::as_str);
        at.problem(notes, format!("expected one of {}, got {name:?}{}", names.join(", "), did_you_mean(name, names)));
    }
    found
}

fn events(at: &At<'_>, payload: Option<Payload>, notes: &mut Notes) -> Option<EventSet> {
    let mut names = Vec::new();
    let mut sound = true;
    for item in at.items(notes)? {
        match item.text(notes).map(EventName::from_str) {
            Some(Ok(name)) => match payload.filter(|payload| !payload.carries(name)) {
                Some(payload) => {
                    item.problem(notes, format!("the payload {payload} cannot carry {name}"));
                    sound = false;
                }
                None => names.push(name),
            },
            Some(Err(error)) => {
                let guess = did_you_mean(&error.0, EventName::ALL.map(EventName::as_str));
                item.problem(notes, format!("{error}{guess}"));
                sound = false;
            }
            None => sound = false,
        }
    }
    if sound && names.is_empty() {
        at.problem(notes, "must name at least one event");
        return None;
    }
    sound.then(|| names.into_iter().collect())
}

fn retry(
    subscription: &Table<'_>,
    payload: Option<Payload>,
    defaults: &Defaults,
    notes: &mut Notes,
) -> Option<RetryPolicy> {
    // A review's receiver judges the document: what it says is its verdict.
    let on = match payload {
        Some(Payload::SmartDocumentorFile) => RetryOn::NoResponse,
        Some(Payload::ContractFit | Payload::Idexa | Payload::CloudEvents | Payload::Protobuf) | None => {
            RetryOn::AnyFailure
        }
    };
    let Some(at) = subscription.get("retry") else { return Some(RetryPolicy { on, ..defaults.retry }) };
    let table = at.table(notes)?;
    table.check_names(&RETRY, notes);
    let backoff = table.get("backoff").map_or(Some(defaults.retry.backoff), |at| at.duration(ranges::BACKOFF, notes));
    let max_attempts =
        table.get("max_attempts").map_or(Some(defaults.retry.max_attempts), |at| at.number(ranges::ATTEMPTS, notes));
    let max_age = table.get("max_age").map_or(Some(defaults.retry.max_age), |at| at.duration(ranges::AGE, notes));
    let on = table.get("on").map_or(Some(on), |at| at.one_of(&RETRY_ON, notes));
    let while_down = table
        .get("while_down")
        .map_or(Some(defaults.retry.while_down), |at| at.one_of(&WhileDown::ALL.map(|it| (it.as_str(), it)), notes));
    let policy = RetryPolicy {
        on: on?,
        backoff: backoff?,
        max_attempts: max_attempts?,
        max_age: max_age?,
        while_down: while_down?,
    };
    policy.check().map_err(|misfit| at.problem(notes, misfit.to_string())).ok()?;
    Some(policy)
}

#[cfg(test)]
pub(super) mod tests;
