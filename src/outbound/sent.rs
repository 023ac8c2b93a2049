//! The request of an attempt, kept whole for whoever looks at a test delivery.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::HeaderMap;
use http_body::Body;

use super::{Signed, Webhook};

/// A request as it goes to an endpoint. Values that are secrets are marked by
/// [`HeaderValue::is_sensitive`](http::HeaderValue::is_sensitive).
#[derive(Debug)]
pub struct SentRequest {
    /// Its headers, but for the body's length.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl SentRequest {
    /// The request that `signed` makes.
    pub fn of(webhook: &Webhook, signed: &Signed) -> Self {
        let (head, body) = signed.request(webhook, HeaderMap::new()).into_parts();
        Self { headers: head.headers, body: whole(body) }
    }
}

/// All frames of a body that is in memory, which waits for nothing.
fn whole(body: impl Body<Data = Bytes, Error = Infallible>) -> Vec<u8> {
    let mut body = pin!(body);
    let mut cx = Context::from_waker(Waker::noop());
    let mut bytes = Vec::new();
    while let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut cx) {
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    bytes
}
