//! The fuzz targets, shared by the fuzzer and the test. Each takes any bytes and panics if a promise is broken.

use std::sync::LazyLock;

use hooktide::filter::{EventFields, Filter, FilterInput};
use hooktide::inbound::provider::{Recipe, recipes};
use hooktide::inbound::source::{
    EventMap, Identity, ManagedBy, MapInput, PartnerToken, Source, SourceSettings, default_event_type, form_object,
    token_hash,
};
use hooktide::json::{Document, Path, Pointer, PointerSet};
use hooktide::model::{Secret, SourceId, Timestamp, is_event_type};
use hooktide::signature::{RawScheme, RequestParts, Scheme, ValueLocation, VerifyingKey};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;
use serde_json::value::RawValue;

/// A time at which the timestamps of the seeds are valid.
const NOW: Timestamp = Timestamp::from_millis(1_711_015_200_000);
/// Secrets for the schemes: text, hex, base64, `user:password`, public keys.
const SECRETS: [&str; 5] = [
    "a-canary-that-nobody-guesses",
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "user:a-canary-that-nobody-guesses",
    "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
];

/// A provider's scheme with a key.
struct Provider {
    scheme: Scheme,
    key: VerifyingKey,
    headers: Vec<HeaderName>,
}

static PROVIDERS: LazyLock<Vec<Provider>> = LazyLock::new(|| {
    let provider = |recipe: Recipe| {
        let key = SECRETS.iter().find_map(|secret| recipe.scheme.key(&Secret::new(*secret)).ok())?;
        let name = |place: &ValueLocation| {
            if let ValueLocation::Header(names) = place { names.first().cloned() } else { None }
        };
        let headers = recipe.scheme.signature_locations().iter().chain(&recipe.id).filter_map(name).collect();
        Some(Provider { scheme: recipe.scheme, key, headers })
    };
    recipes()
        .filter_map(|(_, raw)| Recipe::try_new(raw).ok())
        .filter(|r| r.scheme.needs_secret())
        .filter_map(provider)
        .collect()
});

static SHOP: LazyLock<Option<Source>> = LazyLock::new(|| build(r#"{"name":"shop","kind":"none"}"#.as_bytes()));

/// Input: one byte that selects a provider, one line per header that its signature may need, and the body.
pub fn signatures(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    let provider = &PROVIDERS[usize::from(*which) % PROVIDERS.len()];
    let mut rest = rest;
    let mut headers = HeaderMap::new();
    for name in &provider.headers {
        let (line, after) = line(rest);
        rest = after;
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name.clone(), value);
        }
    }
    let verdict = provider.scheme.verify([&provider.key], None, &request(&headers, rest), NOW);
    assert!(verdict.is_err(), "a request that nobody signed is believed");
    assert!(!format!("{verdict:?}").contains("canary"), "a verdict tells a secret");
}

/// Input: a scheme as JSON, or a place.
pub fn schemes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(place) = text.parse::<ValueLocation>() {
        let shown = place.to_string();
        assert_eq!(shown.parse::<ValueLocation>().as_ref(), Ok(&place), "{shown}");
        let _ = place.read(&request(&HeaderMap::new(), data));
    }
    let Ok(raw) = serde_json::from_str::<RawScheme>(text) else { return };
    let Ok(scheme) = Scheme::try_new(&raw) else { return };
    for key in SECRETS.iter().filter_map(|secret| scheme.key(&Secret::new(*secret)).ok()) {
        let _ = scheme.verify([&key], None, &request(&HeaderMap::new(), data), NOW);
    }
    assert!(!scheme.needs_secret() || scheme.verify([], None, &request(&HeaderMap::new(), data), NOW).is_err());
}

/// Input: the last part of a partner's path.
pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let hash = token_hash(text);
    let Ok(token) = PartnerToken::try_new(text) else { return };
    assert!(text.len() >= 22 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{text}");
    assert_eq!(token.hash().hash, hash);
    assert!(!format!("{token:?}").contains(text));
}

/// Input: a line with rules, a line with a topic, and the payload.
pub fn event_maps(data: &[u8]) {
    let (rules, rest) = line(data);
    let (topic, payload) = line(rest);
    let topic = std::str::from_utf8(topic).ok();
    assert!(is_event_type(&default_event_type("shop", topic)), "{topic:?}");
    let (Ok(Value::Array(rules)), Some(source)) = (serde_json::from_slice(rules), SHOP.as_ref()) else { return };
    let map = match EventMap::try_new(&rules) {
        Ok(map) => map,
        Err(breaches) => {
            assert!(!breaches.is_empty() && breaches.iter().all(|breach| breach.pointer.starts_with("/event_map")));
            return;
        }
    };
    let Ok(payload) = serde_json::from_slice::<&RawValue>(payload) else { return };
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-shop"), HeaderValue::from_static("\"a\\"))]);
    if let Ok(Some(mapped)) = map.apply(&MapInput { source, topic, data: payload.get(), headers: &headers }) {
        assert!(is_event_type(&mapped.event_type) && !mapped.event_type.starts_with("hooktide."), "{mapped:?}");
        let data = mapped.data.as_deref().unwrap_or("null");
        assert!(serde_json::from_str::<&RawValue>(data).is_ok(), "{data}");
    }
}

/// Input: a form.
pub fn forms(data: &[u8]) {
    let Some(object) = form_object(data) else { return };
    assert!(serde_json::from_str::<Value>(&object).is_ok_and(|value| value.is_object()), "{object}");
}

/// Input: a line with a JSON pointer, and the body.
pub fn pointers(data: &[u8]) {
    let (pointer, body) = line(data);
    let Some(Ok(pointer)) = std::str::from_utf8(pointer).ok().map(Pointer::try_new) else { return };
    let mut set = PointerSet::default();
    let slot = set.add(&pointer);
    let found = set.read(body);
    // A parser of the whole document refuses more: numbers beyond the range of a float.
    let Ok(whole) = serde_json::from_slice::<Value>(body) else { return };
    let found = found.expect("what is JSON is read");
    let found = found.raw(slot).map(|raw| serde_json::from_str::<Value>(raw.get()).expect("a value is JSON"));
    assert_eq!(found.as_ref(), whole.pointer(pointer.as_str()), "{} in {whole}", pointer.as_str());
}

/// Input: a source's settings as JSON.
pub fn settings(data: &[u8]) {
    if let Some(source) = build(data) {
        let headers = HeaderMap::new();
        let verified = source.verify(&request(&headers, b"{}"), None, NOW);
        assert!(verified.is_err() || !source.is_verified(), "a request without headers carries no signature");
        assert!(source.url.starts_with("http"), "{}", source.url);
    }
}

/// Input: a line with a filter, and the payload, which need not be JSON.
pub fn filters(data: &[u8]) {
    let (filter, payload) = line(data);
    let Ok(written) = serde_json::from_slice::<Value>(filter) else { return };
    let filter = match Filter::compile(&written) {
        Ok(filter) => filter,
        Err(wrong) => {
            assert!(!wrong.is_empty() && wrong.iter().all(|e| e.pointer.is_empty() || e.pointer.starts_with('/')));
            return;
        }
    };
    let event_fields = EventFields {
        tenant: "default",
        event_type: "a.b",
        user_id: Some("7"),
        data: payload,
        ..EventFields::default()
    };
    let filter_input = &mut FilterInput::new(&event_fields);
    let Ok(passes) = filter.matches_input(filter_input) else { return };
    assert_eq!(Ok(passes), filter.matches(&event_fields), "a second look sees something else");
    // A filter with one part has the verdict of that part.
    let Ok(verdicts) = filter.explain(filter_input) else { return };
    let parts = written.as_object().map_or(0, |parts| parts.values().filter(|part| !part.is_null()).count());
    if parts == 1 && written.get("conditions").is_some() {
        assert_eq!(verdicts.first().map(|verdict| verdict.matches), Some(passes), "{written}");
    }
    let Ok(whole) = serde_json::from_slice::<Value>(payload) else { return };
    for path in ["/a", "/a/b", "/list/0", "/n"] {
        let Ok(parsed) = Path::try_new(path) else { return };
        let found = Document::new(payload).find(&parsed);
        let found = found.map(|raw| serde_json::from_slice::<Value>(raw).expect("a value is JSON"));
        assert_eq!(found.as_ref(), whole.pointer(path), "{path} in {whole}");
    }
}

fn build(settings: &[u8]) -> Option<Source> {
    let settings: SourceSettings = serde_json::from_slice(settings).ok()?;
    let identity = Identity {
        id: SourceId::from_u128(1),
        tenant: "default".into(),
        managed_by: ManagedBy::Api,
        token: None,
        created_at: NOW,
        modified_at: NOW,
        deleted_at: None,
        version: 1,
    };
    let secrets: Vec<String> = settings.secrets.iter().filter_map(|s| Some(s.value()?.reveal().to_owned())).collect();
    match Source::build(settings, identity, "https://hooks.example.com") {
        Ok(source) => Some(source),
        Err(breaches) => {
            assert!(
                !breaches.is_empty() && breaches.iter().all(|breach| breach.pointer.starts_with('/')),
                "{breaches:?}"
            );
            let tells =
                |secret: &&String| secret.contains("canary") && breaches.iter().any(|b| b.detail.contains(&***secret));
            assert_eq!(secrets.iter().find(tells), None, "what is wrong tells a secret");
            None
        }
    }
}

fn request<'a>(headers: &'a HeaderMap, body: &'a [u8]) -> RequestParts<'a> {
    RequestParts { method: "POST", url: "https://a.example/", query: Some("a=1&b=%zz"), path: "a", headers, body }
}

/// The text up to the first line end, and the rest.
fn line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|b| *b == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}
