//! `hooktide bench`: the real server in a process of its own, driven and watched from this one.
//!
//! Promises: what is measured is the program itself, with its fsyncs; every acknowledged event is looked for at every
//! endpoint; processes are ended by the id that they were started with, and the data folder goes with them.
//!
//! Must never know: anything of the server's insides. It speaks HTTP, reads `/proc`, and counts.
//!
//! One thread sends (`load`), one receives (`sink`), this one waits and takes readings (`subject`). They share the
//! cores with the server, so both do without a library, and without allocating per request.

mod args;
mod inbound;
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
use report::{Report, Run};
use subject::{BenchError, Subject};

/// Settings of the server whose variables begin so are keys and secrets, which the report does not show.
const SECRET_PREFIX: &str = "HOOKTIDE_AUTH__";

/// Runs the bench. Exit codes: 0 done, 1 failed or something was lost, 2 options that do not go together.
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

fn measure(plan: &Plan) -> Result<Report, BenchError> {
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
    Ok(Report::new(plan, machine, settings(std::env::vars()), runs))
}

fn show(plan: &Plan, report: &Report) -> Result<(), BenchError> {
    let text = if plan.json { serde_json::to_string(report).map_err(io::Error::from)? } else { report.table() };
    writeln!(io::stdout(), "{}", text.trim_end())?;
    Ok(())
}

/// Settings of the server in the environment, sorted.
fn settings(variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let is_setting = |name: &str| name.starts_with(PREFIX) && name.contains("__");
    let shown = variables.filter(|(name, _)| is_setting(name) && !name.starts_with(SECRET_PREFIX));
    let mut settings: Vec<_> = shown.map(|(name, value)| format!("{name}={value}")).collect();
    settings.sort();
    settings
}

/// A channel that tells of SIGINT and SIGTERM, so that a stopped bench still ends its server and removes its folder.
fn interrupts() -> io::Result<Receiver<Signal>> {
    let (tell, told) = bounded(1);
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
                // Full: the first one has not been seen yet, and is enough.
                let _ = tell.try_send(which);
            }
        })
    })?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_but_not_secrets() {
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
