//! Where commands get their settings and the store from.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::{
    config::{self, Config},
    domain::Secret,
    store::database::Store,
};

/// The settings in force for a command.
///
/// # Errors
/// Every problem at once.
pub(super) fn load_config(files: &[PathBuf]) -> anyhow::Result<Config> {
    Ok(config::load(files, config::environment())?)
}

/// The store that the settings name.
///
/// # Errors
/// They name none, or it cannot be opened.
pub(super) async fn open_store(config: &Config) -> anyhow::Result<Store> {
    Ok(Store::open(store_url(config)?, config.secrets.keys.clone()).await?)
}

/// The store that the settings name; made if it is not there.
///
/// # Errors
/// They name none, or it cannot be opened.
pub(super) async fn create_store(config: &Config) -> anyhow::Result<Store> {
    Ok(Store::create(store_url(config)?, config.secrets.keys.clone()).await?)
}

fn store_url(config: &Config) -> anyhow::Result<&Secret> {
    config.store.url.as_ref().context("there is no store: set store.url (DOCRELAY__STORE__URL)")
}
