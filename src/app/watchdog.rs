//! The watchdog thread: reports stages that make no progress, and ends the process when a stop takes too long.
//!
//! The thread waits for no other thread. It listens for the stop signals itself, because the main thread may be stuck
//! when one arrives.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::time::MissedTickBehavior;

use crate::handoff::CommitHandle;
use crate::limits::{LAST_LOG_WAIT, STALL_CHECK_INTERVAL, STALL_CHECKS, STOP_GRACE};
use crate::runtime::Metrics;

/// The exit code of a process that did not stop in time.
const STOPPED_LATE: i32 = 3;

/// Tells the watchdog thread that the server stops.
#[derive(Debug, Clone, Default)]
pub(super) struct StopNotice(Arc<Notify>);

impl StopNotice {
    /// Starts the time limit of the stop.
    pub(super) fn stopping(&self) {
        self.0.notify_one();
    }
}

/// Starts the thread that limits the time of a stop. From the signal or the notice on, the process has the time of the
/// drain and [`STOP_GRACE`] to end. The thread is never stopped, so that the limit holds until the end of the process.
pub(super) fn limit_stop(drain: Duration) -> io::Result<StopNotice> {
    let notice = StopNotice::default();
    let stopping = notice.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::Builder::new().name("stop-limit".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = stopping.0.notified() => {}
            }
            let limit = drain + STOP_GRACE;
            tokio::time::sleep(limit).await;
            log_late_stop(limit).await;
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "a stuck thread cannot be joined; acknowledged events are on disk"
        )]
        std::process::exit(STOPPED_LATE);
    })?;
    Ok(notice)
}

/// Logs why the process ends. A thread writes the line, because standard error may be blocked.
async fn log_late_stop(limit: Duration) {
    let (logged, is_logged) = oneshot::channel();
    let write = move || {
        tracing::error!(
            after_seconds = limit.as_secs(),
            exit_code = STOPPED_LATE,
            "the server ends before all of its parts have stopped; what it acknowledged is on the disk, and the next \
             start recovers it"
        );
        let _ = logged.send(());
    };
    if std::thread::Builder::new().name("last-log".into()).spawn(write).is_ok() {
        let _ = tokio::time::timeout(LAST_LOG_WAIT, is_logged).await;
    }
}

/// Starts the thread that checks the heartbeats of all stages.
pub(super) fn watch_stages(metrics: Arc<Metrics>, commit: CommitHandle) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        runtime.block_on(async {
            let mut ticks = tokio::time::interval(STALL_CHECK_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                check_stages(&metrics, &commit);
            }
        });
    })?;
    Ok(())
}

fn check_stages(metrics: &Metrics, commit: &CommitHandle) {
    let changes = metrics.watchdog.check();
    for (stages, is_stalled) in [(&changes.stalled, true), (&changes.recovered, false)] {
        for stage in stages {
            metrics.stage_stalled.with_label_values(&[stage]).set(i64::from(is_stalled));
            if **stage == *"commit" {
                commit.set_stalled(is_stalled);
            }
        }
    }
    for stage in changes.stalled {
        let for_seconds = (STALL_CHECK_INTERVAL * STALL_CHECKS).as_secs();
        tracing::error!(%stage, for_seconds, "a stage has work and makes no progress");
    }
    for stage in changes.recovered {
        tracing::info!(%stage, "a stage makes progress again");
    }
}
