//! What the tests share.

pub mod receiver;
