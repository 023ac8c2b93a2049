//! Why a request of a source is refused: in the words for its sender, and in those for the person who sets the source up.

use super::external_calls::CallFailed;
use crate::http::request::invalid;
use crate::http::{FieldError, Problem, ProblemCode};
use crate::inbound::source::{Source, Unfit};
use crate::limits::RETRY_SOON;

/// A request that was refused.
pub(super) struct Refusal {
    /// What its sender is told.
    pub(super) problem: Problem,
    /// What the person who sets the source up is told, where that is more.
    pub(super) reason: Option<Box<str>>,
}

pub(super) fn unsigned(source: &Source, reason: &str) -> Refusal {
    // A partner's URL is its token, so it must not show that the token was the right one.
    let problem = if source.token.is_some() {
        unknown_token()
    } else {
        Problem::new(ProblemCode::BadSignature, "the signature is missing or wrong")
    };
    Refusal { problem, reason: Some(reason.into()) }
}

pub(super) fn unknown_token() -> Problem {
    Problem::new(ProblemCode::UnknownToken, "the token is not known, or what it needs beside it is missing or wrong")
}

pub(super) fn errand(error: &CallFailed) -> Refusal {
    let problem =
        Problem::new(ProblemCode::Overloaded, "what this request needs could not be had").retry_after(RETRY_SOON);
    Refusal { problem, reason: Some(error.to_string().into()) }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, reason: None }
    }
}

impl From<Unfit> for Refusal {
    fn from(unfit: Unfit) -> Self {
        let problem = match &unfit {
            Unfit::NotJson { .. } | Unfit::TooDeep => Problem::new(ProblemCode::InvalidJson, unfit.to_string()),
            Unfit::TooManyFields | Unfit::Ambiguous(_) => invalid(unfit.to_string()),
            Unfit::Rules(breaches) => Problem::invalid_body(
                breaches.iter().map(|breach| FieldError::new(&*breach.pointer, &*breach.detail)).collect(),
            ),
        };
        problem.into()
    }
}
