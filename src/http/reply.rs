//! Answers that went well.

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

/// An answer with a body.
pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, Problem> {
    // Everything shown is structs of text and numbers; raw parts were checked when they came in.
    let body =
        serde_json::to_vec(body).map_err(|_| Problem::new(ProblemCode::Internal, "the answer could not be written"))?;
    Ok(json_bytes(status, body.into()))
}

/// A response whose body is serialised JSON.
pub fn json_bytes(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The same response again; `None` of one that is streamed, which can be sent once only.
pub fn copy(response: &Response) -> Option<Response> {
    let mut copy = Response::new(Body::from(response.body().whole()?.clone()));
    *copy.status_mut() = response.status();
    *copy.headers_mut() = response.headers().clone();
    Some(copy)
}

/// 201 or 202, with the place of what was made.
pub fn made(status: StatusCode, location: &str, body: &impl Serialize) -> Result<Response, Problem> {
    let mut response = json(status, body)?;
    set(&mut response, LOCATION, location);
    Ok(response)
}

/// 204.
pub fn no_content() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A thing as it is, with the tag of its content; 304 if the caller has it.
pub fn read(headers: &HeaderMap, body: &impl Serialize) -> Result<Response, Problem> {
    let bytes =
        serde_json::to_vec(body).map_err(|_| Problem::new(ProblemCode::Internal, "the answer could not be written"))?;
    let etag = format!("\"{}\"", HEXLOWER.encode(&digest(&SHA256, &bytes).as_ref()[..8]));
    Ok(tagged(headers, &etag, json_bytes(StatusCode::OK, bytes.into())))
}

/// Puts the tag on an answer, or makes it a 304.
pub fn tagged(headers: &HeaderMap, etag: &str, mut response: Response) -> Response {
    if headers.get(IF_NONE_MATCH).is_some_and(|known| names(known, etag)) {
        response = Response::default();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    set(&mut response, ETAG, etag);
    response
}

/// Whether `If-None-Match` names a tag (RFC 9110, 13.1.2): it is `*` or a list of tags, of which a weak one counts too.
fn names(header: &HeaderValue, etag: &str) -> bool {
    header.to_str().is_ok_and(|text| {
        text.split(',').map(str::trim).any(|tag| tag == "*" || tag == etag || tag.strip_prefix("W/") == Some(etag))
    })
}

/// Where a list continues.
#[derive(Debug)]
pub struct Next {
    /// For `next_cursor`.
    pub cursor: String,
    /// Path and query of the next page.
    pub link: String,
}

#[derive(Serialize)]
struct List<'a, T> {
    data: &'a [T],
    next_cursor: Option<&'a str>,
}

/// A page of a list.
pub fn list<T: Serialize>(rows: &[T], next: Option<&Next>) -> Result<Response, Problem> {
    let mut response = json(StatusCode::OK, &List { data: rows, next_cursor: next.map(|next| &*next.cursor) })?;
    if let Some(next) = next {
        set(&mut response, LINK, &format!("<{}>; rel=\"next\"", next.link));
    }
    Ok(response)
}

/// Sets a header whose value consists of ids and escaped text.
pub fn set(response: &mut Response, name: hyper::header::HeaderName, value: &str) {
    // Tags, places and links are made of ids and escaped text.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
