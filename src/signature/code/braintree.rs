//! Braintree: a form with a payload and pairs of a public key and an HMAC-SHA1 over the payload. The key of the HMAC is the
//! SHA-1 of the private key (`braintree/webhook_notification_gateway.py`).

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use ring::{digest, hmac};
use subtle::{Choice, ConstantTimeEq};

use crate::limits::SIGNATURES_MAX;
use crate::model::Secret;
use crate::signature::value_location::form_field;
use crate::signature::{RequestParts, VerifyError};

pub(in crate::signature) const SIGNATURE: &str = "bt_signature";
pub(in crate::signature) const PAYLOAD: &str = "bt_payload";

/// Verifies that one of the private keys signed this request.
pub(super) fn verify(secrets: &[&Secret], request: &RequestParts<'_>) -> Result<(), VerifyError> {
    let field = |name: &str| {
        form_field(request, name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| VerifyError::Missing(format!("form:{name}").into()))
    };
    let (pairs, payload) = (field(SIGNATURE)?, field(PAYLOAD)?);
    let location = || format!("form:{SIGNATURE}").into();
    if pairs.split('&').count() > SIGNATURES_MAX {
        return Err(VerifyError::TooMany { location: location(), allowed: SIGNATURES_MAX });
    }
    let given: Vec<Vec<u8>> = pairs
        .split('&')
        .filter_map(|pair| HEXLOWER_PERMISSIVE.decode(pair.split_once('|')?.1.as_bytes()).ok())
        .collect();
    if given.is_empty() {
        return Err(VerifyError::NoSignature { location: location(), form: "PUBLIC_KEY|HEX".into() });
    }
    let mut found = Choice::from(0);
    for secret in secrets {
        // Some clients cut the line break at the end of the payload, which is signed.
        for end in ["", "\n"] {
            let made = mac(secret, &[&payload, end]);
            found = given.iter().fold(found, |found, given| found | made.as_ref().ct_eq(given));
        }
    }
    if found.into() { Ok(()) } else { Err(VerifyError::Mismatch) }
}

/// The value of `bt_signature` for a payload.
pub(in crate::signature) fn sign(secret: &Secret, payload: &str) -> String {
    format!("public_key|{}", HEXLOWER.encode(mac(secret, &[payload]).as_ref()))
}

fn mac(secret: &Secret, parts: &[&str]) -> hmac::Tag {
    let key = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, secret.reveal().as_bytes());
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_ref()));
    for part in parts {
        mac.update(part.as_bytes());
    }
    mac.sign()
}
