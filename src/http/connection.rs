//! A connection: what it waits for and since when, so that a periodic look at all connections ends the slow ones.
//!
//! hyper's own header timer would make a timer for each request, take an idle connection for one that is slow with its
//! head, and leave bodies and responses without a limit. Here a [`Watch`] records the phase, and [`Connections::sweep`]
//! compares it with the limits and wakes the connection that has to close.
//!
//! | phase | waits for | ends after |
//! |---|---|---|
//! | new, head | the rest of a head | `HEADER_TIMEOUT` |
//! | idle | the next request | `IDLE_TIMEOUT` |
//! | body | the rest of a body | `BODY_TIMEOUT`, or below `BODY_RATE_MIN` |
//! | busy | the worker | |
//! | away | the management | |
//! | streaming | the producer of the response, or the client | `WRITE_TIMEOUT` in which the client reads nothing |
//! | linger | the client, to close | `LINGER_TIMEOUT` |
//! | upgraded | whoever took the connection over | the end of the server |
//!
//! In each phase but the last, a response of which nothing more can be written for `WRITE_TIMEOUT` ends the connection.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::{self, Arc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Response;
use super::body::{Body, Broken};
use super::listener::{Arrival, Worker};
use super::socket::{Line, Peek, Phase, Ticks, Watched};
use crate::limits::{
    BODY_RATE_GRACE, BODY_RATE_MIN, BODY_TIMEOUT, HEADER_TIMEOUT, IDLE_TIMEOUT, LINGER_TIMEOUT, WRITE_TIMEOUT,
};

/// What the worker wants of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    GoOn,
    /// Answer what is in flight, then close.
    Finish,
    /// Close at once: the client is too slow.
    Close,
}

/// A connection as its worker sees it, as long as it speaks HTTP.
#[derive(Debug)]
pub struct Watch {
    line: Arc<Line>,
    body_bytes: Cell<u64>,
    body_late: Cell<bool>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    fn new(now: Arc<Ticks>) -> Self {
        Self {
            line: Arc::new(Line::new(now)),
            body_bytes: Cell::new(0),
            body_late: Cell::new(false),
            order: Cell::new(Order::GoOn),
            waker: RefCell::new(None),
        }
    }

    /// A head is complete, and so is the request if `complete`.
    fn request_begins(&self, complete: bool) {
        self.body_bytes.set(0);
        self.body_late.set(false);
        self.line.unread.set(!complete);
        self.line.heard.set(false);
        self.line.enter(Phase::Busy);
    }

    /// The next bytes of the body are awaited. The first time starts the clock of the body.
    pub fn body_waits(&self) {
        if self.line.phase() != Phase::Body {
            self.line.enter(Phase::Body);
        }
    }

    /// So many bytes of the body came.
    pub fn body_grows(&self, bytes: usize) {
        self.body_bytes.set(self.body_bytes.get() + bytes as u64);
    }

    /// Nothing is awaited of the client for now.
    pub fn body_pauses(&self) {
        self.line.set_phase(Phase::Busy);
    }

    /// The body was read to its end.
    pub fn body_ends(&self) {
        self.line.unread.set(false);
        self.line.set_phase(Phase::Busy);
    }

    /// The response is made on other threads, and the client may leave meanwhile.
    pub fn waits_elsewhere(&self) {
        self.line.set_phase(Phase::Away);
    }

    /// Whether the body takes longer than it may.
    pub fn is_body_late(&self) -> bool {
        self.body_late.get()
    }

    /// The response is ready. What follows depends on it: the next request, the rest of a stream, or another protocol.
    fn answered(self: &Rc<Self>, mut response: Response) -> hyper::Response<Outgoing> {
        if self.line.unread.get() {
            // A part of the request is still to come, which nobody will read.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let streams = response.body().whole().is_none();
        self.line.stream_over.set(false);
        self.line.enter(match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => Phase::Upgraded,
            _ if streams => Phase::Streaming,
            _ => Phase::Idle,
        });
        let watch = streams.then(|| Rc::clone(self));
        response.map(|body| Outgoing { body, watch })
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn note_waker(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// Compares what the connection waits for with the limits.
    fn check(&self) {
        let in_phase = self.line.in_phase();
        let late = match self.line.phase() {
            Phase::New | Phase::Head => in_phase > HEADER_TIMEOUT,
            Phase::Idle => in_phase > IDLE_TIMEOUT,
            Phase::Linger => in_phase > LINGER_TIMEOUT,
            Phase::Busy | Phase::Away | Phase::Streaming | Phase::Upgraded => false,
            Phase::Body => {
                if is_body_slow(in_phase, self.body_bytes.get()) {
                    self.body_late.set(true);
                    self.wake();
                }
                false
            }
        };
        let stuck = self.line.writes_for().is_some_and(|waited| waited > WRITE_TIMEOUT);
        if late || stuck {
            self.order.set(Order::Close);
            self.wake();
        }
    }
}

/// Whether a body of which so much came in so long is one to give up.
fn is_body_slow(waited: Duration, bytes: u64) -> bool {
    waited > BODY_TIMEOUT || (waited > BODY_RATE_GRACE && bytes < waited.as_secs() * BODY_RATE_MIN)
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub struct Connections {
    now: Arc<Ticks>,
    all: RefCell<Vec<Entry>>,
    finishing: Cell<bool>,
}

/// One connection: while it speaks HTTP both are there, of one that was upgraded only the line.
#[derive(Debug)]
struct Entry {
    watch: Weak<Watch>,
    line: sync::Weak<Line>,
}

impl Connections {
    /// A watch for a new connection.
    pub fn watch(&self) -> Rc<Watch> {
        let watch = Rc::new(Watch::new(Arc::clone(&self.now)));
        if self.finishing.get() {
            watch.order.set(Order::Finish);
            watch.line.end_upgraded();
        }
        self.all.borrow_mut().push(Entry { watch: Rc::downgrade(&watch), line: Arc::downgrade(&watch.line) });
        watch
    }

    /// Called once every [`SWEEP_INTERVAL`](crate::limits::SWEEP_INTERVAL).
    pub fn sweep(&self) {
        self.now.advance();
        self.all.borrow_mut().retain(|entry| {
            if let Some(watch) = entry.watch.upgrade() {
                watch.check();
            }
            entry.line.strong_count() > 0
        });
    }

    /// Each connection closes after what it has in flight. An upgraded one reads the end of its stream.
    pub fn finish(&self) {
        self.finishing.set(true);
        for entry in self.all.borrow().iter() {
            if let Some(line) = entry.line.upgrade() {
                line.end_upgraded();
            }
            if let Some(watch) = entry.watch.upgrade() {
                if watch.order.get() == Order::GoOn {
                    watch.order.set(Order::Finish);
                }
                watch.wake();
            }
        }
    }

    /// How many connections there are.
    pub fn count(&self) -> usize {
        self.all.borrow().iter().filter(|entry| entry.line.strong_count() > 0).count()
    }
}

/// Serves one connection until it ends or leaves HTTP. `held` is dropped when the connection is closed, also by whoever took
/// it over. An error is the client's, and only logged for debugging.
pub async fn serve<Io, W>(
    builder: &http1::Builder,
    (io, held): (Io, impl Send + Unpin + 'static),
    (at, watch): (Arrival, Rc<Watch>),
    worker: &W,
) where
    Io: AsyncRead + AsyncWrite + Peek + Unpin + Send + 'static,
    W: Worker,
{
    let io = TokioIo::new(Watched::new(io, Arc::clone(&watch.line), held));
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async {
        watch.request_begins(request.body().is_end_stream());
        let response = worker.answer(at, &watch, request).await;
        Ok::<_, Infallible>(watch.answered(response))
    });
    let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
    let ended = poll_fn(|cx| {
        watch.note_waker(cx.waker());
        match watch.order.get() {
            Order::GoOn => {}
            Order::Finish => connection.as_mut().graceful_shutdown(),
            Order::Close => return Poll::Ready(Ok(())),
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// A response's body on its way out. The end of a stream changes what the connection waits for.
struct Outgoing {
    body: Body,
    /// Of a stream that is not over.
    watch: Option<Rc<Watch>>,
}

impl Outgoing {
    fn ends(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.line.stream_over.set(true);
        }
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.ends();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.ends();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SWEEP_INTERVAL;

    #[test]
    fn a_body_is_slow_by_its_rate_or_by_its_time() {
        for (secs, bytes, slow) in [
            (0, 0, false),
            (5, 0, false),
            (6, 6 * BODY_RATE_MIN - 1, true),
            (6, 6 * BODY_RATE_MIN, false),
            (30, u64::MAX, false),
            (31, u64::MAX, true),
        ] {
            assert_eq!(is_body_slow(Duration::from_secs(secs), bytes), slow, "{bytes} bytes in {secs} s");
        }
    }

    fn after(phase: Phase, waited: Duration) -> Order {
        let connections = Connections::default();
        let watch = connections.watch();
        watch.line.enter(phase);
        for _ in 0..waited.as_millis() / SWEEP_INTERVAL.as_millis() {
            connections.sweep();
        }
        watch.order.get()
    }

    #[test]
    fn each_phase_has_its_limit() {
        for (phase, limit) in [
            (Phase::New, HEADER_TIMEOUT),
            (Phase::Head, HEADER_TIMEOUT),
            (Phase::Idle, IDLE_TIMEOUT),
            (Phase::Linger, LINGER_TIMEOUT),
        ] {
            assert_eq!(after(phase, limit), Order::GoOn, "{phase:?}");
            assert_eq!(after(phase, limit + SWEEP_INTERVAL), Order::Close, "{phase:?}");
        }
        for phase in [Phase::Busy, Phase::Away, Phase::Streaming, Phase::Upgraded] {
            assert_eq!(after(phase, IDLE_TIMEOUT * 10), Order::GoOn, "{phase:?}");
        }
    }

    #[test]
    fn a_connection_that_is_gone_is_forgotten() {
        let connections = Connections::default();
        let watch = connections.watch();
        assert_eq!(connections.count(), 1);
        drop(watch);
        assert_eq!(connections.count(), 0);
        connections.sweep();
        assert!(connections.all.borrow().is_empty());
    }
}
