//! The APIs of the products whose webhooks docrelay takes over: ContractFit's `/integrations` and IDEXA's
//! `/document_webhooks`. Each speaks of subscriptions in its own words, and is translated to the canonical ones and back.
//! What one of them made is a subscription like any other; each sees only its own.

mod address;
mod document_webhook;
mod integration;
mod operations;
mod reading;
mod routes;
mod schemas;
mod words;

use serde_json::Value;

use self::words::Words;
pub(super) use self::{
    operations::{operations, tags},
    schemas::schemas,
};
use super::{problem::FieldError, secrets::Json, view::Shown};
use crate::{domain::Subscription, store::database::Origin};

/// One of the products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Product {
    ContractFit,
    Idexa,
}

/// What somebody said in a product's words. It has no `Debug`: it may hold secrets.
#[derive(Clone, PartialEq)]
struct Said {
    /// The same in canonical words, to be stored.
    document: Json,
    /// The document with everything in it that there is no place for in the stored one, to be checked.
    rehearsal: Json,
    /// What is kept beside the document, so that it can be told again. No secret.
    aside: Json,
    /// What is wrong with it, in the product's words.
    errors: Vec<FieldError>,
    /// What the product calls the canonical fields.
    words: Words,
}

impl Product {
    fn origin(self) -> Origin {
        match self {
            Self::ContractFit => Origin::ContractFit,
            Self::Idexa => Origin::Idexa,
        }
    }

    /// What is to be made.
    fn create(self, body: &Json) -> Said {
        match self {
            Self::ContractFit => integration::create(body),
            Self::Idexa => document_webhook::create(body),
        }
    }

    /// One of its subscriptions as it is told.
    fn tell(self, shown: &Shown) -> Value {
        match self {
            Self::ContractFit => integration::tell(shown),
            Self::Idexa => document_webhook::tell(shown),
        }
    }
}

/// What a subscription says that the product which made it could not tell truly. Other APIs may change what the product
/// has no word for, and everything that it has one for.
pub(super) fn untold(origin: Origin, subscription: &Subscription) -> Vec<FieldError> {
    match origin {
        Origin::Api => Vec::new(),
        Origin::ContractFit => integration::untold(subscription),
        Origin::Idexa => document_webhook::untold(subscription),
    }
}

/// What another API may not change.
fn must_stay(at: &str, only: &str, path: &str) -> FieldError {
    let text = format!("must stay {only}: the subscription was made over {path}, which has no other; make another one");
    FieldError::at(at, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        domain::{HttpTarget, Target},
        store::{self, Defaults},
    };

    /// Its target, which is one over HTTP.
    pub(super) fn http(subscription: &Subscription) -> &HttpTarget {
        match &subscription.target {
            Target::Http(target) => target,
            Target::Amqp(_) => panic!("it is not HTTP"),
        }
    }

    /// The subscription that a canonical document is, or what is wrong with it.
    pub(super) fn checked(document: &Json) -> Result<Subscription, Vec<FieldError>> {
        let allowed = [("TARGETS__AMQP__URL", "amqp://h/"), ("TARGETS__AMQP__ALLOW", "acme:erp.in")];
        let environment = allowed.map(|(name, value)| (format!("DOCRELAY__{name}"), value.to_owned()));
        let defaults = Defaults::from(&config::load(&[], environment.into_iter()).unwrap());
        let (organization, id) = ("acme".parse().unwrap(), "a".parse().unwrap());
        let checked = store::from_json(document.clone(), &organization, &id, &defaults);
        checked.map_err(|problems| problems.iter().map(FieldError::from).collect())
    }
}
