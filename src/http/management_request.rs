//! The request type of management handlers.

use bytes::Bytes;
use hyper::http::request::Parts;

use crate::model::Principal;

/// A management request with a complete body and an authenticated caller.
#[derive(Debug)]
pub struct ManagementRequest {
    /// The method, URI and headers.
    pub parts: Parts,
    /// The complete body.
    pub body: Bytes,
    /// The authenticated caller.
    pub principal: Principal,
    /// The caller's `X-Request-ID` if it is valid, else a generated id.
    pub request_id: Box<str>,
}
