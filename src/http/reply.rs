//! Success responses.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LINK, LOCATION};
use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::{Body, Problem, ProblemCode, Response};
use crate::model::header::JSON_UTF8;

/// The media type of JSON responses.
pub const JSON: HeaderValue = HeaderValue::from_static(JSON_UTF8);

/// A response with `body` serialized as JSON.
///
/// # Errors
/// 500 when the body cannot be serialized.
pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, Problem> {
    // Bodies are structs of text and numbers. Raw JSON was checked when it was received.
    let body =
        serde_json::to_vec(body).map_err(|_| Problem::new(ProblemCode::Internal, "the answer could not be written"))?;
    Ok(json_bytes(status, body.into()))
}

/// A response whose body is serialized JSON.
pub fn json_bytes(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A copy of a response. `None` for a streamed response, which can be sent only once.
pub fn clone_response(response: &Response) -> Option<Response> {
    let mut clone_response = Response::new(Body::from(response.body().complete_bytes()?.clone()));
    *clone_response.status_mut() = response.status();
    *clone_response.headers_mut() = response.headers().clone();
    Some(clone_response)
}

/// 201 or 202 with the header `Location`.
///
/// # Errors
/// 500 when the body cannot be serialized.
pub fn created(status: StatusCode, location: &str, body: &impl Serialize) -> Result<Response, Problem> {
    let mut response = json(status, body)?;
    set_header(&mut response, LOCATION, location);
    Ok(response)
}

/// 204 without a body.
pub fn no_content() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// 200 with `body` as JSON and an `ETag` computed from its content, or 304 if `If-None-Match` names this tag.
///
/// # Errors
/// 500 when the body cannot be serialized.
pub fn json_with_etag(headers: &HeaderMap, body: &impl Serialize) -> Result<Response, Problem> {
    let bytes =
        serde_json::to_vec(body).map_err(|_| Problem::new(ProblemCode::Internal, "the answer could not be written"))?;
    let etag = format!("\"{}\"", HEXLOWER.encode(&digest(&SHA256, &bytes).as_ref()[..8]));
    Ok(with_etag(headers, &etag, json_bytes(StatusCode::OK, bytes.into())))
}

/// Adds an `ETag` to a response. Turns the response into a 304 if `If-None-Match` names the tag.
pub fn with_etag(headers: &HeaderMap, etag: &str, mut response: Response) -> Response {
    if headers.get(IF_NONE_MATCH).is_some_and(|known| matches_etag(known, etag)) {
        response = Response::default();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    set_header(&mut response, ETAG, etag);
    response
}

/// Whether `If-None-Match` names a tag (RFC 9110, 13.1.2). The header is `*` or a list of tags. Weak tags match too.
fn matches_etag(header: &HeaderValue, etag: &str) -> bool {
    header.to_str().is_ok_and(|text| {
        text.split(',').map(str::trim).any(|tag| tag == "*" || tag == etag || tag.strip_prefix("W/") == Some(etag))
    })
}

/// The link from a page of a list to the next page.
#[derive(Debug)]
pub struct NextPage {
    /// The value of `next_cursor`.
    pub cursor: String,
    /// The path and query of the next page.
    pub link: String,
}

#[derive(Serialize)]
struct ListBody<'a, T> {
    data: &'a [T],
    next_cursor: Option<&'a str>,
}

/// 200 with a page of a list. If there is a next page, the response has a `next_cursor` and a header `Link`.
///
/// # Errors
/// 500 when a row cannot be serialized.
pub fn list<T: Serialize>(rows: &[T], next: Option<&NextPage>) -> Result<Response, Problem> {
    let mut response = json(StatusCode::OK, &ListBody { data: rows, next_cursor: next.map(|next| &*next.cursor) })?;
    if let Some(next) = next {
        set_header(&mut response, LINK, &format!("<{}>; rel=\"next\"", next.link));
    }
    Ok(response)
}

/// Sets a header. `value` must consist of ids and escaped text: an invalid header value is ignored.
pub fn set_header(response: &mut Response, name: hyper::header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
