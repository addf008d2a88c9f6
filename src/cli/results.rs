//! `docrelay results`: what became of deliveries, as it is published.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use serde::Serialize;
use tokio::signal;

use super::for_people;
use crate::{
    broker::{
        self,
        codec::Notice,
        operator::{self, ResultFilter, ResultStream},
    },
    config::Config,
    domain::{
        DeliveryResult, DocumentId, EventName, InboxId, OrganizationId, Outcome, ProjectId, SubscriptionDisabled,
        SubscriptionId, Timestamp,
    },
};

/// How much of an error's text stands on a line.
const SHOWN_CHARS: usize = 160;

/// Follow the results of deliveries, one line each, until Ctrl-C.
///
/// A line shows: time, outcome, event, organization, subscription, attempt, HTTP status or error,
/// latency, target. Only what is published from now on is shown; start it before you publish.
/// Other consumers are not disturbed. A subscription that docrelay disabled by itself has a line, too:
/// time, subscription_disabled, organization, subscription, reason.
///
///   docrelay results                                     everything
///   docrelay results --outcome exhausted --outcome rejected
///   docrelay results --organization acme --json | jq .   everything about each of one organization
///   docrelay results --count 9                           ends after nine
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// One JSON object a line, with every field.
    #[arg(long)]
    json: bool,

    /// Only results of this organization.
    #[arg(long, value_name = "NAME", conflicts_with = "queue")]
    organization: Option<OrganizationId>,

    /// Only this outcome: delivered, attempt_failed, deferred, exhausted, rejected, cancelled, unsubscribed or invalid.
    /// May be given several times.
    #[arg(long, value_name = "OUTCOME", conflicts_with = "queue")]
    outcome: Vec<Outcome>,

    /// End after this many results.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Take results out of this existing queue instead of listening with one of its own. What is shown is gone from it.
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
}

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let connection = broker::connect(&config.broker, "docrelay results").await?;
    let filter = ResultFilter { organization: args.organization, outcomes: args.outcome };
    let mut stream = match &args.queue {
        Some(queue) => ResultStream::from_queue(&connection, queue).await?,
        None => ResultStream::from_now(&connection, &config.broker.results_exchange, &filter).await?,
    };
    // On stderr, so that scripts know when to begin and pipes get results only.
    writeln!(io::stderr(), "Following results; Ctrl-C ends.")?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let result = tokio::select! {
            result = stream.next() => result?,
            interrupted = signal::ctrl_c() => {
                interrupted.context("cannot listen for Ctrl-C")?;
                break;
            }
        };
        match result {
            Ok(notice) if args.json => writeln!(io::stdout(), "{}", json(&notice)?)?,
            Ok(Notice::Result(result)) => writeln!(io::stdout(), "{}", line(&result))?,
            Ok(Notice::Disabled(disabled)) => writeln!(io::stdout(), "{}", disabled_line(&disabled))?,
            Err(error) => writeln!(io::stderr(), "a message that is no result: {error}")?,
        }
        left -= 1;
    }
    stream.finish().await?;
    operator::close(&connection).await;
    Ok(ExitCode::SUCCESS)
}

/// Each by the names of its protobuf message.
fn json(notice: &Notice) -> serde_json::Result<String> {
    match notice {
        Notice::Result(result) => serde_json::to_string(&Json::of(result)),
        Notice::Disabled(disabled) => serde_json::to_string(&DisabledJson {
            subscription_id: disabled.subscription.as_str(),
            organization: disabled.organization.as_str(),
            reason: disabled.reason.as_str(),
            disabled_at: disabled.at.to_rfc3339(),
            delivery_id: disabled.cause.to_string(),
        }),
    }
}

fn disabled_line(disabled: &SubscriptionDisabled) -> String {
    format!(
        "{:24}  subscription_disabled  {}  {}  {}",
        disabled.at.to_rfc3339(),
        for_people(disabled.organization.as_str(), SHOWN_CHARS),
        for_people(disabled.subscription.as_str(), SHOWN_CHARS),
        disabled.reason,
    )
}

fn line(result: &DeliveryResult) -> String {
    let at = result.attempted_at.map_or_else(|| "-".to_owned(), Timestamp::to_rfc3339);
    let event = result.event.map_or("-", |event| event.as_str());
    let subscription = result.subscription.as_ref().map_or("-", |id| id.as_str());
    let answer = match (result.status_code, result.error) {
        (Some(status), None | Some("status")) => status.to_string(),
        (Some(status), Some(error)) => format!("{status} {error}"),
        (None, Some(error)) => error.to_owned(),
        (None, None) => "-".to_owned(),
    };
    let mut line = format!(
        "{at:24}  {:14}  {event:17}  {}  {}  {}/{}  {answer}  {}ms  {}",
        result.outcome.as_str(),
        for_people(result.organization.as_str(), SHOWN_CHARS),
        for_people(subscription, SHOWN_CHARS),
        result.attempt,
        result.max_attempts,
        result.latency.as_millis(),
        if result.target.is_empty() { "-".to_owned() } else { for_people(&result.target, SHOWN_CHARS) },
    );
    if let Some(next) = result.next_attempt_at {
        line = format!("{line}  next {}", next.to_rfc3339());
    }
    if !result.error_text.is_empty() {
        line = format!("{line}  ({})", for_people(&result.error_text, SHOWN_CHARS));
    }
    line
}

/// A subscription that was disabled, as JSON: the names of the protobuf message.
#[derive(Serialize)]
struct DisabledJson<'a> {
    subscription_id: &'a str,
    organization: &'a str,
    reason: &'a str,
    disabled_at: String,
    delivery_id: String,
}

/// A result as JSON: the names of the protobuf message, times as RFC 3339, what does not apply as `null`.
#[derive(Serialize)]
struct Json<'a> {
    delivery_id: Option<String>,
    event_id: &'a str,
    document_id: Option<&'a str>,
    subscription_id: Option<&'a str>,
    organization: &'a str,
    project: Option<&'a str>,
    inbox: Option<&'a str>,
    event: Option<&'a str>,
    outcome: &'a str,
    document_state: &'a str,
    attempt: u32,
    max_attempts: u32,
    fan_out: u32,
    status_code: Option<u16>,
    response_body: String,
    response_body_cut: bool,
    error: Option<&'a str>,
    error_text: &'a str,
    latency_us: u64,
    attempted_at: Option<String>,
    next_attempt_at: Option<String>,
    target: &'a str,
    round: u32,
}

impl<'a> Json<'a> {
    fn of(result: &'a DeliveryResult) -> Self {
        Self {
            delivery_id: result.delivery.map(|id| id.to_string()),
            event_id: result.event_id.as_str(),
            document_id: result.document.as_ref().map(DocumentId::as_str),
            subscription_id: result.subscription.as_ref().map(SubscriptionId::as_str),
            organization: result.organization.as_str(),
            project: result.project.as_ref().map(ProjectId::as_str),
            inbox: result.inbox.as_ref().map(InboxId::as_str),
            event: result.event.map(EventName::as_str),
            outcome: result.outcome.as_str(),
            document_state: result.outcome.document_state(result.event).as_str(),
            attempt: result.attempt,
            max_attempts: result.max_attempts,
            fan_out: result.fan_out,
            status_code: result.status_code,
            response_body: String::from_utf8_lossy(&result.response_body).into_owned(),
            response_body_cut: result.response_body_cut,
            error: result.error,
            error_text: &result.error_text,
            latency_us: u64::try_from(result.latency.as_micros()).unwrap_or(u64::MAX),
            attempted_at: result.attempted_at.map(Timestamp::to_rfc3339),
            next_attempt_at: result.next_attempt_at.map(Timestamp::to_rfc3339),
            target: &result.target,
            round: result.round,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn failed() -> DeliveryResult {
        DeliveryResult {
            delivery: None,
            event_id: "evt-1".parse().unwrap(),
            document: None,
            subscription: Some("erp".parse().unwrap()),
            organization: "acme".parse().unwrap(),
            project: None,
            inbox: None,
            event: Some(EventName::DocumentText),
            outcome: Outcome::AttemptFailed,
            attempt: 2,
            max_attempts: 10,
            fan_out: 1,
            status_code: None,
            response_body: "no\n".into(),
            response_body_cut: false,
            error: Some("timeout"),
            error_text: "no answer\u{7}".to_owned(),
            latency: Duration::from_secs(15),
            attempted_at: Timestamp::from_unix(1_700_000_000, 0),
            next_attempt_at: Timestamp::from_unix(1_700_000_004, 0),
            target: "erp.example/hooks".to_owned(),
            round: 0,
        }
    }

    #[test]
    fn a_line_tells_what_became_of_it() {
        assert_eq!(
            line(&failed()),
            "2023-11-14T22:13:20.000Z  attempt_failed  document_text      acme  erp  2/10  timeout  15000ms  \
             erp.example/hooks  next 2023-11-14T22:13:24.000Z  (no answer )"
        );
    }

    #[test]
    fn a_subscription_that_was_disabled_has_a_line_and_json_of_its_own() {
        let disabled = SubscriptionDisabled {
            subscription: "erp".parse().unwrap(),
            organization: "acme".parse().unwrap(),
            reason: crate::domain::FailureKind::Gone,
            at: Timestamp::from_unix(1_700_000_000, 0).unwrap(),
            cause: "27e6b4b2-122a-51e0-a12f-bd8a1b61392a".parse().unwrap(),
        };
        assert_eq!(disabled_line(&disabled), "2023-11-14T22:13:20.000Z  subscription_disabled  acme  erp  gone");
        let json: serde_json::Value = serde_json::from_str(&json(&Notice::Disabled(disabled)).unwrap()).unwrap();
        assert_eq!((&json["subscription_id"], &json["reason"]), (&"erp".into(), &"gone".into()));
        assert_eq!(json["delivery_id"], "27e6b4b2-122a-51e0-a12f-bd8a1b61392a");
    }

    #[test]
    fn the_json_has_the_names_of_the_protobuf_message() {
        let json: serde_json::Value =
            serde_json::from_str(&serde_json::to_string(&Json::of(&failed())).unwrap()).unwrap();
        assert_eq!(json["outcome"], "attempt_failed");
        assert_eq!(json["delivery_id"], serde_json::Value::Null);
        assert_eq!(json["latency_us"], 15_000_000);
        assert_eq!(json["next_attempt_at"], "2023-11-14T22:13:24.000Z");
        assert_eq!(json["document_state"], "none");
    }
}
