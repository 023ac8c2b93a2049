//! The parts of a request that signatures use.

use http::HeaderMap;

/// The parts of a request that may be signed or contain values of the event. The parts borrow from the request.
#[derive(Debug, Clone, Copy)]
pub struct RequestParts<'a> {
    /// The method, such as `POST`.
    pub method: &'a str,
    /// The configured public URL of the source, without the query of the request. The URL is never built from the
    /// `Host` header.
    pub url: &'a str,
    /// The query after `?`, not decoded.
    pub query: Option<&'a str>,
    /// The path after the source, without the slash before it.
    pub path: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The body as received.
    pub body: &'a [u8],
}
