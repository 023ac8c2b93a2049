//! Extracts the values of a source from a request. The locations are compiled once, so one pass over the body finds all of
//! them.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderName;
use serde_json::value::RawValue;

use super::form::push_json_string;
use crate::inbound::provider::Recipe;
use crate::json::{self, Pointer, PointerSet, PointerValues};
use crate::limits::{METADATA_BYTES_MAX, TOPIC_BYTES_MAX};
use crate::signature::{AmbiguousHeader, Certificate, OneOrMany, RequestParts, ValueLocation};

/// The compiled locations of a source's values in a request: id, type, nonce and metadata.
#[derive(Debug, Default)]
pub struct ExtractionPlan {
    pointers: PointerSet,
    id: Vec<ValueSlot>,
    /// How the ids of all items are read, if the id is that of an item of an array.
    batch: Option<BatchId>,
    event_type: Vec<ValueSlot>,
    nonce: Option<ValueSlot>,
    keep: Vec<(Box<str>, ValueSlot)>,
    /// The fields of a partner's body, which has the format of an application's event. `None` for other kinds.
    partner: Option<PartnerSlots>,
    /// The headers that contain signatures and tokens.
    signatures: Vec<HeaderName>,
    /// The certificate in the settings, used instead of the one that a request refers to.
    certificate: Option<Arc<Certificate>>,
}

/// The location of one value.
#[derive(Debug)]
enum ValueSlot {
    /// In the JSON body: a slot of the pointers.
    Json(usize),
    /// At another location of the request.
    Place(ValueLocation),
}

/// The id of a request with several items. The id of the first item alone would make requests that begin with the same item
/// duplicates, and the other items would be lost.
#[derive(Debug)]
struct BatchId {
    /// The array of items.
    items: ValueSlot,
    /// The parts of an item's id.
    parts: Vec<BatchPart>,
    /// Other arrays that contain parts of the id, each with the location in an item.
    other_arrays: Vec<(ValueLocation, Pointer)>,
}

/// A part of the id of an item.
#[derive(Debug)]
enum BatchPart {
    /// The location in the item.
    Item(Pointer),
    /// A location outside of the items, or in another array.
    Other(ValueSlot),
}

/// The slots of the fields in a partner's body.
#[derive(Debug, Clone, Copy)]
struct PartnerSlots {
    id: usize,
    data: usize,
    timestamp: usize,
}

/// The values extracted from a request.
#[derive(Debug, Default)]
pub(super) struct ExtractedValues<'a> {
    /// The body as text. `None` if it is not JSON.
    pub(super) json: Option<&'a str>,
    /// The sender's id.
    pub(super) id: Option<Cow<'a, str>>,
    /// Whether the id does not identify all items of the request, so that their bodies must be compared too.
    pub(super) is_id_partial: bool,
    /// The event type as the provider writes it.
    pub(super) topic: Option<Cow<'a, str>>,
    /// The value that is accepted only once.
    pub(super) nonce: Option<Cow<'a, str>>,
    /// The metadata of the recipe, a JSON object. `None` if there is none.
    pub(super) metadata: Option<String>,
    /// The `data` field of a partner's body.
    pub(super) data: Option<&'a RawValue>,
    /// The `timestamp` field of a partner's body.
    pub(super) timestamp: Option<&'a RawValue>,
}

impl ExtractionPlan {
    /// Compiles the locations of a recipe. `sig` contains the locations of its signatures.
    pub fn compile(recipe: &Recipe, sig: Option<&OneOrMany>, is_partner: bool) -> Self {
        let mut extraction = Self::default();
        extraction.id = recipe.id.iter().map(|place| extraction.slot(place)).collect();
        extraction.batch = extraction.batch_id(&recipe.id);
        extraction.event_type = recipe.event_type.iter().map(|place| extraction.slot(place)).collect();
        extraction.nonce = recipe.nonce.as_ref().map(|place| extraction.slot(place));
        extraction.keep = recipe.keep.iter().map(|(name, place)| (name.clone(), extraction.slot(place))).collect();
        let mut field = |pointer: &str| Pointer::try_new(pointer).ok().map(|pointer| extraction.pointers.add(&pointer));
        if is_partner
            && let (Some(id), Some(data), Some(timestamp)) = (field("/id"), field("/data"), field("/timestamp"))
        {
            extraction.partner = Some(PartnerSlots { id, data, timestamp });
        }
        let sig = match sig {
            None => &[],
            Some(OneOrMany::One(text)) => std::slice::from_ref(text),
            Some(OneOrMany::Many(texts)) => texts.as_slice(),
        };
        for place in sig.iter().filter_map(|text| text.parse().ok()) {
            if let ValueLocation::Header(names) = place {
                extraction.signatures.extend(names);
            }
        }
        extraction
    }

    /// Sets the certificate, so that it is not fetched.
    #[must_use]
    pub(super) fn with_certificate(mut self, certificate: Option<Certificate>) -> Self {
        self.certificate = certificate.map(Arc::new);
        self
    }

    /// The certificate in the settings. `None` if it must be fetched or the scheme uses none.
    pub fn certificate(&self) -> Option<&Arc<Certificate>> {
        self.certificate.as_ref()
    }

    /// Whether this header contains a signature or token of the source.
    pub(super) fn is_signature(&self, name: &HeaderName) -> bool {
        self.signatures.contains(name)
    }

    /// Whether the event type can be in the path.
    pub(super) fn accepts_topic_in_path(&self) -> bool {
        self.event_type.iter().any(|slot| matches!(slot, ValueSlot::Place(ValueLocation::Path)))
    }

    /// Whether the source is a partner, whose body has the format of an application's event.
    pub(super) fn is_partner(&self) -> bool {
        self.partner.is_some()
    }

    /// Extracts the values of a request in one pass over `json`: its body, or the JSON in a field of a form. `None` for a
    /// form and a listed media type, which are not read as JSON.
    ///
    /// # Errors
    /// If a header occurs twice with different values.
    pub(super) fn read<'a>(
        &self,
        request: &RequestParts<'a>,
        json: Option<&'a [u8]>,
    ) -> Result<ExtractedValues<'a>, AmbiguousHeader> {
        let found = json.and_then(|json| self.pointers.read(json));
        let read = |slot: &ValueSlot| slot.read(found.as_ref(), request);
        let mut values =
            ExtractedValues { json: found.as_ref().map(PointerValues::text), ..ExtractedValues::default() };
        if let Some(batch) = &self.batch {
            let (id, is_partial) = batch.read(found.as_ref(), request)?;
            (values.id, values.is_id_partial) = (id.map(Cow::Owned), is_partial);
        }
        if values.id.is_none() {
            values.id = self.read_id(&read)?;
        }
        for slot in &self.event_type {
            if let Some(topic) = read(slot)?.filter(|topic| !topic.is_empty()) {
                let topic =
                    if matches!(slot, ValueSlot::Place(ValueLocation::Path)) { topic_of_path(topic) } else { topic };
                values.topic = Some(truncate_utf8(topic, TOPIC_BYTES_MAX));
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
            values.timestamp = found.raw(partner.timestamp);
            values.id = values.id.or_else(|| text(partner.id).filter(|id| !id.is_empty()));
        }
        Ok(values)
    }

    /// The parts of the id joined by `:`, with a missing part as empty text. Returns `None` if all parts are missing.
    fn read_id<'a>(
        &self,
        read: &impl Fn(&ValueSlot) -> Result<Option<Cow<'a, str>>, AmbiguousHeader>,
    ) -> Result<Option<Cow<'a, str>>, AmbiguousHeader> {
        if let [one] = self.id.as_slice() {
            return Ok(read(one)?.filter(|id| !id.is_empty()));
        }
        let joined = joined(self.id.iter().map(read))?;
        Ok((!joined.is_empty()).then_some(Cow::Owned(joined)))
    }

    /// How the ids of all items are read. `None` if no location of the id is in an array.
    fn batch_id(&mut self, id: &[ValueLocation]) -> Option<BatchId> {
        let (items, _) = id.iter().find_map(in_item)?;
        let parts = id.iter().map(|place| match in_item(place) {
            Some((array, pointer)) if array == items => BatchPart::Item(pointer),
            _ => BatchPart::Other(self.slot(place)),
        });
        let parts = parts.collect();
        let other_arrays = id.iter().filter_map(in_item).filter(|(array, _)| *array != items).collect();
        Some(BatchId { items: self.slot(&items), parts, other_arrays })
    }

    /// The metadata as a JSON object. JSON values are kept as written; values from elsewhere become strings, except `true`
    /// and `false`. Values that exceed the maximum size are omitted.
    fn metadata(
        &self,
        found: Option<&PointerValues<'_>>,
        request: &RequestParts<'_>,
    ) -> Result<Option<String>, AmbiguousHeader> {
        let mut out = String::from("{");
        for (name, slot) in &self.keep {
            let value = match slot {
                ValueSlot::Json(slot) => match found.and_then(|found| found.raw(*slot)).map(RawValue::get) {
                    None | Some("null") => continue,
                    Some(raw) => Cow::Borrowed(raw),
                },
                ValueSlot::Place(place) => match place.read(request)? {
                    None => continue,
                    Some(text) if text == "true" || text == "false" => text,
                    Some(text) => {
                        let mut quoted = String::new();
                        push_json_string(&mut quoted, &text);
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
            push_json_string(&mut out, name);
            out.push(':');
            out.push_str(&value);
        }
        out.push('}');
        Ok((out.len() > 2).then_some(out))
    }

    fn slot(&mut self, place: &ValueLocation) -> ValueSlot {
        match place {
            ValueLocation::Json(pointer) => ValueSlot::Json(self.pointers.add(pointer)),
            other => ValueSlot::Place(other.clone()),
        }
    }
}

/// The id and the type that a recipe extracts from a request that is not a form.
#[cfg(test)]
pub(crate) fn id_and_topic(recipe: &Recipe, request: &RequestParts<'_>) -> (Option<String>, Option<String>) {
    let extraction = ExtractionPlan::compile(recipe, None, false);
    let values = extraction.read(request, Some(request.body)).unwrap();
    [values.id, values.topic].map(|text| text.map(Cow::into_owned)).into()
}

/// The array that contains this location, and the location in one of its items. `None` if it is in no array.
fn in_item(place: &ValueLocation) -> Option<(ValueLocation, Pointer)> {
    match place {
        ValueLocation::Json(pointer) => {
            pointer.split_at_index().map(|(array, pointer)| (ValueLocation::Json(array), pointer))
        }
        ValueLocation::FormJson(name, pointer) => {
            pointer.split_at_index().map(|(array, pointer)| (ValueLocation::FormJson(name.clone(), array), pointer))
        }
        _ => None,
    }
}

/// The parts of an id joined by `:`, with a missing part as empty text. Some providers send different parts of the id in
/// different kinds of requests, so missing parts at the ends leave no `:`.
fn joined<'a>(
    parts: impl Iterator<Item = Result<Option<Cow<'a, str>>, AmbiguousHeader>>,
) -> Result<String, AmbiguousHeader> {
    let mut joined = String::new();
    for (n, part) in parts.enumerate() {
        if n > 0 {
            joined.push(':');
        }
        joined.push_str(&part?.unwrap_or_default());
    }
    Ok(joined.trim_matches(':').to_owned())
}

impl BatchId {
    /// The ids of all items joined by `,`, `None` if there are not several. And whether the id leaves something open: an item
    /// without an id, or with several items of its own.
    fn read(
        &self,
        found: Option<&PointerValues<'_>>,
        request: &RequestParts<'_>,
    ) -> Result<(Option<String>, bool), AmbiguousHeader> {
        let array = match &self.items {
            ValueSlot::Json(slot) => found.and_then(|found| found.raw(*slot)).map(|raw| Cow::Borrowed(raw.get())),
            ValueSlot::Place(place) => place.read(request)?,
        };
        let items = array.as_deref().and_then(elements).unwrap_or_default();
        let mut is_partial = false;
        for (array, pointer) in &self.other_arrays {
            let array = array.read(request)?;
            is_partial |= array.as_deref().and_then(elements).is_some_and(|items| has_several(&items, pointer));
        }
        let mut ids = String::new();
        for (n, item) in items.iter().enumerate() {
            let item = item.get().as_bytes();
            let id = joined(self.parts.iter().map(|part| match part {
                BatchPart::Item(pointer) => {
                    is_partial |= has_several_in(item, pointer);
                    Ok(pointer.find(item).and_then(json::text))
                }
                BatchPart::Other(slot) => slot.read(found, request),
            }))?;
            is_partial |= id.is_empty();
            if n > 0 {
                ids.push(',');
            }
            ids.push_str(&id);
        }
        Ok(((items.len() > 1).then_some(ids), is_partial))
    }
}

fn elements(array: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(array).ok()
}

/// Whether there are several items, or several in an array in the only one, at which the pointer points.
fn has_several(items: &[&RawValue], pointer: &Pointer) -> bool {
    items.len() > 1 || items.iter().any(|item| has_several_in(item.get().as_bytes(), pointer))
}

fn has_several_in(item: &[u8], pointer: &Pointer) -> bool {
    let Some((array, pointer)) = pointer.split_at_index() else { return false };
    let items = array.find(item).and_then(json::elements);
    items.is_some_and(|items| has_several(&items, &pointer))
}

impl ValueSlot {
    fn read<'a>(
        &self,
        found: Option<&PointerValues<'a>>,
        request: &RequestParts<'a>,
    ) -> Result<Option<Cow<'a, str>>, AmbiguousHeader> {
        match self {
            Self::Json(slot) => Ok(found.and_then(|found| found.raw(*slot)).and_then(json::text)),
            Self::Place(place) => place.read(request),
        }
    }
}

/// Converts `orders-create` to `orders/create`. Shopify's topics have one slash and no hyphen before it.
pub(super) fn topic_of_path(path: Cow<'_, str>) -> Cow<'_, str> {
    if path.contains('/') || !path.contains('-') { path } else { Cow::Owned(path.replacen('-', "/", 1)) }
}

/// Truncates a text to at most `most` bytes, at a character boundary.
pub(super) fn truncate_utf8(text: Cow<'_, str>, most: usize) -> Cow<'_, str> {
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
