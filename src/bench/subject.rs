//! One measurement of one subject: start, warm-up, measured load, drain, comparison, stop.

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use nix::sys::signal::Signal;

use super::accounting;
use super::admin::AdminClient;
use super::args::Plan;
use super::load::{Load, LoadModel, LoadPlan, LoadResult};
use super::proc::{self, Usage};
use super::provider_load::ProviderLoadError;
use super::report::{Cpu, Latency, Measurement, Rss, StartTimes};
use super::server::{ServerError, ServerProcess, TempFolder};
use super::sink::Sink;
use super::timing::{Phase, PhaseClock};
use super::traffic::{Audience, EventTemplate, Traffic};
use crate::model::file::ADMIN_KEY;

/// Interval of the memory readings and of the checks that the process still runs.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Interval of the checks whether a wait has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Number of events per request when the backlog of the dead webhook is published.
const BACKLOG_BATCH: u32 = 100;
/// Number of connections that publish the backlog.
const BACKLOG_CONNECTIONS: usize = 16;

/// The subject of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// The server, with events from an application.
    Server,
    /// The server, with webhooks from a provider.
    Source,
    /// The baseline.
    Baseline,
}

/// The measurement failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BenchError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Source(#[from] ProviderLoadError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the server left requests without an answer for {} s after the load", .0.as_secs())]
    Unanswered(Duration),
    #[error("interrupted by {0}")]
    Interrupted(Signal),
}

/// Measures a subject once, in a new folder within `parent`.
pub(super) fn measure(
    plan: &Plan,
    subject: Subject,
    parent: &Path,
    interrupted: &Receiver<Signal>,
) -> Result<Measurement, BenchError> {
    let clock = Arc::new(PhaseClock::new());
    let folder = TempFolder::create(parent, plan.keep)?;
    let sink = Sink::start(plan.traffic, plan.slow, Arc::clone(&clock))?;
    let command = command(plan, subject, folder.path(), sink.address)?;
    let server = ServerProcess::start(command, folder.path(), &clock)?;
    let mut bench = RunningBench { plan, subject, clock, sink, server, folder, interrupted };

    let idle_bytes = proc::memory(bench.server.pid())?.resident_bytes;
    let mut start = StartTimes { first_ms: millis(bench.server.startup_time), ..StartTimes::default() };
    let key = bench.prepare()?;
    let backlog_bytes = plan.backlog.map(|events| bench.build_backlog(events, &key)).transpose()?;
    let loaded = bench.drive(&key)?;
    let expected = accounting::expected(&plan.traffic, &loaded.result.accepted);
    bench.drain(expected)?;
    let first_attempt = match subject {
        Subject::Server | Subject::Source => AdminClient::new(bench.server.address, key).first_attempt()?,
        Subject::Baseline => None,
    };
    let peak_bytes = proc::memory(bench.server.pid())?.peak_bytes;
    let RunningBench { clock, folder, sink, mut server, .. } = bench;
    let address = sink.address;
    // The sink is finished before the restarts. A restarted server may repeat deliveries whose outcome was not
    // recorded.
    let received = sink.finish()?;
    if plan.restart {
        (server, start) = restart(plan, subject, server, &folder, address, &clock, start)?;
    }
    server.stop()?;
    let discrepancies = accounting::discrepancies(&plan.traffic, &loaded.result.accepted, &received.delivery_counts);
    let readings = loaded.readings;
    Ok(Measurement {
        accepted_per_s: readings.per_s(|reading| reading.accepted),
        delivered_per_s: readings.per_s(|reading| reading.delivered),
        attempts_per_s: readings.per_s(|reading| reading.attempts),
        retries_per_s: readings.per_s(|reading| reading.retries),
        ack: Latency::from(&loaded.result.ack_us),
        first_attempt,
        transit: Latency::from(&received.transit_us),
        cpu_us_per_webhook: readings.cpu_per(|reading| reading.delivered),
        cpu_us_per_event: readings.cpu_per(|reading| reading.accepted),
        written_per_event: readings.written_per_event(),
        rss: Rss { idle_bytes, backlog_bytes, loaded_bytes: loaded.rss_bytes, peak_bytes },
        start,
        lost: discrepancies.lost,
        duplicated: discrepancies.duplicated,
        refused: loaded.refused,
        broken: loaded.broken,
        first_refusal: loaded.result.first_refusal,
    })
}

/// The running subject and the other parts of the bench.
struct RunningBench<'p> {
    plan: &'p Plan,
    subject: Subject,
    clock: Arc<PhaseClock>,
    sink: Sink,
    /// Declared before `folder`, because the process must end before its data is removed.
    server: ServerProcess,
    folder: TempFolder,
    interrupted: &'p Receiver<Signal>,
}

/// The measured values of a load.
struct LoadMeasurement {
    result: LoadResult,
    readings: MeasuredInterval,
    rss_bytes: u64,
    refused: u64,
    broken: u64,
}

impl RunningBench<'_> {
    /// Creates the webhooks and returns the API key.
    fn prepare(&self) -> Result<String, BenchError> {
        if self.subject == Subject::Baseline {
            return Ok("none".into());
        }
        let key = std::fs::read_to_string(data_dir(&self.folder).join(ADMIN_KEY))?.trim().to_owned();
        AdminClient::new(self.server.address, key.clone()).create_webhooks(&self.plan.traffic, self.sink.address)?;
        Ok(key)
    }

    /// Publishes `events` events for a webhook whose endpoint refuses connections. Returns the server's memory in
    /// bytes.
    fn build_backlog(&mut self, events: u64, key: &str) -> Result<u64, BenchError> {
        // The port is bound and closed again. It refuses connections, and the system does not assign it again soon.
        let refusing = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        AdminClient::new(self.server.address, key.to_owned()).create_dead_webhook(refusing)?;
        let traffic = Traffic { batch: BACKLOG_BATCH, ..self.plan.traffic };
        let load_plan = LoadPlan {
            target: self.server.address,
            template: self.template(&traffic, Audience::Dead, key)?,
            connections: BACKLOG_CONNECTIONS,
            batch: BACKLOG_BATCH,
            model: LoadModel::Counted { events },
        };
        let load = Load::start(load_plan, Arc::clone(&self.clock))?;
        let result = loop {
            if let Some(ended) = load.poll() {
                break ended?;
            }
            self.pause(CHECK_INTERVAL)?;
        };
        if let Some(refusal) = result.first_refusal {
            return Err(io::Error::other(format!("the backlog was refused: {refusal}")).into());
        }
        Ok(proc::memory(self.server.pid())?.resident_bytes)
    }

    /// Runs the warm-up and the measured load.
    fn drive(&mut self, key: &str) -> Result<LoadMeasurement, BenchError> {
        let Plan { traffic, connections, warmup, duration, .. } = *self.plan;
        let model = self.plan.rate.map_or(LoadModel::Closed, |rate| LoadModel::Open { rate, warmup, duration });
        let template = self.template(&traffic, Audience::Webhooks, key)?;
        let load_plan = LoadPlan { target: self.server.address, template, connections, batch: traffic.batch, model };
        let load = Load::start(load_plan, Arc::clone(&self.clock))?;
        self.wait(warmup, |_| Ok(()))?;
        let before = self.read(&load)?;
        self.clock.set_phase(Phase::Measured);
        let mut rss_bytes = 0;
        self.wait(duration, |bench| {
            rss_bytes = rss_bytes.max(proc::memory(bench.server.pid())?.resident_bytes);
            Ok(())
        })?;
        let after = self.read(&load)?;
        self.clock.set_phase(Phase::Over);
        let result = self.end(&load)?;
        let (refused, broken) = (load.counts.refused.load(Relaxed), load.counts.broken.load(Relaxed));
        Ok(LoadMeasurement { result, readings: MeasuredInterval { before, after }, rss_bytes, refused, broken })
    }

    /// Waits for the outstanding responses.
    fn end(&mut self, load: &Load) -> Result<LoadResult, BenchError> {
        let until = self.clock.now() + self.plan.drain;
        while self.clock.now() < until {
            if let Some(ended) = load.poll() {
                return Ok(ended?);
            }
            self.pause(POLL_INTERVAL)?;
        }
        Err(BenchError::Unanswered(self.plan.drain))
    }

    /// Waits until all expected deliveries have arrived, or no delivery has arrived for the drain time.
    fn drain(&mut self, expected: u64) -> Result<(), BenchError> {
        let delivered = |bench: &Self| bench.sink.counts.delivered.load(Relaxed);
        let (mut last, mut since) = (delivered(self), self.clock.now());
        while last < expected && self.clock.since(since) < self.plan.drain {
            self.pause(POLL_INTERVAL)?;
            let now = delivered(self);
            if now > last {
                (last, since) = (now, self.clock.now());
            }
        }
        Ok(())
    }

    fn template(&self, traffic: &Traffic, audience: Audience, key: &str) -> Result<EventTemplate, BenchError> {
        if let Some(source) = self.plan.source.as_ref().filter(|_| self.subject == Subject::Source)
            && audience == Audience::Webhooks
        {
            return Ok(EventTemplate::provider_webhook(traffic, &source.parts()?, &self.server.address.to_string()));
        }
        Ok(EventTemplate::new(traffic, audience, &self.server.address.to_string(), key))
    }

    /// Waits for a duration and calls `look` at intervals.
    fn wait(
        &mut self,
        during: Duration,
        mut look: impl FnMut(&Self) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let until = self.clock.now() + during;
        loop {
            let left = until.saturating_sub(self.clock.now());
            if left.is_zero() {
                return Ok(());
            }
            self.pause(left.min(CHECK_INTERVAL))?;
            look(self)?;
        }
    }

    /// Waits for a duration. Returns an error if the server exits or a signal arrives.
    fn pause(&mut self, during: Duration) -> Result<(), BenchError> {
        match self.interrupted.recv_timeout(during) {
            Ok(signal) => Err(BenchError::Interrupted(signal)),
            Err(RecvTimeoutError::Timeout) => Ok(self.server.check()?),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("signals are not watched").into()),
        }
    }

    fn read(&self, load: &Load) -> Result<CounterSnapshot, BenchError> {
        Ok(CounterSnapshot {
            at: self.clock.now(),
            usage: proc::usage(self.server.pid())?,
            accepted: load.counts.accepted.load(Relaxed),
            delivered: self.sink.counts.delivered.load(Relaxed),
            attempts: self.sink.counts.attempts.load(Relaxed),
            retries: self.sink.counts.retries.load(Relaxed),
        })
    }
}

/// Counters at one time.
#[derive(Debug, Clone, Copy)]
struct CounterSnapshot {
    at: Duration,
    usage: Usage,
    accepted: u64,
    delivered: u64,
    attempts: u64,
    retries: u64,
}

/// Counters at the start and at the end of the measured time.
#[derive(Debug, Clone, Copy)]
struct MeasuredInterval {
    before: CounterSnapshot,
    after: CounterSnapshot,
}

impl MeasuredInterval {
    fn change(&self, count: impl Fn(&CounterSnapshot) -> u64) -> f64 {
        (count(&self.after) - count(&self.before)) as f64
    }

    fn per_s(&self, count: impl Fn(&CounterSnapshot) -> u64) -> f64 {
        self.change(count) / self.after.at.saturating_sub(self.before.at).as_secs_f64()
    }

    fn cpu_per(&self, count: impl Fn(&CounterSnapshot) -> u64) -> Option<Cpu> {
        let count = Some(self.change(count)).filter(|count| *count > 0.0)?;
        let user = self.change(|reading| reading.usage.user_us) / count;
        let system = self.change(|reading| reading.usage.system_us) / count;
        Some(Cpu { total: user + system, user, system })
    }

    fn written_per_event(&self) -> Option<f64> {
        let events = Some(self.change(|reading| reading.accepted)).filter(|events| *events > 0.0)?;
        Some(self.change(|reading| reading.usage.written_bytes) / events)
    }
}

/// Measures one start after a clean stop and one start after a kill.
fn restart(
    plan: &Plan,
    subject: Subject,
    server: ServerProcess,
    folder: &TempFolder,
    sink: SocketAddr,
    clock: &PhaseClock,
    mut start: StartTimes,
) -> Result<(ServerProcess, StartTimes), BenchError> {
    let again = || -> Result<ServerProcess, BenchError> {
        Ok(ServerProcess::start(command(plan, subject, folder.path(), sink)?, folder.path(), clock)?)
    };
    server.stop()?;
    let server = again()?;
    start.after_stop_ms = Some(millis(server.startup_time));
    server.kill()?;
    let server = again()?;
    start.after_kill_ms = Some(millis(server.startup_time));
    Ok((server, start))
}

/// The command that runs this program as the subject.
fn command(plan: &Plan, subject: Subject, folder: &Path, sink: SocketAddr) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    match subject {
        Subject::Baseline => command.args(plan.baseline_args(sink)),
        Subject::Server | Subject::Source => command
            .args(serve_args(plan, subject, folder)?)
            .env("HOOKTIDE_SERVER__LISTEN", "127.0.0.1:0")
            .env("HOOKTIDE_SERVER__DATA_DIR", folder.join(DATA))
            .env("HOOKTIDE_EGRESS__ALLOW", r#"["127.0.0.0/8"]"#)
            .env("HOOKTIDE_LOGGING__FORMAT", "text")
            .env("HOOKTIDE_LOGGING__LEVEL", "warn"),
    };
    Ok(command)
}

/// Arguments of `serve`. A source is measured with its own configuration file.
fn serve_args(plan: &Plan, subject: Subject, folder: &Path) -> io::Result<Vec<OsString>> {
    let mut args = vec![OsString::from("serve")];
    if let Some(source) = plan.source.as_ref().filter(|_| subject == Subject::Source) {
        let file = folder.join("bench.toml");
        std::fs::write(&file, source.config())?;
        args.extend(["--config".into(), file.into_os_string()]);
    }
    Ok(args)
}

/// The server's data folder within the bench's folder. The bench's folder is the server's working folder and contains
/// no `hooktide.toml`.
const DATA: &str = "data";

fn data_dir(folder: &TempFolder) -> std::path::PathBuf {
    folder.path().join(DATA)
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}
