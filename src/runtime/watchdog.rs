//! The watchdog: notices a stage that has work and makes no progress.
//!
//! A stage stamps its [`Heartbeat`] with one relaxed store for each turn of its loop. One thread calls
//! [`Watchdog::check`] at a regular interval. It counts checks instead of time, so a suspended machine is no stall.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::STALL_CHECKS;

/// The heartbeats of all stages.
#[derive(Debug, Default)]
pub struct Watchdog(Mutex<Vec<WatchedStage>>);

/// The heartbeat of one stage. It belongs to the thread of the stage, which may drop it when the stage ends.
#[derive(Debug)]
pub struct Heartbeat(Arc<AtomicU64>);

/// A stage that has work and makes no progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StalledStage {
    /// The name of the stage's thread.
    pub name: Box<str>,
    /// Whether events pass through the stage.
    pub is_on_event_path: bool,
}

/// The stages whose state the last check changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WatchdogChanges {
    /// The stages that have stalled.
    pub stalled: Vec<Box<str>>,
    /// The stages that make progress again.
    pub recovered: Vec<Box<str>>,
}

#[derive(Debug)]
struct WatchedStage {
    stage: StalledStage,
    beats: Arc<AtomicU64>,
    /// The beats at the last check.
    last: u64,
    /// The number of checks in a row that found work and no progress.
    unchanged: u32,
}

/// The bit of the beats that says that the stage has work.
const WORKING: u64 = 1;
/// What one beat adds. It leaves [`WORKING`] as it is.
const BEAT: u64 = 2;

impl Watchdog {
    /// Adds a stage through which events pass.
    pub fn watch(&self, name: impl Into<Box<str>>) -> Heartbeat {
        self.add(name.into(), true)
    }

    /// Adds a thread for other work. Its stall does not make the process unready.
    pub fn watch_background(&self, name: impl Into<Box<str>>) -> Heartbeat {
        self.add(name.into(), false)
    }

    fn add(&self, name: Box<str>, is_on_event_path: bool) -> Heartbeat {
        let beats = Arc::<AtomicU64>::default();
        let stage = StalledStage { name, is_on_event_path };
        let mut stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stages.push(WatchedStage { stage, beats: Arc::clone(&beats), last: 0, unchanged: 0 });
        Heartbeat(beats)
    }

    /// Compares all heartbeats with the last check.
    pub fn check(&self) -> WatchdogChanges {
        let mut changes = WatchdogChanges::default();
        for watched in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let (beats, was_stalled) = (watched.beats.load(Ordering::Relaxed), watched.is_stalled());
            let is_unchanged = beats == watched.last && beats & WORKING != 0;
            watched.unchanged = if is_unchanged { watched.unchanged.saturating_add(1) } else { 0 };
            watched.last = beats;
            match (was_stalled, watched.is_stalled()) {
                (false, true) => changes.stalled.push(watched.stage.name.clone()),
                (true, false) => changes.recovered.push(watched.stage.name.clone()),
                _ => {}
            }
        }
        changes
    }

    /// The stages that were stalled at the last check.
    pub fn stalled(&self) -> Vec<StalledStage> {
        let stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stages.iter().filter(|watched| watched.is_stalled()).map(|watched| watched.stage.clone()).collect()
    }
}

impl WatchedStage {
    fn is_stalled(&self) -> bool {
        self.unchanged >= STALL_CHECKS
    }
}

impl Heartbeat {
    /// Records progress. The stage has work and must beat again until [`Self::idle`].
    pub fn working(&self) {
        // Only the stage's own thread writes.
        let beats = self.0.load(Ordering::Relaxed);
        self.0.store((beats | WORKING).wrapping_add(BEAT), Ordering::Relaxed);
    }

    /// Records that the stage waits for work.
    pub fn idle(&self) {
        let beats = self.0.load(Ordering::Relaxed);
        self.0.store((beats & !WORKING).wrapping_add(BEAT), Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_with_work_and_without_progress_is_stalled_until_it_makes_progress() {
        let watchdog = Watchdog::default();
        let (slow, waiting) = (watchdog.watch("slow"), watchdog.watch("waiting"));
        let background = watchdog.watch_background("background");
        slow.working();
        waiting.working();
        waiting.idle();
        background.working();
        for _ in 0..STALL_CHECKS {
            assert_eq!(watchdog.check(), WatchdogChanges::default());
            background.working();
        }
        let stalled = WatchdogChanges { stalled: vec!["slow".into()], recovered: vec![] };
        assert_eq!(watchdog.check(), stalled);
        assert_eq!(watchdog.check(), WatchdogChanges::default(), "reported once");
        assert_eq!(watchdog.stalled(), [StalledStage { name: "slow".into(), is_on_event_path: true }]);
        slow.working();
        assert_eq!(watchdog.check(), WatchdogChanges { stalled: vec![], recovered: vec!["slow".into()] });
        assert!(watchdog.stalled().is_empty());
    }

    #[test]
    fn a_stage_that_has_ended_is_not_stalled() {
        let watchdog = Watchdog::default();
        let stage = watchdog.watch("commit");
        stage.working();
        drop(stage);
        (0..2 * STALL_CHECKS).for_each(|_| _ = watchdog.check());
        assert!(watchdog.stalled().is_empty());
    }
}
