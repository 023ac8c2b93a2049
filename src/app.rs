//! app: what is built and stopped, in what order.

use std::process::ExitCode;

use crate::config::{Config, Loader};
use crate::runtime::logging::Logging;

/// What [`serve`] needs beside the configuration.
#[derive(Debug)]
pub struct ServeOptions {
    /// Loopback only; the admin key is printed once with a ready `curl` line.
    pub dev: bool,
    /// Reads the configuration again at SIGHUP.
    pub loader: Loader,
    /// Changes the log level at SIGHUP.
    pub logging: Logging,
}

/// Runs the server until it is told to stop; 0 after a clean drain, 1 after a failure.
pub fn serve(_: Config, _: ServeOptions) -> ExitCode {
    ExitCode::FAILURE
}
