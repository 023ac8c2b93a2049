//! A management request as its handler gets it.

use bytes::Bytes;
use hyper::http::request::Parts;

use crate::model::Principal;

/// A request whose body is complete and whose caller is known.
#[derive(Debug)]
pub struct Call {
    /// Method, URI and headers.
    pub parts: Parts,
    /// The complete body.
    pub body: Bytes,
    /// The caller.
    pub principal: Principal,
    /// The caller's `X-Request-ID` if it is valid, else a generated id.
    pub request_id: Box<str>,
}
