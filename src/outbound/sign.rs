//! The request of a delivery: its headers, its signatures, its body.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use http::{Method, Request, Uri};
use smallvec::SmallVec;

use super::envelope::Envelope;
use crate::model::header as own;
use crate::model::{DeliveryId, NewEvent, Timestamp};
use crate::outbound::profile::{Body, Signing, Values, WebhookName};
use crate::outbound::{EndpointAuth, Event, Webhook};
use crate::signature::standard::{HEADER_PREFIX, ID_HEADER, Message, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use crate::signature::{self, Outbound, OutboundKey, SigningKey, SigningKind, ToSign};

const ID: HeaderName = HeaderName::from_static(ID_HEADER);
const TIMESTAMP: HeaderName = HeaderName::from_static(TIMESTAMP_HEADER);
const SIGNATURE: HeaderName = HeaderName::from_static(SIGNATURE_HEADER);
const CORRELATION_ID: HeaderName = HeaderName::from_static(own::X_CORRELATION_ID);
const TRACEPARENT: HeaderName = HeaderName::from_static(own::TRACEPARENT);

const HOPS: HeaderName = HeaderName::from_static(own::HOPS);

/// The `User-Agent` of every request that the gateway makes.
pub const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("Hooktide/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static(own::JSON);
/// Of most events this is the first.
const FIRST_HOP: HeaderValue = HeaderValue::from_static("1");

/// What the texts of a delivery take, seldom more.
const TEXT_BYTES: usize = 512;
/// Bytes made ready at once, for the texts of several deliveries.
const SCRATCH_BYTES: usize = 8 * TEXT_BYTES;

/// Whether a webhook's own headers may not have this name: one that is the server's, or a signature's, so that nobody's text
/// passes for one. The one list, for whoever takes headers and for whoever sends them.
pub fn is_reserved_header(name: &HeaderName) -> bool {
    is_server_header(name) || has_signature_name(name)
}

/// Whether a name is that of a scheme's signature, such as `X-Hub-Signature`.
pub fn is_signature_header(name: &HeaderName) -> bool {
    !is_server_header(name) && has_signature_name(name)
}

fn has_signature_name(name: &HeaderName) -> bool {
    name.as_str().ends_with("-signature")
}

/// What frames the message or is the connection's (RFC 9110 section 7.6.1), what says for whom it is and from whom, how it is
/// encoded and which way it came, and the signatures of the standards.
fn is_server_header(name: &HeaderName) -> bool {
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
        own::TRACEPARENT,
        "tracestate",
        own::X_CORRELATION_ID,
        "forwarded",
        "via",
    ];
    // All of the Standard Webhooks specification's own headers, of today and of tomorrow, begin with `webhook-`.
    const PREFIXES: [&str; 4] = ["content-", "proxy-", HEADER_PREFIX, "x-forwarded-"];
    let name = name.as_str();
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Signs deliveries; keeps a buffer that all texts of a delivery go into.
#[derive(Debug, Default)]
pub struct Signer {
    scratch: BytesMut,
}

/// What a delivery has of its own, signed; makes the request for each connection that is tried.
#[derive(Debug)]
pub struct Signed {
    /// Those of the signature, and the profile's own.
    headers: OwnHeaders,
    content_type: HeaderValue,
    correlation_id: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
    hops: HeaderValue,
    body: Envelope,
}

/// Standard Webhooks has three.
type OwnHeaders = SmallVec<[(HeaderName, HeaderValue); 3]>;

/// Why a delivery cannot be signed; nothing is sent.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The profile is not configured any more.
    #[error("the profile {0:?} of this webhook is not configured")]
    Unknown(Box<str>),
    /// The profile changed, and the secret does not fit it.
    #[error("the secret of this webhook cannot sign: {0}")]
    Unfit(Box<str>),
    /// What the profile's scheme signs is not there.
    #[error("the delivery cannot be signed: {0}")]
    Scheme(#[from] signature::SignError),
    /// A text that cannot stand in a header.
    #[error("the delivery cannot be signed: {0}")]
    Header(#[from] InvalidHeaderValue),
}

/// The texts of a delivery within the scratch buffer.
struct Texts {
    id: Range<usize>,
    timestamp: Range<usize>,
    prefix: Range<usize>,
    suffix: Range<usize>,
    correlation_id: Range<usize>,
    traceparent: Range<usize>,
    /// Of Standard Webhooks; written last.
    signature: Range<usize>,
}

impl Signer {
    /// Signs an event for a webhook in the form of its profile, with each secret in force at `now`, a time of the wall clock.
    pub fn sign(
        &mut self,
        webhook: &Webhook,
        event: &Event,
        attempt: u16,
        now: Timestamp,
    ) -> Result<Signed, SignError> {
        let head = event.head();
        let values = values(webhook, event, &head.event, attempt, now);
        let profile = &*webhook.profile;
        let (current, previous) = keys(webhook, now)?;
        let out = &mut self.scratch;
        // What a delivery that could not be signed left behind.
        out.clear();
        if out.capacity() < TEXT_BYTES {
            // Takes the buffer of deliveries that are done, or a new one.
            out.reserve(SCRATCH_BYTES);
        }
        let (data, constant) = payload(profile.body(), event);
        let mut texts = write(&values, webhook, out);
        let suffix = constant.unwrap_or(&out[texts.suffix.clone()]);
        let body = [&out[texts.prefix.clone()], &data[..], suffix];
        let mut headers = OwnHeaders::new();
        match profile.signing() {
            Signing::Standard => {
                let message =
                    Message { id: &out[texts.id.clone()], timestamp: &out[texts.timestamp.clone()], body: &body };
                let first = message.sign(current).ok_or_else(of_another_profile)?;
                let second = previous.and_then(|key| message.sign(key));
                let start = out.len();
                out.extend_from_slice(&first);
                if let Some(second) = second {
                    out.extend_from_slice(b" ");
                    out.extend_from_slice(&second);
                }
                texts.signature = start..out.len();
                headers.extend(profile.headers(&values).map(|(name, value)| (name.clone(), value)));
            }
            Signing::Scheme(scheme) => {
                headers.extend(profile.headers(&values).map(|(name, value)| (name.clone(), value)));
                by_scheme(scheme, (current, previous), webhook, &values, &body, &mut headers)?;
            }
            Signing::Unknown => return Err(SignError::Unknown(profile.name().into())),
        }
        let is_standard = matches!(profile.signing(), Signing::Standard);
        let content_type = content_type(profile.body(), &head.event);
        let hops = if head.event.hops == 0 { FIRST_HOP } else { (u16::from(head.event.hops) + 1).into() };

        let written = out.split().freeze();
        let value = |range| HeaderValue::from_maybe_shared(written.slice(range));
        // Of a caller's making: what cannot stand in a header is left out.
        let given = |range: Range<usize>| if range.is_empty() { None } else { value(range).ok() };
        if is_standard {
            headers.push((ID, value(texts.id)?));
            headers.push((TIMESTAMP, value(texts.timestamp)?));
            headers.push((SIGNATURE, value(texts.signature)?));
        }
        let suffix = constant.map_or_else(|| written.slice(texts.suffix), Bytes::from_static);
        Ok(Signed {
            headers,
            content_type,
            correlation_id: given(texts.correlation_id),
            traceparent: given(texts.traceparent),
            hops,
            body: Envelope::new(written.slice(texts.prefix), data, suffix),
        })
    }
}

/// The event's part of the body, and what follows it if that need not be written.
fn payload(body: &Body, event: &Event) -> (Bytes, Option<&'static [u8]>) {
    match body {
        Body::Raw => (event.raw(), Some(b"")),
        Body::Object(object) if object.has_data() => (event.data(), object.constant_suffix()),
        Body::Object(_) => (Bytes::new(), Some(b"")),
    }
}

/// The registry reads secrets for the profile that a webhook has; a delivery does not trust that with its signature.
fn of_another_profile() -> SignError {
    SignError::Unfit("it was read for another profile".into())
}

fn values<'a>(webhook: &'a Webhook, event: &Event, head: &'a NewEvent<'a>, attempt: u16, now: Timestamp) -> Values<'a> {
    Values {
        event: head,
        id: event.id,
        webhook: webhook.uid.as_deref().map_or(WebhookName::Ours(webhook.id), WebhookName::Own),
        delivery: DeliveryId { event: event.id, webhook: webhook.no },
        attempt,
        now,
    }
}

/// Writes everything but the signature.
fn write(values: &Values<'_>, webhook: &Webhook, out: &mut BytesMut) -> Texts {
    let object = match webhook.profile.body() {
        Body::Raw => None,
        Body::Object(object) => Some(object),
    };
    Texts {
        id: text(out, |out| write!(out, "{}", values.id)),
        timestamp: text(out, |out| write!(out, "{}", values.now.as_secs())),
        prefix: text(out, |out| {
            if let Some(object) = object {
                object.write_prefix(values, out);
            }
            Ok(())
        }),
        suffix: text(out, |out| {
            if let Some(object) = object.filter(|object| object.constant_suffix().is_none()) {
                object.write_suffix(values, out);
            }
            Ok(())
        }),
        correlation_id: text(out, |out| out.write_str(values.event.correlation_id)),
        traceparent: text(out, |out| out.write_str(values.event.traceparent.unwrap_or_default())),
        signature: 0..0,
    }
}

/// The keys in force. One that the profile cannot use is an error only if it is the current one: the other signs beside.
fn keys(webhook: &Webhook, now: Timestamp) -> Result<(&SigningKey, Option<&SigningKey>), SignError> {
    if let SigningKind::Unfit(why) = &webhook.keys.current.kind {
        return Err(match webhook.profile.signing() {
            Signing::Unknown => SignError::Unknown(webhook.profile.name().into()),
            _ => SignError::Unfit(why.clone()),
        });
    }
    let previous = webhook.keys.previous.as_ref().filter(|(_, until)| now < *until).map(|(key, _)| &**key);
    Ok((&webhook.keys.current, previous))
}

/// Signs by a scheme of the profile's own; `headers` has what it signs.
fn by_scheme(
    scheme: &Outbound,
    (current, previous): (&SigningKey, Option<&SigningKey>),
    webhook: &Webhook,
    values: &Values<'_>,
    body: &[&[u8]],
    headers: &mut OwnHeaders,
) -> Result<(), SignError> {
    let current = of_scheme(current).ok_or_else(of_another_profile)?;
    let previous = previous.and_then(of_scheme);
    let mut signed = HeaderMap::new();
    if scheme.signed_headers().next().is_some() {
        signed.extend(headers.iter().cloned());
    }
    let id = values.id.to_string();
    let message = ToSign { url: &webhook.endpoint.url, headers: &signed, id: &id, time: values.now, body };
    scheme.sign(current, previous, &message, |name, value| headers.push((name.clone(), value)))?;
    Ok(())
}

fn of_scheme(key: &SigningKey) -> Option<&OutboundKey> {
    if let SigningKind::Scheme(key) = &key.kind { Some(key) } else { None }
}

/// JSON, but for a body that goes on as it came.
fn content_type(body: &Body, event: &NewEvent<'_>) -> HeaderValue {
    let given = match (body, event.inbound) {
        (Body::Raw, Some(inbound)) => inbound.content_type,
        _ => None,
    };
    given.and_then(|text| HeaderValue::from_str(text).ok()).unwrap_or(JSON)
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
    pub fn request(&self, webhook: &Webhook, headers: HeaderMap) -> Request<Envelope> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(webhook.endpoint.target.clone());
        *request.headers_mut() = self.headers(webhook, headers);
        request
    }

    /// Bytes of the body.
    pub fn body_len(&self) -> usize {
        self.body.len()
    }

    /// All headers, in `headers`.
    pub fn headers(&self, webhook: &Webhook, mut headers: HeaderMap) -> HeaderMap {
        let profile = &webhook.profile;
        headers.insert(header::HOST, webhook.endpoint.authority.clone());
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        headers.insert(header::USER_AGENT, profile.user_agent().unwrap_or(&USER_AGENT).clone());
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        headers.insert(HOPS, self.hops.clone());
        if let Some(id) = &self.correlation_id {
            headers.insert(CORRELATION_ID, id.clone());
        }
        if let Some(traceparent) = &self.traceparent {
            headers.insert(TRACEPARENT, traceparent.clone());
        }
        let auth = webhook.auth.as_deref().map(EndpointAuth::header);
        for (name, value) in webhook.headers.iter().map(|(name, value)| (name, value)).chain(auth) {
            // Whoever took the webhook in refused these; a delivery never trusts that with its framing and signature.
            if !is_reserved_header(name) && !profile.sets(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
        headers
    }
}

/// A request as it would be sent now.
#[derive(Debug, Clone)]
pub struct Preview {
    /// All headers but the body's length; those that hold secrets are marked as sensitive.
    pub headers: HeaderMap,
    /// Bytes of the body.
    pub body_len: usize,
}

/// What a delivery would be if it were sent at `now`, signed; or why it cannot be.
///
/// # Errors
/// In words, if it cannot be signed.
pub fn preview(webhook: &Arc<Webhook>, event: &Event, attempt: u16, now: Timestamp) -> Result<Preview, Box<str>> {
    let signed = Signer::default().sign(webhook, event, attempt, now).map_err(|why| why.to_string())?;
    Ok(Preview { headers: signed.headers(webhook, HeaderMap::new()), body_len: signed.body_len() })
}
