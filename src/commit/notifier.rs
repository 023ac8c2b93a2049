//! Passes committed events on to settle and to the shards, without waiting for them.
//!
//! A message that finds a full queue is held here, with everything that must stay behind it. The ingest permits bound
//! what is held, because settle releases the permits of an event only after the event was announced. The bound of the
//! queues alone does not help: they count messages, and the permits count deliveries. What is held is in the log, so a
//! process that ends loses nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use super::group::ShardArrivals;
use crate::handoff::{AnnouncedEvent, HandoverState, SettleHandle, Shards, ToSettle, ToShard};
use crate::limits::INGEST_PERMIT_WAIT;
use crate::runtime::{Instant, Metrics};

/// The sender of notifications of the commit thread.
pub(super) struct Notifier {
    settle: SettleHandle,
    shards: Shards,
    metrics: Arc<Metrics>,
    /// Tells the callers of the commit thread that new events are refused.
    state: Arc<HandoverState>,
    /// Announcements that settle's queue had no room for. Settle must get them before the shards get their events.
    announced: Vec<AnnouncedEvent>,
    /// For each shard, the messages that wait for the announcements or for room in the shard's queue.
    for_shards: Vec<VecDeque<ToShard>>,
    held_since: Option<Instant>,
}

impl Notifier {
    pub(super) fn new(settle: SettleHandle, shards: Shards, metrics: Arc<Metrics>) -> Self {
        let for_shards = (0..shards.count()).map(|_| VecDeque::new()).collect();
        let state = Arc::default();
        Self { settle, shards, metrics, state, announced: Vec::new(), for_shards, held_since: None }
    }

    /// What [`crate::handoff::CommitHandle`] asks before it submits.
    pub(super) fn state(&self) -> Arc<HandoverState> {
        Arc::clone(&self.state)
    }

    /// Whether messages wait for room.
    pub(super) fn is_holding(&self) -> bool {
        self.held_since.is_some()
    }

    /// Announces events to settle, then passes them to the shards.
    pub(super) fn notify(&mut self, announced: Vec<AnnouncedEvent>, arrivals: Vec<ShardArrivals>, now: Instant) {
        if !self.announced.is_empty() {
            self.announced.extend(announced);
        } else if !announced.is_empty()
            && let Err(ToSettle::Announce(refused)) = self.settle.try_send(ToSettle::Announce(announced))
        {
            self.announced = refused;
        }
        for ShardArrivals { by_shard, wide } in arrivals {
            for (shard, arrivals) in by_shard.into_iter().enumerate().filter(|(_, arrivals)| !arrivals.is_empty()) {
                self.send_to_shard(shard, ToShard::Arrivals(arrivals));
            }
            if let Some(event) = wide {
                (0..self.shards.count()).for_each(|shard| self.send_to_shard(shard, ToShard::WideEvent(event)));
            }
        }
        self.update_state(now);
    }

    /// Sends what is held, as far as there is room.
    pub(super) fn retry(&mut self, now: Instant) {
        if !self.announced.is_empty() {
            let announced = std::mem::take(&mut self.announced);
            if let Err(ToSettle::Announce(refused)) = self.settle.try_send(ToSettle::Announce(announced)) {
                self.announced = refused;
            }
        }
        if self.announced.is_empty() {
            for (shard, messages) in self.for_shards.iter_mut().enumerate() {
                while let Some(message) = messages.pop_front() {
                    if let Err(refused) = self.shards.try_send(shard, message) {
                        messages.push_front(refused);
                        break;
                    }
                }
            }
        }
        self.update_state(now);
    }

    fn send_to_shard(&mut self, shard: usize, message: ToShard) {
        let held = &mut self.for_shards[shard];
        if self.announced.is_empty() && held.is_empty() {
            if let Err(refused) = self.shards.try_send(shard, message) {
                held.push_back(refused);
            }
            return;
        }
        match (held.back_mut(), message) {
            (Some(ToShard::Arrivals(last)), ToShard::Arrivals(arrivals)) => last.extend(arrivals),
            (_, message) => held.push_back(message),
        }
    }

    /// New events are refused when messages have waited for as long as a request may wait for its permits.
    fn update_state(&mut self, now: Instant) {
        let is_holding = !self.announced.is_empty() || self.for_shards.iter().any(|held| !held.is_empty());
        match (is_holding, self.held_since) {
            (false, None) => {}
            (false, Some(_)) => {
                self.held_since = None;
                if self.state.set_full(false) {
                    self.metrics.handover_full.set(0);
                    tracing::info!(target: "hooktide::commit", "settle and the shards take events again");
                }
            }
            (true, held_since) => {
                let since = *self.held_since.get_or_insert(now);
                let is_full = held_since.is_some() && now.saturating_duration_since(since) >= INGEST_PERMIT_WAIT;
                if is_full && !self.state.set_full(true) {
                    self.metrics.handover_full.set(1);
                    tracing::error!(
                        target: "hooktide::commit",
                        to_settle = self.announced.len(),
                        "settle or a shard takes no events: new events are refused until it does"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use smallvec::smallvec;

    use super::*;
    use crate::commit::tests::world::{clock, permit};
    use crate::handoff::EventArrival;
    use crate::limits::{SETTLE_QUEUE, SHARD_QUEUE};
    use crate::model::{EventId, WebhookNo};
    use crate::outbound::Event;
    use crate::runtime::MemoryBudget;

    const SHARDS: usize = 2;

    fn announced(n: u128) -> Vec<AnnouncedEvent> {
        vec![AnnouncedEvent {
            event: EventId::from_u128(n),
            webhooks: smallvec![WebhookNo(0)],
            too_costly: None,
            permit: permit(),
        }]
    }

    /// An event for shard 0.
    fn arrivals(n: u128) -> Vec<ShardArrivals> {
        let lease = MemoryBudget::new(1).lease(1);
        let (id, committed_at) = (EventId::from_u128(n), clock().instant());
        let event = Arc::new(Event { id, head: bytes::Bytes::new(), body: bytes::Bytes::new(), committed_at, lease });
        let arrival = EventArrival { event, webhooks: smallvec![WebhookNo(0)] };
        vec![ShardArrivals { by_shard: vec![vec![arrival], Vec::new()], wide: None }]
    }

    fn events_of(message: ToShard) -> Vec<u128> {
        match message {
            ToShard::Arrivals(arrivals) => arrivals.iter().map(|arrival| arrival.event.id.as_u128()).collect(),
            ToShard::WideEvent(event) => vec![event.as_u128()],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_that_settle_has_no_room_for_are_kept_in_order_and_refuse_new_ones_after_a_while() {
        let (settle, messages, _wakeup) = SettleHandle::channel();
        let (shards, mut inboxes) = Shards::channels(SHARDS);
        let mut notifier = Notifier::new(settle.clone(), shards, Metrics::new().unwrap());
        let (state, now) = (notifier.state(), clock().instant());
        for n in 0..SETTLE_QUEUE {
            settle.try_send(ToSettle::Spill(vec![(WebhookNo(0), EventId::from_u128(n as u128))])).unwrap();
        }
        for n in 1..=3 {
            notifier.notify(announced(n), arrivals(n), now);
        }
        notifier.notify(
            announced(4),
            vec![ShardArrivals { by_shard: vec![Vec::new(); 2], wide: Some(EventId::from_u128(4)) }],
            now,
        );
        assert!(notifier.is_holding() && !state.is_full(), "a short wait refuses nothing");
        assert!(inboxes[0].try_recv().is_err(), "settle must hear of an event before its shard");
        notifier.retry(now + INGEST_PERMIT_WAIT);
        assert!(state.is_full());

        assert_eq!(messages.try_iter().count(), SETTLE_QUEUE);
        notifier.retry(now + INGEST_PERMIT_WAIT);
        assert!(!notifier.is_holding() && !state.is_full());
        let Ok(ToSettle::Announce(heard)) = messages.try_recv() else { panic!("no announcement") };
        assert_eq!(heard.iter().map(|announced| announced.event.as_u128()).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let got: Vec<_> = std::iter::from_fn(|| inboxes[0].try_recv().ok()).flat_map(events_of).collect();
        assert_eq!(got, [1, 2, 3, 4]);
        assert_eq!(inboxes[1].try_recv().map(events_of).unwrap(), [4]);
    }

    #[test]
    fn a_shard_with_a_full_queue_holds_up_neither_settle_nor_the_other_shards() {
        let (settle, messages, _wakeup) = SettleHandle::channel();
        let (shards, mut inboxes) = Shards::channels(SHARDS);
        let mut notifier = Notifier::new(settle, shards.clone(), Metrics::new().unwrap());
        let now = clock().instant();
        for _ in 0..SHARD_QUEUE {
            shards.try_send(0, ToShard::WideEvent(EventId::MIN)).unwrap();
        }
        notifier.notify(announced(1), arrivals(1), now);
        let wide = vec![ShardArrivals { by_shard: vec![Vec::new(); 2], wide: Some(EventId::from_u128(2)) }];
        notifier.notify(announced(2), wide, now + Duration::from_secs(1));
        assert!(notifier.state().is_full());
        assert_eq!(messages.try_iter().count(), 2);
        assert_eq!(inboxes[1].try_recv().map(events_of).unwrap(), [2]);
        while inboxes[0].try_recv().is_ok() {}
        notifier.retry(now);
        let got: Vec<_> = std::iter::from_fn(|| inboxes[0].try_recv().ok()).flat_map(events_of).collect();
        assert_eq!((got, notifier.is_holding()), (vec![1, 2], false));
    }
}
