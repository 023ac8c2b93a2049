//! Answers, written into one buffer.

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

/// Bytes of one event's answer, roughly.
const EVENT_BYTES: usize = 96;

/// A single event's answer while it is written, on the stack.
type Line = SmallVec<[u8; 2 * EVENT_BYTES]>;

/// What became of one event of a request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is on the disk, and goes to so many webhooks.
    Taken(Committed, usize),
    /// It is not.
    Refused(Problem),
}

/// The answer for a single event: 202, or 200 for a duplicate.
pub(super) fn single(taken: Committed, webhooks: usize, warning: Option<&str>) -> Response {
    let mut out = Line::new();
    event(&mut out, taken, webhooks, warning);
    json_bytes(if taken.is_duplicate() { StatusCode::OK } else { StatusCode::ACCEPTED }, Bytes::copy_from_slice(&out))
}

/// The answer to a source: 202, or 200 for a duplicate.
fn inbound(taken: Committed) -> Response {
    let (id, duplicate) = (taken.id(), taken.is_duplicate());
    let mut out = Line::new();
    // Writing to memory does not fail.
    let _ = write!(out, r#"{{"id":"{id}","status":"accepted","duplicate":{duplicate}}}"#);
    json_bytes(if duplicate { StatusCode::OK } else { StatusCode::ACCEPTED }, Bytes::copy_from_slice(&out))
}

/// What a sender hears whose event is on the disk: in its own words, where it wants some.
pub(super) fn accepted(source: &Source, taken: Committed) -> Response {
    let (words, status) = (source.recipe.respond.as_deref(), source.recipe.status);
    if words.is_none() && status.is_none_or(|status| status != StatusCode::NO_CONTENT) {
        let mut response = inbound(taken);
        if let Some(status) = status {
            *response.status_mut() = status;
        }
        return response;
    }
    let words = words.unwrap_or_default();
    let mut response = Response::new(Body::from(Bytes::copy_from_slice(words.as_bytes())));
    *response.status_mut() = status.unwrap_or(StatusCode::OK);
    if !words.is_empty() {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(words).is_ok();
        let media_type = if is_json { JSON_UTF8 } else { "text/plain; charset=utf-8" };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    response
}

/// The answer for many: 202 if any was accepted, 200 if all were duplicates, else 422. `warnings` are of the events in these
/// places, ascending.
pub(super) fn batch(verdicts: &[Verdict], warnings: &[(usize, String)]) -> Response {
    let (mut accepted, mut duplicates, mut rejected) = (0, 0, 0);
    for verdict in verdicts {
        match verdict {
            Verdict::Taken(taken, _) if taken.is_duplicate() => duplicates += 1,
            Verdict::Taken(..) => accepted += 1,
            Verdict::Refused(_) => rejected += 1,
        }
    }
    let mut out = Vec::with_capacity(EVENT_BYTES * (verdicts.len() + 1));
    // Writing to memory does not fail.
    let _ = write!(out, r#"{{"accepted":{accepted},"duplicates":{duplicates},"rejected":{rejected},"events":["#);
    for (n, verdict) in verdicts.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        match verdict {
            Verdict::Taken(taken, webhooks) => {
                let of_it = warnings.binary_search_by_key(&n, |(place, _)| *place).ok();
                event(&mut out, *taken, *webhooks, of_it.map(|at| &*warnings[at].1));
            }
            Verdict::Refused(problem) => {
                let error = ItemError { code: problem.code.as_str(), detail: &problem.detail, errors: &problem.errors };
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
struct ItemError<'a> {
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
