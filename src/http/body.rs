//! The body of a response: bytes that are complete, or a stream that is fed through a bounded channel.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::limits::{STREAM_PART_BYTES_MAX, STREAM_PARTS_MAX};

/// A body of up to so many bytes is not streamed: a stream holds as much.
const WHOLE_BYTES_MAX: usize = STREAM_PARTS_MAX * STREAM_PART_BYTES_MAX;

/// A response's body.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    /// The bytes that are still to be sent.
    Whole(Bytes),
    Stream(Stream),
}

#[derive(Debug)]
struct Stream {
    parts: mpsc::Receiver<Bytes>,
    finished: Arc<AtomicBool>,
    over: bool,
}

/// The producer's end of a stream. Dropped without [`Self::finish`], the stream breaks: the connection is cut, so that no
/// client takes a part for the whole.
#[derive(Debug)]
pub struct BodySender {
    parts: mpsc::Sender<Bytes>,
    finished: Arc<AtomicBool>,
}

/// Nobody reads the stream any more: the client went away, or asked by HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the stream any more")]
pub struct Closed;

/// The producer of a stream ended before the stream was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body broke off")]
pub struct Broken;

impl Body {
    /// A body that is streamed, and the end that feeds it. Up to [`STREAM_PARTS_MAX`] parts of up to
    /// [`STREAM_PART_BYTES_MAX`] bytes wait for the connection; then the producer waits.
    pub fn stream() -> (BodySender, Self) {
        let (sender, parts) = mpsc::channel(STREAM_PARTS_MAX);
        let finished = Arc::<AtomicBool>::default();
        let stream = Stream { parts, finished: Arc::clone(&finished), over: false };
        (BodySender { parts: sender, finished }, Self(Kind::Stream(stream)))
    }

    /// A body that is made in pieces: whole if it is short, with a `Content-Length`, else a stream that makes the next
    /// piece when the client has read those before. Must be called on a thread whose runtime lives on.
    pub fn in_pieces(mut pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Self {
        let mut first = Vec::new();
        for piece in pieces.by_ref() {
            first.extend_from_slice(&piece);
            if first.len() > WHOLE_BYTES_MAX {
                let (sender, body) = Self::stream();
                tokio::spawn(async move {
                    for piece in std::iter::once(first).chain(pieces) {
                        if sender.send(piece.into()).await.is_err() {
                            return;
                        }
                    }
                    sender.finish();
                });
                return body;
            }
        }
        first.into()
    }

    /// The complete bytes; `None` of a stream.
    pub fn whole(&self) -> Option<&Bytes> {
        match &self.0 {
            Kind::Whole(bytes) => Some(bytes),
            Kind::Stream(_) => None,
        }
    }
}

impl BodySender {
    /// Sends bytes, as soon as the connection takes them.
    ///
    /// # Errors
    /// When nobody reads any more; the producer should end.
    pub async fn send(&self, mut bytes: Bytes) -> Result<(), Closed> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(STREAM_PART_BYTES_MAX));
            self.parts.send(part).await.map_err(|_| Closed)?;
        }
        Ok(())
    }

    /// Waits until nobody reads the stream any more.
    pub async fn closed(&self) {
        self.parts.closed().await;
    }

    /// Ends the stream: what was sent is the whole body.
    pub fn finish(self) {
        self.finished.store(true, Ordering::Release);
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.over {
            return Poll::Ready(None);
        }
        self.parts.poll_recv(cx).map(|part| {
            self.over = part.is_none();
            match part {
                Some(bytes) => Some(Ok(Frame::data(bytes))),
                None if self.finished.load(Ordering::Acquire) => None,
                None => Some(Err(Broken)),
            }
        })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.get_mut().0 {
            Kind::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Stream(stream) => stream.over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self(Kind::Whole(Bytes::new()))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Whole(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kind::Whole(bytes.into()))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(Kind::Whole(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_whole_body_is_one_frame_with_its_length() {
        let mut body = Body::from("abc".to_owned());
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_arrives_in_parts_of_bounded_size_and_ends_when_it_is_finished() {
        let (sender, mut body) = Body::stream();
        let bytes = Bytes::from(vec![b'a'; 2 * STREAM_PART_BYTES_MAX + 1]);
        sender.send(bytes).await.unwrap();
        sender.finish();
        let mut lengths = Vec::new();
        while let Some(frame) = body.frame().await {
            lengths.push(frame.unwrap().into_data().unwrap().len());
        }
        assert_eq!(lengths, [STREAM_PART_BYTES_MAX, STREAM_PART_BYTES_MAX, 1]);
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn pieces_are_whole_while_they_are_short_and_made_as_they_are_read() {
        let pieces = |count: usize| (0..count).map(|_| vec![b'a'; STREAM_PART_BYTES_MAX]);
        let whole = Body::in_pieces(pieces(STREAM_PARTS_MAX));
        assert_eq!(whole.whole().map(Bytes::len), Some(WHOLE_BYTES_MAX));
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let mut stream = Body::in_pieces(pieces(1_000).inspect(move |_| _ = counted.fetch_add(1, Ordering::Relaxed)));
        assert!(stream.whole().is_none());
        let mut bytes = 0;
        while let Some(frame) = stream.frame().await {
            bytes += frame.unwrap().into_data().unwrap().len();
            let ahead = made.load(Ordering::Relaxed) - bytes / STREAM_PART_BYTES_MAX;
            assert!(ahead <= 2 * STREAM_PARTS_MAX, "{ahead} pieces ahead");
        }
        assert_eq!(bytes, 1_000 * STREAM_PART_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_producer_that_is_gone_breaks_the_stream() {
        let (sender, mut body) = Body::stream();
        drop(sender);
        assert_eq!(body.frame().await.unwrap().unwrap_err(), Broken);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_ends_the_producer() {
        let (sender, body) = Body::stream();
        drop(body);
        sender.closed().await;
        assert_eq!(sender.send(Bytes::from_static(b"a")).await, Err(Closed));
    }
}
