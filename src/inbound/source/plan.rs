//! Where a source's values stand in a request, compiled once, so that one pass over a body finds all that stand there.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderName;
use serde_json::value::RawValue;

use super::form::push_text;
use crate::inbound::provider::Recipe;
use crate::json::{self, Found, Pointer, PointerSet};
use crate::limits::{METADATA_BYTES_MAX, TOPIC_BYTES_MAX};
use crate::signature::{Ambiguous, Certificate, OneOrMany, Place, Request};

/// See the module.
#[derive(Debug, Default)]
pub struct Plan {
    pointers: PointerSet,
    id: Vec<Slot>,
    event_type: Vec<Slot>,
    nonce: Option<Slot>,
    keep: Vec<(Box<str>, Slot)>,
    /// Of a partner, whose body is an event like an application's.
    partner: Option<Partner>,
    /// The headers in which signatures and tokens stand.
    signatures: Vec<HeaderName>,
    /// The certificate that the settings give, in place of the one that a request names.
    certificate: Option<Arc<Certificate>>,
}

/// Where one value stands.
#[derive(Debug)]
enum Slot {
    /// In the body, found by the pass.
    Json(usize),
    /// Elsewhere.
    Place(Place),
}

/// Slots of a partner's body.
#[derive(Debug, Clone, Copy)]
struct Partner {
    id: usize,
    data: usize,
    timestamp: usize,
}

/// What a request says.
#[derive(Debug, Default)]
pub(super) struct Values<'a> {
    /// The body as text, if it is JSON.
    pub(super) json: Option<&'a str>,
    /// The sender's id.
    pub(super) id: Option<Cow<'a, str>>,
    /// The type in the provider's own spelling.
    pub(super) topic: Option<Cow<'a, str>>,
    /// What may come only once.
    pub(super) nonce: Option<Cow<'a, str>>,
    /// The recipe's values to keep, a JSON object.
    pub(super) metadata: Option<String>,
    /// Of a partner: its data.
    pub(super) data: Option<&'a RawValue>,
    /// Of a partner: when it happened.
    pub(super) timestamp: Option<Cow<'a, str>>,
}

impl Plan {
    /// The plan of a recipe; `sig` is where its scheme finds signatures.
    pub fn of(recipe: &Recipe, sig: Option<&OneOrMany>, is_partner: bool) -> Self {
        let mut plan = Self::default();
        plan.id = recipe.id.iter().map(|place| plan.slot(place)).collect();
        plan.event_type = recipe.event_type.iter().map(|place| plan.slot(place)).collect();
        plan.nonce = recipe.nonce.as_ref().map(|place| plan.slot(place));
        plan.keep = recipe.keep.iter().map(|(name, place)| (name.clone(), plan.slot(place))).collect();
        let mut field = |pointer: &str| Pointer::try_new(pointer).ok().map(|pointer| plan.pointers.add(&pointer));
        if is_partner
            && let (Some(id), Some(data), Some(timestamp)) = (field("/id"), field("/data"), field("/timestamp"))
        {
            plan.partner = Some(Partner { id, data, timestamp });
        }
        let sig = match sig {
            None => &[],
            Some(OneOrMany::One(text)) => std::slice::from_ref(text),
            Some(OneOrMany::Many(texts)) => texts.as_slice(),
        };
        for place in sig.iter().filter_map(|text| text.parse().ok()) {
            if let Place::Header(names) = place {
                plan.signatures.extend(names);
            }
        }
        plan
    }

    /// With a certificate that is not to be fetched.
    #[must_use]
    pub(super) fn with_certificate(mut self, certificate: Option<Certificate>) -> Self {
        self.certificate = certificate.map(Arc::new);
        self
    }

    /// The certificate that the settings give.
    pub fn certificate(&self) -> Option<&Arc<Certificate>> {
        self.certificate.as_ref()
    }

    /// Whether a signature or token of the source stands in this header.
    pub(super) fn is_signature(&self, name: &HeaderName) -> bool {
        self.signatures.contains(name)
    }

    /// Whether the type may stand in the path.
    pub(super) fn takes_topic_in_path(&self) -> bool {
        self.event_type.iter().any(|slot| matches!(slot, Slot::Place(Place::Path)))
    }

    /// Whether the body is an event like an application's.
    pub(super) fn is_partner(&self) -> bool {
        self.partner.is_some()
    }

    /// Reads a request in one pass over its body; of a form nothing is looked for as JSON.
    ///
    /// # Errors
    /// If a header is there twice with different values.
    pub(super) fn read<'a>(&self, request: &Request<'a>, is_form: bool) -> Result<Values<'a>, Ambiguous> {
        let found = if is_form { None } else { self.pointers.read(request.body) };
        let read = |slot: &Slot| slot.read(found.as_ref(), request);
        let mut values =
            Values { json: found.as_ref().map(Found::text), id: self.read_id(&read)?, ..Values::default() };
        for slot in &self.event_type {
            if let Some(topic) = read(slot)?.filter(|topic| !topic.is_empty()) {
                let topic = if matches!(slot, Slot::Place(Place::Path)) { topic_of_path(topic) } else { topic };
                values.topic = Some(cut(topic, TOPIC_BYTES_MAX));
                break;
            }
        }
        if let Some(nonce) = &self.nonce {
            values.nonce = read(nonce)?.filter(|nonce| !nonce.is_empty());
        }
        if !self.keep.is_empty() {
            values.metadata = self.metadata(found.as_ref(), request)?;
        }
        if let (Some(partner), Some(found)) = (&self.partner, &found) {
            let text = |slot| found.raw(slot).and_then(json::text);
            values.data = found.raw(partner.data);
            values.timestamp = text(partner.timestamp);
            values.id = values.id.or_else(|| text(partner.id).filter(|id| !id.is_empty()));
        }
        Ok(values)
    }

    /// The parts joined by `:`, a missing one as nothing; `None` if all are missing.
    fn read_id<'a>(
        &self,
        read: &impl Fn(&Slot) -> Result<Option<Cow<'a, str>>, Ambiguous>,
    ) -> Result<Option<Cow<'a, str>>, Ambiguous> {
        if let [one] = self.id.as_slice() {
            return Ok(read(one)?.filter(|id| !id.is_empty()));
        }
        let mut joined = String::new();
        for (n, slot) in self.id.iter().enumerate() {
            if n > 0 {
                joined.push(':');
            }
            joined.push_str(&read(slot)?.unwrap_or_default());
        }
        // Of some providers one kind of request has this part, and another that.
        let id = joined.trim_matches(':');
        Ok((!id.is_empty()).then(|| Cow::Owned(id.to_owned())))
    }

    /// Values to keep: numbers and truth values as they are, also where a header says `true` or `false`, the rest as text.
    fn metadata(&self, found: Option<&Found<'_>>, request: &Request<'_>) -> Result<Option<String>, Ambiguous> {
        let mut out = String::from("{");
        for (name, slot) in &self.keep {
            let value = match slot {
                Slot::Json(slot) => match found.and_then(|found| found.raw(*slot)).map(RawValue::get) {
                    None | Some("null") => continue,
                    Some(raw) => Cow::Borrowed(raw),
                },
                Slot::Place(place) => match place.read(request)? {
                    None => continue,
                    Some(text) if text == "true" || text == "false" => text,
                    Some(text) => {
                        let mut quoted = String::new();
                        push_text(&mut quoted, &text);
                        Cow::Owned(quoted)
                    }
                },
            };
            if out.len() + name.len() + value.len() + ",\"\":}".len() > METADATA_BYTES_MAX {
                continue;
            }
            if out.len() > 1 {
                out.push(',');
            }
            push_text(&mut out, name);
            out.push(':');
            out.push_str(&value);
        }
        out.push('}');
        Ok((out.len() > 2).then_some(out))
    }

    fn slot(&mut self, place: &Place) -> Slot {
        match place {
            Place::Json(pointer) => Slot::Json(self.pointers.add(pointer)),
            other => Slot::Place(other.clone()),
        }
    }
}

/// The id and the type that a recipe reads, of a request that is no form.
#[cfg(test)]
pub(crate) fn id_and_topic(recipe: &Recipe, request: &Request<'_>) -> (Option<String>, Option<String>) {
    let plan = Plan::of(recipe, None, false);
    let values = plan.read(request, false).unwrap();
    [values.id, values.topic].map(|text| text.map(Cow::into_owned)).into()
}

impl Slot {
    fn read<'a>(&self, found: Option<&Found<'a>>, request: &Request<'a>) -> Result<Option<Cow<'a, str>>, Ambiguous> {
        match self {
            Self::Json(slot) => Ok(found.and_then(|found| found.raw(*slot)).and_then(json::text)),
            Self::Place(place) => place.read(request),
        }
    }
}

/// `orders-create` is `orders/create`: Shopify's topics have one slash, and no hyphen before it.
pub(super) fn topic_of_path(path: Cow<'_, str>) -> Cow<'_, str> {
    if path.contains('/') || !path.contains('-') { path } else { Cow::Owned(path.replacen('-', "/", 1)) }
}

/// At most so many bytes of a text.
pub(super) fn cut(text: Cow<'_, str>, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}
