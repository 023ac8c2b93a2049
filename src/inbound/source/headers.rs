//! Selects the request headers that are stored, and the headers and bodies that may contain secrets.

use http::HeaderMap;
use http::HeaderName;

use super::Source;
use super::form::push_json_string;
use crate::model::header::{TRACEPARENT, X_CORRELATION_ID, X_REQUEST_ID};
use crate::model::{is_secret_header, is_secret_name};
use crate::signature::ValueLocation;

/// Headers that are not stored: those of the connection, and those that an event has as separate fields.
const NOT_KEPT: [&str; 17] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    TRACEPARENT,
    "trailer",
    "transfer-encoding",
    "upgrade",
    X_CORRELATION_ID,
    X_REQUEST_ID,
];

/// Headers that repeat the URL, which may contain a partner's token or a secret in the query.
const OF_THE_URL: [&str; 6] =
    ["referer", "x-envoy-original-path", "x-forwarded-uri", "x-original-uri", "x-original-url", "x-rewrite-url"];

/// Whether the value of a header must be hidden: its name is that of a secret, or it may contain the signature or token of
/// the source.
pub fn is_hidden(source: &Source, name: &HeaderName) -> bool {
    is_secret_header(name.as_str())
        || is_secret_name(name.as_str())
        || OF_THE_URL.contains(&name.as_str())
        || source.extraction.is_signature(name)
}

/// Whether a body may contain a secret: the token that is compared, or the secret that a handshake sends.
pub fn has_secret_in_body(source: &Source) -> bool {
    let scheme = &source.recipe.scheme;
    let in_body = |place: &ValueLocation| {
        matches!(place, ValueLocation::Json(_) | ValueLocation::Form(_) | ValueLocation::FormJson(..))
    };
    scheme.sends_secret() && scheme.signature_locations().iter().any(in_body)
        || source.recipe.handshake.is_some_and(|handshake| handshake.secret_locations().any(in_body))
}

/// The headers of a request as a JSON object, without the headers of the connection and those that contain secrets. The
/// values of a repeated header are joined by commas (RFC 9110 section 5.3).
pub fn kept_headers(source: &Source, headers: &HeaderMap) -> String {
    let mut out = String::with_capacity(512);
    out.push('{');
    for name in headers.keys() {
        if NOT_KEPT.contains(&name.as_str()) || is_hidden(source, name) {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        push_json_string(&mut out, name.as_str());
        out.push(':');
        let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let mut text = values.next().unwrap_or_default();
        for more in values {
            text = format!("{text}, {more}").into();
        }
        push_json_string(&mut out, &text);
    }
    out.push('}');
    out
}
