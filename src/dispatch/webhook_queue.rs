//! A webhook as its shard sees it: its queue, its backlog, its pace, and what is under way.

mod flight;
mod order;

use std::sync::Arc;

use super::backlog::{Backlog, Mode};
use super::breaker::Stands;
use super::queue::{Entry, Kind, Queue};
use super::rate_control::{Allowed, Forgettable, Gate, RateControl};
use super::shard_state::ShardState;
use super::timer::Key;
use crate::config;
use crate::handoff::{Lane, RecallRequest, Recalled, Refill, Refilled};
use crate::limits::RECALL_PAUSE;
use crate::model::{BreakerSettings, DeadReason, EventId, Timestamp, WebhookNo, WebhookStatus};
use crate::outbound::{Event, Order, Webhook};
use crate::runtime::Instant;

pub(super) use flight::Job;

/// See the module.
#[derive(Debug)]
pub(super) struct WebhookQueue {
    key: Key,
    webhook: Arc<Webhook>,
    /// Why nothing is sent to it any more.
    ended: Option<DeadReason>,
    queue: Queue,
    backlog: Backlog,
    pace: RateControl,
    /// The breaker's settings, where the webhook has its own.
    breaker: Option<Box<config::Breaker>>,
    in_flight: Vec<EventId>,
    recall: Recall,
    armed: Option<Instant>,
    /// In [`ShardState::ready`].
    is_listed: bool,
    /// In [`ShardState::refill_turns`].
    waits_for_refill: bool,
    /// In [`ShardState::idle`].
    is_idle: bool,
    shown: Shown,
}

/// What the metrics and the log show of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    lagging: bool,
    breaker: Stands,
    stuck: bool,
}

/// How far the reading back of bodies is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recall {
    NotAsked,
    /// In [`ShardState::recall_turns`].
    Waits,
    Asked,
    /// The last request brought nothing.
    NotBefore(Instant),
}

/// What a webhook's status means here.
enum Standing {
    Sending,
    Held,
    Ended(DeadReason),
}

fn standing(webhook: Option<&Webhook>) -> Standing {
    match webhook.map(|webhook| webhook.status) {
        Some(WebhookStatus::Active) => Standing::Sending,
        Some(WebhookStatus::Paused | WebhookStatus::Inactive) => Standing::Held,
        Some(WebhookStatus::Failed) => Standing::Ended(DeadReason::Disabled),
        None => Standing::Ended(DeadReason::Removed),
    }
}

impl WebhookQueue {
    pub(super) fn new(key: Key, webhook: Arc<Webhook>, common: &ShardState) -> Self {
        let (mode, ended) = match standing(Some(&webhook)) {
            Standing::Sending => (Mode::Live, None),
            Standing::Held => (Mode::Held, None),
            Standing::Ended(reason) => (Mode::Held, Some(reason)),
        };
        let mut backlog = Backlog::new(mode);
        backlog.set_order(&webhook.order);
        let mut queue = Queue::default();
        queue.set_by_field(webhook.order.field().is_some(), &[]);
        Self {
            key,
            breaker: own_breaker(&webhook, common),
            webhook,
            ended,
            queue,
            backlog,
            pace: RateControl::default(),
            in_flight: Vec::new(),
            recall: Recall::NotAsked,
            armed: None,
            is_listed: false,
            waits_for_refill: false,
            is_idle: false,
            shown: Shown { lagging: false, breaker: Stands::Closed, stuck: false },
        }
    }

    fn no(&self) -> WebhookNo {
        self.webhook.no
    }

    // --- what comes in ---------------------------------------------------------------------------------------------

    /// An event just committed.
    pub(super) fn arrived(&mut self, event: &Arc<Event>, keep_bodies: bool, common: &mut ShardState) {
        if let Some(reason) = self.ended {
            return common.dead_letter(self.no(), event.id, reason);
        }
        // What cannot be sent for a while need not be held whole.
        let group = if self.backlog.mode() == Mode::Live { self.group_of(event) } else { None };
        let keep_body = keep_bodies && self.pace.breaker.stands() != Stands::Open && !self.queue.waits(group);
        let entry = Entry::arrived(event, keep_body);
        let bounds = &common.bounds;
        let fits = self.queue.is_empty() || self.queue.bytes() + entry.bytes() <= bounds.window_bytes;
        let held = self.queue.len() + self.backlog.rows_coming();
        match self.backlog.mode() {
            Mode::Live if fits && held < bounds.window_entries && self.webhook.is_ordered() => {
                return self.queue.insert_in(group, entry);
            }
            Mode::Live if fits && held < bounds.window_entries => return self.queue.push(Kind::Main, entry),
            Mode::Live if self.webhook.is_ordered() => self.backlog.lag_behind(self.last_held()),
            Mode::Live => self.backlog.lag(),
            Mode::Lagging | Mode::Held => {}
        }
        let has_room = !self.webhook.is_ordered()
            && self.queue.fresh_len() < bounds.fresh_entries
            && held < bounds.window_entries + bounds.fresh_entries;
        if self.backlog.mode() == Mode::Lagging && fits && has_room {
            self.queue.push(Kind::Fresh, entry);
        } else {
            self.backlog.spilled(event.id);
            common.spill(self.no(), event.id);
            if self.webhook.is_ordered() && self.backlog.mode() == Mode::Lagging && self.backlog.has_reached(event.id) {
                // A row of a later event has overtaken it.
                self.put_down(common);
                self.backlog.resume();
            }
        }
    }

    /// Rows that somebody else wrote.
    pub(super) fn rows_wait(&mut self, ready: bool, due: Option<Timestamp>, common: &mut ShardState) {
        if self.webhook.is_ordered() {
            // They may be of events before those that are held.
            if self.backlog.mode() != Mode::Held {
                self.put_down(common);
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

    /// The registry has a new version of the webhook, or none.
    pub(super) fn changed(&mut self, latest: Option<Arc<Webhook>>, common: &mut ShardState) {
        if let Some(webhook) = latest.as_deref()
            && webhook.order != self.webhook.order
        {
            self.reorder(&webhook.order, common);
        }
        match standing(latest.as_deref()) {
            Standing::Sending => {
                self.ended = None;
                if self.backlog.mode() == Mode::Held {
                    self.backlog.resume();
                    self.pace.resume();
                }
            }
            Standing::Held => {
                self.ended = None;
                self.put_down(common);
            }
            Standing::Ended(reason) => {
                self.ended = Some(reason);
                self.backlog.hold();
                for entry in self.queue.take_all() {
                    common.dead_letter(self.webhook.no, entry.event, reason);
                }
            }
        }
        if let Some(webhook) = latest {
            self.breaker = own_breaker(&webhook, common);
            self.webhook = webhook;
        }
    }

    /// Rows that were asked for.
    pub(super) fn refilled(&mut self, reply: &Refilled, common: &mut ShardState) {
        let Some(usable) = self.backlog.answered(reply) else { return };
        let known = &mut common.known;
        known.clear();
        self.queue.ids(known);
        known.extend_from_slice(&self.in_flight);
        known.extend_from_slice(&usable.settled);
        known.sort_unstable();
        for row in reply.rows.iter().filter(|row| known.binary_search(&row.event).is_err()) {
            common.early.row_taken(row.event, self.webhook.no);
            match reply.lane {
                Lane::Ready { .. } => self.queue.push(Kind::Main, Entry::from_row(row)),
                Lane::Due { .. } => self.queue.push(Kind::Due, Entry::from_row(row)),
                Lane::Ordered { .. } => {
                    let waits = reply.not_before.binary_search_by_key(&row.event, |(event, _)| *event);
                    let not_before = waits.ok().map(|at| reply.not_before[at].1);
                    self.queue.insert_in(None, Entry { not_before, ..Entry::from_row(row) });
                }
            }
        }
        if usable.is_live {
            self.queue.join_fresh();
        }
    }

    /// Bodies that were asked for, in ascending order.
    pub(super) fn recalled(&mut self, events: &[Recalled], now: Instant, common: &mut ShardState) {
        let gone = self.put_bodies(events, common);
        // An answer without any event: the log could not be read.
        self.recall = if events.is_empty() { Recall::NotBefore(now + RECALL_PAUSE) } else { Recall::NotAsked };
        for entry in gone {
            self.backlog.settled(entry.event);
            common.dead_letter(self.no(), entry.event, DeadReason::Expired);
        }
    }

    // --- what goes out ---------------------------------------------------------------------------------------------

    /// Looks at what can be done now: lists it as ready, sets its timer, asks for rows and bodies. To be called after each
    /// change.
    pub(super) fn serve(&mut self, now: Instant, common: &mut ShardState) {
        self.show(common);
        if !self.waits_for_refill && self.backlog.is_wanted(self.queue.len(), &common.bounds) {
            self.waits_for_refill = true;
            common.refill_turns.push_back(self.key);
        }
        if self.is_listed {
            return;
        }
        let mut wake = self.backlog.next_round().map(|at| common.setup.clock.instant_of(at));
        match self.gate(now, common) {
            Gate::Open => {
                self.is_listed = true;
                common.ready.push_back(self.key);
            }
            Gate::Until(at) => wake = Some(wake.map_or(at, |due| due.min(at))),
            Gate::Shut => self.list_if_idle(now, common),
        }
        common.timers.arm(self.key, &mut self.armed, wake);
    }

    /// Its timer went off.
    pub(super) fn woke(&mut self, now: Instant, common: &ShardState) {
        self.armed = None;
        self.backlog.begin_round(common.setup.clock.steady_at(now));
    }

    fn gate(&mut self, now: Instant, common: &mut ShardState) -> Gate {
        if self.queue.is_empty() {
            return Gate::Shut;
        }
        if self.webhook.order.field().is_some() {
            return self.gate_by_field(now, common);
        }
        let gate = match self.held_back(now, common) {
            Some(gate) => gate,
            None => self.pace.gate(self.in_flight.len(), allowed(&self.webhook, common), now),
        };
        if matches!(gate, Gate::Until(_)) {
            return gate;
        }
        let again = self.want_bodies(now, common);
        if self.queue.is_servable() { gate } else { again.map_or(Gate::Shut, Gate::Until) }
    }

    /// Has bodies asked for that are missing; answers when, where the log could not be read a moment ago.
    fn want_bodies(&mut self, now: Instant, common: &mut ShardState) -> Option<Instant> {
        if let Recall::NotBefore(at) = self.recall {
            if now < at {
                return Some(at);
            }
            self.recall = Recall::NotAsked;
        }
        if self.recall == Recall::NotAsked && self.queue.lacks_bodies(common.recall_limit()) {
            self.recall = Recall::Waits;
            common.recall_turns.push_back(self.key);
        }
        None
    }

    /// Its turn to ask for rows.
    pub(super) fn next_refill(&mut self, now: Instant, common: &ShardState) -> Option<Refill> {
        self.waits_for_refill = false;
        let (lane, rows) = self.backlog.ask(self.queue.len(), common.setup.clock.steady_at(now), &common.bounds)?;
        Some(Refill { shard: common.index, webhook: self.no(), lane, rows })
    }

    /// Its turn to ask for bodies; `None`: they are not needed any more.
    pub(super) fn next_recall(&mut self, common: &ShardState) -> Option<RecallRequest> {
        let events = self.queue.bodiless(common.recall_limit());
        self.recall = if events.is_empty() { Recall::NotAsked } else { Recall::Asked };
        (!events.is_empty()).then(|| RecallRequest { shard: common.index, webhook: self.no(), events })
    }

    /// The recall thread has no room for the last request. Answers under which key the webhook waits again.
    pub(super) fn recall_refused(&mut self) -> Key {
        self.recall = Recall::Waits;
        self.key
    }

    // --- what it costs ---------------------------------------------------------------------------------------------

    fn has_nothing_to_do(&self) -> bool {
        self.queue.is_empty()
            && self.in_flight.is_empty()
            && !self.waits_for_refill
            && !matches!(self.recall, Recall::Waits | Recall::Asked)
            && if self.ended.is_some() { !self.backlog.is_asking() } else { self.backlog.is_clear() }
    }

    fn list_if_idle(&mut self, now: Instant, common: &mut ShardState) {
        if !self.is_idle && self.has_nothing_to_do() {
            self.is_idle = true;
            common.list_idle(self.key, now);
        }
    }

    /// It was idle a while ago: whether it can be forgotten now. If time alone will make it so, it is listed again.
    pub(super) fn is_forgettable(&mut self, now: Instant, common: &mut ShardState) -> bool {
        self.is_idle = false;
        if !self.has_nothing_to_do() {
            return false;
        }
        match self.pace.forgettable(now) {
            _ if self.ended.is_some() => true,
            Forgettable::Yes => true,
            Forgettable::Later => {
                self.list_if_idle(now, common);
                false
            }
            Forgettable::No => false,
        }
    }

    /// It is forgotten.
    pub(super) fn forget(mut self, common: &mut ShardState) {
        common.timers.arm(self.key, &mut self.armed, None);
        common.show(&self.webhook, self.shown.lagging, false, self.shown.breaker, Stands::Closed);
    }

    fn show(&mut self, common: &ShardState) {
        let now = Shown {
            lagging: self.ended.is_none() && self.backlog.mode() != Mode::Live,
            breaker: self.pace.breaker.stands(),
            stuck: self.is_stuck(common),
        };
        if now != self.shown {
            if now.stuck && !self.shown.stuck {
                self.say_stuck();
            }
            common.show(&self.webhook, self.shown.lagging, now.lagging, self.shown.breaker, now.breaker);
            self.shown = now;
        }
    }
}

/// The last quarter of a shard's places is for webhooks with nothing under way, so that many slow ones cannot take all. Who
/// is held back by that is looked at again when one of its own deliveries ends.
fn allowed<'a>(webhook: &'a Webhook, common: &ShardState) -> Allowed<'a> {
    let is_crowded = common.in_flight >= common.bounds.in_flight - common.bounds.in_flight / 4;
    let in_flight_max = if is_crowded || webhook.order == Order::Acceptance {
        1
    } else {
        webhook.max_in_flight.unwrap_or(common.setup.delivery.max_in_flight)
    };
    Allowed { in_flight_max, rate: webhook.rate_limit.as_ref() }
}

/// The breaker's settings, if they are not the configured ones.
fn own_breaker(webhook: &Webhook, common: &ShardState) -> Option<Box<config::Breaker>> {
    let own = &webhook.breaker;
    (*own != BreakerSettings::default()).then(|| Box::new(common.setup.breaker.with(own)))
}

#[cfg(test)]
impl WebhookQueue {
    pub(super) fn held(&self) -> usize {
        self.queue.len()
    }
}
