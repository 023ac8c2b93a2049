//! A connection: what it waits for and since when, so that one look over all of them, now and then, ends the slow ones.
//!
//! hyper's own header timer would make one timer for each request, take an idle connection for one that is slow with its
//! head, and leave bodies and answers alone. Here a [`Watch`] notes the phase in two cells; [`Connections::sweep`] compares
//! it with the limits and wakes the connection that has to go.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::{
    BODY_RATE_GRACE, BODY_RATE_MIN, BODY_TIMEOUT, HEADER_TIMEOUT, IDLE_TIMEOUT, LINGER_BYTES_MAX, LINGER_TIMEOUT,
    SWEEP_INTERVAL, WRITE_TIMEOUT,
};

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first byte of the first request.
    New,
    /// The first byte of the next one.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// Us.
    Busy,
    /// The client, to close after our last word.
    Linger,
}

/// What the worker wants of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    GoOn,
    /// Answer what is in flight, then close.
    Finish,
    /// Too slow.
    Close,
}

/// Time as the worker counts it, in [`SWEEP_INTERVAL`]s.
type Ticks = u32;

/// A connection as its worker sees it.
#[derive(Debug)]
pub struct Watch {
    phase: Cell<Phase>,
    since: Cell<Ticks>,
    body_bytes: Cell<u64>,
    body_late: Cell<bool>,
    write_since: Cell<Option<Ticks>>,
    unread: Cell<bool>,
    lingered: Cell<usize>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    now: Rc<Cell<Ticks>>,
}

impl Watch {
    fn new(now: Rc<Cell<Ticks>>) -> Self {
        Self {
            phase: Cell::new(Phase::New),
            since: Cell::new(now.get()),
            body_bytes: Cell::new(0),
            body_late: Cell::new(false),
            write_since: Cell::new(None),
            unread: Cell::new(false),
            lingered: Cell::new(0),
            order: Cell::new(Order::GoOn),
            waker: RefCell::new(None),
            now,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.now.get());
    }

    /// A head is complete.
    pub fn request_begins(&self) {
        self.body_bytes.set(0);
        self.body_late.set(false);
        self.enter(Phase::Busy);
    }

    /// The rest of the body is awaited; the first time starts its clock.
    pub fn body_waits(&self) {
        if self.phase.get() != Phase::Body {
            self.enter(Phase::Body);
        }
    }

    /// So many bytes of the body came.
    pub fn body_grows(&self, bytes: usize) {
        self.body_bytes.set(self.body_bytes.get() + bytes as u64);
    }

    /// The body is complete, or given up.
    pub fn body_ends(&self) {
        self.phase.set(Phase::Busy);
    }

    /// Whether the body takes longer than it may.
    pub fn is_body_late(&self) -> bool {
        self.body_late.get()
    }

    /// The answer is ready; `unread`: a part of the request still comes in.
    pub fn request_ends(&self, unread: bool) {
        self.unread.set(unread);
        self.enter(Phase::Idle);
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

    /// Compares what it waits for with the limits.
    fn check(&self) {
        let waited = |since: Ticks| SWEEP_INTERVAL * self.now.get().wrapping_sub(since);
        let in_phase = waited(self.since.get());
        let late = match self.phase.get() {
            Phase::New | Phase::Head => in_phase > HEADER_TIMEOUT,
            Phase::Idle => in_phase > IDLE_TIMEOUT,
            Phase::Linger => in_phase > LINGER_TIMEOUT,
            Phase::Busy => false,
            Phase::Body => {
                if is_body_slow(in_phase, self.body_bytes.get()) {
                    self.body_late.set(true);
                    self.wake();
                }
                false
            }
        };
        let stuck = self.write_since.get().is_some_and(|since| waited(since) > WRITE_TIMEOUT);
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
    now: Rc<Cell<Ticks>>,
    all: RefCell<Vec<Weak<Watch>>>,
    finishing: Cell<bool>,
}

impl Connections {
    /// A watch for a new one.
    pub fn watch(&self) -> Rc<Watch> {
        let watch = Rc::new(Watch::new(Rc::clone(&self.now)));
        if self.finishing.get() {
            watch.order.set(Order::Finish);
        }
        self.all.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// Once every [`SWEEP_INTERVAL`].
    pub fn sweep(&self) {
        self.now.set(self.now.get().wrapping_add(1));
        self.all.borrow_mut().retain(|watch| match watch.upgrade() {
            Some(watch) => {
                watch.check();
                true
            }
            None => false,
        });
    }

    /// Each one closes after what it has in flight.
    pub fn finish(&self) {
        self.finishing.set(true);
        for watch in self.all.borrow().iter().filter_map(Weak::upgrade) {
            if watch.order.get() == Order::GoOn {
                watch.order.set(Order::Finish);
            }
            watch.wake();
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.borrow().iter().filter(|watch| watch.strong_count() > 0).count()
    }
}

/// Serves one connection to its end. An error is the client's, and known to hyper's own log only.
pub async fn serve<Io, S>(builder: &http1::Builder, io: Io, watch: Rc<Watch>, service: S)
where
    Io: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming, ResBody = http_body_util::Full<bytes::Bytes>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = TokioIo::new(Watched { io, watch: Rc::clone(&watch) });
    let mut connection = pin!(builder.serve_connection(io, service));
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

/// A socket that tells its [`Watch`] of what passes.
struct Watched<Io> {
    io: Io,
    watch: Rc<Watch>,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before && matches!(self.watch.phase.get(), Phase::New | Phase::Idle) {
            self.watch.enter(Phase::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        if written.is_pending() && self.watch.write_since.get().is_none() {
            self.watch.write_since.set(Some(self.watch.now.get()));
        }
        written
    }

    /// hyper calls it when it has written everything.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch.write_since.set(None);
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Closes our side, and reads a little of what the client still sends: a socket closed over unread bytes resets the
    /// connection, and the client may never see the answer that explains it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.phase.get() != Phase::Linger {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.watch.enter(Phase::Linger);
        }
        let mut scratch = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    let lingered = self.watch.lingered.get() + buf.filled().len();
                    self.watch.lingered.set(lingered);
                    if lingered > LINGER_BYTES_MAX {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending if self.watch.unread.get() || self.watch.lingered.get() > 0 => return Poll::Pending,
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        watch.enter(phase);
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
        assert_eq!(after(Phase::Busy, IDLE_TIMEOUT * 10), Order::GoOn);
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
