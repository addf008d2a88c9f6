//! Reads what a subscription says of its lane: how fast it may send, and how many at once.

use super::{
    fields::{At, Names, Table},
    file::Defaults,
    yaml::Notes,
};
use crate::{
    config::ranges,
    domain::{LaneKey, OrganizationId, RateLimit, SubscriptionId, Target},
};

const RATE_LIMIT: Names = Names { known: &["per_second", "burst"], later: &[], read_only: &[] };

/// The limits of a subscription's lane.
pub(super) struct Limits {
    /// How fast it may send.
    pub(super) rate: Option<RateLimit>,
    /// How many may be in flight.
    pub(super) in_flight: u32,
    /// Whether the subscription said any of it: then the lane is its own. All others share a target's lane, and the
    /// defaults, so whoever shares a lane has the same limits.
    is_own: bool,
}

impl Limits {
    /// The lane that has these limits.
    pub(super) fn lane(&self, organization: &OrganizationId, id: &SubscriptionId, target: &Target) -> LaneKey {
        if self.is_own {
            LaneKey::of_subscription(organization, id, target)
        } else {
            LaneKey::of_target(organization, target)
        }
    }
}

/// The limits that a subscription asks for, and the defaults where it asks for nothing. `target` is `None` if it could not
/// be read: then what is asked for is checked as for a webhook.
pub(super) fn limits(
    subscription: &Table<'_>,
    target: Option<&Target>,
    defaults: &Defaults,
    notes: &mut Notes,
) -> Option<Limits> {
    let range = match target {
        Some(Target::Amqp(_)) => ranges::IN_FLIGHT_AT_EXCHANGE,
        Some(Target::Http(_)) | None => ranges::IN_FLIGHT,
    };
    let default = defaults.max_in_flight.min(*range.end());
    let own_rate = subscription.get("rate_limit").map(|at| rate_limit(&at, notes));
    let own_in_flight = subscription.get("max_in_flight").map(|at| at.number(range, notes));
    let is_own = own_rate.is_some() || own_in_flight.is_some();
    let rate = match own_rate {
        Some(own) => Some(own?),
        None => defaults.rate_limit,
    };
    Some(Limits { rate, in_flight: own_in_flight.unwrap_or(Some(default))?, is_own })
}

fn rate_limit(at: &At<'_>, notes: &mut Notes) -> Option<RateLimit> {
    let table = at.table(notes)?;
    table.check_names(&RATE_LIMIT, notes);
    let per_second = table.required("per_second", notes).and_then(|at| at.decimal(ranges::PER_SECOND, notes));
    let burst = table.get("burst").map(|at| at.number(ranges::BURST, notes));
    let burst = match burst {
        Some(burst) => Some(burst?),
        None => None,
    };
    RateLimit::new(per_second?, burst).map_err(|error| at.problem(notes, error.to_string())).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::{BURST, PER_SECOND, Subscription},
        store::{
            file::tests::{defaults, one, problems, with},
            parse,
        },
    };

    fn limit(per_second: f64, burst: u32) -> RateLimit {
        RateLimit::new(per_second, Some(burst)).unwrap()
    }

    fn of_target(found: &Subscription) -> LaneKey {
        LaneKey::of_target(&found.organization, &found.target)
    }

    fn own(found: &Subscription) -> LaneKey {
        LaneKey::of_subscription(&found.organization, &found.id, &found.target)
    }

    #[test]
    fn a_rate_limit_is_read_and_gives_a_lane_of_its_own() {
        for (text, expected) in [
            ("per_second: 10, burst: 30", limit(10.0, 30)),
            ("per_second: 10", limit(10.0, 10)),
            ("per_second: 0.25", limit(0.25, 1)),
            ("per_second: 2.5", limit(2.5, 3)),
            ("per_second: 1e3, burst: 1", limit(1000.0, 1)),
            ("per_second: 0.001, burst: 100000", limit(0.001, 100_000)),
            ("per_second: 100000", limit(100_000.0, 100_000)),
        ] {
            let found = one(&with(&format!("rate_limit: {{{text}}}")));
            assert_eq!(found.rate_limit, Some(expected), "{text}");
            assert_eq!((found.max_in_flight, &found.lane), (32, &own(&found)), "{text}");
        }
    }

    #[test]
    fn without_limits_of_its_own_it_has_the_defaults_in_its_targets_lane() {
        let limited = Defaults { rate_limit: Some(limit(5.0, 7)), ..defaults() };
        let read = |fields: &str| parse(&with(fields), &limited).unwrap().remove(0);
        let plain = read("");
        assert_eq!((plain.rate_limit, &plain.lane), (limited.rate_limit, &of_target(&plain)));
        let capped = read("max_in_flight: 3");
        assert_eq!((capped.rate_limit, capped.max_in_flight), (limited.rate_limit, 3), "one of its own, one default");
        assert_eq!(capped.lane, own(&capped));
        let faster = read("rate_limit: {per_second: 50}");
        assert_eq!((faster.rate_limit, faster.max_in_flight), (Some(limit(50.0, 50)), 32));
        assert_eq!(faster.lane, own(&faster));
        assert_eq!(one(&with("")).rate_limit, None, "there is no limit unless somebody sets one");
    }

    #[test]
    fn an_exchange_may_have_a_rate_too() {
        let fields = "rate_limit: {per_second: 100}";
        let found = one(&with(fields).replace("url: https://erp.example/hooks", "type: amqp, exchange: erp.in"));
        assert_eq!((found.rate_limit, found.max_in_flight), (Some(limit(100.0, 100)), 4));
        assert_eq!(found.lane, own(&found));
    }

    #[test]
    fn a_bad_rate_limit_is_told_by_its_field() {
        const RATE: &str = "per_second (subscription \"erp\"): expected a number from 0.001 to 100000, got ";
        const AT_ONCE: &str = "burst (subscription \"erp\"): expected a whole number from 1 to 100000, got ";
        for (text, field, got) in [
            ("{per_second: 0}", RATE, "0"),
            ("{per_second: -1}", RATE, "-1"),
            ("{per_second: 0.0009}", RATE, "0.0009"),
            ("{per_second: 100001}", RATE, "100001"),
            ("{per_second: 1e300}", RATE, "1e300"),
            ("{per_second: .nan}", RATE, "NaN"),
            ("{per_second: .inf}", RATE, "inf"),
            ("{per_second: '10'}", RATE, "text"),
            ("{per_second: }", RATE, "nothing"),
            ("{per_second: 1, burst: 0}", AT_ONCE, "0"),
            ("{per_second: 1, burst: 100001}", AT_ONCE, "100001"),
            ("{per_second: 1, burst: 1.5}", AT_ONCE, "a number"),
        ] {
            let found = problems(&with(&format!("rate_limit: {text}")));
            assert!(found.contains(&format!("subscriptions[0].rate_limit.{field}{got}")), "{text}\n{found}");
            assert!(!found.contains('\n'), "{found}");
        }
        for (text, expected) in [
            ("10", "rate_limit (subscription \"erp\"): expected a mapping, got a number"),
            ("", "rate_limit (subscription \"erp\"): expected a mapping, got nothing"),
            ("{}", "rate_limit (subscription \"erp\"): per_second is missing"),
            ("{burst: 3}", "rate_limit (subscription \"erp\"): per_second is missing"),
            (
                "{per_second: 1, brust: 3}",
                "rate_limit.brust (subscription \"erp\"): unknown field (did you mean \"burst\"?)",
            ),
        ] {
            let found = problems(&with(&format!("rate_limit: {text}")));
            assert!(found.contains(expected) && !found.contains('\n'), "{text}\n{found}");
        }
        let all = problems(&with("rate_limit: {per_second: 0, burst: 0}, max_in_flight: 0, retry: {while_down: wait}"));
        assert_eq!(all.lines().count(), 4, "{all}");
    }

    /// A subscription of the example's, to one of two targets, with what it asks for.
    fn asking(rate: Option<(f64, u32)>, in_flight: Option<u32>, at: usize) -> String {
        let rate = rate.map(|(rate, burst)| format!(", rate_limit: {{per_second: {rate}, burst: {burst}}}"));
        let in_flight = in_flight.map(|most| format!(", max_in_flight: {most}"));
        let target = ["url: http://a/", "type: amqp, exchange: erp.in"][at % 2];
        let more = rate.unwrap_or_default() + &in_flight.unwrap_or_default();
        format!("organization: acme, events: [document_text], target: {{{target}}}{more}")
    }

    proptest! {
        #[test]
        fn whoever_shares_a_lane_has_the_same_limits(
            asked in proptest::collection::vec(
                (proptest::option::of((PER_SECOND, BURST)), proptest::option::of(1u32..5), 0usize..2), 1..12),
            default in proptest::option::of((PER_SECOND, BURST)),
        ) {
            let rate_limit = default.map(|(rate, burst)| limit(rate, burst));
            let items = asked.iter().enumerate().map(|(index, (rate, most, at))| {
                format!("\n- {{id: s{index}, {}}}", asking(*rate, *most, *at))
            });
            let text = format!("subscriptions:{}", items.collect::<String>());
            let found = parse(&text, &Defaults { rate_limit, ..defaults() }).unwrap();
            for (subscription, (rate, ..)) in found.iter().zip(&asked) {
                // As it was written, to the last bit.
                let expected = rate.map_or(rate_limit, |(rate, burst)| Some(limit(rate, burst)));
                prop_assert_eq!(subscription.rate_limit, expected);
                let limits = (subscription.rate_limit, subscription.max_in_flight);
                for other in found.iter().filter(|other| other.lane == subscription.lane) {
                    prop_assert_eq!((other.rate_limit, other.max_in_flight), limits);
                }
            }
        }
    }
}
