//! A test fixture: a service over a real registry and in-memory backends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};

use super::{
    BackendResult, BoxFuture, BreakerState, DeadLetter, Delivery, DeliveryBackend, Replay, ReplayScope, RowBatch,
    Service, ServiceParts, StatisticsBackend, TestDelivery, TestDeliveryResult, TestRefused, TestSender, UrlProblem,
    WebhookCounts,
};
use crate::handoff::{AttemptOutcome, ReplayFilter, RetryResult, TestAttempt};
use crate::inbound::source::Rejections;
use crate::model::{
    Attempt, AttemptError, DeadReason, DeliveryId, DeliveryStatus, EndpointState, EventId, NewEvent, RetryPolicy,
    Timestamp, WebhookNo,
};
use crate::outbound::{Endpoint, SentRequest};
use crate::registry::{Shared, Writer, tests as registry_tests};
use crate::runtime::Clock;
use crate::settle::{DeliveryQuery, Hour, HourlyStatsRow, JobState, ResponseToStore, StatsScope, WebhookStats};
use crate::storage::{LogRecord, ReadError, ReadLog, StoredResponse};

/// A service with its dependencies.
pub(crate) struct TestService {
    pub(crate) service: Arc<Service>,
    pub(crate) registry: Shared,
    pub(crate) writer: Writer,
    pub(crate) clock: Clock,
    pub(crate) rejections: Arc<Rejections>,
    pub(crate) store: Arc<TestDeliveryBackend>,
    pub(crate) statistics: Arc<TestStatistics>,
    pub(crate) log: Arc<TestLog>,
    pub(crate) test_sender: Arc<RecordingTestSender>,
    _shards: Vec<tokio::sync::mpsc::Receiver<crate::handoff::ToShard>>,
    _settle: crossbeam_channel::Receiver<crate::handoff::ToSettle>,
    _dir: tempfile::TempDir,
}

/// Creates a service without webhooks, events and deliveries.
pub(crate) fn world() -> TestService {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry_tests::test_registry(dir.path(), Vec::new()).unwrap();
    let (store, log) = (Arc::new(TestDeliveryBackend::default()), Arc::new(TestLog::default()));
    let (rejections, statistics) = (Arc::new(Rejections::default()), Arc::new(TestStatistics::default()));
    let test_sender = Arc::new(RecordingTestSender::default());
    let clock = Clock::test(registry_tests::NOW);
    let service = Service::new(ServiceParts {
        registry: Arc::clone(&registry.running.shared),
        writer: registry.running.writer.clone(),
        deliveries: Arc::clone(&store) as Arc<dyn DeliveryBackend>,
        statistics: Arc::clone(&statistics) as Arc<dyn StatisticsBackend>,
        log: Arc::clone(&log) as Arc<dyn ReadLog>,
        check_url: Box::new(check_url),
        has_bus: false,
        default_retry: RetryPolicy::Schedule([5, 60].map(Duration::from_secs).into()),
        rejections: Arc::clone(&rejections),
        clock: clock.clone(),
        test_sender: Arc::clone(&test_sender) as Arc<dyn TestSender>,
    });
    let (writer, shards, settle) = (registry.running.writer.clone(), registry.shards, registry.settle);
    let (service, registry) = (Arc::new(service), Arc::clone(&registry.running.shared));
    TestService {
        service,
        registry,
        writer,
        clock,
        rejections,
        store,
        statistics,
        log,
        test_sender,
        _shards: shards,
        _settle: settle,
        _dir: dir,
    }
}

/// An in-memory delivery backend.
#[derive(Default)]
pub(crate) struct TestDeliveryBackend {
    pub(crate) waiting: Mutex<Vec<(EventId, WebhookNo)>>,
    pub(crate) rows: Mutex<BTreeMap<DeliveryId, Delivery>>,
    pub(crate) dead: Mutex<BTreeMap<DeliveryId, DeadLetter>>,
    pub(crate) replays: Mutex<Vec<(JobState, ReplayScope)>>,
    pub(crate) replayed_dead_letters: Mutex<Vec<(WebhookNo, Option<Vec<EventId>>)>>,
    answers: Mutex<BTreeMap<[u8; 32], StoredResponse>>,
}

impl DeliveryBackend for TestDeliveryBackend {
    fn sync(
        &self,
        webhook: Option<WebhookNo>,
        event: Option<EventId>,
        limit: usize,
    ) -> BoxFuture<'_, BackendResult<Vec<(EventId, WebhookNo)>>> {
        let mut all = self.waiting.lock().unwrap().clone();
        all.sort_unstable();
        all.reverse();
        all.retain(|(e, w)| webhook.is_none_or(|no| no == *w) && event.is_none_or(|id| id == *e));
        all.truncate(limit);
        Box::pin(async move { Ok(all) })
    }
    fn delivery(&self, id: DeliveryId) -> BackendResult<Option<Delivery>> {
        Ok(self.rows.lock().unwrap().get(&id).cloned())
    }
    fn attempts(&self, id: DeliveryId) -> BackendResult<Vec<Attempt>> {
        Ok(self.rows.lock().unwrap().get(&id).and_then(|row| row.last.clone()).into_iter().collect())
    }
    fn deliveries(&self, query: &DeliveryQuery, limit: usize) -> BackendResult<RowBatch<Delivery>> {
        let rows = self.rows.lock().unwrap();
        let of = rows.values().rev().filter(|row| is_wanted(query, row.id));
        let rows: Vec<_> = of.take(limit).cloned().collect();
        let next = rows.last().filter(|_| rows.len() == limit).map(|row| row.id);
        Ok(RowBatch { rows, next })
    }
    fn of_event(&self, event: EventId, webhooks: &[WebhookNo]) -> BackendResult<Vec<Delivery>> {
        let rows = self.rows.lock().unwrap();
        Ok(webhooks.iter().filter_map(|no| rows.get(&DeliveryId { event, webhook: *no }).cloned()).collect())
    }
    fn dead_letters(&self, query: &DeliveryQuery, limit: usize) -> BackendResult<RowBatch<DeadLetter>> {
        let dead = self.dead.lock().unwrap();
        let of = dead.values().rev().filter(|row| is_wanted(query, row.id));
        let rows: Vec<_> = of.take(limit).cloned().collect();
        let next = rows.last().filter(|_| rows.len() == limit).map(|row| row.id);
        Ok(RowBatch { rows, next })
    }
    fn dead_letter(&self, id: DeliveryId) -> BackendResult<Option<DeadLetter>> {
        Ok(self.dead.lock().unwrap().get(&id).cloned())
    }
    fn stored_response(&self, hash: &[u8; 32], _: Timestamp) -> BackendResult<Option<StoredResponse>> {
        Ok(self.answers.lock().unwrap().get(hash).cloned())
    }
    fn replay(&self, filter: ReplayFilter, answer: Option<ResponseToStore>) -> BoxFuture<'_, BackendResult<u64>> {
        self.start(ReplayScope::Events(filter), answer)
    }
    fn replay_dead(
        &self,
        webhook: WebhookNo,
        events: Option<Vec<EventId>>,
        answer: Option<ResponseToStore>,
    ) -> BoxFuture<'_, BackendResult<u64>> {
        let count = events.as_ref().map_or(self.dead.lock().unwrap().len(), Vec::len) as u64;
        self.keep(answer, count);
        self.replayed_dead_letters.lock().unwrap().push((webhook, events));
        Box::pin(async move { Ok(count) })
    }
    fn retry(&self, id: DeliveryId, answer: Option<ResponseToStore>) -> BoxFuture<'_, BackendResult<RetryResult>> {
        let status = self.rows.lock().unwrap().get(&id).map(|row| row.status);
        let dead_letter = self.dead.lock().unwrap().remove(&id);
        let retried = match (status, dead_letter) {
            (None | Some(DeliveryStatus::Pending), None) => RetryResult::AlreadyPending,
            _ => RetryResult::Scheduled,
        };
        self.keep(answer.filter(|_| retried == RetryResult::Scheduled), 0);
        Box::pin(async move { Ok(retried) })
    }
    fn discard(&self, webhook: WebhookNo, events: Vec<EventId>) -> BoxFuture<'_, BackendResult<u64>> {
        let mut dead = self.dead.lock().unwrap();
        let gone = events.into_iter().filter(|event| dead.remove(&DeliveryId { event: *event, webhook }).is_some());
        let gone = gone.count() as u64;
        Box::pin(async move { Ok(gone) })
    }
    fn recover(
        &self,
        webhook: WebhookNo,
        since: Timestamp,
        answer: Option<ResponseToStore>,
    ) -> BoxFuture<'_, BackendResult<u64>> {
        self.start(ReplayScope::DeadLetters { webhook, since: Some(since) }, answer)
    }
    fn cancel_replay(&self, no: u64) -> BoxFuture<'_, BackendResult<bool>> {
        let mut replays = self.replays.lock().unwrap();
        let found = replays.get_mut((no as usize).wrapping_sub(1)).filter(|(state, _)| *state == JobState::Running);
        let was_running = found.map(|(state, _)| *state = JobState::Cancelled).is_some();
        Box::pin(async move { Ok(was_running) })
    }
    fn replays(&self, before: Option<u64>, limit: usize) -> BackendResult<Vec<Replay>> {
        let replays = self.replays.lock().unwrap();
        let all = (1u64..).zip(replays.iter()).collect::<Vec<_>>().into_iter().rev();
        let all = all.filter(|(no, _)| before.is_none_or(|before| *no < before));
        Ok(all.take(limit).map(|(no, one)| replay(no, one)).collect())
    }
    fn replay_job(&self, no: u64) -> BackendResult<Option<Replay>> {
        let replays = self.replays.lock().unwrap();
        Ok(replays.get((no as usize).wrapping_sub(1)).map(|one| replay(no, one)))
    }
}

impl TestDeliveryBackend {
    fn keep(&self, answer: Option<ResponseToStore>, number: u64) {
        if let Some((key, answer)) = answer {
            let stored = StoredResponse { fingerprint: key.fingerprint, response: answer.fill(number) };
            self.answers.lock().unwrap().insert(key.hash, stored);
        }
    }

    /// Inserts a delivery after two attempts.
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

    /// Inserts a dead letter that ended when its event was accepted.
    pub(crate) fn put_dead(&self, event: EventId, webhook: u32) -> DeliveryId {
        let id = DeliveryId { event, webhook: WebhookNo(webhook) };
        let at = Timestamp::from_millis(event.as_u128() as i64);
        let dead_letter = DeadLetter { id, reason: DeadReason::Exhausted, error: None, attempts: 10, at };
        self.dead.lock().unwrap().insert(id, dead_letter);
        id
    }

    fn start(&self, scope: ReplayScope, answer: Option<ResponseToStore>) -> BoxFuture<'_, BackendResult<u64>> {
        let mut replays = self.replays.lock().unwrap();
        replays.push((JobState::Running, scope));
        let no = replays.len() as u64;
        self.keep(answer, no);
        Box::pin(async move { Ok(no) })
    }
}

fn is_wanted(query: &DeliveryQuery, id: DeliveryId) -> bool {
    query.webhooks.contains(&id.webhook) && id.event >= query.first && id < query.before
}

fn replay(no: u64, (state, scope): &(JobState, ReplayScope)) -> Replay {
    Replay {
        no,
        scope: scope.clone(),
        state: *state,
        created_at: Timestamp::default(),
        ended_at: None,
        events: 9,
        deliveries: 3,
        total: None,
    }
}

/// An in-memory event log.
#[derive(Default)]
pub(crate) struct TestLog(pub(crate) Mutex<BTreeMap<EventId, LogRecord>>);

impl ReadLog for TestLog {
    fn last(&self) -> EventId {
        self.0.lock().unwrap().keys().last().copied().unwrap_or(EventId::MIN)
    }
    fn read(&self, events: &[EventId]) -> Result<Vec<Option<LogRecord>>, ReadError> {
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

impl TestLog {
    /// Inserts an event that was accepted `n` milliseconds after 1970.
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

/// In-memory statistics by webhook and by tenant.
#[derive(Default)]
pub(crate) struct TestStatistics {
    pub(crate) webhooks: Mutex<BTreeMap<(WebhookNo, Hour), HourlyStatsRow>>,
    pub(crate) tenants: Mutex<BTreeMap<(String, Hour), HourlyStatsRow>>,
    pub(crate) totals: Mutex<WebhookStats>,
    pub(crate) breaker: AtomicU8,
    pub(crate) endpoint: Mutex<Option<EndpointState>>,
}

impl StatisticsBackend for TestStatistics {
    fn of_webhook(
        &self,
        webhook: WebhookNo,
        first: Hour,
        last: Hour,
        _: usize,
    ) -> BoxFuture<'_, BackendResult<WebhookCounts>> {
        let hours = self.hours(StatsScope::Webhooks(&[webhook]), first, last);
        let totals = *self.totals.lock().unwrap();
        Box::pin(async move { Ok(WebhookCounts { totals, waiting: 4, waiting_is_minimum: false, hours: hours? }) })
    }

    fn hours(&self, of: StatsScope<'_>, first: Hour, last: Hour) -> BackendResult<BTreeMap<Hour, HourlyStatsRow>> {
        let mut found = BTreeMap::<Hour, HourlyStatsRow>::new();
        let mut add = |hour: Hour, row: &HourlyStatsRow| {
            if (first..=last).contains(&hour) {
                found.entry(hour).or_default().merge(row, 250);
            }
        };
        let (webhooks, tenants) = (self.webhooks.lock().unwrap(), self.tenants.lock().unwrap());
        match of {
            StatsScope::Webhooks(query) => {
                let of = webhooks.iter().filter(|((no, _), _)| query.contains(no));
                of.for_each(|((_, hour), row)| add(*hour, row));
            }
            StatsScope::Tenant(name) => {
                tenants.iter().filter(|((tenant, _), _)| tenant == name).for_each(|((_, hour), row)| add(*hour, row));
            }
            StatsScope::AllTenants => tenants.iter().for_each(|((_, hour), row)| add(*hour, row)),
        }
        Ok(found)
    }

    fn breaker(&self, _: WebhookNo) -> BreakerState {
        match self.breaker.load(Ordering::Relaxed) {
            0 => BreakerState::Closed,
            1 => BreakerState::HalfOpen,
            _ => BreakerState::Open,
        }
    }

    fn endpoint_state(&self, _: WebhookNo) -> Option<EndpointState> {
        *self.endpoint.lock().unwrap()
    }
}

/// Records test deliveries and answers 418, unless it is set to refuse them.
#[derive(Default)]
pub(crate) struct RecordingTestSender {
    pub(crate) received: Mutex<Vec<TestDelivery>>,
    pub(crate) refuses: Mutex<Option<TestRefused>>,
}

impl TestSender for RecordingTestSender {
    fn test(&self, delivery: TestDelivery) -> BoxFuture<'_, Result<TestDeliveryResult, TestRefused>> {
        let refused = *self.refuses.lock().unwrap();
        let id = DeliveryId { event: EventId::from_u128(7), webhook: delivery.webhook.no };
        self.received.lock().unwrap().push(delivery);
        Box::pin(async move { refused.map_or(Ok(TestDeliveryResult { id, attempt: attempt() }), Err) })
    }
}

fn attempt() -> TestAttempt {
    let mut secret = HeaderValue::from_static("Bearer canary");
    secret.set_sensitive(true);
    let sent = [("x-team", HeaderValue::from_static("a")), ("authorization", secret)];
    let sent: HeaderMap = sent.into_iter().map(|(name, value)| (name.parse().unwrap(), value)).collect();
    let mut headers = HeaderMap::new();
    headers.append("via", HeaderValue::from_static("one"));
    headers.append("via", HeaderValue::from_static("two"));
    TestAttempt {
        outcome: AttemptOutcome {
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
        subject: None,
    })
}
