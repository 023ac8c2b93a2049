//! Builds tokens for tests.

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;

/// A token with this header and these claims, signed with HS256. Neither is validated.
pub(crate) fn token(secret: &str, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

/// Encodes a part of a token.
pub(crate) fn part(text: &str) -> String {
    BASE64URL_NOPAD.encode(text.as_bytes())
}
