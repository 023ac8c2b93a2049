//! Maps service errors to HTTP problems.

use crate::http::{Problem, ProblemCode};
use crate::service::{Error, ErrorKind};

/// The problem code for each kind of error.
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
            // HTTP clients see versions as entity tags.
            (_, Some(version)) => format!("its ETag is \"{version}\"").into(),
            // Arguments outside the body are query parameters.
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

/// Describes an error in one line, with the status and code that an HTTP client would receive.
pub fn describe(error: Error) -> String {
    let problem = Problem::from(error);
    format!("the server answered {} {}: {}", problem.code.status().as_u16(), problem.code.as_str(), problem.detail)
}
