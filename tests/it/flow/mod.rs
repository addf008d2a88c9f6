//! The whole service against a real broker and real receivers: what an event causes, and what upstream is told.

mod api;
mod auth;
mod changes;
mod delivery;
mod exports;
mod gone;
mod invalid;
mod lanes;
mod pause;
mod payloads;
mod retries;
mod review;
mod stored;
mod trial;

pub(crate) use self::payloads::export;
