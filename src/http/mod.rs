//! http: what several layers need of HTTP: problems and responses.

pub mod problem;

pub use problem::{Problem, ProblemCode};

pub use crate::model::FieldError;

/// A response whose body is whole in memory.
pub type Response = hyper::Response<http_body_util::Full<bytes::Bytes>>;
