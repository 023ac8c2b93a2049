//! The complete request of an attempt, for the result of a test delivery.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::HeaderMap;
use http_body::Body;

use super::{SignedDelivery, Webhook};

/// A request as sent to an endpoint. [`HeaderValue::is_sensitive`](http::HeaderValue::is_sensitive) is true for values
/// that are secrets.
#[derive(Debug)]
pub struct SentRequest {
    /// The headers, without `Content-Length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl SentRequest {
    /// Builds the request of a signed delivery.
    pub fn of(webhook: &Webhook, signed: &SignedDelivery) -> Self {
        let (head, body) = signed.request(webhook, HeaderMap::new()).into_parts();
        Self { headers: head.headers, body: read_all(body) }
    }
}

/// Reads all frames of a body that is in memory and so never waits.
fn read_all(body: impl Body<Data = Bytes, Error = Infallible>) -> Vec<u8> {
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
