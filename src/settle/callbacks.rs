//! What settle asks of the rest of the process, and what it tells it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Happening, SettleError};
use crate::filter::Facts;
#[cfg(doc)]
use crate::handoff::Command;
use crate::handoff::DisableReason;
use crate::model::{DeadReason, WebhookNo, Webhooks};

/// Why whatever waits for a webhook is to be abandoned, if it is: it failed, or is no more.
pub type Abandons = Arc<dyn Fn(WebhookNo) -> Option<DeadReason> + Send + Sync>;

/// Whom a replay may go to, as the webhooks are now.
pub trait Targets: Send + Sync {
    /// The webhooks that want this event today, ascending.
    fn matching(&self, facts: &Facts<'_>) -> Webhooks;
    /// Whether the webhook is there and takes nothing for the time being: paused or inactive.
    fn is_held(&self, webhook: WebhookNo) -> bool;
}

/// Nobody matches, and nobody is held.
impl Targets for () {
    fn matching(&self, _: &Facts<'_>) -> Webhooks {
        Webhooks::new()
    }

    fn is_held(&self, _: WebhookNo) -> bool {
        false
    }
}

/// Makes the row of an operational event, if anybody listens for it.
pub type Compose = Arc<dyn Fn(&Happening<'_>) -> Option<Box<[u8]>> + Send + Sync>;

/// What settle calls. None of these may wait for settle, for a shard or for the disk.
#[derive(Clone)]
pub struct Callbacks {
    /// What waits for such a webhook becomes a dead letter of this reason, at the start too: a crash may have lost the
    /// [`Command::Abandon`] that the registry sent.
    pub abandons: Abandons,
    /// Whom replays go to.
    pub targets: Arc<dyn Targets>,
    /// The webhook is to be disabled; its deliveries are abandoned by the [`Command::Abandon`] that follows. `false`: it could
    /// not be asked for now, and is asked for again.
    pub disable: Arc<dyn Fn(WebhookNo, DisableReason) -> bool + Send + Sync>,
    /// See [`Compose`].
    pub compose: Compose,
    /// Rows wait in the outbox.
    pub outbox: Arc<dyn Fn() + Send + Sync>,
    /// The time of nothing but failure after which this webhook is disabled, where it has one of its own.
    pub disable_after: Arc<dyn Fn(WebhookNo) -> Option<Duration> + Send + Sync>,
    /// The disk is full: give up the ballast.
    pub ballast: Arc<dyn Fn() + Send + Sync>,
    /// A write failed for another reason: settle has ended, and the process must.
    pub poisoned: Arc<dyn Fn(&SettleError) + Send + Sync>,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}
