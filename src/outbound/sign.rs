//! Signs deliveries and builds their requests: headers, signatures and body.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use smallvec::SmallVec;

use super::delivery_body::DeliveryBody;
use super::signed_delivery::SignedDelivery;
use crate::model::header as own;
use crate::model::{DeliveryId, NewEvent, Timestamp};
use crate::outbound::profile::{BodyTemplate, DeliveryValues, ProfileSigning, WebhookName};
use crate::outbound::{Event, Webhook};
use crate::signature::standard::{HEADER_PREFIX, ID_HEADER, SIGNATURE_HEADER, StandardMessage, TIMESTAMP_HEADER};
use crate::signature::{self, OutboundKey, OutboundScheme, SigningKey, SigningKind, UnsignedDelivery};

const ID: HeaderName = HeaderName::from_static(ID_HEADER);
const TIMESTAMP: HeaderName = HeaderName::from_static(TIMESTAMP_HEADER);
const SIGNATURE: HeaderName = HeaderName::from_static(SIGNATURE_HEADER);

/// The `User-Agent` of every request that Hooktide sends.
pub const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("Hooktide/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static(own::JSON);
/// The value for an event that passed through no gateway before, which is most events.
const FIRST_HOP: HeaderValue = HeaderValue::from_static("1");

/// The bytes that the texts of most deliveries need.
const TEXT_BYTES: usize = 512;
/// The bytes allocated at once, for the texts of several deliveries.
const SCRATCH_BYTES: usize = 8 * TEXT_BYTES;

/// Whether a header name is reserved, so that a webhook cannot set the header: a header of the server, or the header of
/// a signature, which other text must not imitate. The code that accepts headers and the code that sends headers use
/// this one list.
pub fn is_reserved_header(name: &HeaderName) -> bool {
    is_server_header(name) || has_signature_name(name)
}

/// Whether a name is a signature header of a scheme, such as `X-Hub-Signature`.
pub fn is_signature_header(name: &HeaderName) -> bool {
    !is_server_header(name) && has_signature_name(name)
}

fn has_signature_name(name: &HeaderName) -> bool {
    name.as_str().ends_with("-signature")
}

/// Whether a header belongs to the server: headers that frame the message or belong to the connection (RFC 9110 section
/// 7.6.1), headers about the receiver, the sender, the encoding and the route, and the signature headers of standards.
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
    // All headers of the Standard Webhooks specification, present and future, begin with `webhook-`.
    const PREFIXES: [&str; 4] = ["content-", "proxy-", HEADER_PREFIX, "x-forwarded-"];
    let name = name.as_str();
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Signs deliveries. All texts of a delivery are written to one buffer, which is reused.
#[derive(Debug, Default)]
pub struct DeliverySigner {
    scratch: BytesMut,
}

/// The previous keys of a webhook. Most webhooks have none.
type PreviousKeys<'a> = SmallVec<[&'a SigningKey; 2]>;

/// Standard Webhooks has three headers.
pub(super) type OwnHeaders = SmallVec<[(HeaderName, HeaderValue); 3]>;

/// Why a delivery cannot be signed. Nothing is sent.
#[derive(Debug, thiserror::Error)]
pub enum DeliverySignError {
    /// The profile is no longer configured.
    #[error("the profile {0:?} of this webhook is not configured")]
    ProfileNotConfigured(Box<str>),
    /// The profile cannot use the secret, because the profile changed.
    #[error("the secret of this webhook cannot sign: {0}")]
    UnusableSecret(Box<str>),
    /// Something that the scheme of the profile signs is missing.
    #[error("the delivery cannot be signed: {0}")]
    Scheme(#[from] signature::SignError),
    /// A text cannot be the value of a header.
    #[error("the delivery cannot be signed: {0}")]
    Header(#[from] InvalidHeaderValue),
}

/// The ranges of the texts of a delivery in the scratch buffer.
struct Texts {
    id: Range<usize>,
    timestamp: Range<usize>,
    prefix: Range<usize>,
    suffix: Range<usize>,
    correlation_id: Range<usize>,
    traceparent: Range<usize>,
    /// The signature of Standard Webhooks, written last.
    signature: Range<usize>,
}

impl DeliverySigner {
    /// Signs an event for a webhook as the profile of the webhook requires, with each secret that is valid at `now`, a
    /// time of the wall clock.
    ///
    /// # Errors
    /// [`DeliverySignError`] if the profile is not configured, cannot use the current secret, or something to be signed
    /// is missing or invalid.
    pub fn sign(
        &mut self,
        webhook: &Webhook,
        event: &Event,
        attempt: u16,
        now: Timestamp,
    ) -> Result<SignedDelivery, DeliverySignError> {
        let head = event.head();
        let values = values(webhook, event, &head.event, attempt, now);
        let profile = &*webhook.profile;
        let (current, previous) = keys(webhook, now)?;
        let out = &mut self.scratch;
        // A delivery that could not be signed may have left text behind.
        out.clear();
        if out.capacity() < TEXT_BYTES {
            // Reclaims the buffer of finished deliveries, or allocates a new buffer.
            out.reserve(SCRATCH_BYTES);
        }
        let (data, constant) = payload(profile.body(), event);
        let mut texts = write(&values, webhook, out);
        let suffix = constant.unwrap_or(&out[texts.suffix.clone()]);
        let body = [&out[texts.prefix.clone()], &data[..], suffix];
        let mut headers = OwnHeaders::new();
        match profile.signing() {
            ProfileSigning::Standard => {
                let message = StandardMessage {
                    id: &out[texts.id.clone()],
                    timestamp: &out[texts.timestamp.clone()],
                    body: &body,
                };
                let first = message.sign(current).ok_or_else(of_another_profile)?;
                let others: SmallVec<[_; 2]> = previous.iter().filter_map(|key| message.sign(key)).collect();
                let start = out.len();
                out.extend_from_slice(&first);
                for other in others {
                    out.extend_from_slice(b" ");
                    out.extend_from_slice(&other);
                }
                texts.signature = start..out.len();
                headers.extend(profile.headers(&values).map(|(name, value)| (name.clone(), value)));
            }
            ProfileSigning::Scheme(scheme) => {
                headers.extend(profile.headers(&values).map(|(name, value)| (name.clone(), value)));
                by_scheme(scheme, (current, &previous), webhook, &values, &body, &mut headers)?;
            }
            ProfileSigning::NotConfigured => {
                return Err(DeliverySignError::ProfileNotConfigured(profile.name().into()));
            }
        }
        let is_standard = matches!(profile.signing(), ProfileSigning::Standard);
        let content_type = content_type(profile.body(), &head.event);
        let event_type = webhook.endpoint.subject.as_ref().map(|_| HeaderValue::from_str(head.event.event_type));
        let hops = if head.event.hops == 0 { FIRST_HOP } else { (u16::from(head.event.hops) + 1).into() };

        let written = out.split().freeze();
        let value = |range| HeaderValue::from_maybe_shared(written.slice(range));
        // These values come from callers. A value that cannot be a header is left out.
        let given = |range: Range<usize>| if range.is_empty() { None } else { value(range).ok() };
        if is_standard {
            headers.push((ID, value(texts.id)?));
            headers.push((TIMESTAMP, value(texts.timestamp)?));
            headers.push((SIGNATURE, value(texts.signature)?));
        }
        let suffix = constant.map_or_else(|| written.slice(texts.suffix), Bytes::from_static);
        Ok(SignedDelivery {
            headers,
            content_type,
            correlation_id: given(texts.correlation_id),
            traceparent: given(texts.traceparent),
            hops,
            event_type: event_type.transpose()?,
            body: DeliveryBody::new(written.slice(texts.prefix), data, suffix),
        })
    }
}

/// The part of the body that comes from the event, and the constant suffix if there is one.
fn payload(body: &BodyTemplate, event: &Event) -> (Bytes, Option<&'static [u8]>) {
    match body {
        BodyTemplate::Raw => (event.raw(), Some(b"")),
        BodyTemplate::Object(object) if object.has_data() => (event.data(), object.constant_suffix()),
        BodyTemplate::Object(_) => (Bytes::new(), Some(b"")),
    }
}

/// The error for a key of another profile. The registry prepares keys for the profile of the webhook, but a delivery
/// verifies this again before it signs.
fn of_another_profile() -> DeliverySignError {
    DeliverySignError::UnusableSecret("it was read for another profile".into())
}

fn values<'a>(
    webhook: &'a Webhook,
    event: &Event,
    head: &'a NewEvent<'a>,
    attempt: u16,
    now: Timestamp,
) -> DeliveryValues<'a> {
    DeliveryValues {
        event: head,
        id: event.id,
        webhook: webhook.uid.as_deref().map_or(WebhookName::Id(webhook.id), WebhookName::Uid),
        delivery: DeliveryId { event: event.id, webhook: webhook.no },
        attempt,
        now,
    }
}

/// Writes all texts except the signature.
fn write(values: &DeliveryValues<'_>, webhook: &Webhook, out: &mut BytesMut) -> Texts {
    let object = match webhook.profile.body() {
        BodyTemplate::Raw => None,
        BodyTemplate::Object(object) => Some(object),
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

/// The current key and the previous keys that are valid, the newest first. A key that the profile cannot use is an error only if it is
/// the current key.
fn keys(webhook: &Webhook, now: Timestamp) -> Result<(&SigningKey, PreviousKeys<'_>), DeliverySignError> {
    if let SigningKind::Unusable(why) = &webhook.keys.current.kind {
        return Err(match webhook.profile.signing() {
            ProfileSigning::NotConfigured => DeliverySignError::ProfileNotConfigured(webhook.profile.name().into()),
            _ => DeliverySignError::UnusableSecret(why.clone()),
        });
    }
    let previous = webhook.keys.previous.iter().filter(|(_, until)| now < *until).map(|(key, _)| &**key);
    Ok((&webhook.keys.current, previous.collect()))
}

/// Signs by the scheme of the profile. `headers` already contains the headers to sign.
fn by_scheme(
    scheme: &OutboundScheme,
    (current, previous): (&SigningKey, &[&SigningKey]),
    webhook: &Webhook,
    values: &DeliveryValues<'_>,
    body: &[&[u8]],
    headers: &mut OwnHeaders,
) -> Result<(), DeliverySignError> {
    let current = of_scheme(current).ok_or_else(of_another_profile)?;
    let previous: SmallVec<[_; 2]> = previous.iter().filter_map(|key| of_scheme(key)).collect();
    let mut signed = HeaderMap::new();
    if scheme.signed_headers().next().is_some() {
        signed.extend(headers.iter().cloned());
    }
    let id = values.id.to_string();
    let message = UnsignedDelivery { url: &webhook.endpoint.url, headers: &signed, id: &id, time: values.now, body };
    scheme.sign(current, &previous, &message, |name, value| headers.push((name.clone(), value)))?;
    Ok(())
}

fn of_scheme(key: &SigningKey) -> Option<&OutboundKey> {
    if let SigningKind::Scheme(key) = &key.kind { Some(key) } else { None }
}

/// JSON, except for a body that is forwarded as received.
fn content_type(body: &BodyTemplate, event: &NewEvent<'_>) -> HeaderValue {
    let given = match (body, event.inbound) {
        (BodyTemplate::Raw, Some(inbound)) => inbound.content_type,
        _ => None,
    };
    given.and_then(|text| HeaderValue::from_str(text).ok()).unwrap_or(JSON)
}

/// Writes a text to `out` and returns its range.
fn text(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> std::fmt::Result) -> Range<usize> {
    let start = out.len();
    // Writing into a buffer that grows cannot fail.
    let _ = write(out);
    start..out.len()
}

/// A preview of a request: the headers and the size of the body.
#[derive(Debug, Clone)]
pub struct RequestPreview {
    /// All headers except `Content-Length`. Values that are secrets are marked as sensitive.
    pub headers: HeaderMap,
    /// The length of the body in bytes.
    pub body_len: usize,
}

/// Builds the preview of a signed delivery at the time `now`.
///
/// # Errors
/// The reason as text, if the delivery cannot be signed.
pub fn preview(
    webhook: &Arc<Webhook>,
    event: &Event,
    attempt: u16,
    now: Timestamp,
) -> Result<RequestPreview, Box<str>> {
    let signed = DeliverySigner::default().sign(webhook, event, attempt, now).map_err(|why| why.to_string())?;
    Ok(RequestPreview { headers: signed.headers(webhook, HeaderMap::new()), body_len: signed.body_len() })
}
