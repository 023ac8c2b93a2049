//! A request as signatures see it.

use http::HeaderMap;

/// The parts of a request that may be signed, or say something of the event. Nothing is copied.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `POST`.
    pub method: &'a str,
    /// The source's configured public URL, without the request's query; never built from `Host`.
    pub url: &'a str,
    /// What follows `?` in the request, undecoded.
    pub query: Option<&'a str>,
    /// What follows the source in the path, without the slash before it.
    pub path: &'a str,
    /// Every header.
    pub headers: &'a HeaderMap,
    /// The body's bytes as received.
    pub body: &'a [u8],
}
