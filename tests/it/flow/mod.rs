//! The whole service against a real broker and real receivers: what an event causes, and what upstream is told.

mod changes;
mod delivery;
mod invalid;
mod lanes;
mod retries;
mod stored;
