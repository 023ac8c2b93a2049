//! The options of the bench, and the checked plan built from them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::provider_load::{ProviderLoad, ProviderLoadError};
use super::traffic::Traffic;

/// Number of webhooks without `--webhooks`, rounded up to a multiple of `--fanout`.
const WEBHOOKS_DEFAULT: u32 = 16;
/// Number of events in the backlog without `--backlog`.
const BACKLOG_DEFAULT: u64 = 100_000;
/// Maximum deliveries in flight to one webhook of the server (`delivery.max_in_flight`).
const IN_FLIGHT_PER_WEBHOOK: u32 = 8;
/// Maximum deliveries in flight of the baseline, the same number as for a shard.
const IN_FLIGHT_MAX: u32 = 1_024;

/// Measures this machine: starts the real server on a temporary folder, drives it, and counts what arrives.
///
/// Environment variables `HOOKTIDE_<SECTION>__<KEY>` reach the server, so that a setting can be measured against another;
/// the report names those in force.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "command-line switches; `Plan` is what the rest reads")]
pub struct Args {
    /// Seconds that are measured
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
    /// Seconds of load before that
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    warmup: u64,
    /// Connections that publish; each has one request in flight
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    connections: u32,
    /// Webhooks, a multiple of --fanout [default: 16, or the next multiple]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    webhooks: Option<u32>,
    /// Bytes of an event's `data`
    #[arg(long, value_name = "BYTES", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(128..=1_000_000))]
    payload: u32,
    /// Webhooks that each event goes to; 0: events match none
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    fanout: u32,
    /// Open loop: events a second on a constant schedule, latency counted from the scheduled time
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    /// Events in a request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    batch: u32,
    /// Share of the webhooks whose endpoint answers 500
    #[arg(long, value_name = "RATIO", default_value_t = 0.0)]
    failing: f64,
    /// Milliseconds that endpoints take to answer
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    slow: u64,
    /// One webhook more, whose endpoint refuses connections, with a backlog
    #[arg(long)]
    dead: bool,
    /// Events that wait for the dead webhook before the load begins [default: 100000]
    #[arg(long, value_name = "N", requires = "dead", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    backlog: Option<u64>,
    /// After the load: time from start to ready after a clean stop, and after a kill
    #[arg(long)]
    restart: bool,
    /// Alternate with a bare hyper server and client that only pass the body on: the ceiling of this machine
    #[arg(long)]
    baseline: bool,
    /// Alternate with webhooks of a provider, signed as this kind signs (stripe, shopify, github, …), each of --payload bytes
    #[arg(long, value_name = "KIND", conflicts_with_all = ["batch", "baseline_only"])]
    source: Option<String>,
    /// Measure only that ceiling
    #[arg(long, conflicts_with = "baseline")]
    baseline_only: bool,
    /// Times that all is measured; medians are shown
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// Seconds without a delivery after which what is missing counts as lost
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    drain: u64,
    /// Folder to make the data folder in [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep the data folder
    #[arg(long)]
    keep: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Be the bare server, which passes on to this address
    #[arg(long, value_name = "ADDR", hide = true)]
    baseline_server: Option<SocketAddr>,
}

/// The subjects of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subjects {
    /// Only the server.
    Server,
    /// The server and the baseline, in turns.
    Both,
    /// Only the baseline.
    Baseline,
}

/// The checked options.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) subjects: Subjects,
    /// The provider whose webhooks are measured as well; `None` without `--source`.
    pub(super) source: Option<ProviderLoad>,
    pub(super) runs: u32,
    pub(super) traffic: Traffic,
    pub(super) connections: usize,
    /// Events per second (open loop); `None` is a closed loop.
    pub(super) rate: Option<u32>,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
    pub(super) drain: Duration,
    /// Time that the endpoints wait before they respond.
    pub(super) slow: Duration,
    /// Number of events queued for the dead webhook; `None` if there is no dead webhook.
    pub(super) backlog: Option<u64>,
    pub(super) restart: bool,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) keep: bool,
    pub(super) json: bool,
}

/// Parameters of the baseline process.
#[derive(Debug, Clone, Copy)]
pub(super) struct BaselinePlan {
    /// Address of the sink, which receives the bodies.
    pub(super) sink: SocketAddr,
    /// Number of copies of each body.
    pub(super) fanout: u32,
    /// Maximum deliveries in flight.
    pub(super) in_flight: u32,
}

/// Invalid or incompatible options.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum PlanError {
    #[error(transparent)]
    Source(#[from] ProviderLoadError),
    #[error("--webhooks {webhooks}: must be a multiple of --fanout {fanout}")]
    NotAMultiple { webhooks: u32, fanout: u32 },
    #[error("--failing {0}: must be between 0 and 1")]
    Ratio(f64),
    #[error("--rate {rate}: must be at least --batch {batch}")]
    RateBelowBatch { rate: u32, batch: u32 },
    #[error(
        "--baseline: takes no --batch, --failing, --dead, --restart or --fanout 0, which a bare server knows nothing of"
    )]
    UnsupportedByBaseline,
}

impl Args {
    /// Checks the options and builds the plan.
    pub(super) fn plan(&self) -> Result<Plan, PlanError> {
        let (fanout, batch) = (self.fanout, self.batch);
        let step = fanout.max(1);
        let webhooks = self.webhooks.unwrap_or_else(|| WEBHOOKS_DEFAULT.next_multiple_of(step));
        if !webhooks.is_multiple_of(step) {
            return Err(PlanError::NotAMultiple { webhooks, fanout });
        }
        if !(0.0..=1.0).contains(&self.failing) {
            return Err(PlanError::Ratio(self.failing));
        }
        if let Some(rate) = self.rate
            && rate < batch
        {
            return Err(PlanError::RateBelowBatch { rate, batch });
        }
        let subjects = match (self.baseline, self.baseline_only) {
            (_, true) => Subjects::Baseline,
            (true, false) => Subjects::Both,
            (false, false) => Subjects::Server,
        };
        let beyond = batch > 1 || fanout == 0 || self.failing > 0.0 || self.dead || self.restart;
        if subjects != Subjects::Server && beyond {
            return Err(PlanError::UnsupportedByBaseline);
        }
        let source = self.source.as_deref().map(ProviderLoad::try_new).transpose()?;
        Ok(Plan {
            subjects,
            source,
            runs: self.runs,
            traffic: Traffic { webhooks, fanout, batch, payload: self.payload as usize, failing: self.failing },
            connections: self.connections as usize,
            rate: self.rate,
            warmup: Duration::from_secs(self.warmup),
            duration: Duration::from_secs(self.duration),
            drain: Duration::from_secs(self.drain),
            slow: Duration::from_millis(self.slow),
            backlog: self.dead.then(|| self.backlog.unwrap_or(BACKLOG_DEFAULT)),
            restart: self.restart,
            data_dir: self.data_dir.clone(),
            keep: self.keep,
            json: self.json,
        })
    }

    /// The parameters of the baseline process; `None` if this process is the bench.
    pub(super) fn baseline_plan(&self) -> Option<BaselinePlan> {
        let sink = self.baseline_server?;
        let webhooks = self.webhooks.unwrap_or(WEBHOOKS_DEFAULT);
        let in_flight = webhooks.saturating_mul(IN_FLIGHT_PER_WEBHOOK).min(IN_FLIGHT_MAX);
        Some(BaselinePlan { sink, fanout: self.fanout.max(1), in_flight })
    }
}

impl Plan {
    /// The command line arguments that start this program as the baseline.
    pub(super) fn baseline_args(&self, sink: SocketAddr) -> Vec<String> {
        let (webhooks, fanout) = (self.traffic.webhooks, self.traffic.fanout);
        vec![
            "bench".into(),
            format!("--baseline-server={sink}"),
            format!("--webhooks={webhooks}"),
            format!("--fanout={fanout}"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn plan(line: &str) -> Result<Plan, PlanError> {
        Command::try_parse_from(std::iter::once("bench").chain(line.split_whitespace())).unwrap().args.plan()
    }

    #[test]
    fn webhooks_follow_the_fanout() {
        assert_eq!(plan("").unwrap().traffic.webhooks, 16);
        assert_eq!(plan("--fanout 20").unwrap().traffic.webhooks, 20);
        assert_eq!(plan("--fanout 5").unwrap().traffic.webhooks, 20);
        assert_eq!(plan("--fanout 0").unwrap().traffic.webhooks, 16);
        let refused = plan("--fanout 20 --webhooks 30").unwrap_err();
        assert_eq!(refused, PlanError::NotAMultiple { webhooks: 30, fanout: 20 });
    }

    #[test]
    fn what_a_bare_server_cannot_do_is_refused_beside_it() {
        for line in ["--batch 2", "--failing 0.5", "--dead", "--restart", "--fanout 0"] {
            assert!(plan(line).is_ok(), "{line}");
            assert_eq!(plan(&format!("--baseline {line}")).unwrap_err(), PlanError::UnsupportedByBaseline, "{line}");
            assert_eq!(
                plan(&format!("--baseline-only {line}")).unwrap_err(),
                PlanError::UnsupportedByBaseline,
                "{line}"
            );
        }
        assert_eq!(plan("--baseline --fanout 4").unwrap().subjects, Subjects::Both);
    }

    #[test]
    fn a_source_is_a_kind_that_can_be_signed() {
        assert_eq!(plan("--source stripe --fanout 4").unwrap().source.unwrap().kind, "stripe");
        assert!(matches!(plan("--source paypal"), Err(PlanError::Source(_))));
        assert!(Command::try_parse_from(["bench", "--source", "stripe", "--batch", "2"]).is_err());
    }

    #[test]
    fn ratios_and_rates_have_bounds() {
        assert_eq!(plan("--failing 1.5").unwrap_err(), PlanError::Ratio(1.5));
        assert_eq!(plan("--rate 10 --batch 100").unwrap_err(), PlanError::RateBelowBatch { rate: 10, batch: 100 });
    }

    #[test]
    fn the_baseline_arguments_come_from_the_plan() {
        let plan = plan("--fanout 3 --webhooks 6 --baseline").unwrap();
        let line = plan.baseline_args(([127, 0, 0, 1], 9).into());
        let baseline = Command::try_parse_from(line).unwrap().args.baseline_plan().unwrap();
        assert_eq!((baseline.sink.port(), baseline.fanout, baseline.in_flight), (9, 3, 48));
    }
}
