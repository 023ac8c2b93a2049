//! Which of a webhook's deliveries are in memory and which are on disk, and how the rest comes back.
//!
//! # Rule
//! Every unsettled delivery is known to settle from before the shard hears of it: it is *announced* (settle's list) or it
//! has a *row*. What the shard holds is a copy of that, so a shard can lose nothing; it can only fail to look. The rules
//! below say when it looks, and what keeps it from taking a delivery twice.
//!
//! # States
//! ```text
//!             window full, or rows told of                        pause
//!     live ─────────────────────────────────► lagging ──────────────────► held
//!       ▲                                       │  ▲ ▲                     │
//!       └── a Ready reply says `end`, nothing ──┘  │ └─────── resume ──────┘
//!           spilled or told of since the request   └ (live: pause goes to held at once)
//! ```
//! - **Live**: everything that waits for no time is in memory or under way. An arrival joins the queue.
//! - **Lagging**: rows without a time may be on disk, after the cursor. An arrival is *spilled* (it gets a row), except that
//!   a few are kept *fresh* in memory, and served in turn with the backlog.
//! - **Held** (paused, inactive): only what is under way is in memory. Every arrival is spilled.
//!
//! A webhook that failed or was removed is held as well; what is in memory of it ends as a dead letter instead of going to
//! disk, and so does what still arrives. What its rows become is not decided here.
//!
//! # In order
//! What waits for a webhook with `ordered` is sent in the order of acceptance, one at a time, and what waits for a time
//! holds back all behind it. For it the rules above have these exceptions:
//! - There are no fresh entries and no due lane: every row, whether it waits for a time or not, is read in the order of
//!   acceptance (*Refill (Ordered)*), and a retry stays in memory, with its time.
//! - What is in memory is the beginning of what waits, up to the cursor: nothing behind the cursor is sent. Such a webhook
//!   begins as lagging, as rows may be on disk that nobody has told of yet; when its window is full the cursor is its last
//!   entry; rows that somebody else wrote may lie before it, so all that is held goes to disk and is read anew.
//! - Rows of an event with very many webhooks are written by a job, after later events have arrived. Commit tells of it
//!   before those (*Wide*): the webhook lags, and settle answers no further than up to that event until its rows are there.
//! - A row may overtake the arrivals of earlier events, where settle gave it: it waits until its own arrival has come, which
//!   comes after theirs, and an arrival that lies before the cursor has all that is held read anew.
//! - What a change of `ordered` finds in memory goes to disk, and is read anew by the other rule. So does what is under way
//!   then and fails, unless the cursor has passed it.
//!
//! # In order by a field
//! The same holds for a webhook with `ordered_by`. Only what goes next is another ([`super::turns`]): an entry of which all
//! that was accepted before it is here, done or under way, as above, and none of these is of its value. So several are
//! under way, and these may lie behind the cursor, where the webhook lagged after they began: one that fails there is read
//! again as a row, after what lies before it.
//!
//! What waits behind a failing event stays in memory too, so its room is bounded by the window: rows are asked for until
//! only an eighth is free, and then others wait as well.
//!
//! # Messages
//! - *Arrivals*: join, are kept fresh, or are spilled, as the state says.
//! - *Waiting*: somebody else wrote rows (start, replay): a live webhook lags, a lagging one moves its cursor to the start;
//!   a due time joins those it knows.
//! - *Changed*: pause spills what arrived and forgets what has rows; resume starts the cursor and a round.
//! - *Spill*: settle moves the delivery from its list to a row. Only what arrived is spilled. What came from a row still has
//!   it (a row goes when its outcome is told, not when it is read), and is forgotten without a word.
//! - *Refill (Ready)*: asked while lagging and less than half the window is held, with a cursor that starts at the
//!   beginning each time the webhook starts to lag, resumes, or is told of rows (`Waiting`), and else moves with each reply.
//! - *Refill (Due)*: a retry is told to settle and forgotten here but for the earliest time. When that comes, a *round* reads
//!   the due rows from the beginning, page after page, until a reply says `end`; the reply then tells the next time. Times
//!   set meanwhile are kept beside it, the smaller one wins, so none is missed; a round begins at the beginning, so a row
//!   written behind a cursor is found by the next round.
//!
//! # Nothing is lost
//! The channel to settle is FIFO, and a request is answered after a flush that applied all before it. So a Ready reply
//! with `end` has shown every row that was spilled before its request; if nothing was spilled or told of since, nothing
//! is left on disk, and only then the webhook is live. Had something been spilled since, it lies after the cursor and the
//! next request finds it: ids rise, and where a job's row has overtaken the arrivals of earlier events, a spill before the
//! cursor takes the cursor back. What was in memory and goes back to disk does so by a pause, which moves the cursor to
//! the start.
//!
//! # Nothing is doubled
//! A reply may show a delivery that is already here, as a row lives until its outcome is told:
//! - it is held or under way: the row is dropped;
//! - it was settled after the request: the reply may be older than that, so the row is dropped as well. Each lane keeps the
//!   settled ids since its own request. A retry of it is found by its time;
//! - the request was made before a pause or a restart of the cursor: the whole reply is dropped (*stale*) and asked again.
//!
//! What is dropped unfinished in a stop or a crash was not told, and so is still announced or a row: the next start sends
//! it again, which at-least-once allows.
//!
//! One case comes from the other side: settle can give a row to a delivery that is announced but whose arrival is still on
//! its way here. The shard remembers rows newer than its newest arrival and drops these arrivals (see [`super::early`]).

use crate::handoff::{Lane, Refilled};
use crate::limits::{self, WINDOW_PART_REFILLED};
use crate::model::{EventId, Timestamp};
use crate::outbound::Order;

/// How much a webhook and a shard may hold; a test's are small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) window_entries: usize,
    pub(super) window_bytes: usize,
    pub(super) fresh_entries: usize,
    pub(super) refill_rows: usize,
    pub(super) refills: usize,
    pub(super) recall_events: usize,
    pub(super) in_flight: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            window_entries: limits::WINDOW_ENTRIES,
            window_bytes: limits::WINDOW_BYTES,
            fresh_entries: limits::FRESH_ENTRIES,
            refill_rows: limits::REFILL_ROWS,
            refills: limits::REFILLS_PER_SHARD,
            recall_events: limits::RECALL_EVENTS,
            in_flight: limits::IN_FLIGHT_PER_SHARD,
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Live,
    Lagging,
    Held,
}

/// A refill under way.
#[derive(Debug)]
struct Asked {
    rows: usize,
    /// Settled since the request.
    settled: Vec<EventId>,
    /// The first event that was spilled since the request.
    spilled: Option<EventId>,
    /// The reply is of no use.
    stale: bool,
}

/// What one webhook has on disk, as far as the shard must know.
#[derive(Debug)]
pub(super) struct Backlog {
    mode: Mode,
    cursor: EventId,
    ready: Option<Asked>,
    /// The place of the round under way.
    round: Option<(Timestamp, EventId)>,
    due: Option<Asked>,
    next_due: Option<Timestamp>,
    /// In order of acceptance; see the module.
    ordered: bool,
    /// Of the events that have the same value of a field only.
    by_field: bool,
}

/// Before every due row.
const ROUND_START: (Timestamp, EventId) = (Timestamp::from_millis(i64::MIN), EventId::MIN);

/// What a reply that is not stale means.
#[derive(Debug)]
pub(super) struct Usable {
    /// Settled since the request: not to be taken.
    pub(super) settled: Vec<EventId>,
    /// Everything is in memory now.
    pub(super) is_live: bool,
}

impl Backlog {
    pub(super) fn new(mode: Mode) -> Self {
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

    /// From now on in order, or no longer; what was held went to disk before.
    pub(super) fn set_order(&mut self, order: &Order) {
        self.ordered = *order != Order::Any;
        self.by_field = order.field().is_some();
        if self.ordered {
            self.next_due = None;
            if self.mode == Mode::Live {
                self.mode = Mode::Lagging;
            }
        }
    }

    /// Of an ordered webhook: whether everything accepted before this event is in memory or settled.
    pub(super) fn has_reached(&self, event: EventId) -> bool {
        match self.mode {
            Mode::Live => true,
            Mode::Lagging => event <= self.cursor,
            Mode::Held => false,
        }
    }

    /// Of an ordered webhook that is sent to: from here on all that comes is on disk, behind `last`, the last that is in
    /// memory. Rows may be written behind it that no spill of ours explains.
    pub(super) fn lag_behind(&mut self, last: EventId) {
        match self.mode {
            Mode::Live => {
                self.mode = Mode::Lagging;
                self.cursor = last;
            }
            // Where a request under way says that it has seen the end, there may be more by now.
            Mode::Lagging => self.spilled(EventId::MAX),
            Mode::Held => {}
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Rows may be on disk from here on.
    pub(super) fn lag(&mut self) {
        debug_assert_eq!(self.mode, Mode::Live);
        self.mode = Mode::Lagging;
        self.cursor = EventId::MIN;
    }

    /// Rows were written that no spill of ours explains.
    pub(super) fn rows_appeared(&mut self) {
        match self.mode {
            Mode::Live => self.lag(),
            Mode::Lagging => self.restart(),
            Mode::Held => {}
        }
    }

    /// Everything not under way leaves memory.
    pub(super) fn hold(&mut self) {
        self.mode = Mode::Held;
        self.restart();
        self.round = None;
        if let Some(due) = &mut self.due {
            due.stale = true;
        }
    }

    /// What is on disk is wanted again.
    pub(super) fn resume(&mut self) {
        debug_assert_eq!(self.mode, Mode::Held);
        self.mode = Mode::Lagging;
        self.round = if self.ordered { None } else { Some(ROUND_START) };
    }

    fn restart(&mut self) {
        self.cursor = EventId::MIN;
        if let Some(ready) = &mut self.ready {
            ready.stale = true;
        }
    }

    /// A delivery of this webhook gets a row. One that lies before the cursor, as rows of later events have overtaken its
    /// arrival, takes the cursor back.
    pub(super) fn spilled(&mut self, event: EventId) {
        if !self.ordered {
            self.cursor = self.cursor.min(before(event));
        }
        if let Some(ready) = &mut self.ready {
            ready.spilled = Some(ready.spilled.map_or(event, |first| first.min(event)));
        }
    }

    /// An outcome was told.
    pub(super) fn settled(&mut self, event: EventId) {
        for asked in [&mut self.ready, &mut self.due].into_iter().flatten() {
            asked.settled.push(event);
        }
    }

    /// A row waits for this time.
    pub(super) fn due_at(&mut self, at: Timestamp) {
        debug_assert!(!self.ordered);
        self.next_due = Some(self.next_due.map_or(at, |next| next.min(at)));
    }

    /// When the next round is to begin; none while one is under way, or the webhook is held.
    pub(super) fn next_round(&self) -> Option<Timestamp> {
        if self.mode == Mode::Held || self.round.is_some() { None } else { self.next_due }
    }

    /// Begins a round if it is time.
    pub(super) fn begin_round(&mut self, now: Timestamp) {
        if self.next_round().is_some_and(|at| at <= now) {
            self.next_due = None;
            self.round = Some(ROUND_START);
        }
    }

    /// Whether a refill is wanted while `held` entries are in memory.
    pub(super) fn is_wanted(&self, held: usize, bounds: &Bounds) -> bool {
        let ready = self.mode == Mode::Lagging && self.ready.is_none();
        let due = self.mode != Mode::Held && self.round.is_some() && self.due.is_none();
        (ready || due) && self.room(held, bounds) > 0
    }

    /// Makes the next request.
    pub(super) fn ask(&mut self, held: usize, now: Timestamp, bounds: &Bounds) -> Option<(Lane, usize)> {
        if !self.is_wanted(held, bounds) {
            return None;
        }
        let rows = self.room(held, bounds).min(bounds.refill_rows);
        let asked = Some(Asked { rows, settled: Vec::new(), spilled: None, stale: false });
        match self.round {
            Some(after) if self.due.is_none() => {
                self.due = asked;
                Some((Lane::Due { after, until: now }, rows))
            }
            _ => {
                self.ready = asked;
                let after = self.cursor;
                Some((if self.ordered { Lane::Ordered { after } } else { Lane::Ready { after } }, rows))
            }
        }
    }

    /// How many rows may be asked for: none before half the window is free, never more than fit beside those under way.
    /// What waits behind others of its value may take more of the window, so that those behind it are read.
    fn room(&self, held: usize, bounds: &Bounds) -> usize {
        let taken = held + self.rows_coming();
        if self.is_full(held, bounds) { 0 } else { bounds.window_entries.saturating_sub(taken) }
    }

    /// Whether so much is held that no rows are asked for.
    pub(super) fn is_full(&self, held: usize, bounds: &Bounds) -> bool {
        let window = bounds.window_entries;
        held >= if self.by_field { window - window / WINDOW_PART_REFILLED } else { window.div_ceil(2) }
    }

    /// Rows that requests under way may bring.
    pub(super) fn rows_coming(&self) -> usize {
        [&self.ready, &self.due].into_iter().flatten().map(|asked| asked.rows).sum()
    }

    /// A reply came; `None`: it is of no use.
    pub(super) fn answered(&mut self, reply: &Refilled) -> Option<Usable> {
        match reply.lane {
            Lane::Ready { after } | Lane::Ordered { after } => {
                let asked = self.ready.take()?;
                if asked.stale || self.mode != Mode::Lagging {
                    return None;
                }
                if self.ordered && asked.spilled.is_some_and(|event| event <= after) {
                    // Rows of later events have overtaken it.
                    return None;
                }
                // A row that is not written yet may lie before where the reply ends.
                self.cursor = asked.spilled.map_or(after, |event| after.min(before(event)));
                let is_live = reply.end && asked.spilled.is_none();
                if is_live {
                    self.mode = Mode::Live;
                }
                Some(Usable { settled: asked.settled, is_live })
            }
            Lane::Due { after, .. } => {
                let asked = self.due.take()?;
                if asked.stale {
                    return None;
                }
                self.round = if reply.end { None } else { Some(after) };
                if let (true, Some(at)) = (reply.end, reply.next_due) {
                    self.due_at(at);
                }
                Some(Usable { settled: asked.settled, is_live: false })
            }
        }
    }

    /// Whether nothing of this webhook is, or may be, on disk.
    pub(super) fn is_clear(&self) -> bool {
        self.mode == Mode::Live && self.round.is_none() && self.next_due.is_none() && !self.is_asking()
    }

    /// Whether a reply is to come.
    pub(super) fn is_asking(&self) -> bool {
        self.ready.is_some() || self.due.is_some()
    }
}

/// The place just before an event.
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

    fn reply(lane: Lane, end: bool) -> Refilled {
        Refilled { webhook: WebhookNo(1), lane, rows: Vec::new(), not_before: Box::default(), end, next_due: None }
    }

    fn ready(after: u128) -> Lane {
        Lane::Ready { after: id(after) }
    }

    #[test]
    fn live_again_only_if_nothing_was_spilled_since_the_request() {
        let (mut backlog, bounds, now) = (Backlog::new(Mode::Live), Bounds::default(), Timestamp::from_millis(5));
        assert_eq!(backlog.ask(0, now, &bounds), None);
        backlog.lag();
        assert_eq!(backlog.ask(0, now, &bounds).map(|(lane, _)| lane), Some(ready(0)));
        assert_eq!(backlog.ask(0, now, &bounds), None, "one at a time");
        backlog.spilled(id(9));
        assert!(!backlog.answered(&reply(ready(7), true)).unwrap().is_live);
        assert_eq!(backlog.ask(0, now, &bounds).map(|(lane, _)| lane), Some(ready(7)));
        assert!(backlog.answered(&reply(ready(8), true)).unwrap().is_live);
        assert!(backlog.is_clear());
    }

    #[test]
    fn what_is_spilled_before_the_cursor_takes_it_back() {
        let (mut backlog, bounds, now) = (Backlog::new(Mode::Live), Bounds::default(), Timestamp::from_millis(5));
        backlog.lag();
        backlog.ask(0, now, &bounds);
        backlog.spilled(id(5));
        assert!(!backlog.answered(&reply(ready(9), true)).unwrap().is_live, "spilled while asking");
        backlog.spilled(id(3));
        assert_eq!(backlog.ask(0, now, &bounds).map(|(lane, _)| lane), Some(ready(2)), "spilled between two requests");
        assert!(backlog.answered(&reply(ready(9), true)).unwrap().is_live);
    }

    #[test]
    fn a_pause_makes_the_reply_stale_and_the_cursor_start_over() {
        let (mut backlog, bounds, now) = (Backlog::new(Mode::Live), Bounds::default(), Timestamp::from_millis(5));
        backlog.lag();
        backlog.ask(0, now, &bounds);
        backlog.hold();
        assert!(!backlog.is_wanted(0, &bounds));
        backlog.resume();
        assert!(backlog.answered(&reply(ready(9), true)).is_none());
        let asked: Vec<_> = std::iter::from_fn(|| backlog.ask(0, now, &bounds)).map(|(lane, _)| lane).collect();
        assert_eq!(asked, [Lane::Due { after: ROUND_START, until: now }, ready(0)]);
    }

    #[test]
    fn each_lane_keeps_what_was_settled_since_its_own_request() {
        let (mut backlog, bounds, now) = (Backlog::new(Mode::Live), Bounds::default(), Timestamp::from_millis(5));
        backlog.lag();
        backlog.ask(0, now, &bounds);
        backlog.settled(id(1));
        backlog.due_at(now);
        backlog.begin_round(now);
        backlog.ask(0, now, &bounds);
        backlog.settled(id(2));
        assert_eq!(backlog.answered(&reply(ready(0), true)).unwrap().settled, [id(1), id(2)]);
        let due = reply(Lane::Due { after: (now, id(3)), until: now }, true);
        assert_eq!(backlog.answered(&due).unwrap().settled, [id(2)]);
    }

    #[test]
    fn a_time_set_during_a_round_begins_the_next() {
        let (mut backlog, bounds) = (Backlog::new(Mode::Live), Bounds::default());
        let at = Timestamp::from_millis;
        backlog.due_at(at(10));
        backlog.begin_round(at(9));
        assert_eq!(backlog.ask(0, at(9), &bounds), None);
        backlog.begin_round(at(10));
        backlog.ask(0, at(10), &bounds);
        backlog.due_at(at(30));
        let lane = Lane::Due { after: (at(10), id(1)), until: at(10) };
        backlog.answered(&Refilled { next_due: Some(at(20)), ..reply(lane, true) });
        assert_eq!(backlog.next_round(), Some(at(20)));
    }

    #[test]
    fn requests_never_ask_for_more_than_fits() {
        let bounds = Bounds { window_entries: 8, refill_rows: 6, ..Bounds::default() };
        let (mut backlog, now) = (Backlog::new(Mode::Held), Timestamp::from_millis(5));
        backlog.resume();
        assert_eq!(backlog.ask(4, now, &bounds), None, "half is held");
        assert_eq!(backlog.ask(1, now, &bounds).map(|(_, rows)| rows), Some(6));
        assert_eq!(backlog.ask(1, now, &bounds).map(|(_, rows)| rows), Some(1));
    }
}
