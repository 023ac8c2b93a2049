//! The interface's description, as YAML (by hand) and as JSON (made from it; a test holds them together).

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use crate::http::{Body, Response, reply};

/// A form of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `/openapi.json`
    Json,
    /// `/openapi.yaml`
    Yaml,
}

pub(in crate::api) const YAML: &str = include_str!("../../../docs/openapi.yaml");
pub(in crate::api) const JSON: &str = include_str!("../../../docs/openapi.json");

/// The document. It holds nothing of anybody's, so it needs no key.
pub fn document(format: Format) -> Response {
    let (text, media) = match format {
        Format::Json => (JSON, reply::JSON),
        Format::Yaml => (YAML, HeaderValue::from_static("application/yaml; charset=utf-8")),
    };
    let mut response = Response::new(Body::from(Bytes::from_static(text.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}
