//! Tests of profiles as tables: the deliveries of each profile, and the errors of invalid profiles.

use bytes::BytesMut;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::model::{DeliveryId, EventId, NewEvent, Secret, Timestamp, WebhookId, WebhookNo};
use crate::signature::SigningKind;

const NOW: Timestamp = Timestamp::from_millis(1_711_015_203_999);

fn event() -> NewEvent<'static> {
    NewEvent {
        tenant: "acme",
        event_type: "order.created",
        source: "api",
        timestamp: Timestamp::from_millis(1_711_015_200_120),
        correlation_id: "req_1",
        resource_id: Some("tbl\"1"),
        user_id: Some("123"),
        metadata: Some(r#"{"source":"api"}"#),
        ..NewEvent::default()
    }
}

fn values<'a>(event: &'a NewEvent<'a>, uid: Option<&'a str>) -> DeliveryValues<'a> {
    let id = EventId::from_u128(7);
    DeliveryValues {
        event,
        id,
        webhook: uid.map_or(WebhookName::Id(WebhookId::from_u128(1)), WebhookName::Uid),
        delivery: DeliveryId { event: id, webhook: WebhookNo(3) },
        attempt: 2,
        now: NOW,
    }
}

fn body(profile: &Profile, values: &DeliveryValues<'_>, data: &str) -> String {
    let BodyTemplate::Object(object) = profile.body() else { return data.to_owned() };
    let mut out = BytesMut::new();
    object.write_prefix(values, &mut out);
    if object.has_data() {
        out.extend_from_slice(data.as_bytes());
    }
    match object.constant_suffix() {
        Some(suffix) => out.extend_from_slice(suffix),
        None => object.write_suffix(values, &mut out),
    }
    String::from_utf8(out.to_vec()).unwrap()
}

fn read(toml: &str) -> BTreeMap<String, RawProfile> {
    toml_edit::de::from_str(toml).unwrap()
}

fn profile(toml: &str) -> Arc<Profile> {
    let profiles = Profiles::try_new(&read(&format!("[mine]\n{toml}")), None).unwrap();
    Arc::clone(profiles.get("mine").unwrap())
}

#[test]
fn all_that_is_built_in_can_be_used_and_the_default_comes_first() {
    let written = read(include_str!("built_in.toml"));
    let profiles = Profiles::default();
    let names: Vec<_> = profiles.names().collect();
    assert_eq!(names[0], Profile::STANDARD);
    assert_eq!(names.len(), written.len());
    for (name, raw) in written {
        assert!(profiles.get(&name).unwrap().is_known(), "{name}");
        // A custom profile could say the same.
        let own = BTreeMap::from([("own".to_owned(), raw)]);
        Profiles::try_new(&own, None).unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
    }
    assert!(Arc::ptr_eq(profiles.get("standard").unwrap(), &Profile::standard()));
}

#[test]
fn bodies_match_the_systems_that_receivers_know() {
    let event = event();
    let evt = EventId::from_u128(7);
    let delivery = DeliveryId { event: evt, webhook: WebhookNo(3) };
    let data = r#"{"n": 1.50,  "n": "\u00e9"}"#;
    for (name, expected) in [
        ("standard", format!(r#"{{"type":"order.created","timestamp":"2024-03-21T10:00:00.120Z","data":{data}}}"#)),
        ("raw", data.to_owned()),
        (
            "homechef",
            format!(
                r#"{{"event":"order.created","data":{data},"timestamp":"2024-03-21T10:00:00.120Z","webhook_id":"old-1","delivery_id":"{delivery}"}}"#
            ),
        ),
        (
            "pyairtable",
            format!(
                r#"{{"id":"{evt}","type":"order.created","resource_id":"tbl\"1","workspace_id":null,"user_id":"123","timestamp":"2024-03-21T10:00:00.120Z","data":{data},"metadata":{{"source":"api"}}}}"#
            ),
        ),
        (
            "epic",
            format!(
                r#"{{"event":"order.created","timestamp":"2024-03-21T10:00:00.120Z","data":{data},"webhook_id":"old-1"}}"#
            ),
        ),
    ] {
        let profile = Profiles::default().resolve(name);
        assert_eq!(body(&profile, &values(&event, Some("old-1")), data), expected, "{name}");
    }
}

#[test]
fn every_value_has_its_name_and_the_data_may_be_left_out() {
    let fields: Vec<_> = value::EnvelopeField::NAMES
        .iter()
        .filter(|(_, field)| *field != value::EnvelopeField::Data)
        .map(|(name, _)| format!("\"{name}\" = \"{name}\""))
        .collect();
    let profile = profile(&format!("envelope = {{ {} }}", fields.join(", ")));
    let bare = NewEvent { resource_id: None, user_id: None, metadata: None, ..event() };
    let read: Value = serde_json::from_str(&body(&profile, &values(&bare, None), "never")).unwrap();
    let expected = serde_json::json!({
        "type": "order.created", "timestamp": "2024-03-21T10:00:00.120Z", "id": EventId::from_u128(7).to_string(),
        "metadata": {}, "resource_id": null, "workspace_id": null, "user_id": null, "tenant": "acme", "source": "api",
        "correlation_id": "req_1", "webhook.id": WebhookId::from_u128(1).to_string(),
        "delivery.id": DeliveryId { event: EventId::from_u128(7), webhook: WebhookNo(3) }.to_string(), "attempt": 2,
    });
    assert_eq!(read, expected);
}

proptest! {
    #[test]
    fn the_body_stays_json_for_all_names(resource in ".*", user in ".*", correlation in ".*", field in ".{0,40}") {
        let event = NewEvent { resource_id: Some(&resource), user_id: Some(&user), correlation_id: &correlation, ..event() };
        let own = RawProfile {
            envelope: RawEnvelope::Fields(vec![
                ("r".into(), "resource_id".into()),
                ("d".into(), "data".into()),
                (format!("{field}!"), "user_id".into()),
                ("c".into(), "correlation_id".into()),
            ]),
            ..RawProfile::default()
        };
        let profiles = Profiles::try_new(&BTreeMap::from([("mine".to_owned(), own)]), None).unwrap();
        let text = body(profiles.get("mine").unwrap(), &values(&event, None), "[1]");
        let read: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read["r"], &Value::from(resource));
        prop_assert_eq!(&read[format!("{field}!")], &Value::from(user));
        prop_assert_eq!(&read["c"], &Value::from(correlation));
        prop_assert_eq!(&read["d"], &serde_json::json!([1]));
    }
}

#[test]
fn headers_are_templates() {
    let profile = profile(
        r#"headers = { X-A = "a {event.type} {{x}} {attempt}", X-B = "{event.id}/{delivery.id}", X-C = "{webhook.id}@{timestamp}" }"#,
    );
    let (event, evt) = (event(), EventId::from_u128(7));
    let delivery = DeliveryId { event: evt, webhook: WebhookNo(3) };
    let values = values(&event, Some("old:1"));
    let made: Vec<_> =
        profile.headers(&values).map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    let expected =
        ["x-a: a order.created {x} 2".to_owned(), format!("x-b: {evt}/{delivery}"), "x-c: old:1@1711015203".to_owned()];
    assert_eq!(made, expected);
    assert!(
        profile.sets_header(&HeaderName::from_static("x-a")) && !profile.sets_header(&HeaderName::from_static("x-d"))
    );
}

#[test]
fn each_header_template_gives_the_text_that_it_describes() {
    let event = event();
    let values = values(&event, None);
    for (template, text) in [
        ("", ""),
        (" ", " "),
        ("{attempt}{attempt}", "22"),
        ("{{{attempt}}}", "{2}"),
        ("{{attempt}}", "{attempt}"),
        ("{{{{{attempt}", "{{2"),
        ("{attempt}}}", "2}"),
        ("}}{attempt}{{", "}2{"),
        (r#"{{"n":{attempt}}}"#, r#"{"n":2}"#),
    ] {
        let profile = profile(&format!("headers = {{ X-A = '{template}' }}"));
        let made: Vec<_> = profile.headers(&values).map(|(_, value)| value.to_str().unwrap().to_owned()).collect();
        assert_eq!(made, [text], "{template}");
    }
    let braces = "a brace is not closed or not opened; {{ and }} stand for braces";
    for (template, words) in [
        ("{attempt", braces),
        ("attempt}", braces),
        ("{attempt}}", braces),
        ("{{attempt}", braces),
        ("{", braces),
        ("{}", "{} is not known; allowed: {event.type} {event.id} "),
        ("{type}", "{type} is not known; allowed: {event.type} "),
        ("{ attempt }", "{ attempt } is not known; allowed: {event.type} "),
        (r#"{"n":{attempt}"#, r#"{"n":{attempt} is not known; allowed: {event.type} "#),
    ] {
        let errors =
            Profiles::try_new(&read(&format!("[mine]\nheaders = {{ X-A = '{template}' }}")), None).unwrap_err();
        let paths: Vec<_> = errors.iter().map(|error| error.path.join(".")).collect();
        assert_eq!(paths, ["mine.headers.X-A"], "{template}");
        assert!(errors[0].problem.starts_with(words), "{template}: {}", errors[0].problem);
    }
}

#[test]
fn a_profile_keeps_its_signature_headers_to_itself() {
    let profiles = Profiles::default();
    for (profile, header, sets) in [
        ("homechef", "x-homechef-signature", true),
        ("homechef", "x-homechef-signature-previous", true),
        ("pyairtable", "x-pyairtable-timestamp", true),
        ("pyairtable", "x-pyairtable-event-id", true),
        ("epic", "x-webhook-signature", true),
        ("epic", "x-homechef-signature", false),
        ("standard", "x-webhook-signature", false),
    ] {
        assert_eq!(profiles.resolve(profile).sets_header(&HeaderName::from_static(header)), sets, "{profile} {header}");
    }
}

#[test]
fn errors_name_their_key() {
    let hmac = r#"scheme = "hmac", encoding = "hex""#;
    for (toml, path, words) in [
        (r#"envelope = "cooked""#.to_owned(), "mine.envelope", "\"cooked\" is not \"raw\""),
        ("envelope = {}".into(), "mine.envelope", "1 to 64 fields"),
        (r#"envelope = { a = "body" }"#.into(), "mine.envelope.a", "allowed: type, timestamp, data"),
        (r#"envelope = { a = "data", b = "data" }"#.into(), "mine.envelope.b", "twice"),
        (r#"headers = { "X A" = "1" }"#.into(), "mine.headers.X A", "no header name"),
        (r#"headers = { X-A = "{body}" }"#.into(), "mine.headers.X-A", "allowed: {event.type}"),
        (r#"headers = { X-A = "{attempt" }"#.into(), "mine.headers.X-A", "brace"),
        (r#"headers = { X-A = "é" }"#.into(), "mine.headers.X-A", "ASCII"),
        (r#"headers = { X-A = "1", x-a = "2" }"#.into(), "mine.headers.x-a", "twice"),
        (r#"headers = { Content-Type = "text/plain" }"#.into(), "mine.headers.Content-Type", "set by the server"),
        (r#"headers = { Host = "a" }"#.into(), "mine.headers.Host", "set by the server"),
        (r#"headers = { webhook-id = "a" }"#.into(), "mine.headers.webhook-id", "set by the server"),
        (r#"headers = { User-Agent = "a" }"#.into(), "mine.headers.User-Agent", "user_agent"),
        (r#"user_agent = """#.into(), "mine.user_agent", "1 to 256"),
        (r#"sign = "rot13""#.into(), "mine.sign", "\"standard-webhooks\""),
        (r#"sign = { scheme = "none" }"#.into(), "mine.sign.scheme", "deliveries are signed by"),
        (
            r#"sign = { scheme = "code:twilio", sig = "header:X-Twilio-Signature" }"#.into(),
            "mine.sign.scheme",
            "deliveries are signed by",
        ),
        (format!("sign = {{ {hmac} }}"), "mine.sign.sig", "is missing"),
        (format!(r#"sign = {{ {hmac}, sig = "json:/s", signed = "{{id}}" }}"#), "mine.sign.sig", "one header"),
        (format!(r#"sign = {{ {hmac}, sig = ["header:A", "header:B"] }}"#), "mine.sign.sig", "one header"),
        (format!(r#"sign = {{ {hmac}, sig = "header:Host" }}"#), "mine.sign", "set by the server"),
        (format!(r#"sign = {{ {hmac}, sig = "header:Content-Signature" }}"#), "mine.sign", "set by the server"),
        (format!(r#"sign = {{ {hmac}, sig = "header:Webhook-Hops" }}"#), "mine.sign", "set by the server"),
        (r#"headers = { webhook-signature = "a" }"#.into(), "mine.headers.webhook-signature", "set by the server"),
        (r#"headers = { X-A-Signature = "a" }"#.into(), "mine.headers.X-A-Signature", "set by the server"),
        (
            format!(r#"sign = {{ {hmac}, sig = "header:X-S", signed = "{{body}}{{json:/a}}" }}"#),
            "mine.sign.signed",
            "no meaning here",
        ),
        (
            format!(r#"sign = {{ {hmac}, sig = "header:X-S", signed = "{{header:X-T}}.{{body}}" }}"#),
            "mine.sign.signed",
            "none of the profile's headers",
        ),
        (
            format!(r#"sign = {{ {hmac}, sig = "header:X-S", signed = "{{time}}.{{body}}", time = "query:t" }}"#),
            "mine.sign.time",
            "stands in a header",
        ),
        (
            format!("headers = {{ X-S = \"1\" }}\nsign = {{ {hmac}, sig = \"header:X-S\" }}"),
            "mine.headers.X-S",
            "the signature sets",
        ),
    ] {
        let errors = Profiles::try_new(&read(&format!("[mine]\n{toml}")), None).unwrap_err();
        assert!(errors.iter().any(|e| e.path.join(".") == path && e.problem.contains(words)), "{toml}: {errors:?}");
    }
    for (name, words) in [("epic", "built in"), ("Mine", "a-z"), ("-a", "a-z"), ("", "a-z"), (&*"a".repeat(64), "a-z")]
    {
        let errors = Profiles::try_new(&BTreeMap::from([(name.to_owned(), RawProfile::default())]), None).unwrap_err();
        assert!(errors[0].path == [name] && errors[0].problem.contains(words), "{name}: {errors:?}");
    }
}

#[test]
fn the_signature_header_of_homechef_can_be_renamed() {
    let profiles = Profiles::try_new(&BTreeMap::new(), Some("X-Chef-Signature")).unwrap();
    let homechef = profiles.get("homechef").unwrap();
    assert!(homechef.sets_header(&HeaderName::from_static("x-chef-signature")));
    assert!(!homechef.sets_header(&HeaderName::from_static("x-homechef-signature")));
    for wrong in ["X Chef", "A|B", "Host", ""] {
        let errors = Profiles::try_new(&BTreeMap::new(), Some(wrong)).unwrap_err();
        assert_eq!(errors[0].path[..2], ["homechef", "sign"], "{wrong}");
    }
}

#[test]
fn secrets_have_the_form_that_the_profile_needs() {
    let whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let (short, long) = ("x".repeat(15), "x".repeat(257));
    let hex = r#"sign = { scheme = "hmac", key = "hex", sig = "header:X-S", encoding = "hex" }"#;
    let token = r#"sign = { scheme = "token", sig = "header:X-Token" }"#;
    let basic = r#"sign = { scheme = "basic", sig = "header:Authorization" }"#;
    let own = |toml: &str| profile(toml);
    for (profile, secret, refused) in [
        (Profile::standard(), whsec, None),
        (Profile::standard(), "a secret of twenty characters", Some("whsec_")),
        (Profiles::default().resolve("raw"), whsec, None),
        (Profiles::default().resolve("epic"), whsec, None),
        (Profiles::default().resolve("epic"), "sixteen letters!", None),
        (Profiles::default().resolve("epic"), &*short, Some("16 to 256 characters, this one has 15")),
        (Profiles::default().resolve("epic"), &*long, Some("16 to 256 characters, this one has 257")),
        (Profiles::default().resolve("gone"), whsec, Some("not configured")),
        (own(hex), "00112233445566778899aabbccddeeff", None),
        (own(hex), whsec, Some("hexadecimal")),
        (own(token), "not for a header\u{e9}\n", Some("ASCII")),
        (own(basic), "somebody:and a password", None),
        (own(basic), "somebody without password", Some("user:password")),
    ] {
        let key = profile.key(Secret::new(secret));
        match refused {
            None => assert!(key.is_ok(), "{}", profile.name()),
            Some(words) => {
                let said = key.unwrap_err().to_string();
                assert!(said.contains(words) && !said.contains(secret), "{said}");
                let SigningKind::Unusable(why) = profile.stored_key(Secret::new(secret)).kind else { panic!("fits") };
                assert_eq!(*why, *said);
            }
        }
    }
}

#[test]
fn generated_keys_read_back() {
    let scheme = |fields: &str| profile(&format!("sign = {{ sig = \"header:X-S\", {fields} }}"));
    for (profile, wanted, prefix, has_public) in [
        (Profile::standard(), None, "whsec_", false),
        (Profile::standard(), Some(KeyType::Hmac), "whsec_", false),
        (Profile::standard(), Some(KeyType::Ed25519), "whsk_", true),
        (Profiles::default().resolve("homechef"), None, "whsec_", false),
        (scheme(r#"scheme = "hmac", key = "base64", encoding = "hex""#), None, "", false),
        (scheme(r#"scheme = "hash", encoding = "hex", signed = "{key}{body}""#), None, "whsec_", false),
        (scheme(r#"scheme = "ed25519", key = "hex", encoding = "hex""#), None, "whsk_", true),
        (scheme(r#"scheme = "ecdsa-p256", key = "spki-base64", encoding = "base64""#), None, "whsk_", true),
        (scheme(r#"scheme = "token""#), None, "", false),
        (scheme(r#"scheme = "basic""#), None, "hooktide:", false),
    ] {
        let made = profile.generate_key(wanted).unwrap();
        assert!(made.secret.reveal().starts_with(prefix), "{}", made.secret.reveal());
        let read = profile.key(made.secret.clone()).unwrap();
        assert_eq!(made.public_key(), read.public_key());
        assert_eq!(made.public_key().is_some(), has_public);
        assert!(made.secret != profile.generate_key(wanted).unwrap().secret);
    }
    let epic = Profiles::default().resolve("epic");
    assert_eq!(epic.generate_key(Some(KeyType::Ed25519)).err(), Some(KeyError::Type("epic".into())));
}

#[test]
fn unchanged_profiles_keep_their_instance() {
    let a = r#"[a]
        user_agent = "1"
        [b]
        user_agent = "1""#;
    let before = Profiles::try_new(&read(a), None).unwrap();
    let after = Profiles::try_new(&read(&a.replacen("\"1\"", "\"2\"", 1)), None).unwrap().reuse_unchanged(&before);
    let same = |name: &str| Arc::ptr_eq(before.get(name).unwrap(), after.get(name).unwrap());
    assert!(!same("a") && same("b") && same("standard") && same("homechef"));
    let renamed = Profiles::try_new(&read(a), Some("X-Other")).unwrap().reuse_unchanged(&before);
    assert!(!Arc::ptr_eq(before.get("homechef").unwrap(), renamed.get("homechef").unwrap()));
}
