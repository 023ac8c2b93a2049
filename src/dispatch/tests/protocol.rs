//! The protocol between a shard and settle, in any order of events, against a model that knows of each delivery only
//! whether it waits, is under way, waits for a time, or is done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::settle::{Delivery, Settle};
use crate::dispatch::backlog::Bounds;
use crate::dispatch::shard::{Input, Shard};
use crate::dispatch::testing::{Kept, Made, World, event, value};
use crate::dispatch::webhook_queue::Job;
use crate::handoff::{Arrival, Outcome, RecallRequest, ToShard, Waiting};
use crate::limits::{RECALL_PAUSE, WEBHOOK_IDLE};
use crate::model::{AttemptError, DeadReason, Decision, EventId, Timestamp, WebhookNo, WebhookStatus};
use crate::runtime::{BodyLease, Instant, Metrics, Random};

const WEBHOOKS: u32 = 4;

/// So small that everything overflows all the time.
const BOUNDS: Bounds = Bounds {
    window_entries: 4,
    window_bytes: 1 << 20,
    fresh_entries: 2,
    refill_rows: 3,
    refills: 2,
    recall_events: 2,
    in_flight: 8,
};

#[derive(Debug, Clone)]
enum Operation {
    /// An event is committed for these webhooks (a bit each).
    Commit(u8),
    /// The shard reads a message of commit's.
    ReadCommit,
    /// The shard reads a message of settle's.
    ReadSettle,
    /// The shard reads bodies.
    ReadBodies,
    /// The shard tells what has gathered.
    Tell,
    /// Settle flushes, and answers.
    Flush,
    /// Settle's list is too long: its oldest entries get rows.
    Overflow(usize),
    /// A worker is free.
    Begin,
    /// The i-th delivery under way ends.
    End(usize, Ending),
    /// The webhook gets this status.
    Status(u32, WebhookStatus),
    /// The webhook is to be sent to in this order.
    Order(u32, Kept),
    /// The i-th delivery that has ended is to be made again.
    Replay(usize),
    /// An event is accepted for very many webhooks, these (a bit each) among them: a job is to write its rows.
    CommitWide(u8),
    /// The job writes a row.
    WriteRow,
    /// Bodies take too much memory, or no longer.
    Memory(bool),
    /// Time passes.
    Pass(u64),
    /// Everything in memory is lost, and what was not flushed.
    Crash,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Ok,
    Fails,
    Unavailable,
    Dropped,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    use Operation as Op;
    let ending = prop_oneof![6 => Just(Ending::Ok), 3 => Just(Ending::Fails), 1 => Just(Ending::Unavailable), 1 => Just(Ending::Dropped)];
    let status = prop_oneof![
        3 => Just(WebhookStatus::Active), 2 => Just(WebhookStatus::Paused), 1 => Just(WebhookStatus::Inactive)];
    let kept = prop_oneof![Just(Kept::Any), Just(Kept::Acceptance), Just(Kept::By("k")), Just(Kept::By("j"))];
    let operation = prop_oneof![
        12 => (1u8..1 << WEBHOOKS).prop_map(Op::Commit),
        12 => Just(Op::ReadCommit),
        8 => Just(Op::ReadSettle),
        8 => Just(Op::ReadBodies),
        8 => Just(Op::Tell),
        8 => Just(Op::Flush),
        2 => (1usize..6).prop_map(Op::Overflow),
        10 => Just(Op::Begin),
        10 => (0usize..8, ending).prop_map(|(i, ending)| Op::End(i, ending)),
        2 => (0..WEBHOOKS, status).prop_map(|(no, status)| Op::Status(no, status)),
        1 => (0..WEBHOOKS, kept).prop_map(|(no, kept)| Op::Order(no, kept)),
        1 => (0usize..100).prop_map(Op::Replay),
        1 => (1u8..1 << WEBHOOKS).prop_map(Op::CommitWide),
        2 => Just(Op::WriteRow),
        1 => any::<bool>().prop_map(Op::Memory),
        4 => (1u64..3_000).prop_map(Op::Pass),
        1 => Just(Op::Crash),
    ];
    proptest::collection::vec(operation, 1..250)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Waits,
    UnderWay,
    WaitsUntil(Timestamp),
    Done,
}

struct Test {
    world: World,
    shard: Shard,
    settle: Settle,
    /// What commit has told the shard.
    arrivals: VecDeque<ToShard>,
    recalls: VecDeque<RecallRequest>,
    jobs: Vec<Job>,
    committed: u128,
    model: BTreeMap<Delivery, State>,
    too_much: Option<Arc<BodyLease>>,
    made: [Made; WEBHOOKS as usize],
    /// Attempts before the last replay.
    bases: BTreeMap<Delivery, u16>,
}

impl Test {
    fn new() -> Self {
        let mut world = World::new();
        // A world in which breakers open as well.
        world.setup.breaker.min_attempts = 5;
        // The last two are sent to in order from the beginning.
        let orders = [Kept::Any, Kept::Any, Kept::Acceptance, Kept::By("k")];
        let made = orders.map(|order| Made { max_in_flight: Some(2), order, ..Made::default() });
        (0..).zip(made).for_each(|(no, made)| world.book.put(no, made));
        let shard = Shard::new(0, 1, world.setup.clone(), Random::seeded(1), BOUNDS);
        Self {
            world,
            shard,
            settle: Settle::default(),
            arrivals: VecDeque::new(),
            recalls: VecDeque::new(),
            jobs: Vec::new(),
            committed: 0,
            model: BTreeMap::new(),
            too_much: None,
            made,
            bases: BTreeMap::new(),
        }
    }

    fn instant(&self) -> Instant {
        self.world.setup.clock.instant()
    }

    fn give(&mut self, input: Input) {
        self.shard.step(self.world.setup.clock.instant(), input);
    }

    fn now(&self) -> Timestamp {
        self.world.setup.clock.steady()
    }

    fn commit(&mut self, webhooks: u8) {
        self.committed += 1;
        let event = event(self.committed);
        let webhooks: crate::model::Webhooks =
            (0..WEBHOOKS).filter(|no| webhooks & (1 << no) != 0).map(WebhookNo).collect();
        for no in &webhooks {
            self.settle.outstanding.insert((event.id, *no));
            self.model.insert((*no, event.id), State::Waits);
        }
        self.arrivals.push_back(ToShard::Arrivals(vec![Arrival { event, webhooks }]));
    }

    fn commit_wide(&mut self, webhooks: u8) {
        self.committed += 1;
        let event = EventId::from_u128(self.committed);
        for no in (0..WEBHOOKS).filter(|no| webhooks & (1 << no) != 0).map(WebhookNo) {
            self.settle.unwritten.insert((event, no));
            self.model.insert((no, event), State::Waits);
        }
        self.arrivals.push_back(ToShard::Wide(event));
    }

    /// A row of a wide event, of which the shard is told.
    fn write_row(&mut self) -> bool {
        let Some((event, no)) = self.settle.unwritten.pop_first() else { return false };
        self.settle.rows.insert((no, event), (0, None));
        self.give(Input::Message(ToShard::Waiting(vec![Waiting { webhook: no, ready: true, due: None }])));
        true
    }

    fn replay(&mut self, i: usize) {
        self.tell();
        self.flush();
        let Some((delivery, (_, attempts))) = self.settle.ended.iter().nth(i).map(|(d, e)| (*d, *e)) else { return };
        self.settle.ended.remove(&delivery);
        let now = self.now();
        self.settle.rows.insert(delivery, (attempts, Some(now)));
        self.settle.bases.insert(delivery, attempts);
        self.bases.insert(delivery, attempts);
        self.model.insert(delivery, State::WaitsUntil(now));
        self.give(Input::Message(ToShard::Waiting(vec![Waiting {
            webhook: delivery.0,
            ready: false,
            due: Some(now),
        }])));
    }

    fn flush(&mut self) {
        let now = self.now();
        self.settle.flush(self.world.told.try_iter(), now);
    }

    fn begin(&mut self) -> bool {
        let Some(job) = self.shard.next_job(self.instant()) else { return false };
        let (no, now) = (job.webhook.no, self.now());
        let state = self.model.get_mut(&(no, job.event.id)).expect("only what was committed is sent");
        match *state {
            State::Waits => {}
            State::WaitsUntil(at) => assert!(at <= now, "{:?} is sent before its time", job.event.id),
            State::UnderWay | State::Done => panic!("{no:?} {:?} is sent again: {state:?}", job.event.id),
        }
        *state = State::UnderWay;
        let id = job.event.id;
        let keep_order = |other: EventId| match self.made[no.0 as usize].order {
            Kept::Any => false,
            Kept::Acceptance => true,
            Kept::By(path) => {
                let own = value(path, id.as_u128());
                own.is_some() && own == value(path, other.as_u128())
            }
        };
        let before = self.model.range((no, EventId::MIN)..(no, id)).filter(|((_, other), _)| keep_order(*other));
        let left: Vec<_> = before.filter(|(_, state)| **state != State::Done).collect();
        assert!(left.is_empty(), "{id:?} is sent before {left:?}");
        let mut others = self.jobs.iter().filter(|other| other.webhook.no == no);
        assert!(!others.any(|other| keep_order(other.event.id)), "two at once");
        self.jobs.push(job);
        assert!(self.jobs.iter().filter(|job| job.webhook.no == no).count() <= 2, "more at once than allowed");
        true
    }

    fn end(&mut self, job: Job, ending: Ending) {
        let delivery = (job.webhook.no, job.event.id);
        let retry = State::WaitsUntil(self.now().plus(Duration::from_secs(1)));
        let is_last = job.number() - self.bases.get(&delivery).unwrap_or(&0) >= 3;
        let result = match ending {
            Ending::Ok => Ok(()),
            Ending::Fails => Err(AttemptError::Timeout),
            Ending::Unavailable => Err(AttemptError::Status(503)),
            Ending::Dropped => Err(AttemptError::Dropped),
        };
        let next = if result.is_ok() || is_last { State::Done } else { retry };
        self.model.insert(delivery, next);
        if result == Err(AttemptError::Dropped) {
            return self.give(Input::Dropped(job));
        }
        let outcome = Outcome {
            result,
            http_status: None,
            retry_after: None,
            response: Box::default(),
            latency: Duration::ZERO,
            sent_at: None,
        };
        self.give(Input::Finished(job, outcome));
    }

    fn tell(&mut self) {
        let now = self.instant();
        self.world.ports.perform(&mut self.shard, now);
        self.recalls.extend(self.world.recalls.try_iter());
    }

    async fn pass(&mut self, ms: u64) {
        tokio::time::advance(Duration::from_millis(ms)).await;
        self.give(Input::Tick);
    }

    fn read_commit(&mut self) -> bool {
        let Some(arrival) = self.arrivals.pop_front() else { return false };
        self.give(Input::Message(arrival));
        true
    }

    fn read_settle(&mut self) -> bool {
        let Some(answer) = self.settle.answers.pop_front() else { return false };
        self.give(Input::Message(ToShard::Refilled(answer)));
        true
    }

    fn read_bodies(&mut self) -> bool {
        let Some(RecallRequest { webhook, events, .. }) = self.recalls.pop_front() else { return false };
        assert!(events.is_sorted() && events.len() <= BOUNDS.recall_events && !events.is_empty());
        let events = events.into_iter().map(|id| (id, Some(event(id.as_u128())))).collect();
        self.give(Input::Message(ToShard::Recalled { webhook, events }));
        true
    }

    fn status(&mut self, no: u32, status: WebhookStatus) {
        self.made[no as usize].status = status;
        self.changed(no);
    }

    fn order(&mut self, no: u32, order: Kept) {
        self.made[no as usize].order = order;
        self.changed(no);
    }

    fn changed(&mut self, no: u32) {
        self.world.book.put(no, self.made[no as usize]);
        self.give(Input::Message(ToShard::Changed([WebhookNo(no)].into_iter().collect())));
    }

    /// The process dies between two flushes; a new one starts from the rows, the list and the log.
    fn crash(&mut self) {
        self.world.told.try_iter().for_each(drop);
        self.arrivals.clear();
        self.recalls.clear();
        self.settle.answers.clear();
        self.jobs.clear();
        for (event, no) in std::mem::take(&mut self.settle.outstanding) {
            self.settle.rows.insert((no, event), (0, None));
        }
        for (delivery, state) in &mut self.model {
            *state = match self.settle.rows.get(delivery) {
                None if self.settle.unwritten.contains(&(delivery.1, delivery.0)) => State::Waits,
                Some((_, None)) => State::Waits,
                Some((_, Some(at))) => State::WaitsUntil(*at),
                None => State::Done,
            };
        }
        self.world.setup.metrics = Metrics::new().unwrap();
        self.world.setup.last_event = EventId::from_u128(self.committed);
        self.shard = Shard::new(0, 1, self.world.setup.clone(), Random::seeded(1), BOUNDS);
        let waiting = (0..WEBHOOKS).map(WebhookNo).filter_map(|no| {
            let of_webhook = self.settle.rows.iter().filter(|((row_no, _), _)| *row_no == no);
            let ready = of_webhook.clone().any(|(_, (_, at))| at.is_none());
            let due = of_webhook.filter_map(|(_, (_, at))| *at).min();
            (ready || due.is_some()).then_some(Waiting { webhook: no, ready, due })
        });
        self.give(Input::Message(ToShard::Waiting(waiting.collect())));
    }

    async fn step(&mut self, operation: Operation) {
        match operation {
            Operation::Commit(webhooks) => self.commit(webhooks),
            Operation::ReadCommit => drop(self.read_commit()),
            Operation::ReadSettle => drop(self.read_settle()),
            Operation::ReadBodies => drop(self.read_bodies()),
            Operation::Tell => self.tell(),
            Operation::Flush => self.flush(),
            Operation::Overflow(count) => {
                for (event, no) in self.settle.outstanding.iter().take(count).copied().collect::<Vec<_>>() {
                    self.settle.spill((no, event));
                }
            }
            Operation::Begin => drop(self.begin()),
            Operation::End(i, ending) if i < self.jobs.len() => {
                let job = self.jobs.swap_remove(i);
                self.end(job, ending);
            }
            Operation::End(..) => {}
            Operation::Status(no, status) => self.status(no, status),
            Operation::Order(no, order) => self.order(no, order),
            Operation::Replay(i) => self.replay(i),
            Operation::CommitWide(webhooks) => self.commit_wide(webhooks),
            Operation::WriteRow => drop(self.write_row()),
            Operation::Memory(is_over) => {
                self.too_much = is_over.then(|| self.world.setup.memory.lease(1 << 30));
            }
            Operation::Pass(ms) => self.pass(ms).await,
            Operation::Crash => self.crash(),
        }
        for no in (0..WEBHOOKS).map(WebhookNo) {
            assert!(self.shard.held(no) <= BOUNDS.window_entries + BOUNDS.fresh_entries, "more is held than may be");
        }
    }

    /// Everybody does what there is to do, and every attempt succeeds, until nothing is left.
    async fn finish(&mut self) {
        self.too_much = None;
        (0..WEBHOOKS).for_each(|no| self.status(no, WebhookStatus::Active));
        for _ in 0..10_000 {
            let mut did = self.read_commit() | self.read_settle() | self.read_bodies() | self.write_row();
            while self.begin() {}
            for job in std::mem::take(&mut self.jobs) {
                self.end(job, Ending::Ok);
                did = true;
            }
            self.tell();
            self.flush();
            if did || !self.settle.answers.is_empty() || !self.recalls.is_empty() {
                continue;
            }
            if self.model.values().all(|state| *state == State::Done) {
                return;
            }
            self.pass(500).await;
        }
        panic!(
            "these are never sent: {:?}",
            self.model.iter().filter(|(_, state)| **state != State::Done).collect::<Vec<_>>()
        );
    }
}

fn run(operations: Vec<Operation>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut test = Test::new();
        for operation in operations {
            test.step(operation).await;
        }
        test.finish().await;
        let settle = &test.settle;
        assert!(
            settle.rows.is_empty() && settle.outstanding.is_empty() && settle.unwritten.is_empty(),
            "all is settled"
        );
        for _ in 0..100 {
            test.pass(WEBHOOK_IDLE.as_millis() as u64).await;
            test.tell();
            test.flush();
            while test.read_settle() {}
        }
        assert_eq!(test.world.setup.metrics.lagging_webhooks.get(), 0, "all are live again");
        assert_eq!(test.shard.webhooks(), 0, "and forgotten");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Each delivery is sent, never twice at once, never again without a failure, a replay or a crash, never before its time;
    /// those of an ordered webhook one at a time, and none before all that were accepted earlier are done, or of one in order
    /// by a field the same of those with the same value; memory stays
    /// bounded; in the end every webhook is live and forgotten.
    #[test]
    fn each_delivery_is_sent_once(operations in operations()) {
        run(operations);
    }
}

/// Eight events are announced, the sixth for very many webhooks, and their arrivals are on their way to the shard. The job
/// writes the sixth's row first, and the webhook lags. Now the first arrivals come, and are spilled while the refill that
/// brings that row is under way: they lie before where it ends.
#[test]
fn a_row_of_a_wide_event_that_overtakes_earlier_arrivals_hides_none_of_them() {
    use Operation as Op;
    let mut story = vec![Op::Commit(1); 5];
    story.extend([Op::CommitWide(3), Op::Commit(1), Op::Begin, Op::WriteRow, Op::Tell, Op::Commit(1)]);
    story.extend([Op::ReadCommit, Op::ReadCommit, Op::Flush]);
    run(story);
}

/// Five events are announced, and a sixth for very many webhooks; the arrivals are on their way to the shard. The job writes
/// the sixth's row, which a refill brings first, and its body is read.
#[test]
fn a_row_of_a_wide_event_that_overtakes_earlier_arrivals_is_not_sent_before_those_of_its_value() {
    use Operation as Op;
    for webhook in [1 << 2, 1 << 3] {
        let mut story = vec![Op::Commit(webhook); 5];
        story.extend([Op::CommitWide(webhook), Op::WriteRow, Op::Tell, Op::Flush, Op::ReadSettle, Op::Tell]);
        story.extend([Op::ReadBodies, Op::Begin, Op::Begin, Op::ReadCommit, Op::Begin]);
        run(story);
    }
}

/// 1. An event is announced, its arrival is still on its way to the shard. 2. Settle's list is too long, so it gets a row.
/// 3. The webhook lags; its refill brings the row, which is sent and settled. 4. Now the arrival comes.
#[test]
fn an_arrival_that_its_row_has_overtaken_is_not_sent_again() {
    use Operation as Op;
    let mut story: Vec<_> = (0..8).flat_map(|_| [Op::Commit(1), Op::ReadCommit]).collect();
    story.extend([Op::Commit(1), Op::Overflow(9)]);
    for _ in 0..20 {
        story.extend([Op::Begin, Op::End(0, Ending::Ok), Op::Tell, Op::Flush, Op::ReadSettle, Op::ReadBodies]);
    }
    story.extend([Op::ReadCommit, Op::Begin]);
    run(story);
}

/// A webhook with one delivery whose body is not held, and the request for it.
fn bodiless(webhook: u32) -> (Test, RecallRequest) {
    let mut test = Test::new();
    test.too_much = Some(test.world.setup.memory.lease(1 << 30));
    test.commit(1 << webhook);
    test.read_commit();
    assert!(!test.begin(), "there is nothing to send yet");
    // One in order has it from its row.
    test.tell();
    test.flush();
    test.read_settle();
    test.tell();
    let request = test.recalls.pop_front().expect("its body is asked for");
    (test, request)
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_body_is_gone_expires() {
    for webhook in 0..WEBHOOKS {
        let (mut test, RecallRequest { webhook, events, .. }) = bodiless(webhook);
        test.give(Input::Message(ToShard::Recalled { webhook, events: vec![(events[0], None)] }));
        test.tell();
        test.flush();
        assert_eq!(test.settle.ended[&(webhook, events[0])], (Decision::Dead(DeadReason::Expired), 0));
        // And what comes is sent.
        test.model.insert((webhook, events[0]), State::Done);
        test.commit(1 << webhook.0);
        test.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_could_not_be_read_are_asked_for_again_after_a_while() {
    for webhook in 0..WEBHOOKS {
        let (mut test, RecallRequest { webhook, .. }) = bodiless(webhook);
        test.give(Input::Message(ToShard::Recalled { webhook, events: Vec::new() }));
        test.tell();
        assert!(test.recalls.is_empty(), "not at once");
        test.pass(RECALL_PAUSE.as_millis() as u64).await;
        test.tell();
        assert!(test.read_bodies() && test.begin());
    }
}
