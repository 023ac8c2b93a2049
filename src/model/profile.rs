//! The settings of a delivery profile. The folder `outbound` compiles them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::RawScheme;

/// The settings of one profile: an entry of `[profiles]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawProfile {
    /// The body of deliveries.
    pub envelope: RawEnvelope,
    /// Additional headers by name. The values are templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How deliveries are signed.
    pub sign: RawSigning,
    /// The `User-Agent` header; `None` means the default of Hooktide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// The `envelope` setting, which describes the body of deliveries. Either a word, or the fields of a JSON object with
/// the names of their values, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawEnvelope {
    /// The word `raw`: the body is the payload without an envelope.
    Word(String),
    /// The fields of an object, such as `{ event = "type", data = "data" }`.
    Fields(Vec<(String, String)>),
}

/// The `sign` setting, which describes how deliveries are signed. Either a word, or a signature scheme.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RawSigning {
    /// The word `standard-webhooks`.
    Word(String),
    /// A signature scheme in the same form as the `verify` setting of a source.
    Scheme(Box<RawScheme>),
}

impl RawEnvelope {
    /// The word that means no envelope.
    pub const RAW: &str = "raw";
}

impl RawSigning {
    /// The word that means the Standard Webhooks specification.
    pub const STANDARD: &str = "standard-webhooks";
}

impl Default for RawEnvelope {
    /// The envelope of the Standard Webhooks specification.
    fn default() -> Self {
        Self::Fields(["type", "timestamp", "data"].map(|name| (name.to_owned(), name.to_owned())).into())
    }
}

impl Default for RawSigning {
    fn default() -> Self {
        Self::Word(Self::STANDARD.to_owned())
    }
}

impl Serialize for RawEnvelope {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Word(word) => to.serialize_str(word),
            Self::Fields(fields) => to.collect_map(fields.iter().map(|(name, value)| (name, value))),
        }
    }
}

impl<'de> Deserialize<'de> for RawEnvelope {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct WordOrFields;

        impl<'de> Visitor<'de> for WordOrFields {
            type Value = RawEnvelope;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"raw\", or a table of fields and the names of their values")
            }

            fn visit_str<E>(self, word: &str) -> Result<RawEnvelope, E> {
                Ok(RawEnvelope::Word(word.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawEnvelope, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(RawEnvelope::Fields(fields))
            }
        }

        from.deserialize_any(WordOrFields)
    }
}

impl<'de> Deserialize<'de> for RawSigning {
    /// `#[serde(untagged)]` is not used, because an error would then lack the position within the scheme.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct WordOrScheme;

        impl<'de> Visitor<'de> for WordOrScheme {
            type Value = RawSigning;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"standard-webhooks\", or a scheme as a table")
            }

            fn visit_str<E>(self, word: &str) -> Result<RawSigning, E> {
                Ok(RawSigning::Word(word.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawSigning, A::Error> {
                RawScheme::deserialize(MapAccessDeserializer::new(map))
                    .map(|scheme| RawSigning::Scheme(Box::new(scheme)))
            }
        }

        from.deserialize_any(WordOrScheme)
    }
}
