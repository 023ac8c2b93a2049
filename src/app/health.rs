//! The `/health` probe of all parts.

use std::path::Path;
use std::sync::Arc;

use super::callbacks::ThreadFailures;
use crate::admit::{ComponentHealth, ComponentState, ProcessHealth};
use crate::bus::EventBusHandle;
use crate::handoff::CommitHandle;
use crate::limits::{STALL_CHECK_INTERVAL, STALL_CHECKS};
use crate::runtime::{Clock, Metrics, StalledStage};
use crate::settle::DeliveryRecords;
use crate::storage::{Disk, Poison, ReadLog, disk_reserve};

/// The parts that the probe observes.
pub(super) struct HealthParts {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) log: Poison,
    pub(super) failures: Arc<ThreadFailures>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) commit: CommitHandle,
    /// `None`: there is no event bus.
    pub(super) bus: Option<EventBusHandle>,
}

/// The probe of all parts. It reads flags, and asks the disk for its free space. `observe` updates the gauges that are
/// read with the probe.
pub(super) fn process_health(
    dir: &Path,
    parts: HealthParts,
    observe: impl Fn() + Send + Sync + 'static,
) -> Arc<ProcessHealth> {
    let dir = dir.to_path_buf();
    let HealthParts { disk, log, failures, metrics, commit, bus } = parts;
    let probe = move || {
        let mut components = vec![
            failed_if("log", log.reason().map(|reason| reason.to_string())),
            failed_if("state", failures.state().map(str::to_owned)),
            failed_if("dispatchers", failures.dispatch_ended().then(|| "a dispatch thread ended".to_owned())),
            disk_space(&*disk, &dir, metrics.writable.get() == 1),
            queues(commit.is_full()),
            stages(&metrics.watchdog.stalled()),
        ];
        components.extend(bus.as_ref().map(|bus| event_bus(bus.problem())));
        components
    };
    Arc::new(ProcessHealth::new(probe, observe))
}

/// Updates the gauges for the size and age of the backlog, which grow even while settle is idle.
pub(super) fn observer(
    records: DeliveryRecords,
    log: Arc<dyn ReadLog>,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> impl Fn() + Send + Sync + 'static {
    move || {
        if let Err(error) = records.refresh_metrics(&*log, clock.now(), &metrics) {
            tracing::warn!(%error, "how much waits cannot be read");
        }
    }
}

fn failed_if(name: &'static str, reason: Option<String>) -> ComponentHealth {
    let state = if reason.is_some() { ComponentState::Failed } else { ComponentState::Ok };
    ComponentHealth { name, state, ready: reason.is_none(), detail: reason }
}

/// Without the broker, deliveries wait and events are accepted. A restart does not help.
fn event_bus(problem: Option<String>) -> ComponentHealth {
    let state = if problem.is_some() { ComponentState::Degraded } else { ComponentState::Ok };
    ComponentHealth { name: "nats", state, ready: true, detail: problem }
}

/// With a full queue, new events are refused until the stage behind the queue has made room.
fn queues(are_full: bool) -> ComponentHealth {
    let state = if are_full { ComponentState::Degraded } else { ComponentState::Ok };
    let detail = are_full.then(|| "a queue between two stages is full: new events are refused".to_owned());
    ComponentHealth { name: "queues", state, ready: !are_full, detail }
}

/// A stage on the way of events without progress needs a restart, unless it recovers. Other threads do not stop events.
fn stages(stalled: &[StalledStage]) -> ComponentHealth {
    let is_failed = stalled.iter().any(|stage| stage.is_on_event_path);
    let state = match stalled {
        [] => ComponentState::Ok,
        _ if is_failed => ComponentState::Failed,
        _ => ComponentState::Degraded,
    };
    let names: Vec<&str> = stalled.iter().map(|stage| &*stage.name).collect();
    let seconds = (STALL_CHECK_INTERVAL * STALL_CHECKS).as_secs();
    let detail = (!names.is_empty())
        .then(|| format!("work waits and no progress for more than {seconds} s: {}", names.join(", ")));
    ComponentHealth { name: "stages", state, ready: !is_failed, detail }
}

/// With less free space than the reserve, new events are refused and deliveries go on. A restart does not help.
fn disk_space(disk: &dyn Disk, dir: &Path, is_writable: bool) -> ComponentHealth {
    let asked = disk.free_bytes(dir).and_then(|free| Ok((free, disk_reserve(disk, dir)?)));
    let (state, detail) = match asked {
        Ok((free, reserve)) if free >= reserve && is_writable => (ComponentState::Ok, None),
        Ok((free, reserve)) if free >= reserve => {
            (ComponentState::Degraded, Some("there is no room for the ballast file".to_owned()))
        }
        Ok((free, reserve)) => {
            (ComponentState::Degraded, Some(format!("{free} bytes free; new events need {reserve}")))
        }
        Err(error) => (ComponentState::Degraded, Some(error.to_string())),
    };
    ComponentHealth { name: "disk", state, ready: state == ComponentState::Ok, detail }
}
