//! The request of a delivery: its headers, its signatures, its body.

use std::fmt::Write;
use std::ops::Range;

use bytes::BytesMut;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use hyper::{Method, Request, Uri};

use super::envelope::{self, Envelope};
use crate::model::{Event, Timestamp, Webhook};
use crate::signature::standard::{ID_HEADER, Message, SIGNATURE_HEADER, TIMESTAMP_HEADER};

const ID: HeaderName = HeaderName::from_static(ID_HEADER);
const TIMESTAMP: HeaderName = HeaderName::from_static(TIMESTAMP_HEADER);
const SIGNATURE: HeaderName = HeaderName::from_static(SIGNATURE_HEADER);
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Counts how often an event has passed through a gateway, by which a loop over several of them is found.
pub const HOPS: HeaderName = HeaderName::from_static("webhook-hops");

pub(super) const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("Hooktide/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Of most events this is the first.
const FIRST_HOP: HeaderValue = HeaderValue::from_static("1");

/// What the texts of a delivery take, seldom more.
const TEXT_BYTES: usize = 512;
/// Bytes made ready at once, for the texts of several deliveries.
const SCRATCH_BYTES: usize = 8 * TEXT_BYTES;

/// Whether a webhook's own headers may not have this name: what frames the message or is the connection's (RFC 9110 section
/// 7.6.1), what says for whom it is and from whom, how it is encoded and which way it came, and signatures. The one list, for
/// whoever takes headers and for whoever sends them.
pub fn is_reserved_header(name: &HeaderName) -> bool {
    const NAMES: [&str; 18] = [
        "host",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "expect",
        "date",
        "accept-encoding",
        "signature",
        "signature-input",
        "traceparent",
        "tracestate",
        "x-correlation-id",
        "forwarded",
        "via",
    ];
    // All of the Standard Webhooks specification's own headers, of today and of tomorrow, begin with `webhook-`.
    const PREFIXES: [&str; 4] = ["content-", "proxy-", "webhook-", "x-forwarded-"];
    let name = name.as_str();
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || name.ends_with("-signature")
}

/// Signs deliveries; keeps a buffer that all texts of a delivery go into.
#[derive(Debug, Default)]
pub(super) struct Signer {
    scratch: BytesMut,
}

/// What a delivery has of its own, signed; makes the request for each connection that is tried.
#[derive(Debug)]
pub(super) struct Signed {
    id: HeaderValue,
    timestamp: HeaderValue,
    signature: HeaderValue,
    correlation_id: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
    hops: HeaderValue,
    body: Envelope,
}

impl Signer {
    /// Signs an event for a webhook with each secret in force at `now`, a time of the wall clock.
    pub(super) fn sign(
        &mut self,
        webhook: &Webhook,
        event: &Event,
        now: Timestamp,
    ) -> Result<Signed, InvalidHeaderValue> {
        let head = event.head().event;
        let out = &mut self.scratch;
        if out.capacity() < TEXT_BYTES {
            // Takes the buffer of deliveries that are done, or a new one.
            out.reserve(SCRATCH_BYTES);
        }
        let id = text(out, |out| write!(out, "{}", event.id));
        let timestamp = text(out, |out| write!(out, "{}", now.as_secs()));
        let prefix = text(out, |out| {
            envelope::write_prefix(&head, out);
            Ok(())
        });
        let correlation_id = text(out, |out| out.write_str(head.correlation_id));
        let traceparent = text(out, |out| out.write_str(head.traceparent.unwrap_or_default()));

        let data = event.data();
        let message = Message {
            id: &out[id.clone()],
            timestamp: &out[timestamp.clone()],
            body: &[&out[prefix.clone()], &data, envelope::SUFFIX],
        };
        let current = message.sign(&webhook.keys.current);
        let previous = webhook.keys.previous.as_ref().filter(|(_, until)| now < *until);
        let previous = previous.map(|(key, _)| message.sign(key));
        let start = out.len();
        out.extend_from_slice(&current);
        if let Some(previous) = previous {
            out.extend_from_slice(b" ");
            out.extend_from_slice(&previous);
        }
        let signature = start..out.len();

        let texts = out.split().freeze();
        let value = |range| HeaderValue::from_maybe_shared(texts.slice(range));
        // Of a caller's making: what cannot stand in a header is left out.
        let given = |range: Range<usize>| if range.is_empty() { None } else { value(range).ok() };
        Ok(Signed {
            id: value(id)?,
            timestamp: value(timestamp)?,
            signature: value(signature)?,
            correlation_id: given(correlation_id),
            traceparent: given(traceparent),
            hops: if head.hops == 0 { FIRST_HOP } else { (u16::from(head.hops) + 1).into() },
            body: Envelope::new(texts.slice(prefix), data),
        })
    }
}

/// Where in `out` a text was written.
fn text(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> std::fmt::Result) -> Range<usize> {
    let start = out.len();
    // Writing into a buffer that grows cannot fail.
    let _ = write(out);
    start..out.len()
}

impl Signed {
    /// The request, with headers in `headers`, a map that is empty but has been used before.
    pub(super) fn request(&self, webhook: &Webhook, mut headers: HeaderMap) -> Request<Envelope> {
        headers.insert(header::HOST, webhook.endpoint.authority.clone());
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(ID, self.id.clone());
        headers.insert(TIMESTAMP, self.timestamp.clone());
        headers.insert(SIGNATURE, self.signature.clone());
        headers.insert(HOPS, self.hops.clone());
        if let Some(id) = &self.correlation_id {
            headers.insert(CORRELATION_ID, id.clone());
        }
        if let Some(traceparent) = &self.traceparent {
            headers.insert(TRACEPARENT, traceparent.clone());
        }
        for (name, value) in &webhook.headers {
            // Whoever took the webhook in refused these; a delivery never trusts that with its framing and signature.
            if !is_reserved_header(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(webhook.endpoint.target.clone());
        *request.headers_mut() = headers;
        request
    }
}

/// A request as it would be sent.
#[derive(Debug)]
pub struct RebuiltRequest {
    /// Its headers.
    pub headers: HeaderMap,
    /// The length of its body.
    pub body_bytes: u64,
}

/// The request that an event makes for a webhook at this time of the wall clock, for people to look at; `None` if it cannot
/// be signed.
pub fn rebuilt_request(webhook: &Webhook, event: &Event, at: Timestamp) -> Option<RebuiltRequest> {
    let signed = Signer::default().sign(webhook, event, at).ok()?;
    let (parts, body) = signed.request(webhook, HeaderMap::new()).into_parts();
    let body_bytes = hyper::body::Body::size_hint(&body).exact()?;
    Some(RebuiltRequest { headers: parts.headers, body_bytes })
}
