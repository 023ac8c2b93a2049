//! The text of an answer, in which `{…}` is filled in: `{query:challenge}`, `{url}`, `{option:verification_token}`, or a
//! digest of several of them, `{hmac-hex json:/payload/plainToken}`, `{sha256-hex query:code option:token url}`.

use data_encoding::{BASE64, HEXLOWER};
use ring::{digest, hmac};

use super::rule::Asked;
use crate::signature::Place;
use crate::template::{Template, TemplateError};

/// Bytes of a token: longer ones are no provider's, and a learned secret that is shorter than the least is none.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 8..=256;

/// The text of an answer: see [`template`](crate::template).
#[derive(Debug)]
pub(super) struct AnswerTemplate(Template<Placeholder>);

#[derive(Debug)]
enum Placeholder {
    Value(Value),
    /// Over the values, one after the other.
    Digest(Digest, Vec<Value>),
}

#[derive(Debug)]
enum Value {
    At(Place),
    Option(Box<str>),
    /// The source's URL as the provider knows it.
    Url,
}

#[derive(Debug, Clone, Copy)]
enum Digest {
    HmacHex,
    HmacBase64,
    Sha256Hex,
}

impl AnswerTemplate {
    pub(super) fn try_new(text: &str) -> Result<Self, String> {
        Template::parse(text, Placeholder::try_new).map(Self).map_err(|error| match error {
            TemplateError::Placeholder { error, .. } => error,
            error => format!("{text:?}: {error}"),
        })
    }

    /// The text, if everything is there.
    pub(super) fn fill(&self, asked: &Asked<'_>) -> Option<String> {
        let mut text = String::new();
        self.0.try_write(&mut text, |placeholder, text| {
            text.push_str(&placeholder.read(asked)?);
            Some(())
        })?;
        Some(text)
    }
}

impl Placeholder {
    fn try_new(inside: &str) -> Result<Self, String> {
        let (digest, values) = match inside.split_once(' ') {
            None => return Ok(Self::Value(Value::try_new(inside)?)),
            Some(("hmac-hex", values)) => (Digest::HmacHex, values),
            Some(("hmac-base64", values)) => (Digest::HmacBase64, values),
            Some(("sha256-hex", values)) => (Digest::Sha256Hex, values),
            Some((other, _)) => return Err(format!("{other:?} is no digest")),
        };
        Ok(Self::Digest(digest, values.split(' ').map(Value::try_new).collect::<Result<_, _>>()?))
    }

    fn read(&self, asked: &Asked<'_>) -> Option<String> {
        match self {
            Self::Value(value) => value.read(asked),
            Self::Digest(digest, values) => {
                let values = values.iter().map(|value| value.read(asked)).collect::<Option<Vec<_>>>()?;
                digest.of(&values, asked)
            }
        }
    }
}

impl Value {
    fn try_new(text: &str) -> Result<Self, String> {
        Ok(match text.strip_prefix("option:") {
            Some(option) => Self::Option(option.into()),
            None if text == "url" => Self::Url,
            None => Self::At(text.parse().map_err(|error| format!("{text:?}: {error}"))?),
        })
    }

    fn read(&self, asked: &Asked<'_>) -> Option<String> {
        match self {
            Self::At(place) => asked.value(place),
            Self::Option(name) => (asked.option)(name),
            Self::Url => Some(asked.request.url.to_owned()),
        }
    }
}

impl Digest {
    /// A secret, the first one in force, signs tokens only: X signs its events in the same way as it wants its challenge
    /// answered, so a body that we signed for a stranger would be an event.
    fn of(self, values: &[String], asked: &Asked<'_>) -> Option<String> {
        let text = values.concat();
        if let Self::Sha256Hex = self {
            return Some(HEXLOWER.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()));
        }
        let secret = asked.secrets.first().filter(|_| is_token(&text))?;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes()), text.as_bytes());
        Some(match self {
            Self::HmacBase64 => BASE64.encode(tag.as_ref()),
            _ => HEXLOWER.encode(tag.as_ref()),
        })
    }
}

/// Whether the text is what providers use as a token: neither JSON nor a form.
pub(super) fn is_token(text: &str) -> bool {
    TOKEN_BYTES.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b))
}
