//! Errors of the service as problems of HTTP.

use crate::http::{Problem, ProblemCode};
use crate::service::{Error, ErrorKind};

/// The code that a client reads, for each kind of error.
fn code_of(kind: ErrorKind) -> ProblemCode {
    match kind {
        ErrorKind::InvalidArgument => ProblemCode::InvalidRequest,
        ErrorKind::InvalidBody => ProblemCode::InvalidBody,
        ErrorKind::UnknownEventType => ProblemCode::UnknownEventType,
        ErrorKind::EgressRefused => ProblemCode::EgressRefused,
        ErrorKind::Forbidden => ProblemCode::Forbidden,
        ErrorKind::NotFound => ProblemCode::NotFound,
        ErrorKind::Conflict => ProblemCode::Conflict,
        ErrorKind::ManagedByFile => ProblemCode::ManagedByFile,
        ErrorKind::VersionMismatch => ProblemCode::PreconditionFailed,
        ErrorKind::RateLimited => ProblemCode::RateLimited,
        ErrorKind::Overloaded => ProblemCode::Overloaded,
        ErrorKind::DiskFull => ProblemCode::DiskFull,
        ErrorKind::Stopping => ProblemCode::Draining,
        ErrorKind::Internal => ProblemCode::Internal,
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = match (error.kind, error.current_version) {
            // Clients of HTTP know versions as entity tags.
            (_, Some(version)) => format!("its ETag is \"{version}\"").into(),
            // Arguments beside the body come in the query.
            (ErrorKind::InvalidArgument, None) => format!("query parameter {}", error.detail).into(),
            (_, None) => error.detail,
        };
        let mut problem = Self::new(code_of(error.kind), detail);
        problem.errors = error.errors;
        match error.retry_after {
            Some(after) => problem.retry_after(after),
            None => problem,
        }
    }
}

/// A refusal in one line, as a client of the HTTP API reads it.
pub fn describe(error: Error) -> String {
    let problem = Problem::from(error);
    format!("the server answered {} {}: {}", problem.code.status().as_u16(), problem.code.as_str(), problem.detail)
}
