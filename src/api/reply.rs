//! Answers that went well.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH, LINK, LOCATION};
use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::page::{Next, Query};
use crate::http::{Problem, ProblemCode, Response};
use crate::service::{ExpectedVersion, Rows};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// An answer with a body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, Problem> {
    // Everything shown is structs of text and numbers; raw parts were checked when they came in.
    let body =
        serde_json::to_vec(body).map_err(|_| Problem::new(ProblemCode::Internal, "the answer could not be written"))?;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(response)
}

/// 201 or 202, with the place of what was made.
pub(super) fn made(status: StatusCode, location: &str, body: &impl Serialize) -> Result<Response, Problem> {
    let mut response = json(status, body)?;
    set(&mut response, LOCATION, location);
    Ok(response)
}

/// 204.
pub(super) fn no_content() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A thing as it is, with the tag of its content; 304 if the caller has it.
pub(super) fn read(headers: &HeaderMap, body: &impl Serialize) -> Result<Response, Problem> {
    let bytes =
        serde_json::to_vec(body).map_err(|_| Problem::new(ProblemCode::Internal, "the answer could not be written"))?;
    let etag = format!("\"{}\"", HEXLOWER.encode(&digest(&SHA256, &bytes).as_ref()[..8]));
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(tagged(headers, &etag, response))
}

/// Puts the tag on an answer, or makes it a 304.
pub(super) fn tagged(headers: &HeaderMap, etag: &str, mut response: Response) -> Response {
    if headers.get(IF_NONE_MATCH).is_some_and(|known| names(known, etag)) {
        response = Response::default();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    set(&mut response, ETAG, etag);
    response
}

/// The version that the caller's `If-Match` names. The tag of a thing with versions is its version; a weak tag never
/// matches.
pub(super) fn expected_version(headers: &HeaderMap) -> Option<ExpectedVersion> {
    let tags: Vec<_> = headers.get(IF_MATCH)?.to_str().unwrap_or_default().split(',').map(str::trim).collect();
    if tags.contains(&"*") {
        return Some(ExpectedVersion::Current);
    }
    let version = |tag: &str| {
        let version = tag.strip_prefix('"')?.strip_suffix('"')?.parse::<u64>().ok()?;
        (format!("\"{version}\"") == tag).then_some(version)
    };
    Some(ExpectedVersion::OneOf(tags.into_iter().filter_map(version).collect()))
}

/// Whether `If-None-Match` names a tag (RFC 9110, 13.1.2): it is `*` or a list of tags, of which a weak one counts too.
fn names(header: &HeaderValue, etag: &str) -> bool {
    header.to_str().is_ok_and(|text| {
        text.split(',').map(str::trim).any(|tag| tag == "*" || tag == etag || tag.strip_prefix("W/") == Some(etag))
    })
}

#[derive(Serialize)]
struct List<'a, T> {
    data: &'a [T],
    next_cursor: Option<&'a str>,
}

/// A page of a list.
pub(super) fn list<T: Serialize>(rows: &[T], next: Option<&Next>) -> Result<Response, Problem> {
    let mut response = json(StatusCode::OK, &List { data: rows, next_cursor: next.map(|next| &*next.cursor) })?;
    if let Some(next) = next {
        set(&mut response, LINK, &format!("<{}>; rel=\"next\"", next.link));
    }
    Ok(response)
}

/// A page of what the service listed, each row as `view` shows it.
pub(super) fn rows<'r, T, C: ToString, V: Serialize>(
    query: &Query,
    found: &'r Rows<T, C>,
    view: impl FnMut(&'r T) -> V,
) -> Result<Response, Problem> {
    let shown: Vec<_> = found.rows.iter().map(view).collect();
    list(&shown, found.next.as_ref().map(|place| query.next(place)).as_ref())
}

pub(super) fn set(response: &mut Response, name: hyper::header::HeaderName, value: &str) {
    // Tags, places and links are made of ids and escaped text.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
