//! Bodies of requests: JSON objects, and what is wrong with those that are not.

use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value};

use crate::http::{FieldError, Problem, ProblemCode};
use crate::model::header;

/// The body as an object; an empty one where `optional`. With a bearer token, a body that looks like JSON is read as JSON
/// whatever curl says of it.
pub(super) fn object(headers: &HeaderMap, body: &[u8], optional: bool) -> Result<Map<String, Value>, Problem> {
    let start = body.iter().find(|b| !b.is_ascii_whitespace());
    if start.is_none() && optional {
        return Ok(Map::new());
    }
    if !says_json(headers) && !matches!(start, Some(b'{' | b'[')) {
        return Err(Problem::new(ProblemCode::UnsupportedMediaType, "expected application/json"));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Problem::invalid_body(vec![FieldError::new("", "expected an object")])),
        Err(error) => Err(invalid_json(body, &error)),
    }
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

/// An error for each field that is left over, with the one of `allowed` that was likely meant.
pub(super) fn unknown(fields: &Map<String, Value>, allowed: &str) -> Vec<FieldError> {
    let detail = |key: &str| match likely(key, allowed.split(',').map(str::trim)) {
        Some(meant) => format!("unknown field; did you mean {meant}? allowed: {allowed}"),
        None => format!("unknown field; allowed: {allowed}"),
    };
    fields.keys().map(|key| FieldError::new(pointer(key), detail(key))).collect()
}

/// The word that differs least from what was written, if it differs little: in case, in `_`, in a letter or two.
fn likely<'a>(written: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LETTERS_MAX: usize = 32;
    let plain = |word: &str| -> Vec<char> {
        word.chars().filter(|c| c.is_alphanumeric()).take(LETTERS_MAX).flat_map(char::to_lowercase).collect()
    };
    let written = plain(written);
    let near = words.map(|word| (distance(&written, &plain(word)), word)).min_by_key(|(distance, _)| *distance)?;
    // One letter in three may be wrong: with more of them every short word is like every other.
    (near.0 <= (written.len() / 3).min(2)).then_some(near.1)
}

/// How many letters must be put in, taken out or replaced to make one of the other (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The JSON pointer of a top-level field (RFC 6901).
pub(super) fn pointer(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_misspelt_is_told_its_name() {
        let allowed = "url, events, max_retries, timeout_seconds, uid";
        for (key, meant) in [
            ("URL", Some("url")),
            ("event", Some("events")),
            ("maxRetries", Some("max_retries")),
            ("timeout_second", Some("timeout_seconds")),
            ("timoeut_seconds", Some("timeout_seconds")),
            ("callback", None),
            ("u", None),
            ("", None),
            ("tls", None),
        ] {
            let fields = Map::from_iter([(key.to_owned(), Value::Null)]);
            let [error] = &*unknown(&fields, allowed) else { panic!("{key}") };
            assert_eq!(error.pointer, format!("/{key}"));
            let hint = meant.map(|meant| format!(" did you mean {meant}?")).unwrap_or_default();
            assert_eq!(error.detail, format!("unknown field;{hint} allowed: {allowed}"));
        }
    }
}
