//! The HTTP body of a delivery. The envelope is written around the data of the event, so the data is never parsed,
//! joined or copied.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// An HTTP body of up to three frames: the text before the data, the data as accepted, and the text after the data.
#[derive(Debug, Clone)]
pub struct DeliveryBody {
    parts: [Bytes; 3],
    next: usize,
}

impl DeliveryBody {
    /// Creates a body from its parts.
    pub fn new(prefix: Bytes, data: Bytes, suffix: Bytes) -> Self {
        Self { parts: [prefix, data, suffix], next: 0 }
    }

    /// The length of all remaining parts in bytes.
    pub fn total_bytes(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// All remaining parts in one buffer. A single part is not copied.
    pub fn to_bytes(&self) -> Bytes {
        let mut parts = self.parts.iter().skip(self.next).filter(|part| !part.is_empty());
        match (parts.next(), parts.next()) {
            (None, _) => Bytes::new(),
            (Some(only), None) => only.clone(),
            (Some(_), Some(_)) => self.parts[self.next..].concat().into(),
        }
    }

    /// An absent body, as in a GET request.
    pub fn none() -> Self {
        let parts = <[Bytes; 3]>::default();
        Self { next: parts.len(), parts }
    }
}

impl Body for DeliveryBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        loop {
            let next = self.next;
            let Some(part) = self.parts.get_mut(next).map(std::mem::take) else { return Poll::Ready(None) };
            self.next += 1;
            // HTTP bodies do not send empty frames.
            if !part.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.iter().skip(self.next).all(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        // `poll_frame` leaves an empty part behind.
        SizeHint::with_exact(self.total_bytes() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_body_has_ended() {
        let body = DeliveryBody::new(Bytes::new(), Bytes::new(), Bytes::new());
        assert!(body.is_end_stream() && body.size_hint().exact() == Some(0));
    }

    #[test]
    fn the_frames_are_the_body_and_share_the_data() {
        let data = Bytes::from_static(br#"{"a": [1, 2]}"#);
        for (prefix, suffix) in [(&br#"{"data":"#[..], &b"}"[..]), (b"", b""), (b"{", b""), (b"", b"}")] {
            let mut body = DeliveryBody::new(Bytes::from_static(prefix), data.clone(), Bytes::from_static(suffix));
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut whole = Vec::new();
            let length = body.size_hint().exact().unwrap();
            assert_eq!(length, body.total_bytes() as u64);
            assert_eq!(body.to_bytes(), [prefix, &data, suffix].concat());
            while !body.is_end_stream() {
                assert_eq!(body.size_hint().exact(), Some(length - whole.len() as u64));
                let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) else { panic!("a frame") };
                let frame = frame.into_data().unwrap();
                if whole.len() == prefix.len() {
                    assert_eq!(frame.as_ptr(), data.as_ptr(), "copied");
                }
                whole.extend_from_slice(&frame);
            }
            assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(None)));
            assert_eq!(body.size_hint().exact(), Some(0));
            assert_eq!(whole.len() as u64, length);
            assert_eq!(whole, [prefix, &data, suffix].concat());
        }
    }
}
