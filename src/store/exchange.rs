//! Reads a target that is an exchange, and which payloads go over which type of target.

use super::{
    fields::{At, Table},
    file::Defaults,
    target::{FieldsOf, timeout},
    yaml::{Kind, Notes},
};
use crate::domain::{AmqpTarget, ExchangeName, OrganizationId, Payload, RoutingKey};

/// Fields of a target that is an exchange.
pub(super) const AMQP: FieldsOf = FieldsOf { kind: "amqp", own: &["exchange", "routing_key"] };

/// A target of the type `amqp`. `organization` is `None` if it could not be read: then it is not asked whether it may use
/// the exchange.
pub(super) fn exchange(
    subscription: &Table<'_>,
    target: &Table<'_>,
    organization: Option<&OrganizationId>,
    defaults: &Defaults,
    notes: &mut Notes,
) -> Option<AmqpTarget> {
    let is_sound = no_webhooks_fields(subscription, notes);
    let exchange = target.required("exchange", notes).and_then(|at| allowed(&at, organization, defaults, notes));
    let routing_key = target.get("routing_key").map_or_else(|| Some(RoutingKey::default()), |at| key(&at, notes));
    let timeout = timeout(target, defaults, notes);
    let target = AmqpTarget { exchange: exchange?, routing_key: routing_key?, timeout: timeout? };
    is_sound.then_some(target)
}

/// Whether the payload goes over the target's type; `at` is the subscription's payload, or its target without one.
pub(super) fn check_payload(at: &At<'_>, payload: Payload, is_amqp: bool, notes: &mut Notes) -> Option<()> {
    let goes = |payload: &Payload| if is_amqp { payload.goes_over_amqp() } else { payload.goes_over_http() };
    if goes(&payload) {
        return Some(());
    }
    let fitting: Vec<_> = Payload::ALL.into_iter().filter(goes).map(Payload::as_str).collect();
    let kind = if is_amqp { "amqp" } else { "http" };
    let expected = fitting.join(", ");
    at.problem(notes, format!("the payload {payload} does not go to a target of the type {kind}: expected {expected}"));
    None
}

fn allowed(
    at: &At<'_>,
    organization: Option<&OrganizationId>,
    defaults: &Defaults,
    notes: &mut Notes,
) -> Option<ExchangeName> {
    // The default exchange has an empty name: said as such, not as a text that is missing.
    let text = if is_empty_text(at) { "" } else { at.text(notes)? };
    let exchange: ExchangeName = text.parse().map_err(|error| at.problem(notes, format!("{error}"))).ok()?;
    if let Some(organization) = organization
        && let Err(refused) = defaults.exchanges.check(organization, &exchange)
    {
        at.problem(notes, refused.to_string());
        return None;
    }
    Some(exchange)
}

fn key(at: &At<'_>, notes: &mut Notes) -> Option<RoutingKey> {
    if is_empty_text(at) {
        return Some(RoutingKey::default());
    }
    at.parsed(notes)
}

fn is_empty_text(at: &At<'_>) -> bool {
    matches!(&at.node.kind, Kind::Scalar(saphyr::Scalar::String(text)) if text.is_empty())
}

/// Notes what a subscription has that only a webhook has.
fn no_webhooks_fields(subscription: &Table<'_>, notes: &mut Notes) -> bool {
    let mut is_sound = true;
    for name in ["auth", "signing_secrets"] {
        let Some(at) = subscription.get(name) else { continue };
        if matches!(&at.node.kind, Kind::List(items) if items.is_empty()) {
            continue;
        }
        at.problem(notes, "belongs to targets of the type http: leave it out");
        is_sound = false;
    }
    is_sound
}

/// Notes what a target has that belongs to the type `other`.
pub(super) fn no_fields_of(other: &FieldsOf, target: &Table<'_>, notes: &mut Notes) {
    for name in other.own {
        if let Some(at) = target.get(name) {
            at.problem(notes, format!("belongs to targets of the type {}: leave it out", other.kind));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        domain::{EXCHANGE_CHANNELS, LaneKey, Target},
        store::file::tests::{defaults, one, problems},
    };

    fn with(target: &str, more: &str) -> String {
        format!(
            "subscriptions:\n- {{id: erp, organization: acme, events: [document_text], target: {{type: amqp, {target}}}{more}}}\n"
        )
    }

    #[test]
    fn a_target_may_be_an_exchange_with_a_lane_by_its_name() {
        let found = one(&with("exchange: erp.in, routing_key: documents, timeout: 3s", ", payload: protobuf"));
        let expected = AmqpTarget {
            exchange: "erp.in".parse().unwrap(),
            routing_key: "documents".parse().unwrap(),
            timeout: Duration::from_secs(3),
        };
        assert_eq!((&found.target, found.payload), (&Target::Amqp(expected), Payload::Protobuf));
        assert_eq!(found.target.address(), "amqp:erp.in");
        assert_eq!(found.lane.as_str(), "acme amqp:erp.in");
        assert_eq!(found.max_in_flight, EXCHANGE_CHANNELS, "the default of webhooks is more");
        let own = one(&with("exchange: erp.in", ", max_in_flight: 2"));
        assert_eq!(own.max_in_flight, 2);
        assert_eq!(own.lane, LaneKey::of_subscription(&own.organization, &own.id, &own.target));
        assert_eq!(own.target.timeout(), defaults().timeout);
        assert!(matches!(&own.target, Target::Amqp(target) if target.routing_key.as_str().is_empty()));
    }

    #[test]
    fn no_more_may_be_in_flight_at_an_exchange_than_it_has_channels() {
        let told = problems(&with("exchange: erp.in", ", max_in_flight: 5"));
        assert!(
            told.contains("max_in_flight (subscription \"erp\"): expected a whole number from 1 to 4, got 5"),
            "{told}"
        );
    }

    #[test]
    fn an_exchange_is_refused_with_its_field_unless_the_operator_allows_it() {
        let field = "subscriptions[0].target.exchange (subscription \"erp\"): ";
        for (exchange, expected) in [
            ("erp.out", "is not allowed: targets.amqp.allow does not list acme:erp.out"),
            ("\"\"", "must not be empty: the default exchange leads into every queue"),
            ("amq.topic", "must not begin with \"amq.\""),
            ("documents", "is refused: documents is one of docrelay's own exchanges"),
            ("documents.results", "is refused: documents.results is one of docrelay's own exchanges"),
            ("docrelay.park", "is refused: docrelay.park is one of docrelay's own exchanges"),
            ("7", "expected text, got a number"),
        ] {
            let told = problems(&with(&format!("exchange: {exchange}"), ""));
            assert!(told.contains(&format!("{field}{expected}")) && !told.contains('\n'), "{told}");
        }
        let others = with("exchange: erp.in", "").replace("acme", "globex");
        assert!(problems(&others).contains("does not list globex:erp.in"));
        let long = with(&format!("exchange: erp.in, routing_key: {}", "k".repeat(256)), "");
        assert!(problems(&long).contains("target.routing_key (subscription \"erp\"): must have at most 255 bytes"));
    }

    #[test]
    fn what_is_stored_already_is_read_though_the_operator_took_it_off_the_list() {
        let stored = defaults().for_stored();
        assert!(crate::store::parse(&with("exchange: erp.out", ""), &stored).is_ok());
        for own in ["documents", "docrelay.park", "amq.topic"] {
            assert!(crate::store::parse(&with(&format!("exchange: {own}"), ""), &stored).is_err(), "{own}");
        }
    }

    #[test]
    fn what_belongs_to_webhooks_is_refused_field_by_field() {
        let told = problems(&with(
            "exchange: erp.in, url: http://h/, template: true, method: POST, headers: {a: b}",
            ", auth: {authorization: hunter2}, signing_secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]",
        ));
        assert_eq!(told.lines().count(), 6, "{told}");
        for field in ["target.url", "target.template", "target.method", "target.headers", "auth", "signing_secrets"] {
            let expected = format!("{field} (subscription \"erp\"): belongs to targets of the type http: leave it out");
            assert!(told.contains(&expected), "{expected} is not in\n{told}");
        }
        assert!(!told.contains("hunter2"));
        assert!(problems(&with("routing_key: a", "")).contains("exchange is missing"));
        let webhook = with("url: http://h/, exchange: erp.in", "").replace("type: amqp", "type: http");
        assert!(
            problems(&webhook).contains("target.exchange (subscription \"erp\"): belongs to targets of the type amqp")
        );
    }

    #[test]
    fn a_payload_that_describes_a_request_does_not_go_to_an_exchange() {
        for (payload, event, more) in [
            ("idexa", "document_finish", ""),
            ("smartdocumentor_file", "document_export", ", file: {format: pdf, expires_hours: 1}"),
        ] {
            let more = format!(", payload: {payload}{more}");
            let told = problems(&with("exchange: erp.in", &more).replace("document_text", event));
            let expected = format!(
                "payload (subscription \"erp\"): the payload {payload} does not go to a target of the type amqp: expected contractfit, cloudevents, protobuf"
            );
            assert!(told.contains(&expected) && !told.contains('\n'), "{told}");
        }
        for payload in ["contractfit", "cloudevents", "protobuf"] {
            one(&with("exchange: erp.in", &format!(", payload: {payload}")));
        }
    }
}
