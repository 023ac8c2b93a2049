//! Secret texts, which print as `***`, compare in constant time and are erased when dropped.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The placeholder that is shown instead of a secret. A client sends the placeholder back to keep the secret.
pub const HIDDEN: &str = "***";

/// The prefix of every API key.
pub const API_KEY_PREFIX: &str = "hk_";

/// A secret, such as a signing secret, an API key or a password.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The plain text. Call this method only where the plain text is needed.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The last four characters after an ellipsis, by which a person recognises the secret.
    pub fn hint(&self) -> String {
        let tail: String = self.0.chars().rev().take(4).collect();
        format!("…{}", tail.chars().rev().collect::<String>())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::new)
    }
}

/// Serializes as `***`. Code that stores a secret encrypts the text itself.
impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(HIDDEN)
    }
}

/// Whether the header with this lowercase name holds a secret: `authorization`, `cookie`, `*-key`, `*-token`.
pub fn is_secret_header(name: &str) -> bool {
    matches!(name, "authorization" | "cookie") || name.ends_with("-key") || name.ends_with("-token")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.hint(), "…LaSw");
    }
}
