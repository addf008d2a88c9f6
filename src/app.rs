//! The composition root: builds every part of the service from its settings and runs them until they are stopped.

use crate::config::Config;

/// Runs the service until it is told to stop.
///
/// # Errors
/// Says why the service could not start.
#[expect(clippy::unused_async, reason = "the service's parts are not assembled yet")]
pub async fn run(_config: Config) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
