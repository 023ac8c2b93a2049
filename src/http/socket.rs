//! The socket of a connection, and what it records of what passes.
//!
//! A [`Line`] is shared by the socket and its [`Watch`](super::connection::Watch), which live on one thread until the
//! connection is upgraded; the socket may move to another thread then. So its fields are atomics, which no two threads
//! change at the same time, and the only lock is that of an upgraded connection.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::limits::{LINGER_BYTES_MAX, SWEEP_INTERVAL};

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// The first byte of the first request.
    New,
    /// The first byte of the next request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// The worker.
    Busy,
    /// The management's threads.
    Away,
    /// The rest of a response that is streamed, or the client, to read it.
    Streaming,
    /// The client, to close after our last word.
    Linger,
    /// Whoever took the connection over.
    Upgraded,
}

impl Phase {
    const ALL: [Self; 9] = [
        Self::New,
        Self::Idle,
        Self::Head,
        Self::Body,
        Self::Busy,
        Self::Away,
        Self::Streaming,
        Self::Linger,
        Self::Upgraded,
    ];
}

/// Time as a worker counts it, in [`SWEEP_INTERVAL`]s.
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
        SWEEP_INTERVAL * self.now().wrapping_sub(then)
    }
}

/// A flag of a [`Line`].
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

/// What is known of a connection. See the module.
#[derive(Debug)]
pub(super) struct Line {
    now: Arc<Ticks>,
    phase: AtomicU8,
    since: AtomicU32,
    /// Whether bytes wait to be written, and since when nothing of them could be.
    writes: Flag,
    write_since: AtomicU32,
    /// A part of the request is not read yet.
    pub(super) unread: Flag,
    /// The client sent something, or closed its side, while it waited for its response.
    pub(super) heard: Flag,
    /// The last part of a stream is with hyper.
    pub(super) stream_over: Flag,
    lingered: AtomicUsize,
    upgraded: Mutex<End>,
}

/// The end of an upgraded connection.
#[derive(Debug, Default)]
struct End {
    is_here: bool,
    reader: Option<Waker>,
}

impl Line {
    pub(super) fn new(now: Arc<Ticks>) -> Self {
        Self {
            since: AtomicU32::new(now.now()),
            now,
            phase: AtomicU8::new(Phase::New as u8),
            writes: Flag::default(),
            write_since: AtomicU32::default(),
            unread: Flag::default(),
            heard: Flag::default(),
            stream_over: Flag::default(),
            lingered: AtomicUsize::default(),
            upgraded: Mutex::default(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed)) % Phase::ALL.len()]
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// Changes the phase and starts its clock.
    pub(super) fn enter(&self, phase: Phase) {
        self.set_phase(phase);
        self.since.store(self.now.now(), Relaxed);
    }

    /// How long the phase has lasted.
    pub(super) fn in_phase(&self) -> Duration {
        self.now.since(self.since.load(Relaxed))
    }

    /// For how long bytes have been waiting to be written; `None` if there are none.
    pub(super) fn writes_for(&self) -> Option<Duration> {
        self.writes.get().then(|| self.now.since(self.write_since.load(Relaxed)))
    }

    fn write_waits(&self) {
        if !self.writes.get() {
            self.writes.set(true);
            self.write_since.store(self.now.now(), Relaxed);
        }
    }

    /// Ends the connection if it is upgraded, or when it is: its reader reads the end of the stream.
    pub(super) fn end_upgraded(&self) {
        let mut end = self.upgraded.lock().unwrap_or_else(PoisonError::into_inner);
        end.is_here = true;
        if let Some(reader) = end.reader.take() {
            reader.wake();
        }
    }

    fn poll_end(&self, cx: &Context<'_>) -> bool {
        let mut end = self.upgraded.lock().unwrap_or_else(PoisonError::into_inner);
        if !end.is_here {
            end.reader = Some(cx.waker().clone());
        }
        end.is_here
    }
}

/// Looks whether the other end is gone, without taking what it sent.
pub trait Peek {
    /// Pending while nothing came; an error once the connection is reset.
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

/// A socket that records in its [`Line`] what passes. `held` is dropped with it.
pub(super) struct Watched<Io, H> {
    io: Io,
    line: Arc<Line>,
    _held: H,
}

impl<Io, H> Watched<Io, H> {
    pub(super) fn new(io: Io, line: Arc<Line>, held: H) -> Self {
        Self { io, line, _held: held }
    }
}

impl<Io: Peek, H> Watched<Io, H> {
    /// Fails if the client is gone. hyper reads nothing while a response is made, and would not notice.
    ///
    /// Only a reset says that the client is gone. The end of its stream does not: a client may close its side when it has
    /// sent its request, and still gets its response.
    fn check_peer(&self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.line.heard.get()
            && let Poll::Ready(heard) = self.io.poll_peek(cx)
        {
            // Bytes that wait, or the end of the stream, would be reported again at each turn.
            self.line.heard.set(true);
            heard?;
        }
        Ok(())
    }
}

impl<Io: AsyncRead + Unpin, H: Unpin> AsyncRead for Watched<Io, H> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let phase = self.line.phase();
        if phase == Phase::Upgraded && self.line.poll_end(cx) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before && matches!(phase, Phase::New | Phase::Idle) {
            self.line.enter(Phase::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncRead + AsyncWrite + Peek + Unpin, H: Unpin> AsyncWrite for Watched<Io, H> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        match &written {
            Poll::Pending => self.line.write_waits(),
            // A stream may be read slowly, but it must be read.
            Poll::Ready(_) if self.line.phase() == Phase::Streaming => self.line.writes.set(false),
            Poll::Ready(_) => {}
        }
        written
    }

    /// hyper calls it at each turn in which nothing is left to be written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.writes.set(false);
        match self.line.phase() {
            Phase::Streaming if self.line.stream_over.get() => self.line.enter(Phase::Idle),
            Phase::Streaming | Phase::Away => self.check_peer(cx)?,
            _ => {}
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Closes our side, and reads a little of what the client still sends: a socket closed over unread bytes resets the
    /// connection, and the client may never see the response that explains it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.line.phase() == Phase::Upgraded {
            return Pin::new(&mut self.io).poll_shutdown(cx);
        }
        if self.line.phase() != Phase::Linger {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.line.enter(Phase::Linger);
        }
        let mut scratch = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    let lingered = self.line.lingered.fetch_add(buf.filled().len(), Relaxed) + buf.filled().len();
                    if lingered > LINGER_BYTES_MAX {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending if self.line.unread.get() || self.line.lingered.load(Relaxed) > 0 => {
                    return Poll::Pending;
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
