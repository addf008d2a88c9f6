//! Rules as pure functions and state machines: no I/O, no clock, no dice. Time is an argument.

pub mod lane;
pub mod pause;
pub mod schedule;
pub mod share;
pub mod wait;
