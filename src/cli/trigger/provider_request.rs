//! Builds a provider's request before it is signed: its headers and body, with the values at the recipe's places.

use std::convert::Infallible;

use hyper::header::HeaderMap;
use hyper::http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::placeholders::{ALNUM, PlaceholderFiller, SamplePlaceholder};
use crate::inbound::provider::{RawRecipe, SamplePayload, sample_headers, samples};
use crate::model::header::{FORM, JSON};
use crate::signature::{OneOrMany, RawScheme};
use crate::template::Template;

/// User agent of a request, unless the provider's sample headers set another one.
const GENERIC_USER_AGENT: &str = concat!("hooktide-trigger/", env!("CARGO_PKG_VERSION"));
/// Length of a generated value that is signed in addition to the body.
const SIGNED_CHARS: usize = 24;

/// An unsigned request of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProviderRequest {
    /// Headers in the order in which they are printed and sent.
    pub(in super::super) headers: Vec<(String, String)>,
    /// Query parameters in addition to those of the URL.
    pub(in super::super) query: Vec<(String, String)>,
    /// Path after the source's URL.
    pub(in super::super) path: String,
    pub(in super::super) body: Vec<u8>,
    /// Whether the body is a sample of the provider, not one generated from the recipe.
    pub(in super::super) sample: bool,
}

impl ProviderRequest {
    /// Sets a header. Replaces its current value.
    pub(in super::super) fn set_header(&mut self, name: &str, value: &str) {
        match self.headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, known)) => value.clone_into(known),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
    }

    fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The headers as a map. The error is the name of a header that is not valid.
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

/// Builds the request that a provider of this kind would send, without its signature. `data` is merged into the body
/// (RFC 7396).
pub(super) fn build_request(
    kind: &str,
    recipe: &RawRecipe,
    data: Option<&Value>,
    filler: &mut PlaceholderFiller<'_>,
) -> ProviderRequest {
    let sample = samples(kind).iter().find(|sample| sample.event_type == filler.event_type);
    let mut request = ProviderRequest { sample: sample.is_some(), ..ProviderRequest::default() };
    let (mut body, is_form) = match sample {
        Some(SamplePayload { body, is_form, .. }) => (filler.text(body), *is_form),
        None => (Value::Object(Map::new()).to_string(), wants_form(recipe)),
    };
    let content = if is_form { FORM } else { JSON };
    request.set_header("User-Agent", GENERIC_USER_AGENT);
    request.set_header("Content-Type", content);
    let own: Option<Map<String, Value>> =
        sample_headers(kind).and_then(|text| serde_json::from_str(&filler.text(text)).ok());
    for (name, value) in own.unwrap_or_default() {
        if !(is_form && name.eq_ignore_ascii_case("content-type")) {
            request.set_header(&name, value.as_str().unwrap_or_default());
        }
    }
    let mut tree = serde_json::from_str(&body).unwrap_or(Value::Null);
    let before = tree.clone();
    place_all(recipe, &mut request, &mut tree, filler);
    if let Some(data) = data {
        merge(&mut tree, data);
    }
    if is_form {
        request.body = form(&tree).into_bytes();
        return request;
    }
    // An unchanged sample keeps its text and the provider's order of fields.
    if tree != before {
        body = tree.to_string();
    }
    request.body = body.trim_end().as_bytes().to_vec();
    request
}

/// Whether events of this recipe are forms, derived from the places of their values.
fn wants_form(recipe: &RawRecipe) -> bool {
    let places = || [&recipe.r#type, &recipe.id].into_iter().flatten().flat_map(places);
    let all = |scheme: &str| places().any(|place| place.starts_with(scheme));
    (all("form:") && !all("json:")) || ["code:twilio", "code:braintree"].contains(&recipe.verify.scheme.as_str())
}

fn places(places: &OneOrMany) -> impl Iterator<Item = &str> {
    match places {
        OneOrMany::One(one) => std::slice::from_ref(one),
        OneOrMany::Many(several) => several,
    }
    .iter()
    .map(String::as_str)
}

/// Sets the type, ids, time and other signed values at the recipe's places, if these are empty.
fn place_all(recipe: &RawRecipe, request: &mut ProviderRequest, tree: &mut Value, filler: &mut PlaceholderFiller<'_>) {
    let event_type = filler.event_type.to_owned();
    // A sample already has its type in the body. Otherwise the first place gets the type; the path only if there is no
    // other place.
    let type_places = || recipe.r#type.iter().flat_map(places);
    if let Some(place) = type_places().find(|place| *place != "path").or_else(|| type_places().next()) {
        put(place, &Value::from(event_type.as_str()), request, tree, !request.sample);
    }
    for place in recipe.id.iter().flat_map(places).chain(recipe.nonce.as_deref()) {
        let id = Value::from(filler.value(&SamplePlaceholder::Uuid));
        put(place, &id, request, tree, !request.sample);
    }
    let scheme = &recipe.verify;
    let now = match scheme.unit.as_deref() {
        Some("rfc3339") => Some(Value::from(filler.value(&SamplePlaceholder::RFC3339_MS))),
        Some("ms") => filler.value(&SamplePlaceholder::UnixMillis).parse::<u64>().ok().map(Value::from),
        _ => filler.value(&SamplePlaceholder::Unix { offset_s: 0 }).parse::<u64>().ok().map(Value::from),
    };
    // If the time is not in the body, the signer sets it.
    if let Some((place, now)) = scheme.time.as_deref().filter(|place| place.starts_with("json:")).zip(now) {
        put(place, &now, request, tree, true);
    }
    for place in signed_places(scheme) {
        let value = filler.value(&SamplePlaceholder::Letters { alphabet: ALNUM, count: SIGNED_CHARS, name: None });
        put(&place, &Value::from(value), request, tree, true);
    }
}

/// The places of the values that a scheme signs in addition to the body. Places of `each` are in its first element.
pub(in super::super) fn signed_places(scheme: &RawScheme) -> Vec<String> {
    if scheme.scheme == "code:braintree" {
        return vec!["form:bt_payload".to_owned()];
    }
    let signed = scheme.signed.as_deref().unwrap_or_default();
    // An invalid template is reported by the code that uses the scheme.
    let names: Template<String> =
        Template::parse(signed, |name| Ok::<_, Infallible>(name.to_owned())).unwrap_or_default();
    let place = |name: &String| match (name.strip_prefix("json:"), scheme.each.as_deref()) {
        (Some(pointer), Some(each)) => Some(format!("{each}/0{pointer}")),
        _ => name.contains(':').then(|| name.clone()),
    };
    names.placeholders().filter_map(place).collect()
}

/// Sets a value at a place, if the place is empty.
fn put(place: &str, value: &Value, request: &mut ProviderRequest, tree: &mut Value, in_body: bool) {
    let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match place.split_once(':').unwrap_or((place, "")) {
        ("header", names) => {
            let mut names = names.split('|');
            let first = names.next().unwrap_or_default();
            if !request.has_header(first) && !names.any(|name| request.has_header(name)) {
                request.set_header(first, &text());
            }
        }
        ("query" | "query-lower", name) => request.query.push((name.to_owned(), text())),
        ("path", _) => request.path = text(),
        ("json", pointer) if in_body => set(tree, pointer, value),
        // JSON in a field of a form is a part of the tree.
        ("form", field) if in_body => set(tree, &format!("/{}", field.replacen("#/", "/", 1)), &Value::from(text())),
        _ => {}
    }
}

/// Sets the value at a JSON pointer if it is empty. Creates the enclosing objects and arrays.
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

/// The members of an object as a URL-encoded form.
fn form(tree: &Value) -> String {
    let mut out = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in tree.as_object().into_iter().flatten() {
        match value {
            Value::String(text) => out.append_pair(name, text),
            Value::Array(items) if items.iter().all(Value::is_string) => {
                out.extend_pairs(items.iter().map(|item| (name, item.as_str().unwrap_or_default())))
            }
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

    fn built(kind: &str, recipe: &Value, event_type: &str, data: Option<&Value>) -> ProviderRequest {
        let recipe: RawRecipe = serde_json::from_value(recipe.clone()).unwrap();
        let mut random = Random::seeded(1);
        let mut filler = PlaceholderFiller::new(event_type, Timestamp::from_millis(1_711_015_200_120), &mut random);
        build_request(kind, &recipe, data, &mut filler)
    }

    fn header<'d>(request: &'d ProviderRequest, name: &str) -> Option<&'d str> {
        request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_sample_has_its_own_headers_and_what_the_recipe_asks_for() {
        let recipe = json!({"scheme": "hmac", "sig": "header:X-Shopify-Hmac-Sha256", "encoding": "base64",
            "id": "header:X-Shopify-Webhook-Id", "type": "header:X-Shopify-Topic"});
        let request = built("shopify", &recipe, "orders/create", Some(&json!({"note": "quick", "email": null})));
        assert_eq!(header(&request, "X-Shopify-Topic"), Some("orders/create"));
        assert_eq!(header(&request, "User-Agent"), Some("Shopify-Captain-Hook"));
        assert_eq!(header(&request, "Content-Type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!((&body["note"], body.get("email")), (&json!("quick"), None));
        assert!(request.sample && body["id"].as_u64().unwrap() > 1_000_000_000_000);
        assert_eq!(request.headers.iter().filter(|(name, _)| name.to_lowercase() == "x-shopify-webhook-id").count(), 1);
    }

    #[test]
    fn an_event_without_a_sample_is_made_of_the_recipe() {
        let recipe = json!({"scheme": "hmac", "sig": "header:Linear-Signature", "encoding": "hex", "time": "json:/webhookTimestamp",
            "unit": "ms", "id": "header:Linear-Delivery", "type": ["json:/type", "json:/x"]});
        let request = built("linear", &recipe, "Issue", None);
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body, json!({"type": "Issue", "webhookTimestamp": 1_711_015_200_120_u64}));
        assert_eq!(header(&request, "Linear-Delivery").map(str::len), Some(36));
        assert!(!request.sample);
    }

    #[test]
    fn values_signed_in_addition_to_the_body_are_set() {
        let recipe = json!({"scheme": "hmac", "each": "json:/items", "sig": "json:/item/sig", "encoding": "base64",
            "signed": "{json:/item/ref}:{json:/item/amount/value}:{header:X-A|X-B}", "id": ["json:/items/0/item/ref"]});
        let request = built("adyen", &recipe, "AUTHORISATION", None);
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["items"][0]["item"]["ref"].as_str().map(str::len), Some(36), "{body}");
        assert_eq!(body["items"][0]["item"]["amount"]["value"].as_str().map(str::len), Some(24), "{body}");
        assert_eq!(header(&request, "X-A").map(str::len), Some(24));
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
    fn form_events_have_form_bodies() {
        let slack = json!({"scheme": "hmac", "sig": "header:X-Slack-Signature", "encoding": "hex", "id": "json:/event_id",
            "type": ["json:/event/type", "json:/type", "form:command"]});
        let request = built("slack", &slack, "slash_command", Some(&json!({"text": "a b&c"})));
        assert_eq!(header(&request, "Content-Type"), Some(FORM));
        let body = String::from_utf8(request.body).unwrap();
        assert!(body.contains("command=%2Forder&") && body.contains("text=a+b%26c"), "{body}");

        let twilio = json!({"scheme": "code:twilio", "sig": "header:X-Twilio-Signature", "type": ["form:MessageStatus"], "id": "header:I-Twilio-Idempotency-Token"});
        let request = built("twilio", &twilio, "delivered", None);
        assert_eq!(String::from_utf8(request.body).unwrap(), "MessageStatus=delivered");
    }
}
