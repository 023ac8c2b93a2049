//! One webhook in its shard: its queue, backlog, rate control and deliveries in flight.

mod delivery_job;
mod order;
mod settings;

use std::sync::Arc;

use super::backlog::{BacklogMode, BacklogState};
use super::breaker::CircuitState;
use super::queue::{LaneKind, Queue, QueueEntry};
use super::rate_control::{Evictable, Gate, RateControl};
use super::shard_state::ShardState;
use super::timer::WebhookKey;
use crate::config;
use crate::handoff::{BodyRequest, LoadedBody, Refill, RefillKind, RefillReply};
use crate::limits::BODY_READ_RETRY_PAUSE;
use crate::model::{DeadReason, EndpointState, EventId, Timestamp, WebhookNo};
use crate::outbound::{Event, Webhook};
use crate::runtime::Instant;
pub(super) use delivery_job::DeliveryJob;
use settings::{SendState, own_breaker, send_limits, send_state};

/// One webhook's deliveries in a shard.
#[derive(Debug)]
pub(super) struct WebhookQueue {
    key: WebhookKey,
    webhook: Arc<Webhook>,
    /// The reason for dead letters, if the webhook is disabled or deleted.
    ended: Option<DeadReason>,
    queue: Queue,
    backlog: BacklogState,
    rate_control: RateControl,
    /// The state of the endpoint that settle knows of. `None`: neither paused nor failing.
    endpoint: Option<Box<EndpointState>>,
    /// The webhook's own circuit breaker settings, if it has any.
    breaker: Option<Box<config::Breaker>>,
    in_flight: Vec<EventId>,
    body_read: BodyReadState,
    armed: Option<Instant>,
    /// Whether the webhook is in [`ShardState::ready`].
    is_listed: bool,
    /// Whether the webhook is in [`ShardState::refill_queue`].
    waits_for_refill: bool,
    /// Whether the webhook is in [`ShardState::idle`].
    is_idle: bool,
    reported: ReportedState,
}

/// The state last reported to the metrics and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReportedState {
    is_spilled: bool,
    breaker: CircuitState,
    stuck: bool,
}

/// The state of reading bodies back from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyReadState {
    Idle,
    /// The webhook is in [`ShardState::body_read_queue`].
    Queued,
    Requested,
    /// The last read failed. The next one is not made before this time.
    PausedUntil(Instant),
}

impl WebhookQueue {
    /// Creates an empty queue for a webhook.
    pub(super) fn new(key: WebhookKey, webhook: Arc<Webhook>, state: &mut ShardState) -> Self {
        let (mode, ended) = match send_state(Some(&webhook)) {
            SendState::Sending => (BacklogMode::InMemory, None),
            SendState::Held => (BacklogMode::Held, None),
            SendState::Ended(reason) => (BacklogMode::Held, Some(reason)),
        };
        let mut backlog = BacklogState::new(mode);
        backlog.set_order(&webhook.order);
        let mut queue = Queue::default();
        queue.set_by_field(webhook.order.field().is_some(), &[]);
        let endpoint = state.take_restored(&webhook);
        let restored = |endpoint: &EndpointState| RateControl::restored(endpoint, &state.setup.clock);
        let rate_control = endpoint.as_deref().map(restored).unwrap_or_default();
        Self {
            key,
            breaker: own_breaker(&webhook, state),
            webhook,
            ended,
            queue,
            backlog,
            rate_control,
            endpoint,
            in_flight: Vec::new(),
            body_read: BodyReadState::Idle,
            armed: None,
            is_listed: false,
            waits_for_refill: false,
            is_idle: false,
            reported: ReportedState { is_spilled: false, breaker: CircuitState::Closed, stuck: false },
        }
    }

    fn no(&self) -> WebhookNo {
        self.webhook.no
    }

    // --- inputs ----------------------------------------------------------------------------------------------------

    /// Handles an event that was just committed.
    pub(super) fn arrived(&mut self, event: &Arc<Event>, keep_bodies: bool, state: &mut ShardState) {
        if let Some(reason) = self.ended {
            return state.dead_letter(self.no(), event.id, reason);
        }
        // An event that cannot be sent soon is held without its body.
        let group = if self.backlog.mode() == BacklogMode::InMemory { self.group_of(event) } else { None };
        let keep_body =
            keep_bodies && self.rate_control.breaker.state() != CircuitState::Open && !self.queue.is_delayed(group);
        let entry = QueueEntry::arrived(event, keep_body);
        let bounds = &state.bounds;
        let fits = self.queue.is_empty() || self.queue.bytes() + entry.bytes() <= bounds.window_bytes;
        let held = self.queue.len() + self.backlog.rows_coming();
        match self.backlog.mode() {
            BacklogMode::InMemory if fits && held < bounds.window_entries && self.webhook.is_ordered() => {
                return self.queue.insert_in(group, entry);
            }
            BacklogMode::InMemory if fits && held < bounds.window_entries => {
                return self.queue.push(LaneKind::Main, entry);
            }
            BacklogMode::InMemory if self.webhook.is_ordered() => self.backlog.start_spilling_after(self.last_held()),
            BacklogMode::InMemory => self.backlog.start_spilling(),
            BacklogMode::Spilled | BacklogMode::Held => {}
        }
        let has_room = !self.webhook.is_ordered()
            && self.queue.fresh_len() < bounds.fresh_entries
            && held < bounds.window_entries + bounds.fresh_entries;
        if self.backlog.mode() == BacklogMode::Spilled && fits && has_room {
            self.queue.push(LaneKind::Fresh, entry);
        } else {
            self.backlog.spilled(event.id);
            state.spill(self.no(), event.id);
            if self.webhook.is_ordered()
                && self.backlog.mode() == BacklogMode::Spilled
                && self.backlog.has_reached(event.id)
            {
                // A row of a later event is already in memory.
                self.spill_all(state);
                self.backlog.resume();
            }
        }
    }

    /// Handles rows that this webhook did not spill itself (start, replay, recovery).
    pub(super) fn rows_available(&mut self, ready: bool, due: Option<Timestamp>, state: &mut ShardState) {
        if self.webhook.is_ordered() {
            // The rows may be of events before the entries in memory.
            if self.backlog.mode() != BacklogMode::Held {
                self.spill_all(state);
                self.backlog.resume();
            }
            return;
        }
        if ready {
            self.backlog.rows_appeared();
        }
        if let Some(at) = due {
            self.backlog.due_at(at);
        }
    }

    /// Applies a new version of the webhook. `None` means that the webhook was deleted.
    pub(super) fn changed(&mut self, latest: Option<Arc<Webhook>>, state: &mut ShardState) {
        if let Some(webhook) = latest.as_deref()
            && webhook.order != self.webhook.order
        {
            self.reorder(&webhook.order, state);
        }
        if latest.as_ref().is_none_or(|webhook| webhook.address_version != self.webhook.address_version) {
            self.forget_endpoint(state);
        }
        match send_state(latest.as_deref()) {
            SendState::Sending => {
                self.ended = None;
                if self.backlog.mode() == BacklogMode::Held {
                    self.backlog.resume();
                    self.rate_control.resume();
                }
            }
            SendState::Held => {
                self.ended = None;
                self.spill_all(state);
            }
            SendState::Ended(reason) => {
                self.ended = Some(reason);
                self.backlog.hold();
                for entry in self.queue.take_all() {
                    state.dead_letter(self.webhook.no, entry.event, reason);
                }
            }
        }
        if let Some(webhook) = latest {
            self.breaker = own_breaker(&webhook, state);
            self.webhook = webhook;
        }
    }

    /// Handles the reply to a refill request.
    pub(super) fn refilled(&mut self, reply: &RefillReply, state: &mut ShardState) {
        let Some(usable) = self.backlog.apply_reply(reply) else { return };
        let known = &mut state.scratch_ids;
        known.clear();
        self.queue.ids(known);
        known.extend_from_slice(&self.in_flight);
        known.extend_from_slice(&usable.settled);
        known.sort_unstable();
        for row in reply.rows.iter().filter(|row| known.binary_search(&row.event).is_err()) {
            state.arrived_rows.row_taken(row.event, self.webhook.no);
            match reply.kind {
                RefillKind::Ready { .. } => self.queue.push(LaneKind::Main, QueueEntry::from_row(row)),
                RefillKind::Due { .. } => self.queue.push(LaneKind::Due, QueueEntry::from_row(row)),
                RefillKind::Ordered { .. } => {
                    let waits = reply.not_before.binary_search_by_key(&row.event, |(event, _)| *event);
                    let not_before = waits.ok().map(|at| reply.not_before[at].1);
                    self.queue.insert_in(None, QueueEntry { not_before, ..QueueEntry::from_row(row) });
                }
            }
        }
        if usable.is_in_memory {
            self.queue.join_fresh();
        }
    }

    /// Handles the reply to a body request. The events are in ascending order.
    pub(super) fn bodies_loaded(&mut self, events: &[LoadedBody], now: Instant, state: &mut ShardState) {
        let gone = self.load_bodies(events, state);
        // A reply without any event means that the log could not be read.
        self.body_read = match events {
            [] => BodyReadState::PausedUntil(now + BODY_READ_RETRY_PAUSE),
            _ => BodyReadState::Idle,
        };
        for entry in gone {
            self.backlog.settled(entry.event);
            state.dead_letter(self.no(), entry.event, DeadReason::Expired);
        }
    }

    // --- outputs ---------------------------------------------------------------------------------------------------

    /// Lists the webhook as ready, sets its timer, and requests rows and bodies, as its state requires. Must be called
    /// after each change.
    pub(super) fn schedule(&mut self, now: Instant, state: &mut ShardState) {
        self.report(state);
        if !self.waits_for_refill && self.backlog.wants_refill(self.queue.len(), &state.bounds) {
            self.waits_for_refill = true;
            state.refill_queue.push_back(self.key);
        }
        if self.is_listed {
            return;
        }
        let mut wake = self.backlog.next_round().map(|at| state.setup.clock.instant_of(at));
        match self.gate(now, state) {
            Gate::Open => {
                self.is_listed = true;
                state.ready.push_back(self.key);
            }
            Gate::Until(at) => wake = Some(wake.map_or(at, |due| due.min(at))),
            Gate::Shut => self.list_if_idle(now, state),
        }
        state.timers.arm(self.key, &mut self.armed, wake);
    }

    /// Handles the webhook's timer.
    pub(super) fn timer_fired(&mut self, now: Instant, state: &ShardState) {
        self.armed = None;
        self.backlog.begin_round(state.setup.clock.steady_at(now));
    }

    fn gate(&mut self, now: Instant, state: &mut ShardState) -> Gate {
        if self.queue.is_empty() {
            return Gate::Shut;
        }
        if self.webhook.order.field().is_some() {
            return self.gate_by_field(now, state);
        }
        let gate = match self.order_gate(now, state) {
            Some(gate) => gate,
            None => self.rate_control.gate(self.in_flight.len(), send_limits(&self.webhook, state), now),
        };
        if matches!(gate, Gate::Until(_)) {
            return gate;
        }
        let again = self.request_bodies(now, state);
        if self.queue.is_servable() { gate } else { again.map_or(Gate::Shut, Gate::Until) }
    }

    /// Requests missing bodies. After a failed read, returns the time before which no request is made.
    fn request_bodies(&mut self, now: Instant, state: &mut ShardState) -> Option<Instant> {
        if let BodyReadState::PausedUntil(at) = self.body_read {
            if now < at {
                return Some(at);
            }
            self.body_read = BodyReadState::Idle;
        }
        if self.body_read == BodyReadState::Idle && self.queue.lacks_bodies(state.body_read_limit()) {
            self.body_read = BodyReadState::Queued;
            state.body_read_queue.push_back(self.key);
        }
        None
    }

    /// Returns the webhook's next refill request, or `None` if it needs no rows now.
    pub(super) fn next_refill(&mut self, now: Instant, state: &ShardState) -> Option<Refill> {
        self.waits_for_refill = false;
        let (kind, rows) =
            self.backlog.next_request(self.queue.len(), state.setup.clock.steady_at(now), &state.bounds)?;
        Some(Refill { shard: state.index, webhook: self.no(), kind, rows })
    }

    /// Returns the webhook's next body request, or `None` if it needs no bodies now.
    pub(super) fn next_body_request(&mut self, state: &ShardState) -> Option<BodyRequest> {
        let events = self.queue.bodiless(state.body_read_limit());
        self.body_read = if events.is_empty() { BodyReadState::Idle } else { BodyReadState::Requested };
        (!events.is_empty()).then(|| BodyRequest { shard: state.index, webhook: self.no(), events })
    }

    /// Handles a body request that was not sent because the body reader's queue was full. Returns the webhook's key, under
    /// which the shard queues the webhook again.
    pub(super) fn body_request_refused(&mut self) -> WebhookKey {
        self.body_read = BodyReadState::Queued;
        self.key
    }

    // --- eviction and reports --------------------------------------------------------------------------------------

    fn has_nothing_to_do(&self) -> bool {
        self.queue.is_empty()
            && self.in_flight.is_empty()
            && !self.waits_for_refill
            && !matches!(self.body_read, BodyReadState::Queued | BodyReadState::Requested)
            && if self.ended.is_some() {
                !self.backlog.has_pending_refill()
            } else {
                self.backlog.has_nothing_on_disk()
            }
    }

    fn list_if_idle(&mut self, now: Instant, state: &mut ShardState) {
        if !self.is_idle && self.has_nothing_to_do() {
            self.is_idle = true;
            state.list_idle(self.key, now);
        }
    }

    /// Whether a webhook that was idle can be evicted from memory. If it will be evictable later without a further input,
    /// it is listed as idle again.
    pub(super) fn is_evictable(&mut self, now: Instant, state: &mut ShardState) -> bool {
        self.is_idle = false;
        if !self.has_nothing_to_do() {
            return false;
        }
        match self.rate_control.evictable(now) {
            _ if self.ended.is_some() => true,
            Evictable::Yes => true,
            Evictable::Later => {
                self.list_if_idle(now, state);
                false
            }
            Evictable::No => false,
        }
    }

    /// Clears the webhook's timer and reported state. The shard has removed the webhook from memory.
    pub(super) fn evict(mut self, state: &mut ShardState) {
        state.timers.arm(self.key, &mut self.armed, None);
        let ReportedState { is_spilled, breaker, .. } = self.reported;
        state.report(&self.webhook, (is_spilled, false), (breaker, CircuitState::Closed));
    }

    fn report(&mut self, state: &ShardState) {
        let now = ReportedState {
            is_spilled: self.ended.is_none() && self.backlog.mode() != BacklogMode::InMemory,
            breaker: self.rate_control.breaker.state(),
            stuck: self.is_stuck(state),
        };
        if now != self.reported {
            if now.stuck && !self.reported.stuck {
                self.log_stuck();
            }
            let ReportedState { is_spilled, breaker, .. } = self.reported;
            state.report(&self.webhook, (is_spilled, now.is_spilled), (breaker, now.breaker));
            self.reported = now;
        }
    }
}

#[cfg(test)]
impl WebhookQueue {
    pub(super) fn held(&self) -> usize {
        self.queue.len()
    }
}
