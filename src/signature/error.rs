//! Why a request is not believed, in words for whoever sets a source up; never a secret, never a value of the request.

use super::Ambiguous;

/// See the module. The sender is told none of this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header or field that the scheme needs is missing or empty.
    #[error("{0} is missing or empty")]
    Missing(Box<str>),
    /// It is there twice, with different values.
    #[error("{0} is there more than once, with different values")]
    Ambiguous(Box<str>),
    /// What ends a value in the text that is signed stands in the value too, so that it could end in two places.
    #[error("{0} holds a full stop, which separates it from the rest of what is signed")]
    Separator(Box<str>),
    /// The time is not what the scheme says.
    #[error("{place} holds no time in {unit}")]
    Time {
        /// Where.
        place: Box<str>,
        /// `seconds`, `milliseconds`, `RFC 3339`.
        unit: &'static str,
    },
    /// Sent too long ago: a replay, or a clock that is wrong.
    #[error("the timestamp is {seconds} s old; {allowed} s are allowed")]
    TooOld {
        /// How old.
        seconds: u64,
        /// How old it may be.
        allowed: u64,
    },
    /// Dated in the future: a clock that is wrong.
    #[error("the timestamp is {seconds} s ahead; {allowed} s are allowed (is a clock wrong?)")]
    TooNew {
        /// How far.
        seconds: u64,
        /// How far it may be.
        allowed: u64,
    },
    /// What stands there is no signature of this scheme.
    #[error("{place} holds no signature of the expected form ({form})")]
    NoSignature {
        /// Where.
        place: Box<str>,
        /// `sha256=HEX`.
        form: Box<str>,
    },
    /// More signatures than any sender gives: each costs a comparison.
    #[error("{place} holds more than {allowed} signatures")]
    TooMany {
        /// Where.
        place: Box<str>,
        /// How many there may be.
        allowed: usize,
    },
    /// None of the keys made it over these bytes.
    #[error("the signature does not fit: is the secret the right one, and did no proxy change or re-encode the body?")]
    Mismatch,
    /// A token or password that is not the configured one.
    #[error("the token is not the configured one")]
    Token,
    /// A body that the scheme needs to be JSON or a form is not.
    #[error("the body is not {0}, which the signature is in")]
    Body(&'static str),
    /// The certificate.
    #[error("the certificate: {0}")]
    Certificate(Box<str>),
}

impl From<Ambiguous> for VerifyError {
    fn from(Ambiguous(name): Ambiguous) -> Self {
        Self::Ambiguous(format!("the header {name}").into())
    }
}
