//! What settle calls when something is beyond it: a webhook to disable, a disk to make room on, a failure.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Sender;

use super::operational;
use crate::filter::Facts;
use crate::handoff::DisableReason;
use crate::model::{WebhookNo, WebhookStatus, Webhooks};
use crate::outbound::Webhook;
use crate::registry::{self, Shared};
use crate::settle;
use crate::storage::{Ballast, Disk};

/// What failed for good, in threads that cannot return it to anybody.
#[derive(Debug, Default)]
pub(super) struct Failures {
    state: OnceLock<String>,
    dispatch_ended: AtomicBool,
}

impl Failures {
    /// Notes that a dispatch thread has ended.
    pub(super) fn end_dispatch(&self) {
        self.dispatch_ended.store(true, Ordering::Release);
    }

    /// Why the state cannot be written, if so.
    pub(super) fn state(&self) -> Option<&str> {
        self.state.get().map(String::as_str)
    }

    /// Whether a dispatch thread has ended.
    pub(super) fn dispatch_ended(&self) -> bool {
        self.dispatch_ended.load(Ordering::Acquire)
    }
}

/// Settle's.
pub(super) fn of(
    registry: &registry::Running,
    ballast: Ballast,
    failed: &Arc<Failures>,
    bell: Sender<()>,
) -> settle::Callbacks {
    let snapshot = Shared::clone(&registry.shared);
    let (shared, writer) = (Shared::clone(&registry.shared), registry.writer.clone());
    let (failed, times) = (Arc::clone(failed), Shared::clone(&registry.shared));
    settle::Callbacks {
        targets: Arc::new(Today(Shared::clone(&shared))),
        abandons: Arc::new(move |no| shared.load().abandons(no)),
        disable: Arc::new(move |no, reason| disable(&writer, no, reason)),
        compose: Arc::new(move |happening| operational::compose(&snapshot.load(), happening)),
        outbox: Arc::new(move || {
            // A full bell is already ringing.
            let _ = bell.try_send(());
        }),
        disable_after: Arc::new(move |no| times.load().webhook(no)?.breaker.disable_after()),
        ballast: Arc::new(move || {
            if let Err(error) = ballast.release() {
                tracing::error!(%error, "the ballast file cannot be given up");
            }
        }),
        poisoned: Arc::new(move |error| {
            // Only the first reason matters.
            let _ = failed.state.set(error.to_string());
        }),
    }
}

/// Whom replays go to: the webhooks of the snapshot.
struct Today(Shared);

impl settle::Targets for Today {
    fn matching(&self, facts: &Facts<'_>) -> Webhooks {
        self.0.load().matching(facts)
    }

    fn is_held(&self, webhook: WebhookNo) -> bool {
        let held = |webhook: &Arc<Webhook>| matches!(webhook.status, WebhookStatus::Paused | WebhookStatus::Inactive);
        self.0.load().webhook(webhook).is_some_and(held)
    }
}

/// The file that is given up when the disk is full, made again if it was.
pub(super) fn ballast(disk: &Arc<dyn Disk>, dir: &Path) -> Ballast {
    let ballast = Ballast::new(Arc::clone(disk), dir);
    if let Err(error) = ballast.restore() {
        tracing::warn!(%error, "no room for the ballast file");
    }
    ballast
}

/// Asks the registry for it, without waiting; `false` if it has no room.
fn disable(writer: &registry::Writer, no: WebhookNo, reason: DisableReason) -> bool {
    let is_asked = writer.disable(no, reason);
    if !is_asked {
        tracing::warn!(webhook = no.0, "too many changes wait; the webhook is disabled after them");
    }
    is_asked
}
