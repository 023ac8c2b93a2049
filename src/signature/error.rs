//! Why a request fails verification. The messages are for the person who configures a source. They never contain a
//! secret or a value of the request.

use super::AmbiguousHeader;

/// Why a request fails verification. The sender of the request never receives this reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header or field that the scheme needs is missing or empty.
    #[error("{0} is missing or empty")]
    Missing(Box<str>),
    /// A header or field occurs more than once with different values.
    #[error("{0} is there more than once, with different values")]
    Ambiguous(Box<str>),
    /// A value contains the separator that ends the value in the signed content, so the value could end at two
    /// positions.
    #[error("{0} holds a full stop, which separates it from the rest of what is signed")]
    Separator(Box<str>),
    /// The timestamp is not in the unit of the scheme.
    #[error("{location} holds no time in {unit}")]
    Time {
        /// The location of the timestamp.
        location: Box<str>,
        /// `seconds`, `milliseconds`, `RFC 3339`.
        unit: &'static str,
    },
    /// The request was sent too long ago. Either the request is a replay, or a clock is wrong.
    #[error("the timestamp is {seconds} s old; {allowed} s are allowed")]
    TooOld {
        /// The age of the timestamp in seconds.
        seconds: u64,
        /// The allowed age in seconds.
        allowed: u64,
    },
    /// The timestamp is in the future, because a clock is wrong.
    #[error("the timestamp is {seconds} s ahead; {allowed} s are allowed (is a clock wrong?)")]
    TooNew {
        /// The distance to the timestamp in seconds.
        seconds: u64,
        /// The allowed distance in seconds.
        allowed: u64,
    },
    /// The location contains no signature of the form that the scheme expects.
    #[error("{location} holds no signature of the expected form ({form})")]
    NoSignature {
        /// The location of the signature.
        location: Box<str>,
        /// The expected form, such as `sha256=HEX`.
        form: Box<str>,
    },
    /// The request has more signatures than any sender gives. Each signature costs a comparison.
    #[error("{location} holds more than {allowed} signatures")]
    TooMany {
        /// The location of the signatures.
        location: Box<str>,
        /// The maximum number of signatures.
        allowed: usize,
    },
    /// None of the keys made any of the signatures over this content.
    #[error("the signature does not fit: is the secret the right one, and did no proxy change or re-encode the body?")]
    Mismatch,
    /// The token or password is not the configured one.
    #[error("the token is not the configured one")]
    Token,
    /// The body is not JSON or not a form, although the scheme requires it.
    #[error("the body is not {0}, which the signature is in")]
    Body(&'static str),
    /// The token is not acceptable (scheme `jwt`).
    #[error("the token: {0}")]
    Jwt(Box<str>),
    /// The certificate is missing, invalid or not trusted.
    #[error("the certificate: {0}")]
    Certificate(Box<str>),
}

impl From<AmbiguousHeader> for VerifyError {
    fn from(AmbiguousHeader(name): AmbiguousHeader) -> Self {
        Self::Ambiguous(format!("the header {name}").into())
    }
}
