//! Templates of response texts. A placeholder is a value (`{query:challenge}`, `{url}`, `{option:verification_token}`) or a
//! digest of several values (`{hmac-hex json:/payload/plainToken}`, `{sha256-hex query:code option:token url}`).

use data_encoding::{BASE64, HEXLOWER};
use ring::{digest, hmac};

use super::rule::HandshakeContext;
use crate::signature::ValueLocation;
use crate::template::{Template, TemplateError};

/// Allowed length of a token in bytes. No provider sends longer tokens, and a shorter secret is not accepted.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 8..=256;

/// The template of a response text or header, in the syntax of [`template`](crate::template).
#[derive(Debug)]
pub(super) struct TextTemplate(Template<ResponsePlaceholder>);

#[derive(Debug)]
enum ResponsePlaceholder {
    Value(PlaceholderValue),
    /// A digest of the concatenated values.
    Digest(DigestFunction, Vec<PlaceholderValue>),
}

#[derive(Debug)]
enum PlaceholderValue {
    At(ValueLocation),
    Option(Box<str>),
    /// The URL of the source as the provider knows it.
    Url,
}

#[derive(Debug, Clone, Copy)]
enum DigestFunction {
    HmacHex,
    HmacBase64,
    Sha256Hex,
    /// An HMAC-SHA1 with the SHA-1 of the secret as key.
    BraintreeHex,
}

impl TextTemplate {
    pub(super) fn try_new(text: &str) -> Result<Self, String> {
        Template::parse(text, ResponsePlaceholder::try_new).map(Self).map_err(|error| match error {
            TemplateError::Placeholder { error, .. } => error,
            error => format!("{text:?}: {error}"),
        })
    }

    /// Fills the template. Returns `None` if a value is missing.
    pub(super) fn fill(&self, context: &HandshakeContext<'_>) -> Option<String> {
        let mut text = String::new();
        self.0.try_write(&mut text, |placeholder, text| {
            text.push_str(&placeholder.read(context)?);
            Some(())
        })?;
        Some(text)
    }
}

impl ResponsePlaceholder {
    fn try_new(inside: &str) -> Result<Self, String> {
        let (digest, values) = match inside.split_once(' ') {
            None => return Ok(Self::Value(PlaceholderValue::try_new(inside)?)),
            Some(("hmac-hex", values)) => (DigestFunction::HmacHex, values),
            Some(("hmac-base64", values)) => (DigestFunction::HmacBase64, values),
            Some(("braintree-hex", values)) => (DigestFunction::BraintreeHex, values),
            Some(("sha256-hex", values)) => (DigestFunction::Sha256Hex, values),
            Some((other, _)) => return Err(format!("{other:?} is no digest")),
        };
        Ok(Self::Digest(digest, values.split(' ').map(PlaceholderValue::try_new).collect::<Result<_, _>>()?))
    }

    fn read(&self, context: &HandshakeContext<'_>) -> Option<String> {
        match self {
            Self::Value(value) => value.read(context),
            Self::Digest(digest, values) => {
                let values = values.iter().map(|value| value.read(context)).collect::<Option<Vec<_>>>()?;
                digest.of(&values, context)
            }
        }
    }
}

impl PlaceholderValue {
    fn try_new(text: &str) -> Result<Self, String> {
        Ok(match text.strip_prefix("option:") {
            Some(option) => Self::Option(option.into()),
            None if text == "url" => Self::Url,
            None => Self::At(text.parse().map_err(|error| format!("{text:?}: {error}"))?),
        })
    }

    fn read(&self, context: &HandshakeContext<'_>) -> Option<String> {
        match self {
            Self::At(location) => context.value(location),
            Self::Option(name) => (context.option)(name),
            Self::Url => Some(context.request.url.to_owned()),
        }
    }
}

impl DigestFunction {
    /// Computes the digest. An HMAC uses the first active secret and signs only tokens: X signs events in the same way as
    /// challenges, so a signed challenge with any other text could be replayed as an event.
    fn of(self, values: &[String], context: &HandshakeContext<'_>) -> Option<String> {
        let text = values.concat();
        if let Self::Sha256Hex = self {
            return Some(HEXLOWER.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()));
        }
        if let Self::BraintreeHex = self {
            // A payload is signed in the same way. No payload has this form.
            let secret = context.secrets.first().filter(|_| is_braintree_challenge(&text))?;
            let key = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, secret.reveal().as_bytes());
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_ref());
            return Some(HEXLOWER.encode(hmac::sign(&key, text.as_bytes()).as_ref()));
        }
        let secret = context.secrets.first().filter(|_| is_token(&text))?;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes()), text.as_bytes());
        Some(match self {
            Self::HmacBase64 => BASE64.encode(tag.as_ref()),
            _ => HEXLOWER.encode(tag.as_ref()),
        })
    }
}

fn is_braintree_challenge(text: &str) -> bool {
    (20..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether the text has the syntax of a token. JSON and forms do not.
pub(super) fn is_token(text: &str) -> bool {
    TOKEN_BYTES.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b))
}
