//! Refused requests of a source, with one explanation for the sender and one for the person who configures the source.

use super::external_calls::ExternalCallError;
use crate::http::request::invalid;
use crate::http::{FieldError, Problem, ProblemCode};
use crate::inbound::source::{IntakeError, Source};
use crate::limits::MANAGE_RETRY_AFTER;

/// Why a request of a source was refused.
pub(super) struct InboundRefusal {
    /// The response to the sender.
    pub(super) problem: Problem,
    /// The reason for the person who configures the source, if it says more than the response.
    pub(super) reason: Option<Box<str>>,
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
