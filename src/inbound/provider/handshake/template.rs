//! The text of an answer, in which `{…}` is filled in: `{query:challenge}`, `{url}`, `{option:verification_token}`, or a
//! digest of several of them, `{hmac-hex json:/payload/plainToken}`, `{sha256-hex query:code option:token url}`.

use data_encoding::{BASE64, HEXLOWER};
use ring::{digest, hmac};

use super::rule::Asked;
use crate::signature::Place;

/// Bytes of a token: longer ones are no provider's, and a learned secret that is shorter than the least is none.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 8..=256;

/// Text with parts to be filled in.
#[derive(Debug)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Value(Value),
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

impl Template {
    pub(super) fn try_new(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (inside, after) = after.split_once('}').ok_or_else(|| format!("{text:?}: a {{ is not closed"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            parts.push(Part::try_new(inside)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self(parts))
    }

    /// The text, if everything is there.
    pub(super) fn fill(&self, asked: &Asked<'_>) -> Option<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Value(value) => text.push_str(&value.read(asked)?),
                Part::Digest(digest, values) => {
                    let values = values.iter().map(|value| value.read(asked)).collect::<Option<Vec<_>>>()?;
                    text.push_str(&digest.of(&values, asked)?);
                }
            }
        }
        Some(text)
    }
}

impl Part {
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
