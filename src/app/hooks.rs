//! What settle and dispatch call when something is beyond them: a webhook to disable, a disk to make room on, a failure.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::commit;
use crate::model::WebhookNo;
use crate::registry::{self, Shared};
use crate::settle::{self, DisableReason};

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
pub(super) fn of(registry: &registry::Running, ballast: commit::Ballast, failed: &Arc<Failures>) -> settle::Hooks {
    let (shared, writer) = (Shared::clone(&registry.shared), registry.writer.clone());
    let (failed, times) = (Arc::clone(failed), Shared::clone(&registry.shared));
    settle::Hooks {
        abandons: Arc::new(move |no| shared.load().abandons(no)),
        disable: Arc::new(move |no, reason| disable(&writer, no, reason)),
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

/// Asks the registry for it, without waiting.
pub(super) fn disable(writer: &registry::Writer, no: WebhookNo, reason: DisableReason) {
    if !writer.disable(no, reason) {
        tracing::warn!(webhook = no.0, "too many changes wait; the webhook is disabled at its next failure");
    }
}
