//! Contentful: an HMAC-SHA256 in hexadecimal over the method, the path, the headers that a header lists, and the body
//! (`@contentful/node-apps-toolkit`, `src/requests`).

use std::time::Duration;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use http::HeaderName;
use ring::hmac;
use subtle::{Choice, ConstantTimeEq};

use super::header;
use crate::limits::SIGNED_HEADERS_MAX;
use crate::model::{Secret, Timestamp};
use crate::signature::time::{TimeRule, TimestampUnit};
use crate::signature::value_location::header as header_of;
use crate::signature::{RequestParts, ValueLocation, VerifyError};

pub(in crate::signature) const SIGNATURE: &str = "x-contentful-signature";
pub(in crate::signature) const SIGNED_HEADERS: &str = "x-contentful-signed-headers";
pub(in crate::signature) const TIMESTAMP: &str = "x-contentful-timestamp";

/// Verifies that one of the secrets signed this request.
pub(super) fn verify(
    secrets: &[&Secret],
    request: &RequestParts<'_>,
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), VerifyError> {
    let given = header(request.headers, SIGNATURE)?;
    let given = HEXLOWER_PERMISSIVE
        .decode(given.as_bytes())
        .map_err(|_| VerifyError::NoSignature { location: SIGNATURE.into(), form: "HEX".into() })?;
    let listed = header(request.headers, SIGNED_HEADERS)?;
    let is_listed = |name: &str| listed.split(',').any(|listed| listed.trim().eq_ignore_ascii_case(name));
    // What is not listed is not signed.
    if let Some(missing) = [TIMESTAMP, SIGNED_HEADERS].into_iter().find(|name| !is_listed(name)) {
        return Err(VerifyError::Missing(format!("{missing} in {SIGNED_HEADERS}").into()));
    }
    let time = header(request.headers, TIMESTAMP)?;
    let location = ValueLocation::Header(vec![HeaderName::from_static(TIMESTAMP)]);
    TimeRule { location, unit: TimestampUnit::Millis, tolerance_s: tolerance.as_secs() }.check(time, now)?;
    let content = content(request, listed)?;
    let found = secrets.iter().fold(Choice::from(0), |found, secret| {
        let mut mac = hmac::Context::with_key(&key(secret));
        mac.update(content.as_bytes());
        mac.update(request.body);
        found | mac.sign().as_ref().ct_eq(&given)
    });
    if found.into() { Ok(()) } else { Err(VerifyError::Mismatch) }
}

/// The value of `X-Contentful-Signature` for a request that has the other headers.
pub(in crate::signature) fn sign(secret: &Secret, request: &RequestParts<'_>) -> Result<String, VerifyError> {
    let mut mac = hmac::Context::with_key(&key(secret));
    mac.update(content(request, header(request.headers, SIGNED_HEADERS)?)?.as_bytes());
    mac.update(request.body);
    Ok(HEXLOWER.encode(mac.sign().as_ref()))
}

fn key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes())
}

/// What is signed before the body: lines with the method, the path, and the listed headers in the order of their names.
fn content(request: &RequestParts<'_>, listed: &str) -> Result<String, VerifyError> {
    let names: Vec<&str> = listed.split(',').map(str::trim).collect();
    if names.len() > SIGNED_HEADERS_MAX {
        return Err(VerifyError::TooMany { location: SIGNED_HEADERS.into(), allowed: SIGNED_HEADERS_MAX });
    }
    let mut headers = Vec::new();
    for name in names {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| VerifyError::Missing(format!("a name in {SIGNED_HEADERS}").into()))?;
        // The library leaves out a listed header that is not there.
        if let Some(value) = header_of(std::slice::from_ref(&name), request.headers)? {
            headers.push(format!("{name}:{}", value.trim()));
        }
    }
    headers.sort_unstable();
    headers.dedup();
    Ok(format!("{}\n{}\n{}\n", request.method, path(request), headers.join(";")))
}

/// The path as the library spells it: percent signs are encoded again, and those of the query twice.
fn path(request: &RequestParts<'_>) -> String {
    let without_scheme = request.url.split_once("://").map_or(request.url, |(_, rest)| rest);
    let path = without_scheme.find('/').map_or("/", |at| &without_scheme[at..]).replace('%', "%25");
    match request.query.filter(|query| !query.is_empty()) {
        None => path,
        Some(query) => format!("{path}?{}", escaped(query).replace('%', "%25")),
    }
}

/// Encodes as JavaScript's `querystring.escape`: all but letters, digits and `-_.!~*'()`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
