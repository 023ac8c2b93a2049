//! A signed delivery, and the request that it becomes.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};

use super::delivery_body::DeliveryBody;
use super::sign::{OwnHeaders, USER_AGENT, is_reserved_header};
use crate::model::header as own;
use crate::outbound::{EndpointAuth, Webhook};

const CORRELATION_ID: HeaderName = HeaderName::from_static(own::X_CORRELATION_ID);
const TRACEPARENT: HeaderName = HeaderName::from_static(own::TRACEPARENT);
const EVENT_TYPE: HeaderName = HeaderName::from_static(own::EVENT_TYPE);
const HOPS: HeaderName = HeaderName::from_static(own::HOPS);

/// The beginning of the names of headers that are commands to the broker of the event bus.
pub const BUS_HEADER_PREFIX: &str = "nats-";

/// A signed delivery, from which a request is built for each connection that is tried.
#[derive(Debug)]
pub struct SignedDelivery {
    /// The headers of the signature and the additional headers of the profile.
    pub(super) headers: OwnHeaders,
    pub(super) content_type: HeaderValue,
    pub(super) correlation_id: Option<HeaderValue>,
    pub(super) traceparent: Option<HeaderValue>,
    pub(super) hops: HeaderValue,
    /// The type of the event, for a message of the event bus. An HTTP request has its host and user agent instead.
    pub(super) event_type: Option<HeaderValue>,
    pub(super) body: DeliveryBody,
}

impl SignedDelivery {
    /// Builds the request. `headers` is an empty map, whose allocation is reused.
    pub fn request(&self, webhook: &Webhook, headers: HeaderMap) -> Request<DeliveryBody> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(webhook.endpoint.target.clone());
        *request.headers_mut() = self.headers(webhook, headers);
        request
    }

    /// The length of the body in bytes.
    pub fn body_len(&self) -> usize {
        self.body.total_bytes()
    }

    /// The body in one buffer.
    pub fn body_bytes(&self) -> Bytes {
        self.body.to_bytes()
    }

    /// Adds all headers to `headers`.
    pub fn headers(&self, webhook: &Webhook, mut headers: HeaderMap) -> HeaderMap {
        let profile = &webhook.profile;
        if let Some(event_type) = &self.event_type {
            headers.insert(EVENT_TYPE, event_type.clone());
        } else {
            headers.insert(header::HOST, webhook.endpoint.authority.clone());
            headers.insert(header::USER_AGENT, profile.user_agent().unwrap_or(&USER_AGENT).clone());
        }
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
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
            // These headers were refused when the webhook was created. A delivery checks again, because such a header
            // could change the framing or the signature.
            let is_command = self.event_type.is_some() && name.as_str().starts_with(BUS_HEADER_PREFIX);
            if !is_reserved_header(name) && !profile.sets_header(name) && !is_command {
                headers.insert(name.clone(), value.clone());
            }
        }
        headers
    }
}
