//! The callbacks of settle: they disable a webhook, build operational events, make room on the disk, and report a
//! failure.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Sender;

use super::operational_events;
use crate::filter::EventFields;
use crate::handoff::DisableReason;
use crate::model::{WebhookNo, WebhookStatus, Webhooks};
use crate::outbound::Webhook;
use crate::registry::{self, Shared};
use crate::runtime::Clock;
use crate::settle;
use crate::storage::{Ballast, Disk};

/// Permanent failures of threads that have no caller to return an error to.
#[derive(Debug, Default)]
pub(super) struct ThreadFailures {
    state: OnceLock<String>,
    dispatch_ended: AtomicBool,
}

impl ThreadFailures {
    /// Records that a dispatch thread has ended.
    pub(super) fn set_dispatch_ended(&self) {
        self.dispatch_ended.store(true, Ordering::Release);
    }

    /// Why the state cannot be written; `None`: it can be written.
    pub(super) fn state(&self) -> Option<&str> {
        self.state.get().map(String::as_str)
    }

    /// Whether a dispatch thread has ended.
    pub(super) fn dispatch_ended(&self) -> bool {
        self.dispatch_ended.load(Ordering::Acquire)
    }
}

/// The callbacks of settle.
pub(super) fn settle_callbacks(
    registry: &registry::RegistryThread,
    ballast: Ballast,
    failed: &Arc<ThreadFailures>,
    outbox_wakeup: Sender<()>,
    clock: Clock,
) -> settle::Callbacks {
    let snapshot = Shared::clone(&registry.shared);
    let (shared, writer) = (Shared::clone(&registry.shared), registry.writer.clone());
    let (failed, times) = (Arc::clone(failed), Shared::clone(&registry.shared));
    settle::Callbacks {
        replay_targets: Arc::new(CurrentWebhooks { registry: Shared::clone(&shared), clock }),
        abandon_reason: Arc::new(move |no| shared.load().abandon_reason(no)),
        disable: Arc::new(move |no, reason| disable(&writer, no, reason)),
        compose_event: Arc::new(move |health_event| {
            operational_events::compose_operational_event(&snapshot.load(), health_event)
        }),
        notify_outbox: Arc::new(move || {
            // If the channel is full, the outbox thread is already notified.
            let _ = outbox_wakeup.try_send(());
        }),
        disable_after: Arc::new(move |no| times.load().webhook(no)?.breaker.disable_after()),
        ballast: Arc::new(move || {
            if let Err(error) = ballast.release() {
                tracing::error!(%error, "the ballast file cannot be given up");
            }
        }),
        poisoned: Arc::new(move |error| {
            // Only the first error matters.
            let _ = failed.state.set(error.to_string());
        }),
    }
}

/// The targets of replays: the webhooks of the current snapshot.
struct CurrentWebhooks {
    registry: Shared,
    clock: Clock,
}

impl settle::ReplayTargets for CurrentWebhooks {
    fn matching(&self, event_fields: &EventFields<'_>) -> Webhooks {
        self.registry.load().matching(event_fields, self.clock.now()).receivers
    }

    fn is_held(&self, webhook: WebhookNo) -> bool {
        let held = |webhook: &Arc<Webhook>| matches!(webhook.status, WebhookStatus::Paused | WebhookStatus::Inactive);
        self.registry.load().webhook(webhook).is_some_and(held)
    }
}

/// Creates the ballast file, which is deleted when the disk is full, so that deliveries can go on.
pub(super) fn ballast(disk: &Arc<dyn Disk>, dir: &Path) -> Ballast {
    let ballast = Ballast::new(Arc::clone(disk), dir);
    if let Err(error) = ballast.restore() {
        tracing::warn!(%error, "no room for the ballast file");
    }
    ballast
}

/// Asks the registry to disable a webhook, without waiting. Returns `false` if the registry's queue is full.
fn disable(writer: &registry::Writer, no: WebhookNo, reason: DisableReason) -> bool {
    let is_queued = writer.disable(no, reason);
    if !is_queued {
        tracing::warn!(webhook = no.0, "too many changes wait; the webhook is disabled after them");
    }
    is_queued
}
