//! Tests a shard's loop and workers on a paused clock. The transport responds as each test says. Settle flushes every ten
//! milliseconds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet};

use super::settle::Settle;
use crate::dispatch::bounds::ShardBounds;
use crate::dispatch::shard::Shard;
use crate::dispatch::shard_loop::run;
use crate::dispatch::testing::{OrderSpec, START, ShardEnv, WebhookSpec, event, value, webhook};
use crate::dispatch::worker_pool::WorkerPool;
use crate::dispatch::{ShardPanicked, WebhookDirectory, start};
use crate::handoff::{
    AttemptOutcome, AttemptRequest, BodyRequest, EventArrival, Shards, TestDeliveryRefused, TestDeliveryRequest,
    ToSettle, ToShard, Transport, WebhookBacklog,
};
use crate::limits::{
    FRESH_ENTRIES, SHARD_QUEUE, TEST_DELIVERIES_PER_SHARD, TEST_DELIVERIES_PER_WEBHOOK, WEBHOOK_IDLE_EVICTION,
    WINDOW_ENTRIES,
};
use crate::model::{AttemptError, DeadReason, Decision, EventId, RateLimit, WebhookNo, WebhookStatus};
use crate::outbound::Webhook;
use crate::runtime::{Instant, Random};

/// How a receiver responds.
#[derive(Debug, Clone, Copy)]
enum FakeAnswer {
    After(Duration),
    Status(u16),
    /// 503 with `Retry-After`.
    Unavailable(Duration),
    Never,
    Panic,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An attempt that the transport saw begin.
#[derive(Debug, Clone, Copy)]
struct SeenAttempt {
    webhook: u32,
    event: u128,
    at: Instant,
    /// Attempts in flight for the same webhook, this one included.
    at_once: usize,
}

#[derive(Default)]
struct AttemptLog {
    seen: Vec<SeenAttempt>,
    under_way: BTreeMap<u32, usize>,
}

struct FakeTransport<F> {
    answer: F,
    log: Rc<RefCell<AttemptLog>>,
    clock: crate::runtime::Clock,
}

impl<F: Fn(u32, u128, u16) -> FakeAnswer + 'static> Transport for FakeTransport<F> {
    async fn deliver(&self, attempt: AttemptRequest<'_>) -> AttemptOutcome {
        let (webhook, event, at) = (attempt.webhook.no.0, attempt.event.id.as_u128(), self.clock.instant());
        {
            let mut log = self.log.borrow_mut();
            let under_way = log.under_way.entry(webhook).or_default();
            *under_way += 1;
            let at_once = *under_way;
            log.seen.push(SeenAttempt { webhook, event, at, at_once });
        }
        let (result, retry_after) = match (self.answer)(webhook, event, attempt.attempt) {
            FakeAnswer::After(time) => {
                tokio::time::sleep(time).await;
                (Ok(()), None)
            }
            FakeAnswer::Status(status) => (Err(AttemptError::Status(status)), None),
            FakeAnswer::Unavailable(after) => (Err(AttemptError::Status(503)), Some(after)),
            FakeAnswer::Never => std::future::pending().await,
            FakeAnswer::Panic => panic!("the transport breaks"),
        };
        *self.log.borrow_mut().under_way.entry(webhook).or_default() -= 1;
        let latency = self.clock.instant() - at;
        AttemptOutcome { result, http_status: None, retry_after, response: Box::default(), latency, sent_at: Some(at) }
    }
}

/// A running shard.
struct Flow {
    env: Rc<ShardEnv>,
    to: mpsc::Sender<ToShard>,
    stop: Option<oneshot::Sender<Duration>>,
    thread: JoinHandle<()>,
    log: Rc<RefCell<AttemptLog>>,
    settle: Rc<RefCell<Settle>>,
    held: Rc<dyn Fn(u32) -> usize>,
    /// Sends the shard's outputs, as a shard's thread does last.
    flush: Rc<dyn Fn()>,
    webhooks: Rc<dyn Fn() -> usize>,
    last: u128,
}

impl Flow {
    fn start(env: ShardEnv, bounds: ShardBounds, answer: impl Fn(u32, u128, u16) -> FakeAnswer + 'static) -> Self {
        let (to, inbox) = mpsc::channel(SHARD_QUEUE);
        let (stop, stopped) = oneshot::channel();
        let (log, env) = (Rc::new(RefCell::new(AttemptLog::default())), Rc::new(env));
        let clock = env.setup.clock.clone();
        let shard = Shard::new(0, 1, env.setup.clone(), Random::seeded(1), bounds);
        let pool = WorkerPool::new(shard, clock.clone(), FakeTransport { answer, log: Rc::clone(&log), clock });
        let (one, two, three) = (Rc::clone(&pool), Rc::clone(&pool), Rc::clone(&pool));
        let held = Rc::new(move |no| one.shard.borrow().held(WebhookNo(no)));
        let webhooks = Rc::new(move || two.shard.borrow().webhooks());
        let ports = env.ports.clone();
        let last = ports.clone();
        let flush = Rc::new(move || last.send_outputs(&mut three.shard.borrow_mut(), three.clock.instant()));
        let thread = tokio::task::spawn_local(async move { run(&pool, &ports, inbox, stopped).await });
        let settle = Rc::new(RefCell::new(Settle::default()));
        tokio::task::spawn_local(run_settle(Rc::clone(&env), Rc::clone(&settle), to.clone()));
        Self { env, to, stop: Some(stop), thread, log, settle, held, webhooks, flush, last: 0 }
    }

    /// Sends new events for these webhooks.
    async fn send(&mut self, count: usize, webhooks: &[u32]) {
        let arrivals = (0..count).map(|_| {
            self.last += 1;
            EventArrival { event: event(self.last), webhooks: webhooks.iter().copied().map(WebhookNo).collect() }
        });
        self.to.send(ToShard::Arrivals(arrivals.collect())).await.unwrap();
    }

    async fn status(&self, no: u32, status: WebhookStatus) {
        self.env.directory.put(no, WebhookSpec { status, ..WebhookSpec::default() });
        self.changed(no).await;
    }

    async fn changed(&self, no: u32) {
        self.to.send(ToShard::Changed([WebhookNo(no)].into_iter().collect())).await.unwrap();
    }

    fn seen(&self, webhook: u32) -> Vec<SeenAttempt> {
        self.log.borrow().seen.iter().filter(|seen| seen.webhook == webhook).copied().collect()
    }

    fn events(&self, webhook: u32) -> Vec<u128> {
        self.seen(webhook).iter().map(|seen| seen.event).collect()
    }

    /// Returns the final decisions of a webhook's deliveries.
    fn ended(&self, webhook: u32) -> Vec<(u128, Decision)> {
        let of_webhook = (WebhookNo(webhook), EventId::MIN)..=(WebhookNo(webhook), EventId::MAX);
        let settle = self.settle.borrow();
        settle.ended.range(of_webhook).map(|((_, event), (decision, _))| (event.as_u128(), *decision)).collect()
    }

    fn delivered(&self, webhook: u32) -> usize {
        self.ended(webhook).iter().filter(|(_, decision)| *decision == Decision::Delivered).count()
    }
}

/// Runs settle and the body reader.
async fn run_settle(env: Rc<ShardEnv>, settle: Rc<RefCell<Settle>>, to: mpsc::Sender<ToShard>) {
    loop {
        settle.borrow_mut().flush(env.settle_messages.try_iter(), env.setup.clock.steady());
        while let Some(answer) = { settle.borrow_mut().answers.pop_front() } {
            if to.send(ToShard::Refilled(answer)).await.is_err() {
                return;
            }
        }
        while let Ok(BodyRequest { webhook, events, .. }) = env.body_requests.try_recv() {
            let events = events.into_iter().map(|id| (id, Some(event(id.as_u128())))).collect();
            if to.send(ToShard::BodiesLoaded { webhook, events }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(ms(10)).await;
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Creates an environment with these webhooks.
fn env(webhooks: &[(u32, WebhookSpec)]) -> ShardEnv {
    let env = ShardEnv::new();
    for (no, spec) in webhooks {
        env.directory.put(*no, *spec);
    }
    env
}

fn plain(count: u32) -> ShardEnv {
    env(&(0..count).map(|no| (no, WebhookSpec::default())).collect::<Vec<_>>())
}

const ONE_AT_A_TIME: WebhookSpec =
    WebhookSpec { status: WebhookStatus::Active, max_in_flight: Some(1), rate_limit: None, order: OrderSpec::Any };

#[tokio::test(start_paused = true)]
async fn a_webhook_is_sent_to_in_order_and_evicted_when_idle() {
    let scenario = async {
        let mut flow =
            Flow::start(env(&[(3, ONE_AT_A_TIME)]), ShardBounds::default(), |_, _, _| FakeAnswer::After(ms(1)));
        flow.send(300, &[3]).await;
        flow.send(300, &[3]).await;
        pass(ms(700)).await;
        assert_eq!(flow.events(3), (1..=600).collect::<Vec<_>>());
        assert_eq!(flow.delivered(3), 600);
        let metrics = &flow.env.setup.metrics;
        assert_eq!((metrics.attempts.get(), metrics.successes.get(), metrics.in_flight.get()), (600, 600, 0));
        assert_eq!(metrics.first_attempt_latency.summary().count, 600);
        assert_eq!((flow.webhooks)(), 1);
        pass(WEBHOOK_IDLE_EVICTION).await;
        assert_eq!((flow.webhooks)(), 0);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_and_a_slow_webhook_do_not_slow_a_healthy_one() {
    let scenario = async {
        let mut flow = Flow::start(plain(3), ShardBounds::default(), |no, _, _| match no {
            0 => FakeAnswer::Status(500),
            1 => FakeAnswer::After(ms(30_000)),
            _ => FakeAnswer::After(ms(1)),
        });
        flow.send(1_000, &[0, 1, 2]).await;
        // 1,000 responses of 1 ms, eight at once.
        pass(ms(126)).await;
        assert_eq!(flow.seen(2).len(), 1_000);
        assert_eq!(flow.seen(1).len(), 8);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn webhooks_take_turns_when_the_shard_is_full() {
    let scenario = async {
        let bounds = ShardBounds { in_flight: 4, ..ShardBounds::default() };
        let mut flow = Flow::start(plain(2), bounds, |_, _, _| FakeAnswer::After(ms(1)));
        flow.send(1_000, &[0]).await;
        pass(ms(10)).await;
        let before = flow.seen(0).len();
        flow.send(40, &[1]).await;
        pass(ms(45)).await;
        assert_eq!(flow.seen(1).len(), 40, "it has places of its own");
        assert!(flow.seen(0).len() - before >= 40);
        assert!(flow.log.borrow().seen.iter().all(|seen| seen.at_once <= 4));
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn many_slow_webhooks_cannot_use_all_of_the_concurrency() {
    let scenario = async {
        let bounds = ShardBounds { in_flight: 16, ..ShardBounds::default() };
        let mut flow = Flow::start(plain(4), bounds, |no, _, _| FakeAnswer::After(ms(if no < 3 { 30_000 } else { 1 })));
        flow.send(100, &[0, 1, 2]).await;
        pass(ms(10)).await;
        flow.send(100, &[3]).await;
        pass(ms(101)).await;
        assert_eq!(flow.seen(3).len(), 100);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn a_backlog_far_beyond_the_window_is_sent_once_and_new_events_pass_it() {
    let scenario = async {
        let mut flow = Flow::start(plain(1), ShardBounds::default(), |_, _, _| FakeAnswer::After(ms(4)));
        flow.send(20_000, &[0]).await;
        pass(ms(1)).await;
        assert!((flow.held)(0) <= WINDOW_ENTRIES + FRESH_ENTRIES);
        assert_eq!(flow.env.setup.metrics.spilled_webhooks.get(), 1);
        pass(ms(2_000)).await;
        flow.send(1, &[0]).await;
        pass(ms(100)).await;
        assert!(flow.events(0).contains(&20_001), "the new one is not stuck behind the backlog");
        assert!(flow.events(0).len() < 6_000);
        for _ in 0..120 {
            pass(ms(100)).await;
            assert!((flow.held)(0) <= WINDOW_ENTRIES + FRESH_ENTRIES);
        }
        let mut events = flow.events(0);
        events.sort_unstable();
        assert_eq!(events, (1..=20_001).collect::<Vec<_>>());
        assert_eq!(flow.env.setup.metrics.spilled_webhooks.get(), 0);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_holds_in_any_second_and_is_reached() {
    let scenario = async {
        let limit = RateLimit { per_second: 50.0, burst: 5 };
        let spec = WebhookSpec { rate_limit: Some(limit), ..WebhookSpec::default() };
        let mut flow = Flow::start(env(&[(0, spec)]), ShardBounds::default(), |_, _, _| FakeAnswer::After(ms(1)));
        flow.send(3_000, &[0]).await;
        pass(ms(20_000)).await;
        let seen = flow.seen(0);
        assert!((950..=1_006).contains(&seen.len()), "{}", seen.len());
        for (i, from) in seen.iter().enumerate() {
            let within = seen[i..].iter().take_while(|seen| seen.at - from.at < ms(1_000)).count();
            assert!(within <= 55, "{within} in a second");
        }
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_breaker_is_open_nothing_is_attempted_and_nothing_lost() {
    let scenario = async {
        let came_back = Rc::new(std::cell::Cell::new(false));
        let is_up = Rc::clone(&came_back);
        let mut flow = Flow::start(plain(1), ShardBounds::default(), move |_, _, _| {
            if is_up.get() { FakeAnswer::After(ms(1)) } else { FakeAnswer::Status(500) }
        });
        flow.send(1_000, &[0]).await;
        pass(ms(29_000)).await;
        let attempts = flow.seen(0).len();
        assert!((10..18).contains(&attempts), "{attempts}");
        let metrics = Arc::clone(&flow.env.setup.metrics);
        let shown = || String::from_utf8(metrics.render()).unwrap();
        assert!(shown().contains("} 2"), "open: {}", shown());
        pass(ms(2_000)).await;
        assert_eq!(flow.seen(0).len(), attempts + 1, "a probe");
        came_back.set(true);
        // The failed probe doubled the time.
        pass(ms(50_000)).await;
        assert_eq!(flow.seen(0).len(), attempts + 1);
        pass(ms(15_000)).await;
        assert_eq!(flow.delivered(0), 1_000);
        let back = &flow.seen(0)[attempts + 1..];
        let widths: Vec<_> = back.iter().take(2 + 1 + 2 + 4).map(|seen| seen.at_once).collect();
        assert_eq!(widths[..3], [1, 1, 1], "two probes, then one at a time");
        assert!(widths[3..5].iter().all(|width| *width <= 2) && widths[5..].iter().all(|width| *width <= 4));
        pass(ms(100)).await;
        assert!(!shown().contains("webhook_circuit_breaker_state{"), "closed: {}", shown());
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn unavailable_pauses_the_whole_webhook_until_the_next_attempt() {
    let scenario = async {
        let mut flow = Flow::start(env(&[(0, ONE_AT_A_TIME)]), ShardBounds::default(), |_, event, attempt| {
            if event == 1 && attempt == 1 { FakeAnswer::Unavailable(ms(60_000)) } else { FakeAnswer::After(ms(1)) }
        });
        flow.send(3, &[0]).await;
        pass(ms(59_000)).await;
        assert_eq!(flow.events(0), [1]);
        pass(ms(2_000)).await;
        assert_eq!(flow.delivered(0), 3);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_breaks_its_worker_is_a_failed_attempt_and_the_worker_is_replaced() {
    let scenario = async {
        let bounds = ShardBounds { in_flight: 1, ..ShardBounds::default() };
        let mut flow =
            Flow::start(
                plain(1),
                bounds,
                |_, event, _| if event == 1 { FakeAnswer::Panic } else { FakeAnswer::After(ms(1)) },
            );
        flow.send(5, &[0]).await;
        pass(ms(500)).await;
        assert_eq!(flow.delivered(0), 4, "the others go on");
        pass(ms(5_000)).await;
        assert_eq!(flow.ended(0)[0], (1, Decision::Dead(DeadReason::Exhausted)));
        assert_eq!(flow.events(0).iter().filter(|event| **event == 1).count(), 3, "it does not spin");
        assert_eq!(flow.env.setup.metrics.in_flight.get(), 0);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn a_replayed_delivery_has_its_whole_schedule_again_and_its_attempts_count_on() {
    let scenario = async {
        let numbers = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&numbers);
        let flow = Flow::start(plain(1), ShardBounds::default(), move |_, _, number| {
            seen.borrow_mut().push(number);
            FakeAnswer::Status(500)
        });
        let delivery = (WebhookNo(0), EventId::from_u128(1));
        flow.settle.borrow_mut().rows.insert(delivery, (4, Some(START)));
        flow.settle.borrow_mut().bases.insert(delivery, 4);
        let waiting = WebhookBacklog { webhook: WebhookNo(0), ready: false, due: Some(START) };
        flow.to.send(ToShard::Waiting(vec![waiting])).await.unwrap();
        pass(ms(5_000)).await;
        assert_eq!(*numbers.borrow(), [5, 6, 7]);
        let dead = (Decision::Dead(DeadReason::Exhausted), 7);
        assert_eq!(flow.settle.borrow().ended.get(&delivery), Some(&dead));
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_webhook_holds_and_a_resumed_one_sends() {
    let scenario = async {
        let mut flow = Flow::start(plain(1), ShardBounds::default(), |_, _, _| FakeAnswer::After(ms(100)));
        flow.send(20, &[0]).await;
        pass(ms(10)).await;
        flow.status(0, WebhookStatus::Paused).await;
        flow.send(20, &[0]).await;
        pass(ms(10_000)).await;
        assert_eq!((flow.seen(0).len(), (flow.held)(0)), (8, 0));
        assert_eq!(flow.settle.borrow().rows.len(), 32, "all that waits is on disk");
        flow.status(0, WebhookStatus::Active).await;
        pass(ms(10_000)).await;
        assert_eq!((flow.seen(0).len(), flow.delivered(0)), (40, 40));
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_failed_or_removed_webhook_becomes_dead_letters() {
    let scenario = async {
        let mut flow = Flow::start(plain(2), ShardBounds::default(), |_, _, _| FakeAnswer::After(ms(100)));
        flow.send(10, &[0, 1]).await;
        pass(ms(10)).await;
        flow.status(0, WebhookStatus::Failed).await;
        flow.env.directory.remove(1);
        flow.changed(1).await;
        flow.send(1, &[0, 1]).await;
        pass(ms(1_000)).await;
        for (no, reason) in [(0, DeadReason::Disabled), (1, DeadReason::Removed)] {
            let dead: Vec<_> = flow.ended(no).into_iter().filter(|(_, d)| *d == Decision::Dead(reason)).collect();
            assert_eq!((dead.len(), flow.delivered(no)), (3, 8), "deliveries in flight end normally");
        }
        pass(WEBHOOK_IDLE_EVICTION + ms(100)).await;
        assert_eq!((flow.webhooks)(), 0);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn after_gone_nothing_more_is_sent() {
    let scenario = async {
        let mut flow =
            Flow::start(env(&[(0, ONE_AT_A_TIME)]), ShardBounds::default(), |_, _, _| FakeAnswer::Status(410));
        flow.send(10, &[0]).await;
        pass(ms(1_000)).await;
        assert_eq!(flow.events(0), [1]);
        assert_eq!(flow.ended(0), [(1, Decision::Dead(DeadReason::Gone))], "by this settle has it disabled");
        flow.status(0, WebhookStatus::Failed).await;
        pass(ms(1_000)).await;
        assert_eq!(flow.ended(0).len(), 10);
        assert_eq!(flow.events(0), [1]);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_deliveries_in_flight_and_returns_the_rest_at_the_deadline() {
    let local = LocalSet::new();
    let scenario = async {
        let mut flow = Flow::start(plain(1), ShardBounds::default(), |_, event, _| {
            if event == 1 { FakeAnswer::Never } else { FakeAnswer::After(ms(500)) }
        });
        flow.send(20, &[0]).await;
        pass(ms(100)).await;
        flow.stop.take().unwrap().send(ms(2_000)).unwrap();
        flow.send(1, &[0]).await;
        pass(ms(1_000)).await;
        assert!(!flow.thread.is_finished());
        pass(ms(1_001)).await;
        assert!(flow.thread.is_finished());
        assert_eq!((flow.seen(0).len(), flow.delivered(0)), (8, 7), "none began after the stop");
        flow
    };
    let flow = local.run_until(scenario).await;
    drop(local);
    (flow.flush)();
    assert_eq!(flow.env.setup.metrics.in_flight.get(), 0, "the one that never ends is back in the queue");
    assert_eq!((flow.held)(0), 13);
    assert!(flow.env.settle_messages.try_iter().next().is_none(), "no attempt is sent to settle");
}

#[tokio::test(start_paused = true)]
async fn a_million_deliveries_for_a_dead_webhook_wait_on_disk() {
    let scenario = async {
        let mut flow = Flow::start(plain(1), ShardBounds::default(), |_, _, _| FakeAnswer::Status(500));
        for _ in 0..1_000 {
            flow.send(1_000, &[0]).await;
            pass(ms(1)).await;
            assert!((flow.held)(0) <= WINDOW_ENTRIES + FRESH_ENTRIES);
        }
        pass(ms(100)).await;
        let settle = flow.settle.borrow();
        assert!(settle.rows.len() + settle.ended.len() + (flow.held)(0) >= 1_000_000);
        assert!(flow.seen(0).len() < 20);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_due_at_once_come_at_the_rate_and_new_events_pass_them() {
    let scenario = async {
        let spec = WebhookSpec { rate_limit: Some(RateLimit { per_second: 50.0, burst: 5 }), ..WebhookSpec::default() };
        let mut flow = Flow::start(env(&[(0, spec)]), ShardBounds::default(), |_, _, _| FakeAnswer::After(ms(1)));
        for n in 1..=100_000 {
            flow.settle.borrow_mut().rows.insert((WebhookNo(0), EventId::from_u128(n)), (1, Some(START)));
        }
        flow.last = 100_000;
        flow.to
            .send(ToShard::Waiting(vec![WebhookBacklog { webhook: WebhookNo(0), ready: false, due: Some(START) }]))
            .await
            .unwrap();
        pass(ms(10_000)).await;
        flow.send(10, &[0]).await;
        pass(ms(10_000)).await;
        let seen = flow.seen(0);
        assert!((950..=1_006).contains(&seen.len()), "{}", seen.len());
        for (i, from) in seen.iter().enumerate() {
            assert!(seen[i..].iter().take_while(|seen| seen.at - from.at < ms(1_000)).count() <= 55);
        }
        assert_eq!(seen.iter().filter(|seen| seen.event > 100_000).count(), 10);
        assert!((flow.held)(0) <= WINDOW_ENTRIES);
    };
    LocalSet::new().run_until(scenario).await;
}

/// A transport that responds immediately. It is created on its shard's thread and cannot leave it.
struct InstantTransport(Rc<std::cell::Cell<usize>>);

impl Transport for InstantTransport {
    async fn deliver(&self, _: AttemptRequest<'_>) -> AttemptOutcome {
        self.0.set(self.0.get() + 1);
        AttemptOutcome {
            result: Ok(()),
            http_status: Some(200),
            retry_after: None,
            response: Box::default(),
            latency: Duration::ZERO,
            sent_at: None,
        }
    }
}

#[test]
fn threads_share_the_webhooks_and_send_all_outcomes_before_they_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let env = runtime.block_on(async { plain(10) });
    let (shards, inboxes) = Shards::channels(2);
    let mut running = start(&env.setup, &env.ports, inboxes, |_| InstantTransport(Rc::default())).unwrap();
    for no in 0..10 {
        let arrival =
            EventArrival { event: event(u128::from(no) + 1), webhooks: [WebhookNo(no)].into_iter().collect() };
        shards.send(shards.of(WebhookNo(no)), ToShard::Arrivals(vec![arrival]));
    }
    let mut delivered = 0;
    while delivered < 10 {
        if let ToSettle::Settled(list) = env.settle_messages.recv().unwrap() {
            delivered += list.len();
        }
    }
    assert!(!running.has_ended());
    running.stop(Duration::ZERO);
    assert_eq!(running.join(), Ok(()));
    assert_eq!(env.setup.metrics.successes.get(), 10);
}

#[test]
fn a_thread_that_panics_is_reported() {
    let env = plain(1);
    let (_shards, inboxes) = Shards::channels(1);
    let running = start(&env.setup, &env.ports, inboxes, |_| -> InstantTransport { panic!("no transport") }).unwrap();
    assert_eq!(running.join(), Err(ShardPanicked(0)));
}

const ORDERED: WebhookSpec =
    WebhookSpec { status: WebhookStatus::Active, max_in_flight: None, rate_limit: None, order: OrderSpec::Acceptance };

#[tokio::test(start_paused = true)]
async fn an_ordered_webhook_is_sent_one_at_a_time_and_a_retry_holds_back_what_follows() {
    let scenario = async {
        let mut flow = Flow::start(env(&[(0, ORDERED)]), ShardBounds::default(), |_, event, attempt| {
            if event == 3 && attempt < 3 { FakeAnswer::Status(500) } else { FakeAnswer::After(ms(1)) }
        });
        flow.send(6, &[0]).await;
        pass(ms(900)).await;
        assert_eq!(flow.events(0), [1, 2, 3], "the third waits for its time, and the rest for the third");
        flow.send(2, &[0]).await;
        pass(ms(5_000)).await;
        assert_eq!(flow.events(0), [1, 2, 3, 3, 3, 4, 5, 6, 7, 8]);
        assert!(flow.seen(0).iter().all(|seen| seen.at_once == 1));
        pass(WEBHOOK_IDLE_EVICTION + ms(100)).await;
        assert_eq!((flow.delivered(0), (flow.webhooks)()), (8, 0));
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_lets_the_next_go_and_a_backlog_stays_in_order() {
    let scenario = async {
        let mut flow = Flow::start(env(&[(0, ORDERED)]), ShardBounds::default(), |_, event, _| {
            if event == 2 { FakeAnswer::Status(410) } else { FakeAnswer::After(ms(1)) }
        });
        let count = WINDOW_ENTRIES + 500;
        flow.send(count, &[0]).await;
        // The webhook is paused until it is disabled, which does not happen in this test.
        pass(ms(120_000)).await;
        assert_eq!(flow.ended(0)[1], (2, Decision::Dead(DeadReason::Gone)));
        assert_eq!(flow.events(0), (1..=count as u128).collect::<Vec<_>>());
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn a_later_change_of_order_applies_to_deliveries_that_already_wait() {
    let scenario = async {
        let mut flow = Flow::start(plain(1), ShardBounds::default(), |_, _, _| FakeAnswer::After(ms(100)));
        flow.send(40, &[0]).await;
        pass(ms(50)).await;
        flow.env.directory.put(0, ORDERED);
        flow.changed(0).await;
        pass(ms(10_000)).await;
        let seen = flow.seen(0);
        assert_eq!(seen.len(), 40);
        assert!(seen[8..].iter().all(|seen| seen.at_once == 1), "{seen:?}");
        assert_eq!(seen[8..].iter().map(|seen| seen.event).collect::<Vec<_>>(), (9..=40).collect::<Vec<_>>());
        flow.env.directory.put(0, WebhookSpec::default());
        flow.changed(0).await;
        flow.send(16, &[0]).await;
        pass(ms(350)).await;
        assert_eq!(flow.delivered(0), 56, "eight at once again");
    };
    LocalSet::new().run_until(scenario).await;
}

const BY_K: WebhookSpec =
    WebhookSpec { status: WebhookStatus::Active, max_in_flight: None, rate_limit: None, order: OrderSpec::By("k") };

/// Returns the attempted events that have this value of `k`, in order of their attempts.
fn of_value(flow: &Flow, k: Option<&str>) -> Vec<u128> {
    flow.events(0).into_iter().filter(|event| value("k", *event) == k).collect()
}

/// Returns the events up to `last` that have this value.
fn with_value(last: u128, k: Option<&str>) -> Vec<u128> {
    (1..=last).filter(|event| value("k", *event) == k).collect()
}

#[tokio::test(start_paused = true)]
async fn a_failing_event_holds_back_those_of_its_value_and_no_others() {
    let scenario = async {
        let mut flow = Flow::start(env(&[(0, BY_K)]), ShardBounds::default(), |_, event, attempt| {
            if event == 2 && attempt < 3 { FakeAnswer::Status(500) } else { FakeAnswer::After(ms(20)) }
        });
        flow.send(16, &[0]).await;
        pass(ms(15)).await;
        assert_eq!(flow.events(0), [1, 2, 3, 5, 10, 12], "the first of each value, and all without a value");
        assert_eq!(
            flow.seen(0).last().map(|seen| seen.at_once),
            Some(5),
            "the second has failed, the others go at once"
        );
        pass(ms(500)).await;
        assert_eq!(of_value(&flow, Some("1")), with_value(16, Some("1")));
        assert_eq!(of_value(&flow, Some("2")), [2]);
        flow.send(4, &[0]).await;
        pass(ms(100)).await;
        assert_eq!(of_value(&flow, Some("2")), [2]);
        assert_eq!(of_value(&flow, None), with_value(20, None));
        pass(ms(5_000)).await;
        assert_eq!(of_value(&flow, Some("2")), [&[2, 2], &*with_value(20, Some("2"))].concat());
        assert_eq!(flow.delivered(0), 20);
        pass(WEBHOOK_IDLE_EVICTION + ms(100)).await;
        assert_eq!((flow.webhooks)(), 0);
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn deliveries_behind_a_failing_event_stay_within_the_window_and_in_order() {
    let scenario = async {
        let bounds = ShardBounds { window_entries: 16, refill_rows: 8, body_read_events: 4, ..ShardBounds::default() };
        let mut flow = Flow::start(env(&[(0, BY_K)]), bounds, |_, event, attempt| {
            if event == 2 && attempt < 3 { FakeAnswer::Status(500) } else { FakeAnswer::After(ms(1)) }
        });
        flow.send(200, &[0]).await;
        pass(ms(900)).await;
        let others = of_value(&flow, None).len() + of_value(&flow, Some("1")).len();
        // The window has room for 15 events with the failing value, which are among 35 events.
        assert!((18..=22).contains(&others), "{:?}", flow.events(0));
        assert!((flow.held)(0) <= 16);
        flow.send(10, &[0]).await;
        pass(ms(20_000)).await;
        assert_eq!(flow.delivered(0), 210);
        assert_eq!(of_value(&flow, Some("1")), with_value(210, Some("1")));
        assert_eq!(of_value(&flow, Some("2")), [&[2, 2], &*with_value(210, Some("2"))].concat());
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn order_by_a_field_respects_breaker_rate_limit_and_concurrency() {
    let scenario = async {
        let is_down = Rc::new(std::cell::Cell::new(true));
        let down = Rc::clone(&is_down);
        let spec = WebhookSpec { max_in_flight: Some(3), ..BY_K };
        let mut flow = Flow::start(env(&[(0, spec)]), ShardBounds::default(), move |_, _, _| {
            if down.get() { FakeAnswer::Status(500) } else { FakeAnswer::After(ms(50)) }
        });
        flow.send(28, &[0]).await;
        pass(ms(25_000)).await;
        let before = flow.seen(0).len();
        assert!((10..20).contains(&before), "the breaker is open: {before}");
        is_down.set(false);
        pass(ms(10_000)).await;
        let seen = flow.seen(0);
        assert!(
            seen[before].at_once == 1 && seen[before + 1].at_once == 1,
            "one probe at a time: {:?}",
            &seen[before..]
        );
        assert!(seen.iter().all(|seen| seen.at_once <= 3) && seen.iter().any(|seen| seen.at_once == 3));
        assert_eq!(flow.ended(0).len(), 28);
        let rate_limit = Some(RateLimit { per_second: 10.0, burst: 1 });
        flow.env.directory.put(0, WebhookSpec { rate_limit, ..BY_K });
        flow.changed(0).await;
        flow.send(28, &[0]).await;
        pass(ms(1_000)).await;
        assert!((10..=12).contains(&(flow.seen(0).len() - seen.len())));
    };
    LocalSet::new().run_until(scenario).await;
}

/// Starts a test delivery of this webhook.
async fn send_test(
    flow: &Flow,
    no: u32,
) -> oneshot::Receiver<Result<crate::handoff::TestAttempt, TestDeliveryRefused>> {
    send_test_of(flow, flow.env.directory.webhook(WebhookNo(no)).unwrap()).await
}

async fn send_test_of(
    flow: &Flow,
    webhook: Arc<Webhook>,
) -> oneshot::Receiver<Result<crate::handoff::TestAttempt, TestDeliveryRefused>> {
    let (reply, answer) = oneshot::channel();
    let event = event(1_000 + u128::from(webhook.no.0));
    let send_test = TestDeliveryRequest { webhook, event, reply };
    flow.to.send(ToShard::TestDelivery(send_test)).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn a_test_delivery_goes_at_once_and_leaves_no_trace() {
    let scenario = async {
        let webhooks = [
            (0, WebhookSpec { status: WebhookStatus::Paused, ..WebhookSpec::default() }),
            (1, WebhookSpec { status: WebhookStatus::Failed, ..WebhookSpec::default() }),
            (2, WebhookSpec { rate_limit: Some(RateLimit { per_second: 0.01, burst: 1 }), ..ONE_AT_A_TIME }),
        ];
        let mut flow = Flow::start(env(&webhooks), ShardBounds::default(), |no, event, _| match no {
            2 if event < 1_000 => FakeAnswer::After(ms(60_000)),
            2 => FakeAnswer::Status(500),
            _ => FakeAnswer::After(ms(1)),
        });
        // The webhook's only concurrent delivery and its only token are used.
        flow.send(2, &[2]).await;
        pass(ms(10)).await;
        for no in 0..3 {
            let answer = send_test(&flow, no).await.await.unwrap().unwrap();
            assert_eq!(answer.outcome.result.is_ok(), no != 2);
            assert_eq!(flow.events(no).last(), Some(&(1_000 + u128::from(no))));
        }
        for _ in 0..20 {
            assert!(send_test(&flow, 2).await.await.unwrap().is_ok());
        }
        let metrics = &flow.env.setup.metrics;
        assert_eq!((metrics.attempts.get(), metrics.failures.get(), metrics.in_flight.get()), (0, 0, 1));
        pass(ms(100)).await;
        assert!((0..3).all(|no| flow.ended(no).is_empty()), "settle hears of none");
        let shown = String::from_utf8(metrics.render()).unwrap();
        assert!(!shown.contains("webhook_circuit_breaker_state{"), "no breaker counts them");
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test(start_paused = true)]
async fn test_deliveries_are_limited_and_end_when_the_caller_goes_away() {
    let scenario = async {
        let webhooks = TEST_DELIVERIES_PER_SHARD as u32;
        let flow = Flow::start(plain(webhooks), ShardBounds::default(), |_, _, _| FakeAnswer::Never);
        let mut first: Vec<_> = Vec::new();
        for _ in 0..TEST_DELIVERIES_PER_WEBHOOK {
            first.push(send_test(&flow, 0).await);
        }
        assert_eq!(send_test(&flow, 0).await.await.unwrap().unwrap_err(), TestDeliveryRefused::WebhookBusy);
        let mut others = Vec::new();
        for no in 1..=(TEST_DELIVERIES_PER_SHARD / 2 - TEST_DELIVERIES_PER_WEBHOOK) as u32 {
            others.push(send_test(&flow, no).await);
        }
        let refused = send_test(&flow, webhooks - 1).await.await.unwrap().unwrap_err();
        assert_eq!(refused, TestDeliveryRefused::TenantBusy, "half of the places");
        for tenant in 0..TEST_DELIVERIES_PER_SHARD as u32 / 2 {
            let mut webhook = webhook(1_000 + tenant, WebhookSpec::default());
            Arc::get_mut(&mut webhook).unwrap().settings.tenant = tenant.to_string().into();
            others.push(send_test_of(&flow, webhook).await);
        }
        pass(ms(1)).await;
        assert!(others.iter_mut().all(|other| other.try_recv().is_err()), "a place for each of the other tenants");
        assert_eq!(send_test(&flow, webhooks - 1).await.await.unwrap().unwrap_err(), TestDeliveryRefused::Busy);
        // The tests of the other tenants, and one of this webhook.
        others.truncate(TEST_DELIVERIES_PER_SHARD / 2 - TEST_DELIVERIES_PER_WEBHOOK);
        drop(first.pop());
        pass(ms(1)).await;
        let mut again = send_test(&flow, 0).await;
        pass(ms(1)).await;
        assert!(again.try_recv().is_err(), "in flight");
        assert_eq!(flow.seen(0).len(), TEST_DELIVERIES_PER_WEBHOOK + 1);
    };
    LocalSet::new().run_until(scenario).await;
}
