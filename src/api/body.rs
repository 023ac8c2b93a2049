//! Parses request bodies, which are JSON objects.

use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value};

use super::ManagementRequest;
use crate::http::{FieldError, Problem, ProblemCode};
use crate::json;
use crate::limits::JSON_DEPTH_MAX;
use crate::model::header;
use crate::service::fields::DocumentFields;

/// Parses the body as a JSON object. If `optional`, an empty body is an empty object.
///
/// A body that starts like JSON is accepted with any media type, because callers send bearer tokens and curl sends a form
/// type by default.
///
/// # Errors
/// 415 for another media type, 400 for invalid JSON, 422 for JSON that is not an object.
pub(super) fn object(headers: &HeaderMap, body: &[u8], optional: bool) -> Result<Map<String, Value>, Problem> {
    let fields = sample(headers, body, optional)?;
    // What is stored must be readable after a restart.
    if is_deeper_than(body, json::SETTINGS_DEPTH_MAX) {
        let detail = format!("the body is nested deeper than {}", json::SETTINGS_DEPTH_MAX);
        return Err(Problem::new(ProblemCode::InvalidJson, detail));
    }
    Ok(fields)
}

/// As [`object`], for a request that is not stored and contains an event, which may be nested deeper.
pub(super) fn sample(headers: &HeaderMap, body: &[u8], optional: bool) -> Result<Map<String, Value>, Problem> {
    let start = body.iter().find(|b| !b.is_ascii_whitespace());
    if start.is_none() && optional {
        return Ok(Map::new());
    }
    if !says_json(headers) && !matches!(start, Some(b'{' | b'[')) {
        return Err(Problem::new(ProblemCode::UnsupportedMediaType, "expected application/json"));
    }
    match json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Problem::invalid_body(vec![FieldError::new("", "expected an object")])),
        Err(_) if is_deeper_than(body, json::EVENT_DEPTH_MAX) => {
            let detail = format!(
                "the body is nested deeper than {}; the data of an event may be nested {JSON_DEPTH_MAX} deep",
                json::EVENT_DEPTH_MAX
            );
            Err(Problem::new(ProblemCode::InvalidJson, detail))
        }
        Err(error) => Err(invalid_json(body, &error)),
    }
}

fn is_deeper_than(body: &[u8], levels: usize) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| json::exceeds_depth(text, levels))
}

/// Checks the body of a request without parameters: empty, or an object without fields.
///
/// # Errors
/// As for [`object`], and 422 for a body with fields.
pub(super) fn nothing(request: &ManagementRequest) -> Result<(), Problem> {
    Ok(DocumentFields::new(object(&request.parts.headers, &request.body, true)?).finish("none")?)
}

fn says_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let media = value.split(';').next().unwrap_or_default().trim();
        media.eq_ignore_ascii_case(header::JSON) || media.eq_ignore_ascii_case("application/merge-patch+json")
    })
}

fn invalid_json(body: &[u8], error: &serde_json::Error) -> Problem {
    // serde_json counts lines from 1 and columns in bytes.
    let before: usize =
        body.split_inclusive(|b| *b == b'\n').take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    let offset = (before + error.column()).min(body.len());
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    Problem::new(ProblemCode::InvalidJson, format!("{what} at byte {offset}"))
}
