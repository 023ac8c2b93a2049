//! One measurement of one subject: started fresh, warmed up, measured, drained, counted, stopped.

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
use super::admin::Admin;
use super::args::Plan;
use super::inbound::InboundError;
use super::load::{Job, Load, Pace, Sent};
use super::proc::{self, Usage};
use super::report::{Cpu, Latency, Measurement, Rss, Starts};
use super::server::{Folder, Server, ServerError};
use super::sink::Sink;
use super::timing::{Phase, Stage};
use super::traffic::{Audience, Template, Traffic};
use crate::model::file::ADMIN_KEY;

/// How often memory is looked at, and whether a process still runs.
const LOOK: Duration = Duration::from_millis(200);
/// How often the end of a wait is looked for.
const GLANCE: Duration = Duration::from_millis(10);
/// The backlog of a dead webhook is published in arrays of this many events …
const BACKLOG_BATCH: u32 = 100;
/// … on this many connections.
const BACKLOG_CONNECTIONS: usize = 16;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// The real server, sent events by an application.
    Server,
    /// The real server, sent webhooks by a provider.
    Source,
    /// The bare one.
    Baseline,
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub(super) enum BenchError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Source(#[from] InboundError),
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
    let stage = Arc::new(Stage::new());
    let folder = Folder::create(parent, plan.keep)?;
    let sink = Sink::start(plan.traffic, plan.slow, Arc::clone(&stage))?;
    let command = command(plan, subject, folder.path(), sink.address)?;
    let server = Server::start(command, folder.path(), &stage)?;
    let mut bench = Bench { plan, subject, stage, sink, server, folder, interrupted };

    let idle_bytes = proc::memory(bench.server.pid())?.resident_bytes;
    let mut start = Starts { first_ms: millis(bench.server.ready_after), ..Starts::default() };
    let key = bench.prepare()?;
    let backlog_bytes = plan.backlog.map(|events| bench.build_backlog(events, &key)).transpose()?;
    let loaded = bench.drive(&key)?;
    let expected = accounting::expected(&plan.traffic, &loaded.sent.accepted);
    bench.drain(expected)?;
    let first_attempt = match subject {
        Subject::Server | Subject::Source => Admin::new(bench.server.address, key).first_attempt()?,
        Subject::Baseline => None,
    };
    let peak_bytes = proc::memory(bench.server.pid())?.peak_bytes;
    let Bench { stage, folder, sink, mut server, .. } = bench;
    let address = sink.address;
    // Before restarts, which may send again what was not yet noted as sent.
    let received = sink.finish()?;
    if plan.restart {
        (server, start) = restart(plan, subject, server, &folder, address, &stage, start)?;
    }
    server.stop()?;
    let balance = accounting::balance(&plan.traffic, &loaded.sent.accepted, &received.arrivals);
    let readings = loaded.readings;
    Ok(Measurement {
        accepted_per_s: readings.per_s(|reading| reading.accepted),
        delivered_per_s: readings.per_s(|reading| reading.delivered),
        attempts_per_s: readings.per_s(|reading| reading.attempts),
        retries_per_s: readings.per_s(|reading| reading.retries),
        ack: Latency::from(&loaded.sent.ack_us),
        first_attempt,
        transit: Latency::from(&received.transit_us),
        cpu_us_per_webhook: readings.cpu_per(|reading| reading.delivered),
        cpu_us_per_event: readings.cpu_per(|reading| reading.accepted),
        written_per_event: readings.written_per_event(),
        rss: Rss { idle_bytes, backlog_bytes, loaded_bytes: loaded.rss_bytes, peak_bytes },
        start,
        lost: balance.lost,
        duplicated: balance.duplicated,
        refused: loaded.refused,
        broken: loaded.broken,
        first_refusal: loaded.sent.first_refusal,
    })
}

/// A subject that runs, and what runs beside it.
struct Bench<'p> {
    plan: &'p Plan,
    subject: Subject,
    stage: Arc<Stage>,
    sink: Sink,
    /// Before the folder: it is ended before its data goes.
    server: Server,
    folder: Folder,
    interrupted: &'p Receiver<Signal>,
}

/// What a load came to.
struct Loaded {
    sent: Sent,
    readings: Readings,
    rss_bytes: u64,
    refused: u64,
    broken: u64,
}

impl Bench<'_> {
    /// Makes the webhooks; gives the key.
    fn prepare(&self) -> Result<String, BenchError> {
        if self.subject == Subject::Baseline {
            return Ok("none".into());
        }
        let key = std::fs::read_to_string(data_dir(&self.folder).join(ADMIN_KEY))?.trim().to_owned();
        Admin::new(self.server.address, key.clone()).make_webhooks(&self.plan.traffic, self.sink.address)?;
        Ok(key)
    }

    /// Lets events wait for a webhook that nobody answers for; gives the memory that takes.
    fn build_backlog(&mut self, events: u64, key: &str) -> Result<u64, BenchError> {
        // Bound, then closed: a port that refuses, and that nobody else is given soon.
        let refusing = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        Admin::new(self.server.address, key.to_owned()).make_dead_webhook(refusing)?;
        let traffic = Traffic { batch: BACKLOG_BATCH, ..self.plan.traffic };
        let job = Job {
            target: self.server.address,
            template: self.template(&traffic, Audience::Dead, key)?,
            connections: BACKLOG_CONNECTIONS,
            batch: BACKLOG_BATCH,
            pace: Pace::Counted { events },
        };
        let load = Load::start(job, Arc::clone(&self.stage))?;
        let sent = loop {
            if let Some(ended) = load.poll() {
                break ended?;
            }
            self.pause(LOOK)?;
        };
        if let Some(refusal) = sent.first_refusal {
            return Err(io::Error::other(format!("the backlog was refused: {refusal}")).into());
        }
        Ok(proc::memory(self.server.pid())?.resident_bytes)
    }

    /// Warm-up and measured load.
    fn drive(&mut self, key: &str) -> Result<Loaded, BenchError> {
        let Plan { traffic, connections, warmup, duration, .. } = *self.plan;
        let pace = self.plan.rate.map_or(Pace::Closed, |rate| Pace::Open { rate, warmup, duration });
        let template = self.template(&traffic, Audience::Webhooks, key)?;
        let job = Job { target: self.server.address, template, connections, batch: traffic.batch, pace };
        let load = Load::start(job, Arc::clone(&self.stage))?;
        self.wait(warmup, |_| Ok(()))?;
        let before = self.read(&load)?;
        self.stage.enter(Phase::Measured);
        let mut rss_bytes = 0;
        self.wait(duration, |bench| {
            rss_bytes = rss_bytes.max(proc::memory(bench.server.pid())?.resident_bytes);
            Ok(())
        })?;
        let after = self.read(&load)?;
        self.stage.enter(Phase::Over);
        let sent = self.end(&load)?;
        let (refused, broken) = (load.counts.refused.load(Relaxed), load.counts.broken.load(Relaxed));
        Ok(Loaded { sent, readings: Readings { before, after }, rss_bytes, refused, broken })
    }

    /// Waits for the answers to what was sent.
    fn end(&mut self, load: &Load) -> Result<Sent, BenchError> {
        let until = self.stage.now() + self.plan.drain;
        while self.stage.now() < until {
            if let Some(ended) = load.poll() {
                return Ok(ended?);
            }
            self.pause(GLANCE)?;
        }
        Err(BenchError::Unanswered(self.plan.drain))
    }

    /// Waits until all that is expected came, or nothing comes any more.
    fn drain(&mut self, expected: u64) -> Result<(), BenchError> {
        let delivered = |bench: &Self| bench.sink.counts.delivered.load(Relaxed);
        let (mut last, mut since) = (delivered(self), self.stage.now());
        while last < expected && self.stage.since(since) < self.plan.drain {
            self.pause(GLANCE)?;
            let now = delivered(self);
            if now > last {
                (last, since) = (now, self.stage.now());
            }
        }
        Ok(())
    }

    fn template(&self, traffic: &Traffic, audience: Audience, key: &str) -> Result<Template, BenchError> {
        if let Some(source) = self.plan.source.as_ref().filter(|_| self.subject == Subject::Source)
            && audience == Audience::Webhooks
        {
            return Ok(Template::inbound(traffic, &source.parts()?, &self.server.address.to_string()));
        }
        Ok(Template::new(traffic, audience, &self.server.address.to_string(), key))
    }

    /// Waits, looking up from time to time.
    fn wait(
        &mut self,
        during: Duration,
        mut look: impl FnMut(&Self) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let until = self.stage.now() + during;
        loop {
            let left = until.saturating_sub(self.stage.now());
            if left.is_zero() {
                return Ok(());
            }
            self.pause(left.min(LOOK))?;
            look(self)?;
        }
    }

    /// Waits; fails if the server ends or somebody interrupts.
    fn pause(&mut self, during: Duration) -> Result<(), BenchError> {
        match self.interrupted.recv_timeout(during) {
            Ok(signal) => Err(BenchError::Interrupted(signal)),
            Err(RecvTimeoutError::Timeout) => Ok(self.server.check()?),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("signals are not watched").into()),
        }
    }

    fn read(&self, load: &Load) -> Result<Reading, BenchError> {
        Ok(Reading {
            at: self.stage.now(),
            usage: proc::usage(self.server.pid())?,
            accepted: load.counts.accepted.load(Relaxed),
            delivered: self.sink.counts.delivered.load(Relaxed),
            attempts: self.sink.counts.attempts.load(Relaxed),
            retries: self.sink.counts.retries.load(Relaxed),
        })
    }
}

/// Counts at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Duration,
    usage: Usage,
    accepted: u64,
    delivered: u64,
    attempts: u64,
    retries: u64,
}

/// Counts at the beginning and at the end of the measured time.
#[derive(Debug, Clone, Copy)]
struct Readings {
    before: Reading,
    after: Reading,
}

impl Readings {
    fn change(&self, count: impl Fn(&Reading) -> u64) -> f64 {
        (count(&self.after) - count(&self.before)) as f64
    }

    fn per_s(&self, count: impl Fn(&Reading) -> u64) -> f64 {
        self.change(count) / self.after.at.saturating_sub(self.before.at).as_secs_f64()
    }

    fn cpu_per(&self, count: impl Fn(&Reading) -> u64) -> Option<Cpu> {
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

/// Times a start after a clean stop, and one after a kill.
fn restart(
    plan: &Plan,
    subject: Subject,
    server: Server,
    folder: &Folder,
    sink: SocketAddr,
    stage: &Stage,
    mut start: Starts,
) -> Result<(Server, Starts), BenchError> {
    let again = || -> Result<Server, BenchError> {
        Ok(Server::start(command(plan, subject, folder.path(), sink)?, folder.path(), stage)?)
    };
    server.stop()?;
    let server = again()?;
    start.after_stop_ms = Some(millis(server.ready_after));
    server.kill()?;
    let server = again()?;
    start.after_kill_ms = Some(millis(server.ready_after));
    Ok((server, start))
}

/// This program, as the subject.
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

/// `serve`, with a configuration of its own where a source is measured.
fn serve_args(plan: &Plan, subject: Subject, folder: &Path) -> io::Result<Vec<OsString>> {
    let mut args = vec![OsString::from("serve")];
    if let Some(source) = plan.source.as_ref().filter(|_| subject == Subject::Source) {
        let file = folder.join("bench.toml");
        std::fs::write(&file, source.config())?;
        args.extend(["--config".into(), file.into_os_string()]);
    }
    Ok(args)
}

/// The server's data, within the bench's folder, which is its working folder and holds no configuration.
const DATA: &str = "data";

fn data_dir(folder: &Folder) -> std::path::PathBuf {
    folder.path().join(DATA)
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}
