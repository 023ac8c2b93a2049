//! Twilio: an HMAC-SHA1 in base64 over the public URL and, for a form, every name and value, sorted. For any other
//! body, the URL contains the SHA-256 of the body (<https://www.twilio.com/docs/usage/webhooks/webhooks-security>).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use http::header::CONTENT_TYPE;
use ring::{digest, hmac};
use subtle::{Choice, ConstantTimeEq};
use url::form_urlencoded;

use super::{header, signature};
use crate::model::Secret;
use crate::model::header::FORM;
use crate::signature::{RequestParts, VerifyError};

/// The header with the signature.
pub(in crate::signature) const SIGNATURE: &str = "x-twilio-signature";
/// The header of Mandrill.
pub(in crate::signature) const MANDRILL_SIGNATURE: &str = "x-mandrill-signature";
const BODY_HASH: &str = "bodySHA256";

/// Verifies that one of the auth tokens signed this request.
pub(super) fn verify(tokens: &[&Secret], request: &RequestParts<'_>, name: &'static str) -> Result<(), VerifyError> {
    let given = signature(header(request.headers, name)?, name)?;
    let parameters = if is_form(request) { parameters(request.body) } else { String::new() };
    let covered = is_form(request) || is_body_covered(request)?;
    let url = match request.query {
        Some(query) => Cow::Owned(format!("{}?{query}", request.url)),
        None => Cow::Borrowed(request.url),
    };
    let other = other_spelling(&url);
    let mut found = Choice::from(0);
    for token in tokens {
        let key = key(token);
        for url in [&*url].into_iter().chain(other.as_deref()) {
            found |= mac(&key, url, &parameters).as_ref().ct_eq(&given);
        }
    }
    if covered && bool::from(found) { Ok(()) } else { Err(VerifyError::Mismatch) }
}

/// The value of `X-Twilio-Signature` for a request to this URL, which includes the query. `form` is the body if the
/// body is a form. For any other body, the URL must already contain its [`body_hash`].
pub(in crate::signature) fn sign(token: &Secret, url: &str, form: Option<&[u8]>) -> String {
    let parameters = form.map(parameters).unwrap_or_default();
    BASE64.encode(mac(&key(token), url, &parameters).as_ref())
}

/// The query parameter for a body that is not a form: `bodySHA256=…`.
pub(in crate::signature) fn body_hash(body: &[u8]) -> String {
    format!("{BODY_HASH}={}", HEXLOWER.encode(digest::digest(&digest::SHA256, body).as_ref()))
}

fn key(token: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.reveal().as_bytes())
}

fn mac(key: &hmac::Key, url: &str, parameters: &str) -> hmac::Tag {
    let mut mac = hmac::Context::with_key(key);
    mac.update(url.as_bytes());
    mac.update(parameters.as_bytes());
    mac.sign()
}

fn is_form(request: &RequestParts<'_>) -> bool {
    let kind = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM))
}

/// The names and values in sorted order. A repeated value counts once.
fn parameters(form: &[u8]) -> String {
    let mut sorted: BTreeMap<Cow<'_, str>, BTreeSet<Cow<'_, str>>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(form) {
        sorted.entry(name).or_default().insert(value);
    }
    let pairs = sorted.iter().flat_map(|(name, values)| values.iter().flat_map(move |value| [&**name, &**value]));
    pairs.collect()
}

/// Whether the URL, which is signed, contains the digest of the body. An empty body needs no digest.
fn is_body_covered(request: &RequestParts<'_>) -> Result<bool, VerifyError> {
    let query = request.query.unwrap_or_default().as_bytes();
    let mut hashes = form_urlencoded::parse(query).filter(|(name, _)| name == BODY_HASH).map(|(_, hash)| hash);
    let Some(hash) = hashes.next() else {
        return if request.body.is_empty() { Ok(true) } else { Err(VerifyError::Missing("query:bodySHA256".into())) };
    };
    if hashes.any(|other| other != hash) {
        return Err(VerifyError::Ambiguous("query:bodySHA256".into()));
    }
    let expected = digest::digest(&digest::SHA256, request.body);
    let given = HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).unwrap_or_default();
    Ok(given.ct_eq(expected.as_ref()).into())
}

/// The URL without its port, or with the default port of the scheme if it has none. Twilio has signed both forms.
fn other_spelling(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rfind('@').map_or(0, |at| at + 1);
    // The colons of an IPv6 address are in brackets.
    let after_address = authority[host..].rfind(']').map_or(host, |at| host + at);
    if let Some(colon) = authority[after_address..].rfind(':') {
        return Some(format!("{scheme}://{}{rest}", &authority[..after_address + colon]));
    }
    let port = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    Some(format!("{scheme}://{authority}:{port}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_tried_with_and_without_a_port() {
        for (url, other) in [
            ("https://a.example/x?y=z:1", "https://a.example:443/x?y=z:1"),
            ("http://a.example", "http://a.example:80"),
            ("https://a.example?x=1", "https://a.example:443?x=1"),
            ("https://a.example:1234/x", "https://a.example/x"),
            ("https://user:pass@a.example/x", "https://user:pass@a.example:443/x"),
            ("https://user:pass@a.example:1/x", "https://user:pass@a.example/x"),
            ("https://[2001:db8::1]/x", "https://[2001:db8::1]:443/x"),
            ("https://[2001:db8::1]:8443/x", "https://[2001:db8::1]/x"),
        ] {
            assert_eq!(other_spelling(url).as_deref(), Some(other));
        }
    }

    #[test]
    fn parameters_are_sorted_and_a_repeated_value_counts_once() {
        assert_eq!(parameters(b"b=2&a=9&b=1&b=2&A=%2B1+x"), "A+1 xa9b1b2");
        assert_eq!(parameters(b"b=&a"), "ab");
        assert_eq!(parameters(b""), "");
    }
}
