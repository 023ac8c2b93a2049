//! A connection to a receiver: a socket, and hyper's state beside it, driven by whoever uses it.
//!
//! There is no task per connection: the future that waits for an answer polls the connection as well. An idle connection is
//! polled by nobody, so that a close by the receiver is seen when it is used next.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::limits::RESPONSE_HEAD_BYTES_MAX;
use crate::outbound::Envelope;

/// A request of so few bytes is copied into one piece: the system sends that for less than it gathers several.
const JOINED_BYTES_MAX: usize = 2 * 1024;

/// A TCP connection, with or without TLS.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What went over the socket since the request began.
#[derive(Debug, Default)]
struct Seen {
    sent: Cell<bool>,
    answered: Cell<bool>,
}

/// A socket that notes what goes over it.
#[derive(Debug)]
struct Wire {
    socket: Socket,
    seen: Rc<Seen>,
}

type Driver = http1::Connection<TokioIo<Wire>, Envelope>;

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http1::SendRequest<Envelope>,
    /// `None` once it has ended.
    driver: Option<Driver>,
    seen: Rc<Seen>,
    /// The last answer's map of headers, emptied, for the next request.
    headers: HeaderMap,
    is_reused: bool,
}

impl Connection {
    /// HTTP/1.1 over a socket that is ready for it. Boxed, as it is handed around and hyper's state is large.
    pub(super) async fn new(socket: Socket) -> hyper::Result<Box<Self>> {
        let seen = Rc::new(Seen::default());
        let wire = Wire { socket, seen: Rc::clone(&seen) };
        let mut builder = http1::Builder::new();
        // Bounds the answer's head and what is buffered of its body.
        builder.max_buf_size(RESPONSE_HEAD_BYTES_MAX);
        let (sender, driver) = builder.handshake(TokioIo::new(wire)).await?;
        Ok(Box::new(Self { sender, driver: Some(driver), seen, headers: HeaderMap::new(), is_reused: false }))
    }

    /// An empty map for the next request's headers.
    pub(super) fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.headers)
    }

    /// Sends a request and waits for the answer's head. `sent` is called when the request's first bytes are with the
    /// socket.
    pub(super) async fn request(
        &mut self,
        request: Request<Envelope>,
        sent: impl FnOnce(),
    ) -> hyper::Result<Response<Incoming>> {
        let Self { sender, driver, seen, .. } = self;
        seen.sent.set(false);
        seen.answered.set(false);
        let mut sent = Some(sent);
        let mut answer = pin!(sender.send_request(request));
        poll_fn(|cx| {
            let ended = drive(driver, cx);
            if seen.sent.get()
                && let Some(sent) = sent.take()
            {
                sent();
            }
            // A connection that has ended, and is dropped by now, has told the answer why.
            match (answer.as_mut().poll(cx), ended) {
                (Poll::Pending, Poll::Ready(Err(why))) => Poll::Ready(Err(why)),
                (answer, _) => answer,
            }
        })
        .await
    }

    /// The next frame of an answer's body.
    pub(super) async fn frame(&mut self, body: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
        poll_fn(|cx| {
            // Asked first, as the connection reads only what is wanted.
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
                return Poll::Ready(frame);
            }
            // An end is told to the body, with its reason.
            let _ = drive(&mut self.driver, cx);
            Pin::new(&mut *body).poll_frame(cx)
        })
        .await
    }

    /// Whether a request that failed can be made again on another connection: this one had been used before and ended
    /// without a byte of an answer, as happens when the receiver closes an idle connection in the moment it is taken.
    pub(super) fn was_stale(&self) -> bool {
        self.is_reused && !(self.seen.sent.get() && self.seen.answered.get())
    }

    /// Whether the connection can take another request, after an answer whose headers were in `headers`.
    pub(super) async fn is_idle(&mut self, mut headers: HeaderMap) -> bool {
        headers.clear();
        self.headers = headers;
        self.is_reused = true;
        if self.driver.is_some() && !self.sender.is_ready() {
            // It has yet to see that the answer is complete. One that still sends its request afterwards is of no use.
            poll_fn(|cx| {
                let _ = drive(&mut self.driver, cx);
                Poll::Ready(())
            })
            .await;
        }
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
    let Some(running) = driver else { return Poll::Ready(Ok(())) };
    let polled = Pin::new(running).poll(cx);
    if polled.is_ready() {
        *driver = None;
    }
    polled
}

impl Socket {
    fn reader(&mut self) -> Pin<&mut (dyn AsyncRead + Unpin)> {
        match self {
            Self::Plain(socket) => Pin::new(socket),
            Self::Tls(socket) => Pin::new(socket),
        }
    }

    fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        match self {
            Self::Plain(socket) => Pin::new(socket),
            Self::Tls(socket) => Pin::new(socket),
        }
    }
}

/// The parts one after the other, if they are few bytes in all.
fn join<'a>(parts: &[IoSlice<'_>], into: &'a mut [u8; JOINED_BYTES_MAX]) -> Option<&'a [u8]> {
    let mut len = 0;
    for part in parts {
        into.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    Some(&into[..len])
}

impl Wire {
    fn note_sent(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.seen.sent.set(true);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = self.socket.reader().poll_read(cx, into);
        if into.filled().len() > before {
            self.seen.answered.set(true);
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.socket.writer().poll_write(cx, from);
        self.note_sent(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut joined = [0; JOINED_BYTES_MAX];
        let written = match join(from, &mut joined) {
            Some(whole) => self.socket.writer().poll_write(cx, whole),
            None => self.socket.writer().poll_write_vectored(cx, from),
        };
        self.note_sent(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.writer().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.writer().poll_shutdown(cx)
    }
}
