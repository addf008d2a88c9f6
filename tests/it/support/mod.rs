//! What the tests share.

pub(crate) mod azurite;
pub(crate) mod bench;
pub(crate) mod broker;
pub(crate) mod collector;
pub(crate) mod database;
pub(crate) mod frames;
pub(crate) mod node;
pub(crate) mod page;
pub(crate) mod program;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod receiver;
pub(crate) mod results;
pub(crate) mod scrape;
pub(crate) mod service;
pub(crate) mod subscription;
