//! Success responses of the ingest routes. Each is written into one buffer.

use std::io::{self, Write as _};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use smallvec::SmallVec;

use crate::handoff::Committed;
use crate::http::reply::json_bytes;
use crate::http::{Body, FieldError, Problem, Response};
use crate::inbound::source::Source;
use crate::model::header::JSON_UTF8;

/// The approximate size of the response for one event, in bytes.
const EVENT_BYTES: usize = 96;

/// The buffer for the response of a single event, on the stack.
type ReplyBuffer = SmallVec<[u8; 2 * EVENT_BYTES]>;

/// The result of one event of a request.
#[derive(Debug)]
pub(super) enum EventResult {
    /// The event is durable, and this number of webhooks match it.
    Accepted(Committed, usize),
    /// The event was not accepted.
    Rejected(Problem),
}

/// The response for a single event: 202, or 200 for a duplicate.
pub(super) fn accepted_response(taken: Committed, webhooks: usize, warning: Option<&str>) -> Response {
    let mut out = ReplyBuffer::new();
    event(&mut out, taken, webhooks, warning);
    json_bytes(if taken.is_duplicate() { StatusCode::OK } else { StatusCode::ACCEPTED }, Bytes::copy_from_slice(&out))
}

/// The default response to a source: 202, or 200 for a duplicate.
fn inbound(taken: Committed) -> Response {
    let (id, duplicate) = (taken.id(), taken.is_duplicate());
    let mut out = ReplyBuffer::new();
    // Writing to memory cannot fail.
    let _ = write!(out, r#"{{"id":"{id}","status":"accepted","duplicate":{duplicate}}}"#);
    json_bytes(if duplicate { StatusCode::OK } else { StatusCode::ACCEPTED }, Bytes::copy_from_slice(&out))
}

/// The response to a source whose event is durable. The source may configure the body and the status.
pub(super) fn accepted(source: &Source, taken: Committed) -> Response {
    let (body, status) = (source.recipe.respond.as_deref(), source.recipe.status);
    if body.is_none() && status.is_none_or(|status| status != StatusCode::NO_CONTENT) {
        let mut response = inbound(taken);
        if let Some(status) = status {
            *response.status_mut() = status;
        }
        return response;
    }
    let body = body.unwrap_or_default();
    let mut response = Response::new(Body::from(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status.unwrap_or(StatusCode::OK);
    if !body.is_empty() {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
        let media_type = if is_json { JSON_UTF8 } else { "text/plain; charset=utf-8" };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    response
}

/// The response for several events: 202 if at least one was accepted, 200 if all were duplicates, otherwise 422. `warnings`
/// contains the index of an event and its warning, in ascending order.
pub(super) fn batch(verdicts: &[EventResult], warnings: &[(usize, String)]) -> Response {
    let (mut accepted, mut duplicates, mut rejected) = (0, 0, 0);
    for verdict in verdicts {
        match verdict {
            EventResult::Accepted(taken, _) if taken.is_duplicate() => duplicates += 1,
            EventResult::Accepted(..) => accepted += 1,
            EventResult::Rejected(_) => rejected += 1,
        }
    }
    let mut out = Vec::with_capacity(EVENT_BYTES * (verdicts.len() + 1));
    // Writing to memory cannot fail.
    let _ = write!(out, r#"{{"accepted":{accepted},"duplicates":{duplicates},"rejected":{rejected},"events":["#);
    for (n, verdict) in verdicts.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        match verdict {
            EventResult::Accepted(taken, webhooks) => {
                let warning = warnings.binary_search_by_key(&n, |(index, _)| *index).ok();
                event(&mut out, *taken, *webhooks, warning.map(|at| &*warnings[at].1));
            }
            EventResult::Rejected(problem) => {
                let error =
                    EventError { code: problem.code.as_str(), detail: &problem.detail, errors: &problem.errors };
                out.extend_from_slice(br#"{"error":"#);
                let _ = serde_json::to_writer(&mut out, &error);
                out.push(b'}');
            }
        }
    }
    out.extend_from_slice(b"]}");
    let status = match (accepted, duplicates) {
        (1.., _) => StatusCode::ACCEPTED,
        (0, 1..) if rejected == 0 => StatusCode::OK,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    json_bytes(status, out.into())
}

#[derive(serde::Serialize)]
struct EventError<'a> {
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

fn event(out: &mut impl io::Write, taken: Committed, webhooks: usize, warning: Option<&str>) {
    let (id, duplicate) = (taken.id(), taken.is_duplicate());
    let _ = write!(out, r#"{{"id":"{id}","status":"accepted","duplicate":{duplicate},"webhooks":{webhooks}"#);
    if let Some(warning) = warning {
        let _ = out.write_all(br#","warnings":"#);
        let _ = serde_json::to_writer(&mut *out, &[warning]);
    }
    let _ = out.write_all(b"}");
}
