//! The results of the bench, as a table and as one JSON object.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::admin::FirstAttemptLatency;
use super::args::Plan;
use super::proc::Machine;

/// One measurement of one subject. Latencies are in microseconds, sizes in bytes. Field names are the JSON output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Measurement {
    /// Acknowledged events per second within the measured time.
    pub(super) accepted_per_s: f64,
    /// Deliveries accepted by endpoints per second within the measured time.
    pub(super) delivered_per_s: f64,
    /// Requests received by endpoints per second, with any response, within the measured time.
    pub(super) attempts_per_s: f64,
    /// Requests per second that an endpoint had answered with 500 before, within the measured time.
    pub(super) retries_per_s: f64,
    /// Time from sending a request (open loop: from its due time) to its response.
    pub(super) ack: Latency,
    /// Time from the commit to the first attempt's bytes since the server's start, as reported by the server.
    pub(super) first_attempt: Option<FirstAttemptLatency>,
    /// Time from sending a request (open loop: from its due time) to the arrival of the delivery.
    pub(super) transit: Latency,
    /// CPU time of the process per delivery.
    pub(super) cpu_us_per_webhook: Option<Cpu>,
    /// CPU time of the process per accepted event.
    pub(super) cpu_us_per_event: Option<Cpu>,
    /// Bytes that the process caused to be written to storage, per accepted event.
    pub(super) written_per_event: Option<f64>,
    /// Memory usage of the process.
    pub(super) rss: Rss,
    /// Start times of the process.
    pub(super) start: StartTimes,
    /// Deliveries of acknowledged events that never arrived.
    pub(super) lost: u64,
    /// Deliveries that arrived again after the endpoint had accepted them.
    pub(super) duplicated: u64,
    /// Events whose response was not 202.
    pub(super) refused: u64,
    /// Load connections that broke.
    pub(super) broken: u64,
    /// Status and body of the first response that refused an event.
    pub(super) first_refusal: Option<String>,
}

/// Percentiles of a latency.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) p50_us: u64,
    pub(super) p95_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    pub(super) max_us: u64,
}

impl From<&hdrhistogram::Histogram<u64>> for Latency {
    fn from(all: &hdrhistogram::Histogram<u64>) -> Self {
        let at = |quantile| all.value_at_quantile(quantile);
        Self {
            count: all.len(),
            p50_us: at(0.5),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: all.max(),
        }
    }
}

/// CPU time in microseconds per delivery or per event.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Cpu {
    pub(super) total: f64,
    pub(super) user: f64,
    pub(super) system: f64,
}

/// Resident memory.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "a unit stands last in a name")]
pub(super) struct Rss {
    /// When ready, before the first webhook is created.
    pub(super) idle_bytes: u64,
    /// With the backlog of the dead webhook; `None` without a dead webhook.
    pub(super) backlog_bytes: Option<u64>,
    /// Maximum observed during the measured load.
    pub(super) loaded_bytes: u64,
    /// Peak since the start, as reported by the kernel.
    pub(super) peak_bytes: u64,
}

/// Time in milliseconds from a start to the ready line.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "a unit stands last in a name")]
pub(super) struct StartTimes {
    pub(super) first_ms: f64,
    pub(super) after_stop_ms: Option<f64>,
    pub(super) after_kill_ms: Option<f64>,
}

/// One run: one measurement of each subject.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
    /// The server, with webhooks of a provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<Measurement>,
    pub(super) hooktide: Option<Measurement>,
    pub(super) baseline: Option<Measurement>,
}

/// The report of all runs.
#[derive(Debug, Serialize)]
pub(super) struct BenchReport {
    machine: Machine,
    options: ReportOptions,
    runs: Vec<Run>,
    /// Median of each value over the runs; the maximum for `lost`, `duplicated`, `refused` and `broken`.
    median: Run,
    ratio: Option<BaselineRatio>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_ratio: Option<SourceRatio>,
}

/// The options of the bench run.
#[derive(Debug, Serialize)]
struct ReportOptions {
    connections: usize,
    webhooks: u32,
    fanout: u32,
    payload_bytes: usize,
    batch: u32,
    rate: Option<u32>,
    failing: f64,
    slow_ms: u128,
    backlog: Option<u64>,
    warmup_s: u64,
    duration_s: u64,
    runs: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Server settings from the environment.
    settings: Vec<String>,
}

/// The server relative to the baseline, computed from the medians.
#[derive(Debug, Clone, Copy, Serialize)]
struct BaselineRatio {
    delivered_per_s: f64,
    cpu_us_per_webhook: Option<f64>,
}

/// A provider's webhooks relative to `POST /api/v1/events`, computed from the medians.
#[derive(Debug, Clone, Copy, Serialize)]
struct SourceRatio {
    accepted_per_s: f64,
    cpu_us_per_event: Option<f64>,
}

impl BenchReport {
    pub(super) fn new(plan: &Plan, machine: Machine, settings: Vec<String>, runs: Vec<Run>) -> Self {
        let median = Run {
            source: median_of(runs.iter().filter_map(|run| run.source.as_ref())),
            hooktide: median_of(runs.iter().filter_map(|run| run.hooktide.as_ref())),
            baseline: median_of(runs.iter().filter_map(|run| run.baseline.as_ref())),
        };
        let ratio = median.hooktide.as_ref().zip(median.baseline.as_ref()).map(|(real, bare)| BaselineRatio {
            delivered_per_s: real.delivered_per_s / bare.delivered_per_s,
            cpu_us_per_webhook: real.cpu_us_per_webhook.zip(bare.cpu_us_per_webhook).map(|(r, b)| r.total / b.total),
        });
        let source_ratio = median.source.as_ref().zip(median.hooktide.as_ref()).map(|(source, events)| SourceRatio {
            accepted_per_s: source.accepted_per_s / events.accepted_per_s,
            cpu_us_per_event: source.cpu_us_per_event.zip(events.cpu_us_per_event).map(|(s, e)| s.total / e.total),
        });
        let traffic = plan.traffic;
        let options = ReportOptions {
            connections: plan.connections,
            webhooks: traffic.webhooks,
            fanout: traffic.fanout,
            payload_bytes: traffic.payload,
            batch: traffic.batch,
            rate: plan.rate,
            failing: traffic.failing,
            slow_ms: plan.slow.as_millis(),
            backlog: plan.backlog,
            warmup_s: plan.warmup.as_secs(),
            duration_s: plan.duration.as_secs(),
            runs: plan.runs,
            source: plan.source.as_ref().map(|source| source.kind.clone()),
            settings,
        };
        Self { machine, options, runs, median, ratio, source_ratio }
    }

    /// Whether any run lost a delivery.
    pub(super) fn has_loss(&self) -> bool {
        self.runs.iter().flat_map(|run| [&run.source, &run.hooktide, &run.baseline]).flatten().any(|one| one.lost > 0)
    }

    /// The report as a table.
    pub(super) fn table(&self) -> String {
        let mut text = self.heading();
        let Run { source, hooktide, baseline } = &self.median;
        let (source, real, bare) = (source.as_ref(), hooktide.as_ref(), baseline.as_ref());
        // Next to a provider's column, the server's column is named after its load: events.
        let (kind, events) = (self.options.source.as_deref(), if source.is_some() { "events" } else { "hooktide" });
        let columns = [source.and(kind), real.map(|_| events), bare.map(|_| "baseline")];
        let _ = write!(text, "{:34}", "");
        for name in columns.iter().flatten() {
            let _ = write!(text, "{name:>30}");
        }
        text.push('\n');
        for (name, show) in ROWS {
            let cells = [source, real, bare].map(|one| one.map(show));
            if cells.iter().flatten().all(Option::is_none) {
                continue;
            }
            let _ = write!(text, "{name:34}");
            for cell in cells.into_iter().flatten() {
                let _ = write!(text, "{:>30}", cell.unwrap_or_else(|| "-".into()));
            }
            text.push('\n');
        }
        if let Some(ratio) = self.ratio {
            let cpu = ratio.cpu_us_per_webhook.map(|cpu| format!(", {cpu:.2} of its CPU per webhook"));
            let (rate, cpu) = (ratio.delivered_per_s, cpu.unwrap_or_default());
            let _ = writeln!(text, "\n{rate:.2} of the baseline's deliveries a second{cpu}");
        }
        if let Some((ratio, kind)) = self.source_ratio.zip(kind) {
            let cpu = ratio.cpu_us_per_event.map(|cpu| format!(", {cpu:.2} of its CPU per event")).unwrap_or_default();
            let _ =
                writeln!(text, "\n{kind}: {:.2} of POST /api/v1/events accepted a second{cpu}", ratio.accepted_per_s);
        }
        if let Some(refusal) = [source, real, bare].into_iter().flatten().find_map(|one| one.first_refusal.as_ref()) {
            let _ = writeln!(text, "\nfirst refusal: {refusal}");
        }
        text
    }

    fn heading(&self) -> String {
        let (machine, options) = (&self.machine, &self.options);
        let mut text = format!(
            "{} cores of {}, Linux {}, {}\n{} connections, {} webhooks, fan-out {}, {} bytes",
            machine.cores,
            machine.cpu,
            machine.kernel,
            machine.file_system,
            options.connections,
            options.webhooks,
            options.fanout,
            options.payload_bytes
        );
        let mut add = |part: Option<String>| text.extend(part.into_iter().map(|part| format!(", {part}")));
        add((options.batch > 1).then(|| format!("arrays of {}", options.batch)));
        add(options.rate.map(|rate| format!("{rate} events/s on schedule")));
        add((options.failing > 0.0).then(|| format!("{} failing", options.failing)));
        add((options.slow_ms > 0).then(|| format!("endpoints take {} ms", options.slow_ms)));
        add(options.backlog.map(|events| format!("{events} events waiting for a dead webhook")));
        add(Some(format!("{} s after {} s", options.duration_s, options.warmup_s)));
        add((options.runs > 1).then(|| format!("medians of {} runs", options.runs)));
        options.settings.iter().for_each(|setting| add(Some(setting.clone())));
        if machine.is_memory_only() {
            text.push_str("\nThe data folder is in memory, where an fsync costs nothing: see --data-dir.");
        }
        text.push_str("\n\n");
        text
    }
}

/// The name of a row and the function that formats its cell; `None` if there is no value.
type TableRow = (&'static str, fn(&Measurement) -> Option<String>);

const ROWS: [TableRow; 17] = [
    ("accepted /s", |one| Some(format!("{:.0}", one.accepted_per_s))),
    ("delivered /s", |one| Some(format!("{:.0}", one.delivered_per_s))),
    ("retries /s", |one| (one.retries_per_s > 0.0).then(|| format!("{:.0}", one.retries_per_s))),
    ("ack p50 / p99 / p99.9 ms", |one| Some(millis(&[one.ack.p50_us, one.ack.p99_us, one.ack.p999_us]))),
    ("first attempt p50 / p95 / p99 ms", |one| {
        one.first_attempt.map(|first| millis(&[first.p50_us, first.p95_us, first.p99_us]))
    }),
    ("sent to arrived p50 / p95 / p99 ms", |one| {
        (one.transit.count > 0).then(|| millis(&[one.transit.p50_us, one.transit.p95_us, one.transit.p99_us]))
    }),
    ("CPU µs/webhook (user + system)", |one| one.cpu_us_per_webhook.map(cpu)),
    ("CPU µs/event (user + system)", |one| one.cpu_us_per_event.map(cpu)),
    ("written bytes/event", |one| one.written_per_event.map(|bytes| format!("{bytes:.0}"))),
    ("RSS idle / loaded / peak MiB", |one| {
        let rss = one.rss;
        Some([rss.idle_bytes, rss.loaded_bytes, rss.peak_bytes].map(mebibytes).join(" / "))
    }),
    ("RSS with backlog MiB", |one| one.rss.backlog_bytes.map(mebibytes)),
    ("start ms", |one| Some(format!("{:.0}", one.start.first_ms))),
    ("start after stop / kill ms", |one| {
        one.start.after_stop_ms.zip(one.start.after_kill_ms).map(|(stop, kill)| format!("{stop:.0} / {kill:.0}"))
    }),
    ("lost", |one| Some(one.lost.to_string())),
    ("duplicated", |one| Some(one.duplicated.to_string())),
    ("refused", |one| (one.refused > 0).then(|| one.refused.to_string())),
    ("broken connections", |one| (one.broken > 0).then(|| one.broken.to_string())),
];

fn millis(us: &[u64]) -> String {
    us.iter().map(|us| format!("{:.2}", *us as f64 / 1_000.0)).collect::<Vec<_>>().join(" / ")
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / f64::from(1 << 20))
}

fn cpu(cpu: Cpu) -> String {
    format!("{:.1} ({:.1} + {:.1})", cpu.total, cpu.user, cpu.system)
}

/// Median of each value; the maximum of the values that count errors. `None` without measurements.
fn median_of<'m>(measurements: impl Iterator<Item = &'m Measurement> + Clone) -> Option<Measurement> {
    let values: Vec<_> = measurements.clone().map(serde_json::to_value).collect::<Result<_, _>>().ok()?;
    let mut median: Measurement = serde_json::from_value(median(&values.iter().collect::<Vec<_>>())?).ok()?;
    for one in measurements {
        median.lost = median.lost.max(one.lost);
        median.duplicated = median.duplicated.max(one.duplicated);
        median.refused = median.refused.max(one.refused);
        median.broken = median.broken.max(one.broken);
        median.first_refusal = median.first_refusal.or_else(|| one.first_refusal.clone());
    }
    Some(median)
}

/// Median of JSON values: objects field by field; for numbers the middle value (the lower one of an even count), which
/// is a measured value.
fn median(values: &[&Value]) -> Option<Value> {
    let first = *values.first()?;
    if let Value::Object(map) = first {
        let field = |name: &String| {
            let inner: Vec<_> = values.iter().filter_map(|value| value.get(name)).collect();
            Some((name.clone(), median(&inner)?))
        };
        return Some(Value::Object(map.keys().filter_map(field).collect()));
    }
    let mut numbers: Vec<_> = values.iter().filter(|value| value.is_number()).collect();
    numbers.sort_by(|a, b| a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)));
    Some(numbers.get((numbers.len().max(1) - 1) / 2).map_or_else(|| first.clone(), |value| (**value).clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(delivered_per_s: f64, lost: u64) -> Measurement {
        let latency = Latency { count: 1, p50_us: 1_500, p95_us: 2, p99_us: 3, p999_us: 4, max_us: 5 };
        Measurement {
            accepted_per_s: delivered_per_s,
            delivered_per_s,
            attempts_per_s: delivered_per_s,
            retries_per_s: 0.0,
            ack: latency,
            first_attempt: None,
            transit: latency,
            cpu_us_per_webhook: Some(Cpu { total: 1e6 / delivered_per_s, user: 1.0, system: 2.0 }),
            cpu_us_per_event: None,
            written_per_event: Some(2048.0),
            rss: Rss { idle_bytes: 1 << 20, backlog_bytes: None, loaded_bytes: 2 << 20, peak_bytes: 3 << 20 },
            start: StartTimes { first_ms: 12.0, ..StartTimes::default() },
            lost,
            duplicated: 0,
            refused: 0,
            broken: 0,
            first_refusal: None,
        }
    }

    fn report(runs: Vec<Run>) -> BenchReport {
        let plan = <super::super::args::Args as clap::FromArgMatches>::from_arg_matches(
            &<super::super::args::Args as clap::Args>::augment_args(clap::Command::new("bench"))
                .get_matches_from(["bench"]),
        )
        .unwrap()
        .plan()
        .unwrap();
        let machine = super::super::proc::machine(std::path::Path::new("/"));
        BenchReport::new(&plan, machine, vec!["HOOKTIDE_LOG__TWO_PHASE_COMMIT=false".into()], runs)
    }

    #[test]
    fn medians_are_of_values_and_losses_are_the_maximum() {
        let runs = [(3.0, 0), (1.0, 7), (2.0, 0)];
        let runs =
            runs.map(|(rate, lost)| Run { source: None, hooktide: Some(measurement(rate, lost)), baseline: None });
        let report = report(runs.to_vec());
        let median = report.median.hooktide.as_ref().unwrap();
        assert_eq!((median.delivered_per_s, median.lost), (2.0, 7));
        assert_eq!(median.first_attempt, None);
        assert!(report.has_loss() && report.ratio.is_none());
    }

    #[test]
    fn the_ratio_is_of_the_server_to_the_baseline() {
        let run =
            Run { source: None, hooktide: Some(measurement(8_000.0, 0)), baseline: Some(measurement(10_000.0, 0)) };
        let report = report(vec![run]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["ratio"], serde_json::json!({"delivered_per_s": 0.8, "cpu_us_per_webhook": 1.25}));
        assert_eq!(json["median"]["baseline"]["delivered_per_s"], 10_000.0);
        let table = report.table();
        assert!(table.contains("0.80 of the baseline's deliveries a second, 1.25 of its CPU per webhook"), "{table}");
        assert!(table.contains("1.50 / 0.00 / 0.00") && table.contains("125.0 (1.0 + 2.0)"), "{table}");
        assert!(table.contains("HOOKTIDE_LOG__TWO_PHASE_COMMIT=false") && !table.contains("refus"), "{table}");
        assert!(!report.has_loss());
    }
    #[test]
    fn a_source_is_compared_with_events() {
        let run =
            Run { source: Some(measurement(7_500.0, 0)), hooktide: Some(measurement(10_000.0, 0)), baseline: None };
        let options = ReportOptions { source: Some("stripe".into()), ..report(Vec::new()).options };
        let table = BenchReport { options, ..report(vec![run]) }.table();
        assert!(table.contains("stripe: 0.75 of POST /api/v1/events accepted a second\n"), "{table}");
        assert!(table.contains("stripe                        events\n"), "{table}");
        let lossy = Run { source: Some(measurement(1.0, 3)), hooktide: None, baseline: None };
        assert!(report(vec![lossy]).has_loss());
    }
}
