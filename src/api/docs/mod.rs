//! The API documentation: the OpenAPI document, and HTML pages generated from it and from `docs/errors.md`.
//!
//! - Pages are generated once, from files that are compiled in. They need no script and no other server.
//! - Pages are public, because they contain no data of any tenant.
//! - This folder must never know webhooks, events, or the caller.

mod html;
mod markdown;
mod openapi;
mod page;
mod schema;

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY};
use hyper::header::{HeaderName, X_CONTENT_TYPE_OPTIONS};

use crate::http::{Body, Response};
pub(in crate::api) use openapi::JSON;
#[cfg(test)]
pub(in crate::api) use openapi::YAML;
pub use openapi::{Format, document};

const ERRORS: &str = include_str!("../../../docs/errors.md");
const STYLE: &str = include_str!("style.css");

static INTERFACE_PAGE: LazyLock<Bytes> = LazyLock::new(|| page::interface(JSON).into());
static ERRORS_PAGE: LazyLock<Bytes> = LazyLock::new(|| page::errors(ERRORS).into());

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
/// Only the style sheet may be loaded, no script may run, and no other page may frame the page.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const HOUR: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// The page, style sheet or document at this path. `None` if it does not exist.
pub fn response_for(path: &str) -> Option<Response> {
    match path {
        "/openapi.json" => Some(document(Format::Json)),
        "/openapi.yaml" => Some(document(Format::Yaml)),
        "/docs" | "/docs/" => Some(page_response(HTML, INTERFACE_PAGE.clone())),
        "/docs/errors" => Some(page_response(HTML, ERRORS_PAGE.clone())),
        "/docs/style.css" => Some(page_response(CSS, Bytes::from_static(STYLE.as_bytes()))),
        _ => None,
    }
}

fn page_response(media_type: HeaderValue, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    let frame: HeaderName = HeaderName::from_static("x-frame-options");
    for (name, value) in [
        (CONTENT_TYPE, media_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (frame, HeaderValue::from_static("DENY")),
        (CACHE_CONTROL, HOUR),
    ] {
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests;
