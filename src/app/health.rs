//! The `/health` probe of all parts.

use std::path::Path;
use std::sync::Arc;

use super::callbacks::ThreadFailures;
use crate::admit::{ComponentHealth, ComponentState, ProcessHealth};
use crate::runtime::{Clock, Metrics};
use crate::settle::DeliveryRecords;
use crate::storage::{Disk, Poison, ReadLog, disk_reserve};

/// The probe of all parts. It reads flags, and asks the disk for its free space. `observe` updates the gauges that are
/// read with the probe.
pub(super) fn process_health(
    dir: &Path,
    disk: Arc<dyn Disk>,
    log: Poison,
    failures: Arc<ThreadFailures>,
    metrics: Arc<Metrics>,
    observe: impl Fn() + Send + Sync + 'static,
) -> Arc<ProcessHealth> {
    let dir = dir.to_path_buf();
    let probe = move || {
        vec![
            failed_if("log", log.reason().map(|reason| reason.to_string())),
            failed_if("state", failures.state().map(str::to_owned)),
            failed_if("dispatchers", failures.dispatch_ended().then(|| "a dispatch thread ended".to_owned())),
            disk_space(&*disk, &dir, metrics.writable.get() == 1),
        ]
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
