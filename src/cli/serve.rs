//! `hooktide serve`: configuration, logging, and then the server.

use std::io::IsTerminal;
use std::process::ExitCode;

use super::error::CliError;
use crate::app::{self, ServeOptions};
use crate::config::Loader;
use crate::runtime::logging::{Filter, Logging};

pub(super) fn run(loader: Loader) -> Result<ExitCode, CliError> {
    let config = loader.load()?;
    // The check has read the level already.
    let filter = config.logging.level.parse().unwrap_or_else(|_| Filter::default());
    let logging = Logging::start(filter, config.logging.json, std::io::stderr().is_terminal())?;
    let ignored = loader.environment.ignored();
    if !ignored.is_empty() {
        tracing::info!(variables = ignored.join(" "), "environment variables that mean nothing here are ignored");
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(app::serve(config, &ServeOptions { dev: loader.dev, loader, logging }))
}
