//! Exchanges of subscribers: names, and who may publish to which. Pure; it knows no broker.

use std::{collections::HashSet, fmt, str::FromStr, sync::Arc};

use super::OrganizationId;

/// The most bytes the name of an exchange, or a routing key, may have.
pub const MAX_AMQP_NAME_BYTES: usize = 255;

/// Channels of one exchange, and so attempts in flight at it. Measured with one message under way on each, four are 3,000
/// messages a second and more.
pub const EXCHANGE_CHANNELS: u32 = 4;

/// Names that begin so are the broker's.
const BROKERS_OWN: &str = "amq.";

/// Why a text is no exchange, or no routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadExchange {
    /// The default exchange leads into every queue there is.
    #[error("must not be empty: the default exchange leads into every queue")]
    Default,
    /// A name that the broker keeps for itself.
    #[error("must not begin with \"amq.\": those exchanges are the broker's own")]
    BrokersOwn,
    /// Too long for AMQP.
    #[error("must have at most {MAX_AMQP_NAME_BYTES} bytes, has {0}")]
    TooLong(usize),
    /// The broker would take such a name for another one.
    #[error("must not have control characters or spaces at its ends")]
    Unprintable,
}

/// The name of a subscriber's exchange: never the default exchange, never one of the broker's own.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeName(Arc<str>);

impl ExchangeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ExchangeName {
    type Err = BadExchange;

    fn from_str(text: &str) -> Result<Self, BadExchange> {
        if text.is_empty() {
            return Err(BadExchange::Default);
        }
        if text.starts_with(BROKERS_OWN) {
            return Err(BadExchange::BrokersOwn);
        }
        check(text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ExchangeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ExchangeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExchangeName({:?})", &*self.0)
    }
}

/// The routing key that a subscriber's messages carry; may be empty, as for a fanout exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoutingKey(Arc<str>);

impl RoutingKey {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoutingKey {
    type Err = BadExchange;

    fn from_str(text: &str) -> Result<Self, BadExchange> {
        check(text)?;
        Ok(Self(text.into()))
    }
}

fn check(text: &str) -> Result<(), BadExchange> {
    if text.len() > MAX_AMQP_NAME_BYTES {
        return Err(BadExchange::TooLong(text.len()));
    }
    // The broker takes line ends out of names: what was checked here would be another exchange there.
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err(BadExchange::Unprintable);
    }
    Ok(())
}

/// Why an organization may not publish to an exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeRefused {
    /// One of docrelay's own exchanges, or one that events or results go through.
    #[error("is refused: {0} is one of docrelay's own exchanges")]
    Own(ExchangeName),
    /// The operator has not allowed it.
    #[error("is not allowed: targets.amqp.allow does not list {organization}:{exchange}")]
    NotAllowed {
        /// Who.
        organization: OrganizationId,
        /// Which.
        exchange: ExchangeName,
    },
}

/// Which organization may use which exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExchangePolicy {
    /// What the names of docrelay's own exchanges begin with.
    own_prefix: String,
    /// The exchanges of events and results.
    own: HashSet<String>,
    allowed: HashSet<(OrganizationId, ExchangeName)>,
    /// Whether the list is asked at all.
    any: bool,
}

impl ExchangePolicy {
    /// The policy of an installation whose queues and exchanges begin with `queue_prefix` and a dot, and which uses the
    /// exchanges `own`.
    #[must_use]
    pub fn new(
        queue_prefix: &str,
        own: impl IntoIterator<Item = String>,
        allowed: impl IntoIterator<Item = (OrganizationId, ExchangeName)>,
    ) -> Self {
        Self {
            own_prefix: format!("{queue_prefix}."),
            own: own.into_iter().collect(),
            allowed: allowed.into_iter().collect(),
            any: false,
        }
    }

    /// The same without its list. For what is stored already: a line that is taken off the list must not keep the whole
    /// store from loading. Each attempt is checked against the list all the same, and fails.
    #[must_use]
    pub fn without_list(&self) -> Self {
        Self { allowed: HashSet::new(), any: true, ..self.clone() }
    }

    /// Whether the organization may publish to the exchange. docrelay's own exchanges are refused whatever the list says.
    ///
    /// # Errors
    /// It may not; the error says why.
    pub fn check(&self, organization: &OrganizationId, exchange: &ExchangeName) -> Result<(), ExchangeRefused> {
        self.check_own(exchange)?;
        if self.any || self.allowed.contains(&(organization.clone(), exchange.clone())) {
            return Ok(());
        }
        Err(ExchangeRefused::NotAllowed { organization: organization.clone(), exchange: exchange.clone() })
    }

    /// Whether the exchange could be allowed at all.
    ///
    /// # Errors
    /// It is one of docrelay's own.
    pub fn check_own(&self, exchange: &ExchangeName) -> Result<(), ExchangeRefused> {
        if self.own.contains(exchange.as_str()) || exchange.as_str().starts_with(&self.own_prefix) {
            return Err(ExchangeRefused::Own(exchange.clone()));
        }
        Ok(())
    }

    /// What is allowed, as `organization:exchange`, in order.
    #[must_use]
    pub fn listed(&self) -> Vec<String> {
        let mut listed: Vec<_> = self.allowed.iter().map(|(who, exchange)| format!("{who}:{exchange}")).collect();
        listed.sort_unstable();
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ExchangeName {
        text.parse().unwrap()
    }

    fn policy() -> ExchangePolicy {
        let own = ["documents".to_owned(), "documents.results".to_owned()];
        let allowed =
            ["erp.in", "documents", "docrelay.park"].map(|exchange| ("acme".parse().unwrap(), name(exchange)));
        ExchangePolicy::new("docrelay", own, allowed)
    }

    #[test]
    fn the_default_exchange_and_the_brokers_own_are_no_exchanges_of_subscribers() {
        for (text, expected) in [
            ("", BadExchange::Default),
            ("amq.topic", BadExchange::BrokersOwn),
            ("amq.", BadExchange::BrokersOwn),
            ("a\n", BadExchange::Unprintable),
            ("\namq.topic", BadExchange::Unprintable),
            (" a", BadExchange::Unprintable),
        ] {
            assert_eq!(text.parse::<ExchangeName>(), Err(expected), "{text:?}");
        }
        assert_eq!("ä".repeat(128).parse::<ExchangeName>(), Err(BadExchange::TooLong(256)));
        for text in ["erp.in", "amqp", "AMQ.topic", "Contracts:Document in"] {
            assert_eq!(name(text).as_str(), text);
        }
    }

    #[test]
    fn an_exchange_is_for_the_organization_that_the_list_names_and_for_no_other() {
        let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        assert_eq!(policy().check(&acme, &name("erp.in")), Ok(()));
        for (organization, exchange) in [(&globex, "erp.in"), (&acme, "erp.out"), (&acme, "ERP.in")] {
            let refused = policy().check(organization, &name(exchange)).unwrap_err().to_string();
            assert!(refused.contains(&format!("does not list {organization}:{exchange}")), "{refused}");
        }
        let none = ExchangePolicy::default();
        assert!(none.check(&acme, &name("erp.in")).is_err(), "without a list nothing is allowed");
    }

    #[test]
    fn docrelays_own_exchanges_are_refused_whatever_the_list_says() {
        let acme = "acme".parse().unwrap();
        for policy in [policy(), policy().without_list()] {
            for own in ["documents", "documents.results", "docrelay.park", "docrelay.unrouted", "docrelay.anything"] {
                let own = name(own);
                assert_eq!(policy.check(&acme, &own), Err(ExchangeRefused::Own(own)));
            }
        }
        assert_eq!(policy().without_list().check(&acme, &name("docrelays")), Ok(()));
    }
}
