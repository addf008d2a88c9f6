//! The whole service against a real broker and real receivers: what an event causes, and what upstream is told.

mod api;
mod auth;
mod bundles;
mod changes;
mod delivery;
pub(crate) mod exports;
mod gone;
mod hold;
mod invalid;
mod lanes;
mod pause;
pub(crate) mod payloads;
mod retries;
mod review;
mod stored;
mod trial;

pub(crate) use self::payloads::export;
