//! Which headers of a request are kept, and which are nobody's business.

use http::HeaderMap;
use http::HeaderName;

use super::Source;
use super::form::push_text;
use crate::model::header::{TRACEPARENT, X_CORRELATION_ID, X_REQUEST_ID};
use crate::model::{is_secret_header, is_secret_name};
use crate::signature::Place;

/// Headers of the connection, and those that an event has in a field of its own.
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

/// Headers that repeat the URL, in which the token of a partner or of a query stands.
const OF_THE_URL: [&str; 6] =
    ["referer", "x-envoy-original-path", "x-forwarded-uri", "x-original-uri", "x-original-url", "x-rewrite-url"];

/// Whether a header's value is a secret, by its name or because the source's signature or token may stand there.
pub fn is_hidden(source: &Source, name: &HeaderName) -> bool {
    is_secret_header(name.as_str())
        || is_secret_name(name.as_str())
        || OF_THE_URL.contains(&name.as_str())
        || source.plan.is_signature(name)
}

/// Whether a secret itself may stand in a body: the token that is compared, or the one that a handshake brings.
pub fn has_secret_in_body(source: &Source) -> bool {
    let scheme = &source.recipe.scheme;
    let in_body = |place: &Place| matches!(place, Place::Json(_) | Place::Form(_));
    scheme.sends_secret() && scheme.places().iter().any(in_body)
        || source.recipe.handshake.is_some_and(|handshake| handshake.learned_places().any(in_body))
}

/// The headers of a request as a JSON object, without those of the connection and those that hold secrets; one that is
/// there more than once has its values in one text, with commas between them (RFC 9110 section 5.3).
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
        push_text(&mut out, name.as_str());
        out.push(':');
        let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let mut text = values.next().unwrap_or_default();
        for more in values {
            text = format!("{text}, {more}").into();
        }
        push_text(&mut out, &text);
    }
    out.push('}');
    out
}
