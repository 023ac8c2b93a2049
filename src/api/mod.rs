//! api: management over HTTP, one file per resource. Knows the stages by their handles; is known by admit's router.

pub mod problem;

pub use problem::{FieldError, Problem, ProblemCode};

/// Every answer's body is whole in memory.
pub type Response = hyper::Response<http_body_util::Full<bytes::Bytes>>;

/// A request whose body has been read and whose caller is known.
#[derive(Debug)]
pub struct Call {
    /// Method, URI, headers.
    pub parts: hyper::http::request::Parts,
    /// The whole body.
    pub body: bytes::Bytes,
    /// Who asks.
    pub principal: crate::registry::Principal,
    /// The caller's `X-Request-ID` if it was sane, else a new one.
    pub request_id: Box<str>,
}
