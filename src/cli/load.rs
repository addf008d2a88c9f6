//! Where commands get their settings from.

use std::path::PathBuf;

use crate::config::{self, Config};

/// The settings in force for a command.
///
/// # Errors
/// Every problem at once.
pub(super) fn load_config(files: &[PathBuf]) -> anyhow::Result<Config> {
    Ok(config::load(files, config::environment())?)
}
