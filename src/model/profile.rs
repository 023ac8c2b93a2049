//! A profile as it is written. `outbound` compiles it.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::RawScheme;

/// An entry of `[profiles]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawProfile {
    /// What the body is.
    pub envelope: Envelope,
    /// Headers with templates for their values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How deliveries are signed.
    pub sign: Sign,
    /// `User-Agent`, if it is not Hooktide's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// What the body is: a word, or the fields of an object with the names of their values, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope {
    /// `raw`: the payload alone.
    Word(String),
    /// `{ event = "type", data = "data" }`
    Fields(Vec<(String, String)>),
}

/// How deliveries are signed: a word, or a scheme.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Sign {
    /// `standard-webhooks`.
    Word(String),
    /// A scheme as sources have it in `verify`.
    Scheme(Box<RawScheme>),
}

impl Envelope {
    /// The word for no envelope.
    pub const RAW: &str = "raw";
}

impl Sign {
    /// The word for the Standard Webhooks specification.
    pub const STANDARD: &str = "standard-webhooks";
}

impl Default for Envelope {
    /// That of Standard Webhooks.
    fn default() -> Self {
        Self::Fields(["type", "timestamp", "data"].map(|name| (name.to_owned(), name.to_owned())).into())
    }
}

impl Default for Sign {
    fn default() -> Self {
        Self::Word(Self::STANDARD.to_owned())
    }
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Word(word) => to.serialize_str(word),
            Self::Fields(fields) => to.collect_map(fields.iter().map(|(name, value)| (name, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct WordOrFields;

        impl<'de> Visitor<'de> for WordOrFields {
            type Value = Envelope;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"raw\", or a table of fields and the names of their values")
            }

            fn visit_str<E>(self, word: &str) -> Result<Envelope, E> {
                Ok(Envelope::Word(word.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Envelope::Fields(fields))
            }
        }

        from.deserialize_any(WordOrFields)
    }
}

impl<'de> Deserialize<'de> for Sign {
    /// Not untagged, which would forget where in the scheme something is wrong.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct WordOrScheme;

        impl<'de> Visitor<'de> for WordOrScheme {
            type Value = Sign;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"standard-webhooks\", or a scheme as a table")
            }

            fn visit_str<E>(self, word: &str) -> Result<Sign, E> {
                Ok(Sign::Word(word.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Sign, A::Error> {
                RawScheme::deserialize(MapAccessDeserializer::new(map)).map(|scheme| Sign::Scheme(Box::new(scheme)))
            }
        }

        from.deserialize_any(WordOrScheme)
    }
}
