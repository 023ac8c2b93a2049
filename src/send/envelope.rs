//! The body of a delivery: written around the event's data, which is never parsed, joined or copied.

use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};

use crate::model::NewEvent;

/// What follows the data in the standard profile.
pub(super) const SUFFIX: &[u8] = b"}";

/// The standard profile's body, `{"type","timestamp","data"}`, as three frames: what stands before the data, the data as
/// it was accepted, and [`SUFFIX`].
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    parts: [Bytes; 3],
    next: usize,
}

/// Appends what stands before the data. An event type needs no escapes (see [`crate::model::is_event_type`]).
pub(super) fn write_prefix(event: &NewEvent<'_>, out: &mut BytesMut) {
    // Writing into a buffer that grows cannot fail.
    let _ = write!(out, r#"{{"type":"{}","timestamp":"{}","data":"#, event.event_type, event.timestamp);
}

impl Envelope {
    /// A body of these parts; `prefix` comes from [`write_prefix`].
    pub(super) fn new(prefix: Bytes, data: Bytes) -> Self {
        Self { parts: [prefix, data, Bytes::from_static(SUFFIX)], next: 0 }
    }

    /// No body at all, as of a GET.
    pub(super) fn none() -> Self {
        let parts = <[Bytes; 3]>::default();
        Self { next: parts.len(), parts }
    }
}

impl Body for Envelope {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let next = self.next;
        let Some(part) = self.parts.get_mut(next).map(std::mem::take) else { return Poll::Ready(None) };
        self.next += 1;
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.parts.len()
    }

    fn size_hint(&self) -> SizeHint {
        // A part that was given is empty from then on.
        SizeHint::with_exact(self.parts.iter().map(|part| part.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn the_frames_are_the_body_and_share_the_data() {
        let data = Bytes::from_static(br#"{"a": [1, 2]}"#);
        let event = NewEvent {
            event_type: "order.created",
            timestamp: Timestamp::from_millis(1_711_015_200_120),
            ..NewEvent::default()
        };
        let mut prefix = BytesMut::new();
        write_prefix(&event, &mut prefix);
        let mut body = Envelope::new(prefix.freeze(), data.clone());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut whole = Vec::new();
        let length = body.size_hint().exact().unwrap();
        while !body.is_end_stream() {
            assert_eq!(body.size_hint().exact(), Some(length - whole.len() as u64));
            let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) else { panic!("a frame") };
            let frame = frame.into_data().unwrap();
            assert!(whole.len() < 20 || frame.as_ptr() == data.as_ptr() || frame == SUFFIX, "copied");
            whole.extend_from_slice(&frame);
        }
        assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(None)));
        assert_eq!(body.size_hint().exact(), Some(0));
        assert_eq!(whole.len() as u64, length);
        assert_eq!(
            String::from_utf8(whole).unwrap(),
            r#"{"type":"order.created","timestamp":"2024-03-21T10:00:00.120Z","data":{"a": [1, 2]}}"#
        );
    }
}
