//! What `/health` says of each part.

use std::path::Path;
use std::sync::Arc;

use super::callbacks::Failures;
use crate::admit::{Health, Part, PartState};
use crate::runtime::{Clock, Metrics};
use crate::settle::Records;
use crate::storage::{Disk, Poison, ReadLog, disk_reserve};

/// The probe over all parts: reads flags, and asks the disk for its free space. `observe` is for the figures beside it.
pub(super) fn of(
    dir: &Path,
    disk: Arc<dyn Disk>,
    log: Poison,
    failures: Arc<Failures>,
    metrics: Arc<Metrics>,
    observe: impl Fn() + Send + Sync + 'static,
) -> Arc<Health> {
    let dir = dir.to_path_buf();
    let probe = move || {
        vec![
            failed_if("log", log.reason().map(|reason| reason.to_string())),
            failed_if("state", failures.state().map(str::to_owned)),
            failed_if("dispatchers", failures.dispatch_ended().then(|| "a dispatch thread ended".to_owned())),
            disk_space(&*disk, &dir, metrics.writable.get() == 1),
        ]
    };
    Arc::new(Health::new(probe, observe))
}

/// Looks at how much waits and for how long: that grows while settle has nothing to do.
pub(super) fn observer(
    records: Records,
    log: Arc<dyn ReadLog>,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> impl Fn() + Send + Sync + 'static {
    move || {
        if let Err(error) = records.observe(&*log, clock.now(), &metrics) {
            tracing::warn!(%error, "how much waits cannot be read");
        }
    }
}

fn failed_if(name: &'static str, reason: Option<String>) -> Part {
    let state = if reason.is_some() { PartState::Failed } else { PartState::Ok };
    Part { name, state, ready: reason.is_none(), detail: reason }
}

/// Below the reserve new events are refused while deliveries go on; no restart helps that.
fn disk_space(disk: &dyn Disk, dir: &Path, is_writable: bool) -> Part {
    let asked = disk.free_bytes(dir).and_then(|free| Ok((free, disk_reserve(disk, dir)?)));
    let (state, detail) = match asked {
        Ok((free, reserve)) if free >= reserve && is_writable => (PartState::Ok, None),
        Ok((free, reserve)) if free >= reserve => {
            (PartState::Degraded, Some("there is no room for the ballast file".to_owned()))
        }
        Ok((free, reserve)) => (PartState::Degraded, Some(format!("{free} bytes free; new events need {reserve}"))),
        Err(error) => (PartState::Degraded, Some(error.to_string())),
    };
    Part { name: "disk", state, ready: state == PartState::Ok, detail }
}
