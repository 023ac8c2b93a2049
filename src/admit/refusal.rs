//! Refused requests of a source, with one explanation for the sender and one for the person who configures the source.
//!
//! [`Worker::refused`] counts and lists every refused request whose source is known. It is called for two kinds: requests that
//! [`Worker::receive`] handled, and requests that were refused before that, whose path names a source
//! ([`Worker::refused_unrouted`]).

use std::fmt::Write as _;

use hyper::StatusCode;
use hyper::header::HeaderName;

use super::external_calls::ExternalCallError;
use super::inbound::InboundRequest;
use super::worker::Worker;
use super::{Admit, Management, RegistryReader};
use crate::http::request::invalid;
use crate::http::{FieldError, ListenerKind, Problem, ProblemCode, RouteTarget};
use crate::inbound::source::{IntakeError, Rejection, Source, has_secret_in_body, is_hidden};
use crate::ingest::Submit;
use crate::limits::MANAGE_RETRY_AFTER;
use crate::model::path;

/// Why a request of a source was refused.
pub(super) struct InboundRefusal {
    /// The response to the sender.
    pub(super) problem: Problem,
    /// The reason for the person who configures the source, if it says more than the response.
    pub(super) reason: Option<Box<str>>,
}

impl InboundRefusal {
    /// A refusal whose reason the sender does not learn.
    pub(super) fn with_reason(problem: Problem, reason: &str) -> Self {
        Self { problem, reason: Some(reason.into()) }
    }
}

impl<D: RegistryReader, S: Submit, M: Management> Worker<D, S, M> {
    /// Counts and lists a refused request of a source. `body` is what was read of it. Returns the problem for the response.
    pub(super) fn refused(
        &self,
        inbound: InboundRequest<'_>,
        source: &Source,
        refusal: InboundRefusal,
        body: &[u8],
    ) -> Problem {
        let result = match refusal.problem.code {
            ProblemCode::BadSignature | ProblemCode::UnknownToken => "bad_signature",
            ProblemCode::RateLimited => "limited",
            code if code.status().is_server_error() => "error",
            _ => "invalid",
        };
        self.inbound.inc(&source.name, result);
        self.list(inbound, source, &refusal, refusal.problem.code.status(), body);
        refusal.problem
    }

    /// As [`Self::refused`], for a request that was refused by the general checks of its head or by the router. It is a
    /// request of a source if its path names one.
    pub(super) fn refused_unrouted(
        &self,
        inbound: InboundRequest<'_>,
        listener: ListenerKind,
        problem: Problem,
    ) -> Problem {
        let (source, has_token) = match self.admit.router.source_target(inbound.parts.uri.path(), listener) {
            Some(RouteTarget::Partner(token)) => (self.admit.registry.source_by_token(token), true),
            Some(RouteTarget::Source { name, .. }) => (self.named_source(name), false),
            _ => (None, false),
        };
        match source {
            Some(source) => self.refused(InboundRequest { has_token, ..inbound }, &source, problem.into(), &[]),
            None => problem,
        }
    }

    /// Adds a refused request to the rejections of its source, for the person who configures the source.
    pub(super) fn list(
        &self,
        inbound: InboundRequest<'_>,
        source: &Source,
        refusal: &InboundRefusal,
        status: StatusCode,
        body: &[u8],
    ) {
        let path = match &source.token {
            Some(token) if inbound.has_token => format!("{}…{}", path::PARTNER, token.hint),
            _ => inbound.parts.uri.path().to_owned(),
        };
        self.admit.list_refusal(inbound, source, refusal, status, format!("{} {path}", inbound.parts.method), body);
    }
}

impl<D, S, M> Admit<D, S, M> {
    /// Adds a refused request or message to the rejections of its source. `name` is the method and path of a request.
    pub(super) fn list_refusal(
        &self,
        inbound: InboundRequest<'_>,
        source: &Source,
        refusal: &InboundRefusal,
        status: StatusCode,
        name: String,
        body: &[u8],
    ) {
        let mut reason = match (&refusal.reason, &*refusal.problem.detail) {
            (Some(reason), _) => reason.to_string(),
            (None, detail) => detail.to_owned(),
        };
        for violation in &refusal.problem.errors {
            // Writing to a `String` cannot fail.
            let _ = write!(reason, "; {}: {}", violation.pointer, violation.detail);
        }
        let rejection = Rejection {
            at: self.clock.now(),
            request_id: inbound.id.to_str().unwrap_or_default().into(),
            status: status.as_u16(),
            reason: reason.into(),
            request: name.into(),
            headers: Vec::new(),
            body: Box::default(),
            body_bytes: 0,
        };
        let hidden = |name: &HeaderName| is_hidden(source, name);
        let mut rejection = rejection.with(&inbound.parts.headers, hidden, body);
        if has_secret_in_body(source) {
            rejection.body = Box::default();
        }
        if !self.rejections.push(source.id, rejection) {
            self.metrics.rejections_dropped.inc();
        }
    }
}

/// A missing or wrong signature. `reason` is not shown to the sender.
pub(super) fn bad_signature(source: &Source, reason: &str) -> InboundRefusal {
    // The URL of a partner contains its token, so the response must not reveal that the token exists.
    let problem = if source.token.is_some() {
        unknown_token()
    } else {
        Problem::new(ProblemCode::BadSignature, "the signature is missing or wrong")
    };
    InboundRefusal { problem, reason: Some(reason.into()) }
}

/// 401 for an unknown token, also used for a known token with a missing or wrong signature.
pub(super) fn unknown_token() -> Problem {
    Problem::new(ProblemCode::UnknownToken, "the token is not known, or what it needs beside it is missing or wrong")
}

/// 404 for a source that does not exist, also used for one that is inactive or addressed in another way.
pub(super) fn unknown_source() -> Problem {
    Problem::new(ProblemCode::SourceNotFound, "there is no such source")
}

/// 503 for a failed external call. The error is not shown to the sender.
pub(super) fn call_failed(error: &ExternalCallError) -> InboundRefusal {
    let problem = Problem::new(ProblemCode::Overloaded, "what this request needs could not be had")
        .retry_after(MANAGE_RETRY_AFTER);
    InboundRefusal { problem, reason: Some(error.to_string().into()) }
}

impl From<Problem> for InboundRefusal {
    fn from(problem: Problem) -> Self {
        Self { problem, reason: None }
    }
}

impl From<IntakeError> for InboundRefusal {
    fn from(unfit: IntakeError) -> Self {
        let problem = match &unfit {
            IntakeError::NotJson { .. } | IntakeError::TooDeep => {
                Problem::new(ProblemCode::InvalidJson, unfit.to_string())
            }
            IntakeError::Timestamp => Problem::invalid_body(vec![FieldError::new("/timestamp", unfit.to_string())]),
            IntakeError::TooManyFields | IntakeError::Multipart(_) | IntakeError::Ambiguous(_) => {
                invalid(unfit.to_string())
            }
        };
        problem.into()
    }
}
