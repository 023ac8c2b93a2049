//! Text that must never be seen: it prints as `***`, compares in constant time, is zeroed on drop.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What is shown in place of a secret, and what a client sends back to keep the secret.
pub const HIDDEN: &str = "***";

/// What every API key begins with.
pub const API_KEY_PREFIX: &str = "hk_";

/// A secret of any kind: signing secret, API key, password.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The last four characters, by which a person recognises it.
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

/// As `***`: what keeps a secret seals it by hand.
impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(HIDDEN)
    }
}

/// Whether the value of the header with this lowercase name is a secret: `authorization`, `cookie`, `*-key`, `*-token`.
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
