//! A partner's token: the secret in its URL, of which only the hash is kept.

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::TokenHash;
use crate::model::Secret;
use crate::runtime::Random;

/// Random bytes in a token that is made here: 144 bits, 24 characters.
const TOKEN_BYTES: usize = 18;
/// Characters of a token that is given: 22 of 6 bits each hold the least that cannot be guessed, 128 bits; at most what
/// anybody would put in a URL.
const TOKEN_CHARS: std::ops::RangeInclusive<usize> = 22..=128;
/// Characters of it that are kept for people.
const HINT_CHARS: usize = 4;

/// A token in the clear, which exists only while it is made and shown. Prints as `***`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(Secret);

/// Text that cannot be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token has {least} to {most} of A-Z, a-z, 0-9, - and _", least = TOKEN_CHARS.start(), most = TOKEN_CHARS.end())]
pub struct TokenError;

impl Token {
    /// A new one.
    pub fn generate() -> Self {
        Self(Secret::new(BASE64URL_NOPAD.encode(&*Zeroizing::new(Random::secret::<TOKEN_BYTES>()))))
    }

    /// One that is given, so that old URLs live on.
    ///
    /// # Errors
    /// For text that is too short to be unguessable, too long, or not URL-safe.
    pub fn try_new(text: &str) -> Result<Self, TokenError> {
        let is_safe = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if TOKEN_CHARS.contains(&text.len()) && is_safe { Ok(Self(Secret::new(text))) } else { Err(TokenError) }
    }

    /// The text itself, to be shown once.
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        let text = self.0.reveal();
        let hint = text.get(text.len().saturating_sub(HINT_CHARS)..).unwrap_or_default();
        TokenHash { hash: token_hash(text), hint: hint.into() }
    }
}

/// SHA-256 of whatever came in a token's place: what is looked up by it tells a stranger nothing by the time it takes.
pub fn token_hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_made_could_have_been_given() {
        let (one, two) = (Token::generate(), Token::generate());
        assert_ne!(one, two);
        assert_eq!(one.reveal().len(), 24);
        assert_eq!(Token::try_new(one.reveal()).as_ref(), Ok(&one));
        assert_eq!(&*one.hash().hint, &one.reveal()[20..]);
        assert_eq!(one.hash().hash, token_hash(one.reveal()));
        assert_eq!(format!("{one:?}"), "Token(***)");
    }

    #[test]
    fn tokens_that_are_given() {
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
            assert_eq!(Token::try_new(text).is_ok(), is_token, "{text}");
        }
        assert!(Token::try_new(&"a".repeat(128)).is_ok() && Token::try_new(&"a".repeat(129)).is_err());
    }
}
