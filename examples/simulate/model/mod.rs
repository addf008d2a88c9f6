//! A world of replicas, a broker and targets in virtual time, with docrelay's own rules: the lanes, the split of waits into
//! hops, the retry schedule, the replicas' shares. One heap of what happens next; no threads, no clock. The same seed gives
//! the same run.
//!
//! Reading order: `setting` (what a run is made of), `world` (what happens next), `carry` (one delivery; as `flow::carry`
//! does it), `replica` (lines, the hall), `target` (who answers, and how), `figures` (what is counted).
//!
//! What is not modelled: the time of the processor and of confirms, connections that are lost, big events.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the numbers of replicas, targets and deliveries are the world's own, and its figures are no money"
)]

mod broker;
mod carry;
mod figures;
mod histogram;
mod replica;
mod setting;
mod target;
mod world;

pub(crate) use self::{
    figures::{Figures, GroupFigures},
    setting::{Change, Group, Setting, Trouble, Troubled},
    target::Latency,
    world::World,
};
