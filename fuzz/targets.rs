//! The fuzz targets, shared by the fuzzer and the test. Each takes any bytes and panics if a promise is broken.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hooktide::auth::TokenVerifier;
use hooktide::config::{self, Environment, Flags, Loader};
use hooktide::filter::{EventFields, Filter, FilterInput};
use hooktide::handoff::{AttemptOutcome, AttemptRequest, Transport};
use hooktide::inbound::provider::{Recipe, recipes};
use hooktide::inbound::source::{
    EventMap, Identity, ManagedBy, MapInput, PartnerToken, Source, SourceSettings, default_event_type, form_object,
    token_hash,
};
use hooktide::json::{self, Document, Path, Pointer, PointerSet};
use hooktide::limits::{BATCH_EVENTS_MAX, MULTIPART_PARTS_MAX, RESPONSE_BYTES_KEPT, RETRY_DELAY_MAX};
use hooktide::model::{
    AttemptError, AuditId, DeliveryId, EventId, KeyId, NewEvent, Role, Secret, SourceId, SubscriptionId, Timestamp,
    WebhookId, WebhookNo, is_event_type,
};
use hooktide::outbound::{EgressGuard, Endpoint, Event, SigningKeys, Webhook, WebhookSettings};
use hooktide::runtime::{Clock, MemoryBudget};
use hooktide::send::{ClientSetup, DeliveryClient, Resolve, tls_config};
use hooktide::signature::{
    KeySet, MultipartField, RawScheme, RequestParts, Scheme, SigningKey, ValueLocation, VerifyingKey, multipart_fields,
};
use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
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

/// A secret that is long enough for tokens.
const CANARY: &str = "a-canary-that-nobody-guesses-and-that-is-long";

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

/// Input: a line with the boundary, and the body.
pub fn multipart(data: &[u8]) {
    let (boundary, body) = line(data);
    // A boundary that is quoted or padded in the header is another one than the bytes of the line.
    if !boundary.iter().all(u8::is_ascii_alphanumeric) {
        return;
    }
    let content_type = [b"multipart/form-data; boundary=", boundary].concat();
    let Ok(content_type) = HeaderValue::from_bytes(&content_type) else { return };
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
    let Some(Ok(fields)) = multipart_fields(&request(&headers, body)) else { return };
    assert!(fields.len() <= MULTIPART_PARTS_MAX);
    let delimiter = [b"\r\n--", boundary].concat();
    let mut again = Vec::new();
    for field in &fields {
        assert!(!contains(field.content, &delimiter), "a field contains the boundary");
        again.extend_from_slice(&delimiter[2..]);
        again.extend_from_slice(b"\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n");
        again.extend_from_slice(field.content);
        again.extend_from_slice(b"\r\n");
    }
    again.extend_from_slice(&[&delimiter[2..], b"--"].concat());
    let read = multipart_fields(&request(&headers, &again)).and_then(Result::ok);
    let contents =
        |fields: &[MultipartField<'_>]| fields.iter().map(|field| field.content.to_vec()).collect::<Vec<_>>();
    assert_eq!(read.as_deref().map(contents), Some(contents(&fields)), "a form that is written again has other fields");
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
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

/// Input: what an endpoint sends after it has read a request, before it closes the connection.
pub fn responses(data: &[u8]) {
    let outcome = ENDPOINT.with(|endpoint| endpoint.deliver(data));
    let is_success = outcome.http_status.is_some_and(|status| (200..=299).contains(&status));
    match &outcome.result {
        Ok(()) => assert!(is_success, "{outcome:?}"),
        Err(AttemptError::Status(status)) => {
            assert!(!is_success && outcome.http_status == Some(*status), "{outcome:?}");
        }
        Err(AttemptError::Timeout | AttemptError::Connect(_)) => {}
        Err(error) => panic!("{error:?} cannot come of an answer"),
    }
    assert!(outcome.response.len() <= RESPONSE_BYTES_KEPT, "{} bytes are kept", outcome.response.len());
    assert!(outcome.retry_after.is_none_or(|wait| wait <= RETRY_DELAY_MAX), "{:?}", outcome.retry_after);
    assert!(outcome.latency <= 2 * RESPONSE_TIMEOUT, "{:?}", outcome.latency);
}

/// The timeout of an attempt. The endpoint of the target answers at once.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

thread_local! {
    static ENDPOINT: ScriptedEndpoint = ScriptedEndpoint::start();
}

/// An endpoint on this machine that answers as the input says, and the client that sends to it.
struct ScriptedEndpoint {
    answer: Arc<Mutex<Vec<u8>>>,
    runtime: tokio::runtime::Runtime,
    tasks: tokio::task::LocalSet,
    client: DeliveryClient<NoNames>,
    webhook: Arc<Webhook>,
    event: Arc<Event>,
    clock: Clock,
}

/// No name has an address. The URL of the endpoint has none.
struct NoNames;

impl Resolve for NoNames {
    async fn resolve(&self, _: &str, _: &Arc<str>) -> std::io::Result<Vec<IpAddr>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

impl ScriptedEndpoint {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of this machine");
        let at = listener.local_addr().expect("it is bound");
        let answer = Arc::<Mutex<Vec<u8>>>::default();
        let script = Arc::clone(&answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // The client may close the connection at any moment.
                let _ = answer_one(stream, &script);
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let clock = Clock::system(NOW);
        let loopback = ["127.0.0.0/8".parse().expect("a network")].to_vec();
        let rules = config::Egress {
            allow: loopback,
            deny: Vec::new(),
            require_https: false,
            ca_file: None,
            dns_servers: Vec::new(),
        };
        let guard = Arc::new(ArcSwap::from_pointee(EgressGuard::new(&rules, [])));
        let setup =
            ClientSetup { guard: Arc::clone(&guard), tls: tls_config(None).expect("roots"), clock: clock.clone() };
        let webhook = Arc::new(local_webhook(at, &guard.load()));
        let tasks = tokio::task::LocalSet::new();
        let client = tasks.block_on(&runtime, async { DeliveryClient::new(setup, NoNames) });
        let mut head = Vec::new();
        NewEvent { tenant: "default", event_type: "a.b", data_len: 2, ..NewEvent::default() }.encode(&[], &mut head);
        let event = Arc::new(Event {
            id: EventId::from_u128(1),
            head: head.into(),
            body: b"{}".to_vec().into(),
            committed_at: clock.instant(),
            lease: MemoryBudget::new(usize::MAX).lease(2),
        });
        Self { answer, runtime, tasks, client, webhook, event, clock }
    }

    fn deliver(&self, answer: &[u8]) -> AttemptOutcome {
        answer.clone_into(&mut self.answer.lock().unwrap_or_else(PoisonError::into_inner));
        let (webhook, event, timeout) = (&self.webhook, &self.event, RESPONSE_TIMEOUT);
        self.tasks.block_on(&self.runtime, async {
            let began = self.clock.moment(self.clock.instant());
            self.client.deliver(AttemptRequest { webhook, event, attempt: 1, timeout, began }).await
        })
    }
}

/// Reads a request, and answers as the script says.
fn answer_one(mut stream: TcpStream, script: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break;
            }
        }
        match stream.read(&mut part)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&part[..read]),
        }
    }
    let answer = script.lock().unwrap_or_else(PoisonError::into_inner).clone();
    stream.write_all(&answer)
}

fn local_webhook(at: SocketAddr, guard: &EgressGuard) -> Webhook {
    let endpoint = Endpoint::try_new(&format!("http://{at}/"), guard).expect("a URL of this machine");
    let keys = SigningKeys { current: Arc::new(SigningKey::generate()), previous: Vec::new() };
    Webhook {
        no: WebhookNo(1),
        id: WebhookId::from_u128(1),
        settings: WebhookSettings::new("default".into(), endpoint, keys),
        created_at: NOW,
        updated_at: NOW,
        version: 1,
        address_version: 1,
    }
}

/// Input: a body of lines, each with an event.
pub fn ndjson(data: &[u8]) {
    let (readable, lines) = hooktide::admit::readable_lines(data);
    let written: Vec<_> = data.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
    assert_eq!((lines, readable.len()), (written.len(), written.len().min(BATCH_EVENTS_MAX)));
    for (line, is_readable) in written.into_iter().zip(readable) {
        // A line that is skipped may have what a value may not: numbers beyond the range of a float, deep nesting.
        let is_value = serde_json::from_slice::<Value>(line).is_ok();
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
        assert!(is_readable || !is_value, "refused: {}", String::from_utf8_lossy(line));
        assert!(is_json || !is_readable, "taken: {}", String::from_utf8_lossy(line));
    }
}

/// Input: a line with a JWK set, and a token.
pub fn jwts(data: &[u8]) {
    let (keys, token) = line(data);
    let (Ok(keys), Ok(token)) = (std::str::from_utf8(keys), std::str::from_utf8(token)) else { return };
    let auth = |secret: Option<&str>| config::Auth {
        api_keys: Vec::new(),
        jwt_secret: secret.map(Secret::new),
        jwks_file: None,
        jwt_issuer: None,
        jwt_audience: None,
        default_role: Role::Admin,
        token_ttl: Duration::from_secs(60),
        trusted_proxy: Vec::new(),
    };
    let published = match KeySet::parse(keys) {
        Ok(keys) => TokenVerifier::of(&auth(None), Some(keys)),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    };
    let secret = TokenVerifier::of(&auth(Some(CANARY)), None);
    for verifier in [published, secret].into_iter().flatten() {
        let verdict = verifier.verify(token, NOW);
        assert!(verdict.is_err(), "a token that nobody signed is believed");
        assert!(!format!("{verdict:?}").contains("canary"), "a verdict tells a secret");
    }
}

/// Input: a cursor of any list.
pub fn cursors(data: &[u8]) {
    fn check<T: FromStr<Err: std::fmt::Display> + ToString + PartialEq + std::fmt::Debug>(text: &str) {
        match text.parse::<T>() {
            Ok(cursor) => {
                let shown = cursor.to_string();
                assert_eq!(shown.parse::<T>().ok().as_ref(), Some(&cursor), "{shown}");
                assert!(shown.eq_ignore_ascii_case(text) || shown.len() == text.len(), "{shown} is {text}");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    check::<EventId>(text);
    check::<DeliveryId>(text);
    check::<AuditId>(text);
    check::<KeyId>(text);
    check::<SourceId>(text);
    check::<SubscriptionId>(text);
    check::<WebhookId>(text);
}

/// Input: a configuration file. A secret comes from the environment.
pub fn configs(data: &[u8]) {
    static FILE: LazyLock<PathBuf> =
        LazyLock::new(|| std::env::temp_dir().join(format!("hooktide-fuzz-{}.toml", std::process::id())));
    std::fs::write(&*FILE, data).expect("a file in the folder of temporary files");
    let secret = [("HOOKTIDE_AUTH__JWT_SECRET".into(), CANARY.into())];
    let layers =
        Loader { file: Some(FILE.clone()), dev: false, environment: Environment::new(secret), flags: Flags::default() };
    let said = match layers.draft().finish() {
        Ok(loaded) => {
            assert!(loaded.config.auth.jwt_secret.is_some(), "the environment comes before the file");
            loaded.shown
        }
        Err(errors) => errors.to_string(),
    };
    let _ = std::fs::remove_file(&*FILE);
    assert!(!said.is_empty() && !said.contains(CANARY), "a secret is told: {said}");
}

/// Input: a line with a JSON pointer, and the body. What this program reads is what serde_json reads.
pub fn documents(data: &[u8]) {
    let (path, body) = line(data);
    let (Ok(text), Ok(written)) = (std::str::from_utf8(body), std::str::from_utf8(path)) else { return };
    let Ok(whole) = serde_json::from_str::<Value>(text) else {
        // What is not JSON may be read in any way, but it must be read.
        let found = Path::try_new(written).ok().and_then(|path| Document::new(body).find(&path));
        let _ = (found, json::items(body).count(), json::exceeds_depth(text, 8));
        return;
    };
    for most in 0..4 {
        // The text may be deeper than the value: of members with the same name, the value has the last one.
        assert!(json::exceeds_depth(text, most) || depth(&whole) <= most, "{most} in {text}");
    }
    let value_of = |raw: &[u8]| serde_json::from_slice::<Value>(raw).expect("a value is JSON");
    if let Value::Array(items) = &whole {
        assert_eq!(&json::items(text.trim().as_bytes()).map(value_of).collect::<Vec<_>>(), items, "{text}");
    }
    let Ok(pointer) = Pointer::try_new(written) else { return };
    if let (true, Ok(path)) = (written.starts_with('/'), Path::try_new(written)) {
        let mut document = Document::new(body);
        for _ in 0..2 {
            assert_eq!(document.find(&path).map(value_of).as_ref(), whole.pointer(written), "{written} in {text}");
        }
    }
    // A longer pointer would make a document that is nested too deeply to be read.
    if written.matches('/').count() > 100 {
        return;
    }
    let Some(edited) = json::set(body, &pointer, "[7]") else { return };
    let edited = value_of(&edited);
    assert_eq!(edited.pointer(written), Some(&serde_json::json!([7])), "{written} in {text}");
    let mut expected = whole.clone();
    if let Some(old) = expected.pointer_mut(written) {
        *old = serde_json::json!([7]);
        assert_eq!(edited, expected, "{written} in {text}");
    }
}

/// How deep arrays and objects are nested.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
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
