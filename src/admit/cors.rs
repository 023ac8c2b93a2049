//! Which pages of other sites a browser lets ask (the Fetch standard's CORS protocol). Off unless sites are listed; never
//! with cookies, which are not looked at anyway.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use crate::auth::Access;
use crate::http::Response;
use crate::limits::CORS_MAX_AGE;

/// What a page may send …
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Correlation-ID, X-Request-ID, traceparent",
);
/// … and read beside what it may read anyway.
const EXPOSED: HeaderValue = HeaderValue::from_static("ETag, Link, Location, Retry-After, X-Request-ID");

/// The answer to a browser that asks beforehand whether a page of a listed site may ask.
pub(super) fn preflight(access: &Access, parts: &Parts, origin: Option<&HeaderValue>) -> Option<Response> {
    let is_one = parts.method == Method::OPTIONS && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if !is_one || !origin.is_some_and(|origin| is_listed(access, origin)) {
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

/// Says on an answer whether the page that asked may read it. With sites listed, a cache must not give one's answer to
/// another.
pub(super) fn stamp(access: &Access, origin: Option<&HeaderValue>, response: &mut Response) {
    if !access.has_origins() {
        return;
    }
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin.filter(|origin| is_listed(access, origin)) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

fn is_listed(access: &Access, origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(|origin| access.allows_origin(origin))
}
