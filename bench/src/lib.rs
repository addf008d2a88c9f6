//! The benchmark: docrelay beside the bare loop (consume, POST, publish the result, ack, and nothing else), with the
//! same broker, the same receiver and the same events.
//!
//! Three programs: `bare-loop`, `bench-receiver`, and `docrelay-bench`, which runs rounds of both and compares.
//! What is compared, and when a round does not count, is told in [`round`] and [`summary`].
//!
//! What traces cost is measured with docrelay alone ([`tracing`]).
//!
//! The second part measures docrelay alone: what its targets do to each other, with the publisher ([`schedule`]) and the
//! receivers ([`targets`]) in this process, so that both read one clock.

pub mod backlog;
pub mod board;
pub mod broker;
pub mod events;
pub mod hung;
pub mod isolation;
pub mod latency;
pub mod limiter;
pub mod outage;
pub mod part_one;
pub mod part_two;
pub mod process;
pub mod receiver;
pub mod round;
pub mod schedule;
pub mod service;
pub mod stage;
pub mod summary;
pub mod tap;
pub mod targets;
pub mod tracing;
