use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use http::HeaderMap;
use http::{HeaderName, header};
use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::inbound::source::id_and_topic;
use crate::model::{Secret, Timestamp};
use crate::signature::{Certificate, RawJwt, RawScheme, RequestParts, ValueLocation, VerifyError};

/// A request of the test data.
#[derive(Deserialize)]
struct VectorRequest {
    method: String,
    url: String,
    headers: serde_json::Map<String, Value>,
    body_base64: String,
}

/// The owned values that a [`RequestParts`] of a [`VectorRequest`] borrows.
struct VectorRequestParts {
    method: String,
    url: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl VectorRequest {
    fn hold(&self) -> VectorRequestParts {
        let (url, query) = match self.url.split_once('?') {
            Some((url, query)) => (url, Some(query.to_owned())),
            None => (self.url.as_str(), None),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let values = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
            for value in values {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, value.as_str().unwrap().parse().unwrap());
            }
        }
        let body = BASE64.decode(self.body_base64.as_bytes()).unwrap();
        VectorRequestParts { method: self.method.clone(), url: url.to_owned(), query, headers, body }
    }
}

impl VectorRequestParts {
    fn request(&self) -> RequestParts<'_> {
        RequestParts {
            method: &self.method,
            url: &self.url,
            query: self.query.as_deref(),
            path: "",
            headers: &self.headers,
            body: &self.body,
        }
    }

    fn post(headers: &[(&str, &str)], body: &str) -> Self {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let url = "https://hooks.example.com/in".to_owned();
        Self { method: "POST".to_owned(), url, query: None, headers: map, body: body.into() }
    }
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    recipe: String,
    key: String,
    #[serde(default)]
    params: serde_json::Map<String, Value>,
    #[serde(default)]
    at: Option<i64>,
    expect: String,
    #[serde(default)]
    recommended: Option<String>,
    #[serde(default)]
    event_id: Option<String>,
    #[serde(default)]
    event_type: Option<String>,
    #[serde(flatten)]
    sent: VectorRequest,
}

#[derive(Deserialize)]
struct Pair {
    id: String,
    provider: String,
    secret: Option<String>,
    request: VectorRequest,
    response: Expected,
    signed: bool,
}

#[derive(Deserialize)]
struct Expected {
    status: u16,
    content_type: Option<String>,
    body: Option<String>,
    json: Option<Value>,
    #[serde(default)]
    headers: serde_json::Map<String, Value>,
}

/// The current time, in seconds, for requests of the test data that have none.
const NOW: i64 = 1_780_000_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn lines<T: for<'de> Deserialize<'de>>(path: &Path) -> Vec<T> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The test vectors of the project, or the larger set next to the project if it exists.
fn vectors() -> Vec<Vector> {
    let all = root().parent().unwrap().join("shared/data/vectors.jsonl");
    let mut vectors: Vec<Vector> =
        lines(&if all.exists() { all } else { root().join("tests/data/providers/vectors.jsonl") });
    vectors.extend(lines::<Vector>(&root().join("tests/data/providers/library-vectors.jsonl")));
    vectors
}

/// The recipe in the table, or one of the recipes of the test data that belong to no provider.
fn recipe_of(name: &str) -> Recipe {
    let scheme = |json: Value| RawRecipe { verify: serde_json::from_value(json).unwrap(), ..RawRecipe::default() };
    let sha512 = |encoding: &str| {
        scheme(serde_json::json!({
            "scheme": "hmac", "alg": "sha512", "sig": "header:X-Convoy-Signature", "encoding": encoding
        }))
    };
    let raw = match name {
        "basic-auth" => scheme(serde_json::json!({ "scheme": "basic", "sig": "header:Authorization" })),
        "generic-hmac-sha512-hex" => sha512("hex"),
        "generic-hmac-sha512-base64" => sha512("base64"),
        _ => recipe(name).unwrap_or_else(|| panic!("no recipe {name}")).clone(),
    };
    Recipe::try_new(&raw).unwrap_or_else(|wrong| panic!("{name}: {wrong:?}"))
}

/// The verdict for a vector. For PayPal and SNS, the key in the data is the certificate at the certificate URL.
fn verdict(vector: &Vector, recipe: &Recipe, request: &RequestParts<'_>) -> Result<(), VerifyError> {
    let (certificate, secret) = match vector.recipe.as_str() {
        "paypal" | "aws-sns" => (
            Some(Certificate::from_pem(vector.key.as_bytes()).unwrap()),
            vector.params.get("webhook_id").map(|id| id.as_str().unwrap().to_owned()),
        ),
        _ => (None, Some(vector.key.clone())),
    };
    // The caller first fetches the certificate from its URL, which must be one of the provider's.
    recipe.scheme.certificate_url(request)?;
    let key = secret.map(|secret| recipe.scheme.key_of_any_length(&Secret::new(secret)).unwrap());
    let now = Timestamp::from_millis(vector.at.unwrap_or(NOW) * 1000);
    recipe.scheme.verify(&key, certificate.as_ref(), request, now)
}

#[test]
fn every_test_vector_gets_the_expected_verdict() {
    let (mut wrong, mut accepted) = (Vec::new(), 0);
    let vectors = vectors();
    for vector in &vectors {
        let recipe = recipe_of(&vector.recipe);
        let held = vector.sent.hold();
        let verdict = verdict(vector, &recipe, &held.request());
        let wanted = vector.recommended.as_ref().unwrap_or(&vector.expect);
        if verdict.is_ok() != (wanted == "accept") {
            wrong.push(format!("{} ({}): {verdict:?}, {wanted} is right", vector.id, vector.recipe));
        }
        if verdict.is_ok() {
            accepted += 1;
            let (id, event_type) = id_and_topic(&recipe, &held.request());
            for (what, found, wanted) in [("id", id, &vector.event_id), ("type", event_type, &vector.event_type)] {
                if wanted.is_some() && found.as_deref() != wanted.as_deref() {
                    wrong.push(format!("{}: {what} {found:?}, {wanted:?} is right", vector.id));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
    assert!(vectors.len() >= 76 && accepted >= 25, "{accepted} of {} accepted: too few to tell", vectors.len());
}

#[test]
fn an_event_is_never_handled_as_a_handshake() {
    // The last one is text, which X never sends.
    let pings = ["discord-ping", "sns-subscription", "x-convoy"];
    let topic = |_: &str| Some("arn:aws:sns:us-west-2:123456789012:MyTopic".to_owned());
    for vector in vectors() {
        let Some(handshake) = recipe_of(&vector.recipe).handshake else { continue };
        let held = vector.sent.hold();
        // A ping, rejected as an event.
        if vector.id == "woocommerce-ping-unsigned" {
            continue;
        }
        let secret = Secret::new(vector.key.clone());
        for secrets in [&[][..], &[&secret]] {
            assert_eq!(handshake.respond_unsigned(&held.request(), secrets, &topic), None, "{}", vector.id);
            if vector.expect == "accept" {
                let answer = handshake.respond_signed(&held.request(), secrets, &topic);
                assert_eq!(answer.is_some(), pings.contains(&vector.id.as_str()), "{}: {answer:?}", vector.id);
            }
        }
    }
}

/// The response to the request of a pair. A request with a signature is verified first.
fn response_to(pair: &Pair) -> Option<HandshakeResponse> {
    let held = pair.request.hold();
    let request = held.request();
    let kind = pair.provider.as_str();
    let handshake = match kind {
        // The table cannot describe eBay's signature, so eBay is not a kind.
        "ebay" => Handshake::named("ebay-challenge").unwrap(),
        _ => recipe_of(kind).handshake.unwrap_or_else(|| panic!("{kind} has no handshake")),
    };
    let option = |name: &str| match name {
        "topic_arn" => Some("arn:aws:sns:us-west-2:123456789012:MyTopic".to_owned()),
        _ => pair.secret.clone(),
    };
    let secret = match kind {
        "xero" => Some(Secret::new("a-webhooks-key")),
        _ => pair.secret.clone().map(Secret::new),
    };
    let secrets: Vec<&Secret> = secret.iter().collect();
    if !pair.signed {
        // With a signature too, the request is no event. It brings no secret any more.
        let answer = handshake.respond_unsigned(&request, &secrets, &option);
        let expected = answer.clone().map(|answer| HandshakeResponse { effect: HandshakeEffect::Nothing, ..answer });
        assert_eq!(handshake.respond_signed(&request, &secrets, &option), expected, "{}: with a signature", pair.id);
        return answer;
    }
    assert_eq!(handshake.respond_unsigned(&request, &secrets, &option), None, "{}: only once it is verified", pair.id);
    let recipe = recipe_of(kind);
    let is_signed = matches!(recipe.scheme.signature_locations(), [ValueLocation::Header(names), ..] if request.headers.contains_key(&names[0]));
    if is_signed {
        let keys: Vec<_> = secrets.iter().map(|secret| recipe.scheme.key(secret).unwrap()).collect();
        let verdict = recipe.scheme.verify(&keys, None, &request, Timestamp::from_millis(NOW * 1000));
        if let Err(error) = verdict {
            assert_eq!(pair.response.status, 401, "{}: {error}", pair.id);
            return None;
        }
    }
    handshake.respond_signed(&request, &secrets, &option)
}

#[test]
fn every_handshake_gets_its_response() {
    let pairs: Vec<Pair> = lines(&root().join("tests/data/providers/handshakes.jsonl"));
    assert_eq!(pairs.len(), 19);
    for pair in &pairs {
        let answer = response_to(pair);
        let wanted = &pair.response;
        let Some(answer) = answer else {
            assert_eq!(wanted.status, 401, "{}: no answer", pair.id);
            continue;
        };
        assert_eq!(answer.status, wanted.status, "{}", pair.id);
        let of = |name: &HeaderName| answer.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value);
        let content_type = of(&header::CONTENT_TYPE).map(|value| value.to_str().unwrap());
        if wanted.status == 200 {
            assert_eq!(content_type, wanted.content_type.as_deref(), "{}", pair.id);
            assert_eq!(of(&header::X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff", "{}", pair.id);
        }
        for (name, value) in &wanted.headers {
            assert_eq!(of(&name.parse().unwrap()).unwrap(), value.as_str().unwrap(), "{}", pair.id);
        }
        match (&wanted.body, &wanted.json) {
            (Some(body), _) => assert_eq!(answer.body, body, "{}", pair.id),
            (None, Some(json)) => {
                assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap(), *json, "{}", pair.id);
            }
            (None, None) => assert_eq!(answer.body, "", "{}", pair.id),
        }
        let wanted = match pair.id.as_str() {
            "sns" => HandshakeEffect::Visit(
                "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:us-west-2:123456789012:MyTopic&Token=2336412f37f"
                    .parse()
                    .unwrap(),
            ),
            "asana" => HandshakeEffect::Learn(Secret::new("b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81")),
            "notion" => HandshakeEffect::Learn(Secret::new("secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl")),
            _ => HandshakeEffect::Nothing,
        };
        assert_eq!(answer.effect, wanted, "{}", pair.id);
    }
}

#[test]
fn a_secret_is_stored_only_if_the_source_has_none() {
    let pairs: Vec<Pair> = lines(&root().join("tests/data/providers/handshakes.jsonl"));
    for pair in pairs.iter().filter(|pair| ["asana", "notion"].contains(&pair.id.as_str())) {
        let handshake = recipe_of(&pair.provider).handshake.unwrap();
        assert!(handshake.provides_secret());
        let held = pair.request.hold();
        let answer = handshake.respond_unsigned(&held.request(), &[&Secret::new("the first one")], &|_| None);
        assert_eq!(answer, None, "{}", pair.id);
    }
    let handshake = recipe_of("asana").handshake.unwrap();
    let (long, spaced) = ("x".repeat(257), "a b c d e f g");
    for bad in ["short", &long, spaced] {
        let held = VectorRequestParts::post(&[("X-Hook-Secret", bad)], "");
        assert_eq!(handshake.respond_unsigned(&held.request(), &[], &|_| None), None, "{bad}");
    }
}

#[test]
fn sns_accepts_only_the_configured_topic() {
    let handshake = recipe_of("aws-sns").handshake.unwrap();
    let arn = |arn: &'static str| move |_: &str| Some(arn.to_owned());
    let message = |kind: &str, url: &str| {
        let body = serde_json::json!({ "Type": kind, "TopicArn": "arn:aws:sns:eu-west-1:1:mine", "SubscribeURL": url });
        VectorRequestParts::post(&[], &body.to_string())
    };
    let (mine, other) = (arn("arn:aws:sns:eu-west-1:1:mine"), arn("arn:aws:sns:eu-west-1:2:mine"));
    let notification = message("Notification", "");
    assert_eq!(handshake.respond_signed(&notification.request(), &[], &mine), None, "an event");
    for option in [&other as &dyn Fn(&str) -> Option<String>, &|_| None] {
        assert_eq!(handshake.respond_signed(&notification.request(), &[], option).unwrap().status, 403);
    }
    let good = message("SubscriptionConfirmation", "https://sns.eu-west-1.amazonaws.com/?Action=x");
    let answer = handshake.respond_signed(&good.request(), &[], &mine).unwrap();
    assert_eq!(answer.effect, HandshakeEffect::Visit("https://sns.eu-west-1.amazonaws.com/?Action=x".parse().unwrap()));
    for bad in ["https://169.254.169.254/latest", "http://sns.eu-west-1.amazonaws.com/", ""] {
        let held = message("SubscriptionConfirmation", bad);
        let answer = handshake.respond_signed(&held.request(), &[], &mine).unwrap();
        assert_eq!((answer.status.as_u16(), answer.effect), (403, HandshakeEffect::Nothing), "{bad}");
    }
}

/// X signs events in the same way as challenges. A challenge must not return the signature of an event.
#[test]
fn a_challenge_signs_no_event() {
    let recipe = recipe_of("x-twitter");
    let secret = Secret::new("x_consumer_secret");
    let (handshake, secrets) = (recipe.handshake.unwrap(), [&secret]);
    let crc = |token: &str| {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("crc_token", token).finish();
        let held =
            VectorRequestParts { method: "GET".to_owned(), query: Some(query), ..VectorRequestParts::post(&[], "") };
        handshake.respond_unsigned(&held.request(), &secrets, &|_| None)
    };
    for body in [r#"{"for_user_id":"1"}"#, "[1234567]", "a=1&b=2345", " 12345678", "short"] {
        assert_eq!(crc(body), None, "{body}");
    }
    let answer = crc("123456789").unwrap();
    let tag = serde_json::from_slice::<Value>(&answer.body).unwrap()["response_token"].as_str().unwrap().to_owned();
    let held = VectorRequestParts::post(&[("X-Twitter-Webhooks-Signature", &tag)], "123456789");
    let key = recipe.scheme.key(&secret).unwrap();
    recipe.scheme.verify([&key], None, &held.request(), Timestamp::from_millis(0)).unwrap();
    let answer = handshake.respond_signed(&held.request(), &secrets, &|_| None).unwrap();
    assert_eq!(answer.status, 400, "its signature is right, but it is no event");
}

/// Xero checks that wrong signatures are rejected, and expects an empty 200 for correct ones.
#[test]
fn xero_s_intent_to_receive_is_answered_as_a_handshake() {
    let recipe = recipe_of("xero");
    let intent = r#"{"events":[],"firstEventSequence":0,"lastEventSequence":0,"entropy":"S0m3r4Nd0mt3xt"}"#;
    let answer = recipe
        .handshake
        .unwrap()
        .respond_signed(&VectorRequestParts::post(&[], intent).request(), &[], &|_| None)
        .unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b""[..]));
    let event = intent.replace("[]", r#"[{"eventCategory":"INVOICE"}]"#);
    let held = VectorRequestParts::post(&[], &event);
    assert_eq!(recipe.handshake.unwrap().respond_signed(&held.request(), &[], &|_| None), None);
    assert_eq!(id_and_topic(&recipe, &held.request()).1.as_deref(), Some("INVOICE"));
    assert_eq!((recipe.status.map(|status| status.as_u16()), recipe.respond.as_deref()), (Some(200), Some("")));
}

#[test]
fn every_notification_of_microsoft_graph_contains_the_client_state() {
    let recipe = recipe_of("microsoft-graph");
    let key = recipe.scheme.key(&Secret::new("our-client-state")).unwrap();
    let verify = |body: &str| {
        recipe
            .scheme
            .verify([&key], None, &VectorRequestParts::post(&[], body).request(), Timestamp::from_millis(0))
            .is_ok()
    };
    assert!(verify(r#"{"value":[{"clientState":"our-client-state"},{"clientState":"our-client-state"}]}"#));
    for bad in [
        r#"{"value":[{"clientState":"our-client-state"},{"clientState":"another"}]}"#,
        r#"{"value":[{"clientState":"our-client-state"},{}]}"#,
        r#"{"value":[]}"#,
        r#"{"clientState":"our-client-state"}"#,
        "",
    ] {
        assert!(!verify(bad), "{bad}");
    }
}

#[test]
fn shopify_s_topic_is_read_from_the_path_or_a_header() {
    let recipe = recipe_of("shopify");
    let held = VectorRequestParts::post(&[("X-Shopify-Topic", "products/update"), ("Shopify-Webhook-Id", "w1")], "{}");
    let topic = |path| id_and_topic(&recipe, &RequestParts { path, ..held.request() }).1.unwrap();
    assert_eq!(topic(""), "products/update");
    assert_eq!(topic("orders/create"), "orders/create");
    assert_eq!(topic("customers-data_request"), "customers/data_request");
    assert_eq!(id_and_topic(&recipe, &held.request()).0.as_deref(), Some("w1"), "as the preview spells it");
}

#[test]
fn returned_values_are_short_and_never_html() {
    let echo = |query: &str| {
        let held = VectorRequestParts {
            method: "GET".to_owned(),
            query: Some(query.to_owned()),
            ..VectorRequestParts::post(&[], "")
        };
        Handshake::named("dropbox-challenge").unwrap().respond_unsigned(&held.request(), &[], &|_| None)
    };
    let answer = echo("challenge=%3Cscript%3Ealert(1)%3C%2Fscript%3E").unwrap();
    assert_eq!(answer.body, "<script>alert(1)</script>");
    let names: Vec<_> = answer.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(names, [("content-type", "text/plain"), ("x-content-type-options", "nosniff")]);
    assert!(echo(&format!("challenge={}", "x".repeat(4096))).is_some());
    for none in [&format!("challenge={}", "x".repeat(4097)), "challenge=", "other=1", ""] {
        assert_eq!(echo(none), None, "{none}");
    }
}

#[test]
fn discord_pings_are_distinguished_from_events() {
    let answer = |body: &str| {
        let held = VectorRequestParts::post(&[], body);
        recipe_of("discord")
            .handshake
            .unwrap()
            .respond_signed(&held.request(), &[], &|_| None)
            .map(|a| a.status.as_u16())
    };
    assert_eq!(answer(r#"{"type":0}"#), Some(204));
    assert_eq!(answer(r#"{"type":1,"id":"1","token":"x"}"#), Some(200));
    assert_eq!(answer(r#"{"type":1,"event":{"type":"APPLICATION_AUTHORIZED"}}"#), None);
    assert_eq!(answer(r#"{"type":2,"id":"1"}"#), None);
}

#[test]
fn every_entry_of_the_table_is_valid_and_described() {
    assert!(recipes().count() >= 70, "the table was not read");
    for (name, raw) in recipes() {
        let built = recipe_of(name);
        assert!(FAMILIES.iter().any(|family| family.name == raw.family), "{name}: family {:?}", raw.family);
        assert!(!raw.title.is_empty(), "{name}: title");
        assert!(
            (1..=2).contains(&raw.notes.matches(". ").count()) && raw.notes.ends_with('.'),
            "{name}: notes: two sentences"
        );
        assert_eq!(raw.example.is_empty(), built.event_type.is_empty(), "{name}: example");
        assert!(!raw.unconfirmed.ends_with('.'), "{name}: unconfirmed");
        if let Some(like) = &raw.like {
            assert!(recipes().any(|(other, _)| other == like), "{name} is like {like}");
        }
        for alias in &raw.also {
            assert!(recipes().all(|(other, _)| other != alias), "{name}: {alias} is a recipe of its own");
            assert_eq!(recipe(alias).map(|found| &found.title), Some(&raw.title), "{alias}");
        }
        let unknown = name.bytes().any(|b| !(b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        assert!(!unknown && !["partner", "custom", "token", "basic", "none"].contains(&name), "{name}");
        assert_eq!([DedupMode::Body, DedupMode::Never].contains(&built.dedup), built.id.is_empty(), "{name}: dedup");
    }
    for kind in ["stripe", "shopify", "github", "slack", "gitlab", "hubspot", "adyen", "svix", "aws-sns", "x-twitter"] {
        assert!(recipe(kind).is_some(), "{kind}");
    }
    assert!(recipe("nobody").is_none());
}

/// No entry of the table and no key of an entry is silently ignored.
#[test]
fn no_entry_and_no_key_of_the_table_is_ignored() {
    assert_eq!(table::wrong(), Vec::<String>::new());
    let known: Vec<String> = known_keys();
    for (name, entry) in table::entries() {
        for key in entry.keys() {
            assert!(known.contains(key), "{name}.{key} means nothing");
        }
    }
    for name in recipes().filter_map(|(_, raw)| raw.handshake.as_deref()) {
        assert!(Handshake::named(name).is_some(), "{name}");
    }
    for handshake in Handshake::all() {
        assert!(handshake.about().all(|about| about.ends_with('.')), "{}", handshake.name());
    }
}

/// The fields of a recipe and of its scheme.
fn known_keys() -> Vec<String> {
    let recipe = [
        "title",
        "family",
        "like",
        "also",
        "found_by",
        "form_json",
        "id",
        "type",
        "nonce",
        "dedup",
        "handshake",
        "respond",
        "status",
        "content",
        "content_types",
        "methods",
        "keep",
        "options",
        "example",
        "notes",
        "unconfirmed",
        "event_map",
    ];
    let some = || Some(String::new());
    let scheme = RawScheme {
        alg: some(),
        key: some(),
        sig: Some(crate::signature::OneOrMany::One(String::new())),
        split: some(),
        prefix: some(),
        encoding: some(),
        signed: some(),
        time: some(),
        unit: some(),
        tolerance: Some(1),
        each: some(),
        jwt: Some(RawJwt::default()),
        ..RawScheme::default()
    };
    let scheme = serde_json::to_value(scheme).unwrap();
    recipe.iter().map(|key| (*key).to_owned()).chain(scheme.as_object().unwrap().keys().cloned()).collect()
}

#[test]
fn retries_with_a_changed_body_are_recognized_by_id() {
    for kind in ["stripe", "hubspot", "intercom", "docusign"] {
        assert_eq!(recipe_of(kind).dedup, DedupMode::Id, "{kind}");
    }
    for kind in ["zoom", "calendly", "meta", "cal-com"] {
        assert_eq!(recipe_of(kind).dedup, DedupMode::Body, "{kind}");
    }
    assert_eq!(recipe_of("woocommerce").dedup, DedupMode::IdAndBody);
    let id = |kind: &str, body: &str| id_and_topic(&recipe_of(kind), &VectorRequestParts::post(&[], body).request()).0;
    let first = r#"[{"eventId":1,"subscriptionId":2,"portalId":3,"occurredAt":4,"attemptNumber":0}]"#;
    assert_eq!(id("hubspot", first).as_deref(), Some("3:2:4:1"));
    assert_eq!(id("hubspot", first), id("hubspot", &first.replace("mber\":0", "mber\":1")), "sent again");
    assert_ne!(id("hubspot", first), id("hubspot", &first.replace("}]", r#"},{"eventId":7}]"#)), "one more event");
    assert_eq!(id("hubspot", r#"{"eventId":1}"#).as_deref(), Some("1"));
    assert_eq!(id("hubspot", "[]"), None);
    let sent = r#"{"event":"envelope-sent","generatedDateTime":"2026-01-01T00:00:00Z","retryCount":0,"data":{"envelopeId":"e"}}"#;
    assert_eq!(id("docusign", sent).as_deref(), Some("e:envelope-sent:2026-01-01T00:00:00Z"));
    assert_eq!(id("docusign", sent), id("docusign", &sent.replace("Count\":0", "Count\":3")));
}

#[test]
fn signed_ids_and_types_are_recognized() {
    let signed = |kind: &str| {
        let recipe = recipe_of(kind);
        (recipe.id_is_signed, recipe.type_is_signed)
    };
    for (kind, wanted) in [
        ("stripe", (true, true)),
        ("shopify", (false, false)),
        ("github", (false, false)),
        ("standard-webhooks", (true, true)),
        ("gitlab-signed", (true, false)),
        ("twitch", (true, false)),
        ("razorpay", (false, true)),
        ("adyen", (true, true)),
        // The signature covers only a time and a token.
        ("mailgun", (false, false)),
        // Its signature covers the body only through a CRC32.
        ("paypal", (false, false)),
        ("aws-sns", (true, true)),
        ("twilio", (false, true)),
        ("gitlab", (false, false)),
        ("telegram", (false, true)),
    ] {
        assert_eq!(signed(kind), wanted, "{kind}");
    }
    assert_eq!(recipe_of("mailgun").nonce, Some("json:/signature/token".parse().unwrap()));
    assert_eq!(recipe_of("paypal").nonce, Some("header:PAYPAL-TRANSMISSION-ID".parse().unwrap()));
}

#[test]
fn recipe_errors_name_the_field() {
    let fields = |json: Value| {
        let mut raw = serde_json::json!({ "scheme": "hmac", "sig": "header:X-Sig", "encoding": "hex" });
        raw.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        let raw: RawRecipe = serde_json::from_value(raw).unwrap();
        let wrong = Recipe::try_new(&raw).err().unwrap_or_default();
        assert!(wrong.iter().all(|error| !error.detail.is_empty()));
        wrong.iter().map(|error| error.field).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(fields(serde_json::json!({ "id": "json:/id", "dedup": "id+body" })), "");
    for (json, wanted) in [
        (serde_json::json!({ "dedup": "id" }), "dedup"),
        (serde_json::json!({ "dedup": "id+body" }), "dedup"),
        (serde_json::json!({ "dedup": "sometimes", "id": "json:/id" }), "dedup"),
        (serde_json::json!({ "id": "sig:t=", "type": "nowhere" }), "id type"),
        (serde_json::json!({ "nonce": "header:X-Unsigned" }), "nonce"),
        (serde_json::json!({ "handshake": "shake-it", "status": 404, "content": ["xml"] }), "handshake status content"),
        (serde_json::json!({ "keep": { "a": "b" } }), "keep"),
        (serde_json::json!({ "methods": ["OPTIONS"], "content_types": ["xml"] }), "content_types methods"),
        (serde_json::json!({ "encoding": "morse", "dedup": "id" }), "encoding dedup"),
    ] {
        assert_eq!(fields(json.clone()), wanted, "{json}");
    }
}

/// If `HOOKTIDE_WRITE_GUIDES` is set, the pages are written instead.
#[test]
fn the_guides_match_the_table() {
    let folder = root().join("docs/guides/providers");
    let pages = FAMILIES.map(|family| (format!("{}.md", family.name), guide_page(family.name)));
    let pages: Vec<(String, String)> = [("README.md".to_owned(), guide_index())].into_iter().chain(pages).collect();
    for (name, text) in &pages {
        let path = folder.join(name);
        if std::env::var_os("HOOKTIDE_WRITE_GUIDES").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, text).unwrap();
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == *text,
            "{} is not made from the table: HOOKTIDE_WRITE_GUIDES=1 cargo test guides",
            path.display()
        );
    }
    let there: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(there.len(), pages.len(), "a page that nothing makes: {there:?}");
    for (name, raw) in recipes() {
        let link = format!("]({}.md#{name})", raw.family);
        assert!(guide_index().contains(&link) && guide_page(&raw.family).contains(&format!("id=\"{name}\"")), "{name}");
    }
}

/// The example of Braintree's documentation. Nothing but a challenge is signed, because payloads are signed in the same way.
#[test]
fn braintree_s_challenge_is_signed_and_no_payload_is() {
    let recipe = recipe_of("braintree");
    let secret = Secret::new("integration_private_key");
    let option = |name: &str| (name == "public_key").then(|| "integration_public_key".to_owned());
    let answer = |challenge: &str| {
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("bt_challenge", challenge).finish();
        let held =
            VectorRequestParts { method: "GET".to_owned(), query: Some(query), ..VectorRequestParts::post(&[], "") };
        recipe.handshake.unwrap().respond_unsigned(&held.request(), &[&secret], &option).map(|answer| answer.body)
    };
    let signed = "integration_public_key|d9b899556c966b3f06945ec21311865d35df3ce4";
    assert_eq!(answer("20f9f8ed05f77439fe955c977e4c8a53").unwrap(), signed);
    for other in ["PG5vdGlmaWNhdGlvbj4KPC9ub3Q+", "20F9F8ED05F77439FE955C977E4C8A53", "20f9f8ed05f77439fe9", ""] {
        assert_eq!(answer(other), None, "{other}");
    }
    assert_eq!(answer(&"a".repeat(33)), None);
}

#[test]
fn a_token_is_taken_with_the_word_bearer_and_without() {
    let recipe = recipe_of("supabase");
    for secret in ["a-token-of-some-length", "Bearer a-token-of-some-length"] {
        let key = recipe.scheme.key(&Secret::new(secret)).unwrap();
        let verify = |value: &str| {
            let held = VectorRequestParts::post(&[("Authorization", value)], "{}");
            recipe.scheme.verify([&key], None, &held.request(), Timestamp::from_millis(0)).is_ok()
        };
        assert!(verify("Bearer a-token-of-some-length"), "{secret}");
        assert_eq!(verify("a-token-of-some-length"), !secret.starts_with("Bearer"), "{secret}");
        assert!(!verify("Bearer another") && !verify("Bearer "), "{secret}");
    }
}
