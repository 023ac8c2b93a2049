//! An attempt that keeps all there is to see of it, for whoever looks at it now.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::HeaderMap;

use super::Outcome;
use super::sign::Signed;
use crate::model::Webhook;

/// An attempt, whole.
#[derive(Debug)]
pub struct Probed {
    /// How it ended.
    pub outcome: Outcome,
    /// What was sent; `None`: nothing could be.
    pub request: Option<SentRequest>,
    /// The answer's headers.
    pub headers: HeaderMap,
    /// The answer's body, at most [`crate::limits::RESPONSE_BYTES_MAX`].
    pub body: Vec<u8>,
    /// Whether there was more of it.
    pub is_cut: bool,
}

/// A request as it goes to an endpoint. Values that are secrets are marked by
/// [`HeaderValue::is_sensitive`](hyper::http::HeaderValue::is_sensitive).
#[derive(Debug)]
pub struct SentRequest {
    /// Its headers, but for the body's length.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl SentRequest {
    /// The request that `signed` makes.
    pub(super) fn of(webhook: &Webhook, signed: &Signed) -> Self {
        let (head, body) = signed.request(webhook, HeaderMap::new()).into_parts();
        Self { headers: head.headers, body: whole(body) }
    }
}

impl From<Outcome> for Probed {
    /// Of a carrier that knows no more.
    fn from(outcome: Outcome) -> Self {
        let body = outcome.response.as_bytes().to_vec();
        Self { outcome, request: None, headers: HeaderMap::new(), body, is_cut: false }
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
