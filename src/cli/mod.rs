//! Commands: what `docrelay` can be told to do from a shell.

pub mod receive;
