//! The endpoints of all webhooks: one thread that receives every delivery, counts it, and sends a prebuilt response.
//!
//! The sink shares the cores with the measured server. It therefore allocates nothing per request and reads only the
//! path, the length of the body, and the digits in the body.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::accounting::{ArrivalKind, DeliveryCounts};
use super::http::{BUFFER_BYTES, MessageHead};
use super::timing::{Phase, PhaseClock, histogram};
use super::traffic::{EventStamp, Traffic};

const NO_CONTENT_RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const SERVER_ERROR_RESPONSE: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";

/// Counters that the coordinator reads while the sink runs.
#[derive(Debug, Default)]
pub(super) struct SinkCounts {
    /// Deliveries accepted for the first time.
    pub(super) delivered: AtomicU64,
    /// All requests.
    pub(super) attempts: AtomicU64,
    /// Repeated requests to failing endpoints, which had answered 500 before.
    pub(super) retries: AtomicU64,
}

/// The result of a finished sink.
#[derive(Debug)]
pub(super) struct SinkResult {
    pub(super) delivery_counts: DeliveryCounts,
    /// Time in microseconds from sending an event (open loop: from its due time) to its arrival, within the measured
    /// time.
    pub(super) transit_us: Histogram<u64>,
}

/// A running sink. Dropping it stops the thread.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) address: SocketAddr,
    pub(super) counts: Arc<SinkCounts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<SinkResult>>>,
}

impl Sink {
    /// Starts a sink on a free port of 127.0.0.1. The endpoint of webhook `n` is at the path `/n`.
    pub(super) fn start(traffic: Traffic, slow: Duration, clock: Arc<PhaseClock>) -> io::Result<Self> {
        let listener = StdListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let counts = Arc::new(SinkCounts::default());
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&counts);
        let thread = std::thread::Builder::new().name("bench-sink".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let state = Rc::new(RefCell::new(SinkState {
                traffic,
                clock,
                counts: shared,
                received: SinkResult { delivery_counts: DeliveryCounts::default(), transit_us: histogram() },
            }));
            let accepting = accept(listener, Rc::clone(&state), slow);
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    _ = stopped => Ok(()),
                    failed = accepting => failed,
                }
            })?;
            let empty = SinkResult { delivery_counts: DeliveryCounts::default(), transit_us: histogram() };
            Ok(std::mem::replace(&mut state.borrow_mut().received, empty))
        })?;
        Ok(Self { address, counts, stop: Some(stop), thread: Some(thread) })
    }

    /// Stops the sink and returns its result.
    pub(super) fn finish(mut self) -> io::Result<SinkResult> {
        drop(self.stop.take());
        let thread = self.thread.take().ok_or_else(|| io::Error::other("the sink has ended"))?;
        thread.join().map_err(|_| io::Error::other("the sink panicked"))?
    }
}

/// State shared by all connections.
struct SinkState {
    traffic: Traffic,
    clock: Arc<PhaseClock>,
    counts: Arc<SinkCounts>,
    received: SinkResult,
}

impl SinkState {
    /// Counts a request and returns its response.
    fn handle_request(&mut self, head: &[u8], body: &[u8]) -> &'static [u8] {
        let counts = &self.counts;
        counts.attempts.fetch_add(1, Relaxed);
        let (Some(webhook), Some(mark)) = (webhook_of(head), EventStamp::find(body)) else {
            return SERVER_ERROR_RESPONSE;
        };
        let arrival = self.received.delivery_counts.insert(self.traffic.delivery_index(mark.seq, webhook));
        if self.traffic.fails(webhook) {
            counts.retries.fetch_add(u64::from(arrival == ArrivalKind::Repeated), Relaxed);
            return SERVER_ERROR_RESPONSE;
        }
        if arrival == ArrivalKind::First {
            counts.delivered.fetch_add(1, Relaxed);
            if self.clock.phase() == Phase::Measured {
                self.received.transit_us.saturating_record(self.clock.now_us().saturating_sub(mark.sent_us));
            }
        }
        NO_CONTENT_RESPONSE
    }
}

/// The webhook number in `POST /<number> HTTP/1.1`.
fn webhook_of(head: &[u8]) -> Option<u32> {
    let path = head.strip_prefix(b"POST /")?;
    let digits = path.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&path[..digits]).ok()?.parse().ok()
}

async fn accept(listener: StdListener, state: Rc<RefCell<SinkState>>, slow: Duration) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let state = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            // The server handles broken connections. A delivery that did not arrive is counted as lost.
            let _ = serve(stream, &state, slow).await;
        });
    }
}

async fn serve(mut stream: TcpStream, state: &RefCell<SinkState>, slow: Duration) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let mut answers = Vec::with_capacity(BUFFER_BYTES);
    while stream.read_buf(&mut buffer).await? > 0 {
        let mut used = 0;
        while let Some(head) = MessageHead::parse(&buffer[used..])? {
            let Some(message) = buffer.get(used..used + head.message_len()) else { break };
            let (head, body) = message.split_at(head.len);
            answers.extend_from_slice(state.borrow_mut().handle_request(head, body));
            used += message.len();
        }
        buffer.drain(..used);
        if !answers.is_empty() {
            if !slow.is_zero() {
                tokio::time::sleep(slow).await;
            }
            stream.write_all(&answers).await?;
            answers.clear();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_contains_the_webhook_number() {
        assert_eq!(webhook_of(b"POST /17 HTTP/1.1\r\n"), Some(17));
        assert_eq!(webhook_of(b"POST / HTTP/1.1\r\n"), None);
        assert_eq!(webhook_of(b"GET /17 HTTP/1.1\r\n"), None);
    }

    fn state(failing: f64) -> SinkState {
        let traffic = Traffic { webhooks: 2, fanout: 2, payload: 128, batch: 1, failing };
        let received = SinkResult { delivery_counts: DeliveryCounts::default(), transit_us: histogram() };
        SinkState { traffic, clock: Arc::new(PhaseClock::new()), counts: Arc::default(), received }
    }

    const BODY: &[u8] = br#"{"data":{"seq":"000000000003","sent":"0000000000000000"}}"#;

    #[test]
    fn a_delivery_counts_once() {
        let mut state = state(0.0);
        state.clock.set_phase(Phase::Measured);
        for head in [b"POST /0 ", b"POST /1 ", b"POST /1 "] {
            assert_eq!(state.handle_request(head, BODY), NO_CONTENT_RESPONSE);
        }
        assert_eq!(state.counts.delivered.load(Relaxed), 2);
        assert_eq!(state.counts.attempts.load(Relaxed), 3);
        assert_eq!(state.received.transit_us.len(), 2);
    }

    #[test]
    fn a_failing_webhook_is_never_delivered_to() {
        let mut state = state(1.0);
        assert_eq!(state.handle_request(b"POST /0 ", BODY), SERVER_ERROR_RESPONSE);
        assert_eq!(state.handle_request(b"POST /0 ", BODY), SERVER_ERROR_RESPONSE);
        assert_eq!((state.counts.delivered.load(Relaxed), state.counts.retries.load(Relaxed)), (0, 1));
        assert_eq!(state.handle_request(b"POST /0 ", b"{}"), SERVER_ERROR_RESPONSE);
    }

    #[tokio::test]
    async fn pipelined_and_split_requests_are_all_answered() {
        let sink = Sink::start(state(0.0).traffic, Duration::ZERO, Arc::new(PhaseClock::new())).unwrap();
        let mut stream = TcpStream::connect(sink.address).await.unwrap();
        let mut request = format!("POST /1 HTTP/1.1\r\ncontent-length: {}\r\n\r\n", BODY.len()).into_bytes();
        request.extend_from_slice(BODY);
        let both = [&request[..], &request[..]].concat();
        stream.write_all(&both[..request.len() + 5]).await.unwrap();
        let mut answers = vec![0; NO_CONTENT_RESPONSE.len()];
        stream.read_exact(&mut answers).await.unwrap();
        assert_eq!(answers, NO_CONTENT_RESPONSE);
        stream.write_all(&both[request.len() + 5..]).await.unwrap();
        stream.read_exact(&mut answers).await.unwrap();
        assert_eq!(answers, NO_CONTENT_RESPONSE);
        assert_eq!(sink.counts.attempts.load(Relaxed), 2);
        assert_eq!(sink.finish().unwrap().delivery_counts.insert(usize::from(7_u8)), ArrivalKind::Repeated);
    }
}
