//! The schemes that no record of fields can say: sorted parameters (Twilio), certificates by URL (PayPal, SNS).

use super::scheme::Code;
use super::{Key, Request, VerifyError};
use crate::model::Timestamp;

/// An X.509 certificate with a public key that verifies.
#[derive(Debug, Clone)]
pub struct Certificate {}

/// Whether one of the keys, or the certificate, signed this request.
pub(super) fn verify(
    _which: Code,
    _keys: &[&Key],
    _certificate: Option<&Certificate>,
    _request: &Request<'_>,
    _now: Timestamp,
) -> Result<(), VerifyError> {
    Err(VerifyError::Mismatch)
}

/// Where the certificate of this request is.
pub(super) fn certificate_url(_which: Code, _request: &Request<'_>) -> Result<Option<url::Url>, VerifyError> {
    Ok(None)
}
