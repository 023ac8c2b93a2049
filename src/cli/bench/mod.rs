//! `hooktide bench`

use std::process::ExitCode;

/// `hooktide bench`
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the benchmark.
pub fn run(_: &Args) -> ExitCode {
    ExitCode::FAILURE
}
