//! The way in for sources: providers below `/api/v1/webhooks/`, partners below `/webhook/v1/`.
//!
//! In this order: the source and its status, its rate, what the body may be and weigh, the body, a handshake that comes
//! unsigned, the signature, a handshake that comes signed, the event, the disk. What a request becomes is decided in
//! [`crate::source`]; here it is read, answered, counted, and kept among the source's rejections if it was refused.
//!
//! A stranger learns nothing: a token that is unknown, one that is inactive and a signature that is wrong are answered in
//! the same words and with the same work.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::event_type;
use super::external_calls::CallFailed;
use super::publish::{closed, refused};
use super::refusal::{Refusal, errand, unknown_token, unsigned};
use super::service::{Exchange, Worker};
use super::{Directory, Management, reply};
use crate::http::incoming::Bounds;
use crate::http::request::{Head, MediaType, unsupported};
use crate::http::{Body, Problem, ProblemCode, Response};
use crate::inbound::provider::{Answer, Effect};
use crate::inbound::source::{
    Content, Data, Intake, Rejection, Source, SourceStatus, has_secret_in_body, is_hidden, kept_headers, spend,
};
use crate::ingest::{EventDraft, EventOrigin, Submit, Verdict};
use crate::limits::{STRANGER_BODY_BYTES_MAX, TOPIC_BYTES_MAX};
use crate::model::{Inbound, header, path};
use crate::signature::{Certificate, Request, VerifyError};

/// A request of a source, before its body.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) head: &'a Head<'a>,
    pub(super) parts: &'a Parts,
    /// The request's id.
    pub(super) id: &'a HeaderValue,
    /// What follows the source in the path, without the slash before it.
    pub(super) path: &'a str,
}

/// What became of a request, as `hooktide_inbound_total` counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Accepted,
    Duplicate,
    Handshake,
}

impl<D: Directory, S: Submit, M: Management> Worker<D, S, M> {
    /// A partner's request, by its token.
    pub(super) async fn partner(
        &self,
        exchange: &mut Exchange<'_>,
        call: Call<'_>,
        token: &str,
    ) -> Result<Response, Problem> {
        if let Some(problem) = closed(&self.admit.health) {
            return Err(problem);
        }
        // Before the token is looked at, so that what a partner's body may be says nothing of it.
        if !matches!(content(call.head)?, Content::Json | Content::Unsaid) {
            return Err(unsupported("send application/json"));
        }
        let found = self.admit.directory.source_by_token(token);
        let Some(source) = found.filter(|source| source.status != SourceStatus::Inactive) else {
            let body = exchange.body(Bounds::flat(STRANGER_BODY_BYTES_MAX), &self.admit).await?;
            spend(&body.bytes);
            return Err(unknown_token());
        };
        self.receive(exchange, call, &source).await
    }

    /// A request of a source that is not hidden behind a token.
    pub(super) async fn receive(
        &self,
        exchange: &mut Exchange<'_>,
        call: Call<'_>,
        source: &Arc<Source>,
    ) -> Result<Response, Problem> {
        let mut body = Bytes::new();
        let received = self.take(exchange, call, source, &mut body).await;
        let result = match &received {
            Ok((_, Outcome::Accepted)) => "accepted",
            Ok((_, Outcome::Duplicate)) => "duplicate",
            Ok((response, Outcome::Handshake)) if response.status().is_client_error() => {
                // The provider wants its own status for a handshake that proves nothing.
                let refusal = unsigned(source, "a handshake whose token or signature is not the configured one");
                self.reject(call, source, &refusal, response.status(), &body);
                "bad_signature"
            }
            Ok((_, Outcome::Handshake)) => "handshake",
            Err(refusal) => match refusal.problem.code {
                ProblemCode::BadSignature | ProblemCode::UnknownToken => "bad_signature",
                ProblemCode::RateLimited => "limited",
                code if code.status().is_server_error() => "error",
                _ => "invalid",
            },
        };
        self.inbound.inc(&source.name, result);
        received.map(|(response, _)| response).map_err(|refusal| {
            self.reject(call, source, &refusal, refusal.problem.code.status(), &body);
            refusal.problem
        })
    }

    async fn take(
        &self,
        exchange: &mut Exchange<'_>,
        call: Call<'_>,
        source: &Arc<Source>,
        whole: &mut Bytes,
    ) -> Result<(Response, Outcome), Refusal> {
        let admit = &*self.admit;
        let content = self.may_send(call, source)?;
        let body = exchange.body(Bounds::flat(source.max_body_bytes), admit).await?;
        exchange.complete_at = Some(admit.clock.instant());
        *whole = body.bytes.clone();
        let now = admit.clock.now();
        let request = Request {
            method: call.parts.method.as_str(),
            url: &source.url,
            query: call.parts.uri.query(),
            path: call.path,
            headers: &call.parts.headers,
            body: &body.bytes,
        };

        if let Some(answer) = source.handshake(&request, false, now) {
            return self.shake(source, answer).await;
        }
        if call.parts.method != Method::POST {
            spend(&body.bytes);
            return Err(unsigned(source, "a GET that is no handshake of this source's"));
        }
        if !source.takes(content) {
            return Err(unsupported("this source does not take this media type").into());
        }
        self.verify(source, &request).await?;
        if let Some(answer) = source.handshake(&request, true, now) {
            return self.shake(source, answer).await;
        }

        let hops = call.head.hops()?;
        let key = if source.is_partner() { call.head.idempotency_key()? } else { None };
        let intake = source.intake(&request, content, key, now)?;
        event_type::of_source(&admit.directory, source, &intake)?;
        if let Some(error) = &intake.map_error {
            admit.metrics.map_failures.with_label_values(&[&*source.name]).inc();
            let request_id = call.id.to_str().unwrap_or_default();
            tracing::warn!(request_id, source = &*source.name, %error, "an event map could not be applied");
        }
        match self.submit(call, source, &intake, hops, &body.bytes).await {
            Verdict::Taken { committed, .. } => {
                let outcome = if committed.is_duplicate() { Outcome::Duplicate } else { Outcome::Accepted };
                Ok((reply::accepted(source, committed), outcome))
            }
            Verdict::Refused(why) => Err(refused(why).into()),
        }
    }

    /// Whether a source may send this, as far as that is known before its body.
    fn may_send(&self, call: Call<'_>, source: &Source) -> Result<Content, Refusal> {
        if source.status == SourceStatus::Suspended {
            return Err(Problem::new(ProblemCode::Suspended, "this source is suspended").into());
        }
        if let Some(problem) = closed(&self.admit.health) {
            return Err(problem.into());
        }
        if let Some(rate) = source.rate_limit {
            self.admit.limiter.take(source.id, rate, self.admit.clock.instant()).map_err(|wait| {
                // A wait of half a second is told as one second: the header has no parts of them.
                let wait = wait.saturating_add(std::time::Duration::from_millis(999));
                Problem::new(ProblemCode::RateLimited, "this source sends too fast").retry_after(wait)
            })?;
        }
        let content = content(call.head)?;
        // A handshake may be a form where no event is.
        if source.takes(content) || source.recipe.handshake.is_some() {
            Ok(content)
        } else {
            Err(unsupported("this source does not take this media type").into())
        }
    }

    async fn verify(&self, source: &Source, request: &Request<'_>) -> Result<(), Refusal> {
        let checked = match source.recipe.scheme.certificate_url(request) {
            Ok(None) => source.verify(request, None, self.admit.clock.now()),
            Ok(Some(url)) => match self.certificate(source, &url).await {
                Ok(certificate) => source.verify(request, Some(&certificate), self.admit.clock.now()),
                Err(CallFailed::Never(why)) => Err(VerifyError::Certificate(why)),
                Err(error @ CallFailed::Later(_)) => return Err(errand(&error)),
            },
            Err(error) => Err(error),
        };
        checked.map_err(|error| {
            if !matches!(error, VerifyError::Mismatch) {
                // Whatever it failed at, it costs what a signature costs that is only wrong.
                spend(request.body);
            }
            unsigned(source, &error.to_string())
        })
    }

    async fn certificate(&self, source: &Source, url: &url::Url) -> Result<Arc<Certificate>, CallFailed> {
        match source.plan.certificate() {
            Some(given) => Ok(Arc::clone(given)),
            None => self.admit.external_calls.certificate(url).await,
        }
    }

    /// Answers a handshake, when what it asks for is done.
    async fn shake(&self, source: &Source, answer: Answer) -> Result<(Response, Outcome), Refusal> {
        let external_calls = &self.admit.external_calls;
        let done = match answer.effect {
            Effect::Nothing => Ok(()),
            Effect::Visit(url) => external_calls.visit(&url).await,
            Effect::Learn(secret) => external_calls.learn(source.id, secret).await,
        };
        done.map_err(|error| errand(&error))?;
        let mut response = Response::new(Body::from(answer.body));
        *response.status_mut() = answer.status;
        response.headers_mut().extend(answer.headers);
        // Part of it may be what somebody sent: no browser is to make a page of it.
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok((response, Outcome::Handshake))
    }

    /// Submits the event that a request is.
    fn submit<'a>(
        &'a self,
        call: Call<'_>,
        source: &Source,
        intake: &Intake<'_>,
        hops: u8,
        body: &Bytes,
    ) -> impl Future<Output = Verdict> + use<'a, D, S, M> {
        let headers = kept_headers(source, &call.parts.headers);
        let (data, raw) = match &intake.data {
            Data::Body(_) => (&body[..], None),
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
            correlation_id: call.head.correlation_id().unwrap_or_else(|| call.id.to_str().unwrap_or_default()),
            traceparent: call.head.traceparent(),
            metadata: intake.metadata.as_deref(),
            hops,
            verified: source.is_verified(),
            inbound: Some(Inbound {
                content_type: call.head.content_type(),
                headers: &headers,
                topic: intake.topic.as_deref(),
                mapping: intake.mapping,
                signed_id: external_id.is_some() && source.recipe.id_is_signed,
                signed_type: intake.topic.is_some() && call.path.is_empty() && source.recipe.type_is_signed,
            }),
            ..EventDraft::new(of, origin, self.admit.clock.now(), data)
        };
        self.admit.ingest.take(&draft, body, Some(&self.desk))
    }

    /// Keeps a refused request for the person who sets the source up.
    fn reject(&self, call: Call<'_>, source: &Source, refusal: &Refusal, status: StatusCode, body: &[u8]) {
        let mut reason = match (&refusal.reason, &*refusal.problem.detail) {
            (Some(reason), _) => reason.to_string(),
            (None, detail) => detail.to_owned(),
        };
        for breach in &refusal.problem.errors {
            // Text grows without end.
            let _ = write!(reason, "; {}: {}", breach.pointer, breach.detail);
        }
        let path = match &source.token {
            Some(token) => format!("{}…{}", path::PARTNER, token.hint),
            None => call.parts.uri.path().to_owned(),
        };
        let rejection = Rejection {
            at: self.admit.clock.now(),
            request_id: call.id.to_str().unwrap_or_default().into(),
            status: status.as_u16(),
            reason: reason.into(),
            request: format!("{} {path}", call.parts.method).into(),
            headers: Vec::new(),
            body: Box::default(),
            body_bytes: 0,
        };
        let hidden = |name: &HeaderName| is_hidden(source, name);
        let mut rejection = rejection.with(&call.parts.headers, hidden, body);
        if has_secret_in_body(source) {
            rejection.body = Box::default();
        }
        if !self.admit.rejections.push(source.id, rejection) {
            self.admit.metrics.rejections_dropped.inc();
        }
    }
}

/// What a body is, by its headers.
///
/// # Errors
/// 415 for what is compressed or in another charset than UTF-8.
fn content(head: &Head<'_>) -> Result<Content, Problem> {
    if head.media_type()? == MediaType::Json {
        return Ok(Content::Json);
    }
    let Some(text) = head.content_type() else { return Ok(Content::Unsaid) };
    let essence = text.split(';').next().unwrap_or_default().trim();
    Ok(if essence.is_empty() {
        Content::Unsaid
    } else if essence.eq_ignore_ascii_case(header::FORM) {
        Content::Form
    } else if essence.eq_ignore_ascii_case("text/plain") {
        Content::Text
    } else {
        Content::Other
    })
}

/// What a path below a source says, if it is a topic or another name that some source might use.
pub(super) fn is_name_in_path(path: &str) -> bool {
    path.len() <= TOPIC_BYTES_MAX && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-/".contains(&b))
}
