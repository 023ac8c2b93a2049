//! To the shards: events, rows, bodies and changes.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

use super::{Probed, Recalled};
use crate::limits::{PROBES_PER_WEBHOOK, SHARD_QUEUE};
use crate::model::{EventId, WebhookNo, Webhooks};
use crate::outbound::{Event, Webhook};
use crate::storage::delivery::{Refilled, Waiting};

/// An event and those of its webhooks that live on this shard.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The event.
    pub event: Arc<Event>,
    /// Ascending.
    pub webhooks: Webhooks,
}

/// What a shard is told. The senders never wait long: see `limits::SHARD_QUEUE`.
#[derive(Debug)]
pub enum ToShard {
    /// Events just committed, in order of acceptance. Settle was told before.
    Arrivals(Vec<Arrival>),
    /// This event was committed for so many webhooks that a job of settle's writes their rows. In order with arrivals.
    Wide(EventId),
    /// The answer to a [`crate::handoff::ToSettle::Refill`].
    Refilled(Refilled),
    /// The answer to a [`crate::handoff::RecallRequest`].
    Recalled {
        /// The webhook they were asked for.
        webhook: WebhookNo,
        /// In the order asked.
        events: Vec<Recalled>,
    },
    /// Rows of these webhooks are ready, or due at a time, that the shard does not know of (start, replay, recover): the
    /// shard marks them lagging or sets their timers.
    Waiting(Vec<Waiting>),
    /// The registry's snapshot changed for these webhooks: pause, resume, limits, removal.
    Changed(SmallVec<[WebhookNo; 4]>),
    /// A test delivery, beside all that waits.
    Probe(Probe),
}

/// Where a webhook lives, with so many shards.
pub fn shard_of(webhook: WebhookNo, shards: usize) -> usize {
    webhook.0 as usize % shards
}

/// The way to the shards.
#[derive(Debug, Clone)]
pub struct Shards(Arc<[mpsc::Sender<ToShard>]>);

impl Shards {
    /// `count` shards' ways in, and the ends that the shards read.
    pub fn channels(count: usize) -> (Self, Vec<mpsc::Receiver<ToShard>>) {
        let (to, from): (Vec<_>, Vec<_>) = (0..count.max(1)).map(|_| mpsc::channel(SHARD_QUEUE)).unzip();
        (Self(to.into()), from)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Where a webhook lives.
    pub fn of(&self, webhook: WebhookNo) -> usize {
        shard_of(webhook, self.0.len())
    }

    /// Tells a shard, waiting for room: for threads that no shard waits for (commit, registry, recall).
    pub fn tell(&self, shard: usize, what: ToShard) {
        // A shard that is gone has been drained; what it did not do is in the state for the next start.
        let _ = self.0[shard].blocking_send(what);
    }

    /// Tells each shard its arrivals, waiting for room.
    pub fn tell_arrivals(&self, arrivals: Vec<Vec<Arrival>>) {
        for (shard, arrivals) in arrivals.into_iter().enumerate().filter(|(_, arrivals)| !arrivals.is_empty()) {
            self.tell(shard, ToShard::Arrivals(arrivals));
        }
    }

    /// Tells every shard of a wide event, waiting for room.
    pub fn tell_all(&self, wide: EventId) {
        (0..self.count()).for_each(|shard| self.tell(shard, ToShard::Wide(wide)));
    }

    /// Tells a shard or gives the message back: for settle, which must not wait for a shard.
    pub fn try_tell(&self, shard: usize, what: ToShard) -> Result<(), ToShard> {
        match self.0[shard].try_send(what) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(what)) => Err(what),
        }
    }
}

/// A test delivery, and where its attempt goes.
#[derive(Debug)]
pub struct Probe {
    /// To whom, whatever its status is.
    pub webhook: Arc<Webhook>,
    /// What.
    pub event: Arc<Event>,
    /// Dropped where the shard stops. Whoever gives up waiting ends the attempt.
    pub reply: oneshot::Sender<Result<Probed, ProbeRefused>>,
}

/// Why a test delivery is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProbeRefused {
    /// So many of this webhook are under way.
    #[error("{PROBES_PER_WEBHOOK} test deliveries of this webhook are under way already")]
    WebhookBusy,
    /// So many are under way in all.
    #[error("too many test deliveries are under way")]
    Busy,
}
