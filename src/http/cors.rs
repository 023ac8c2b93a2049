//! The CORS headers (Fetch standard), which allow pages of configured sites to call the server from a browser.
//!
//! CORS is off unless sites are configured. Credentials are never allowed, because the server does not read cookies.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::Response;
use crate::limits::CORS_MAX_AGE;

/// The methods that a page may use.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// The request headers that a page may send.
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Correlation-ID, X-Request-ID, traceparent",
);
/// The response headers that a page may read in addition to those that the standard always allows.
const EXPOSED: HeaderValue = HeaderValue::from_static("ETag, Link, Location, Retry-After, X-Request-ID");

/// The response to a CORS preflight request from a configured site. `None` for any other request.
pub fn preflight(parts: &Parts) -> Option<Response> {
    if parts.method != Method::OPTIONS || !parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(CORS_MAX_AGE.as_secs()));
    Some(response)
}

/// Adds the CORS headers to a response. `listed` is the origin of the calling page if its site is configured.
///
/// Called for every response while sites are configured, because `Vary: Origin` keeps a cache from sharing the response
/// between sites.
pub fn set_headers(listed: Option<&HeaderValue>, response: &mut Response) {
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = listed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}
