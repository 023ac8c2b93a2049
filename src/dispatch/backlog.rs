//! Decides which of a webhook's deliveries are in memory, which are on disk, and how those on disk are read back.
//!
//! # Rule
//! Settle knows every unsettled delivery before the shard does. The delivery is either *announced* (it is in settle's
//! list) or has a *row* in state.redb. The shard holds a copy of this state. A shard therefore cannot lose a delivery; it
//! can only fail to read it. The following rules say when a shard reads rows, and how it avoids queueing a delivery
//! twice.
//!
//! # States
//! ```text
//!                 window full, or rows reported               pause
//!     in memory ─────────────────────────────────► spilled ───────────► held
//!       ▲                                           │  ▲ ▲                │
//!       └── a Ready reply has `end`, and nothing ───┘  │ └──── resume ────┘
//!           was spilled or reported since the request  └ (a pause also moves from in memory to held)
//! ```
//! - **In memory**: every delivery that does not wait for a time is in memory or in flight. An arrival joins the queue.
//! - **Spilled**: rows without a time may be on disk, after the cursor. An arrival is *spilled*, which means that settle
//!   writes a row for it. A few arrivals are kept in memory as *fresh* entries instead, and take turns with the backlog.
//! - **Held** (paused or inactive webhook): only deliveries in flight are in memory. Every arrival is spilled.
//!
//! A disabled or deleted webhook is held as well. Its entries in memory and its later arrivals become dead letters and do
//! not go to disk. This module does not decide what happens to its rows.
//!
//! # Order of acceptance
//! Deliveries of a webhook with `ordered` are made in order of acceptance, one at a time. A delivery that waits for a time
//! holds back all deliveries behind it. The rules above have these exceptions:
//! - There are no fresh entries and there is no due lane. All rows are read in order of acceptance (*Refill (Ordered)*),
//!   whether they wait for a time or not. A retry stays in memory with its time.
//! - The entries in memory are the beginning of the backlog, up to the cursor. No delivery behind the cursor is made.
//!   - Such a webhook begins as spilled, because rows that have not been reported may be on disk.
//!   - When its window is full, the cursor is the last entry in memory.
//!   - Rows that the webhook did not spill itself may lie before the cursor. All entries then go to disk and are read
//!     again.
//! - A job writes the rows of an event with very many webhooks, after later events have arrived. Commit reports such an
//!   event before the later events (*WideEvent*). The webhook is then spilled, and settle's replies end before that event
//!   until its rows are written.
//! - A row may reach the shard before the arrivals of earlier events, if settle wrote the row. Its entry waits until its
//!   own arrival has come, which is after theirs. If an arrival lies before the cursor, all entries go to disk and are
//!   read again.
//! - When `ordered` changes, the entries in memory go to disk and are read again by the new rule. Deliveries in flight at
//!   that time that fail also go to disk, unless the cursor has passed them.
//!
//! # Order by a field
//! The same rules apply to a webhook with `ordered_by`, except for the choice of the next delivery (see
//! [`super::ordered_queue`]). An entry may be delivered if everything accepted before it is in memory, in flight or done,
//! and no earlier entry that is not done has the same value. Several deliveries are therefore in flight at once. Some of
//! them may lie behind the cursor, if the webhook was spilled after they began. If such a delivery fails, it is read
//! again as a row, after the events before it.
//!
//! Entries that wait behind a failing event stay in memory, so the window bounds their number. Rows are requested until
//! only an eighth of the window is free. After that, deliveries with other values wait as well.
//!
//! # Messages
//! - *Arrivals*: join the queue, are kept fresh, or are spilled, depending on the state.
//! - *Waiting*: reports rows that the shard did not spill itself (start, replay). A webhook in memory becomes spilled. A
//!   spilled webhook moves its cursor to the start. A due time is added to the known due times.
//! - *Changed*: a pause spills the entries that have no row and forgets the entries that have one. A resume restarts the
//!   cursor and starts a round.
//! - *Spill*: settle moves the delivery from its list to a row. Only deliveries that came as arrivals are spilled. A
//!   delivery that came from a row still has the row, because settle deletes a row when it receives the outcome, not when
//!   the row is read. Such a delivery is removed from memory without a message.
//! - *Refill (Ready)*: requested while the webhook is spilled and less than half of the window is used. The cursor
//!   restarts at the beginning each time the webhook becomes spilled, is resumed, or receives `Waiting`. Otherwise the
//!   cursor moves with each reply.
//! - *Refill (Due)*: a retry is sent to settle and removed from memory; only the earliest due time is kept. When that
//!   time is reached, a *round* reads the due rows from the beginning, page by page, until a reply has `end`. That reply
//!   also has the next due time. Due times set during the round are kept too, and the earlier time wins, so no time is
//!   missed. Each round starts at the beginning, so the next round finds rows that were written behind the current
//!   position.
//!
//! # Why no delivery is lost
//! The channel to settle is FIFO. Settle answers a request after a flush that applied everything sent before the request.
//! A Ready reply with `end` has therefore shown every row that was spilled before the request. If nothing was spilled or
//! reported since the request, nothing is left on disk. Only then does the webhook return to "in memory".
//!
//! If a delivery was spilled since the request, it lies after the cursor and the next request finds it, because event ids
//! increase. There is one exception: a job's row may reach the shard before the arrivals of earlier events. A delivery
//! spilled before the cursor therefore moves the cursor back. Entries in memory go back to disk by a pause, which moves
//! the cursor to the start.
//!
//! # Why no delivery is queued twice
//! A row exists until settle receives the outcome, so a reply may contain a delivery that the shard already has:
//! - The delivery is in memory or in flight: the row is dropped.
//! - The delivery was settled after the request: the reply may be older, so the row is dropped. Each lane keeps the ids
//!   settled since its own request. A retry of the delivery is found by its due time.
//! - The request was made before a pause or before a restart of the cursor: the whole reply is dropped (*stale*) and the
//!   request is made again.
//!
//! A delivery that is dropped before its outcome, by a stop or a crash, is still announced or still has its row. The next
//! start sends it again, which at-least-once delivery permits.
//!
//! One more case starts at settle: settle can write a row for an announced delivery whose arrival is not yet in
//! the shard. The shard remembers rows that are newer than its newest arrival, and drops these arrivals (see
//! [`super::arrived_rows`]).

use super::bounds::ShardBounds;
use crate::handoff::{RefillKind, RefillReply};
use crate::limits::ORDERED_REFILL_WINDOW_PART;
use crate::model::{EventId, Timestamp};
use crate::outbound::DeliveryOrder;

/// Where a webhook's backlog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BacklogMode {
    /// Every delivery that does not wait for a time is in memory or in flight.
    InMemory,
    /// Rows without a time may be on disk.
    Spilled,
    /// The webhook is paused, inactive, disabled or deleted: only deliveries in flight are in memory.
    Held,
}

/// A refill request without a reply.
#[derive(Debug)]
struct PendingRefill {
    rows: usize,
    /// Deliveries settled since the request.
    settled: Vec<EventId>,
    /// The first event spilled since the request.
    spilled: Option<EventId>,
    /// Whether the reply must be dropped.
    stale: bool,
}

/// What a shard knows of the deliveries that one webhook has on disk.
#[derive(Debug)]
pub(super) struct BacklogState {
    mode: BacklogMode,
    /// Rows up to this event have been read.
    cursor: EventId,
    /// The pending request for rows without a time, or for the rows of an ordered webhook.
    ready: Option<PendingRefill>,
    /// The position of the current round over due rows.
    round: Option<(Timestamp, EventId)>,
    /// The pending request for due rows.
    due: Option<PendingRefill>,
    /// The earliest known due time.
    next_due: Option<Timestamp>,
    /// Whether the webhook is ordered, by acceptance or by a field.
    ordered: bool,
    /// Whether the webhook is ordered by a field.
    by_field: bool,
}

/// The position before every due row.
const ROUND_START: (Timestamp, EventId) = (Timestamp::from_millis(i64::MIN), EventId::MIN);

/// The effects of a reply that is not stale.
#[derive(Debug)]
pub(super) struct UsableReply {
    /// Deliveries settled since the request. Their rows must be dropped.
    pub(super) settled: Vec<EventId>,
    /// Whether the whole backlog is in memory now.
    pub(super) is_in_memory: bool,
}

impl BacklogState {
    /// Creates the state of a webhook without order, with no pending requests.
    pub(super) fn new(mode: BacklogMode) -> Self {
        Self {
            mode,
            cursor: EventId::MIN,
            ready: None,
            round: None,
            due: None,
            next_due: None,
            ordered: false,
            by_field: false,
        }
    }

    /// Changes the order. The entries in memory must have gone to disk before.
    pub(super) fn set_order(&mut self, order: &DeliveryOrder) {
        self.ordered = *order != DeliveryOrder::Any;
        self.by_field = order.field().is_some();
        if self.ordered {
            self.next_due = None;
            if self.mode == BacklogMode::InMemory {
                self.mode = BacklogMode::Spilled;
            }
        }
    }

    /// For an ordered webhook: whether every delivery accepted before this event is in memory or settled.
    pub(super) fn has_reached(&self, event: EventId) -> bool {
        match self.mode {
            BacklogMode::InMemory => true,
            BacklogMode::Spilled => event <= self.cursor,
            BacklogMode::Held => false,
        }
    }

    /// For an ordered webhook: all further deliveries go to disk. `last` is the last event in memory. Rows that this
    /// shard did not spill may be written after it.
    pub(super) fn start_spilling_after(&mut self, last: EventId) {
        match self.mode {
            BacklogMode::InMemory => {
                self.mode = BacklogMode::Spilled;
                self.cursor = last;
            }
            // A pending reply may have `end` although more rows exist by now.
            BacklogMode::Spilled => self.spilled(EventId::MAX),
            BacklogMode::Held => {}
        }
    }

    /// Returns the current mode.
    pub(super) fn mode(&self) -> BacklogMode {
        self.mode
    }

    /// Switches from "in memory" to "spilled", with the cursor at the start.
    pub(super) fn start_spilling(&mut self) {
        debug_assert_eq!(self.mode, BacklogMode::InMemory);
        self.mode = BacklogMode::Spilled;
        self.cursor = EventId::MIN;
    }

    /// Handles rows that this shard did not spill.
    pub(super) fn rows_appeared(&mut self) {
        match self.mode {
            BacklogMode::InMemory => self.start_spilling(),
            BacklogMode::Spilled => self.restart(),
            BacklogMode::Held => {}
        }
    }

    /// Switches to "held". The caller removes the entries from memory.
    pub(super) fn hold(&mut self) {
        self.mode = BacklogMode::Held;
        self.restart();
        self.round = None;
        if let Some(due) = &mut self.due {
            due.stale = true;
        }
    }

    /// Switches from "held" to "spilled", so that the rows are read again.
    pub(super) fn resume(&mut self) {
        debug_assert_eq!(self.mode, BacklogMode::Held);
        self.mode = BacklogMode::Spilled;
        self.round = if self.ordered { None } else { Some(ROUND_START) };
    }

    fn restart(&mut self) {
        self.cursor = EventId::MIN;
        if let Some(ready) = &mut self.ready {
            ready.stale = true;
        }
    }

    /// Records that a delivery is spilled. If it lies before the cursor, because rows of later events were read before its
    /// arrival, the cursor moves back.
    pub(super) fn spilled(&mut self, event: EventId) {
        if !self.ordered {
            self.cursor = self.cursor.min(before(event));
        }
        if let Some(ready) = &mut self.ready {
            ready.spilled = Some(ready.spilled.map_or(event, |first| first.min(event)));
        }
    }

    /// Records that an outcome was sent to settle.
    pub(super) fn settled(&mut self, event: EventId) {
        for pending in [&mut self.ready, &mut self.due].into_iter().flatten() {
            pending.settled.push(event);
        }
    }

    /// Records that a row waits for this time.
    pub(super) fn due_at(&mut self, at: Timestamp) {
        debug_assert!(!self.ordered);
        self.next_due = Some(self.next_due.map_or(at, |next| next.min(at)));
    }

    /// Returns when the next round begins. Returns `None` during a round and while the webhook is held.
    pub(super) fn next_round(&self) -> Option<Timestamp> {
        if self.mode == BacklogMode::Held || self.round.is_some() { None } else { self.next_due }
    }

    /// Begins a round if its time is reached.
    pub(super) fn begin_round(&mut self, now: Timestamp) {
        if self.next_round().is_some_and(|at| at <= now) {
            self.next_due = None;
            self.round = Some(ROUND_START);
        }
    }

    /// Whether a refill is needed while `held` entries are in memory.
    pub(super) fn wants_refill(&self, held: usize, bounds: &ShardBounds) -> bool {
        let ready = self.mode == BacklogMode::Spilled && self.ready.is_none();
        let due = self.mode != BacklogMode::Held && self.round.is_some() && self.due.is_none();
        (ready || due) && self.room(held, bounds) > 0
    }

    /// Returns the next refill request (which rows, and how many), or `None` if no refill is needed.
    pub(super) fn next_request(
        &mut self,
        held: usize,
        now: Timestamp,
        bounds: &ShardBounds,
    ) -> Option<(RefillKind, usize)> {
        if !self.wants_refill(held, bounds) {
            return None;
        }
        let rows = self.room(held, bounds).min(bounds.refill_rows);
        let pending = Some(PendingRefill { rows, settled: Vec::new(), spilled: None, stale: false });
        match self.round {
            Some(after) if self.due.is_none() => {
                self.due = pending;
                Some((RefillKind::Due { after, until: now }, rows))
            }
            _ => {
                self.ready = pending;
                let after = self.cursor;
                Some((if self.ordered { RefillKind::Ordered { after } } else { RefillKind::Ready { after } }, rows))
            }
        }
    }

    /// The number of rows that may be requested. It is zero until half of the window is free, and never more than fit in
    /// addition to the rows of pending requests. In order by a field more of the window may be used, so that rows behind a
    /// failing value are read.
    fn room(&self, held: usize, bounds: &ShardBounds) -> usize {
        let taken = held + self.rows_coming();
        if self.is_full(held, bounds) { 0 } else { bounds.window_entries.saturating_sub(taken) }
    }

    /// Whether the entries in memory are too many to request rows.
    pub(super) fn is_full(&self, held: usize, bounds: &ShardBounds) -> bool {
        let window = bounds.window_entries;
        held >= if self.by_field { window - window / ORDERED_REFILL_WINDOW_PART } else { window.div_ceil(2) }
    }

    /// The number of rows that pending requests may bring.
    pub(super) fn rows_coming(&self) -> usize {
        [&self.ready, &self.due].into_iter().flatten().map(|pending| pending.rows).sum()
    }

    /// Applies a reply. Returns `None` if its rows must be dropped.
    pub(super) fn apply_reply(&mut self, reply: &RefillReply) -> Option<UsableReply> {
        match reply.kind {
            RefillKind::Ready { after } | RefillKind::Ordered { after } => {
                let pending = self.ready.take()?;
                if pending.stale || self.mode != BacklogMode::Spilled {
                    return None;
                }
                if self.ordered && pending.spilled.is_some_and(|event| event <= after) {
                    // The reply has rows of later events than the spilled one.
                    return None;
                }
                // A row that is not written yet may lie before the end of the reply.
                self.cursor = pending.spilled.map_or(after, |event| after.min(before(event)));
                let is_in_memory = reply.end && pending.spilled.is_none();
                if is_in_memory {
                    self.mode = BacklogMode::InMemory;
                }
                Some(UsableReply { settled: pending.settled, is_in_memory })
            }
            RefillKind::Due { after, .. } => {
                let pending = self.due.take()?;
                if pending.stale {
                    return None;
                }
                self.round = if reply.end { None } else { Some(after) };
                if let (true, Some(at)) = (reply.end, reply.next_due) {
                    self.due_at(at);
                }
                Some(UsableReply { settled: pending.settled, is_in_memory: false })
            }
        }
    }

    /// Whether the webhook certainly has nothing on disk.
    pub(super) fn has_nothing_on_disk(&self) -> bool {
        self.mode == BacklogMode::InMemory
            && self.round.is_none()
            && self.next_due.is_none()
            && !self.has_pending_refill()
    }

    /// Whether a request has no reply yet.
    pub(super) fn has_pending_refill(&self) -> bool {
        self.ready.is_some() || self.due.is_some()
    }
}

/// The position just before an event.
fn before(event: EventId) -> EventId {
    EventId::from_u128(event.as_u128().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WebhookNo;

    fn id(n: u128) -> EventId {
        EventId::from_u128(n)
    }

    fn reply(kind: RefillKind, end: bool) -> RefillReply {
        RefillReply { webhook: WebhookNo(1), kind, rows: Vec::new(), not_before: Box::default(), end, next_due: None }
    }

    fn ready(after: u128) -> RefillKind {
        RefillKind::Ready { after: id(after) }
    }

    #[test]
    fn a_backlog_is_in_memory_again_only_if_nothing_was_spilled_since_the_request() {
        let (mut backlog, bounds, now) =
            (BacklogState::new(BacklogMode::InMemory), ShardBounds::default(), Timestamp::from_millis(5));
        assert_eq!(backlog.next_request(0, now, &bounds), None);
        backlog.start_spilling();
        assert_eq!(backlog.next_request(0, now, &bounds).map(|(kind, _)| kind), Some(ready(0)));
        assert_eq!(backlog.next_request(0, now, &bounds), None, "one at a time");
        backlog.spilled(id(9));
        assert!(!backlog.apply_reply(&reply(ready(7), true)).unwrap().is_in_memory);
        assert_eq!(backlog.next_request(0, now, &bounds).map(|(kind, _)| kind), Some(ready(7)));
        assert!(backlog.apply_reply(&reply(ready(8), true)).unwrap().is_in_memory);
        assert!(backlog.has_nothing_on_disk());
    }

    #[test]
    fn a_spill_before_the_cursor_moves_the_cursor_back() {
        let (mut backlog, bounds, now) =
            (BacklogState::new(BacklogMode::InMemory), ShardBounds::default(), Timestamp::from_millis(5));
        backlog.start_spilling();
        backlog.next_request(0, now, &bounds);
        backlog.spilled(id(5));
        assert!(!backlog.apply_reply(&reply(ready(9), true)).unwrap().is_in_memory, "spilled during the request");
        backlog.spilled(id(3));
        assert_eq!(
            backlog.next_request(0, now, &bounds).map(|(kind, _)| kind),
            Some(ready(2)),
            "spilled between two requests"
        );
        assert!(backlog.apply_reply(&reply(ready(9), true)).unwrap().is_in_memory);
    }

    #[test]
    fn a_pause_makes_the_reply_stale_and_restarts_the_cursor() {
        let (mut backlog, bounds, now) =
            (BacklogState::new(BacklogMode::InMemory), ShardBounds::default(), Timestamp::from_millis(5));
        backlog.start_spilling();
        backlog.next_request(0, now, &bounds);
        backlog.hold();
        assert!(!backlog.wants_refill(0, &bounds));
        backlog.resume();
        assert!(backlog.apply_reply(&reply(ready(9), true)).is_none());
        let requests: Vec<_> =
            std::iter::from_fn(|| backlog.next_request(0, now, &bounds)).map(|(kind, _)| kind).collect();
        assert_eq!(requests, [RefillKind::Due { after: ROUND_START, until: now }, ready(0)]);
    }

    #[test]
    fn each_lane_keeps_the_ids_settled_since_its_own_request() {
        let (mut backlog, bounds, now) =
            (BacklogState::new(BacklogMode::InMemory), ShardBounds::default(), Timestamp::from_millis(5));
        backlog.start_spilling();
        backlog.next_request(0, now, &bounds);
        backlog.settled(id(1));
        backlog.due_at(now);
        backlog.begin_round(now);
        backlog.next_request(0, now, &bounds);
        backlog.settled(id(2));
        assert_eq!(backlog.apply_reply(&reply(ready(0), true)).unwrap().settled, [id(1), id(2)]);
        let due = reply(RefillKind::Due { after: (now, id(3)), until: now }, true);
        assert_eq!(backlog.apply_reply(&due).unwrap().settled, [id(2)]);
    }

    #[test]
    fn a_time_set_during_a_round_begins_the_next() {
        let (mut backlog, bounds) = (BacklogState::new(BacklogMode::InMemory), ShardBounds::default());
        let at = Timestamp::from_millis;
        backlog.due_at(at(10));
        backlog.begin_round(at(9));
        assert_eq!(backlog.next_request(0, at(9), &bounds), None);
        backlog.begin_round(at(10));
        backlog.next_request(0, at(10), &bounds);
        backlog.due_at(at(30));
        let kind = RefillKind::Due { after: (at(10), id(1)), until: at(10) };
        backlog.apply_reply(&RefillReply { next_due: Some(at(20)), ..reply(kind, true) });
        assert_eq!(backlog.next_round(), Some(at(20)));
    }

    #[test]
    fn requests_never_ask_for_more_than_fits() {
        let bounds = ShardBounds { window_entries: 8, refill_rows: 6, ..ShardBounds::default() };
        let (mut backlog, now) = (BacklogState::new(BacklogMode::Held), Timestamp::from_millis(5));
        backlog.resume();
        assert_eq!(backlog.next_request(4, now, &bounds), None, "half is held");
        assert_eq!(backlog.next_request(1, now, &bounds).map(|(_, rows)| rows), Some(6));
        assert_eq!(backlog.next_request(1, now, &bounds).map(|(_, rows)| rows), Some(1));
    }
}
