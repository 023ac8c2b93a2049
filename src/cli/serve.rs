//! `hooktide serve`: configuration, logging, and then the server.

use std::io::IsTerminal;
use std::process::ExitCode;

use super::error::CliError;
use crate::app::{self, ServeOptions, Setup};
use crate::config::Loader;
use crate::runtime::logging::{Filter, Logging};

pub(super) fn run(loader: Loader) -> Result<ExitCode, CliError> {
    let setup = Setup::load(&loader)?;
    // The check has read the level already.
    let filter = setup.config.logging.level.parse().unwrap_or_else(|_| Filter::default());
    let logging = Logging::start(filter, setup.config.logging.json, std::io::stderr().is_terminal())?;
    let ignored = loader.environment.ignored();
    if !ignored.is_empty() {
        tracing::info!(variables = ignored.join(" "), "environment variables that mean nothing here are ignored");
    }
    for warning in &setup.warnings {
        tracing::warn!("{warning}");
    }
    Ok(app::serve(setup, &ServeOptions { dev: loader.dev, loader, logging }))
}
