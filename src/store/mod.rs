//! Subscriptions at rest: a YAML file, read again when it changes, and a database; held in memory as an index that
//! matching reads.

mod auth;
pub mod database;
mod document;
mod exchange;
mod export;
mod fields;
mod file;
mod follow;
mod reload;
mod snapshot;
mod stored;
mod target;
mod yaml;

pub use self::{
    document::{BadDocument, from_document},
    file::{Defaults, parse},
    follow::{StoreHandle, StoreSource},
    reload::{LoadError, Subscriptions},
    snapshot::{Change, OrganizationIndex, Snapshot},
    yaml::{FileProblem, FileProblems},
};
