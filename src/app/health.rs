//! What `/health` says of each part.

use std::path::Path;
use std::sync::Arc;

use super::hooks::Failures;
use crate::admit::{Health, Part, PartState};
use crate::commit::{Poison, disk_reserve};
use crate::runtime::Disk;

/// The probe over all parts: reads flags, and asks the disk for its free space.
pub(super) fn of(dir: &Path, disk: Arc<dyn Disk>, log: Poison, failures: Arc<Failures>) -> Arc<Health> {
    let dir = dir.to_path_buf();
    Arc::new(Health::new(move || {
        vec![
            failed_if("log", log.reason().map(|reason| reason.to_string())),
            failed_if("state", failures.state().map(str::to_owned)),
            failed_if("dispatchers", failures.dispatch_ended().then(|| "a dispatch thread ended".to_owned())),
            disk_space(&*disk, &dir),
        ]
    }))
}

fn failed_if(name: &'static str, reason: Option<String>) -> Part {
    let state = if reason.is_some() { PartState::Failed } else { PartState::Ok };
    Part { name, state, ready: reason.is_none(), detail: reason }
}

/// Below the reserve new events are refused while deliveries go on; no restart helps that.
fn disk_space(disk: &dyn Disk, dir: &Path) -> Part {
    let asked = disk.free_bytes(dir).and_then(|free| Ok((free, disk_reserve(disk, dir)?)));
    let (state, detail) = match asked {
        Ok((free, reserve)) if free >= reserve => (PartState::Ok, None),
        Ok((free, reserve)) => (PartState::Degraded, Some(format!("{free} bytes free; new events need {reserve}"))),
        Err(error) => (PartState::Degraded, Some(error.to_string())),
    };
    Part { name: "disk", state, ready: state == PartState::Ok, detail }
}
