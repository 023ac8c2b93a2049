//! Recipes: the signature scheme of a kind of source and how its requests are interpreted.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::Handshake;
use crate::json::Pointer;
use crate::signature::{OneOrMany, RawScheme, Scheme, SchemeError, ValueLocation};

/// A recipe as written in `table.toml`, where the fields of the scheme and of the recipe are in one table. A custom source
/// has its own recipe.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RawRecipe {
    /// The display name: `Shopify`.
    #[serde(default)]
    pub title: String,
    /// The page of `docs/guides/providers/` that describes the provider: `commerce`, `payments`, `developer-tools`, …
    #[serde(default)]
    pub family: String,
    /// The recipe from which all missing fields are inherited.
    #[serde(default)]
    pub like: Option<String>,
    /// Aliases of this recipe.
    #[serde(default)]
    pub also: Vec<String>,
    /// Other words by which people look for this recipe. They are no kinds, but suggest it.
    #[serde(default)]
    pub found_by: Vec<String>,
    /// The signature scheme.
    #[serde(flatten)]
    pub verify: RawScheme,
    /// The location of the delivery id. Several values are joined by `:`.
    #[serde(default)]
    pub id: Option<OneOrMany>,
    /// The location of the event type. Of several locations, the first with a value is used.
    #[serde(default)]
    pub r#type: Option<OneOrMany>,
    /// The location of a signed value that is accepted only once, in addition to `id`.
    #[serde(default)]
    pub nonce: Option<String>,
    /// `id` (the default if there is an id), `id+body`, `body` (the default without an id) or `never`.
    #[serde(default)]
    pub dedup: Option<String>,
    /// The name of a handshake.
    #[serde(default)]
    pub handshake: Option<String>,
    /// The body of the response to an accepted event, if the provider requires a specific one.
    #[serde(default)]
    pub respond: Option<String>,
    /// The status of the response to an accepted event, if the provider requires a specific one: 200 or 204.
    #[serde(default)]
    pub status: Option<u16>,
    /// Accepted media types in addition to JSON: `form`, `multipart`, `text`.
    #[serde(default)]
    pub content: Vec<String>,
    /// Other accepted media types, such as `application/xml` or `text/*`. The body becomes an object with the field `text`.
    #[serde(default)]
    pub content_types: Vec<String>,
    /// The field of a form whose JSON is read as the body, such as `payload`.
    #[serde(default)]
    pub form_json: Option<String>,
    /// The methods of events; `POST` by default.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Locations of values that are stored in the metadata of the event, by name.
    #[serde(default)]
    pub keep: BTreeMap<String, String>,
    /// Descriptions of the options of this kind, by option name. The description of a required option begins with
    /// `required`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// An example event type as the provider writes it, for the guides.
    #[serde(default)]
    pub example: String,
    /// For users: where to enter the URL and where to find the secret.
    #[serde(default)]
    pub notes: String,
    /// For users: the parts of this entry that are not confirmed.
    #[serde(default)]
    pub unconfirmed: String,
    /// The rules of the default event map, as in API section 3.
    #[serde(default)]
    pub event_map: Vec<serde_json::Value>,
}

/// How duplicate events of a source are recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DedupMode {
    /// By the sender's id.
    #[serde(rename = "id")]
    Id,
    /// By the id and the body.
    #[serde(rename = "id+body")]
    IdAndBody,
    /// By the body.
    #[serde(rename = "body")]
    Body,
    /// Never. Every event is new, because it only says that data has changed (Dropbox, Microsoft Graph).
    #[serde(rename = "never")]
    Never,
}

/// The text is not a [`DedupMode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected \"id\", \"id+body\", \"body\" or \"never\"")]
pub struct DedupModeError;

impl FromStr for DedupMode {
    type Err = DedupModeError;

    fn from_str(text: &str) -> Result<Self, DedupModeError> {
        match text {
            "id" => Ok(Self::Id),
            "id+body" => Ok(Self::IdAndBody),
            "body" => Ok(Self::Body),
            "never" => Ok(Self::Never),
            _ => Err(DedupModeError),
        }
    }
}

impl fmt::Display for DedupMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "id",
            Self::IdAndBody => "id+body",
            Self::Body => "body",
            Self::Never => "never",
        })
    }
}

/// A validated recipe.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "the five flags are independent of each other")]
pub struct Recipe {
    /// The signature scheme.
    pub scheme: Scheme,
    /// The locations of the delivery id; the values are joined by `:`. Empty if there is no id.
    pub id: Vec<ValueLocation>,
    /// Whether the signature covers the whole id. If not, a captured request can be replayed with another id.
    pub id_is_signed: bool,
    /// The locations of the event type. The first one with a value is used.
    pub event_type: Vec<ValueLocation>,
    /// Whether the signature covers all locations of the type. If not, a captured request can be replayed with another type.
    pub type_is_signed: bool,
    /// The location of a signed value that is accepted only once, in addition to the id.
    pub nonce: Option<ValueLocation>,
    /// How duplicates are recognized. An event without the id is compared by its body.
    pub dedup: DedupMode,
    /// The handshake by which the provider verifies the endpoint.
    pub handshake: Option<Handshake>,
    /// The body of the response to an accepted event.
    pub respond: Option<Box<str>>,
    /// The status of the response to an accepted event, if the provider requires a specific one.
    pub status: Option<StatusCode>,
    /// Whether forms are accepted in addition to JSON.
    pub accepts_forms: bool,
    /// Whether multipart forms are accepted in addition to JSON.
    pub accepts_multipart: bool,
    /// Other accepted media types. The body becomes an object with the field `text`.
    pub content_types: Vec<Box<str>>,
    /// The field of a form whose JSON is read as the body.
    pub form_json: Option<ValueLocation>,
    /// The methods of events.
    pub methods: Vec<Method>,
    /// Whether `text/plain` is accepted in addition to JSON.
    pub accepts_text: bool,
    /// Locations of values that are stored in the metadata of the event, by name.
    pub keep: Vec<(Box<str>, ValueLocation)>,
}

impl Recipe {
    /// Validates a recipe.
    ///
    /// # Errors
    /// All errors, by field.
    pub fn try_new(raw: &RawRecipe) -> Result<Self, Vec<SchemeError>> {
        let mut errors = RecipeErrors::default();
        let scheme = Scheme::try_new(&raw.verify).map_err(|wrong| errors.0.extend(wrong)).ok();
        let id = errors.places("id", raw.id.as_ref());
        let event_type = errors.places("type", raw.r#type.as_ref());
        let nonce = raw.nonce.as_deref().and_then(|text| errors.place("nonce", text));
        let dedup = errors.dedup(raw.dedup.as_deref(), !id.is_empty());
        let handshake = errors.handshake(raw.handshake.as_deref());
        let status = raw.status.and_then(|status| errors.status(status));
        let [accepts_forms, accepts_multipart, accepts_text] = errors.content(&raw.content);
        let content_types = errors.content_types(&raw.content_types);
        let form_json = errors.form_json(raw.form_json.as_deref(), accepts_forms || accepts_multipart);
        let methods = errors.methods(&raw.methods);
        let keep = raw.keep.iter().filter_map(|(name, text)| Some((name.as_str().into(), errors.place("keep", text)?)));
        let keep = keep.collect();
        let Some(scheme) = scheme.map(|scheme| scheme.with_id(&id)) else { return Err(errors.0) };
        let covers = |place: &ValueLocation| covers(&scheme, raw.verify.each.as_deref(), place);
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
            accepts_forms,
            accepts_multipart,
            content_types,
            form_json,
            methods,
            accepts_text,
            keep,
        })
    }
}

/// Collects the errors of a recipe.
#[derive(Default)]
struct RecipeErrors(Vec<SchemeError>);

impl RecipeErrors {
    fn add(&mut self, field: &'static str, detail: String) {
        self.0.push(SchemeError { field, detail });
    }

    /// Parses the location of a value outside the scheme. `sig:` is allowed only in a scheme.
    fn place(&mut self, field: &'static str, text: &str) -> Option<ValueLocation> {
        match text.parse() {
            Ok(ValueLocation::Sig(_)) => self.add(field, format!("{text:?}: sig: stands only in verify.time")),
            Ok(place) => return Some(place),
            Err(error) => self.add(field, format!("{text:?}: {error}")),
        }
        None
    }

    fn places(&mut self, field: &'static str, texts: Option<&OneOrMany>) -> Vec<ValueLocation> {
        let texts = match texts {
            None => &[],
            Some(OneOrMany::One(text)) => std::slice::from_ref(text),
            Some(OneOrMany::Many(texts)) => texts.as_slice(),
        };
        texts.iter().filter_map(|text| self.place(field, text)).collect()
    }

    fn dedup(&mut self, text: Option<&str>, has_id: bool) -> DedupMode {
        let default = if has_id { DedupMode::Id } else { DedupMode::Body };
        let Some(text) = text else { return default };
        match text.parse() {
            Ok(DedupMode::Id | DedupMode::IdAndBody) if !has_id => {
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

    /// Whether forms, multipart forms and text are accepted.
    fn content(&mut self, content: &[String]) -> [bool; 3] {
        let known = ["form", "multipart", "text"];
        for unknown in content.iter().filter(|content| !known.contains(&content.as_str())) {
            self.add("content", format!("expected \"form\", \"multipart\" or \"text\", not {unknown:?}"));
        }
        known.map(|known| content.iter().any(|content| content == known))
    }
}

impl RecipeErrors {
    fn content_types(&mut self, written: &[String]) -> Vec<Box<str>> {
        for text in written {
            let (main, sub) = text.split_once('/').unwrap_or_default();
            let is_token =
                |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
            if !is_token(main) || !(sub == "*" || is_token(sub)) {
                self.add(
                    "content_types",
                    format!("expected a media type such as \"application/xml\" or \"text/*\", not {text:?}"),
                );
            }
        }
        written.iter().map(|text| text.as_str().into()).collect()
    }

    fn form_json(&mut self, field: Option<&str>, accepts_forms: bool) -> Option<ValueLocation> {
        let field = field?;
        if field.is_empty() || !accepts_forms {
            self.add("form_json", "expected the name of a field, and form or multipart in content".to_owned());
        }
        Some(ValueLocation::Form(field.into()))
    }

    fn methods(&mut self, written: &[String]) -> Vec<Method> {
        if written.is_empty() {
            return vec![Method::POST];
        }
        let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let read = |text: &String| known.iter().find(|method| method.as_str() == text).cloned();
        for text in written.iter().filter(|text| read(text).is_none()) {
            self.add("methods", format!("expected GET, POST, PUT, PATCH or DELETE, not {text:?}"));
        }
        written.iter().filter_map(read).collect()
    }
}

/// Whether the signature covers the value at the location. If each element of an array is signed separately, the pointers of
/// the scheme start at an element and the pointers of the recipe start at the body.
fn covers(scheme: &Scheme, each: Option<&str>, place: &ValueLocation) -> bool {
    let (Some(each), ValueLocation::Json(pointer)) = (each, place) else { return scheme.covers(place) };
    let element = pointer.as_str().strip_prefix(each.strip_prefix("json:").unwrap_or(each));
    let inside = element.and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.split_once('/'));
    inside.is_some_and(|(index, rest)| {
        let inside = Pointer::try_new(&format!("/{rest}"));
        index.bytes().all(|b| b.is_ascii_digit())
            && inside.is_ok_and(|inside| scheme.covers(&ValueLocation::Json(inside)))
    })
}
