//! Deliveries with every kind of profile, verified as receivers do: with our verifier of the same scheme, and with the
//! code of the replaced systems' receivers.

use crate::outbound::{
    DeliverySignError, DeliverySigner, Endpoint, Event, SigningKeys, Webhook, WebhookSettings, preview,
};
use crate::signature::{RequestParts, SigningKey, ValueLocation};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use ring::hmac::{HMAC_SHA256, Key, sign};

use super::tests::{NOW, guard};
use crate::model::{EventId, InboundInfo, NewEvent, Secret, Timestamp, WebhookId, WebhookNo};
use crate::outbound::profile::{Profile, ProfileSigning, Profiles, RawProfile};
use crate::runtime::{Clock, MemoryBudget};
use crate::signature::standard::{StandardHeaders, verify};

const OLD: &str = "whsec_the old secret of this webhook";
const NEW: &str = "the new secret, chosen by somebody";
const DATA: &str = r#"{"id": "rec1",  "fields": {"é": 1.0}}"#;

fn profile(toml: &str) -> Arc<Profile> {
    let written = toml_edit::de::from_str::<std::collections::BTreeMap<String, RawProfile>>(&format!("[mine]\n{toml}"));
    Arc::clone(Profiles::try_new(&written.unwrap(), None).unwrap().get("mine").unwrap())
}

fn webhook(profile: &Arc<Profile>, current: SigningKey, previous: Option<SigningKey>) -> Arc<Webhook> {
    let endpoint = Endpoint::try_new("http://127.0.0.1:9000/hook?a=b", &guard(&["127.0.0.0/8"]).load()).unwrap();
    let until = NOW.plus(Duration::from_secs(1));
    let keys = SigningKeys {
        current: Arc::new(current),
        previous: previous.map(|key| (Arc::new(key), until)).into_iter().collect(),
    };
    Arc::new(Webhook {
        no: WebhookNo(3),
        id: WebhookId::from_u128(1),
        settings: WebhookSettings {
            profile: Arc::clone(profile),
            uid: Some("webhook_123".into()),
            ..WebhookSettings::new("default".into(), endpoint, keys)
        },
        created_at: NOW,
        updated_at: NOW,
        version: 1,
        address_version: 1,
    })
}

fn event(inbound: Option<InboundInfo<'_>>, raw: Option<&'static str>) -> Event {
    let new = NewEvent {
        tenant: "default",
        event_type: "record.updated",
        source: "api",
        timestamp: NOW,
        correlation_id: "req_1",
        data_len: DATA.len() as u32,
        raw_len: raw.map(|raw| raw.len() as u32),
        inbound,
        ..NewEvent::default()
    };
    let mut head = Vec::new();
    new.encode(&[WebhookNo(3)], &mut head);
    Event {
        id: EventId::from_u128(7),
        head: head.into(),
        body: Bytes::from([DATA, raw.unwrap_or_default()].concat()),
        committed_at: Clock::test(NOW).instant(),
        lease: MemoryBudget::new(1 << 20).lease(DATA.len()),
    }
}

/// The headers and the body of the request.
async fn sent(webhook: &Webhook, event: &Event, now: Timestamp) -> Result<(HeaderMap, String), DeliverySignError> {
    let request = DeliverySigner::default().sign(webhook, event, 2, now)?.request(webhook, HeaderMap::new());
    let (parts, mut body) = request.into_parts();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        whole.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    Ok((parts.headers, String::from_utf8(whole).unwrap()))
}

fn hex_mac(secret: &str, message: &str) -> String {
    HEXLOWER.encode(sign(&Key::new(HMAC_SHA256, secret.as_bytes()), message.as_bytes()).as_ref())
}

#[tokio::test]
async fn receivers_of_the_replaced_systems_accept_both_secrets() {
    for (name, header, prefix, time) in [
        ("homechef", "x-homechef-signature", "sha256=", None),
        ("pyairtable", "x-pyairtable-signature", "sha256=", Some("x-pyairtable-timestamp")),
        ("epic", "x-webhook-signature", "", None),
    ] {
        let profile = Profiles::default().resolve(name);
        let key = |secret: &str| profile.key(Secret::new(secret)).unwrap();
        let webhook = webhook(&profile, key(NEW), Some(key(OLD)));
        let (headers, body) = sent(&webhook, &event(None, None), NOW).await.unwrap();
        let signed = match time {
            Some(time) => format!("{}.{body}", headers[time].to_str().unwrap()),
            None => body.clone(),
        };
        assert_eq!(headers[header], format!("{prefix}{}", hex_mac(NEW, &signed)), "{name}");
        assert_eq!(headers[format!("{header}-previous")], format!("{prefix}{}", hex_mac(OLD, &signed)), "{name}");
        assert!(!headers.contains_key("webhook-signature") && !headers.contains_key("webhook-id"));
        // An expired old secret does not sign.
        let (headers, _) = sent(&webhook, &event(None, None), NOW.plus(Duration::from_secs(1))).await.unwrap();
        assert!(headers.contains_key(header) && !headers.contains_key(format!("{header}-previous")), "{name}");
    }
}

#[tokio::test]
async fn all_headers_that_pyairtable_needs_are_sent() {
    let profile = Profiles::default().resolve("pyairtable");
    let webhook = webhook(&profile, profile.generate_key(None).unwrap(), None);
    let event = event(None, None);
    let (headers, _) = sent(&webhook, &event, NOW).await.unwrap();
    for (name, value) in [
        ("user-agent", "PyAirtable-Webhooks/1.0"),
        ("x-pyairtable-event-id", &*event.id.to_string()),
        ("x-pyairtable-event-type", "record.updated"),
        ("x-pyairtable-webhook-id", "webhook_123"),
        ("x-pyairtable-timestamp", "1711015200"),
        ("content-type", "application/json"),
        ("webhook-hops", "1"),
        ("x-correlation-id", "req_1"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_raw_profile_sends_the_received_body_with_its_content_type() {
    let profile = Profiles::default().resolve("raw");
    let webhook = webhook(&profile, profile.generate_key(None).unwrap(), None);
    let inbound = InboundInfo {
        content_type: Some("application/x-www-form-urlencoded"),
        headers: "{}",
        ..InboundInfo::default()
    };
    for (event, body, content_type) in [
        (event(None, None), DATA, "application/json"),
        (event(Some(inbound), Some("a=1&b=%20")), "a=1&b=%20", "application/x-www-form-urlencoded"),
        (event(Some(InboundInfo { content_type: None, ..inbound }), Some("")), "", "application/json"),
    ] {
        let (headers, sent) = sent(&webhook, &event, NOW).await.unwrap();
        assert_eq!((&*sent, &headers["content-type"]), (body, &content_type.parse().unwrap()));
        let text = |name: &str| Some(headers[name].as_bytes());
        let received = StandardHeaders {
            id: text("webhook-id"),
            timestamp: text("webhook-timestamp"),
            signatures: text("webhook-signature"),
        };
        assert_eq!(verify([&*webhook.keys.current], received, sent.as_bytes(), NOW), Ok(()));
    }
}

#[tokio::test]
async fn a_change_from_v1_to_v1a_signs_both_ways() {
    let profile = Profile::standard();
    let webhook = webhook(&profile, SigningKey::generate_ed25519().unwrap(), Some(SigningKey::generate()));
    let (headers, body) = sent(&webhook, &event(None, None), NOW).await.unwrap();
    let signatures = headers["webhook-signature"].to_str().unwrap();
    let versions: Vec<_> =
        signatures.split(' ').filter_map(|one| one.split_once(',')).map(|(version, _)| version).collect();
    assert_eq!(versions, ["v1a", "v1"]);
    let text = |name: &str| Some(headers[name].as_bytes());
    let received = StandardHeaders {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signatures: text("webhook-signature"),
    };
    for key in [&webhook.keys.current, &webhook.keys.previous[0].0] {
        assert_eq!(verify([&**key], received, body.as_bytes(), NOW), Ok(()));
    }
}

/// Every scheme that a profile may have, with the location of its `{id}` for the verifier.
const SCHEMES: [&str; 12] = [
    r#"scheme = "hmac", sig = "header:X-S", encoding = "hex""#,
    r#"scheme = "hmac", alg = "sha512", key = "hex", sig = "header:X-S", encoding = "base64", prefix = "v1=", signed = "{id}.{time}.{body}", time = "header:X-T", unit = "ms""#,
    r#"scheme = "hmac", sig = "header:X-S", split = ",", prefix = "v1=", encoding = "hex", signed = "{time}.{body}", time = "sig:t=""#,
    r#"scheme = "hmac", alg = "sha1", key = "whsec", sig = "header:X-S", split = " ", prefix = "v1,", encoding = "base64", signed = "{header:X-Id}.{body}""#,
    r#"scheme = "hmac", sig = "header:X-S", encoding = "base64url", signed = "{method}{url}{body}{time}", time = "header:X-T", unit = "rfc3339""#,
    r#"scheme = "hash", sig = "header:X-S", encoding = "hex", signed = "{key}{body}""#,
    r#"scheme = "ed25519", key = "whpk", sig = "header:X-S", encoding = "base64", signed = "{time}{body}", time = "header:X-T""#,
    r#"scheme = "ed25519", key = "hex", sig = "header:X-S", split = ";", encoding = "hex""#,
    r#"scheme = "ecdsa-p256", key = "spki-base64", sig = "header:X-S", encoding = "base64""#,
    r#"scheme = "token", sig = "header:X-S""#,
    r#"scheme = "token", sig = "header:Authorization", prefix = "Bearer ""#,
    r#"scheme = "basic", sig = "header:Authorization""#,
];

#[tokio::test]
async fn the_scheme_of_a_profile_verifies_its_signatures() {
    for scheme in SCHEMES {
        let profile = profile(&format!("headers = {{ X-Id = \"{{event.id}}\" }}\nsign = {{ {scheme} }}"));
        let ProfileSigning::Scheme(outbound) = profile.signing() else { panic!("{scheme}") };
        let (new, old) = (profile.generate_key(None).unwrap(), profile.generate_key(None).unwrap());
        let verifier = outbound.scheme().clone().with_id(&["header:X-Id".parse::<ValueLocation>().unwrap()]);
        let key = |key: &SigningKey| {
            let verifying = verifier.verifying_secret(&key.secret).unwrap();
            assert_eq!(key.public_key().as_deref().unwrap_or(key.secret.reveal()), verifying.reveal());
            verifier.key(&verifying).unwrap()
        };
        let (new_key, old_key) = (key(&new), key(&old));
        let webhook = webhook(&profile, new, Some(old));
        let (headers, body) = sent(&webhook, &event(None, None), NOW).await.unwrap();
        let believes = |headers: &HeaderMap, body: &str, key| {
            let url = "http://127.0.0.1:9000/hook";
            let request =
                RequestParts { method: "POST", url, query: Some("a=b"), path: "", headers, body: body.as_bytes() };
            verifier.verify([key], None, &request, NOW)
        };
        assert_eq!(believes(&headers, &body, &new_key), Ok(()), "{scheme}");
        let is_token = outbound.scheme().sends_secret();
        assert_eq!(believes(&headers, &format!("{body} "), &new_key).is_ok(), is_token, "{scheme}");
        // The signature with the old secret is beside the new one, or in a header that a receiver with the old secret
        // can use.
        let sig = verifier.signature_locations()[0].to_string();
        let previous = format!("{}-previous", sig.strip_prefix("header:").unwrap());
        let mut old_headers = headers.clone();
        if let Some(value) = headers.get(&*previous) {
            old_headers.insert(
                sig.strip_prefix("header:").unwrap().parse::<hyper::header::HeaderName>().unwrap(),
                value.clone(),
            );
        } else {
            assert!(scheme.contains("split"), "{scheme}: {headers:?}");
        }
        assert_eq!(believes(&old_headers, &body, &old_key), Ok(()), "{scheme}");
    }
}

#[tokio::test]
async fn a_request_that_the_profile_cannot_sign_is_not_sent() {
    let gone = Profiles::default().resolve("gone");
    let unknown = webhook(&gone, gone.stored_key(Secret::new(NEW)), None);
    let said = sent(&unknown, &event(None, None), NOW).await.unwrap_err().to_string();
    assert_eq!(said, "the profile \"gone\" of this webhook is not configured");
    let hex = profile(r#"sign = { scheme = "hmac", key = "hex", sig = "header:X-S", encoding = "hex" }"#);
    let unfit = webhook(&hex, hex.stored_key(Secret::new(NEW)), None);
    let said = sent(&unfit, &event(None, None), NOW).await.unwrap_err().to_string();
    assert!(said.contains("hexadecimal") && !said.contains(NEW), "{said}");
    // An old secret that does not fit the scheme does not sign, and the current one does.
    let half = webhook(&hex, hex.generate_key(None).unwrap(), Some(hex.stored_key(Secret::new(NEW))));
    let (headers, _) = sent(&half, &event(None, None), NOW).await.unwrap();
    assert!(headers.contains_key("x-s") && !headers.contains_key("x-s-previous"));
}

#[tokio::test]
async fn headers_of_a_webhook_do_not_override_those_of_its_profile() {
    let profile = Profiles::default().resolve("pyairtable");
    let mut webhook = Arc::into_inner(webhook(&profile, profile.generate_key(None).unwrap(), None)).unwrap();
    for name in ["x-pyairtable-signature", "x-pyairtable-timestamp", "x-pyairtable-event-id"] {
        webhook.settings.headers.push((name.parse().unwrap(), "forged".parse().unwrap()));
    }
    let (headers, _) = sent(&webhook, &event(None, None), NOW).await.unwrap();
    assert!(headers.values().all(|value| value != "forged"), "{headers:?}");
}

#[test]
fn a_preview_shows_the_request_and_hides_secrets() {
    let token = profile(r#"sign = { scheme = "token", sig = "header:X-Token" }"#);
    let webhook = webhook(&token, token.generate_key(None).unwrap(), None);
    let preview = preview(&webhook, &event(None, None), 1, NOW).unwrap();
    assert!(preview.headers["x-token"].is_sensitive());
    assert_eq!(preview.body_len, format!(r#"{{"type":"record.updated","timestamp":"{NOW}","data":{DATA}}}"#).len());
}
