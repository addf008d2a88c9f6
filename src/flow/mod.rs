//! The path of one event, stage by stage.

pub mod matching;
