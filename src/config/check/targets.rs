//! Reads `targets.*`, and what they must be together.

use std::{path::PathBuf, sync::Arc};

use super::amqp_url;
use crate::{
    config::{AmqpTargetsConfig, BrokerConfig, TargetsConfig, read::Reader},
    domain::{BadExchange, ExchangeName, ExchangePolicy, OrganizationId, Secret},
};

/// What an entry of the list looks like.
const ENTRY: &str = "organization:exchange";

/// `targets.*`; the broker's settings say which exchanges are docrelay's own.
pub(super) fn targets(read: &mut Reader<'_>, broker: &BrokerConfig) -> TargetsConfig {
    let url = read.parsed("targets.amqp.url", |text| match text {
        "" => Ok(None),
        text => amqp_url(text).map(|url| Some(Secret::new(url))),
    });
    let ca_file = Some(read.text("targets.amqp.ca_file")).filter(|path| !path.is_empty()).map(PathBuf::from);
    let own = [&broker.events_exchange, &broker.results_exchange].map(String::clone);
    // Without a list, to judge the list by.
    let policy = ExchangePolicy::new(&broker.queue_prefix, own.clone(), []);
    let own_are_sound = read.are_sound(&["broker.queue_prefix", "broker.events_exchange", "broker.results_exchange"]);
    let mut allowed = Vec::new();
    for (text, entry) in read.list("targets.amqp.allow", ENTRY, |text| Some((text.to_owned(), entry(text)))) {
        let refused = match entry {
            Ok((organization, exchange)) => match policy.check_own(&exchange) {
                Err(refused) if own_are_sound => refused.to_string(),
                Ok(()) | Err(_) => {
                    allowed.push((organization, exchange));
                    continue;
                }
            },
            Err(problem) => problem,
        };
        read.problem("targets.amqp.allow", format!("{text:?}: {refused}"));
    }
    let exchanges = Arc::new(ExchangePolicy::new(&broker.queue_prefix, own, allowed));
    TargetsConfig { amqp: AmqpTargetsConfig { url, ca_file, exchanges } }
}

/// What the settings must be together.
pub(super) fn check_together(read: &mut Reader<'_>, targets: &TargetsConfig) {
    if !read.are_sound(&["targets.amqp.url", "targets.amqp.allow"]) {
        return;
    }
    let amqp = &targets.amqp;
    if amqp.url.is_none() && !amqp.exchanges.listed().is_empty() {
        let expected = "is needed with targets.amqp.allow: expected amqp://user:password@host:5672/vhost";
        read.problem("targets.amqp.url", expected);
    }
    if amqp.url.is_none() && amqp.ca_file.is_some() {
        read.problem("targets.amqp.ca_file", "is for targets.amqp.url, which is not set: leave it empty");
    }
}

/// The first colon divides: exchanges often have colons in their names, organizations hardly ever.
fn entry(text: &str) -> Result<(OrganizationId, ExchangeName), String> {
    let Some((organization, exchange)) = text.split_once(':') else {
        return Err(format!("expected {ENTRY}"));
    };
    let organization = organization.parse().map_err(|error| format!("expected {ENTRY}: the organization {error}"))?;
    let exchange = exchange.parse();
    let exchange = exchange.map_err(|error: BadExchange| format!("expected {ENTRY}: the exchange {error}"))?;
    Ok((organization, exchange))
}

#[cfg(test)]
mod tests {
    use crate::{
        config::{Config, Problems, load, render},
        domain::OrganizationId,
    };

    const URL: (&str, &str) = ("TARGETS__AMQP__URL", "amqp://relay:hunter2@rabbit.erp.example:5672/erp");

    fn with(variables: &[(&str, &str)]) -> Result<Config, Problems> {
        load(&[], variables.iter().map(|(name, value)| (format!("DOCRELAY__{name}"), (*value).to_owned())))
    }

    #[test]
    fn nothing_is_allowed_unless_the_operator_says_so() {
        let config = with(&[]).unwrap().targets.amqp;
        assert!(config.url.is_none() && config.ca_file.is_none());
        assert_eq!(config.exchanges.listed(), Vec::<String>::new());
    }

    #[test]
    fn the_list_names_organizations_and_exchanges_and_the_first_colon_divides() {
        let list = "acme:erp.in, acme:Contracts:DocumentIn,globex:in box";
        let config = with(&[URL, ("TARGETS__AMQP__ALLOW", list), ("TARGETS__AMQP__CA_FILE", "/ca.pem")]).unwrap();
        let amqp = &config.targets.amqp;
        assert_eq!(amqp.exchanges.listed(), ["acme:Contracts:DocumentIn", "acme:erp.in", "globex:in box"]);
        let (acme, globex): (OrganizationId, OrganizationId) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        assert!(amqp.exchanges.check(&acme, &"Contracts:DocumentIn".parse().unwrap()).is_ok());
        assert!(amqp.exchanges.check(&globex, &"erp.in".parse().unwrap()).is_err());
        let shown = render(&config);
        assert!(shown.contains("url = \"amqp://relay:***@rabbit.erp.example:5672/erp\""), "{shown}");
        assert!(!shown.contains("hunter2") && !format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn what_can_never_be_allowed_is_a_problem_of_its_own_with_the_entry() {
        let list = "acme, :erp, acme:, acme:amq.topic, acme:documents, acme:docrelay.park, acme:results, acme:fine";
        let variables = [URL, ("TARGETS__AMQP__ALLOW", list), ("BROKER__RESULTS_EXCHANGE", "results")];
        let problems = with(&variables).unwrap_err();
        let told = problems.to_string();
        assert_eq!(problems.len(), 7, "{told}");
        for expected in [
            "targets.amqp.allow: \"acme\": expected organization:exchange",
            "\":erp\": expected organization:exchange: the organization must not be empty",
            "\"acme:\": expected organization:exchange: the exchange must not be empty",
            "\"acme:amq.topic\": expected organization:exchange: the exchange must not begin with \"amq.\"",
            "\"acme:documents\": is refused: documents is one of docrelay's own exchanges",
            "\"acme:docrelay.park\": is refused",
            "\"acme:results\": is refused",
        ] {
            assert!(told.contains(expected), "{expected} is not in\n{told}");
        }
    }

    #[test]
    fn a_list_needs_a_connection_of_its_own() {
        let told = with(&[("TARGETS__AMQP__ALLOW", "acme:erp.in")]).unwrap_err().to_string();
        assert!(told.contains("targets.amqp.url: is needed with targets.amqp.allow"), "{told}");
        let told = with(&[("TARGETS__AMQP__CA_FILE", "/ca.pem")]).unwrap_err().to_string();
        assert!(told.contains("targets.amqp.ca_file: is for targets.amqp.url"), "{told}");
        let told = with(&[("TARGETS__AMQP__URL", "http://u:hunter2@h/")]).unwrap_err().to_string();
        assert!(told.contains("targets.amqp.url: must begin with amqp://") && !told.contains("hunter2"), "{told}");
    }
}
