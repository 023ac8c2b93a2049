//! The endpoints: one thread that takes every delivery, counts it, and answers with prebuilt bytes.
//!
//! It shares the cores with what it measures, so it allocates nothing per request and looks only at the path, the body's
//! length, and the digits in the body.

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

use super::accounting::{Arrival, Arrivals};
use super::http::{BUFFER_BYTES, Head};
use super::timing::{Phase, Stage, histogram};
use super::traffic::{Mark, Traffic};

const TAKEN: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";

/// Counts that the coordinator reads while the sink runs.
#[derive(Debug, Default)]
pub(super) struct SinkCounts {
    /// Deliveries taken for the first time.
    pub(super) delivered: AtomicU64,
    /// Requests of any kind.
    pub(super) attempts: AtomicU64,
    /// Requests that had come before and were answered 500 then.
    pub(super) retries: AtomicU64,
}

/// What a sink has at its end.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) arrivals: Arrivals,
    /// Microseconds from an event's being sent, or due, to its arrival, within the measured time.
    pub(super) transit_us: Histogram<u64>,
}

/// A running sink; dropped, it ends.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) address: SocketAddr,
    pub(super) counts: Arc<SinkCounts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<Received>>>,
}

impl Sink {
    /// Starts a sink on a port of its own; webhook `n` is at the path `/n`.
    pub(super) fn start(traffic: Traffic, slow: Duration, stage: Arc<Stage>) -> io::Result<Self> {
        let listener = StdListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let counts = Arc::new(SinkCounts::default());
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&counts);
        let thread = std::thread::Builder::new().name("bench-sink".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let book = Rc::new(RefCell::new(Book {
                traffic,
                stage,
                counts: shared,
                received: Received { arrivals: Arrivals::default(), transit_us: histogram() },
            }));
            let accepting = accept(listener, Rc::clone(&book), slow);
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    _ = stopped => Ok(()),
                    failed = accepting => failed,
                }
            })?;
            let empty = Received { arrivals: Arrivals::default(), transit_us: histogram() };
            Ok(std::mem::replace(&mut book.borrow_mut().received, empty))
        })?;
        Ok(Self { address, counts, stop: Some(stop), thread: Some(thread) })
    }

    /// Ends the sink and gives what it counted.
    pub(super) fn finish(mut self) -> io::Result<Received> {
        drop(self.stop.take());
        let thread = self.thread.take().ok_or_else(|| io::Error::other("the sink has ended"))?;
        thread.join().map_err(|_| io::Error::other("the sink panicked"))?
    }
}

/// What all connections write into.
struct Book {
    traffic: Traffic,
    stage: Arc<Stage>,
    counts: Arc<SinkCounts>,
    received: Received,
}

impl Book {
    /// Counts a request and gives its answer.
    fn enter(&mut self, head: &[u8], body: &[u8]) -> &'static [u8] {
        let counts = &self.counts;
        counts.attempts.fetch_add(1, Relaxed);
        let (Some(webhook), Some(mark)) = (webhook_of(head), Mark::find(body)) else { return FAILED };
        let arrival = self.received.arrivals.insert(self.traffic.place(mark.seq, webhook));
        if self.traffic.fails(webhook) {
            counts.retries.fetch_add(u64::from(arrival == Arrival::Repeated), Relaxed);
            return FAILED;
        }
        if arrival == Arrival::First {
            counts.delivered.fetch_add(1, Relaxed);
            if self.stage.phase() == Phase::Measured {
                self.received.transit_us.saturating_record(self.stage.now_us().saturating_sub(mark.sent_us));
            }
        }
        TAKEN
    }
}

/// The number in `POST /<number> HTTP/1.1`.
fn webhook_of(head: &[u8]) -> Option<u32> {
    let path = head.strip_prefix(b"POST /")?;
    let digits = path.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&path[..digits]).ok()?.parse().ok()
}

async fn accept(listener: StdListener, book: Rc<RefCell<Book>>, slow: Duration) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let book = Rc::clone(&book);
        tokio::task::spawn_local(async move {
            // A connection that breaks is the server's affair: what it carried is missing, and so counted as lost.
            let _ = serve(stream, &book, slow).await;
        });
    }
}

async fn serve(mut stream: TcpStream, book: &RefCell<Book>, slow: Duration) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let mut answers = Vec::with_capacity(BUFFER_BYTES);
    while stream.read_buf(&mut buffer).await? > 0 {
        let mut used = 0;
        while let Some(head) = Head::parse(&buffer[used..])? {
            let Some(message) = buffer.get(used..used + head.message_len()) else { break };
            let (head, body) = message.split_at(head.len);
            answers.extend_from_slice(book.borrow_mut().enter(head, body));
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
    fn the_path_names_the_webhook() {
        assert_eq!(webhook_of(b"POST /17 HTTP/1.1\r\n"), Some(17));
        assert_eq!(webhook_of(b"POST / HTTP/1.1\r\n"), None);
        assert_eq!(webhook_of(b"GET /17 HTTP/1.1\r\n"), None);
    }

    fn book(failing: f64) -> Book {
        let traffic = Traffic { webhooks: 2, fanout: 2, payload: 128, batch: 1, failing };
        let received = Received { arrivals: Arrivals::default(), transit_us: histogram() };
        Book { traffic, stage: Arc::new(Stage::new()), counts: Arc::default(), received }
    }

    const BODY: &[u8] = br#"{"data":{"seq":"000000000003","sent":"0000000000000000"}}"#;

    #[test]
    fn a_delivery_counts_once() {
        let mut book = book(0.0);
        book.stage.enter(Phase::Measured);
        for head in [b"POST /0 ", b"POST /1 ", b"POST /1 "] {
            assert_eq!(book.enter(head, BODY), TAKEN);
        }
        assert_eq!(book.counts.delivered.load(Relaxed), 2);
        assert_eq!(book.counts.attempts.load(Relaxed), 3);
        assert_eq!(book.received.transit_us.len(), 2);
    }

    #[test]
    fn a_failing_webhook_is_never_delivered_to() {
        let mut book = book(1.0);
        assert_eq!(book.enter(b"POST /0 ", BODY), FAILED);
        assert_eq!(book.enter(b"POST /0 ", BODY), FAILED);
        assert_eq!((book.counts.delivered.load(Relaxed), book.counts.retries.load(Relaxed)), (0, 1));
        assert_eq!(book.enter(b"POST /0 ", b"{}"), FAILED);
    }

    #[tokio::test]
    async fn pipelined_and_split_requests_are_all_answered() {
        let sink = Sink::start(book(0.0).traffic, Duration::ZERO, Arc::new(Stage::new())).unwrap();
        let mut stream = TcpStream::connect(sink.address).await.unwrap();
        let mut request = format!("POST /1 HTTP/1.1\r\ncontent-length: {}\r\n\r\n", BODY.len()).into_bytes();
        request.extend_from_slice(BODY);
        let both = [&request[..], &request[..]].concat();
        stream.write_all(&both[..request.len() + 5]).await.unwrap();
        let mut answers = vec![0; TAKEN.len()];
        stream.read_exact(&mut answers).await.unwrap();
        assert_eq!(answers, TAKEN);
        stream.write_all(&both[request.len() + 5..]).await.unwrap();
        stream.read_exact(&mut answers).await.unwrap();
        assert_eq!(answers, TAKEN);
        assert_eq!(sink.counts.attempts.load(Relaxed), 2);
        assert_eq!(sink.finish().unwrap().arrivals.insert(usize::from(7_u8)), Arrival::Repeated);
    }
}
