//! The body of a response: complete bytes, or a stream with a bounded channel.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::limits::{STREAM_PART_BYTES_MAX, STREAM_PARTS_MAX};
use crate::runtime::TenantShare;

/// A body of at most this many bytes is not streamed, because the channel of a stream buffers the same number of bytes.
const WHOLE_BYTES_MAX: usize = STREAM_PARTS_MAX * STREAM_PART_BYTES_MAX;

/// The body of a response.
#[derive(Debug)]
pub struct Body(BodyKind);

#[derive(Debug)]
enum BodyKind {
    /// The bytes that have not been sent yet.
    Complete(Bytes),
    /// The same for a long body, and the memory that it counts for. It is sent in parts, so that the connection does not
    /// hold all of it when the memory is released.
    Counted(Bytes, TenantShare),
    Stream(BodyStream),
}

#[derive(Debug)]
struct BodyStream {
    parts: mpsc::Receiver<Bytes>,
    finished: Arc<AtomicBool>,
    ended: bool,
}

/// The sender of a streamed body. If it is dropped without [`Self::finish`], the connection is closed without the end of the
/// body, so that the client cannot mistake a part for the complete body.
#[derive(Debug)]
pub struct BodySender {
    parts: mpsc::Sender<Bytes>,
    finished: Arc<AtomicBool>,
}

/// The stream has no reader any more: the client disconnected, or the request was HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the stream any more")]
pub struct ReaderGone;

/// The sender of a stream was dropped before the stream was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body broke off")]
pub struct BodyAborted;

impl Body {
    /// Creates a streamed body and its sender. The channel holds up to [`STREAM_PARTS_MAX`] parts of up to
    /// [`STREAM_PART_BYTES_MAX`] bytes. When the channel is full, the sender waits.
    pub fn stream() -> (BodySender, Self) {
        let (sender, parts) = mpsc::channel(STREAM_PARTS_MAX);
        let finished = Arc::<AtomicBool>::default();
        let stream = BodyStream { parts, finished: Arc::clone(&finished), ended: false };
        (BodySender { parts: sender, finished }, Self(BodyKind::Stream(stream)))
    }

    /// Creates a body from an iterator of chunks. A short body is sent complete, with a `Content-Length`. A longer body is
    /// streamed: the iterator is advanced as the client reads.
    ///
    /// A streamed body spawns a task. Call this function on a runtime that outlives the response.
    pub fn from_chunks(mut chunks: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Self {
        let mut first = Vec::new();
        for chunk in chunks.by_ref() {
            first.extend_from_slice(&chunk);
            if first.len() > WHOLE_BYTES_MAX {
                let (sender, body) = Self::stream();
                tokio::spawn(async move {
                    for chunk in std::iter::once(first).chain(chunks) {
                        if sender.send(chunk.into()).await.is_err() {
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

    /// Counts the bytes of a complete body as memory until they are sent. A short body is not counted: its connection
    /// buffers it.
    #[must_use]
    pub fn counted(self, mut memory: TenantShare) -> Self {
        match self.0 {
            BodyKind::Complete(bytes) if bytes.len() > WHOLE_BYTES_MAX => {
                memory.reduce_to(bytes.len());
                Self(BodyKind::Counted(bytes, memory))
            }
            kind => Self(kind),
        }
    }

    /// The complete bytes. `None` for a stream.
    pub fn complete_bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            BodyKind::Complete(bytes) | BodyKind::Counted(bytes, _) => Some(bytes),
            BodyKind::Stream(_) => None,
        }
    }
}

impl BodySender {
    /// Sends bytes. Waits while the channel is full.
    ///
    /// # Errors
    /// [`ReaderGone`] when the stream has no reader any more. The producer should stop then.
    pub async fn send(&self, mut bytes: Bytes) -> Result<(), ReaderGone> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(STREAM_PART_BYTES_MAX));
            self.parts.send(part).await.map_err(|_| ReaderGone)?;
        }
        Ok(())
    }

    /// Waits until the stream has no reader any more.
    pub async fn closed(&self) {
        self.parts.closed().await;
    }

    /// Ends the stream. The parts sent so far are the complete body.
    pub fn finish(self) {
        self.finished.store(true, Ordering::Release);
    }
}

impl BodyStream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.parts.poll_recv(cx).map(|part| {
            self.ended = part.is_none();
            match part {
                Some(bytes) => Some(Ok(Frame::data(bytes))),
                None if self.finished.load(Ordering::Acquire) => None,
                None => Some(Err(BodyAborted)),
            }
        })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyAborted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        match &mut self.get_mut().0 {
            BodyKind::Complete(bytes) if bytes.is_empty() => Poll::Ready(None),
            BodyKind::Complete(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            BodyKind::Counted(bytes, memory) => {
                let part = bytes.split_to(bytes.len().min(STREAM_PART_BYTES_MAX));
                if bytes.is_empty() {
                    memory.reduce_to(0);
                }
                Poll::Ready((!part.is_empty()).then(|| Ok(Frame::data(part))))
            }
            BodyKind::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            BodyKind::Complete(bytes) | BodyKind::Counted(bytes, _) => bytes.is_empty(),
            BodyKind::Stream(stream) => stream.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodyKind::Complete(bytes) | BodyKind::Counted(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
            BodyKind::Stream(_) => SizeHint::default(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self(BodyKind::Complete(Bytes::new()))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(BodyKind::Complete(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(BodyKind::Complete(bytes.into()))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(BodyKind::Complete(text.into()))
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
    async fn a_long_body_counts_until_it_is_sent() {
        let budget = crate::runtime::TenantBudget::new(1 << 20, 1 << 20);
        let memory = || budget.take(Some("a"), 1 << 19).unwrap();
        let short = Body::from(vec![b'a'; WHOLE_BYTES_MAX]).counted(memory());
        assert_eq!((short.complete_bytes().map(Bytes::len), budget.in_use()), (Some(WHOLE_BYTES_MAX), 0));
        let length = WHOLE_BYTES_MAX + 1;
        let mut long = Body::from(vec![b'a'; length]).counted(memory());
        assert_eq!((long.size_hint().exact(), budget.in_use()), (Some(length as u64), length));
        let mut sent = 0;
        while let Some(frame) = long.frame().await {
            sent += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!((sent, budget.in_use(), long.is_end_stream()), (length, 0, true));
        // A connection that ends early releases the memory as well.
        drop(Body::from(vec![b'a'; length]).counted(memory()));
        assert_eq!(budget.in_use(), 0);
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
    async fn a_short_body_is_complete_and_a_long_one_is_produced_as_it_is_read() {
        let chunks = |count: usize| (0..count).map(|_| vec![b'a'; STREAM_PART_BYTES_MAX]);
        let whole = Body::from_chunks(chunks(STREAM_PARTS_MAX));
        assert_eq!(whole.complete_bytes().map(Bytes::len), Some(WHOLE_BYTES_MAX));
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let mut stream = Body::from_chunks(chunks(1_000).inspect(move |_| _ = counted.fetch_add(1, Ordering::Relaxed)));
        assert!(stream.complete_bytes().is_none());
        let mut bytes = 0;
        while let Some(frame) = stream.frame().await {
            bytes += frame.unwrap().into_data().unwrap().len();
            let ahead = made.load(Ordering::Relaxed) - bytes / STREAM_PART_BYTES_MAX;
            assert!(ahead <= 2 * STREAM_PARTS_MAX, "{ahead} chunks ahead");
        }
        assert_eq!(bytes, 1_000 * STREAM_PART_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_dropped_sender_aborts_the_stream() {
        let (sender, mut body) = Body::stream();
        drop(sender);
        assert_eq!(body.frame().await.unwrap().unwrap_err(), BodyAborted);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_dropped_reader_ends_the_sender() {
        let (sender, body) = Body::stream();
        drop(body);
        sender.closed().await;
        assert_eq!(sender.send(Bytes::from_static(b"a")).await, Err(ReaderGone));
    }
}
