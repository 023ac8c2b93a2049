//! Tests the protocol between a shard and settle with inputs in random order, against a model. The model knows of each
//! delivery only whether it waits, is in flight, waits for a time, or is done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::settle::{Delivery, Settle};
use crate::dispatch::bounds::ShardBounds;
use crate::dispatch::shard::{Shard, ShardInput};
use crate::dispatch::testing::{OrderSpec, ShardEnv, WebhookSpec, event, value};
use crate::dispatch::webhook_queue::DeliveryJob;
use crate::handoff::{AttemptOutcome, BodyRequest, EventArrival, ToShard, WebhookBacklog};
use crate::limits::{BODY_READ_RETRY_PAUSE, WEBHOOK_IDLE_EVICTION};
use crate::model::{AttemptError, DeadReason, Decision, EventId, Timestamp, WebhookNo, WebhookStatus};
use crate::runtime::{BodyLease, Instant, Metrics, Random};

const WEBHOOKS: u32 = 4;

/// Small bounds, so that everything overflows often.
const BOUNDS: ShardBounds = ShardBounds {
    window_entries: 4,
    window_bytes: 1 << 20,
    fresh_entries: 2,
    refill_rows: 3,
    refills: 2,
    body_read_events: 2,
    in_flight: 8,
};

#[derive(Debug, Clone)]
enum ProtocolOperation {
    /// An event is committed for these webhooks (a bit each).
    Commit(u8),
    /// The shard reads a message from commit.
    ReadCommit,
    /// The shard reads a message from settle.
    ReadSettle,
    /// The shard reads bodies.
    ReadBodies,
    /// The shard's outputs are sent.
    SendOutputs,
    /// Settle flushes and replies.
    Flush,
    /// Settle's list is too long: its oldest entries get rows.
    Overflow(usize),
    /// A worker begins a delivery.
    Begin,
    /// The i-th delivery in flight ends.
    End(usize, Ending),
    /// The webhook gets this status.
    Status(u32, WebhookStatus),
    /// The webhook gets this order.
    Order(u32, OrderSpec),
    /// The i-th ended delivery is replayed.
    Replay(usize),
    /// An event is committed for very many webhooks, these (a bit each) among them. A job writes its rows.
    CommitWide(u8),
    /// The job writes a row.
    WriteRow,
    /// The memory budget is exceeded, or no longer.
    Memory(bool),
    /// Time passes.
    Pass(u64),
    /// Everything in memory and everything not flushed is lost.
    Crash,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Ok,
    Fails,
    Unavailable,
    Dropped,
}

fn operations() -> impl Strategy<Value = Vec<ProtocolOperation>> {
    use ProtocolOperation as Op;
    let ending = prop_oneof![6 => Just(Ending::Ok), 3 => Just(Ending::Fails), 1 => Just(Ending::Unavailable), 1 => Just(Ending::Dropped)];
    let status = prop_oneof![
        3 => Just(WebhookStatus::Active), 2 => Just(WebhookStatus::Paused), 1 => Just(WebhookStatus::Inactive)];
    let order = prop_oneof![
        Just(OrderSpec::Any),
        Just(OrderSpec::Acceptance),
        Just(OrderSpec::By("k")),
        Just(OrderSpec::By("j"))
    ];
    let operation = prop_oneof![
        12 => (1u8..1 << WEBHOOKS).prop_map(Op::Commit),
        12 => Just(Op::ReadCommit),
        8 => Just(Op::ReadSettle),
        8 => Just(Op::ReadBodies),
        8 => Just(Op::SendOutputs),
        8 => Just(Op::Flush),
        2 => (1usize..6).prop_map(Op::Overflow),
        10 => Just(Op::Begin),
        10 => (0usize..8, ending).prop_map(|(i, ending)| Op::End(i, ending)),
        2 => (0..WEBHOOKS, status).prop_map(|(no, status)| Op::Status(no, status)),
        1 => (0..WEBHOOKS, order).prop_map(|(no, order)| Op::Order(no, order)),
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
enum ModelState {
    Waits,
    UnderWay,
    WaitsUntil(Timestamp),
    Done,
}

struct ProtocolTest {
    env: ShardEnv,
    shard: Shard,
    settle: Settle,
    /// Messages from commit that the shard has not read.
    arrivals: VecDeque<ToShard>,
    body_requests: VecDeque<BodyRequest>,
    jobs: Vec<DeliveryJob>,
    committed: u128,
    model: BTreeMap<Delivery, ModelState>,
    too_much: Option<Arc<BodyLease>>,
    spec: [WebhookSpec; WEBHOOKS as usize],
    /// Attempts before the last replay.
    bases: BTreeMap<Delivery, u16>,
}

impl ProtocolTest {
    fn new() -> Self {
        let mut env = ShardEnv::new();
        // Circuit breakers open in this test as well.
        env.setup.breaker.min_attempts = 5;
        // The last two webhooks are ordered from the beginning.
        let orders = [OrderSpec::Any, OrderSpec::Any, OrderSpec::Acceptance, OrderSpec::By("k")];
        let spec = orders.map(|order| WebhookSpec { max_in_flight: Some(2), order, ..WebhookSpec::default() });
        (0..).zip(spec).for_each(|(no, spec)| env.directory.put(no, spec));
        let shard = Shard::new(0, 1, env.setup.clone(), Random::seeded(1), BOUNDS);
        Self {
            env,
            shard,
            settle: Settle::default(),
            arrivals: VecDeque::new(),
            body_requests: VecDeque::new(),
            jobs: Vec::new(),
            committed: 0,
            model: BTreeMap::new(),
            too_much: None,
            spec,
            bases: BTreeMap::new(),
        }
    }

    fn instant(&self) -> Instant {
        self.env.setup.clock.instant()
    }

    fn give(&mut self, input: ShardInput) {
        self.shard.step(self.env.setup.clock.instant(), input);
    }

    fn now(&self) -> Timestamp {
        self.env.setup.clock.steady()
    }

    fn commit(&mut self, webhooks: u8) {
        self.committed += 1;
        let event = event(self.committed);
        let webhooks: crate::model::Webhooks =
            (0..WEBHOOKS).filter(|no| webhooks & (1 << no) != 0).map(WebhookNo).collect();
        for no in &webhooks {
            self.settle.outstanding.insert((event.id, *no));
            self.model.insert((*no, event.id), ModelState::Waits);
        }
        self.arrivals.push_back(ToShard::Arrivals(vec![EventArrival { event, webhooks }]));
    }

    fn commit_wide(&mut self, webhooks: u8) {
        self.committed += 1;
        let event = EventId::from_u128(self.committed);
        for no in (0..WEBHOOKS).filter(|no| webhooks & (1 << no) != 0).map(WebhookNo) {
            self.settle.unwritten.insert((event, no));
            self.model.insert((no, event), ModelState::Waits);
        }
        self.arrivals.push_back(ToShard::WideEvent(event));
    }

    /// Writes a row of a wide event and reports it to the shard.
    fn write_row(&mut self) -> bool {
        let Some((event, no)) = self.settle.unwritten.pop_first() else { return false };
        self.settle.rows.insert((no, event), (0, None));
        self.give(ShardInput::Message(ToShard::Waiting(vec![WebhookBacklog { webhook: no, ready: true, due: None }])));
        true
    }

    fn replay(&mut self, i: usize) {
        self.send_outputs();
        self.flush();
        let Some((delivery, (_, attempts))) = self.settle.ended.iter().nth(i).map(|(d, e)| (*d, *e)) else { return };
        self.settle.ended.remove(&delivery);
        let now = self.now();
        self.settle.rows.insert(delivery, (attempts, Some(now)));
        self.settle.bases.insert(delivery, attempts);
        self.bases.insert(delivery, attempts);
        self.model.insert(delivery, ModelState::WaitsUntil(now));
        self.give(ShardInput::Message(ToShard::Waiting(vec![WebhookBacklog {
            webhook: delivery.0,
            ready: false,
            due: Some(now),
        }])));
    }

    fn flush(&mut self) {
        let now = self.now();
        self.settle.flush(self.env.settle_messages.try_iter(), now);
    }

    fn begin(&mut self) -> bool {
        let Some(job) = self.shard.next_job(self.instant()) else { return false };
        let (no, now) = (job.webhook.no, self.now());
        let state = self.model.get_mut(&(no, job.event.id)).expect("only what was committed is sent");
        match *state {
            ModelState::Waits => {}
            ModelState::WaitsUntil(at) => assert!(at <= now, "{:?} is sent before its time", job.event.id),
            ModelState::UnderWay | ModelState::Done => {
                panic!("{no:?} {:?} is sent again: {state:?}", job.event.id)
            }
        }
        *state = ModelState::UnderWay;
        let id = job.event.id;
        let keep_order = |other: EventId| match self.spec[no.0 as usize].order {
            OrderSpec::Any => false,
            OrderSpec::Acceptance => true,
            OrderSpec::By(path) => {
                let own = value(path, id.as_u128());
                own.is_some() && own == value(path, other.as_u128())
            }
        };
        let before = self.model.range((no, EventId::MIN)..(no, id)).filter(|((_, other), _)| keep_order(*other));
        let left: Vec<_> = before.filter(|(_, state)| **state != ModelState::Done).collect();
        assert!(left.is_empty(), "{id:?} is sent before {left:?}");
        let mut others = self.jobs.iter().filter(|other| other.webhook.no == no);
        assert!(!others.any(|other| keep_order(other.event.id)), "two at once");
        self.jobs.push(job);
        assert!(self.jobs.iter().filter(|job| job.webhook.no == no).count() <= 2, "more at once than allowed");
        true
    }

    fn end(&mut self, job: DeliveryJob, ending: Ending) {
        let delivery = (job.webhook.no, job.event.id);
        let retry = ModelState::WaitsUntil(self.now().plus(Duration::from_secs(1)));
        let is_last = job.number() - self.bases.get(&delivery).unwrap_or(&0) >= 3;
        let result = match ending {
            Ending::Ok => Ok(()),
            Ending::Fails => Err(AttemptError::Timeout),
            Ending::Unavailable => Err(AttemptError::Status(503)),
            Ending::Dropped => Err(AttemptError::Dropped),
        };
        let next = if result.is_ok() || is_last { ModelState::Done } else { retry };
        self.model.insert(delivery, next);
        if result == Err(AttemptError::Dropped) {
            return self.give(ShardInput::Dropped(job));
        }
        let outcome = AttemptOutcome {
            result,
            http_status: None,
            retry_after: None,
            response: Box::default(),
            latency: Duration::ZERO,
            sent_at: None,
        };
        self.give(ShardInput::Finished(job, outcome));
    }

    fn send_outputs(&mut self) {
        let now = self.instant();
        self.env.ports.send_outputs(&mut self.shard, now);
        self.body_requests.extend(self.env.body_requests.try_iter());
    }

    async fn pass(&mut self, ms: u64) {
        tokio::time::advance(Duration::from_millis(ms)).await;
        self.give(ShardInput::Tick);
    }

    fn read_commit(&mut self) -> bool {
        let Some(arrival) = self.arrivals.pop_front() else { return false };
        self.give(ShardInput::Message(arrival));
        true
    }

    fn read_settle(&mut self) -> bool {
        let Some(answer) = self.settle.answers.pop_front() else { return false };
        self.give(ShardInput::Message(ToShard::Refilled(answer)));
        true
    }

    fn read_bodies(&mut self) -> bool {
        let Some(BodyRequest { webhook, events, .. }) = self.body_requests.pop_front() else { return false };
        assert!(events.is_sorted() && events.len() <= BOUNDS.body_read_events && !events.is_empty());
        let events = events.into_iter().map(|id| (id, Some(event(id.as_u128())))).collect();
        self.give(ShardInput::Message(ToShard::BodiesLoaded { webhook, events }));
        true
    }

    fn status(&mut self, no: u32, status: WebhookStatus) {
        self.spec[no as usize].status = status;
        self.changed(no);
    }

    fn order(&mut self, no: u32, order: OrderSpec) {
        self.spec[no as usize].order = order;
        self.changed(no);
    }

    fn changed(&mut self, no: u32) {
        self.env.directory.put(no, self.spec[no as usize]);
        self.give(ShardInput::Message(ToShard::Changed([WebhookNo(no)].into_iter().collect())));
    }

    /// The process stops between two flushes. A new process starts from the rows, the list and the log.
    fn crash(&mut self) {
        self.env.settle_messages.try_iter().for_each(drop);
        self.arrivals.clear();
        self.body_requests.clear();
        self.settle.answers.clear();
        self.jobs.clear();
        for (event, no) in std::mem::take(&mut self.settle.outstanding) {
            self.settle.rows.insert((no, event), (0, None));
        }
        for (delivery, state) in &mut self.model {
            *state = match self.settle.rows.get(delivery) {
                None if self.settle.unwritten.contains(&(delivery.1, delivery.0)) => ModelState::Waits,
                Some((_, None)) => ModelState::Waits,
                Some((_, Some(at))) => ModelState::WaitsUntil(*at),
                None => ModelState::Done,
            };
        }
        self.env.setup.metrics = Metrics::new().unwrap();
        self.env.setup.last_event = EventId::from_u128(self.committed);
        self.shard = Shard::new(0, 1, self.env.setup.clone(), Random::seeded(1), BOUNDS);
        let waiting = (0..WEBHOOKS).map(WebhookNo).filter_map(|no| {
            let of_webhook = self.settle.rows.iter().filter(|((row_no, _), _)| *row_no == no);
            let ready = of_webhook.clone().any(|(_, (_, at))| at.is_none());
            let due = of_webhook.filter_map(|(_, (_, at))| *at).min();
            (ready || due.is_some()).then_some(WebhookBacklog { webhook: no, ready, due })
        });
        self.give(ShardInput::Message(ToShard::Waiting(waiting.collect())));
    }

    async fn step(&mut self, operation: ProtocolOperation) {
        match operation {
            ProtocolOperation::Commit(webhooks) => self.commit(webhooks),
            ProtocolOperation::ReadCommit => drop(self.read_commit()),
            ProtocolOperation::ReadSettle => drop(self.read_settle()),
            ProtocolOperation::ReadBodies => drop(self.read_bodies()),
            ProtocolOperation::SendOutputs => self.send_outputs(),
            ProtocolOperation::Flush => self.flush(),
            ProtocolOperation::Overflow(count) => {
                for (event, no) in self.settle.outstanding.iter().take(count).copied().collect::<Vec<_>>() {
                    self.settle.spill((no, event));
                }
            }
            ProtocolOperation::Begin => drop(self.begin()),
            ProtocolOperation::End(i, ending) if i < self.jobs.len() => {
                let job = self.jobs.swap_remove(i);
                self.end(job, ending);
            }
            ProtocolOperation::End(..) => {}
            ProtocolOperation::Status(no, status) => self.status(no, status),
            ProtocolOperation::Order(no, order) => self.order(no, order),
            ProtocolOperation::Replay(i) => self.replay(i),
            ProtocolOperation::CommitWide(webhooks) => self.commit_wide(webhooks),
            ProtocolOperation::WriteRow => drop(self.write_row()),
            ProtocolOperation::Memory(is_over) => {
                self.too_much = is_over.then(|| self.env.setup.memory.lease(1 << 30));
            }
            ProtocolOperation::Pass(ms) => self.pass(ms).await,
            ProtocolOperation::Crash => self.crash(),
        }
        for no in (0..WEBHOOKS).map(WebhookNo) {
            assert!(self.shard.held(no) <= BOUNDS.window_entries + BOUNDS.fresh_entries, "more is held than may be");
        }
    }

    /// Applies all pending inputs, with every attempt successful, until all deliveries are done.
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
            self.send_outputs();
            self.flush();
            if did || !self.settle.answers.is_empty() || !self.body_requests.is_empty() {
                continue;
            }
            if self.model.values().all(|state| *state == ModelState::Done) {
                return;
            }
            self.pass(500).await;
        }
        panic!(
            "these are never sent: {:?}",
            self.model.iter().filter(|(_, state)| **state != ModelState::Done).collect::<Vec<_>>()
        );
    }
}

fn run(operations: Vec<ProtocolOperation>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut test = ProtocolTest::new();
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
            test.pass(WEBHOOK_IDLE_EVICTION.as_millis() as u64).await;
            test.send_outputs();
            test.flush();
            while test.read_settle() {}
        }
        assert_eq!(test.env.setup.metrics.spilled_webhooks.get(), 0, "all backlogs are in memory again");
        assert_eq!(test.shard.webhooks(), 0, "all webhooks are evicted");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// - Each delivery is sent. It is never in flight twice, never sent again without a failure, a replay or a crash, and
    ///   never sent before its time.
    /// - An ordered webhook's deliveries are sent one at a time, and none before all earlier ones are done. In order by a
    ///   field the same holds for the deliveries with the same value.
    /// - Memory stays bounded. In the end every backlog is in memory and every webhook is evicted.
    #[test]
    fn each_delivery_is_sent_once_and_in_order(operations in operations()) {
        run(operations);
    }
}

/// Eight events are announced, the sixth for very many webhooks, and their arrivals are on their way to the shard. The job
/// writes the sixth event's row first, and the webhook is spilled. Now the first arrivals come. They are spilled while the
/// refill that brings this row has no reply yet, and they lie before the end of the reply.
#[test]
fn a_row_of_a_wide_event_before_earlier_arrivals_hides_none_of_them() {
    use ProtocolOperation as Op;
    let mut story = vec![Op::Commit(1); 5];
    story.extend([Op::CommitWide(3), Op::Commit(1), Op::Begin, Op::WriteRow, Op::SendOutputs, Op::Commit(1)]);
    story.extend([Op::ReadCommit, Op::ReadCommit, Op::Flush]);
    run(story);
}

/// Five events are announced, and a sixth for very many webhooks. The arrivals are on their way to the shard. The job
/// writes the sixth event's row. A refill brings it first, and its body is read.
#[test]
fn a_row_of_a_wide_event_before_earlier_arrivals_is_not_sent_before_those_of_its_value() {
    use ProtocolOperation as Op;
    for webhook in [1 << 2, 1 << 3] {
        let mut story = vec![Op::Commit(webhook); 5];
        story.extend([
            Op::CommitWide(webhook),
            Op::WriteRow,
            Op::SendOutputs,
            Op::Flush,
            Op::ReadSettle,
            Op::SendOutputs,
        ]);
        story.extend([Op::ReadBodies, Op::Begin, Op::Begin, Op::ReadCommit, Op::Begin]);
        run(story);
    }
}

/// 1. An event is announced, and its arrival has not reached the shard.
/// 2. Settle's list is too long, so settle writes a row for the delivery.
/// 3. The webhook is spilled. A refill brings the row, which is sent and settled.
/// 4. Now the arrival comes.
#[test]
fn an_arrival_that_comes_after_its_row_is_not_sent_again() {
    use ProtocolOperation as Op;
    let mut story: Vec<_> = (0..8).flat_map(|_| [Op::Commit(1), Op::ReadCommit]).collect();
    story.extend([Op::Commit(1), Op::Overflow(9)]);
    for _ in 0..20 {
        story.extend([Op::Begin, Op::End(0, Ending::Ok), Op::SendOutputs, Op::Flush, Op::ReadSettle, Op::ReadBodies]);
    }
    story.extend([Op::ReadCommit, Op::Begin]);
    run(story);
}

/// Creates a webhook with one delivery whose body is not in memory, and returns the request for the body.
fn bodiless(webhook: u32) -> (ProtocolTest, BodyRequest) {
    let mut test = ProtocolTest::new();
    test.too_much = Some(test.env.setup.memory.lease(1 << 30));
    test.commit(1 << webhook);
    test.read_commit();
    assert!(!test.begin(), "there is nothing to send yet");
    // An ordered webhook has the delivery from its row.
    test.send_outputs();
    test.flush();
    test.read_settle();
    test.send_outputs();
    let request = test.body_requests.pop_front().expect("its body is asked for");
    (test, request)
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_body_is_gone_expires() {
    for webhook in 0..WEBHOOKS {
        let (mut test, BodyRequest { webhook, events, .. }) = bodiless(webhook);
        test.give(ShardInput::Message(ToShard::BodiesLoaded { webhook, events: vec![(events[0], None)] }));
        test.send_outputs();
        test.flush();
        assert_eq!(test.settle.ended[&(webhook, events[0])], (Decision::Dead(DeadReason::Expired), 0));
        // Later events are sent.
        test.model.insert((webhook, events[0]), ModelState::Done);
        test.commit(1 << webhook.0);
        test.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_could_not_be_read_are_requested_again_after_a_pause() {
    for webhook in 0..WEBHOOKS {
        let (mut test, BodyRequest { webhook, .. }) = bodiless(webhook);
        test.give(ShardInput::Message(ToShard::BodiesLoaded { webhook, events: Vec::new() }));
        test.send_outputs();
        assert!(test.body_requests.is_empty(), "not at once");
        test.pass(BODY_READ_RETRY_PAUSE.as_millis() as u64).await;
        test.send_outputs();
        assert!(test.read_bodies() && test.begin());
    }
}
