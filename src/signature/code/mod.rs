//! The schemes that no record of fields can say: sorted parameters (Twilio), certificates by URL (PayPal, SNS).

/// An X.509 certificate with a public key that verifies.
#[derive(Debug, Clone)]
pub struct Certificate {}
