//! The socket of a connection, which tracks its own state.
//!
//! The socket and its [`ConnectionMonitor`](super::connection::ConnectionMonitor) share a [`SocketState`]. Both live on
//! one thread until the connection is upgraded. Then the socket may move to another thread. Therefore the fields are
//! atomics, but two threads never change a field at the same time. Only an upgraded connection takes a lock.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::limits::{BODY_SLOW_RATE, LINGER_BYTES_MAX, SLOW_CONNECTION_AGE, TIMEOUT_CHECK_INTERVAL};

/// Bytes that are discarded with one read after the server closed its side.
const LINGER_PART_BYTES: usize = 16 * 1024;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ConnectionPhase {
    /// The first byte of the first request.
    New,
    /// The first byte of the next request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// The response of the worker.
    Busy,
    /// The response of the management threads.
    Offloaded,
    /// The rest of a streamed response, or the client to read it.
    Streaming,
    /// The client to close the connection after the server closed its side.
    Linger,
    /// The task that took the connection over.
    Upgraded,
}

impl ConnectionPhase {
    const ALL: [Self; 9] = [
        Self::New,
        Self::Idle,
        Self::Head,
        Self::Body,
        Self::Busy,
        Self::Offloaded,
        Self::Streaming,
        Self::Linger,
        Self::Upgraded,
    ];
}

/// What an open connection waits for from its client, if it can give way to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WaitingFor {
    /// The first byte of its first request.
    FirstByte,
    /// The next request, or the client to close.
    NextRequest,
    /// The rest of a head, for some time already.
    Head,
    /// The rest of a body that arrives slowly.
    Body,
}

/// The clock of a worker, in units of [`TIMEOUT_CHECK_INTERVAL`].
#[derive(Debug, Default)]
pub(super) struct Ticks(AtomicU32);

impl Ticks {
    pub(super) fn advance(&self) {
        self.0.store(self.now().wrapping_add(1), Relaxed);
    }

    fn now(&self) -> u32 {
        self.0.load(Relaxed)
    }

    fn since(&self, then: u32) -> Duration {
        TIMEOUT_CHECK_INTERVAL * self.now().wrapping_sub(then)
    }
}

/// A flag of a [`SocketState`].
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(super) fn set(&self, on: bool) {
        self.0.store(on, Relaxed);
    }
}

/// What the socket of a connection currently waits for and since when.
#[derive(Debug)]
pub(super) struct SocketState {
    now: Arc<Ticks>,
    phase: AtomicU8,
    since: AtomicU32,
    /// Whether bytes wait to be written. `write_blocked_since` is the start of the wait.
    write_blocked: Flag,
    write_blocked_since: AtomicU32,
    /// Whether a part of the request is not read yet.
    pub(super) has_unread_body: Flag,
    /// Whether the client sent bytes or closed its side while it waited for its response.
    pub(super) has_input: Flag,
    /// Whether hyper has taken the last part of a stream.
    pub(super) stream_sent: Flag,
    /// Bytes of the current body that arrived.
    pub(super) body_bytes: AtomicU64,
    /// Whether the connection should close to make room for others, if it still waits for its client.
    pub(super) gives_way: Flag,
    lingered_bytes: AtomicUsize,
    /// When the last byte was discarded.
    lingered_at: AtomicU32,
    /// Whether the head of a request was not complete when the server closed its side.
    has_unread_head: Flag,
    upgraded: Mutex<UpgradeEnd>,
}

/// Tells the reader of an upgraded connection that the server stops.
#[derive(Debug, Default)]
struct UpgradeEnd {
    ended: bool,
    reader: Option<Waker>,
}

impl SocketState {
    pub(super) fn new(now: Arc<Ticks>) -> Self {
        Self {
            since: AtomicU32::new(now.now()),
            now,
            phase: AtomicU8::new(ConnectionPhase::New as u8),
            write_blocked: Flag::default(),
            write_blocked_since: AtomicU32::default(),
            has_unread_body: Flag::default(),
            has_input: Flag::default(),
            stream_sent: Flag::default(),
            body_bytes: AtomicU64::default(),
            gives_way: Flag::default(),
            lingered_bytes: AtomicUsize::default(),
            lingered_at: AtomicU32::default(),
            has_unread_head: Flag::default(),
            upgraded: Mutex::default(),
        }
    }

    pub(super) fn phase(&self) -> ConnectionPhase {
        ConnectionPhase::ALL[usize::from(self.phase.load(Relaxed)) % ConnectionPhase::ALL.len()]
    }

    pub(super) fn set_phase(&self, phase: ConnectionPhase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// Changes the phase and records its start.
    pub(super) fn enter(&self, phase: ConnectionPhase) {
        self.set_phase(phase);
        self.since.store(self.now.now(), Relaxed);
    }

    /// The time since the start of the phase.
    pub(super) fn phase_duration(&self) -> Duration {
        self.now.since(self.since.load(Relaxed))
    }

    /// The time since the last discarded byte, or since the server closed its side.
    pub(super) fn linger_idle_for(&self) -> Duration {
        self.now.since(self.lingered_at.load(Relaxed))
    }

    fn begin_linger(&self) {
        self.has_unread_head.set(self.phase() == ConnectionPhase::Head);
        self.lingered_at.store(self.now.now(), Relaxed);
        self.enter(ConnectionPhase::Linger);
    }

    /// Counts discarded bytes. Returns the number of all of them.
    fn discarded(&self, bytes: usize) -> usize {
        self.lingered_at.store(self.now.now(), Relaxed);
        self.lingered_bytes.fetch_add(bytes, Relaxed) + bytes
    }

    /// Whether the client may still be sending its request.
    fn may_receive_more(&self) -> bool {
        self.has_unread_body.get() || self.has_unread_head.get() || self.lingered_bytes.load(Relaxed) > 0
    }

    /// What the connection waits for, and since when, if it can give way to others.
    pub(super) fn waiting(&self) -> Option<(WaitingFor, Duration)> {
        let age = self.phase_duration();
        let is_old = age >= SLOW_CONNECTION_AGE;
        let is_slow = || self.body_bytes.load(Relaxed) * 1_000 < age.as_millis() as u64 * BODY_SLOW_RATE;
        let waiting_for = match self.phase() {
            ConnectionPhase::New => WaitingFor::FirstByte,
            ConnectionPhase::Idle | ConnectionPhase::Linger => WaitingFor::NextRequest,
            ConnectionPhase::Head if is_old => WaitingFor::Head,
            ConnectionPhase::Body if is_old && is_slow() => WaitingFor::Body,
            _ => return None,
        };
        Some((waiting_for, age))
    }

    /// The time for which bytes have been waiting to be written. `None` if no bytes wait.
    pub(super) fn write_blocked_for(&self) -> Option<Duration> {
        self.write_blocked.get().then(|| self.now.since(self.write_blocked_since.load(Relaxed)))
    }

    fn mark_write_blocked(&self) {
        if !self.write_blocked.get() {
            self.write_blocked.set(true);
            self.write_blocked_since.store(self.now.now(), Relaxed);
        }
    }

    /// Ends the stream of an upgraded connection: the next read reports the end of the stream. If the connection is upgraded
    /// later, its stream ends then.
    pub(super) fn end_upgraded(&self) {
        let mut end = self.upgraded.lock().unwrap_or_else(PoisonError::into_inner);
        end.ended = true;
        if let Some(reader) = end.reader.take() {
            reader.wake();
        }
    }

    fn poll_ended(&self, cx: &Context<'_>) -> bool {
        let mut end = self.upgraded.lock().unwrap_or_else(PoisonError::into_inner);
        if !end.ended {
            end.reader = Some(cx.waker().clone());
        }
        end.ended
    }
}

/// A socket that can check for a disconnected peer without consuming received bytes.
pub trait Peek {
    /// Pending while nothing has been received. Fails after the connection was reset.
    fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Peek for TcpStream {
    fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 1];
        self.poll_peek(cx, &mut ReadBuf::new(&mut scratch)).map_ok(drop)
    }
}

#[cfg(test)]
impl Peek for tokio::io::DuplexStream {
    fn poll_peek(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// A socket that updates a [`SocketState`] on each read and write. `guard` is dropped together with the socket.
pub(super) struct TrackedSocket<Io, H> {
    io: Io,
    state: Arc<SocketState>,
    _guard: H,
}

impl<Io, H> TrackedSocket<Io, H> {
    pub(super) fn new(io: Io, state: Arc<SocketState>, guard: H) -> Self {
        Self { io, state, _guard: guard }
    }
}

impl<Io: Peek, H> TrackedSocket<Io, H> {
    /// Fails if the client disconnected. hyper does not read while a response is produced, so it would not detect this.
    ///
    /// Only a connection reset counts as a disconnect. The end of the client's stream does not: a client may close its side
    /// after its request, and still receives its response.
    fn check_peer(&self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.state.has_input.get()
            && let Poll::Ready(peeked) = self.io.poll_peek(cx)
        {
            // Unread bytes or the end of the stream would be reported again by each later call.
            self.state.has_input.set(true);
            peeked?;
        }
        Ok(())
    }
}

impl<Io: AsyncRead + Unpin, H: Unpin> AsyncRead for TrackedSocket<Io, H> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let phase = self.state.phase();
        if phase == ConnectionPhase::Upgraded && self.state.poll_ended(cx) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before && matches!(phase, ConnectionPhase::New | ConnectionPhase::Idle) {
            self.state.enter(ConnectionPhase::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncRead + AsyncWrite + Peek + Unpin, H: Unpin> AsyncWrite for TrackedSocket<Io, H> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        match &written {
            Poll::Pending => self.state.mark_write_blocked(),
            // A client may read a stream slowly, but it must make progress.
            Poll::Ready(_) if self.state.phase() == ConnectionPhase::Streaming => self.state.write_blocked.set(false),
            Poll::Ready(_) => {}
        }
        written
    }

    /// hyper flushes whenever its write buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state.write_blocked.set(false);
        match self.state.phase() {
            ConnectionPhase::Streaming if self.state.stream_sent.get() => self.state.enter(ConnectionPhase::Idle),
            ConnectionPhase::Streaming | ConnectionPhase::Offloaded => self.check_peer(cx)?,
            _ => {}
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Closes the server's side, and reads up to [`LINGER_BYTES_MAX`] bytes that the client still sends (RFC 9112 section
    /// 9.6). Closing a socket with unread bytes resets the connection, and the client might not receive the response.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state.phase() == ConnectionPhase::Upgraded {
            return Pin::new(&mut self.io).poll_shutdown(cx);
        }
        if self.state.phase() != ConnectionPhase::Linger {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.state.begin_linger();
        }
        let mut scratch = [0; LINGER_PART_BYTES];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    if self.state.discarded(buf.filled().len()) > LINGER_BYTES_MAX {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending if self.state.may_receive_more() => return Poll::Pending,
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
