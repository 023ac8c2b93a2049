//! The functions of the process that settle calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{HealthEvent, SettleError};
use crate::filter::EventFields;
use crate::handoff::DisableReason;
#[cfg(doc)]
use crate::handoff::SettleCommand;
use crate::model::{DeadReason, WebhookNo, Webhooks};

/// Returns why a webhook's pending deliveries must be abandoned: it is disabled or was deleted. `None`: it takes
/// deliveries.
pub type AbandonReasonFn = Arc<dyn Fn(WebhookNo) -> Option<DeadReason> + Send + Sync>;

/// The webhooks that a replay may deliver to, in their current configuration.
pub trait ReplayTargets: Send + Sync {
    /// The webhooks whose current subscription matches the event, ascending.
    fn matching(&self, event_fields: &EventFields<'_>) -> Webhooks;
    /// Whether the webhook exists and is paused or inactive.
    fn is_held(&self, webhook: WebhookNo) -> bool;
}

/// No webhook matches, and none is held.
impl ReplayTargets for () {
    fn matching(&self, _: &EventFields<'_>) -> Webhooks {
        Webhooks::new()
    }

    fn is_held(&self, _: WebhookNo) -> bool {
        false
    }
}

/// Makes the outbox row of an operational event. `None` if no webhook subscribes to it.
pub type ComposeEventFn = Arc<dyn Fn(&HealthEvent<'_>) -> Option<Box<[u8]>> + Send + Sync>;

/// The functions that settle calls. None of them may wait for settle, for a shard or for the disk.
#[derive(Clone)]
pub struct Callbacks {
    /// Says whether deliveries of a webhook are abandoned. A pending delivery of such a webhook becomes a dead letter
    /// with this reason, at startup too: a crash may have lost the [`SettleCommand::Abandon`] that the registry sent.
    pub abandon_reason: AbandonReasonFn,
    /// The webhooks that replays deliver to.
    pub replay_targets: Arc<dyn ReplayTargets>,
    /// Disables the webhook. Its deliveries are abandoned by the [`SettleCommand::Abandon`] that follows. `false`: the
    /// registry's queue is full, and settle calls again.
    pub disable: Arc<dyn Fn(WebhookNo, DisableReason) -> bool + Send + Sync>,
    /// Makes the outbox rows of operational events.
    pub compose_event: ComposeEventFn,
    /// Called when rows wait in the outbox.
    pub notify_outbox: Arc<dyn Fn() + Send + Sync>,
    /// The webhook's own time without a successful attempt after which it is disabled. `None`: the configured default
    /// applies.
    pub disable_after: Arc<dyn Fn(WebhookNo) -> Option<Duration> + Send + Sync>,
    /// Called when the disk is full: deletes the ballast file.
    pub ballast: Arc<dyn Fn() + Send + Sync>,
    /// Called when a write failed for another reason than a full disk. Settle has ended, and the process must end.
    pub poisoned: Arc<dyn Fn(&SettleError) + Send + Sync>,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callbacks")
    }
}
