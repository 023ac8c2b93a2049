use data_encoding::{BASE64, HEXLOWER};
use http::HeaderMap;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

use super::*;
use crate::signature::{RawScheme, Scheme, SchemeError, VerifyingKey};

const NOW_S: i64 = 1_780_000_000;
const BODY: &[u8] = br#"{"event":"room_started"}"#;
const SHARED: &str = "an-api-secret-of-livekit";

fn scheme(json: Value) -> Result<Scheme, Vec<SchemeError>> {
    Scheme::try_new(&serde_json::from_value::<RawScheme>(json).unwrap())
}

fn livekit() -> Value {
    json!({
        "scheme": "jwt", "sig": "header:Authorization",
        "jwt": { "alg": "HS256", "claims": { "iss": "api-key" }, "body_hash": "sha256", "body_hash_encoding": "base64" }
    })
}

fn encoded(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

fn hs256(header: &Value, claims: &Value, secret: &str) -> String {
    let signed = format!("{}.{}", encoded(header), encoded(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
}

fn sha256(body: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, body).as_ref().to_vec()
}

fn verdict(scheme: &Scheme, secret: &str, value: &str, body: &[u8]) -> Result<(), VerifyError> {
    let keys: Vec<VerifyingKey> = vec![scheme.key(&Secret::new(secret)).unwrap()];
    let mut headers = HeaderMap::new();
    headers.insert("authorization", value.parse().unwrap());
    let request = RequestParts {
        method: "POST",
        url: "https://hooks.example.com/in",
        query: Some("a=1"),
        path: "",
        headers: &headers,
        body,
    };
    scheme.verify(&keys, None, &request, Timestamp::from_millis(NOW_S * 1000))
}

#[test]
fn a_token_with_a_shared_secret_names_its_sender_and_the_digest_of_the_body() {
    let scheme = scheme(livekit()).unwrap();
    let good = json!({ "iss": "api-key", "exp": NOW_S + 60, "sha256": BASE64.encode(&sha256(BODY)) });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let head = json!({ "alg": "HS256", "typ": "JWT" });
    let none = json!({ "alg": "none" });
    let other = json!({ "alg": "HS512" });
    let critical = json!({ "alg": "HS256", "crit": ["b64"], "b64": false });
    for (what, token, fits) in [
        ("as it is", hs256(&head, &good, SHARED), true),
        ("another secret", hs256(&head, &good, "another-secret"), false),
        ("another issuer", hs256(&head, &with("iss", json!("other")), SHARED), false),
        ("no issuer", hs256(&head, &with("iss", Value::Null), SHARED), false),
        ("one of several issuers", hs256(&head, &with("iss", json!(["a", "api-key"])), SHARED), true),
        ("expired", hs256(&head, &with("exp", json!(NOW_S - 61)), SHARED), false),
        ("expired within the leeway", hs256(&head, &with("exp", json!(NOW_S - 59)), SHARED), true),
        ("an end that is text", hs256(&head, &with("exp", json!("4000000000")), SHARED), false),
        ("no end", hs256(&head, &json!({ "iss": "api-key", "sha256": good["sha256"] }), SHARED), false),
        ("not valid yet", hs256(&head, &with("nbf", json!(NOW_S + 61)), SHARED), false),
        ("another body", hs256(&head, &with("sha256", json!(BASE64.encode(&sha256(b"{}")))), SHARED), false),
        ("the digest in hex", hs256(&head, &with("sha256", json!(HEXLOWER.encode(&sha256(BODY)))), SHARED), false),
        ("no digest", hs256(&head, &with("sha256", Value::Null), SHARED), false),
        ("no algorithm", format!("{}.{}.", encoded(&none), encoded(&good)), false),
        ("an algorithm that is not allowed", hs256(&other, &good, SHARED), false),
        ("critical extensions", hs256(&critical, &good, SHARED), false),
        ("no token", "a.b".to_owned(), false),
        ("nothing", ".".to_owned(), false),
    ] {
        for value in [token.clone(), format!("Bearer {token}"), format!("bearer  {token}")] {
            assert_eq!(verdict(&scheme, SHARED, &value, BODY).is_ok(), fits, "{what}");
        }
    }
    assert!(verdict(&scheme, SHARED, &hs256(&head, &good, SHARED), b"{}").is_err(), "another body arrived");
    assert!(!scheme.is_in_head() && scheme.covers(&"json:/event".parse().unwrap()));
}

fn p256() -> (EcdsaKeyPair, Value) {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "one",
        "x": BASE64URL_NOPAD.encode(&point[1..33]), "y": BASE64URL_NOPAD.encode(&point[33..])
    });
    (pair, jwk)
}

fn es256(pair: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", encoded(header), encoded(claims));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

/// Plaid: no `exp`, but the age of `iat` is bounded.
#[test]
fn the_time_of_issue_of_a_token_without_an_end_is_recent() {
    let plaid = json!({
        "scheme": "jwt", "sig": "header:Authorization", "tolerance": 300,
        "jwt": { "alg": "ES256", "body_hash": "request_body_sha256" }
    });
    let scheme = scheme(plaid).unwrap();
    let (pair, jwk) = p256();
    let token = |iat: Value| {
        let claims = json!({ "iat": iat, "request_body_sha256": HEXLOWER.encode(&sha256(BODY)) });
        es256(&pair, &json!({ "alg": "ES256", "kid": "one" }), &claims)
    };
    for (iat, fits) in [
        (json!(NOW_S), true),
        (json!(NOW_S - 300), true),
        (json!(NOW_S - 301), false),
        (json!(NOW_S + 301), false),
        (Value::Null, false),
    ] {
        for key in [jwk.to_string(), json!({ "keys": [jwk] }).to_string(), json!({ "key": jwk }).to_string()] {
            assert_eq!(verdict(&scheme, &key, &token(iat.clone()), BODY).is_ok(), fits, "{iat}");
        }
    }
}

#[test]
fn keys_for_another_use_verify_nothing() {
    let scheme = scheme(json!({ "scheme": "jwt", "sig": "header:Authorization", "jwt": { "alg": "ES256" } })).unwrap();
    let (_, jwk) = p256();
    for (name, value, is_key) in [
        ("use", json!("sig"), true),
        ("use", json!("enc"), false),
        ("key_ops", json!(["verify"]), true),
        ("key_ops", json!(["encrypt"]), false),
        ("key_ops", json!([]), false),
        ("alg", json!("RS256"), false),
        ("expired_at", json!(1_700_000_000), false),
        ("expired_at", Value::Null, true),
        ("d", json!("AA"), false),
    ] {
        let mut key = jwk.clone();
        key[name] = value.clone();
        assert_eq!(scheme.key(&Secret::new(key.to_string())).is_ok(), is_key, "{name} {value}");
    }
    // One key of a published set that cannot be used does not spoil the others.
    let set = json!({ "keys": [{ "kty": "RSA", "n": "AQAB", "e": "AQAB" }, { "no": "key" }, jwk] }).to_string();
    assert!(KeySet::parse_published(&set).unwrap().has_key("ES256", Some("one")));
    for none in ["", "{}", "[]", r#"{"keys":[]}"#, r#"{"keys":{}}"#, r#"{"key":"x"}"#] {
        assert!(KeySet::parse_published(none).is_err(), "{none}");
    }
}

#[test]
fn a_public_key_in_pem_is_a_secret() {
    let (pair, _) = p256();
    let spki = [
        &[0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08][..],
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00],
        pair.public_key().as_ref(),
    ]
    .concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(&spki));
    let scheme = scheme(json!({ "scheme": "jwt", "sig": "header:Authorization", "jwt": { "alg": "ES256" } })).unwrap();
    let token = es256(&pair, &json!({ "alg": "ES256", "kid": "any" }), &json!({ "exp": NOW_S + 1 }));
    assert_eq!(verdict(&scheme, &pem, &token, BODY), Ok(()));
    // A public key is never the secret of an HMAC.
    let forged = hs256(&json!({ "alg": "HS256" }), &json!({ "exp": NOW_S + 1 }), &pem);
    assert!(verdict(&scheme, &pem, &forged, BODY).is_err());
    for bad in ["no key at all", "{}", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert!(scheme.key(&Secret::new(bad)).is_err(), "{bad}");
    }
}

#[test]
fn published_keys_are_asked_for_by_the_header_of_the_token() {
    let plaid = json!({
        "scheme": "jwt", "sig": "header:Authorization",
        "jwt": { "alg": ["ES256"], "jwks": "https://a.example/keys/{kid}", "jwks_body": { "key_id": "{kid}", "id": "me" } }
    });
    let scheme = scheme(plaid).unwrap();
    assert!(!scheme.needs_secret() && scheme.takes_secrets() && scheme.is_in_head());
    let asked = |header: &Value| {
        let mut headers = HeaderMap::new();
        let token = format!("{}.{}.AA", encoded(header), encoded(&json!({})));
        headers.insert("authorization", token.parse().unwrap());
        let request = RequestParts { method: "POST", url: "", query: None, path: "", headers: &headers, body: b"" };
        scheme.key_set(&request)
    };
    let wanted = asked(&json!({ "alg": "ES256", "kid": "k-1" })).unwrap().unwrap();
    assert_eq!(wanted.url.as_str(), "https://a.example/keys/k-1");
    assert_eq!(wanted.body.unwrap().reveal(), r#"{"id":"me","key_id":"k-1"}"#);
    for header in [
        json!({ "alg": "ES256" }),
        json!({ "alg": "RS256", "kid": "k-1" }),
        json!({ "alg": "none", "kid": "k-1" }),
        json!({ "alg": "ES256", "kid": "../x" }),
        json!({ "alg": "ES256", "kid": "" }),
        json!({ "alg": "ES256", "kid": "k".repeat(129) }),
    ] {
        assert!(asked(&header).is_err(), "{header}");
    }
}

#[test]
fn the_rules_of_a_token_are_checked() {
    let errors = |jwt: Value| {
        let wrong = scheme(json!({ "scheme": "jwt", "sig": "header:Authorization", "jwt": jwt })).err();
        wrong.unwrap_or_default().into_iter().map(|error| error.to_string()).collect::<Vec<_>>().join("; ")
    };
    for (jwt, said) in [
        (json!({}), "alg is missing"),
        (json!({ "alg": "none" }), "\"none\" is not known"),
        (json!({ "alg": ["HS256", "RS256"] }), "do not go together"),
        (json!({ "alg": "HS256", "jwks": "https://a.example" }), "a shared secret is not published"),
        (json!({ "alg": "RS256", "jwks": "http://a.example" }), "expected an https URL"),
        (json!({ "alg": "RS256", "jwks": "https://u@a.example" }), "expected an https URL"),
        (json!({ "alg": "RS256", "jwks_body": { "a": "b" } }), "with jwks only"),
        (json!({ "alg": "RS256", "body_hash": "h", "body_hash_encoding": "morse" }), "allowed: hex, base64"),
        (json!({ "alg": "RS256", "body_hash_encoding": "hex" }), "with body_hash only"),
    ] {
        assert!(errors(jwt.clone()).contains(said), "{jwt}: {}", errors(jwt.clone()));
    }
    for (field, value) in [
        ("sig", json!("json:/token")),
        ("signed", json!("{body}")),
        ("alg", json!("sha256")),
        ("time", json!("header:X-Time")),
        ("each", json!("json:/a")),
        ("tolerance", json!(0)),
    ] {
        let mut written = json!({ "scheme": "jwt", "sig": "header:Authorization", "jwt": { "alg": "HS256" } });
        written[field] = value;
        assert!(scheme(written).unwrap_err().iter().any(|error| error.field == field), "{field}");
    }
    let hmac = json!({ "scheme": "hmac", "sig": "header:X", "encoding": "hex", "jwt": { "alg": "HS256" } });
    assert_eq!(scheme(hmac).unwrap_err()[0].field, "jwt");
}

#[test]
fn the_url_of_the_source_is_an_audience() {
    let written = json!({
        "scheme": "jwt", "sig": "header:Authorization", "jwt": { "alg": "HS256", "claims": { "aud": "{url}" } }
    });
    let scheme = scheme(written).unwrap();
    assert!(scheme.needs_url());
    for (aud, fits) in [
        (json!("https://hooks.example.com/in"), true),
        (json!("https://hooks.example.com/in?a=1"), true),
        (json!("https://hooks.example.com/in?a=2"), false),
        (json!("{url}"), false),
    ] {
        let token = hs256(&json!({ "alg": "HS256" }), &json!({ "exp": NOW_S + 1, "aud": aud }), SHARED);
        assert_eq!(verdict(&scheme, SHARED, &token, BODY).is_ok(), fits, "{aud}");
    }
    let mut outgoing =
        crate::signature::OutgoingRequest { url: "https://hooks.example.com/in".into(), ..Default::default() };
    scheme.sign(&Secret::new(SHARED), &mut outgoing, Timestamp::from_millis(NOW_S * 1000)).unwrap();
    let value = outgoing.headers["authorization"].to_str().unwrap().to_owned();
    assert_eq!(verdict(&scheme, SHARED, &value, BODY), Ok(()));
}
