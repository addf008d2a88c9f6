//! Subscriptions at rest: a YAML file, read again when it changes, held in memory as an index that matching reads.

pub mod database;
mod fields;
mod file;
mod reload;
mod snapshot;
mod target;
mod yaml;

pub use self::{
    file::{Defaults, parse},
    reload::{LoadError, Subscriptions},
    snapshot::{Change, OrganizationIndex, Snapshot},
    yaml::{FileProblem, FileProblems},
};
