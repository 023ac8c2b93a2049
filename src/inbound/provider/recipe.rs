//! A recipe: a scheme, and what else there is to know of a kind of source.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Handshake;
use crate::json::Pointer;
use crate::signature::{OneOrMany, Place, RawScheme, Scheme, SchemeError};

/// A recipe as it stands in `table.toml`, where the scheme's fields are beside the others; a custom source has its own.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RawRecipe {
    /// What it is called for people: `Shopify`.
    #[serde(default)]
    pub title: String,
    /// The page of `docs/guides/providers/` it is on: `commerce`, `payments`, `developer-tools`, …
    #[serde(default)]
    pub family: String,
    /// Takes everything that is not given from this recipe.
    #[serde(default)]
    pub like: Option<String>,
    /// Other names by which this recipe is found.
    #[serde(default)]
    pub also: Vec<String>,
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
    pub nonce: Option<String>,
    /// `id` (default, where there is one), `id+body`, `body` (default without an id), `never`.
    #[serde(default)]
    pub dedup: Option<String>,
    /// Name of a handshake.
    #[serde(default)]
    pub handshake: Option<String>,
    /// The body of the answer to an accepted event, where the provider wants its own words.
    #[serde(default)]
    pub respond: Option<String>,
    /// The status of the answer to an accepted event, where the provider wants this one: 200 or 204.
    #[serde(default)]
    pub status: Option<u16>,
    /// Media types beside JSON: `form`, `text`.
    #[serde(default)]
    pub content: Vec<String>,
    /// Values kept in the event's metadata, by name.
    #[serde(default)]
    pub keep: BTreeMap<String, String>,
    /// Options that a source of this kind may or must have, by name: what they are; `required` begins those it must.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// A type in the provider's own spelling, for guides.
    #[serde(default)]
    pub example: String,
    /// For people: where to paste the URL and where the secret comes from.
    #[serde(default)]
    pub notes: String,
    /// For people: what of this entry nobody has confirmed.
    #[serde(default)]
    pub unconfirmed: String,
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
    /// Nothing: each is new, because all that it says is to look again (Dropbox, Microsoft Graph).
    #[serde(rename = "never")]
    Never,
}

/// Text that is no [`Dedup`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected \"id\", \"id+body\", \"body\" or \"never\"")]
pub struct DedupError;

impl FromStr for Dedup {
    type Err = DedupError;

    fn from_str(text: &str) -> Result<Self, DedupError> {
        match text {
            "id" => Ok(Self::Id),
            "id+body" => Ok(Self::IdAndBody),
            "body" => Ok(Self::Body),
            "never" => Ok(Self::Never),
            _ => Err(DedupError),
        }
    }
}

impl fmt::Display for Dedup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "id",
            Self::IdAndBody => "id+body",
            Self::Body => "body",
            Self::Never => "never",
        })
    }
}

/// A recipe that can be used.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "four things that are so or not, and depend on nothing")]
pub struct Recipe {
    /// How it signs.
    pub scheme: Scheme,
    /// The delivery's id, joined by `:`; empty: none.
    pub id: Vec<Place>,
    /// Whether the signature covers all of the id: if not, who captures a request can send it again under another id.
    pub id_is_signed: bool,
    /// The event's type: the first that is there.
    pub event_type: Vec<Place>,
    /// Whether the signature covers the type, wherever it is found: if not, a captured request can get another type.
    pub type_is_signed: bool,
    /// A signed value that may come only once, beside the id.
    pub nonce: Option<Place>,
    /// What makes two events the same; an event without the id falls back to its body.
    pub dedup: Dedup,
    /// How it asks whether the address is ours.
    pub handshake: Option<Handshake>,
    /// The body of the answer to an accepted event.
    pub respond: Option<Box<str>>,
    /// The status of the answer to an accepted event, where the provider wants this one.
    pub status: Option<StatusCode>,
    /// Whether forms are taken beside JSON.
    pub takes_forms: bool,
    /// Whether `text/plain` is taken beside JSON.
    pub takes_text: bool,
    /// Values kept in the event's metadata.
    pub keep: Vec<(Box<str>, Place)>,
}

impl Recipe {
    /// # Errors
    /// Everything that is wrong, by field.
    pub fn try_new(raw: &RawRecipe) -> Result<Self, Vec<SchemeError>> {
        let mut errors = Errors::default();
        let scheme = Scheme::try_new(&raw.verify).map_err(|wrong| errors.0.extend(wrong)).ok();
        let id = errors.places("id", raw.id.as_ref());
        let event_type = errors.places("type", raw.r#type.as_ref());
        let nonce = raw.nonce.as_deref().and_then(|text| errors.place("nonce", text));
        let dedup = errors.dedup(raw.dedup.as_deref(), !id.is_empty());
        let handshake = errors.handshake(raw.handshake.as_deref());
        let status = raw.status.and_then(|status| errors.status(status));
        let [takes_forms, takes_text] = errors.content(&raw.content);
        let keep = raw.keep.iter().filter_map(|(name, text)| Some((name.as_str().into(), errors.place("keep", text)?)));
        let keep = keep.collect();
        let Some(scheme) = scheme.map(|scheme| scheme.with_id(&id)) else { return Err(errors.0) };
        let covers = |place: &Place| covers(&scheme, raw.verify.each.as_deref(), place);
        if scheme.needs_id() && id.is_empty() {
            errors.add("signed", "{id} is signed, so id says where it stands".to_owned());
        }
        if nonce.as_ref().is_some_and(|place| !covers(place)) {
            errors.add("nonce", "it is not signed, so that anyone could use it up".to_owned());
        }
        if !errors.0.is_empty() {
            return Err(errors.0);
        }
        Ok(Self {
            id_is_signed: !id.is_empty() && id.iter().all(covers),
            type_is_signed: event_type.iter().all(covers),
            scheme,
            id,
            event_type,
            nonce,
            dedup,
            handshake,
            respond: raw.respond.as_deref().map(Into::into),
            status,
            takes_forms,
            takes_text,
            keep,
        })
    }
}

/// Collects what is wrong.
#[derive(Default)]
struct Errors(Vec<SchemeError>);

impl Errors {
    fn add(&mut self, field: &'static str, detail: String) {
        self.0.push(SchemeError { field, detail });
    }

    /// A value outside a scheme; `sig:` is only known to one.
    fn place(&mut self, field: &'static str, text: &str) -> Option<Place> {
        match text.parse() {
            Ok(Place::Sig(_)) => self.add(field, format!("{text:?}: sig: stands only in verify.time")),
            Ok(place) => return Some(place),
            Err(error) => self.add(field, format!("{text:?}: {error}")),
        }
        None
    }

    fn places(&mut self, field: &'static str, texts: Option<&OneOrMany>) -> Vec<Place> {
        let texts = match texts {
            None => &[],
            Some(OneOrMany::One(text)) => std::slice::from_ref(text),
            Some(OneOrMany::Many(texts)) => texts.as_slice(),
        };
        texts.iter().filter_map(|text| self.place(field, text)).collect()
    }

    fn dedup(&mut self, text: Option<&str>, has_id: bool) -> Dedup {
        let default = if has_id { Dedup::Id } else { Dedup::Body };
        let Some(text) = text else { return default };
        match text.parse() {
            Ok(Dedup::Id | Dedup::IdAndBody) if !has_id => {
                self.add(
                    "dedup",
                    format!("{text:?} needs \"id\", which says where the id stands; without it: \"body\""),
                );
                default
            }
            Ok(dedup) => dedup,
            Err(error) => {
                self.add("dedup", format!("{error}, not {text:?}"));
                default
            }
        }
    }

    fn handshake(&mut self, name: Option<&str>) -> Option<Handshake> {
        let name = name.filter(|name| !name.is_empty())?;
        let found = Handshake::named(name);
        if found.is_none() {
            let known: Vec<&str> = Handshake::all().map(Handshake::name).collect();
            self.add("handshake", format!("expected one of {}, not {name:?}", known.join(", ")));
        }
        found
    }

    fn status(&mut self, status: u16) -> Option<StatusCode> {
        let found = StatusCode::from_u16(status).ok().filter(StatusCode::is_success);
        if found.is_none() {
            self.add("status", format!("expected 200 to 299, not {status}"));
        }
        found
    }

    /// Whether forms, whether text.
    fn content(&mut self, content: &[String]) -> [bool; 2] {
        let known = ["form", "text"];
        for unknown in content.iter().filter(|content| !known.contains(&content.as_str())) {
            self.add("content", format!("expected \"form\" or \"text\", not {unknown:?}"));
        }
        known.map(|known| content.iter().any(|content| content == known))
    }
}

/// Whether the signature covers what stands there. Of an array of which each element is signed by itself, the scheme's
/// pointers start at an element, and a recipe's at the body.
fn covers(scheme: &Scheme, each: Option<&str>, place: &Place) -> bool {
    let (Some(each), Place::Json(pointer)) = (each, place) else { return scheme.covers(place) };
    let element = pointer.as_str().strip_prefix(each.strip_prefix("json:").unwrap_or(each));
    let inside = element.and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.split_once('/'));
    inside.is_some_and(|(index, rest)| {
        let inside = Pointer::try_new(&format!("/{rest}"));
        index.bytes().all(|b| b.is_ascii_digit()) && inside.is_ok_and(|inside| scheme.covers(&Place::Json(inside)))
    })
}
