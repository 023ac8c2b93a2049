//! Implements `hooktide bench`: measures the real server, which runs in a process of its own.
//!
//! Guarantees:
//! - The bench measures the program itself, with its fsyncs.
//! - Every acknowledged event is expected at every endpoint that it matches.
//! - The bench ends a process only by the id that it was started with. The data folder is removed after the process
//!   ended.
//!
//! The bench must not know the internals of the server. It sends HTTP requests, reads `/proc`, and counts.
//!
//! One thread sends requests (`load`), one thread receives deliveries (`sink`), and the calling thread waits and reads
//! the counters (`subject`). These threads share the cores with the server. `load` and `sink` therefore use no HTTP
//! library and allocate nothing per request.

mod args;
mod provider_load;
mod traffic;

mod subject;

mod accounting;
mod load;
mod sink;
mod timing;

mod admin;
mod http;
mod proc;
mod server;

mod baseline;
mod report;

use std::io::{self, Write as _};
use std::process::ExitCode;

use crossbeam_channel::{Receiver, bounded};
use nix::sys::signal::Signal;

use crate::config::PREFIX;
pub use args::Args;
use args::{Plan, Subjects};
use report::{BenchReport, Run};
use subject::{BenchError, Subject};

/// Prefix of the environment variables that hold keys and secrets. The report does not show them.
const SECRET_PREFIX: &str = "HOOKTIDE_AUTH__";

/// Runs the bench. Exit codes: 0 success, 1 failure or a lost delivery, 2 incompatible options.
pub fn run(args: &Args) -> ExitCode {
    if let Some(plan) = args.baseline_plan() {
        return baseline::serve(plan);
    }
    let plan = match args.plan() {
        Ok(plan) => plan,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hooktide bench: {error}");
            return ExitCode::from(2);
        }
    };
    match measure(&plan).and_then(|report| show(&plan, &report).map(|()| report)) {
        Ok(report) if !report.has_loss() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hooktide bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(plan: &Plan) -> Result<BenchReport, BenchError> {
    let parent = plan.data_dir.clone().unwrap_or_else(std::env::temp_dir);
    let machine = proc::machine(&parent.canonicalize()?);
    let interrupted = interrupts()?;
    let mut runs = Vec::with_capacity(plan.runs as usize);
    for _ in 0..plan.runs {
        let one = |subject| subject::measure(plan, subject, &parent, &interrupted);
        let source = plan.source.as_ref().map(|_| one(Subject::Source)).transpose()?;
        let hooktide = (plan.subjects != Subjects::Baseline).then(|| one(Subject::Server)).transpose()?;
        let baseline = (plan.subjects != Subjects::Server).then(|| one(Subject::Baseline)).transpose()?;
        runs.push(Run { source, hooktide, baseline });
    }
    Ok(BenchReport::new(plan, machine, settings(std::env::vars()), runs))
}

fn show(plan: &Plan, report: &BenchReport) -> Result<(), BenchError> {
    let text = if plan.json { serde_json::to_string(report).map_err(io::Error::from)? } else { report.table() };
    writeln!(io::stdout(), "{}", text.trim_end())?;
    Ok(())
}

/// The server settings in the environment as `NAME=value`, sorted, without secrets.
fn settings(variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let is_setting = |name: &str| name.starts_with(PREFIX) && name.contains("__");
    let shown = variables.filter(|(name, _)| is_setting(name) && !name.starts_with(SECRET_PREFIX));
    let mut settings: Vec<_> = shown.map(|(name, value)| format!("{name}={value}")).collect();
    settings.sort();
    settings
}

/// Returns a channel that receives SIGINT and SIGTERM. An interrupted bench still ends its server and removes its
/// folder.
fn interrupts() -> io::Result<Receiver<Signal>> {
    let (sender, receiver) = bounded(1);
    std::thread::Builder::new().name("bench-signals".into()).spawn(move || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            loop {
                let which = tokio::select! {
                    _ = int.recv() => Signal::SIGINT,
                    _ = term.recv() => Signal::SIGTERM,
                };
                // The channel is full if the first signal has not been read yet. One signal is enough.
                let _ = sender.try_send(which);
            }
        })
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_shown_without_secrets() {
        let variables = [
            ("HOOKTIDE_LOG__TWO_PHASE_COMMIT", "false"),
            ("HOOKTIDE_AUTH__API_KEYS", "[]"),
            ("HOOKTIDE_KEY", "secret"),
            ("HOOKTIDE_DISPATCH__SHARDS", "1"),
            ("PATH", "/bin"),
        ];
        let settings = settings(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter());
        assert_eq!(settings, ["HOOKTIDE_DISPATCH__SHARDS=1", "HOOKTIDE_LOG__TWO_PHASE_COMMIT=false"]);
    }
}
