//! A recipe: a scheme, and what else there is to know of a kind of source.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Handshake;
use crate::signature::{OneOrMany, Place, RawScheme, Scheme, SchemeError};

/// A recipe as it stands in `table.toml`, where the scheme's fields are beside the others; a custom source has its own.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RawRecipe {
    /// What it is called for people: `Shopify`.
    #[serde(default)]
    pub title: String,
    /// The page group of `docs/guides/`: `commerce`, `payments`, `developer`, …
    #[serde(default)]
    pub family: String,
    /// Takes everything that is not given from this recipe.
    #[serde(default)]
    pub like: Option<String>,
    /// How it signs.
    #[serde(flatten)]
    pub verify: RawScheme,
    /// The delivery's id; several: joined by `:`.
    #[serde(default)]
    pub id: Option<OneOrMany>,
    /// The event's type; several: the first that is there.
    #[serde(default)]
    pub r#type: Option<OneOrMany>,
    /// A signed value that may come only once, beside `id`.
    #[serde(default)]
    pub once: Option<String>,
    /// `id` (default, where there is one), `id+body`, `body`.
    #[serde(default)]
    pub dedup: Option<String>,
    /// Name of a handshake.
    #[serde(default)]
    pub handshake: Option<String>,
    /// The body of the answer to an accepted event, where the provider wants its own words.
    #[serde(default)]
    pub respond: Option<String>,
    /// Media types beside JSON: `form`.
    #[serde(default)]
    pub content: Vec<String>,
    /// Values kept in the event's metadata, by name.
    #[serde(default)]
    pub keep: BTreeMap<String, String>,
    /// Options that a source of this kind may or must have, by name: what they are.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// For people: where to paste the URL, what to know.
    #[serde(default)]
    pub notes: String,
    /// The default event map, as in API section 3.
    #[serde(default)]
    pub event_map: Vec<serde_json::Value>,
}

/// What makes two events of a source the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dedup {
    /// The sender's id.
    #[serde(rename = "id")]
    Id,
    /// The id together with the body.
    #[serde(rename = "id+body")]
    IdAndBody,
    /// The body.
    #[serde(rename = "body")]
    Body,
}

/// A recipe that can be used.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// How it signs.
    pub scheme: Scheme,
    /// The delivery's id, joined by `:`; empty: none.
    pub id: Vec<Place>,
    /// The event's type: the first that is there.
    pub event_type: Vec<Place>,
    /// A signed value that may come only once, beside the id.
    pub once: Option<Place>,
    /// What makes two events the same.
    pub dedup: Dedup,
    /// How it asks whether the address is ours.
    pub handshake: Option<Handshake>,
    /// The body of the answer to an accepted event.
    pub respond: Option<Box<str>>,
    /// Whether forms are taken beside JSON.
    pub takes_forms: bool,
    /// Values kept in the event's metadata.
    pub keep: Vec<(Box<str>, Place)>,
}

impl Recipe {
    /// # Errors
    /// Everything that is wrong, by field.
    pub fn try_new(raw: &RawRecipe) -> Result<Self, Vec<SchemeError>> {
        Ok(Self {
            scheme: Scheme::try_new(&raw.verify)?,
            id: Vec::new(),
            event_type: Vec::new(),
            once: None,
            dedup: Dedup::Id,
            handshake: None,
            respond: None,
            takes_forms: false,
            keep: Vec::new(),
        })
    }
}

/// The built-in recipe of this name, with what it inherits filled in.
pub fn recipe(_kind: &str) -> Option<&'static RawRecipe> {
    None
}

/// Every built-in recipe, by name.
pub fn recipes() -> impl Iterator<Item = (&'static str, &'static RawRecipe)> {
    std::iter::empty()
}
