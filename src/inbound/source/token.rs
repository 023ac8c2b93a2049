//! Tokens of partners: the secret in a partner's URL. Only its hash is stored.

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::TokenHash;
use crate::model::Secret;
use crate::runtime::Random;

/// Random bytes in a generated token: 144 bits, 24 characters.
const TOKEN_BYTES: usize = 18;
/// Allowed length of a configured token in characters. 22 characters of 6 bits each contain the required 128 bits; the
/// maximum keeps the URL short.
const TOKEN_CHARS: std::ops::RangeInclusive<usize> = 22..=128;
/// The number of last characters that are stored as a hint for users.
const HINT_CHARS: usize = 4;

/// A token in plain text. It exists only while it is created and shown. `Debug` prints `***`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartnerToken(Secret);

/// The text is not a valid token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token has {least} to {most} of A-Z, a-z, 0-9, - and _", least = TOKEN_CHARS.start(), most = TOKEN_CHARS.end())]
pub struct PartnerTokenError;

impl PartnerToken {
    /// Generates a new random token.
    pub fn generate() -> Self {
        Self(Secret::new(BASE64URL_NOPAD.encode(&*Zeroizing::new(Random::secret::<TOKEN_BYTES>()))))
    }

    /// Uses an existing token, so that old URLs remain valid.
    ///
    /// # Errors
    /// If the text is short enough to be guessed, too long, or not URL-safe.
    pub fn try_new(text: &str) -> Result<Self, PartnerTokenError> {
        let is_safe = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if TOKEN_CHARS.contains(&text.len()) && is_safe { Ok(Self(Secret::new(text))) } else { Err(PartnerTokenError) }
    }

    /// The token in plain text, to be shown once.
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// The hash of the token, which is stored.
    pub fn hash(&self) -> TokenHash {
        let text = self.0.reveal();
        let hint = text.get(text.len().saturating_sub(HINT_CHARS)..).unwrap_or_default();
        TokenHash { hash: token_hash(text), hint: hint.into() }
    }
}

/// The SHA-256 of a text received as a token. A lookup by this hash reveals nothing about stored tokens through its timing.
pub fn token_hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_token_is_valid() {
        let (one, two) = (PartnerToken::generate(), PartnerToken::generate());
        assert_ne!(one, two);
        assert_eq!(one.reveal().len(), 24);
        assert_eq!(PartnerToken::try_new(one.reveal()).as_ref(), Ok(&one));
        assert_eq!(&*one.hash().hint, &one.reveal()[20..]);
        assert_eq!(one.hash().hash, token_hash(one.reveal()));
        assert_eq!(format!("{one:?}"), "PartnerToken(***)");
    }

    #[test]
    fn configured_tokens_are_validated() {
        for (text, is_token) in [
            ("nNsCbbEO316t13WsH3fw4QIb", true),
            ("abcdefghijklmnopqrstuv", true),
            ("abcdefghijklmnopqrstu", false),
            ("-_-_-_-_-_-_-_-_-_-_-_-_", true),
            ("abcdefghijklmnopqrstuv/x", false),
            ("abcdefghijklmnopqrstuvé", false),
            ("abcdefghijklmnop qrstuvw", false),
            ("", false),
        ] {
            assert_eq!(PartnerToken::try_new(text).is_ok(), is_token, "{text}");
        }
        assert!(PartnerToken::try_new(&"a".repeat(128)).is_ok() && PartnerToken::try_new(&"a".repeat(129)).is_err());
    }
}
