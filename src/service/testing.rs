//! A service over a real registry and stores of the test's own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};

use super::{
    Answered, BreakerState, DeadLetter, Delivery, DeliveryStore, FigureStore, Later, Part, Parts, Replay, Service,
    TestDelivery, TestRefused, Tested, Tester, UrlProblem, Work,
};
use crate::handoff::{Outcome, Probed, ReplayFilter, Retried};
use crate::inbound::source::Rejections;
use crate::model::{
    Attempt, AttemptError, DeadReason, DeliveryId, DeliveryStatus, EventId, NewEvent, RetryPolicy, Timestamp, WebhookNo,
};
use crate::outbound::{Endpoint, SentRequest};
use crate::registry::{Shared, Writer, tests as registry_tests};
use crate::runtime::Clock;
use crate::settle::{FiguresOf, Hour, HourRow, JobState, Wanted, WebhookStats};
use crate::storage::{ReadError, ReadLog, Stored};

/// A service, and what it works with.
pub(crate) struct World {
    pub(crate) service: Arc<Service>,
    pub(crate) registry: Shared,
    pub(crate) writer: Writer,
    pub(crate) clock: Clock,
    pub(crate) rejections: Arc<Rejections>,
    pub(crate) store: Arc<Store>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) log: Arc<Log>,
    pub(crate) tester: Arc<Receiver>,
    _shards: Vec<tokio::sync::mpsc::Receiver<crate::handoff::ToShard>>,
    _settle: crossbeam_channel::Receiver<crate::handoff::ToSettle>,
    _dir: tempfile::TempDir,
}

/// A service without anything.
pub(crate) fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry_tests::world(dir.path(), Vec::new()).unwrap();
    let (store, log) = (Arc::new(Store::default()), Arc::new(Log::default()));
    let (rejections, figures) = (Arc::new(Rejections::default()), Arc::new(Figures::default()));
    let tester = Arc::new(Receiver::default());
    let clock = Clock::test(registry_tests::NOW);
    let service = Service::new(Parts {
        registry: Arc::clone(&registry.running.shared),
        writer: registry.running.writer.clone(),
        deliveries: Arc::clone(&store) as Arc<dyn DeliveryStore>,
        figures: Arc::clone(&figures) as Arc<dyn FigureStore>,
        log: Arc::clone(&log) as Arc<dyn ReadLog>,
        check_url: Box::new(check_url),
        default_retry: RetryPolicy::Schedule([5, 60].map(Duration::from_secs).into()),
        rejections: Arc::clone(&rejections),
        clock: clock.clone(),
        tester: Arc::clone(&tester) as Arc<dyn Tester>,
    });
    let (writer, shards, settle) = (registry.running.writer.clone(), registry.shards, registry.settle);
    let (service, registry) = (Arc::new(service), Arc::clone(&registry.running.shared));
    World {
        service,
        registry,
        writer,
        clock,
        rejections,
        store,
        figures,
        log,
        tester,
        _shards: shards,
        _settle: settle,
        _dir: dir,
    }
}

/// What settle would know.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) waiting: Mutex<Vec<(EventId, WebhookNo)>>,
    pub(crate) rows: Mutex<BTreeMap<DeliveryId, Delivery>>,
    pub(crate) dead: Mutex<BTreeMap<DeliveryId, DeadLetter>>,
    pub(crate) replays: Mutex<Vec<(JobState, Work)>>,
    pub(crate) asked: Mutex<Vec<(WebhookNo, Option<Vec<EventId>>)>>,
}

impl DeliveryStore for Store {
    fn sync(
        &self,
        webhook: Option<WebhookNo>,
        event: Option<EventId>,
        limit: usize,
    ) -> Later<'_, Answered<Vec<(EventId, WebhookNo)>>> {
        let mut all = self.waiting.lock().unwrap().clone();
        all.sort_unstable();
        all.reverse();
        all.retain(|(e, w)| webhook.is_none_or(|no| no == *w) && event.is_none_or(|id| id == *e));
        all.truncate(limit);
        Box::pin(async move { Ok(all) })
    }
    fn delivery(&self, id: DeliveryId) -> Answered<Option<Delivery>> {
        Ok(self.rows.lock().unwrap().get(&id).cloned())
    }
    fn attempts(&self, id: DeliveryId) -> Answered<Vec<Attempt>> {
        Ok(self.rows.lock().unwrap().get(&id).and_then(|row| row.last.clone()).into_iter().collect())
    }
    fn deliveries(&self, wanted: &Wanted, limit: usize) -> Answered<Part<Delivery>> {
        let rows = self.rows.lock().unwrap();
        let of = rows.values().rev().filter(|row| is_wanted(wanted, row.id));
        let rows: Vec<_> = of.take(limit).cloned().collect();
        let next = rows.last().filter(|_| rows.len() == limit).map(|row| row.id);
        Ok(Part { rows, next })
    }
    fn of_event(&self, event: EventId, webhooks: &[WebhookNo]) -> Answered<Vec<Delivery>> {
        let rows = self.rows.lock().unwrap();
        Ok(webhooks.iter().filter_map(|no| rows.get(&DeliveryId { event, webhook: *no }).cloned()).collect())
    }
    fn dead_letters(&self, wanted: &Wanted, limit: usize) -> Answered<Part<DeadLetter>> {
        let dead = self.dead.lock().unwrap();
        let of = dead.values().rev().filter(|row| is_wanted(wanted, row.id));
        let rows: Vec<_> = of.take(limit).cloned().collect();
        let next = rows.last().filter(|_| rows.len() == limit).map(|row| row.id);
        Ok(Part { rows, next })
    }
    fn dead_letter(&self, id: DeliveryId) -> Answered<Option<DeadLetter>> {
        Ok(self.dead.lock().unwrap().get(&id).cloned())
    }
    fn replay(&self, filter: ReplayFilter) -> Later<'_, Answered<u64>> {
        self.start(Work::Events(filter))
    }
    fn replay_dead(&self, webhook: WebhookNo, events: Option<Vec<EventId>>) -> Later<'_, Answered<u64>> {
        let count = events.as_ref().map_or(self.dead.lock().unwrap().len(), Vec::len) as u64;
        self.asked.lock().unwrap().push((webhook, events));
        Box::pin(async move { Ok(count) })
    }
    fn retry(&self, id: DeliveryId) -> Later<'_, Answered<Retried>> {
        let status = self.rows.lock().unwrap().get(&id).map(|row| row.status);
        let letter = self.dead.lock().unwrap().remove(&id);
        let retried = match (status, letter) {
            (None | Some(DeliveryStatus::Pending), None) => Retried::Waits,
            _ => Retried::Again,
        };
        Box::pin(async move { Ok(retried) })
    }
    fn discard(&self, webhook: WebhookNo, events: Vec<EventId>) -> Later<'_, Answered<u64>> {
        let mut dead = self.dead.lock().unwrap();
        let gone = events.into_iter().filter(|event| dead.remove(&DeliveryId { event: *event, webhook }).is_some());
        let gone = gone.count() as u64;
        Box::pin(async move { Ok(gone) })
    }
    fn recover(&self, webhook: WebhookNo, since: Timestamp) -> Later<'_, Answered<u64>> {
        self.start(Work::DeadLetters { webhook, since: Some(since) })
    }
    fn cancel_replay(&self, no: u64) -> Later<'_, Answered<bool>> {
        let mut replays = self.replays.lock().unwrap();
        let found = replays.get_mut((no as usize).wrapping_sub(1)).filter(|(state, _)| *state == JobState::Running);
        let was_running = found.map(|(state, _)| *state = JobState::Cancelled).is_some();
        Box::pin(async move { Ok(was_running) })
    }
    fn replays(&self, before: Option<u64>, limit: usize) -> Answered<Vec<Replay>> {
        let replays = self.replays.lock().unwrap();
        let all = (1u64..).zip(replays.iter()).collect::<Vec<_>>().into_iter().rev();
        let all = all.filter(|(no, _)| before.is_none_or(|before| *no < before));
        Ok(all.take(limit).map(|(no, one)| replay(no, one)).collect())
    }
    fn replay_job(&self, no: u64) -> Answered<Option<Replay>> {
        let replays = self.replays.lock().unwrap();
        Ok(replays.get((no as usize).wrapping_sub(1)).map(|one| replay(no, one)))
    }
}

impl Store {
    /// Puts in a delivery after two attempts.
    pub(crate) fn put_row(&self, event: EventId, webhook: u32, status: DeliveryStatus) -> DeliveryId {
        let id = DeliveryId { event, webhook: WebhookNo(webhook) };
        let last = Attempt {
            number: 2,
            at: Timestamp::from_millis(1000),
            latency: Duration::from_millis(25),
            http_status: Some(500),
            error: Some(AttemptError::Status(500)),
            response: "oops".into(),
        };
        let row = Delivery { id, status, attempts: 2, next_at: None, dead_at: None, reason: None, last: Some(last) };
        self.rows.lock().unwrap().insert(id, row);
        id
    }

    /// Puts in a dead letter that died when its event was accepted.
    pub(crate) fn put_dead(&self, event: EventId, webhook: u32) -> DeliveryId {
        let id = DeliveryId { event, webhook: WebhookNo(webhook) };
        let at = Timestamp::from_millis(event.as_u128() as i64);
        let letter = DeadLetter { id, reason: DeadReason::Exhausted, error: None, attempts: 10, at };
        self.dead.lock().unwrap().insert(id, letter);
        id
    }

    fn start(&self, work: Work) -> Later<'_, Answered<u64>> {
        let mut replays = self.replays.lock().unwrap();
        replays.push((JobState::Running, work));
        let no = replays.len() as u64;
        Box::pin(async move { Ok(no) })
    }
}

fn is_wanted(wanted: &Wanted, id: DeliveryId) -> bool {
    wanted.webhooks.contains(&id.webhook) && id.event >= wanted.first && id < wanted.before
}

fn replay(no: u64, (state, work): &(JobState, Work)) -> Replay {
    Replay {
        no,
        work: work.clone(),
        state: *state,
        created_at: Timestamp::default(),
        ended_at: None,
        events: 9,
        deliveries: 3,
        total: None,
    }
}

/// What commit would know.
#[derive(Default)]
pub(crate) struct Log(pub(crate) Mutex<BTreeMap<EventId, Stored>>);

impl ReadLog for Log {
    fn last(&self) -> EventId {
        self.0.lock().unwrap().keys().last().copied().unwrap_or(EventId::MIN)
    }
    fn read(&self, events: &[EventId]) -> Result<Vec<Option<Stored>>, ReadError> {
        let log = self.0.lock().unwrap();
        Ok(events.iter().map(|id| log.get(id).cloned()).collect())
    }
    fn heads_after(&self, after: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
        let log = self.0.lock().unwrap();
        let after = EventId::from_u128(after.as_u128() + 1);
        Ok(log.range(after..).take(limit).map(|(id, (head, _))| (*id, head.clone())).collect())
    }
    fn heads_before(&self, before: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
        let log = self.0.lock().unwrap();
        Ok(log.range(..before).rev().take(limit).map(|(id, (head, _))| (*id, head.clone())).collect())
    }
}

impl Log {
    /// Puts in an event that was accepted `n` milliseconds after 1970.
    pub(crate) fn put(&self, n: u128, tenant: &str, event_type: &str, webhooks: &[u32]) -> EventId {
        let mut head = Vec::new();
        let event = NewEvent {
            tenant,
            event_type,
            source: "api",
            correlation_id: "cor_1",
            external_id: Some("ext-1"),
            metadata: Some(r#"{"a":1}"#),
            received_at: Timestamp::from_millis(n as i64),
            ..NewEvent::default()
        };
        event.encode(&webhooks.iter().copied().map(WebhookNo).collect::<Vec<_>>(), &mut head);
        let id = EventId::from_u128(n);
        self.0.lock().unwrap().insert(id, (head.into(), Bytes::from_static(br#"{"n":1.50}"#)));
        id
    }
}

/// What settle would have counted, by webhook and by tenant.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) webhooks: Mutex<BTreeMap<(WebhookNo, Hour), HourRow>>,
    pub(crate) tenants: Mutex<BTreeMap<(String, Hour), HourRow>>,
    pub(crate) totals: Mutex<WebhookStats>,
    pub(crate) breaker: AtomicU8,
}

impl FigureStore for Figures {
    fn totals(&self, _: WebhookNo) -> WebhookStats {
        *self.totals.lock().unwrap()
    }

    fn hours(&self, of: FiguresOf<'_>, first: Hour, last: Hour) -> Answered<BTreeMap<Hour, HourRow>> {
        let mut found = BTreeMap::<Hour, HourRow>::new();
        let mut add = |hour: Hour, row: &HourRow| {
            if (first..=last).contains(&hour) {
                found.entry(hour).or_default().merge(row, 250);
            }
        };
        let (webhooks, tenants) = (self.webhooks.lock().unwrap(), self.tenants.lock().unwrap());
        match of {
            FiguresOf::Webhooks(wanted) => {
                let of = webhooks.iter().filter(|((no, _), _)| wanted.contains(no));
                of.for_each(|((_, hour), row)| add(*hour, row));
            }
            FiguresOf::Tenant(name) => {
                tenants.iter().filter(|((tenant, _), _)| tenant == name).for_each(|((_, hour), row)| add(*hour, row));
            }
            FiguresOf::Everybody => tenants.iter().for_each(|((_, hour), row)| add(*hour, row)),
        }
        Ok(found)
    }

    fn waiting(&self, _: WebhookNo, _: usize) -> Answered<usize> {
        Ok(3)
    }

    fn breaker(&self, _: WebhookNo) -> BreakerState {
        match self.breaker.load(Ordering::Relaxed) {
            0 => BreakerState::Closed,
            1 => BreakerState::HalfOpen,
            _ => BreakerState::Open,
        }
    }
}

/// Answers 418 to everything, unless it is told to refuse.
#[derive(Default)]
pub(crate) struct Receiver {
    pub(crate) came: Mutex<Vec<TestDelivery>>,
    pub(crate) refuses: Mutex<Option<TestRefused>>,
}

impl Tester for Receiver {
    fn test(&self, delivery: TestDelivery) -> Later<'_, Result<Tested, TestRefused>> {
        let refused = *self.refuses.lock().unwrap();
        let id = DeliveryId { event: EventId::from_u128(7), webhook: delivery.webhook.no };
        self.came.lock().unwrap().push(delivery);
        Box::pin(async move { refused.map_or(Ok(Tested { id, probed: probed() }), Err) })
    }
}

fn probed() -> Probed {
    let mut secret = HeaderValue::from_static("Bearer canary");
    secret.set_sensitive(true);
    let sent = [("x-team", HeaderValue::from_static("a")), ("authorization", secret)];
    let sent: HeaderMap = sent.into_iter().map(|(name, value)| (name.parse().unwrap(), value)).collect();
    let mut headers = HeaderMap::new();
    headers.append("via", HeaderValue::from_static("one"));
    headers.append("via", HeaderValue::from_static("two"));
    Probed {
        outcome: Outcome {
            result: Err(AttemptError::Status(418)),
            http_status: Some(418),
            retry_after: None,
            response: "short".into(),
            latency: Duration::from_millis(12),
            sent_at: None,
        },
        request: Some(SentRequest { headers: sent, body: b"{}".to_vec() }),
        headers,
        body: b"I am a teapot".to_vec(),
        is_cut: false,
    }
}

fn check_url(url: &str) -> Result<Endpoint, UrlProblem> {
    if url == "http://10.0.0.1/" {
        return Err(UrlProblem { egress: true, detail: "10.0.0.1 is a private address".into() });
    }
    let tls = url.starts_with("https:");
    let Some(target) = url.strip_prefix("https://example.com").or(url.strip_prefix("http://example.com")) else {
        return Err(UrlProblem { egress: false, detail: "expected an http or https URL".into() });
    };
    Ok(Endpoint {
        url: url.into(),
        tls,
        host: "example.com".into(),
        port: if tls { 443 } else { 80 },
        authority: HeaderValue::from_static("example.com"),
        target: PathAndQuery::try_from(target).unwrap(),
    })
}
