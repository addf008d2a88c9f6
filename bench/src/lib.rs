//! The benchmark: docrelay beside the bare loop (consume, POST, publish the result, ack, and nothing else), with the
//! same broker, the same receiver and the same events.
//!
//! Three programs: `bare-loop`, `bench-receiver`, and `docrelay-bench`, which runs rounds of both and compares.
//! What is compared, and when a round does not count, is told in [`round`] and [`summary`].

pub mod broker;
pub mod events;
pub mod hung;
pub mod process;
pub mod receiver;
pub mod round;
pub mod summary;
