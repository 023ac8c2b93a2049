//! The OpenAPI document, as hand-written YAML and as JSON. The JSON is generated from the YAML, and a test compares them.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use crate::http::{Body, Response, reply};

/// A format of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `/openapi.json`
    Json,
    /// `/openapi.yaml`
    Yaml,
}

pub(in crate::api) const YAML: &str = include_str!("../../../docs/openapi.yaml");
pub(in crate::api) const JSON: &str = include_str!("../../../docs/openapi.json");

/// The response with the document. It is public, because it contains no data of any tenant.
pub fn document(format: Format) -> Response {
    let (text, media) = match format {
        Format::Json => (JSON, reply::JSON),
        Format::Yaml => (YAML, HeaderValue::from_static("application/yaml; charset=utf-8")),
    };
    let mut response = Response::new(Body::from(Bytes::from_static(text.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}
