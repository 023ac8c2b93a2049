//! Requests of sources: providers below `/api/v1/webhooks/`, partners below `/webhook/v1/`.
//!
//! The checks run in this order: the source, its status, path and method, its rate limit, media type and size of the body, the body, an
//! unsigned handshake, the signature, a signed handshake, the event, the commit. [`crate::inbound::source`] decides what
//! a request means. This module reads the request, responds and counts the outcome. [`super::refusal`] lists refused
//! requests in the rejections of the source.
//!
//! An unauthenticated sender learns nothing: an unknown token, an inactive token and a wrong signature get the same response
//! and cost the same work.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;

use super::event_type;
use super::publish::{refused, unavailable};
use super::refusal::{InboundRefusal, bad_signature, call_failed, unknown_source, unknown_token};
use super::worker::{Exchange, Worker};
use super::{Admit, Management, RegistryReader, reply};
use crate::handoff::ReplyRouter;
use crate::http::incoming::BodyLimits;
use crate::http::request::{MediaType, RequestHead, unsupported};
use crate::http::{Body, BodyOwner, Problem, ProblemCode, Response, Verb, Verbs, catch_panic};
use crate::inbound::provider::{HandshakeEffect, HandshakeResponse};
use crate::inbound::source::{ContentKind, EventData, InboundEvent, Source, SourceStatus, dummy_mac, kept_headers};
use crate::ingest::{EventDraft, EventOrigin, IngestResult, Submit};
use crate::limits::TOPIC_BYTES_MAX;
use crate::model::{InboundInfo, Timestamp, header};
use crate::signature::{RequestParts, is_multipart};

/// A request of a source, without its body.
#[derive(Clone, Copy)]
pub(super) struct InboundRequest<'a> {
    pub(super) head: &'a RequestHead<'a>,
    pub(super) parts: &'a Parts,
    /// The request id.
    pub(super) id: &'a HeaderValue,
    /// The path after the source, without the leading slash.
    pub(super) path: &'a str,
    /// Whether the path has the token of a partner.
    pub(super) has_token: bool,
}

/// The outcome of a request, for the metric `hooktide_inbound_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InboundOutcome {
    Accepted,
    Duplicate,
    Handshake,
}

impl<D: RegistryReader, S: Submit, M: Management> Worker<D, S, M> {
    /// Handles a request of a partner, which the token identifies.
    pub(super) async fn partner(
        &self,
        exchange: &mut Exchange<'_>,
        inbound: InboundRequest<'_>,
        token: &str,
    ) -> Result<Response, Problem> {
        if let Some(source) = self.admit.registry.source_by_token(token) {
            return self.receive(exchange, inbound, &source).await;
        }
        self.check_partner_head(inbound)?;
        exchange.discard_body().await;
        Err(unknown_token())
    }

    /// Handles a request of a known source. Every refused request is counted and listed.
    pub(super) async fn receive(
        &self,
        exchange: &mut Exchange<'_>,
        inbound: InboundRequest<'_>,
        source: &Arc<Source>,
    ) -> Result<Response, Problem> {
        let mut body = Bytes::new();
        // A panic is caught here too, because the request that caused it is a refused request of the source.
        let received = catch_panic(pin!(self.process(exchange, inbound, source, &mut body))).await;
        let (response, outcome) = match received.map_err(InboundRefusal::from).flatten() {
            Ok(received) => received,
            Err(refusal) => return Err(self.refused(inbound, source, refusal, &body)),
        };
        let result = match outcome {
            InboundOutcome::Accepted => "accepted",
            InboundOutcome::Duplicate => "duplicate",
            InboundOutcome::Handshake if response.status().is_client_error() => {
                // The provider expects a certain status for a failed handshake.
                let refusal = bad_signature(source, "a handshake whose token or signature is not the configured one");
                self.list(inbound, source, &refusal, response.status(), &body);
                "bad_signature"
            }
            InboundOutcome::Handshake => "handshake",
        };
        self.inbound.inc(&source.name, result);
        Ok(response)
    }

    async fn process(
        &self,
        exchange: &mut Exchange<'_>,
        inbound: InboundRequest<'_>,
        source: &Arc<Source>,
        received_body: &mut Bytes,
    ) -> Result<(Response, InboundOutcome), InboundRefusal> {
        let admit = &*self.admit;
        self.check_address(exchange, inbound, source).await?;
        let content = self.check_before_body(inbound, source)?;
        let now = admit.clock.now();
        let mut request = RequestParts {
            method: inbound.parts.method.as_str(),
            url: &source.url,
            query: inbound.parts.uri.query(),
            path: inbound.path,
            headers: &inbound.parts.headers,
            body: &[],
        };
        let is_verified = self.verify_head(exchange, source, &request, content).await?;
        // The token of a partner is checked already. Sources that sign bodies prove who they are by their bodies only.
        let is_known = is_verified || source.is_partner();
        let owner = if is_known { BodyOwner::Tenant(Some(&source.tenant)) } else { exchange.peer() };
        let mut body = exchange.body(BodyLimits::fixed(source.max_body_bytes), owner, admit).await?;
        exchange.complete_at = Some(admit.clock.instant());
        *received_body = body.bytes.clone();
        let bytes = &*received_body;
        request.body = bytes;

        if let Some(answer) = source.handshake(&request, false, now) {
            return self.answer_handshake(source, answer).await;
        }
        if !source.recipe.methods.contains(&inbound.parts.method) {
            dummy_mac(bytes);
            let reason = format!("a {} that is no handshake of this source's", inbound.parts.method);
            return Err(bad_signature(source, &reason));
        }
        if !source.accepts(content) {
            return Err(unsupported(wrong_media_type(inbound.head.content_type())).into());
        }
        if !is_verified {
            self.verify_inbound(source, &request).await?;
            body.verified();
        }
        if let Some(answer) = source.handshake(&request, true, now) {
            return self.answer_handshake(source, answer).await;
        }

        let hops = inbound.head.hops()?;
        let key = if source.is_partner() { inbound.head.idempotency_key()? } else { None };
        let json_in_form = source.json_in_form(&request, content);
        let intake = source.intake(&request, content, json_in_form.as_deref(), key)?;
        // What was built from the body needs room of its own until the event is committed.
        let form_bytes = json_in_form.as_ref().map_or(0, |json| json.len());
        let _built = admit.bodies.reserve(intake.built_bytes() + form_bytes)?;
        self.check_rules(source, &body.bytes, now).await?;
        event_type::check_source_event(admit, source, &intake, &body.bytes).await?;
        if let Some(error) = &intake.map_error {
            admit.metrics.map_failures.with_label_values(&[&*source.name]).inc();
            let request_id = inbound.id.to_str().unwrap_or_default();
            tracing::warn!(request_id, source = &*source.name, %error, "an event map could not be applied");
        }
        match admit.submit_inbound(inbound, source, &intake, hops, bytes, Some(&self.reply_router)).await {
            IngestResult::Accepted { committed, .. } => {
                let outcome =
                    if committed.is_duplicate() { InboundOutcome::Duplicate } else { InboundOutcome::Accepted };
                Ok((reply::accepted(source, committed), outcome))
            }
            IngestResult::Refused(why) => Err(refused(why).into()),
        }
    }

    /// Checks whether the source can be reached with this path and method. A stranger learns no more about a source that is
    /// not active than about one that does not exist.
    async fn check_address(
        &self,
        exchange: &mut Exchange<'_>,
        inbound: InboundRequest<'_>,
        source: &Source,
    ) -> Result<(), InboundRefusal> {
        let is_inactive = source.status == SourceStatus::Inactive;
        if inbound.has_token {
            self.check_partner_head(inbound)?;
            if is_inactive {
                exchange.discard_body().await;
                return Err(InboundRefusal::with_reason(unknown_token(), "the source is inactive"));
            }
            return Ok(());
        }
        let none = |reason| Err(InboundRefusal::with_reason(unknown_source(), reason));
        if is_inactive {
            return none("the source is inactive");
        }
        if source.bus.is_some() {
            return none("the source consumes messages of NATS and takes no requests");
        }
        if source.token.is_some() {
            return none("a partner sends to the URL with its token, not to the name of the source");
        }
        let path = inbound.path;
        if !path.is_empty() && (!source.accepts_path() || !is_name_in_path(path)) {
            let reason = if source.accepts_path() {
                "the path after the source has other characters than A-Z, a-z, 0-9, _, ., - and /, or is too long"
            } else {
                "a path follows the name of the source, and this kind of source takes none"
            };
            return Err(InboundRefusal::with_reason(Problem::not_found("path"), reason));
        }
        let method = &inbound.parts.method;
        if source.takes_method(method) {
            return Ok(());
        }
        let allowed = verbs(source);
        let reason = format!("the method is {method}; this source takes {allowed}");
        Err(InboundRefusal::with_reason(Problem::method_not_allowed(allowed), &reason))
    }

    /// Checks a request of a partner before its token, so that the response does not depend on the token.
    fn check_partner_head(&self, inbound: InboundRequest<'_>) -> Result<(), Problem> {
        if let Some(problem) = unavailable(&self.admit.health) {
            return Err(problem);
        }
        match content(inbound.head)? {
            ContentKind::Json | ContentKind::Unspecified => Ok(()),
            _ => Err(unsupported("send application/json")),
        }
    }

    /// Checks whether the source may send the request, before its body is read.
    fn check_before_body(&self, inbound: InboundRequest<'_>, source: &Source) -> Result<ContentKind, InboundRefusal> {
        if source.status == SourceStatus::Suspended {
            return Err(Problem::new(ProblemCode::Suspended, "this source is suspended").into());
        }
        if let Some(problem) = unavailable(&self.admit.health) {
            return Err(problem.into());
        }
        if let Some(rate) = source.rate_limit {
            self.admit.limiter.take(source.id, rate, self.admit.clock.instant()).map_err(|wait| {
                // `Retry-After` has whole seconds, so the wait is rounded up.
                let wait = wait.saturating_add(std::time::Duration::from_millis(999));
                Problem::new(ProblemCode::RateLimited, "this source sends too fast").retry_after(wait)
            })?;
        }
        let content = source.content_kind(content(inbound.head)?, inbound.head.content_type());
        // A handshake may have another media type than the events.
        if source.accepts(content) || source.recipe.handshake.is_some() {
            Ok(content)
        } else {
            Err(unsupported(wrong_media_type(inbound.head.content_type())).into())
        }
    }

    /// Checks the body of a partner against the rules of the source. The body is JSON.
    async fn check_rules(&self, source: &Arc<Source>, body: &Bytes, now: Timestamp) -> Result<(), Problem> {
        let Some(rules) = &source.rules else { return Ok(()) };
        let text = std::str::from_utf8(body).unwrap_or_default();
        let work = rules.work(text).map_err(|violation| Problem::invalid_body(vec![violation]))?;
        let (of, body) = (Arc::clone(source), body.clone());
        let check = move || {
            let text = std::str::from_utf8(&body).unwrap_or_default();
            of.rules.as_ref().map_or(Ok(()), |rules| rules.check_text(text, now))
        };
        self.admit.run_check(&source.tenant, work, check).await?.map_err(Problem::invalid_body)
    }

    /// Performs the effect of a handshake and returns its response.
    async fn answer_handshake(
        &self,
        source: &Source,
        answer: HandshakeResponse,
    ) -> Result<(Response, InboundOutcome), InboundRefusal> {
        let external_calls = &self.admit.external_calls;
        let done = match answer.effect {
            HandshakeEffect::Nothing => Ok(()),
            HandshakeEffect::Visit(url) => external_calls.get_url(&url).await,
            HandshakeEffect::Learn(secret) => external_calls.store_secret(source.id, secret).await,
        };
        done.map_err(|error| call_failed(&error))?;
        let mut response = Response::new(Body::from(answer.body));
        *response.status_mut() = answer.status;
        response.headers_mut().extend(answer.headers);
        // The body may echo parts of the request. `nosniff` keeps a browser from rendering it as a page.
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok((response, InboundOutcome::Handshake))
    }
}

impl<D: RegistryReader, S: Submit, M> Admit<D, S, M> {
    /// Submits the event of a request or a message.
    pub(super) fn submit_inbound<'a>(
        &'a self,
        inbound: InboundRequest<'_>,
        source: &Source,
        intake: &InboundEvent<'_>,
        hops: u8,
        body: &Bytes,
        reply_router: Option<&'a ReplyRouter>,
    ) -> impl Future<Output = IngestResult> + use<'a, D, S, M> {
        let headers = kept_headers(source, &inbound.parts.headers);
        let is_rebuilt = intake.in_place_of_body.is_some();
        let body = intake.in_place_of_body.as_ref().unwrap_or(body);
        let (data, raw) = match &intake.data {
            EventData::Body(_) => (&body[..], None),
            data if is_rebuilt && *body == data.text() => (&body[..], None),
            data => (data.text().as_bytes(), Some(&body[..])),
        };
        let external_id = intake.external_id();
        let of = (&*source.tenant, &*intake.event_type);
        let origin = EventOrigin::Source { id: source.id, name: &source.name };
        let draft = EventDraft {
            raw,
            timestamp: intake.timestamp,
            external_id: external_id.as_deref(),
            dedup_by: intake.dedup_by(),
            nonce: intake.nonce.as_deref(),
            correlation_id: inbound.head.correlation_id().unwrap_or_else(|| inbound.id.to_str().unwrap_or_default()),
            traceparent: inbound.head.traceparent(),
            metadata: intake.metadata.as_deref(),
            hops,
            verified: source.is_verified(),
            inbound: Some(InboundInfo {
                content_type: if is_rebuilt { Some(header::JSON) } else { inbound.head.content_type() },
                headers: &headers,
                topic: intake.topic.as_deref(),
                mapping: intake.mapping,
                signed_id: external_id.is_some() && source.recipe.id_is_signed,
                signed_type: intake.topic.is_some() && inbound.path.is_empty() && source.recipe.type_is_signed,
            }),
            ..EventDraft::new(of, origin, self.clock.now(), data)
        };
        self.ingest.submit_event(&draft, body, reply_router)
    }
}

/// The kind of a body, from its headers.
///
/// # Errors
/// 415 for a compressed body or a charset other than UTF-8.
pub(super) fn content(head: &RequestHead<'_>) -> Result<ContentKind, Problem> {
    if head.media_type()? == MediaType::Json {
        return Ok(ContentKind::Json);
    }
    let Some(text) = head.content_type() else { return Ok(ContentKind::Unspecified) };
    let essence = text.split(';').next().unwrap_or_default().trim();
    Ok(if essence.is_empty() {
        ContentKind::Unspecified
    } else if essence.eq_ignore_ascii_case(header::FORM) {
        ContentKind::Form
    } else if is_multipart(text) {
        ContentKind::Multipart
    } else if essence.eq_ignore_ascii_case("text/plain") {
        ContentKind::Text
    } else {
        ContentKind::Other
    })
}

/// The explanation for a media type that a source does not take.
fn wrong_media_type(content_type: Option<&str>) -> &'static str {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence.ends_with("/xml") || essence.ends_with("+xml") {
        "this source does not take XML; choose JSON as the format of the webhook at its sender"
    } else {
        "this source does not take this media type"
    }
}

/// Whether the path after a source is valid as a topic or another name that a source may use.
fn is_name_in_path(path: &str) -> bool {
    path.len() <= TOPIC_BYTES_MAX && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-/".contains(&b))
}

/// The methods of a source's events, and of handshakes.
fn verbs(source: &Source) -> Verbs {
    let known = if source.recipe.handshake.is_some() { Verbs::GET } else { Verbs::NONE };
    source.recipe.methods.iter().filter_map(Verb::of).fold(known, Verbs::with)
}
