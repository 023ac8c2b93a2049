//! `hooktide serve`: loads the configuration, starts logging, and runs the server.

use std::io::IsTerminal;
use std::process::ExitCode;

use super::error::CliError;
use crate::app::{self, CompiledConfig, ServeOptions};
use crate::config::Loader;
use crate::runtime::logging::{LogFilter, LogHandle};

pub(super) fn run(loader: Loader) -> Result<ExitCode, CliError> {
    let setup = CompiledConfig::load(&loader)?;
    // Loading the configuration has already validated the level.
    let filter = setup.config.logging.level.parse().unwrap_or_else(|_| LogFilter::default());
    let logging = LogHandle::start(filter, setup.config.logging.json, std::io::stderr().is_terminal())?;
    let ignored = loader.environment.ignored();
    if !ignored.is_empty() {
        tracing::info!(variables = ignored.join(" "), "environment variables that mean nothing here are ignored");
    }
    for warning in &setup.warnings {
        tracing::warn!("{warning}");
    }
    Ok(app::serve(setup, &ServeOptions { dev: loader.dev, loader, logging }))
}
