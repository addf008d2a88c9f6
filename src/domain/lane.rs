//! Lanes: the ways that deliveries take, their names, and how one stands.

use std::{fmt, str::FromStr, sync::Arc};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use uuid::Uuid;

use super::{OrganizationId, SubscriptionId, Target, TargetUrl, Timestamp};

/// The namespace of target ids. Never change it: others store them.
const NAMESPACE: Uuid = Uuid::from_u128(0x3b0c_55f4_9a0e_5d0b_a7a1_62d4_8e0f_71c9);

/// What is escaped in the parts of a lane's name, so that no part contains what stands between them.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// Which lane a delivery goes through: the target (organization, scheme, host, port; or organization and exchange), or the
/// subscription's own. Never change how its text is made: ids of targets are made of it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey(Arc<str>);

impl LaneKey {
    /// The lane of a target, shared by all subscriptions of the organization that go there.
    #[must_use]
    pub fn of_target(organization: &OrganizationId, target: &Target) -> Self {
        Self::of_place(organization, &target.place(), None)
    }

    /// The own lane of a subscription with limits of its own.
    #[must_use]
    pub fn of_subscription(organization: &OrganizationId, id: &SubscriptionId, target: &Target) -> Self {
        Self::of_place(organization, &target.place(), Some(id))
    }

    /// The lane to a place, which may be a subscription's own.
    #[must_use]
    pub fn of_place(organization: &OrganizationId, place: &str, own: Option<&SubscriptionId>) -> Self {
        let (organization, place) = (escaped(organization.as_str()), escaped(place));
        Self(match own {
            Some(id) => format!("{organization} {place} {}", escaped(id.as_str())).into(),
            None => format!("{organization} {place}").into(),
        })
    }

    /// The lane of a login, shared by all subscriptions of the organization that log in there.
    #[must_use]
    pub fn of_login(organization: &OrganizationId, login: &TargetUrl) -> Self {
        Self::of_place(organization, &format!("login:{}", login.origin()), None)
    }

    /// The lane's name, for people.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whose it is.
    #[must_use]
    pub fn organization(&self) -> Option<OrganizationId> {
        self.part(0)?.parse().ok()
    }

    /// What it leads to: scheme, host and port, or `amqp:` and the exchange. No path, and nothing secret.
    #[must_use]
    pub fn place(&self) -> String {
        self.part(1).unwrap_or_default()
    }

    /// Whose own lane it is, if it is not shared.
    #[must_use]
    pub fn subscription(&self) -> Option<SubscriptionId> {
        self.part(2)?.parse().ok()
    }

    /// What the API calls the target that it leads to. Takes a moment: it is a hash.
    #[must_use]
    pub fn id(&self) -> TargetId {
        TargetId(Uuid::new_v5(&NAMESPACE, self.0.as_bytes()))
    }

    fn part(&self, number: usize) -> Option<String> {
        let part = self.0.split(' ').nth(number)?;
        Some(percent_decode_str(part).decode_utf8_lossy().into_owned())
    }
}

impl fmt::Debug for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaneKey({})", self.0)
    }
}

fn escaped(part: &str) -> impl fmt::Display {
    utf8_percent_encode(part, ESCAPED)
}

/// The id of a target as the API shows it, that is, of a lane: the same on every replica and in every version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(Uuid);

impl TargetId {
    /// The least of all: nothing comes before it.
    pub const LEAST: Self = Self(Uuid::nil());

    /// Its sixteen bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// The id with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl FromStr for TargetId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TargetId({})", self.0)
    }
}

/// How a lane stands in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneFigure {
    /// Whether its target answers.
    pub health: LaneHealth,
    /// Since when that is so, if it is known.
    pub since: Option<Timestamp>,
    /// Requests under way.
    pub in_flight: u32,
    /// Deliveries in its line.
    pub in_line: u32,
    /// Until when nothing is sent because the target asked for that.
    pub held_until: Option<Timestamp>,
}

/// Whether a lane's target answers, as far as one process knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LaneHealth {
    /// It answered its last attempt, with whatever status.
    Answering,
    /// It did not answer its last attempt, or was not tried yet.
    #[default]
    Suspect,
    /// It has not answered for several attempts in a row.
    Down,
}

impl LaneHealth {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answering => "answering",
            Self::Suspect => "suspect",
            Self::Down => "down",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(organization: &str, place: &str, own: Option<&str>) -> LaneKey {
        let own = own.map(|own| own.parse().unwrap());
        LaneKey::of_place(&organization.parse().unwrap(), place, own.as_ref())
    }

    #[test]
    fn the_id_of_a_target_never_changes_between_versions() {
        let table = [
            (key("acme", "https://erp.example", None), "9bdc7f62-869d-538c-b731-be075a5660b5"),
            (key("acme", "https://erp.example", Some("erp")), "6114081f-ed29-5c1f-a0e5-c38be33041b2"),
            (key("acme", "amqp:erp.in", None), "34df95a5-a653-5bb4-96c1-9773e7e937d4"),
            (key("ac me", "amqp:a 100% ä", Some("s 1")), "df6540b9-40e9-5511-ba7b-5879a97e964f"),
        ];
        let ids = table.each_ref().map(|(key, _)| key.id().to_string());
        assert_eq!(ids, table.map(|(_, expected)| expected));
    }

    proptest! {
        #[test]
        fn no_two_lanes_have_the_same_name_whatever_their_parts_contain(
            one in ("[a %]{1,4}", "[a %]{1,4}", proptest::option::of("[a %]{1,4}")),
            other in ("[a %]{1,4}", "[a %]{1,4}", proptest::option::of("[a %]{1,4}")),
        ) {
            let of = |it: &(String, String, Option<String>)| key(&it.0, &it.1, it.2.as_deref());
            prop_assert_eq!(of(&one) == of(&other), one == other);
            prop_assert_eq!(of(&one).id() == of(&other).id(), one == other);
        }

        #[test]
        fn a_lane_knows_where_it_leads_and_whose_it_is(place in ".{1,40}", own in proptest::option::of(".{1,16}")) {
            let lane = key("acme", &place, own.as_deref());
            prop_assert_eq!(lane.organization(), "acme".parse().ok());
            prop_assert_eq!(lane.place(), place);
            prop_assert_eq!(lane.subscription().map(|it| it.as_str().to_owned()), own);
        }
    }
}
