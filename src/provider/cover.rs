//! Which values of a request a signature covers: an id or a type that it does not cover can be exchanged by whoever
//! captured the request.

use crate::signature::{Place, RawScheme};

/// What SNS signs of its JSON (the documentation of its message signatures).
const SNS_SIGNED: [&str; 7] =
    ["/Message", "/MessageId", "/Subject", "/SubscribeURL", "/Timestamp", "/TopicArn", "/Type"];
/// What PayPal signs whole; the body only by a CRC32, which anyone can make to fit.
const PAYPAL_SIGNED: [&str; 2] = ["paypal-transmission-id", "paypal-transmission-time"];

/// Whether a request with another value at this place would be refused.
pub(super) fn covers(scheme: &RawScheme, place: &Place) -> bool {
    match (scheme.scheme.as_str(), place) {
        (_, Place::Const(_)) => true,
        (_, Place::Sig(_)) => false,
        ("code:sns", Place::Json(pointer)) => SNS_SIGNED.contains(&pointer.as_str()),
        ("code:paypal", Place::Header(names)) => names.iter().all(|name| PAYPAL_SIGNED.contains(&name.as_str())),
        // The URL with its query; of a form each field, of JSON the digest that is in the query.
        ("code:twilio", Place::Json(_) | Place::Form(_) | Place::Query(_)) => true,
        ("hmac" | "hash" | "ed25519" | "ecdsa-p256", place) => template_covers(scheme, place),
        _ => false,
    }
}

fn template_covers(scheme: &RawScheme, place: &Place) -> bool {
    let template = scheme.signed.as_deref().unwrap_or("{body}");
    let mut parts = template.split('{').skip(1).filter_map(|part| part.split('}').next());
    parts.any(|part| match (part, place) {
        ("body", Place::Json(_) | Place::Form(_)) => scheme.each.is_none(),
        ("url" | "url:unescaped", Place::Query(_)) => true,
        ("time", place) => scheme.time.as_deref().is_some_and(|time| is_same(time, place)),
        (part, Place::Json(pointer)) => {
            let part = part.strip_prefix("json:");
            part.is_some_and(|part| is_element(scheme.each.as_deref(), part, pointer.as_str()))
        }
        (part, place) => is_same(part, place),
    })
}

/// Whether the place is the part of a template: of headers it may name the first few, which are those that win.
fn is_same(part: &str, place: &Place) -> bool {
    match (part.parse(), place) {
        (Ok(Place::Header(signed)), Place::Header(names)) => signed.starts_with(names),
        (Ok(signed), place) => signed == *place,
        (Err(_), _) => false,
    }
}

/// Whether `pointer` is `part`, or `part` of one of the elements of which each is signed by itself.
fn is_element(each: Option<&str>, part: &str, pointer: &str) -> bool {
    let Some(each) = each.map(|each| each.strip_prefix("json:").unwrap_or(each)) else { return part == pointer };
    let element =
        pointer.strip_prefix(each).and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.split_once('/'));
    element.is_some_and(|(index, rest)| {
        index.bytes().all(|b| b.is_ascii_digit()) && part.strip_prefix('/').unwrap_or(part) == rest
    })
}
