//! A TCP socket below TLS that bounds the received bytes. TLS has messages that carry no data of HTTP, such as session
//! tickets and key updates, which an endpoint could send without end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::limits::TLS_RECEIVED_BYTES_MAX;

/// A TCP socket that gives at most [`TLS_RECEIVED_BYTES_MAX`] bytes until [`Self::reset`].
#[derive(Debug)]
pub(super) struct MeteredTcp {
    socket: TcpStream,
    left: usize,
}

impl MeteredTcp {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, left: TLS_RECEIVED_BYTES_MAX }
    }

    /// Starts the count again, for the next request.
    pub(super) fn reset(&mut self) {
        self.left = TLS_RECEIVED_BYTES_MAX;
    }

    fn socket(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().socket)
    }
}

impl AsyncRead for MeteredTcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("the endpoint sent too many bytes over TLS")));
        }
        let before = into.filled().len();
        let read = self.as_mut().socket().poll_read(cx, into);
        self.left = self.left.saturating_sub(into.filled().len() - before);
        read
    }
}

impl AsyncWrite for MeteredTcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.socket().poll_write(cx, from)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket().poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_bytes_are_bounded_until_the_next_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            while socket.write_all(&[0; 8 * 1024]).await.is_ok() {}
        });
        let mut socket = MeteredTcp::new(TcpStream::connect(at).await.unwrap());
        for _ in 0..2 {
            let mut received = Vec::new();
            let why = socket.read_to_end(&mut received).await.unwrap_err();
            assert!(why.to_string().contains("too many bytes over TLS"), "{why}");
            assert!(received.len() <= TLS_RECEIVED_BYTES_MAX * 2, "{}", received.len());
            socket.reset();
        }
    }
}
