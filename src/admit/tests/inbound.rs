//! Requests of sources over a socket.

use data_encoding::{BASE64, HEXLOWER};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::*;
use crate::inbound::source::testing::{identity, settings};
use crate::inbound::source::{PartnerToken, Rejection, Source};
use crate::model::Mapping;

const SECRET: &str = "shpss_0123456789abcdef";
const TOKEN: &str = "nNsCbbEO316t13WsH3fw4QIb";
const ORDER: &str = r#"{"id": 820982911946154508, "total_price":"409.94"}"#;

fn mac(algorithm: hmac::Algorithm, secret: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, secret.as_bytes()));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

fn shopify(body: &[u8]) -> String {
    format!("X-Shopify-Hmac-Sha256: {}\r\n", BASE64.encode(&mac(hmac::HMAC_SHA256, SECRET, &[body])))
}

fn source(n: u128, toml: &str) -> Arc<Source> {
    let mut identity = identity();
    identity.id = SourceId::from_u128(n);
    let settings = settings(toml);
    if settings.kind == "partner" {
        identity.token = Some(PartnerToken::try_new(&format!("{TOKEN}{}", settings.name)).unwrap().hash());
    }
    let built = Source::build(settings, identity, "https://hooks.example.com");
    Arc::new(built.unwrap_or_else(|breaches| panic!("{toml}: {breaches:?}")))
}

fn served() -> Served {
    let mac = "verify = { scheme = \"hmac\", sig = \"header:X-Sig\", encoding = \"hex\" }";
    let sources = [
        format!("name = \"shopify\"\nkind = \"shopify\"\nsecrets = [\"{SECRET}\"]\nevent_map = []"),
        format!(
            "name = \"mapped\"\nkind = \"shopify\"\nsecrets = [\"{SECRET}\"]\n\
             event_map = [{{ when = \"orders/create\", type = \"order.created\", data = {{ order = \"/id\" }} }}]"
        ),
        format!("name = \"off\"\nkind = \"shopify\"\nstatus = \"inactive\"\nsecrets = [\"{SECRET}\"]"),
        format!("name = \"held\"\nkind = \"shopify\"\nstatus = \"suspended\"\nsecrets = [\"{SECRET}\"]"),
        format!("name = \"slow\"\nkind = \"shopify\"\nsecrets = [\"{SECRET}\"]\nrate_limit_rps = 0.5\nburst = 1"),
        format!("name = \"small\"\nkind = \"custom\"\nsecrets = [\"{SECRET}\"]\nmax_body_bytes = 1024\n{mac}"),
        format!(
            "name = \"meta\"\nkind = \"meta\"\nsecrets = [\"{SECRET}\"]\noptions = {{ verify_token = \"open sesame\" }}"
        ),
        format!("name = \"said\"\nkind = \"custom\"\nsecrets = [\"{SECRET}\"]\nrespond = \"[accepted]\"\n{mac}"),
        "name = \"acme\"\nkind = \"partner\"\nvalidation_config = { required_fields = [\"data.user_id\", \"event_type\"] }"
            .to_owned(),
        "name = \"quiet\"\nkind = \"partner\"\nstatus = \"inactive\"".to_owned(),
        "name = \"halted\"\nkind = \"partner\"\nstatus = \"suspended\"".to_owned(),
    ];
    let sources = (1..).zip(&sources).map(|(n, toml)| source(n, toml)).collect();
    Served::with(Fake { sources, ..Fake::default() })
}

impl Served {
    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> String {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Request-ID: r-1\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.exchange(&[head.as_bytes(), body].concat())
    }

    fn hook(&self, path: &str, headers: &str, body: &str) -> (u16, Value) {
        let json = "Content-Type: application/json\r\n";
        let answer = self.send("POST", path, &format!("{json}{headers}"), body.as_bytes());
        (status(&answer), body_of(&answer))
    }

    fn rejections(&self, source: u128) -> Vec<Rejection> {
        self.admit.rejections.of(SourceId::from_u128(source))
    }

    fn counted(&self, source: &str, result: &str) -> u64 {
        self.admit.metrics.inbound.with_label_values(&[source, result]).get()
    }
}

#[test]
fn a_signed_event_is_stored_unchanged_with_its_properties() {
    let served = served();
    let headers = format!(
        "{}X-Shopify-Webhook-Id: w-1\r\nX-Shopify-Topic: orders/create\r\nX-Shopify-Shop-Domain: a.myshopify.com\r\n\
         X-Shopify-Test: false\r\nX-Correlation-ID: c-1\r\nX-Api-Key: k\r\n",
        shopify(ORDER.as_bytes())
    );
    let (code, answer) = served.hook("/api/v1/webhooks/shopify", &headers, ORDER);
    assert_eq!(code, 202);
    let id = EventId::from_u128(1).to_string();
    assert_eq!(answer, json!({"id": id, "status": "accepted", "duplicate": false}));
    let (head, body) = served.fake.stored().remove(0);
    assert_eq!(body, ORDER);
    let event = EventHead::parse(&head).unwrap().event;
    assert_eq!((event.event_type, event.source, event.tenant), ("shopify.orders.create", "shopify", "default"));
    assert_eq!((event.external_id, event.correlation_id), (Some("w-1"), "c-1"));
    assert!(event.verified && event.raw_len.is_none());
    let metadata: Value = serde_json::from_str(event.metadata.unwrap()).unwrap();
    assert_eq!((&metadata["shop"], &metadata["test"]), (&json!("a.myshopify.com"), &json!(false)));
    let inbound = event.inbound.unwrap();
    assert_eq!((inbound.topic, inbound.mapping), (Some("orders/create"), Mapping::Plain));
    assert!(!inbound.signed_id && !inbound.signed_type, "Shopify signs the body only");
    let kept: Value = serde_json::from_str(inbound.headers).unwrap();
    assert_eq!(kept["x-shopify-topic"], "orders/create");
    for secret in ["x-shopify-hmac-sha256", "x-api-key", "host"] {
        assert!(kept.get(secret).is_none(), "{kept}");
    }
    let (code, again) = served.hook("/api/v1/webhooks/shopify", &headers, ORDER);
    assert_eq!((code, &again["id"], &again["duplicate"]), (200, &answer["id"], &json!(true)));
    assert_eq!((served.counted("shopify", "accepted"), served.counted("shopify", "duplicate")), (1, 1));
}

#[test]
fn a_topic_in_the_path_has_precedence_and_a_map_produces_the_data() {
    let served = served();
    for (n, path) in ["orders/create", "orders-create"].into_iter().enumerate() {
        let headers =
            format!("{}X-Shopify-Webhook-Id: {n}\r\nX-Shopify-Topic: app/uninstalled\r\n", shopify(ORDER.as_bytes()));
        assert_eq!(served.hook(&format!("/api/v1/webhooks/mapped/{path}"), &headers, ORDER).0, 202);
        let (head, body) = served.fake.stored().remove(n);
        let event = EventHead::parse(&head).unwrap().event;
        assert_eq!((event.event_type, event.inbound.unwrap().mapping), ("order.created", Mapping::Mapped));
        assert_eq!(crate::model::data_of(&head, &body), r#"{"order":820982911946154508}"#);
        assert_eq!(crate::model::raw_of(&head, &body), ORDER);
    }
    let unmappable = r#"{"no":"id"}"#;
    let headers = format!("{}X-Shopify-Webhook-Id: 3\r\n", shopify(unmappable.as_bytes()));
    assert_eq!(served.hook("/api/v1/webhooks/mapped/orders/create", &headers, unmappable).0, 202, "never lost");
    let (head, body) = served.fake.stored().remove(2);
    let event = EventHead::parse(&head).unwrap().event;
    assert_eq!((event.event_type, event.inbound.unwrap().mapping), ("mapped.orders.create", Mapping::Failed));
    assert_eq!(crate::model::data_of(&head, &body), unmappable);
    assert_eq!(served.admit.metrics.map_failures.with_label_values(&["mapped"]).get(), 1);
}

#[test]
fn unsigned_requests_get_the_same_response_and_are_recorded_with_their_reason() {
    let served = served();
    let wrong = shopify(b"another body");
    let cut = format!("{}\r\n", &wrong[..40]);
    let answers: Vec<_> = ["", "X-Shopify-Hmac-Sha256: \r\n", &wrong, &cut, "X-Shopify-Hmac-Sha256: \u{e9}\r\n"]
        .iter()
        .map(|headers| {
            let json = "Content-Type: application/json\r\n";
            let answer = served.send("POST", "/api/v1/webhooks/shopify", &format!("{json}{headers}"), ORDER.as_bytes());
            answer.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n")
        })
        .collect();
    assert!(
        answers[0].starts_with("HTTP/1.1 401") && answers[0].contains(r#""code":"bad_signature""#),
        "{}",
        answers[0]
    );
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    let kept = served.rejections(1);
    assert_eq!((kept.len(), kept[0].status, &*kept[0].request), (5, 401, "POST /api/v1/webhooks/shopify"));
    assert!(kept[4].reason.contains("missing"), "{}", kept[4].reason);
    assert!(kept[2].reason.contains("secret"), "{}", kept[2].reason);
    assert_eq!(&*kept[0].body, ORDER.as_bytes());
    assert!(kept[2].headers.iter().any(|(name, value)| &**name == "x-shopify-hmac-sha256" && &**value == "***"));
    assert_eq!(served.counted("shopify", "bad_signature"), 5);
    assert!(served.fake.stored().is_empty());
}

#[test]
fn an_unknown_token_and_an_inactive_token_get_the_same_response() {
    let served = served();
    let ask = |token: &str, headers: &str| {
        let answer = served.send("POST", &format!("/webhook/v1/{token}"), headers, b"{}");
        answer.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n")
    };
    let unknown = ask("abcdefghijklmnopqrstuvwx", "");
    assert!(unknown.starts_with("HTTP/1.1 401") && unknown.contains(r#""code":"unknown_token""#), "{unknown}");
    assert_eq!(ask(&format!("{TOKEN}quiet"), ""), unknown);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(ask("abcdefghijklmnopqrstuvwx", form), ask(&format!("{TOKEN}acme"), form));
    assert!(ask(&format!("{TOKEN}halted"), "").starts_with("HTTP/1.1 403"));
    assert_eq!(served.hook("/api/v1/webhooks/acme", "", "{}").0, 404, "a partner is only known by its token");
}

#[test]
fn a_partners_body_is_an_event() {
    let served = served();
    let path = format!("/webhook/v1/{TOKEN}acme");
    let body = r#"{"event_type":"user.added","id":7,"timestamp":"2026-01-31T12:00:00Z","data":{"user_id": 1}}"#;
    let (code, answer) = served.hook(&path, "", body);
    assert_eq!(code, 202, "{answer}");
    let (head, stored) = served.fake.stored().remove(0);
    let event = EventHead::parse(&head).unwrap().event;
    assert_eq!((event.event_type, event.external_id), ("acme.user.added", Some("7")));
    assert_eq!(event.timestamp, "2026-01-31T12:00:00Z".parse().unwrap());
    assert_eq!(crate::model::data_of(&head, &stored), r#"{"user_id": 1}"#);
    assert_eq!(crate::model::raw_of(&head, &stored), body);
    assert_eq!(served.hook(&path, "", body).0, 200);

    let key = "Idempotency-Key: k\r\n";
    let without_id = r#"{"event_type":"user.added","data":{"user_id":2}}"#;
    assert_eq!(served.hook(&path, key, without_id).0, 202);
    assert_eq!(served.hook(&path, key, without_id).0, 200);
    assert_eq!(served.hook(&path, key, r#"{"event_type":"x","data":{"user_id":3}}"#).0, 422);
    assert_eq!(served.hook(&path, "", without_id).0, 202, "alike, but nothing says that it is the same");

    let (code, problem) = served.hook(&path, "", r#"{"data":{}}"#);
    assert_eq!((code, &problem["code"]), (422, &json!("invalid_body")));
    let pointers: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
    assert_eq!(pointers, ["/data/user_id", "/event_type"]);
    let (code, problem) = served.hook(&path, "", "{\"a\":}");
    assert_eq!((code, &problem["code"]), (400, &json!("invalid_json")));
    assert!(problem["detail"].as_str().unwrap().ends_with("at byte 5"), "{problem}");
    let deep = format!("{{\"event_type\":\"a\",\"data\":{{\"user_id\":{}{}}}}}", "[".repeat(129), "]".repeat(129));
    assert_eq!(served.hook(&path, "", &deep).0, 400);
    let kept = served.rejections(9);
    assert!(kept.iter().all(|one| &*one.request == "POST /webhook/v1/…acme"), "{kept:?}");
    assert!(kept.iter().any(|one| one.reason.contains("/data/user_id")), "{kept:?}");
}

#[test]
fn an_unknown_source_gets_no_detail_and_management_continues() {
    let served = served();
    let signed = shopify(ORDER.as_bytes());
    for (path, code) in [
        ("/api/v1/webhooks/nobody", 404),
        ("/api/v1/webhooks/off", 404),
        ("/api/v1/webhooks/held", 403),
        ("/api/v1/webhooks/said/more", 404),
        ("/api/v1/webhooks/shopify/a%20b", 404),
        ("/api/v1/webhooks/SHOPIFY", 404),
        ("/api/v1/webhooks/src_7ZZZZZZZZZZZZZZZZZZZZZZZZZ", 404),
        ("/webhook/v1/a/b", 404),
    ] {
        assert_eq!(served.hook(path, &signed, ORDER).0, code, "{path}");
    }
    let id = SourceId::from_u128(1).to_string();
    assert_eq!(served.hook(&format!("/api/v1/webhooks/{id}"), &signed, ORDER).0, 202);
    let bearer = "Authorization: Bearer admin\r\n";
    for (method, path, code) in [
        ("PUT", "/api/v1/webhooks/shopify", 405),
        ("GET", "/api/v1/webhooks/shopify", 405),
        ("GET", "/api/v1/webhooks/webhook_123", 200),
        ("POST", "/api/v1/webhooks/webhook_123/test", 200),
        ("GET", "/webhook/v1/abc", 405),
    ] {
        assert_eq!(status(&served.send(method, path, bearer, b"")), code, "{method} {path}");
    }
}

#[test]
fn the_requests_of_a_source_are_limited() {
    let served = served();
    let signed =
        |body: &str| format!("X-Sig: {}\r\n", HEXLOWER.encode(&mac(hmac::HMAC_SHA256, SECRET, &[body.as_bytes()])));
    let most = format!("\"{}\"", "x".repeat(1022));
    assert_eq!(served.hook("/api/v1/webhooks/small", &signed(&most), &most).0, 202);
    let more = format!("{most} ");
    assert_eq!(served.hook("/api/v1/webhooks/small", &signed(&more), &more).0, 413);
    for (headers, code) in [
        ("Content-Encoding: gzip\r\n", 415),
        ("Content-Type: application/json; charset=utf-7\r\n", 415),
        ("Content-Type: multipart/form-data\r\n", 415),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415),
        ("Content-Encoding: identity\r\n", 401),
        ("", 401),
    ] {
        assert_eq!(status(&served.send("POST", "/api/v1/webhooks/shopify", headers, b"{}")), code, "{headers}");
    }
    assert_eq!(served.hook("/api/v1/webhooks/slow", "", ORDER).0, 401);
    let answer = served.send("POST", "/api/v1/webhooks/slow", "", ORDER.as_bytes());
    assert_eq!(status(&answer), 429);
    assert!(answer.contains("retry-after: 2\r\n"), "{answer}");
    assert_eq!(served.counted("slow", "limited"), 1);
}

#[test]
fn a_body_that_is_not_json_is_stored_unchanged() {
    let served = served();
    let cases: [(&str, &[u8], &str); 5] = [
        ("text/plain", b"a \"b\"\n", r#""a \"b\"\n""#),
        ("application/x-www-form-urlencoded", b"a=1&b=2&a=3", r#"{"a":["1","3"],"b":"2"}"#),
        ("application/json", b"{\"a\":", r#""{\"a\":""#),
        ("application/xml", b"<a>\xff</a>", "\"<a>\u{fffd}</a>\""),
        ("application/json", b"", "null"),
    ];
    for (n, (media_type, body, data)) in cases.into_iter().enumerate() {
        let signature = HEXLOWER.encode(&mac(hmac::HMAC_SHA256, SECRET, &[body]));
        let headers = format!("Content-Type: {media_type}\r\nX-Sig: {signature}\r\n");
        let answer = served.send("POST", "/api/v1/webhooks/said", &headers, body);
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.ends_with("\r\n\r\n[accepted]"), "the source's own words: {answer}");
        let (head, stored) = served.fake.stored().remove(n);
        assert_eq!(crate::model::data_of(&head, &stored), data, "{media_type}");
        assert_eq!(crate::model::raw_of(&head, &stored), body);
        assert_eq!(EventHead::parse(&head).unwrap().event.body_len(), stored.len());
    }
}

#[test]
fn a_handshake_gets_a_response_and_creates_no_event() {
    let served = served();
    let path = "/api/v1/webhooks/meta?hub.mode=subscribe&hub.challenge=%3Cb%3E1&hub.verify_token=";
    let answer = served.send("GET", &format!("{path}open%20sesame"), "", b"");
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.ends_with("\r\n\r\n<b>1") && answer.contains("x-content-type-options: nosniff"), "{answer}");
    assert!(!answer.contains("text/html"), "{answer}");
    assert_ne!(status(&served.send("GET", &format!("{path}guess"), "", b"")), 200);
    assert_eq!((served.counted("meta", "handshake"), served.counted("meta", "bad_signature")), (1, 1));
    assert!(served.rejections(7)[0].reason.contains("handshake"));
    assert!(served.fake.stored().is_empty());
}

/// A 503 consumes no id or nonce: the repeated request is accepted.
#[test]
fn a_request_refused_for_lack_of_capacity_succeeds_later() {
    let mut served = served();
    let sources = served.fake.sources.clone();
    let full = Served::with(Fake { sources, refuses: Some(CommitError::DiskFull), ..Fake::default() });
    let headers = format!("{}X-Shopify-Webhook-Id: w-1\r\n", shopify(ORDER.as_bytes()));
    let (code, problem) = full.hook("/api/v1/webhooks/shopify", &headers, ORDER);
    assert_eq!((code, &problem["code"]), (503, &json!("disk_full")));
    assert_eq!(full.counted("shopify", "error"), 1);
    assert_eq!(served.hook("/api/v1/webhooks/shopify", &headers, ORDER).0, 202);
    served.fake.sources.clear();
}

fn world(sources: &[String], external_calls: Arc<FakeExternalCalls>) -> Served {
    let sources = (1..).zip(sources).map(|(n, toml)| source(n, toml)).collect();
    Served::with(Fake { sources, external_calls, ..Fake::default() })
}

fn data(name: &str) -> Vec<u8> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read(root.join("tests/data/certificates").join(name)).unwrap()
}

/// Signs with the key of `chain.pem`.
fn rsa_sign(message: &[u8]) -> String {
    let der = PrivatePkcs8KeyDer::from_pem_slice(&data("leaf.key")).unwrap();
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
    BASE64.encode(&signature)
}

const TOPIC: &str = "arn:aws:sns:us-west-2:1:orders";
const VISIT: &str = "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=t-1";

/// A confirmation as SNS signs it, for this topic.
fn confirmation(topic: &str) -> String {
    let signed = format!(
        "Message\nhello\nMessageId\nm-1\nSubscribeURL\n{VISIT}\nTimestamp\n2026-01-31T12:00:00.000Z\nToken\nt-1\n\
         TopicArn\n{topic}\nType\nSubscriptionConfirmation\n"
    );
    json!({
        "Type": "SubscriptionConfirmation", "MessageId": "m-1", "Token": "t-1", "TopicArn": topic, "Message": "hello",
        "SubscribeURL": VISIT, "Timestamp": "2026-01-31T12:00:00.000Z", "SignatureVersion": "2",
        "Signature": rsa_sign(signed.as_bytes()),
        "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ec.pem",
    })
    .to_string()
}

fn sns(certificate: &str) -> [String; 1] {
    [format!("name = \"sns\"\nkind = \"aws-sns\"\noptions = {{ topic_arn = \"{TOPIC}\"{certificate} }}")]
}

fn pinned() -> String {
    let pem = String::from_utf8(data("chain.pem")).unwrap();
    format!(", certificate = {}", json!(pem))
}

/// An attacker who saw one request knows its token and signature, and can combine them with any id.
#[test]
fn a_nonce_is_accepted_once_regardless_of_the_id() {
    let served = world(&[format!("name = \"mail\"\nkind = \"mailgun\"\nsecrets = [\"{SECRET}\"]")], Arc::default());
    let now = (Clock::system(Timestamp::default()).now().as_millis() / 1000).to_string();
    let send = |token: &str, id: &str| {
        let signature = HEXLOWER.encode(&mac(hmac::HMAC_SHA256, SECRET, &[now.as_bytes(), token.as_bytes()]));
        let body = json!({
            "signature": { "timestamp": now, "token": token, "signature": signature },
            "event-data": { "id": id, "event": "delivered" },
        });
        served.hook("/api/v1/webhooks/mail", "", &body.to_string())
    };
    let (first, again, other) = (send("token-1", "a"), send("token-1", "another"), send("token-2", "another"));
    assert_eq!((first.0, &first.1["duplicate"]), (200, &json!(false)), "Mailgun wants 200");
    assert_eq!((again.0, &again.1["duplicate"], &again.1["id"]), (200, &json!(true), &first.1["id"]));
    assert_eq!((other.0, &other.1["duplicate"]), (200, &json!(false)));
    assert_eq!(served.fake.stored().len(), 2);
    assert_eq!((served.counted("mail", "accepted"), served.counted("mail", "duplicate")), (2, 1));
}

/// A source that has or had a secret accepts no secret from a handshake. Otherwise a stranger could take over the source.
#[test]
fn a_secret_of_a_handshake_is_stored_only_for_a_source_without_a_secret() {
    let ended = format!("{{ value = \"{SECRET}\", until = \"2020-01-01T00:00:00Z\" }}");
    let sources = [
        "name = \"asana\"\nkind = \"asana\"".to_owned(),
        format!("name = \"taken\"\nkind = \"asana\"\nsecrets = [\"{SECRET}\"]"),
        format!("name = \"ended\"\nkind = \"asana\"\nsecrets = [{ended}]"),
        "name = \"notion\"\nkind = \"notion\"".to_owned(),
        format!("name = \"noted\"\nkind = \"notion\"\nsecrets = [\"{SECRET}\"]"),
    ];
    let served = world(&sources, Arc::default());
    let brought = "a-secret-that-is-brought";
    let header = format!("X-Hook-Secret: {brought}\r\n");
    let body = json!({ "verification_token": brought }).to_string();
    let asana = |name: &str| served.send("POST", &format!("/api/v1/webhooks/{name}"), &header, b"{}");
    let answer = asana("asana");
    assert!(status(&answer) == 200 && answer.contains(&format!("x-hook-secret: {brought}\r\n")), "{answer}");
    assert_eq!((status(&asana("taken")), status(&asana("ended"))), (401, 401));
    let notion = |name: &str| served.hook(&format!("/api/v1/webhooks/{name}"), "", &body).0;
    assert_eq!((notion("notion"), notion("noted")), (200, 401));
    let learn = |n: u128| format!("learn {} {brought}", SourceId::from_u128(n));
    assert_eq!(*served.fake.external_calls.calls.lock().unwrap(), [learn(1), learn(4)]);
    assert_eq!((served.counted("asana", "handshake"), served.counted("taken", "bad_signature")), (1, 1));
    for n in [2, 3, 5] {
        let kept = served.rejections(n);
        assert_eq!((kept.len(), kept[0].status), (1, 401));
        assert!(!notified(&kept[0]).contains(brought), "{:?}", kept[0]);
    }
    assert!(served.fake.stored().is_empty());
}

#[test]
fn a_secret_that_cannot_be_stored_is_not_confirmed() {
    let sources = ["name = \"asana\"\nkind = \"asana\"".to_owned(), "name = \"notion\"\nkind = \"notion\"".to_owned()];
    let served = world(
        &sources,
        FakeExternalCalls::failing(ExternalCallError::Temporary("the registry is not to be had".into())),
    );
    let brought = "a-secret-that-is-brought";
    let answer = served.send("POST", "/api/v1/webhooks/asana", &format!("X-Hook-Secret: {brought}\r\n"), b"{}");
    assert!(status(&answer) == 503 && answer.contains("retry-after: ") && !answer.contains(brought), "{answer}");
    let body = json!({ "verification_token": brought }).to_string();
    assert_eq!(served.hook("/api/v1/webhooks/notion", "", &body).0, 503);
    for (n, name) in [(1, "asana"), (2, "notion")] {
        let kept = served.rejections(n);
        assert_eq!((kept[0].status, &*kept[0].reason), (503, "the registry is not to be had"));
        assert!(!notified(&kept[0]).contains(brought), "{:?}", kept[0]);
        assert_eq!(served.counted(name, "error"), 1);
    }
}

/// Everything that a rejection shows.
fn notified(kept: &Rejection) -> String {
    format!("{kept:?}{}", String::from_utf8_lossy(&kept.body))
}

#[test]
fn a_subscription_is_confirmed_before_its_response() {
    let served = world(&sns(&pinned()), Arc::default());
    let text = "Content-Type: text/plain; charset=UTF-8\r\n";
    let answer = served.send("POST", "/api/v1/webhooks/sns", text, confirmation(TOPIC).as_bytes());
    assert_eq!(status(&answer), 200, "{answer}");
    assert_eq!(*served.fake.external_calls.calls.lock().unwrap(), [format!("visit {VISIT}")]);
    assert_eq!(served.counted("sns", "handshake"), 1);
    // Amazon signs this message as well, but for a topic of another customer.
    let other = confirmation("arn:aws:sns:us-west-2:2:evil");
    assert_eq!(status(&served.send("POST", "/api/v1/webhooks/sns", text, other.as_bytes())), 403);
    let changed = confirmation(TOPIC).replace("t-1", "t-2");
    assert_eq!(status(&served.send("POST", "/api/v1/webhooks/sns", text, changed.as_bytes())), 401);
    assert_eq!(served.fake.external_calls.calls.lock().unwrap().len(), 1);
    assert_eq!((served.counted("sns", "bad_signature"), served.rejections(1).len()), (2, 2));
    assert!(served.fake.stored().is_empty());

    let served = world(
        &sns(&pinned()),
        FakeExternalCalls::failing(ExternalCallError::Permanent("the visit was answered with 403".into())),
    );
    let answer = served.send("POST", "/api/v1/webhooks/sns", text, confirmation(TOPIC).as_bytes());
    assert_eq!((status(&answer), served.counted("sns", "error")), (503, 1), "SNS is to ask again");
    assert!(served.rejections(1)[0].reason.contains("the visit was answered with 403"));
}

#[test]
fn a_message_signed_with_a_certificate_is_verified() {
    let served = world(&sns(&pinned()), Arc::default());
    let signed = format!(
        "Message\nhello\nMessageId\nm-2\nTimestamp\n2026-01-31T12:00:00.000Z\nTopicArn\n{TOPIC}\nType\nNotification\n"
    );
    let body = json!({
        "Type": "Notification", "MessageId": "m-2", "TopicArn": TOPIC, "Message": "hello", "SignatureVersion": "2",
        "Timestamp": "2026-01-31T12:00:00.000Z", "Signature": rsa_sign(signed.as_bytes()),
        "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ec.pem",
    });
    assert_eq!(served.hook("/api/v1/webhooks/sns", "", &body.to_string()).0, 202);
    let (head, _) = served.fake.stored().remove(0);
    let event = EventHead::parse(&head).unwrap().event;
    assert!(event.verified && event.external_id == Some("m-2"), "{event:?}");
}

#[test]
fn a_missing_certificate_is_not_a_wrong_signature() {
    for (error, code, result) in [
        (ExternalCallError::Temporary("no answer within 5 s".into()), 503, "error"),
        (ExternalCallError::Permanent("it is no certificate".into()), 401, "bad_signature"),
    ] {
        let served = world(&sns(""), FakeExternalCalls::failing(error.clone()));
        let answer = served.send("POST", "/api/v1/webhooks/sns", "", confirmation(TOPIC).as_bytes());
        assert_eq!(status(&answer), code, "{answer}");
        assert_eq!(answer.contains("retry-after: "), code == 503, "{answer}");
        assert!(!answer.contains(&error.to_string()), "a stranger is not told: {answer}");
        assert!(served.rejections(1)[0].reason.contains(&error.to_string()), "{:?}", served.rejections(1));
        assert_eq!(served.counted("sns", result), 1);
        assert_eq!(served.fake.external_calls.calls.lock().unwrap().len(), 1);
    }
}

/// Rejections are shown to people who may not see the secrets of the source.
#[test]
fn a_rejection_contains_no_secret() {
    let sources = [
        format!("name = \"gitlab\"\nkind = \"gitlab\"\nsecrets = [\"{SECRET}\"]"),
        format!("name = \"monday\"\nkind = \"monday\"\nsecrets = [\"{SECRET}\"]"),
        format!("name = \"graph\"\nkind = \"microsoft-graph\"\nsecrets = [\"{SECRET}\"]"),
        format!("name = \"basic\"\nkind = \"basic\"\nsecrets = [\"user:{SECRET}\"]"),
        "name = \"acme\"\nkind = \"partner\"\nvalidation_config = { required_fields = [\"data.id\"] }".to_owned(),
    ];
    let sources: Vec<_> = (1..).zip(&sources).map(|(n, toml)| source(n, toml)).collect();
    let fake = Fake { sources, refuses: Some(CommitError::DiskFull), ..Fake::default() };
    let served = Served::with(fake);
    let basic = BASE64.encode(format!("user:{SECRET}").as_bytes());
    let referer = format!("Referer: https://a.example/webhook/v1/{TOKEN}acme?token={SECRET}\r\n");
    let state = json!({ "clientState": SECRET, "value": [{ "clientState": SECRET }] }).to_string();
    for (n, path, headers, body, code) in [
        (1, "/api/v1/webhooks/gitlab".to_owned(), format!("X-Gitlab-Token: {SECRET}\r\n"), "{}", 503),
        (2, format!("/api/v1/webhooks/monday?token={SECRET}"), String::new(), "{}", 503),
        (3, "/api/v1/webhooks/graph".to_owned(), String::new(), &*state, 503),
        (4, "/api/v1/webhooks/basic".to_owned(), format!("Authorization: Basic {basic}\r\n"), "{}", 503),
        (5, format!("/webhook/v1/{TOKEN}acme"), String::new(), "{}", 422),
    ] {
        assert_eq!(served.hook(&path, &format!("{headers}{referer}"), body).0, code, "{path}");
        let kept = served.rejections(n);
        let shown = notified(&kept[0]);
        for secret in [SECRET, TOKEN, &basic] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(kept[0].reason.contains(' '), "in words: {shown}");
    }
}

#[test]
fn a_refused_request_is_recorded_with_its_reason() {
    let served = served();
    let large = "x".repeat(1025);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let charset = "Content-Type: application/json; charset=utf-7\r\n";
    for (n, name, headers, body, code, word) in [
        (6, "small", "", &*large, 413, "1024"),
        (1, "shopify", form, "a=1", 415, "media type"),
        (1, "shopify", charset, "{}", 415, "utf-8"),
        (1, "shopify", "Content-Encoding: gzip\r\n", "{}", 415, "compress"),
        (4, "held", "", "{}", 403, "suspended"),
    ] {
        let answer = served.send("POST", &format!("/api/v1/webhooks/{name}"), headers, body.as_bytes());
        assert_eq!(status(&answer), code, "{name}: {answer}");
        let kept = &served.rejections(n)[0];
        assert!(kept.status == code && kept.reason.contains(word), "{kept:?}");
        assert_eq!(served.counted(name, "invalid"), served.rejections(n).len() as u64, "{name}");
    }
    for _ in 0..3 {
        served.send("POST", "/api/v1/webhooks/slow", "", b"{}");
    }
    let kept = served.rejections(5);
    assert_eq!((kept.len(), kept[0].status, &*kept[0].reason), (3, 429, "this source sends too fast"));
    assert_eq!((served.counted("slow", "bad_signature"), served.counted("slow", "limited")), (1, 2));
    // Each source has its own rate limit.
    assert_eq!(served.hook("/api/v1/webhooks/shopify", "", ORDER).0, 401);
}

/// Every refused request whose path names a source or has a known token is listed and counted, whatever refused it.
#[test]
fn a_request_that_is_refused_before_its_source_handles_it_is_recorded() {
    let served = served();
    let acme = format!("/webhook/v1/{TOKEN}acme");
    let quiet = format!("/webhook/v1/{TOKEN}quiet");
    let many = (0..80).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let gzip = "Content-Encoding: gzip\r\n";
    let id = SourceId::from_u128(1).to_string();
    let named = |name: &str| format!("/api/v1/webhooks/{name}");
    for (n, method, path, headers, code, reason) in [
        (1, "PUT", named("shopify"), "", 405, "the method is PUT; this source takes POST"),
        (1, "GET", named("shopify"), "", 405, "the method is GET"),
        (1, "DELETE", named(&id), "", 405, "DELETE"),
        (1, "TRACE", named("shopify"), "", 405, "allowed"),
        (1, "POST", named("shopify/a%20b"), "", 404, "other characters"),
        (1, "POST", named("shopify"), "Host: b\r\n", 400, "Host"),
        (1, "POST", named("shopify"), &many, 431, "headers"),
        (1, "POST", named(&format!("shopify/{}", "a".repeat(9_000))), "", 414, "target"),
        (3, "POST", named("off"), "", 404, "inactive"),
        (8, "POST", named("said/more"), "", 404, "takes none"),
        (9, "POST", named("acme"), "", 404, "the URL with its token"),
        (9, "GET", acme.clone(), "", 405, "POST"),
        (9, "POST", acme.clone(), form, 415, "application/json"),
        (9, "POST", acme.clone(), gzip, 415, "compress"),
        (9, "POST", format!("{acme}/more"), "", 404, "path"),
        (9, "POST", acme.clone(), "Host: b\r\n", 400, "Host"),
        (10, "POST", quiet.clone(), "", 401, "inactive"),
        (10, "POST", quiet, form, 415, "application/json"),
    ] {
        let before = served.rejections(n).len();
        let answer = served.send(method, &path, headers, b"{}");
        assert_eq!(status(&answer), code, "{method} {path}: {answer}");
        let kept = served.rejections(n);
        assert_eq!(kept.len(), before + 1, "{method} {path} {headers}");
        assert!(kept[0].status == code && kept[0].reason.contains(reason), "{path}: {:?}", kept[0]);
        assert!(!kept[0].request.contains(TOKEN) && kept[0].request.starts_with(method), "{:?}", kept[0]);
    }
    assert_eq!((served.counted("shopify", "invalid"), served.counted("acme", "invalid")), (8, 6));
    assert_eq!((served.counted("quiet", "bad_signature"), served.counted("off", "invalid")), (1, 1));
    assert!(served.fake.stored().is_empty());
    // Requests of unknown sources are in no list.
    served.send("GET", &format!("/webhook/v1/{TOKEN}nobody"), "", b"");
    served.send("PUT", "/api/v1/webhooks/nobody", "", b"");
    assert_eq!((0..20).map(|n| served.rejections(n).len()).sum::<usize>(), 18);
}

#[test]
fn a_request_of_a_source_that_panics_is_recorded() {
    let fake = Fake { sources: served().fake.sources.clone(), panics: Some(PanicAt::Submission), ..Fake::default() };
    let served = Served::with(fake);
    let (code, _) = served.hook("/api/v1/webhooks/shopify", &shopify(ORDER.as_bytes()), ORDER);
    assert_eq!((code, served.counted("shopify", "error")), (500, 1));
    let kept = served.rejections(1);
    assert_eq!((kept.len(), kept[0].status, &*kept[0].body), (1, 500, ORDER.as_bytes()));
}

#[test]
fn a_strict_catalogue_checks_events_of_partners_but_not_of_providers() {
    let mut served = served();
    let sources = served.fake.sources.clone();
    served = Served::with(Fake { sources, types: event_type::catalogue(), ..Fake::default() });
    let (code, answer) = served.hook("/api/v1/webhooks/shopify", &shopify(ORDER.as_bytes()), ORDER);
    assert_eq!(code, 202, "{answer}");
    let partner = format!("/webhook/v1/{TOKEN}acme");
    let (code, answer) = served.hook(&partner, "", r#"{"event_type":"order.lost","data":{"user_id":1}}"#);
    assert_eq!((code, answer["code"].as_str()), (422, Some("unknown_event_type")), "{answer}");
    let (code, answer) = served.hook(&partner, "", r#"{"event_type":"acme.order.lost","data":{"user_id":1}}"#);
    assert_eq!(code, 422, "{answer}");
    assert_eq!(served.fake.stored().len(), 1);
}

/// What the sender of a source proves by the head of its request is judged before the body is read.
#[test]
fn a_request_that_its_head_proves_is_refused_before_its_body() {
    let sources = [
        "name = \"static\"\nkind = \"token\"\nsecrets = [\"a-token-of-some-length\"]",
        "name = \"pass\"\nkind = \"basic\"\nsecrets = [\"user:a-long-password\"]",
        "name = \"jwt\"\nkind = \"custom\"\nsecrets = [\"a-secret-of-some-length\"]\n\
         verify = { scheme = \"jwt\", sig = \"header:Authorization\", jwt = { alg = \"HS256\" } }",
        "name = \"body\"\nkind = \"custom\"\nsecrets = [\"a-token-of-some-length\"]\n\
         verify = { scheme = \"token\", sig = \"json:/token\" }",
    ];
    let sources = (1..).zip(sources).map(|(n, toml)| source(n, toml)).collect();
    let served = Served::with(Fake { sources, ..Fake::default() });
    for (name, is_early) in [("static", true), ("pass", true), ("jwt", true), ("body", false)] {
        // The body never comes.
        let head = format!(
            "POST /api/v1/webhooks/{name} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: no\r\n\
             Content-Type: application/json\r\nContent-Length: 9000000\r\n\r\n"
        );
        if is_early {
            assert_eq!(status(&served.exchange(head.as_bytes())), 401, "{name}");
        }
        let answer = served.hook(&format!("/api/v1/webhooks/{name}"), "Authorization: no\r\n", "{\"token\":\"no\"}");
        assert_eq!(answer.0, 401, "{name}");
    }
    let token = "Authorization: a-token-of-some-length\r\n";
    assert_eq!(served.hook("/api/v1/webhooks/static", token, "{}").0, 202);
    assert_eq!(served.hook("/api/v1/webhooks/body", "", "{\"token\":\"a-token-of-some-length\"}").0, 202);
    assert_eq!(served.rejections(1)[0].reason, served.rejections(1)[1].reason);
}

#[test]
fn published_keys_verify_a_token() {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let base64 = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let keys =
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": base64(pair.public_key().as_ref()) }] });
    let token = |claims: Value| {
        let [head, claims] =
            [json!({ "alg": "EdDSA", "kid": "k" }), claims].map(|part| base64(part.to_string().as_bytes()));
        let signed = format!("{head}.{claims}");
        format!("Authorization: Bearer {signed}.{}\r\n", base64(pair.sign(signed.as_bytes()).as_ref()))
    };
    let sources = vec![source(
        1,
        "name = \"cloud\"\nkind = \"custom\"\nverify = { scheme = \"jwt\", sig = \"header:Authorization\", \
         jwt = { alg = \"EdDSA\", jwks = \"https://keys.example.com/a\", claims = { aud = \"me\" } } }",
    )];
    let served = Served::with(Fake { sources, ..Fake::default() });
    let good = token(json!({ "exp": 4_000_000_000_u64, "aud": "me" }));
    let send = |headers: &str| served.hook("/api/v1/webhooks/cloud", headers, "{}").0;
    assert_eq!(send(&good), 503, "no keys yet: the sender sends again");
    *served.fake.external_calls.key_set.lock().unwrap() =
        Some(Arc::new(KeySet::parse_published(&keys.to_string()).unwrap()));
    assert_eq!(send(&good), 202);
    assert_eq!(send(&token(json!({ "exp": 4_000_000_000_u64, "aud": "other" }))), 401);
    assert_eq!(send("Authorization: Bearer a.b.c\r\n"), 401);
    let calls = served.fake.external_calls.calls.lock().unwrap().clone();
    assert_eq!(calls, vec!["keys https://keys.example.com/a"; 3], "what is no token asks for no keys");
}

fn event_data(served: &Served, n: usize) -> (String, Value) {
    let (head, body) = served.fake.stored().remove(n);
    let event = EventHead::parse(&head).unwrap().event;
    (event.event_type.to_owned(), serde_json::from_slice(&crate::model::data_of(&head, &body)).unwrap())
}

/// Mailgun sends what came in by mail as a form, multipart if there are attachments.
#[test]
fn a_multipart_form_becomes_an_object_without_the_contents_of_its_files() {
    let key = "a-signing-key-of-mailgun";
    let sources = vec![
        source(1, &format!("name = \"mail\"\nkind = \"mailgun-routes\"\nsecrets = [\"{key}\"]")),
        source(2, &format!("name = \"own\"\nkind = \"token\"\nsecrets = [\"{key}\"]")),
        source(3, &format!("name = \"shop\"\nkind = \"shopify\"\nsecrets = [\"{key}\"]")),
    ];
    let served = Served::with(Fake { sources, ..Fake::default() });
    let now = served.admit.clock.now().as_secs().to_string();
    let tag = HEXLOWER.encode(&mac(hmac::HMAC_SHA256, key, &[now.as_bytes(), b"token-1"]));
    let part =
        |head: &str, content: &str| format!("--X\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n");
    let field = |name: &str, content: &str| part(&format!("name=\"{name}\""), content);
    let whole = [
        field("timestamp", &now),
        field("token", "token-1"),
        field("signature", &tag),
        field("Message-Id", "<1@a>"),
        field("subject", "Grüße"),
        part("name=\"attachment-1\"; filename=\"a.txt\"\r\nContent-Type: text/plain", "abc"),
        "--X--\r\n".to_owned(),
    ]
    .concat();
    let multipart = "Content-Type: multipart/form-data; boundary=X\r\n";
    let send = |path: &str, headers: &str, body: &str| status(&served.send("POST", path, headers, body.as_bytes()));
    let mail = "/api/v1/webhooks/mail";
    assert_eq!(send(mail, multipart, &whole), 200);
    let (event_type, data) = event_data(&served, 0);
    assert_eq!((event_type.as_str(), &data["subject"]), ("mail.message", &json!("Grüße")));
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let file = json!({"name": "a.txt", "content_type": "text/plain", "size": 3, "sha256": digest});
    assert_eq!(data["attachment-1"], file);
    let (head, body) = served.fake.stored().remove(0);
    assert!(EventHead::parse(&head).unwrap().event.raw_len.is_none());
    assert!(!String::from_utf8_lossy(&body).contains("\r\nabc\r\n"));
    assert_eq!(EventHead::parse(&head).unwrap().event.inbound.unwrap().content_type, Some("application/json"));
    // Another boundary is the same form; the nonce is compared before.
    let own_form = |boundary: &str, subject: &str| {
        let part = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"subject\"\r\n\r\n{subject}\r\n");
        let headers = format!("Content-Type: multipart/form-data; boundary={boundary}\r\nAuthorization: {key}\r\n");
        let answer = served.send("POST", "/api/v1/webhooks/own", &headers, format!("{part}--{boundary}--").as_bytes());
        status(&answer)
    };
    assert_eq!([own_form("A", "1"), own_form("B", "1"), own_form("B", "2")], [202, 200, 202]);
    // The token of an urlencoded form is read in the same way; a changed one is refused.
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(send(mail, form, &format!("timestamp={now}&token=token-2&signature={tag}")), 401);
    assert_eq!(send(mail, multipart, &whole.replace("token-1", "token-2")), 401);
    let own = format!("{multipart}Authorization: Bearer {key}\r\n");
    assert_eq!(send("/api/v1/webhooks/own", &own, &whole), 202);
    assert_eq!(send("/api/v1/webhooks/own", &own, &whole[..whole.len() - 5]), 400, "not complete");
    assert_eq!(send("/api/v1/webhooks/shop", multipart, &whole), 415);
}

#[test]
fn xml_and_other_methods_are_taken_where_the_kind_says_so() {
    let sources = vec![
        source(1, "name = \"recurly\"\nkind = \"recurly-xml\"\nsecrets = [\"user:a-long-password\"]"),
        source(2, "name = \"desk\"\nkind = \"zendesk\"\nsecrets = [\"a-secret-of-zendesk\"]"),
        source(3, "name = \"shop\"\nkind = \"shopify\"\nsecrets = [\"a-secret-of-shopify\"]"),
    ];
    let served = Served::with(Fake { sources, ..Fake::default() });
    let xml = "<new_account_notification>\u{e9}</new_account_notification>";
    let basic = format!("Authorization: Basic {}\r\n", BASE64.encode(b"user:a-long-password"));
    for (n, kind) in ["application/xml", "text/xml; charset=UTF-8"].into_iter().enumerate() {
        let headers = format!("{basic}Content-Type: {kind}\r\n");
        let body = format!("{xml}{n}");
        assert_eq!(status(&served.send("POST", "/api/v1/webhooks/recurly", &headers, body.as_bytes())), 202);
        assert_eq!(event_data(&served, n), ("recurly.event".to_owned(), json!({ "text": body })));
    }
    let refused = served.send("POST", "/api/v1/webhooks/shop", "Content-Type: application/xml\r\n", xml.as_bytes());
    assert_eq!(status(&refused), 415);
    assert!(served.rejections(3)[0].reason.contains("choose JSON"), "{}", served.rejections(3)[0].reason);
    assert_eq!(status(&served.send("PUT", "/api/v1/webhooks/shop", "", b"{}")), 405);

    let at = served.admit.clock.now().to_string();
    for (method, query, body, data) in [
        ("GET", "?ticket=12&tag=a&tag=b", "", json!({"ticket": "12", "tag": ["a", "b"]})),
        ("DELETE", "", "", Value::Null),
        ("PUT", "", r#"{"type":"t"}"#, json!({"type": "t"})),
        ("PATCH", "?ticket=1", r#"{"type":"u"}"#, json!({"type": "u"})),
    ] {
        let tag = BASE64.encode(&mac(hmac::HMAC_SHA256, "a-secret-of-zendesk", &[at.as_bytes(), body.as_bytes()]));
        let id = format!("X-Zendesk-Webhook-Invocation-Id: {method}\r\n");
        let time = format!("X-Zendesk-Webhook-Signature-Timestamp: {at}\r\n");
        let path = format!("/api/v1/webhooks/desk{query}");
        let headers = format!("{id}{time}X-Zendesk-Webhook-Signature: {tag}\r\n");
        let n = served.fake.stored().len();
        assert_eq!(status(&served.send(method, &path, &headers, body.as_bytes())), 202, "{method}");
        assert_eq!(event_data(&served, n).1, data, "{method}");
        assert_eq!(status(&served.send(method, &path, &format!("{id}{time}"), body.as_bytes())), 401, "{method}");
    }
}

#[test]
fn event_grid_and_cloud_events_are_set_up_by_their_handshakes() {
    let sources = vec![
        source(1, "name = \"grid\"\nkind = \"azure-event-grid\"\nsecrets = [\"a-token-of-some-length\"]"),
        source(2, "name = \"cloud\"\nkind = \"cloudevents\"\nsecrets = [\"a-token-of-some-length\"]"),
        source(3, "name = \"shop\"\nkind = \"shopify\"\nsecrets = [\"a-secret-of-shopify\"]"),
    ];
    let served = Served::with(Fake { sources, ..Fake::default() });
    for name in ["grid", "cloud"] {
        let path = format!("/api/v1/webhooks/{name}");
        let answer = served.send("OPTIONS", &path, "WebHook-Request-Origin: eventgrid.azure.net\r\n", b"");
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.to_ascii_lowercase().contains("webhook-allowed-origin: eventgrid.azure.net\r\n"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("webhook-allowed-rate: *\r\n"), "{answer}");
        assert_eq!(status(&served.send("OPTIONS", &path, "", b"")), 401, "no origin");
    }
    assert_eq!(status(&served.send("OPTIONS", "/api/v1/webhooks/shop", "", b"")), 405);
    let validation = r#"[{"id":"1","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"512d38b6"}}]"#;
    let kind = "aeg-event-type: SubscriptionValidation\r\nContent-Type: application/json\r\n";
    let send = |path: &str, headers: &str, body: &str| served.send("POST", path, headers, body.as_bytes());
    let answer = send("/api/v1/webhooks/grid?token=a-token-of-some-length", kind, validation);
    assert_eq!((status(&answer), body_of(&answer)), (200, json!({"validationResponse": "512d38b6"})));
    assert_eq!(status(&send("/api/v1/webhooks/grid?token=another", kind, validation)), 401);
    assert!(served.fake.stored().is_empty(), "a handshake is no event");
    let json = "Content-Type: application/cloudevents+json\r\n";
    let event = r#"{"specversion":"1.0","id":"7","source":"/a","type":"com.example.made","data":{}}"#;
    assert_eq!(status(&send("/api/v1/webhooks/cloud?access_token=a-token-of-some-length", json, event)), 202);
    let (head, _) = served.fake.stored().remove(0);
    let stored = EventHead::parse(&head).unwrap().event;
    assert_eq!((stored.event_type, stored.external_id), ("cloud.com.example.made", Some("/a::7")));
    let binary =
        "Authorization: Bearer a-token-of-some-length\r\nce-id: 8\r\nce-source: /a\r\nce-type: com.example.gone\r\n";
    assert_eq!(status(&send("/api/v1/webhooks/cloud", binary, "{}")), 202);
    let (head, _) = served.fake.stored().remove(1);
    assert_eq!(EventHead::parse(&head).unwrap().event.event_type, "cloud.com.example.gone");
}

/// Everybody on Google Cloud can have tokens with any audience signed, so the service account must be the right one.
#[test]
fn the_options_of_a_kind_become_required_claims() {
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let base64 = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let point = pair.public_key().as_ref();
    let key = json!({ "key": {
        "kty": "EC", "crv": "P-256", "use": "sig", "kid": "k-1", "expired_at": null, "x": base64(&point[1..33]), "y": base64(&point[33..])
    } });
    let plaid = "name = \"bank\"\nkind = \"plaid\"\n\
                 options = { environment = \"sandbox\", client_id = \"me\", secret = \"a-secret-of-plaid\" }";
    let served = Served::with(Fake { sources: vec![source(1, plaid)], ..Fake::default() });
    *served.fake.external_calls.key_set.lock().unwrap() =
        Some(Arc::new(KeySet::parse_published(&key.to_string()).unwrap()));
    let body = "{\"webhook_code\":\"DEFAULT_UPDATE\"}";
    let digest = HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, body.as_bytes()).as_ref());
    let claims = json!({ "iat": served.admit.clock.now().as_secs(), "request_body_sha256": digest });
    let parts = [json!({ "alg": "ES256", "kid": "k-1" }), claims].map(|part| base64(part.to_string().as_bytes()));
    let signed = parts.join(".");
    let token = format!("{signed}.{}", base64(pair.sign(&random, signed.as_bytes()).unwrap().as_ref()));
    let headers = format!("Plaid-Verification: {token}\r\n");
    assert_eq!(served.hook("/api/v1/webhooks/bank", &headers, "{}").0, 401, "another body");
    assert_eq!(served.hook("/api/v1/webhooks/bank", &headers, body).0, 202);
    let calls = served.fake.external_calls.calls.lock().unwrap().clone();
    assert_eq!(calls, vec!["keys https://sandbox.plaid.com/webhook_verification_key/get"; 2]);

    let pubsub = |options: &str| {
        let toml = format!("name = \"queue\"\nkind = \"google-pubsub\"\noptions = {{ {options} }}");
        Source::build(settings(&toml), identity(), "https://hooks.example.com")
    };
    let errors = pubsub("audience = \"a\"").unwrap_err();
    assert_eq!(errors[0].pointer, "/options/service_account", "{errors:?}");
    let built = pubsub("service_account = \"push@project.iam.gserviceaccount.com\"").unwrap();
    assert!(!built.recipe.scheme.needs_secret() && built.is_verified_by_head("POST"));
    let entra =
        "name = \"grid\"\nkind = \"azure-event-grid-entra\"\noptions = { tenant_id = \"a/../b\", audience = \"x\" }";
    let errors = Source::build(settings(entra), identity(), "https://hooks.example.com").unwrap_err();
    assert_eq!(errors[0].pointer, "/options/tenant_id");
}

/// GitHub's default content type, Slack's interactivity and others send their JSON in a field of a form.
#[test]
fn the_json_in_a_field_of_a_form_is_read_as_the_body() {
    let key = "a-secret-of-some-length";
    let sources = vec![
        source(1, &format!("name = \"code\"\nkind = \"github\"\nsecrets = [\"{key}\"]")),
        source(2, &format!("name = \"chat\"\nkind = \"slack\"\nsecrets = [\"{key}\"]")),
        source(3, &format!("name = \"forge\"\nkind = \"gitea\"\nsecrets = [\"{key}\"]")),
        source(
            4,
            &format!(
                "name = \"mapped\"\nkind = \"github\"\nsecrets = [\"{key}\"]\n\
                 event_map = [{{ when = \"push\", type = \"code.pushed\", data = {{ at = \"/after\" }} }}]"
            ),
        ),
        source(5, &format!("name = \"sign\"\nkind = \"dropbox-sign\"\nsecrets = [\"{key}\"]")),
    ];
    let served = Served::with(Fake { sources, ..Fake::default() });
    let form_of = |field: &str, json: &str| {
        url::form_urlencoded::Serializer::new(String::new()).append_pair(field, json).finish()
    };
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let signed = |parts: &[&[u8]]| HEXLOWER.encode(&mac(hmac::HMAC_SHA256, key, parts));
    let send = |name: &str, headers: &str, body: &str| {
        status(&served.send("POST", &format!("/api/v1/webhooks/{name}"), headers, body.as_bytes()))
    };
    let push = r#"{"action":"opened", "after":"1e1b","text":"a + b & ü"}"#;
    let github = |name: &str, id: &str, body: &str, of: &str| {
        let tag = signed(&[of.as_bytes()]);
        let headers =
            format!("{form}X-GitHub-Event: push\r\nX-GitHub-Delivery: {id}\r\nX-Hub-Signature-256: sha256={tag}\r\n");
        send(name, &headers, body)
    };
    let body = form_of("payload", push);
    assert_eq!(github("code", "1", &body, push), 401, "the form is signed, not the JSON in it");
    assert_eq!(github("code", "1", &body, &body), 202);
    let (head, stored) = served.fake.stored().remove(0);
    assert_eq!(crate::model::data_of(&head, &stored), push.as_bytes(), "byte for byte");
    assert_eq!(crate::model::raw_of(&head, &stored), body.as_bytes());
    let event = EventHead::parse(&head).unwrap().event;
    assert_eq!((event.event_type, event.external_id), ("code.push", Some("1")));
    assert!(event.metadata.unwrap().contains(r#""action":"opened""#), "{:?}", event.metadata);
    assert_eq!(event.inbound.unwrap().content_type, Some("application/x-www-form-urlencoded"));
    assert_eq!(github("mapped", "1", &body, &body), 202);
    assert_eq!(event_data(&served, 1), ("code.pushed".to_owned(), json!({ "at": "1e1b" })));

    let now = served.admit.clock.now().as_secs().to_string();
    let slack = |body: &str| {
        let tag = signed(&[b"v0:", now.as_bytes(), b":", body.as_bytes()]);
        let headers = format!("{form}X-Slack-Request-Timestamp: {now}\r\nX-Slack-Signature: v0={tag}\r\n");
        send("chat", &headers, body)
    };
    let click = r#"{"type":"block_actions","trigger_id":"12.98.b8","api_app_id":"A1","actions":[{"value":"yes"}]}"#;
    assert_eq!(slack(&form_of("payload", click)), 200);
    assert_eq!(event_data(&served, 2), ("chat.block_actions".to_owned(), serde_json::from_str(click).unwrap()));
    let (head, _) = served.fake.stored().remove(2);
    assert_eq!(EventHead::parse(&head).unwrap().event.external_id, Some("12.98.b8"));
    // A slash command has no such field, and text that is no JSON object stays a field.
    assert_eq!(slack("command=%2Fgo&text=now&trigger_id=13.98"), 200);
    assert_eq!(event_data(&served, 3).1["text"], "now");
    assert_eq!(slack("command=%2Fgo&payload=%7Bno+JSON"), 200);
    assert_eq!(event_data(&served, 4).1, json!({ "command": "/go", "payload": "{no JSON" }));

    let headers = |tag: &str| format!("{form}X-Gitea-Event: push\r\nX-Gitea-Signature: {tag}\r\n");
    assert_eq!(send("forge", &headers(&signed(&[body.as_bytes()])), &body), 202);
    assert_eq!(event_data(&served, 5), ("forge.push".to_owned(), serde_json::from_str(push).unwrap()));

    // Dropbox Sign sends a multipart form.
    let tag = signed(&[b"1348177752", b"signature_request_sent"]);
    let event =
        json!({ "event": { "event_time": "1348177752", "event_type": "signature_request_sent", "event_hash": tag } });
    let part = format!("--X\r\nContent-Disposition: form-data; name=\"json\"\r\n\r\n{event}\r\n--X--");
    assert_eq!(send("sign", "Content-Type: multipart/form-data; boundary=X\r\n", &part), 200);
    assert_eq!(event_data(&served, 6), ("sign.signature_request_sent".to_owned(), event.clone()));
    let (head, stored) = served.fake.stored().remove(6);
    let raw: Value = serde_json::from_slice(&crate::model::raw_of(&head, &stored)).unwrap();
    assert_eq!(raw, json!({ "json": event.to_string() }), "the fields of the form, as for other multipart forms");
}

#[test]
fn types_are_found_where_the_provider_writes_them_and_a_heartbeat_is_no_event() {
    let key = "a-secret-of-some-length";
    let sources = vec![
        source(1, &format!("name = \"graph\"\nkind = \"microsoft-graph\"\nsecrets = [\"{key}\"]")),
        source(2, &format!("name = \"phone\"\nkind = \"twilio\"\nsecrets = [\"{key}\"]")),
        source(3, &format!("name = \"tasks\"\nkind = \"asana\"\nsecrets = [\"{key}\"]")),
    ];
    let served = Served::with(Fake { sources, ..Fake::default() });
    let last_type = || event_data(&served, served.fake.stored().len() - 1).0;
    for (field, event_type) in [
        (r#""lifecycleEvent":"reauthorizationRequired""#, "graph.reauthorizationRequired"),
        (r#""lifecycleEvent":"missed","changeType":"updated""#, "graph.missed"),
        (r#""changeType":"updated""#, "graph.updated"),
    ] {
        let body = format!(r#"{{"value":[{{"clientState":"{key}","subscriptionId":"s",{field}}}]}}"#);
        assert_eq!(served.hook("/api/v1/webhooks/graph", "", &body).0, 202);
        assert_eq!(last_type(), event_type);
    }
    let url = "https://hooks.example.com/api/v1/webhooks/phone";
    let twilio = |query: &str, kind: &str, body: &str, parameters: &str| {
        let text = format!("{url}{query}{parameters}");
        let tag = BASE64.encode(&mac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key, &[text.as_bytes()]));
        let headers = format!("Content-Type: {kind}\r\nX-Twilio-Signature: {tag}\r\n");
        status(&served.send("POST", &format!("/api/v1/webhooks/phone{query}"), &headers, body.as_bytes()))
    };
    for (field, value) in [
        ("EventType", "onMessageAdded"),
        ("StatusCallbackEvent", "participant-join"),
        ("RecordingStatus", "completed"),
        ("TranscriptionEvent", "transcription-started"),
        ("StreamEvent", "stream-started"),
        ("MessageStatus", "delivered"),
    ] {
        let (body, parameters) = (format!("{field}={value}"), format!("{field}{value}"));
        assert_eq!(twilio("", "application/x-www-form-urlencoded", &body, &parameters), 204);
        assert_eq!(last_type(), format!("phone.{value}"));
    }
    // A read receipt of WhatsApp has both.
    let parameters = "EventTypeREADMessageStatusread";
    assert_eq!(twilio("", "application/x-www-form-urlencoded", "MessageStatus=read&EventType=READ", parameters), 204);
    assert_eq!(last_type(), "phone.read");
    let stream = r#"[{"id":"EZ1","type":"com.twilio.messaging.message.delivered","data":{}}]"#;
    let digest = HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, stream.as_bytes()).as_ref());
    assert_eq!(twilio(&format!("?bodySHA256={digest}"), "application/json", stream, ""), 204);
    assert_eq!(last_type(), "phone.com.twilio.messaging.message.delivered");

    let stored = served.fake.stored().len();
    let asana = |body: &str| {
        let tag = HEXLOWER.encode(&mac(hmac::HMAC_SHA256, key, &[body.as_bytes()]));
        served.hook("/api/v1/webhooks/tasks", &format!("X-Hook-Signature: {tag}\r\n"), body).0
    };
    assert_eq!(asana(r#"{"events":[]}"#), 200);
    assert_eq!(served.fake.stored().len(), stored, "a heartbeat is no event");
    assert_eq!(served.counted("tasks", "handshake"), 1);
    assert_eq!(served.hook("/api/v1/webhooks/tasks", "X-Hook-Signature: 00\r\n", r#"{"events":[]}"#).0, 401);
    assert_eq!(asana(r#"{"events":[{"action":"changed"}]}"#), 200);
    assert_eq!(last_type(), "tasks.changed");
}

#[test]
fn the_json_in_a_field_of_a_form_has_the_depth_limit_of_a_body() {
    let key = "a-secret-of-some-length";
    let sources = vec![source(1, &format!("name = \"code\"\nkind = \"github\"\nsecrets = [\"{key}\"]"))];
    let served = Served::with(Fake { sources, ..Fake::default() });
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    let body = url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", &deep).finish();
    let tag = HEXLOWER.encode(&mac(hmac::HMAC_SHA256, key, &[body.as_bytes()]));
    let headers = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: 2\r\n\
         X-Hub-Signature-256: sha256={tag}\r\n"
    );
    assert_eq!(status(&served.send("POST", "/api/v1/webhooks/code", &headers, body.as_bytes())), 400);
}
