//! Generates the load: one thread with one task per connection. Each task sends one request after another.
//!
//! In a closed loop the next request follows the response. In an open loop requests are due on a constant schedule, and
//! the next idle connection takes the next request. The latency counts from the time at which the request was due. The
//! measurement therefore includes the requests that a stalled server delayed (no coordinated omission).

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use hdrhistogram::Histogram;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use super::accounting::AcceptedEvents;
use super::http::{HttpResponse, ResponseReader};
use super::timing::{Phase, PhaseClock, histogram};
use super::traffic::EventTemplate;

/// Minimum interval between two clock checks of the pacer. Requests that become due within one interval are released
/// together.
const PACER_INTERVAL: Duration = Duration::from_micros(100);
/// Maximum number of times a worker reconnects before it gives up.
const RECONNECTS_MAX: u32 = 16;

/// The parameters of a load.
#[derive(Debug)]
pub(super) struct LoadPlan {
    pub(super) target: SocketAddr,
    pub(super) template: EventTemplate,
    pub(super) connections: usize,
    /// Events in a request.
    pub(super) batch: u32,
    pub(super) model: LoadModel,
}

/// The load model: when requests are sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum LoadModel {
    /// Each connection sends as fast as responses arrive, until the phase is [`Phase::Over`].
    Closed,
    /// Each connection sends as fast as responses arrive, until at least `events` events have been sent.
    Counted {
        /// Number of events.
        events: u64,
    },
    /// Requests follow a schedule that starts with the load. Requests due after the warm-up are measured.
    Open {
        /// Events per second.
        rate: u32,
        warmup: Duration,
        duration: Duration,
    },
}

/// Counters that the coordinator reads while the load runs.
#[derive(Debug, Default)]
pub(super) struct LoadCounts {
    /// Acknowledged events.
    pub(super) accepted: AtomicU64,
    /// Refused events.
    pub(super) refused: AtomicU64,
    /// Connections that broke during a request.
    pub(super) broken: AtomicU64,
}

/// The result of a finished load.
#[derive(Debug)]
pub(super) struct LoadResult {
    pub(super) accepted: AcceptedEvents,
    /// Time in microseconds from sending a request (open loop: from its due time) to its response, within the measured
    /// time.
    pub(super) ack_us: Histogram<u64>,
    /// Status and body of the first response that refused an event.
    pub(super) first_refusal: Option<String>,
}

/// A running load.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) counts: Arc<LoadCounts>,
    ended: Receiver<io::Result<LoadResult>>,
}

impl Load {
    /// Starts the load thread.
    pub(super) fn start(plan: LoadPlan, clock: Arc<PhaseClock>) -> io::Result<Self> {
        let counts = Arc::new(LoadCounts::default());
        let shared = Arc::clone(&counts);
        let (end, ended) = bounded(1);
        std::thread::Builder::new().name("bench-load".into()).spawn(move || {
            // The send fails only if the coordinator has already failed.
            let _ = end.send(drive(&plan, clock, shared));
        })?;
        Ok(Self { counts, ended })
    }

    /// The result of the load; `None` while the load runs.
    pub(super) fn poll(&self) -> Option<io::Result<LoadResult>> {
        self.ended.try_recv().ok()
    }
}

fn drive(plan: &LoadPlan, clock: Arc<PhaseClock>, counts: Arc<LoadCounts>) -> io::Result<LoadResult> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let due_requests = Arc::new(Semaphore::new(0));
    let start = clock.now();
    let schedule = Schedule { start, batch: plan.batch, model: plan.model, due_requests: Arc::clone(&due_requests) };
    // Dropping the sender at the end stops the pacer.
    let mut _pacer = None;
    if let Some(requests) = schedule.requests()
        && matches!(plan.model, LoadModel::Open { .. })
    {
        _pacer = Some(schedule.start_pacer(requests, Arc::clone(&clock))?);
    }
    let result = LoadResult { accepted: AcceptedEvents::default(), ack_us: histogram(), first_refusal: None };
    let state = Rc::new(LoadState { schedule, clock, counts, next: Cell::new(0), result: RefCell::new(result) });
    LocalSet::new().block_on(&runtime, async {
        let mut workers = JoinSet::new();
        for _ in 0..plan.connections {
            workers.spawn_local(work(Rc::clone(&state), plan.target, plan.template.clone()));
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok::<_, io::Error>(())
    })?;
    let state = Rc::try_unwrap(state).map_err(|_| io::Error::other("a worker outlived the load"))?;
    Ok(state.result.into_inner())
}

/// Computes when each request is due.
#[derive(Debug, Clone)]
struct Schedule {
    start: Duration,
    batch: u32,
    model: LoadModel,
    /// Open loop: one permit for each due request that no connection has taken yet.
    due_requests: Arc<Semaphore>,
}

impl Schedule {
    /// Total number of requests; `None` if the load runs until the phase is over.
    fn requests(&self) -> Option<u64> {
        let events = match self.model {
            LoadModel::Closed => return None,
            LoadModel::Counted { events } => events,
            LoadModel::Open { rate, warmup, duration } => {
                ((warmup + duration).as_micros() * u128::from(rate) / 1_000_000) as u64
            }
        };
        Some(events.div_ceil(u64::from(self.batch)))
    }

    /// Due time of request `n`; `None` in a closed loop.
    fn due(&self, n: u64) -> Option<Duration> {
        let LoadModel::Open { rate, .. } = self.model else { return None };
        Some(self.start + Duration::from_nanos(n * u64::from(self.batch) * 1_000_000_000 / u64::from(rate)))
    }

    /// Starts the pacer thread. A thread wait is accurate to about 50 µs, whereas timers of the async runtime count in
    /// milliseconds.
    fn start_pacer(&self, requests: u64, clock: Arc<PhaseClock>) -> io::Result<Sender<()>> {
        let (end, ended) = bounded::<()>(0);
        let schedule = self.clone();
        std::thread::Builder::new().name("bench-pacer".into()).spawn(move || {
            let mut released = 0;
            while let Some(due) = schedule.due(released).filter(|_| released < requests) {
                let wait = due.saturating_sub(clock.now()).max(PACER_INTERVAL);
                if ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let now = clock.now();
                let first = released;
                while released < requests && schedule.due(released).is_some_and(|due| due <= now) {
                    released += 1;
                }
                schedule.due_requests.add_permits((released - first) as usize);
            }
            // Closing wakes the connections that wait for a permit that will not come.
            schedule.due_requests.close();
        })?;
        Ok(end)
    }
}

/// State shared by the connections.
struct LoadState {
    schedule: Schedule,
    clock: Arc<PhaseClock>,
    counts: Arc<LoadCounts>,
    /// Number of the next request.
    next: Cell<u64>,
    result: RefCell<LoadResult>,
}

/// A request that a connection is about to send.
#[derive(Debug, Clone, Copy)]
struct ScheduledRequest {
    /// Number of the first event of the request.
    first: u64,
    /// Time at which the request is sent or was due, in microseconds.
    since_us: u64,
    measured: bool,
}

impl LoadState {
    /// Takes the next request; `None` after the last request.
    async fn next_request(&self) -> Option<ScheduledRequest> {
        if let LoadModel::Open { .. } = self.schedule.model {
            // The semaphore is closed once all requests are released. Remaining requests can then be taken without a
            // permit.
            if let Ok(permit) = self.schedule.due_requests.acquire().await {
                permit.forget();
            }
        }
        let n = self.next.get();
        let phase = self.clock.phase();
        match self.schedule.requests() {
            Some(requests) if n >= requests => return None,
            None if phase == Phase::Over => return None,
            _ => self.next.set(n + 1),
        }
        let (since, measured) = match (self.schedule.due(n), self.schedule.model) {
            (Some(due), LoadModel::Open { warmup, .. }) => (due, due >= self.schedule.start + warmup),
            _ => (self.clock.now(), phase == Phase::Measured),
        };
        let first = n * u64::from(self.schedule.batch);
        Some(ScheduledRequest { first, since_us: since.as_micros() as u64, measured })
    }

    /// Records a response: accepted and refused events and the latency.
    fn record_response(&self, request: ScheduledRequest, answer: HttpResponse<'_>) {
        let batch = u64::from(self.schedule.batch);
        let mut result = self.result.borrow_mut();
        let accepted = match answer.status {
            202 if batch == 1 => {
                result.accepted.insert(request.first);
                1
            }
            202 => {
                let places = accepted_positions(answer.body, batch as usize);
                for n in &places {
                    result.accepted.insert(request.first + *n as u64);
                }
                places.len() as u64
            }
            _ => 0,
        };
        if accepted < batch {
            self.counts.refused.fetch_add(batch - accepted, Relaxed);
            let text = || format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body));
            result.first_refusal.get_or_insert_with(text);
        }
        self.counts.accepted.fetch_add(accepted, Relaxed);
        if request.measured {
            result.ack_us.saturating_record(self.clock.now_us().saturating_sub(request.since_us));
        }
    }
}

/// The members of a batch response that the bench needs.
#[derive(Debug, serde::Deserialize)]
struct BatchResponse {
    accepted: usize,
    #[serde(default)]
    events: Vec<BatchItem>,
}

#[derive(Debug, serde::Deserialize)]
struct BatchItem {
    id: Option<serde::de::IgnoredAny>,
}

/// Positions of the accepted events in the batch. Usually all events are accepted; then only the start of the response
/// is read.
fn accepted_positions(body: &[u8], batch: usize) -> Vec<usize> {
    let all = format!("{{\"accepted\":{batch},");
    if body.starts_with(all.as_bytes()) {
        return (0..batch).collect();
    }
    let Ok(answer) = serde_json::from_slice::<BatchResponse>(body) else { return Vec::new() };
    let has_id = |n: &usize| answer.events.get(*n).is_some_and(|event| event.id.is_some());
    (0..batch).filter(|n| answer.accepted == batch || has_id(n)).collect()
}

async fn work(state: Rc<LoadState>, target: SocketAddr, mut template: EventTemplate) -> io::Result<()> {
    for _ in 0..RECONNECTS_MAX {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        if send_requests(&state, stream, &mut template).await.is_ok() {
            return Ok(());
        }
        state.counts.broken.fetch_add(1, Relaxed);
    }
    Err(io::Error::other("the server breaks every connection"))
}

async fn send_requests(state: &LoadState, mut stream: TcpStream, template: &mut EventTemplate) -> io::Result<()> {
    let mut answers = ResponseReader::new();
    while let Some(request) = state.next_request().await {
        stream.write_all(template.stamp(request.first, request.since_us)).await?;
        state.record_response(request, answers.next(&mut stream).await?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(model: LoadModel, batch: u32) -> Schedule {
        Schedule { start: Duration::from_secs(1), batch, model, due_requests: Arc::new(Semaphore::new(0)) }
    }

    const OPEN: LoadModel =
        LoadModel::Open { rate: 2_000, warmup: Duration::from_secs(2), duration: Duration::from_secs(8) };

    #[test]
    fn an_open_schedule_is_constant() {
        let open = schedule(OPEN, 1);
        assert_eq!(open.requests(), Some(20_000));
        assert_eq!(open.due(0), Some(Duration::from_secs(1)));
        assert_eq!(open.due(3), Some(Duration::from_micros(1_001_500)));
        let batches = schedule(OPEN, 100);
        assert_eq!((batches.requests(), batches.due(1)), (Some(200), Some(Duration::from_millis(1_050))));
    }

    #[test]
    fn a_counted_load_ends_and_a_closed_one_does_not() {
        assert_eq!(schedule(LoadModel::Counted { events: 1_001 }, 100).requests(), Some(11));
        assert_eq!(schedule(LoadModel::Closed, 100).requests(), None);
        assert_eq!(schedule(LoadModel::Closed, 100).due(7), None);
    }

    #[test]
    fn only_batch_items_with_an_id_are_accepted() {
        let accepted = |body: &str| accepted_positions(body.as_bytes(), 3);
        assert_eq!(accepted(r#"{"accepted":3,"duplicates":0,"rejected":0,"events":[]}"#), [0, 1, 2]);
        assert_eq!(accepted(r#"{ "rejected":0, "accepted":3 }"#), [0, 1, 2]);
        assert_eq!(accepted(r#"{"accepted":2,"rejected":1,"events":[{"id":"a"},{"error":{}},{"id":"c"}]}"#), [0, 2]);
        assert_eq!(accepted("<html>"), [0; 0]);
    }

    /// Responds to each request of each connection with `answer`, until the connections close.
    fn server(connections: usize, answer: &'static [u8]) -> SocketAddr {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let (mut buffer, mut chunk) = (Vec::new(), [0; 1024]);
                    while let Ok(len @ 1..) = stream.read(&mut chunk) {
                        buffer.extend_from_slice(&chunk[..len]);
                        while let Some(head) = super::super::http::MessageHead::parse(&buffer).unwrap()
                            && buffer.len() >= head.message_len()
                        {
                            buffer.drain(..head.message_len());
                            stream.write_all(answer).unwrap();
                        }
                    }
                });
            }
        });
        address
    }

    fn drive_against(answer: &'static [u8], model: LoadModel) -> (LoadResult, Arc<LoadCounts>) {
        let traffic = super::super::traffic::Traffic { webhooks: 2, fanout: 1, payload: 128, batch: 1, failing: 0.0 };
        let target = server(4, answer);
        let audience = super::super::traffic::Audience::Webhooks;
        let template = EventTemplate::new(&traffic, audience, "host", "key");
        let (clock, counts) = (Arc::new(PhaseClock::new()), Arc::new(LoadCounts::default()));
        clock.set_phase(Phase::Measured);
        let plan = LoadPlan { target, template, connections: 4, batch: 1, model };
        let result = drive(&plan, clock, Arc::clone(&counts)).unwrap();
        (result, counts)
    }

    #[test]
    fn every_event_of_a_counted_load_is_sent_once() {
        let accepted = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
        let (result, counts) = drive_against(accepted, LoadModel::Counted { events: 1_001 });
        assert_eq!((counts.accepted.load(Relaxed), counts.refused.load(Relaxed)), (1_001, 0));
        assert_eq!((result.ack_us.len(), result.first_refusal), (1_001, None));
    }

    #[test]
    fn every_event_of_a_schedule_is_sent_and_those_after_the_warm_up_are_measured() {
        let accepted = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
        let (warmup, duration) = (Duration::from_millis(2), Duration::from_millis(3));
        let (result, counts) = drive_against(accepted, LoadModel::Open { rate: 20_000, warmup, duration });
        assert_eq!(counts.accepted.load(Relaxed), 100);
        assert_eq!(result.ack_us.len(), 60);
    }

    #[test]
    fn a_refusal_is_counted_and_its_first_text_is_kept() {
        let refused = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nfull";
        let (result, counts) = drive_against(refused, LoadModel::Counted { events: 8 });
        assert_eq!((counts.accepted.load(Relaxed), counts.refused.load(Relaxed)), (0, 8));
        assert_eq!(result.first_refusal.as_deref(), Some("503: full"));
    }
}
