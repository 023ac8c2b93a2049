//! The load: one thread with a task for each connection, which sends one request after another.
//!
//! Closed loop: the next request follows the answer. Open loop: requests are due on a constant schedule, whoever is free
//! takes the next one, and its latency counts from when it was due, so that a stalled server is not spared the requests
//! that it kept from being sent (coordinated omission).

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

use super::accounting::Accepted;
use super::http::{Answer, Reader};
use super::timing::{Phase, Stage, histogram};
use super::traffic::Template;

/// The pacer looks at the clock this often at most; arrivals that fall into one turn are released together.
const PACE: Duration = Duration::from_micros(100);
/// Connections that a worker makes anew before it gives up.
const RECONNECTS_MAX: u32 = 16;

/// What to send.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) target: SocketAddr,
    pub(super) template: Template,
    pub(super) connections: usize,
    /// Events in a request.
    pub(super) batch: u32,
    pub(super) pace: Pace,
}

/// When to send.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// As fast as answers come, until the phase is over.
    Closed,
    /// As fast as answers come, this many events at least.
    Counted {
        /// How many.
        events: u64,
    },
    /// On a schedule that starts with the load; what is due after the warm-up is measured.
    Open {
        /// Events a second.
        rate: u32,
        warmup: Duration,
        duration: Duration,
    },
}

/// Counts that the coordinator reads while the load runs.
#[derive(Debug, Default)]
pub(super) struct LoadCounts {
    /// Events acknowledged.
    pub(super) accepted: AtomicU64,
    /// Events refused.
    pub(super) refused: AtomicU64,
    /// Connections that broke with a request under way.
    pub(super) broken: AtomicU64,
}

/// What a load has at its end.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) accepted: Accepted,
    /// Microseconds from a request's being sent, or due, to its answer, within the measured time.
    pub(super) ack_us: Histogram<u64>,
    /// The first answer that was a refusal.
    pub(super) first_refusal: Option<String>,
}

/// A running load.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) counts: Arc<LoadCounts>,
    ended: Receiver<io::Result<Sent>>,
}

impl Load {
    /// Starts a load.
    pub(super) fn start(job: Job, stage: Arc<Stage>) -> io::Result<Self> {
        let counts = Arc::new(LoadCounts::default());
        let shared = Arc::clone(&counts);
        let (end, ended) = bounded(1);
        std::thread::Builder::new().name("bench-load".into()).spawn(move || {
            // A coordinator that no longer listens has failed already.
            let _ = end.send(drive(&job, stage, shared));
        })?;
        Ok(Self { counts, ended })
    }

    /// What the load has, if it has ended.
    pub(super) fn poll(&self) -> Option<io::Result<Sent>> {
        self.ended.try_recv().ok()
    }
}

fn drive(job: &Job, stage: Arc<Stage>, counts: Arc<LoadCounts>) -> io::Result<Sent> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let arrivals = Arc::new(Semaphore::new(0));
    let start = stage.now();
    let schedule = Schedule { start, batch: job.batch, pace: job.pace, arrivals: Arc::clone(&arrivals) };
    // Dropped at the end, it ends the pacer.
    let mut _pacer = None;
    if let Some(requests) = schedule.requests()
        && matches!(job.pace, Pace::Open { .. })
    {
        _pacer = Some(schedule.release(requests, Arc::clone(&stage))?);
    }
    let sent = Sent { accepted: Accepted::default(), ack_us: histogram(), first_refusal: None };
    let desk = Rc::new(Desk { schedule, stage, counts, next: Cell::new(0), sent: RefCell::new(sent) });
    LocalSet::new().block_on(&runtime, async {
        let mut workers = JoinSet::new();
        for _ in 0..job.connections {
            workers.spawn_local(work(Rc::clone(&desk), job.target, job.template.clone()));
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok::<_, io::Error>(())
    })?;
    let desk = Rc::try_unwrap(desk).map_err(|_| io::Error::other("a worker outlived the load"))?;
    Ok(desk.sent.into_inner())
}

/// When each request is due.
#[derive(Debug, Clone)]
struct Schedule {
    start: Duration,
    batch: u32,
    pace: Pace,
    /// Open loop: requests that are due and not yet taken.
    arrivals: Arc<Semaphore>,
}

impl Schedule {
    /// How many requests there are; `None`: until the phase is over.
    fn requests(&self) -> Option<u64> {
        let events = match self.pace {
            Pace::Closed => return None,
            Pace::Counted { events } => events,
            Pace::Open { rate, warmup, duration } => {
                ((warmup + duration).as_micros() * u128::from(rate) / 1_000_000) as u64
            }
        };
        Some(events.div_ceil(u64::from(self.batch)))
    }

    /// When request `n` is due, in open loop.
    fn due(&self, n: u64) -> Option<Duration> {
        let Pace::Open { rate, .. } = self.pace else { return None };
        Some(self.start + Duration::from_nanos(n * u64::from(self.batch) * 1_000_000_000 / u64::from(rate)))
    }

    /// Starts the pacer. A thread's wait is fine to some 50 µs, where a runtime's timers count milliseconds.
    fn release(&self, requests: u64, stage: Arc<Stage>) -> io::Result<Sender<()>> {
        let (end, ended) = bounded::<()>(0);
        let schedule = self.clone();
        std::thread::Builder::new().name("bench-pacer".into()).spawn(move || {
            let mut released = 0;
            while let Some(due) = schedule.due(released).filter(|_| released < requests) {
                let wait = due.saturating_sub(stage.now()).max(PACE);
                if ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let now = stage.now();
                let first = released;
                while released < requests && schedule.due(released).is_some_and(|due| due <= now) {
                    released += 1;
                }
                schedule.arrivals.add_permits((released - first) as usize);
            }
            // All that still wait for an arrival learn that there is none.
            schedule.arrivals.close();
        })?;
        Ok(end)
    }
}

/// What the workers share.
struct Desk {
    schedule: Schedule,
    stage: Arc<Stage>,
    counts: Arc<LoadCounts>,
    /// The number of the next request.
    next: Cell<u64>,
    sent: RefCell<Sent>,
}

/// A request to be sent.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// Number of its first event.
    first: u64,
    /// When it is sent or was due.
    since_us: u64,
    measured: bool,
}

impl Desk {
    /// The next request; `None`: there are no more.
    async fn turn(&self) -> Option<Turn> {
        if let Pace::Open { .. } = self.schedule.pace {
            // Closed once all arrivals are released, which the workers behind may still have to take.
            if let Ok(permit) = self.schedule.arrivals.acquire().await {
                permit.forget();
            }
        }
        let n = self.next.get();
        let phase = self.stage.phase();
        match self.schedule.requests() {
            Some(requests) if n >= requests => return None,
            None if phase == Phase::Over => return None,
            _ => self.next.set(n + 1),
        }
        let (since, measured) = match (self.schedule.due(n), self.schedule.pace) {
            (Some(due), Pace::Open { warmup, .. }) => (due, due >= self.schedule.start + warmup),
            _ => (self.stage.now(), phase == Phase::Measured),
        };
        let first = n * u64::from(self.schedule.batch);
        Some(Turn { first, since_us: since.as_micros() as u64, measured })
    }

    /// Notes an answer.
    fn answered(&self, turn: Turn, answer: Answer<'_>) {
        let batch = u64::from(self.schedule.batch);
        let mut sent = self.sent.borrow_mut();
        let accepted = match answer.status {
            202 if batch == 1 => {
                sent.accepted.insert(turn.first);
                1
            }
            202 => {
                let places = accepted_of(answer.body, batch as usize);
                for n in &places {
                    sent.accepted.insert(turn.first + *n as u64);
                }
                places.len() as u64
            }
            _ => 0,
        };
        if accepted < batch {
            self.counts.refused.fetch_add(batch - accepted, Relaxed);
            let text = || format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body));
            sent.first_refusal.get_or_insert_with(text);
        }
        self.counts.accepted.fetch_add(accepted, Relaxed);
        if turn.measured {
            sent.ack_us.saturating_record(self.stage.now_us().saturating_sub(turn.since_us));
        }
    }
}

/// The answer to an array, as far as it matters here.
#[derive(Debug, serde::Deserialize)]
struct BatchAnswer {
    accepted: usize,
    #[serde(default)]
    events: Vec<BatchItem>,
}

#[derive(Debug, serde::Deserialize)]
struct BatchItem {
    id: Option<serde::de::IgnoredAny>,
}

/// Places of the events that were accepted. All of them is the rule, and then only the front of the answer is read.
fn accepted_of(body: &[u8], batch: usize) -> Vec<usize> {
    let all = format!("{{\"accepted\":{batch},");
    if body.starts_with(all.as_bytes()) {
        return (0..batch).collect();
    }
    let Ok(answer) = serde_json::from_slice::<BatchAnswer>(body) else { return Vec::new() };
    let has_id = |n: &usize| answer.events.get(*n).is_some_and(|event| event.id.is_some());
    (0..batch).filter(|n| answer.accepted == batch || has_id(n)).collect()
}

async fn work(desk: Rc<Desk>, target: SocketAddr, mut template: Template) -> io::Result<()> {
    for _ in 0..RECONNECTS_MAX {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        if converse(&desk, stream, &mut template).await.is_ok() {
            return Ok(());
        }
        desk.counts.broken.fetch_add(1, Relaxed);
    }
    Err(io::Error::other("the server breaks every connection"))
}

async fn converse(desk: &Desk, mut stream: TcpStream, template: &mut Template) -> io::Result<()> {
    let mut answers = Reader::new();
    while let Some(turn) = desk.turn().await {
        stream.write_all(template.stamp(turn.first, turn.since_us)).await?;
        desk.answered(turn, answers.next(&mut stream).await?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(pace: Pace, batch: u32) -> Schedule {
        Schedule { start: Duration::from_secs(1), batch, pace, arrivals: Arc::new(Semaphore::new(0)) }
    }

    const OPEN: Pace = Pace::Open { rate: 2_000, warmup: Duration::from_secs(2), duration: Duration::from_secs(8) };

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
        assert_eq!(schedule(Pace::Counted { events: 1_001 }, 100).requests(), Some(11));
        assert_eq!(schedule(Pace::Closed, 100).requests(), None);
        assert_eq!(schedule(Pace::Closed, 100).due(7), None);
    }

    #[test]
    fn of_a_batch_only_what_has_an_id_is_accepted() {
        let accepted = |body: &str| accepted_of(body.as_bytes(), 3);
        assert_eq!(accepted(r#"{"accepted":3,"duplicates":0,"rejected":0,"events":[]}"#), [0, 1, 2]);
        assert_eq!(accepted(r#"{ "rejected":0, "accepted":3 }"#), [0, 1, 2]);
        assert_eq!(accepted(r#"{"accepted":2,"rejected":1,"events":[{"id":"a"},{"error":{}},{"id":"c"}]}"#), [0, 2]);
        assert_eq!(accepted("<html>"), [0; 0]);
    }

    /// Answers each request of each connection with `answer`, until the connections end.
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
                        while let Some(head) = super::super::http::Head::parse(&buffer).unwrap()
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

    fn drive_against(answer: &'static [u8], pace: Pace) -> (Sent, Arc<LoadCounts>) {
        let traffic = super::super::traffic::Traffic { webhooks: 2, fanout: 1, payload: 128, batch: 1, failing: 0.0 };
        let target = server(4, answer);
        let audience = super::super::traffic::Audience::Webhooks;
        let template = Template::new(&traffic, audience, "host", "key");
        let (stage, counts) = (Arc::new(Stage::new()), Arc::new(LoadCounts::default()));
        stage.enter(Phase::Measured);
        let job = Job { target, template, connections: 4, batch: 1, pace };
        let sent = drive(&job, stage, Arc::clone(&counts)).unwrap();
        (sent, counts)
    }

    #[test]
    fn every_event_of_a_counted_load_is_sent_once() {
        let accepted = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
        let (sent, counts) = drive_against(accepted, Pace::Counted { events: 1_001 });
        assert_eq!((counts.accepted.load(Relaxed), counts.refused.load(Relaxed)), (1_001, 0));
        assert_eq!((sent.ack_us.len(), sent.first_refusal), (1_001, None));
    }

    #[test]
    fn every_event_of_a_schedule_is_sent_and_those_after_the_warm_up_are_measured() {
        let accepted = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
        let (warmup, duration) = (Duration::from_millis(2), Duration::from_millis(3));
        let (sent, counts) = drive_against(accepted, Pace::Open { rate: 20_000, warmup, duration });
        assert_eq!(counts.accepted.load(Relaxed), 100);
        assert_eq!(sent.ack_us.len(), 60);
    }

    #[test]
    fn a_refusal_is_counted_and_quoted() {
        let refused = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nfull";
        let (sent, counts) = drive_against(refused, Pace::Counted { events: 8 });
        assert_eq!((counts.accepted.load(Relaxed), counts.refused.load(Relaxed)), (0, 8));
        assert_eq!(sent.first_refusal.as_deref(), Some("503: full"));
    }
}
