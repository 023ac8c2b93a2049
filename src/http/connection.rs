//! The connections of a worker and their timeouts.
//!
//! hyper's own header timer creates a timer for each request, mistakes an idle connection for one that sends its head
//! slowly, and sets no limit for bodies and responses. Instead, a [`ConnectionMonitor`] records the phase of its connection
//! and the start of the phase. [`Connections::sweep`] compares each phase with its limit and wakes the connections that must
//! close.
//!
//! | phase | waits for | ends after |
//! |---|---|---|
//! | new, head | the rest of a head | `HEADER_TIMEOUT` |
//! | idle | the next request | `IDLE_TIMEOUT` |
//! | body | the rest of a body | `BODY_TIMEOUT`, or below `BODY_RATE_MIN` |
//! | busy | the worker | |
//! | offloaded | the management threads | |
//! | streaming | the producer of the response, or the client | `WRITE_TIMEOUT` in which the client reads nothing |
//! | linger | the client, to close | `LINGER_TIMEOUT`, or `LINGER_IDLE_TIMEOUT` without a byte |
//! | upgraded | the task that took the connection over | the end of the server |
//!
//! In each phase but the last, the connection also ends when no byte of the response can be written for `WRITE_TIMEOUT`.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::atomic::Ordering::Relaxed;
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
use super::body::{Body, BodyAborted};
use super::listener::{ConnectionInfo, RequestHandler};
use super::socket::{ConnectionPhase, Peek, SocketState, Ticks, TrackedSocket};
use crate::limits::{
    BODY_RATE_GRACE, BODY_RATE_MIN, BODY_TIMEOUT, HEADER_TIMEOUT, IDLE_TIMEOUT, LINGER_IDLE_TIMEOUT, LINGER_TIMEOUT,
    WRITE_TIMEOUT,
};

/// Whether and when a connection must close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseRequest {
    /// The connection stays open.
    None,
    /// The connection closes after the response of the current request.
    AfterResponse,
    /// The connection closes immediately, because the client is too slow.
    Now,
}

/// The state of one HTTP connection that its worker tracks. It lives until the connection closes or is upgraded.
#[derive(Debug)]
pub struct ConnectionMonitor {
    state: Arc<SocketState>,
    body_too_slow: Cell<bool>,
    close_request: Cell<CloseRequest>,
    waker: RefCell<Option<Waker>>,
}

impl ConnectionMonitor {
    fn new(now: Arc<Ticks>) -> Self {
        Self {
            state: Arc::new(SocketState::new(now)),
            body_too_slow: Cell::new(false),
            close_request: Cell::new(CloseRequest::None),
            waker: RefCell::new(None),
        }
    }

    /// Records that the head of a request is complete. `complete` says that the request has no body.
    fn request_started(&self, complete: bool) {
        self.state.body_bytes.store(0, Relaxed);
        self.body_too_slow.set(false);
        self.state.has_unread_body.set(!complete);
        self.state.has_input.set(false);
        self.state.enter(ConnectionPhase::Busy);
    }

    /// Records that the worker waits for the next bytes of the body. The first call starts the time limit of the body.
    pub fn body_awaited(&self) {
        if self.state.phase() != ConnectionPhase::Body {
            self.state.enter(ConnectionPhase::Body);
        }
    }

    /// Records that `bytes` more bytes of the body arrived.
    pub fn body_received(&self, bytes: usize) {
        self.state.body_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Records that the worker waits for nothing from the client at the moment.
    pub fn body_paused(&self) {
        self.state.set_phase(ConnectionPhase::Busy);
    }

    /// Records that the body was read to its end.
    pub fn body_finished(&self) {
        self.state.has_unread_body.set(false);
        self.state.set_phase(ConnectionPhase::Busy);
    }

    /// Records that other threads produce the response. From then on the socket checks whether the client disconnected.
    pub fn response_offloaded(&self) {
        self.state.set_phase(ConnectionPhase::Offloaded);
    }

    /// Whether the body exceeds its time limit or is below its minimum rate.
    pub fn is_body_too_slow(&self) -> bool {
        self.body_too_slow.get()
    }

    /// Records that the response is ready, and enters the next phase: the next request, the rest of a stream, or another
    /// protocol.
    fn response_ready(self: &Rc<Self>, mut response: Response) -> hyper::Response<ResponseBody> {
        if self.state.has_unread_body.get() {
            // The rest of the request body will not be read.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let streams = response.body().complete_bytes().is_none();
        self.state.stream_sent.set(false);
        self.state.enter(match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => ConnectionPhase::Upgraded,
            _ if streams => ConnectionPhase::Streaming,
            _ => ConnectionPhase::Idle,
        });
        let monitor = streams.then(|| Rc::clone(self));
        response.map(|body| ResponseBody { body, monitor })
    }

    /// The state of the socket, which other threads may read.
    pub(super) fn socket_state(&self) -> &Arc<SocketState> {
        &self.state
    }

    #[cfg(test)]
    pub(super) fn closes_now(&self) -> bool {
        self.close_request.get() == CloseRequest::Now
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn register_waker(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// Compares the phase of the connection with its limit.
    fn check(&self) {
        let phase_duration = self.state.phase_duration();
        let late = match self.state.phase() {
            ConnectionPhase::New | ConnectionPhase::Head => phase_duration > HEADER_TIMEOUT,
            ConnectionPhase::Idle => phase_duration > IDLE_TIMEOUT,
            ConnectionPhase::Linger => {
                let is_stopping = self.close_request.get() == CloseRequest::AfterResponse;
                let limit = if is_stopping { LINGER_IDLE_TIMEOUT } else { LINGER_TIMEOUT };
                phase_duration > limit || self.state.linger_idle_for() > LINGER_IDLE_TIMEOUT
            }
            ConnectionPhase::Busy
            | ConnectionPhase::Offloaded
            | ConnectionPhase::Streaming
            | ConnectionPhase::Upgraded => false,
            ConnectionPhase::Body => {
                if is_body_slow(phase_duration, self.state.body_bytes.load(Relaxed)) {
                    self.body_too_slow.set(true);
                    self.wake();
                }
                false
            }
        };
        let stuck = self.state.write_blocked_for().is_some_and(|waited| waited > WRITE_TIMEOUT);
        if late || stuck {
            self.close_request.set(CloseRequest::Now);
            self.wake();
        }
    }
}

/// Whether a body that delivered `bytes` bytes within `waited` is too slow.
fn is_body_slow(waited: Duration, bytes: u64) -> bool {
    waited > BODY_TIMEOUT || (waited > BODY_RATE_GRACE && bytes < waited.as_secs() * BODY_RATE_MIN)
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub struct Connections {
    now: Arc<Ticks>,
    all: RefCell<Vec<ConnectionEntry>>,
    draining: Cell<bool>,
}

/// References to the state of one connection. An upgraded connection has no monitor any more, only the socket state.
#[derive(Debug)]
struct ConnectionEntry {
    monitor: Weak<ConnectionMonitor>,
    state: sync::Weak<SocketState>,
}

impl Connections {
    /// Registers a new connection and returns its monitor.
    pub fn register(&self) -> Rc<ConnectionMonitor> {
        let monitor = Rc::new(ConnectionMonitor::new(Arc::clone(&self.now)));
        if self.draining.get() {
            monitor.close_request.set(CloseRequest::AfterResponse);
            monitor.state.end_upgraded();
        }
        self.all
            .borrow_mut()
            .push(ConnectionEntry { monitor: Rc::downgrade(&monitor), state: Arc::downgrade(&monitor.state) });
        monitor
    }

    /// Checks the limits of all connections and removes the closed ones. Called once every
    /// [`TIMEOUT_CHECK_INTERVAL`](crate::limits::TIMEOUT_CHECK_INTERVAL).
    pub fn sweep(&self) {
        self.now.advance();
        self.all.borrow_mut().retain(|entry| {
            if let Some(monitor) = entry.monitor.upgrade() {
                monitor.check();
            }
            entry.state.strong_count() > 0
        });
    }

    /// Closes the connections that should give way to others and still wait for their clients.
    pub(super) fn close_giving_way(&self) {
        for monitor in self.all.borrow().iter().filter_map(|entry| entry.monitor.upgrade()) {
            if monitor.state.gives_way.get() {
                monitor.state.gives_way.set(false);
                if monitor.state.waiting().is_some() {
                    monitor.close_request.set(CloseRequest::Now);
                    monitor.wake();
                }
            }
        }
    }

    /// Closes each connection after its current request. An upgraded connection reads the end of its stream.
    pub fn finish(&self) {
        self.draining.set(true);
        for entry in self.all.borrow().iter() {
            if let Some(state) = entry.state.upgrade() {
                state.end_upgraded();
            }
            if let Some(monitor) = entry.monitor.upgrade() {
                if monitor.close_request.get() == CloseRequest::None {
                    monitor.close_request.set(CloseRequest::AfterResponse);
                }
                monitor.wake();
            }
        }
    }

    /// The number of open connections.
    pub fn count(&self) -> usize {
        self.all.borrow().iter().filter(|entry| entry.state.strong_count() > 0).count()
    }
}

/// Serves one connection until it closes or is upgraded. `guard` is dropped when the socket is closed, including the socket
/// of an upgraded connection. Errors are caused by the client, so they are logged at the debug level only.
pub async fn serve<Io, W>(
    builder: &http1::Builder,
    (io, guard): (Io, impl Send + Unpin + 'static),
    (info, monitor): (ConnectionInfo, Rc<ConnectionMonitor>),
    worker: &W,
) where
    Io: AsyncRead + AsyncWrite + Peek + Unpin + Send + 'static,
    W: RequestHandler,
{
    let io = TokioIo::new(TrackedSocket::new(io, Arc::clone(&monitor.state), guard));
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async {
        monitor.request_started(request.body().is_end_stream());
        let response = worker.answer(info, &monitor, request).await;
        Ok::<_, Infallible>(monitor.response_ready(response))
    });
    let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
    let ended = poll_fn(|cx| {
        monitor.register_waker(cx.waker());
        match monitor.close_request.get() {
            CloseRequest::None => {}
            CloseRequest::AfterResponse => connection.as_mut().graceful_shutdown(),
            CloseRequest::Now => return Poll::Ready(Ok(())),
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// The body that hyper sends. It tells the monitor when hyper has taken the last part of a stream.
struct ResponseBody {
    body: Body,
    /// `Some` while a stream has not ended.
    monitor: Option<Rc<ConnectionMonitor>>,
}

impl ResponseBody {
    fn mark_end(&mut self) {
        if let Some(monitor) = self.monitor.take() {
            monitor.state.stream_sent.set(true);
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyAborted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.mark_end();
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

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.mark_end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TIMEOUT_CHECK_INTERVAL;

    #[test]
    fn a_body_is_slow_by_its_rate_or_by_its_duration() {
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

    fn close_request_after(phase: ConnectionPhase, waited: Duration) -> CloseRequest {
        let connections = Connections::default();
        let monitor = connections.register();
        monitor.state.enter(phase);
        for _ in 0..waited.as_millis() / TIMEOUT_CHECK_INTERVAL.as_millis() {
            connections.sweep();
        }
        monitor.close_request.get()
    }

    #[test]
    fn each_phase_has_its_limit() {
        for (phase, limit) in [
            (ConnectionPhase::New, HEADER_TIMEOUT),
            (ConnectionPhase::Head, HEADER_TIMEOUT),
            (ConnectionPhase::Idle, IDLE_TIMEOUT),
            (ConnectionPhase::Linger, LINGER_IDLE_TIMEOUT),
        ] {
            assert_eq!(close_request_after(phase, limit), CloseRequest::None, "{phase:?}");
            assert_eq!(close_request_after(phase, limit + TIMEOUT_CHECK_INTERVAL), CloseRequest::Now, "{phase:?}");
        }
        for phase in
            [ConnectionPhase::Busy, ConnectionPhase::Offloaded, ConnectionPhase::Streaming, ConnectionPhase::Upgraded]
        {
            assert_eq!(close_request_after(phase, IDLE_TIMEOUT * 10), CloseRequest::None, "{phase:?}");
        }
    }

    #[test]
    fn a_closed_connection_is_removed() {
        let connections = Connections::default();
        let monitor = connections.register();
        assert_eq!(connections.count(), 1);
        drop(monitor);
        assert_eq!(connections.count(), 0);
        connections.sweep();
        assert!(connections.all.borrow().is_empty());
    }
}
