//! A provider's request before it is signed: its headers, its body, what stands where.

use std::convert::Infallible;

use hyper::header::HeaderMap;
use hyper::http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::fill::{ALNUM, Fill, Fresh};
use crate::inbound::provider::{RawRecipe, Sample, sample_headers, samples};
use crate::model::header::{FORM, JSON};
use crate::signature::{OneOrMany, RawScheme};
use crate::template::Template;

/// What a generic event says where the recipe asks for nothing special.
const GENERIC_USER_AGENT: &str = concat!("hooktide-trigger/", env!("CARGO_PKG_VERSION"));
/// Characters of a value that is signed beside the body.
const SIGNED_CHARS: usize = 24;

/// A request that is being made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Draft {
    /// As they are printed and sent, in this order.
    pub(in super::super) headers: Vec<(String, String)>,
    /// Parameters beside those of the URL.
    pub(in super::super) query: Vec<(String, String)>,
    /// What follows the source in the path.
    pub(in super::super) path: String,
    pub(in super::super) body: Vec<u8>,
    /// Whether the body is the provider's own form, not one made from the recipe alone.
    pub(in super::super) sample: bool,
}

impl Draft {
    /// A value in the header, added or put in place of what is there.
    pub(in super::super) fn set_header(&mut self, name: &str, value: &str) {
        match self.headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, known)) => value.clone_into(known),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
    }

    fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The headers as a map; what cannot stand in one is named.
    pub(in super::super) fn header_map(&self) -> Result<HeaderMap, String> {
        let mut map = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let pair = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
            let (header, value) = pair.ok_or_else(|| name.clone())?;
            map.append(header, value);
        }
        Ok(map)
    }
}

/// The request that a provider of this kind would send, all but its signature. `data` is merged into the body (RFC 7396).
pub(super) fn draft(kind: &str, recipe: &RawRecipe, data: Option<&Value>, fill: &mut Fill<'_>) -> Draft {
    let sample = samples(kind).iter().find(|sample| sample.event_type == fill.event_type);
    let mut draft = Draft { sample: sample.is_some(), ..Draft::default() };
    let (mut body, is_form) = match sample {
        Some(Sample { body, form, .. }) => (fill.text(body), *form),
        None => (Value::Object(Map::new()).to_string(), wants_form(recipe)),
    };
    let content = if is_form { FORM } else { JSON };
    draft.set_header("User-Agent", GENERIC_USER_AGENT);
    draft.set_header("Content-Type", content);
    let own: Option<Map<String, Value>> =
        sample_headers(kind).and_then(|text| serde_json::from_str(&fill.text(text)).ok());
    for (name, value) in own.unwrap_or_default() {
        if !(is_form && name.eq_ignore_ascii_case("content-type")) {
            draft.set_header(&name, value.as_str().unwrap_or_default());
        }
    }
    let mut tree = serde_json::from_str(&body).unwrap_or(Value::Null);
    let before = tree.clone();
    place_all(recipe, &mut draft, &mut tree, fill);
    if let Some(data) = data {
        merge(&mut tree, data);
    }
    if is_form {
        draft.body = form(&tree).into_bytes();
        return draft;
    }
    // As the sample is written, if nothing was changed: with the provider's order of fields.
    if tree != before {
        body = tree.to_string();
    }
    draft.body = body.trim_end().as_bytes().to_vec();
    draft
}

/// Whether events of this recipe come as forms, going by where their values stand.
fn wants_form(recipe: &RawRecipe) -> bool {
    let places = || [&recipe.r#type, &recipe.id].into_iter().flatten().flat_map(places);
    let all = |scheme: &str| places().any(|place| place.starts_with(scheme));
    (all("form:") && !all("json:")) || recipe.verify.scheme == "code:twilio"
}

fn places(places: &OneOrMany) -> impl Iterator<Item = &str> {
    match places {
        OneOrMany::One(one) => std::slice::from_ref(one),
        OneOrMany::Many(several) => several,
    }
    .iter()
    .map(String::as_str)
}

/// Puts type, ids, time, and whatever else is signed where the recipe says, as far as nothing stands there.
fn place_all(recipe: &RawRecipe, draft: &mut Draft, tree: &mut Value, fill: &mut Fill<'_>) {
    let event_type = fill.event_type.to_owned();
    // A sample has its type in its body; elsewhere the first place gets it, the path only if there is no other.
    let type_places = || recipe.r#type.iter().flat_map(places);
    if let Some(place) = type_places().find(|place| *place != "path").or_else(|| type_places().next()) {
        put(place, &Value::from(event_type.as_str()), draft, tree, !draft.sample);
    }
    for place in recipe.id.iter().flat_map(places).chain(recipe.nonce.as_deref()) {
        let id = Value::from(fill.value(&Fresh::Uuid));
        put(place, &id, draft, tree, !draft.sample);
    }
    let scheme = &recipe.verify;
    let now = match scheme.unit.as_deref() {
        Some("rfc3339") => Some(Value::from(fill.value(&Fresh::RFC3339_MS))),
        Some("ms") => fill.value(&Fresh::UnixMillis).parse::<u64>().ok().map(Value::from),
        _ => fill.value(&Fresh::Unix { offset_s: 0 }).parse::<u64>().ok().map(Value::from),
    };
    // Where the time stands outside of the body, it is the signer that puts it there.
    if let Some((place, now)) = scheme.time.as_deref().filter(|place| place.starts_with("json:")).zip(now) {
        put(place, &now, draft, tree, true);
    }
    for place in signed_places(scheme) {
        let value = fill.value(&Fresh::Letters { alphabet: ALNUM, count: SIGNED_CHARS, name: None });
        put(&place, &Value::from(value), draft, tree, true);
    }
}

/// The values that a scheme signs beside the body, as places; those of `each` in its first element.
pub(in super::super) fn signed_places(scheme: &RawScheme) -> Vec<String> {
    let signed = scheme.signed.as_deref().unwrap_or_default();
    // A scheme whose template is none is refused by whoever uses it.
    let names: Template<String> =
        Template::parse(signed, |name| Ok::<_, Infallible>(name.to_owned())).unwrap_or_default();
    let place = |name: &String| match (name.strip_prefix("json:"), scheme.each.as_deref()) {
        (Some(pointer), Some(each)) => Some(format!("{each}/0{pointer}")),
        _ => name.contains(':').then(|| name.clone()),
    };
    names.placeholders().filter_map(place).collect()
}

/// Puts a value at a place where nothing stands yet.
fn put(place: &str, value: &Value, draft: &mut Draft, tree: &mut Value, in_body: bool) {
    let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match place.split_once(':').unwrap_or((place, "")) {
        ("header", names) => {
            let mut names = names.split('|');
            let first = names.next().unwrap_or_default();
            if !draft.has_header(first) && !names.any(|name| draft.has_header(name)) {
                draft.set_header(first, &text());
            }
        }
        ("query", name) => draft.query.push((name.to_owned(), text())),
        ("path", _) => draft.path = text(),
        ("json", pointer) if in_body => set(tree, pointer, value),
        ("form", field) if in_body => set(tree, &format!("/{field}"), &Value::from(text())),
        _ => {}
    }
}

/// Sets what a JSON pointer names, if nothing is there, making what is around it.
fn set(tree: &mut Value, pointer: &str, value: &Value) {
    let mut at = tree;
    for token in pointer.split('/').skip(1) {
        let name = token.replace("~1", "/").replace("~0", "~");
        let index = name.parse::<usize>().ok().filter(|n| *n < 16);
        let is_empty = at.is_null() || at.as_object().is_some_and(Map::is_empty);
        if let Some(n) = index
            && (is_empty || at.is_array())
        {
            if !at.is_array() {
                *at = Value::Array(Vec::new());
            }
            let Value::Array(items) = at else { return };
            if items.len() <= n {
                items.resize(n + 1, Value::Null);
            }
            at = &mut items[n];
        } else {
            if at.is_null() {
                *at = Value::Object(Map::new());
            }
            let Value::Object(members) = at else { return };
            at = members.entry(name).or_insert(Value::Null);
        }
    }
    if at.is_null() || at.as_object().is_some_and(Map::is_empty) {
        *at = value.clone();
    }
}

/// JSON merge patch (RFC 7396).
fn merge(into: &mut Value, patch: &Value) {
    let (Value::Object(members), Value::Object(changes)) = (&mut *into, patch) else {
        *into = patch.clone();
        return;
    };
    for (name, change) in changes {
        if change.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.as_str()).or_insert(Value::Null), change);
        }
    }
}

/// The members of an object as a form.
fn form(tree: &Value) -> String {
    let mut out = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in tree.as_object().into_iter().flatten() {
        match value {
            Value::String(text) => out.append_pair(name, text),
            Value::Array(items) => out.extend_pairs(items.iter().map(|item| (name, item.as_str().unwrap_or_default()))),
            other => out.append_pair(name, &other.to_string()),
        };
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Timestamp;
    use crate::runtime::Random;

    fn drafted(kind: &str, recipe: &Value, event_type: &str, data: Option<&Value>) -> Draft {
        let recipe: RawRecipe = serde_json::from_value(recipe.clone()).unwrap();
        let mut random = Random::seeded(1);
        let mut fill = Fill::new(event_type, Timestamp::from_millis(1_711_015_200_120), &mut random);
        draft(kind, &recipe, data, &mut fill)
    }

    fn header<'d>(draft: &'d Draft, name: &str) -> Option<&'d str> {
        draft.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_sample_has_its_own_headers_and_what_the_recipe_asks_for() {
        let recipe = json!({"scheme": "hmac", "sig": "header:X-Shopify-Hmac-Sha256", "encoding": "base64",
            "id": "header:X-Shopify-Webhook-Id", "type": "header:X-Shopify-Topic"});
        let draft = drafted("shopify", &recipe, "orders/create", Some(&json!({"note": "quick", "email": null})));
        assert_eq!(header(&draft, "X-Shopify-Topic"), Some("orders/create"));
        assert_eq!(header(&draft, "User-Agent"), Some("Shopify-Captain-Hook"));
        assert_eq!(header(&draft, "Content-Type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&draft.body).unwrap();
        assert_eq!((&body["note"], body.get("email")), (&json!("quick"), None));
        assert!(draft.sample && body["id"].as_u64().unwrap() > 1_000_000_000_000);
        assert_eq!(draft.headers.iter().filter(|(name, _)| name.to_lowercase() == "x-shopify-webhook-id").count(), 1);
    }

    #[test]
    fn an_event_without_a_sample_is_made_of_the_recipe() {
        let recipe = json!({"scheme": "hmac", "sig": "header:Linear-Signature", "encoding": "hex", "time": "json:/webhookTimestamp",
            "unit": "ms", "id": "header:Linear-Delivery", "type": ["json:/type", "json:/x"]});
        let draft = drafted("linear", &recipe, "Issue", None);
        let body: Value = serde_json::from_slice(&draft.body).unwrap();
        assert_eq!(body, json!({"type": "Issue", "webhookTimestamp": 1_711_015_200_120_u64}));
        assert_eq!(header(&draft, "Linear-Delivery").map(str::len), Some(36));
        assert!(!draft.sample);
    }

    #[test]
    fn what_is_signed_beside_the_body_is_there() {
        let recipe = json!({"scheme": "hmac", "each": "json:/items", "sig": "json:/item/sig", "encoding": "base64",
            "signed": "{json:/item/ref}:{json:/item/amount/value}:{header:X-A|X-B}", "id": ["json:/items/0/item/ref"]});
        let draft = drafted("adyen", &recipe, "AUTHORISATION", None);
        let body: Value = serde_json::from_slice(&draft.body).unwrap();
        assert_eq!(body["items"][0]["item"]["ref"].as_str().map(str::len), Some(36), "{body}");
        assert_eq!(body["items"][0]["item"]["amount"]["value"].as_str().map(str::len), Some(24), "{body}");
        assert_eq!(header(&draft, "X-A").map(str::len), Some(24));
    }

    #[test]
    fn the_places_that_a_scheme_signs_are_those_with_a_colon() {
        let signed = |signed: &str, each: Option<&str>| {
            let each = each.map(str::to_owned);
            signed_places(&RawScheme { signed: Some(signed.to_owned()), each, ..RawScheme::default() })
        };
        assert_eq!(signed("{time}.{header:A|B}.{json:/a}{body}", None), ["header:A|B", "json:/a"]);
        assert_eq!(signed("{json:/a}{header:A}", Some("json:/items")), ["json:/items/0/a", "header:A"]);
        assert_eq!(signed("{json:/a{b}", None), ["json:/a{b"]);
        assert_eq!(signed_places(&RawScheme::default()), [""; 0]);
    }

    #[test]
    fn forms_are_forms() {
        let slack = json!({"scheme": "hmac", "sig": "header:X-Slack-Signature", "encoding": "hex", "id": "json:/event_id",
            "type": ["json:/event/type", "json:/type", "form:command"]});
        let draft = drafted("slack", &slack, "slash_command", Some(&json!({"text": "a b&c"})));
        assert_eq!(header(&draft, "Content-Type"), Some(FORM));
        let body = String::from_utf8(draft.body).unwrap();
        assert!(body.contains("command=%2Forder&") && body.contains("text=a+b%26c"), "{body}");

        let twilio = json!({"scheme": "code:twilio", "sig": "header:X-Twilio-Signature", "type": ["form:MessageStatus"], "id": "header:I-Twilio-Idempotency-Token"});
        let draft = drafted("twilio", &twilio, "delivered", None);
        assert_eq!(String::from_utf8(draft.body).unwrap(), "MessageStatus=delivered");
    }
}
