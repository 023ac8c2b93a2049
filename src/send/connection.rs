//! A connection to a receiver: a socket with hyper's connection state.
//!
//! There is no task per connection: the future that waits for a response also polls the connection. Idle connections
//! are not polled, so a close by the receiver is noticed at the next use.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::metered_tcp::MeteredTcp;
use super::response_meter::ResponseMeter;
use super::response_normalizer::{Received, ResponseNormalizer};
use crate::limits::RESPONSE_HEAD_BYTES_MAX;
use crate::outbound::DeliveryBody;

/// Requests up to this size in bytes are copied into one buffer. A write of one buffer costs less than a vectored
/// write.
const JOINED_BYTES_MAX: usize = 2 * 1024;

/// A TCP connection, with or without TLS.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<MeteredTcp>>),
}

/// What was sent and received over the socket since the request began.
#[derive(Debug, Default)]
pub(super) struct WireProgress {
    sent: Cell<bool>,
    answered: Cell<bool>,
    /// Set when a request begins: what arrives next belongs to another response.
    is_new: Cell<bool>,
    /// The status of the response. 0 until it was received.
    status: Cell<u16>,
}

impl WireProgress {
    /// The status of the response, as soon as it was received.
    pub(super) fn status(&self) -> Option<u16> {
        Some(self.status.get()).filter(|status| *status > 0)
    }
}

/// A socket that records its progress.
#[derive(Debug)]
struct Wire {
    socket: Socket,
    meter: ResponseMeter,
    normalizer: ResponseNormalizer,
    progress: Rc<WireProgress>,
}

type HyperDriver = http1::Connection<TokioIo<Wire>, DeliveryBody>;

/// An HTTP/1.1 connection for one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http1::SendRequest<DeliveryBody>,
    /// hyper's connection state. `None` after the connection has ended.
    driver: Option<HyperDriver>,
    progress: Rc<WireProgress>,
    /// The emptied header map of the last response, reused for the next request.
    headers: HeaderMap,
    is_reused: bool,
}

impl Connection {
    /// Starts HTTP/1.1 over a connected socket. Boxed, because connections are moved around and hyper's state is large.
    pub(super) async fn new(socket: Socket) -> hyper::Result<Box<Self>> {
        let progress = Rc::new(WireProgress::default());
        let (meter, normalizer) = (ResponseMeter::default(), ResponseNormalizer::default());
        let wire = Wire { socket, meter, normalizer, progress: Rc::clone(&progress) };
        let mut builder = http1::Builder::new();
        // Limits the response head and the buffered part of the response body.
        builder.max_buf_size(RESPONSE_HEAD_BYTES_MAX);
        let (sender, driver) = builder.handshake(TokioIo::new(wire)).await?;
        Ok(Box::new(Self { sender, driver: Some(driver), progress, headers: HeaderMap::new(), is_reused: false }))
    }

    /// What is sent and received.
    pub(super) fn progress(&self) -> Rc<WireProgress> {
        Rc::clone(&self.progress)
    }

    /// An empty header map for the next request.
    pub(super) fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.headers)
    }

    /// Sends a request and waits for the response head. `sent` is called when the first bytes of the request are
    /// written to the socket.
    pub(super) async fn request(
        &mut self,
        request: Request<DeliveryBody>,
        sent: impl FnOnce(),
    ) -> hyper::Result<Response<Incoming>> {
        let Self { sender, driver, progress, .. } = self;
        progress.sent.set(false);
        progress.answered.set(false);
        progress.status.set(0);
        progress.is_new.set(true);
        let mut sent = Some(sent);
        let mut answer = pin!(sender.send_request(request));
        poll_fn(|cx| {
            let ended = drive(driver, cx);
            if progress.sent.get()
                && let Some(sent) = sent.take()
            {
                sent();
            }
            // If the connection has ended and is dropped, the response future has the reason.
            match (answer.as_mut().poll(cx), ended) {
                (Poll::Pending, Poll::Ready(Err(why))) => Poll::Ready(Err(why)),
                (answer, _) => answer,
            }
        })
        .await
    }

    /// The next frame of a response body. `None` at the end of the body.
    pub(super) async fn frame(&mut self, body: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
        poll_fn(|cx| {
            // The body is polled first, because the connection reads only requested data.
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
                return Poll::Ready(frame);
            }
            // The body gets the reason if the connection has ended.
            let _ = drive(&mut self.driver, cx);
            Pin::new(&mut *body).poll_frame(cx)
        })
        .await
    }

    /// Whether a failed request can be sent again on another connection: this connection was reused and ended without a
    /// byte of a response. That happens when the receiver closes an idle connection at the moment of its reuse.
    pub(super) fn was_stale(&self) -> bool {
        self.is_reused && !(self.progress.sent.get() && self.progress.answered.get())
    }

    /// Whether the connection can take another request after a complete response. `headers` is the response's header
    /// map, kept for reuse.
    pub(super) async fn is_idle(&mut self, mut headers: HeaderMap) -> bool {
        headers.clear();
        self.headers = headers;
        self.is_reused = true;
        if self.driver.is_some() && !self.sender.is_ready() {
            // The connection must still notice that the response is complete. If it still sends its request, it cannot
            // be reused.
            poll_fn(|cx| {
                let _ = drive(&mut self.driver, cx);
                Poll::Ready(())
            })
            .await;
        }
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<HyperDriver>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
    let Some(running) = driver else { return Poll::Ready(Ok(())) };
    let polled = Pin::new(running).poll(cx);
    if polled.is_ready() {
        *driver = None;
    }
    polled
}

impl Socket {
    fn reset_meter(&mut self) {
        if let Self::Tls(socket) = self {
            socket.get_mut().0.reset();
        }
    }

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

/// Copies the parts into one buffer. `None` if they are larger than [`JOINED_BYTES_MAX`].
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
            self.progress.sent.set(true);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.progress.is_new.replace(false) {
            self.meter = ResponseMeter::default();
            self.socket.reset_meter();
            self.normalizer.begin();
        }
        let wire = &mut *self;
        loop {
            if wire.normalizer.has_output() {
                let most = into.remaining();
                into.put_slice(wire.normalizer.output(most));
                return Poll::Ready(Ok(()));
            }
            let before = into.filled().len();
            ready!(wire.socket.reader().poll_read(cx, into))?;
            let received = &into.filled()[before..];
            if received.is_empty() {
                wire.normalizer.ended();
                if wire.normalizer.has_output() {
                    continue;
                }
                return Poll::Ready(Ok(()));
            }
            wire.progress.answered.set(true);
            wire.meter.note(received)?;
            let read = wire.normalizer.received(received);
            if let Some(status) = wire.normalizer.status() {
                wire.progress.status.set(status);
            }
            match read {
                Received::Unchanged => return Poll::Ready(Ok(())),
                Received::Replaced => into.set_filled(before),
            }
        }
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
