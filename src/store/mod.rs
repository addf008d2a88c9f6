//! Subscriptions at rest: a YAML file, read again when it changes, and a database; held in memory as an index that
//! matching reads.

mod auth;
pub mod database;
mod document;
mod edits;
mod exchange;
mod export;
mod fields;
mod file;
mod follow;
mod gone;
mod lanes;
mod limits;
mod parts;
mod reload;
mod scope;
mod snapshot;
mod subscriptions;
mod target;
mod yaml;

pub use self::{
    document::{ASIDE, BadDocument, aside, from_document, from_json, lay_over, whole},
    edits::{Change, Edits, Place},
    file::{Defaults, parse},
    follow::{StoreHandle, StoreSource},
    lanes::{KnownLane, LaneIndex, Limits, TargetPlace},
    parts::Clash,
    reload::LoadError,
    snapshot::{Found, OrganizationIndex, Snapshot},
    subscriptions::Subscriptions,
    yaml::{FileProblem, FileProblems},
};
