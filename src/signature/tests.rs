//! Tests for each rule of a scheme, and for known mistakes of other libraries.

use http::HeaderMap;
use http::header::HeaderValue;
use serde_json::{Value, json};

use super::*;
use crate::model::{Secret, Timestamp};

const NOW_S: i64 = 1_711_015_200;
const NOW: Timestamp = Timestamp::from_millis(NOW_S * 1000);
const SECRET: &str = "a secret of the test";

fn raw(scheme: Value) -> RawScheme {
    serde_json::from_value(scheme).unwrap()
}

fn scheme(written: Value) -> Scheme {
    Scheme::try_new(&raw(written)).unwrap()
}

fn hmac() -> Value {
    json!({"scheme": "hmac", "sig": "header:X-Sig", "encoding": "hex"})
}

/// The value with these fields replaced; `null` removes a field.
fn with(mut value: Value, fields: impl std::borrow::Borrow<Value>) -> Value {
    for (name, field) in fields.borrow().as_object().unwrap() {
        match field {
            Value::Null => value.as_object_mut().unwrap().remove(name),
            field => value.as_object_mut().unwrap().insert(name.clone(), field.clone()),
        };
    }
    value
}

fn stripe() -> Value {
    with(hmac(), json!({"split": ",", "prefix": "v1=", "signed": "{time}.{body}", "time": "sig:t="}))
}

fn outgoing(body: &str) -> OutgoingRequest {
    OutgoingRequest {
        method: "POST".into(),
        url: "https://hooks.example.com/in/a".into(),
        body: body.into(),
        ..OutgoingRequest::default()
    }
}

fn secret() -> Secret {
    Secret::new(SECRET)
}

fn check_with(scheme: &Scheme, secrets: &[&str], request: &OutgoingRequest, now: Timestamp) -> Result<(), VerifyError> {
    let keys: Vec<VerifyingKey> = secrets.iter().map(|text| scheme.key(&Secret::new(*text)).unwrap()).collect();
    scheme.verify(&keys, None, &request.request(), now)
}

fn check(scheme: &Scheme, request: &OutgoingRequest) -> Result<(), VerifyError> {
    check_with(scheme, &[SECRET], request, NOW)
}

/// A request that this scheme signed.
fn signed(scheme: &Scheme, body: &str) -> OutgoingRequest {
    let mut request = outgoing(body);
    scheme.sign(&secret(), &mut request, NOW).unwrap();
    assert_eq!(check(scheme, &request), Ok(()), "{request:?}");
    request
}

fn header<'a>(request: &'a OutgoingRequest, name: &str) -> &'a str {
    request.headers[name].to_str().unwrap()
}

fn set(request: &mut OutgoingRequest, name: &'static str, value: &str) {
    request.headers.insert(name, HeaderValue::from_str(value).unwrap());
}

#[test]
fn a_scheme_that_breaks_a_rule_is_refused_by_the_field() {
    for (change, field) in [
        (json!({"scheme": "hmac-sha256"}), "scheme"),
        (json!({"scheme": "code:adyen"}), "scheme"),
        (json!({"alg": "md5"}), "alg"),
        (json!({"scheme": "ed25519", "key": "hex", "alg": "sha256"}), "alg"),
        (json!({"key": "whpk"}), "key"),
        (json!({"key": "UTF8"}), "key"),
        (json!({"scheme": "ed25519"}), "key"),
        (json!({"scheme": "ecdsa-p256", "key": "whpk"}), "key"),
        (json!({"sig": null}), "sig"),
        (json!({"sig": []}), "sig"),
        (json!({"sig": "X-Sig"}), "sig"),
        (json!({"sig": "const:x"}), "sig"),
        (json!({"sig": "sig:v1="}), "sig"),
        (json!({"split": "|"}), "split"),
        (json!({"split": ", "}), "split"),
        (json!({"split": ",", "prefix": "v1,"}), "prefix"),
        (json!({"encoding": null}), "encoding"),
        (json!({"encoding": "base32"}), "encoding"),
        (json!({"signed": "{timestamp}.{body}"}), "signed"),
        (json!({"signed": "{body"}), "signed"),
        (json!({"signed": "body}"}), "signed"),
        (json!({"signed": ""}), "signed"),
        (json!({"signed": "v0:{method}"}), "signed"),
        (json!({"signed": "{key}{body}"}), "signed"),
        (json!({"scheme": "hash"}), "signed"),
        (json!({"sig": "json:/sig"}), "signed"),
        (json!({"sig": "query:sig", "signed": "{url}{body}"}), "signed"),
        (json!({"sig": "header:X-Sig", "signed": "{header:x-sig}{body}"}), "signed"),
        (json!({"signed": "{time}.{body}"}), "time"),
        (json!({"time": "header:X-Time"}), "time"),
        (json!({"time": "when"}), "time"),
        (json!({"signed": "{time}.{body}", "time": "const:1"}), "time"),
        (json!({"signed": "{time}.{body}", "time": "sig:t="}), "time"),
        (json!({"signed": "{time}.{body}", "time": "sig:t=", "split": ",", "sig": ["header:a", "header:b"]}), "time"),
        (json!({"signed": "{json:/a}", "time": "json:/b"}), "time"),
        (json!({"time": "query:t"}), "time"),
        (json!({"signed": "{time}.{body}", "time": "header:X-Time", "unit": "us"}), "unit"),
        (json!({"unit": "ms"}), "unit"),
        (json!({"tolerance": 300}), "tolerance"),
        (json!({"signed": "{time}.{body}", "time": "header:X-Time", "tolerance": 0}), "tolerance"),
        (json!({"signed": "{time}.{body}", "time": "header:X-Time", "tolerance": 604_801}), "tolerance"),
        (json!({"each": "items", "sig": "json:/sig", "signed": "{json:/a}"}), "each"),
        (json!({"each": "/items", "signed": "{json:/a}"}), "sig"),
        (json!({"scheme": "token"}), "encoding"),
        (json!({"scheme": "token", "encoding": null, "signed": "{body}"}), "signed"),
        (json!({"scheme": "basic", "encoding": null, "time": "header:X-Time"}), "time"),
        (json!({"scheme": "none", "encoding": null}), "sig"),
    ] {
        let errors = Scheme::try_new(&raw(with(hmac(), change.clone()))).err().unwrap_or_default();
        let fields: Vec<_> = errors.iter().map(|error| error.field).collect();
        assert_eq!(fields, [field], "{change}: {errors:?}");
    }
}

#[test]
fn every_broken_rule_is_named_at_once() {
    let written = json!({"scheme": "hmac", "alg": "md5", "key": "rot13", "split": "", "signed": "{x}", "unit": "s"});
    let errors = Scheme::try_new(&raw(written)).unwrap_err();
    let fields: Vec<_> = errors.iter().map(|error| error.field).collect();
    for field in ["alg", "key", "sig", "split", "encoding", "signed", "unit"] {
        assert!(fields.contains(&field), "{field} of {fields:?}");
    }
    assert!(errors.iter().any(|error| error.detail.contains("{x} is not known")), "{errors:?}");
}

#[test]
fn a_time_in_the_signed_content_needs_no_placeholder() {
    for change in [
        json!({"time": "json:/t"}),
        json!({"time": "form:t"}),
        json!({"time": "query:t", "signed": "{url}{body}"}),
        json!({"time": "header:X-Time", "signed": "{header:x-time}{body}"}),
        json!({"time": "json:/t", "signed": "{json:/t}{json:/token}"}),
    ] {
        assert!(Scheme::try_new(&raw(with(hmac(), change.clone()))).is_ok(), "{change}");
    }
}

#[test]
fn secrets_are_checked_by_scheme_and_format() {
    let key = |fields: Value, text: &str| {
        scheme(with(hmac(), fields)).key(&Secret::new(text)).map(|key| key.is_short()).map_err(|error| error.field)
    };
    let (ok, short, no) = (Ok(false), Ok(true), Err("secrets"));
    let public = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
    let spki = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
    for (fields, text, expected) in [
        (json!({}), "sixteen letters!", ok),
        (json!({}), "fifteen letters", short),
        (json!({}), "eight ch", short),
        (json!({}), "seven c", no),
        (json!({}), "", no),
        (json!({}), " \t\n             ", no),
        (json!({}), "whsec_is a text here", ok),
        (json!({"key": "hex"}), "00112233445566778899aAbBcCdDeEfF", ok),
        (json!({"key": "hex"}), "0011223344556677", short),
        (json!({"key": "hex"}), "00112233445566", no),
        (json!({"key": "hex"}), "001122334455667", no),
        (json!({"key": "hex"}), "not hexadecimal!", no),
        (json!({"key": "base64"}), "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", ok),
        (json!({"key": "base64"}), "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", no),
        (json!({"key": "whsec"}), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", ok),
        (json!({"key": "whsec"}), "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", ok),
        (json!({"key": "whsec"}), "whsec_", no),
        (json!({"scheme": "ed25519", "key": "whpk"}), &format!("whpk_{public}"), ok),
        (json!({"scheme": "ed25519", "key": "whpk"}), public, ok),
        (json!({"scheme": "ed25519", "key": "base64"}), public, ok),
        (json!({"scheme": "ed25519", "key": "base64"}), "AAAA", no),
        (json!({"scheme": "ed25519", "key": "spki-base64"}), public, no),
        (json!({"scheme": "ecdsa-p256", "key": "spki-base64"}), spki, ok),
        (json!({"scheme": "ecdsa-p256", "key": "base64"}), spki, no),
        (json!({"scheme": "token", "encoding": null}), "t", ok),
        (json!({"scheme": "token", "encoding": null}), " ", no),
        (json!({"scheme": "basic", "encoding": null}), "user:pass:word", ok),
        (json!({"scheme": "basic", "encoding": null}), "user", no),
    ] {
        assert_eq!(key(fields.clone(), text), expected, "{fields} {text:?}");
    }
    assert!(scheme(hmac()).key_of_any_length(&Secret::new("12345")).is_ok());
    assert!(scheme(hmac()).key_of_any_length(&Secret::new(" ")).is_err());
    assert_eq!(format!("{:?}", scheme(hmac()).key(&secret()).unwrap()), "***");
}

#[test]
fn a_key_in_spki_has_one_encoding() {
    use data_encoding::BASE64;
    let ed25519 = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".as_slice();
    let p256 =
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"
            .as_slice();
    let (short, long) = ([9; 32], [&[4][..], &[9; 64]].concat());
    let detail = |name: &str, der: &[u8]| {
        let scheme = scheme(with(hmac(), json!({"scheme": name, "key": "spki-base64"})));
        scheme.key(&Secret::new(BASE64.encode(der))).err().map(|error| error.detail)
    };
    for (name, prefix, key, wrong) in [
        ("ed25519", ed25519, &short[..], "expected an Ed25519 key in SPKI"),
        ("ecdsa-p256", p256, &long, "expected a key on P-256 in SPKI"),
    ] {
        let good = [prefix, key].concat();
        assert_eq!(detail(name, &good), None);
        let wrong = Some(wrong.to_owned());
        for length in 1..good.len() {
            assert_eq!(detail(name, &good[..length]), wrong, "{name} {length}");
        }
        assert_eq!(detail(name, &[&good[..], &[0]].concat()), wrong, "{name}: something after it");
        for at in 0..prefix.len() {
            for bit in 0..8 {
                let mut other = good.clone();
                other[at] ^= 1 << bit;
                assert_eq!(detail(name, &other), wrong, "{name} {at} {bit}");
            }
        }
        // The same with a length in two bytes, which BER would allow.
        let longer = [&[0x30, 0x81, good[1]], &good[2..]].concat();
        assert_eq!(detail(name, &longer), wrong, "{name}");
    }
    let compressed = [p256, &[2], &[9; 64][..]].concat();
    let expected = "a public key on P-256 is an uncompressed point of 65 bytes";
    assert_eq!(detail("ecdsa-p256", &compressed).as_deref(), Some(expected));
    assert!(detail("ecdsa-p256", &[ed25519, &short].concat()).is_some());
    assert!(detail("ed25519", &[p256, &long].concat()).is_some());
}

#[test]
fn a_public_key_that_fits_every_signature_is_refused() {
    let scheme = scheme(with(hmac(), json!({"scheme": "ed25519", "key": "hex"})));
    let middle = "ff".repeat(30);
    for degenerate in [
        "00".repeat(32),
        format!("01{}", "00".repeat(31)),
        format!("{}80", "00".repeat(31)),
        format!("01{}80", "00".repeat(30)),
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05".into(),
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85".into(),
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a".into(),
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa".into(),
        format!("ec{middle}7f"),
        format!("ec{middle}ff"),
        format!("ed{middle}7f"),
        format!("ee{middle}7f"),
        format!("ff{middle}ff"),
    ] {
        assert!(scheme.key(&Secret::new(degenerate.as_str())).is_err(), "{degenerate}");
    }
    assert!(scheme.key(&Secret::new(format!("eb{middle}7f"))).is_ok());
}

#[test]
fn several_lists_of_any_separator_are_tried_one_by_one() {
    let document = |split: &str| {
        with(hmac(), json!({"split": split, "prefix": "v1=", "signed": "{time}.{body}", "time": "sig:t="}))
    };
    for split in [",", ";"] {
        let scheme = scheme(document(split));
        let mut request = signed(&scheme, "{}");
        let good = header(&request, "x-sig").rsplit_once("v1=").unwrap().1.to_owned();
        let other = "0".repeat(64);
        for value in [
            format!("t=1{split}v1={other} t={NOW_S}{split}v1={good}"),
            format!("t={NOW_S}{split} v1={good}  t=1{split} v1={other}"),
        ] {
            set(&mut request, "x-sig", &value);
            assert_eq!(check(&scheme, &request), Ok(()), "{value}");
        }
    }
}

#[test]
fn a_signature_is_looked_for_in_every_element_with_every_key() {
    let scheme = scheme(stripe());
    let mut request = signed(&scheme, "{}");
    let good = header(&request, "x-sig").split_once(",v1=").unwrap().1.to_owned();
    let other = "0".repeat(64);
    for (value, expected) in [
        (format!("t={NOW_S},v1={other},v1={good}"), Ok(())),
        (format!("t={NOW_S}, v1={good} ,v0={other}"), Ok(())),
        (format!("v1={good},t={NOW_S}"), Ok(())),
        (format!("t={NOW_S},v1={},x", good.to_uppercase()), Ok(())),
        (format!("t={NOW_S},t={NOW_S},v1={good}"), Ok(())),
        (format!("t={NOW_S},t=1,v1={good}"), Err(VerifyError::Ambiguous("sig:t=".into()))),
        (format!("t=1,v1={other} t={NOW_S},v1={good}"), Ok(())),
        (format!("t={NOW_S}, v1={good}  t={}, v1={other}", NOW_S + 1), Ok(())),
        (format!("t={},v1={good} t={NOW_S},v1={other}", NOW_S + 1), Err(VerifyError::Mismatch)),
        (format!("t={},v1={good}", NOW_S + 1), Err(VerifyError::Mismatch)),
        (format!("t={NOW_S},v1={other}"), Err(VerifyError::Mismatch)),
        (format!("v1={good}"), Err(VerifyError::Missing("sig:t=".into()))),
        (format!("t=,v1={good}"), Err(VerifyError::Missing("sig:t=".into()))),
    ] {
        set(&mut request, "x-sig", &value);
        assert_eq!(check(&scheme, &request), expected, "{value}");
        let rotated = check_with(&scheme, &["another secret", SECRET], &request, NOW);
        assert_eq!(rotated, expected, "{value}");
        assert!(check_with(&scheme, &["another secret"], &request, NOW).is_err());
        assert!(check_with(&scheme, &[], &request, NOW).is_err());
    }
    for value in [
        format!("t={NOW_S},v0={good}"),
        format!("t={NOW_S},v1="),
        format!("t={NOW_S},v1={}", &good[1..]),
        format!("t={NOW_S},v1={good}00"),
        format!("t={NOW_S},v1= {good}"),
        format!("t={NOW_S};v1={good}"),
        format!("t={NOW_S},V1={good}"),
        "i'm not a signature".to_owned(),
    ] {
        set(&mut request, "x-sig", &value);
        let form = VerifyError::NoSignature { location: "header:x-sig".into(), form: "v1=HEX".into() };
        assert_eq!(check(&scheme, &request), Err(form), "{value}");
    }
}

#[test]
fn nine_signatures_are_too_many() {
    let scheme = scheme(stripe());
    let mut request = signed(&scheme, "{}");
    let value = header(&request, "x-sig").to_owned();
    let more = |count: usize| format!("{value}{}", format!(",v1={}", "0".repeat(64)).repeat(count));
    set(&mut request, "x-sig", &more(7));
    assert_eq!(check(&scheme, &request), Ok(()));
    set(&mut request, "x-sig", &more(8));
    assert_eq!(check(&scheme, &request), Err(VerifyError::TooMany { location: "header:x-sig".into(), allowed: 8 }));
    set(&mut request, "x-sig", &format!("{value}{}", ",v0=x".repeat(50)));
    assert_eq!(check(&scheme, &request), Ok(()));
}

#[test]
fn a_header_with_two_different_values_is_refused() {
    let id = json!({"sig": "header:X-Sig", "signed": "{header:X-Id}.{time}.{body}", "time": "header:X-Time"});
    let scheme = scheme(with(hmac(), id));
    let mut request = outgoing("{}");
    set(&mut request, "x-id", "msg_1");
    scheme.sign(&secret(), &mut request, NOW).unwrap();
    assert_eq!(check(&scheme, &request), Ok(()));
    for name in ["x-sig", "x-id", "x-time"] {
        let mut twice = request.clone();
        twice.headers.append(name, request.headers[name].clone());
        assert_eq!(check(&scheme, &twice), Ok(()), "the same {name} twice says one thing");
        twice.headers.append(name, HeaderValue::from_static("other"));
        assert_eq!(check(&scheme, &twice), Err(VerifyError::Ambiguous(format!("the header {name}").into())));
        let mut without = request.clone();
        without.headers.remove(name);
        assert_eq!(check(&scheme, &without), Err(VerifyError::Missing(format!("header:{name}").into())));
        set(&mut without, name, "");
        assert_eq!(check(&scheme, &without), Err(VerifyError::Missing(format!("header:{name}").into())));
    }
}

#[test]
fn a_time_is_signed_as_written() {
    let scheme = scheme(with(
        hmac(),
        json!({"signed": "{time}{body}", "time": "header:X-Time", "unit": "rfc3339", "encoding": "base64"}),
    ));
    let mut request = signed(&scheme, "{}");
    assert_eq!(header(&request, "x-time"), "2024-03-21T10:00:00.000Z");
    set(&mut request, "x-time", "2024-03-21T10:00:00Z");
    assert_eq!(check(&scheme, &request), Err(VerifyError::Mismatch));
}

#[test]
fn a_time_in_the_signed_body_is_checked() {
    let scheme = scheme(with(hmac(), json!({"time": "json:/webhookTimestamp", "unit": "ms", "tolerance": 60})));
    let request = signed(&scheme, r#"{"webhookTimestamp":0,"a":1.10}"#);
    assert_eq!(request.body, format!(r#"{{"webhookTimestamp":{NOW_S}000,"a":1.10}}"#).as_bytes());
    let later = |ms| check_with(&scheme, &[SECRET], &request, Timestamp::from_millis(NOW_S * 1000 + ms));
    assert_eq!(later(60_000), Ok(()));
    assert_eq!(later(60_001), Err(VerifyError::TooOld { seconds: 61, allowed: 60 }));
    assert_eq!(later(-60_001), Err(VerifyError::TooNew { seconds: 61, allowed: 60 }));
    let mut forged = request.clone();
    forged.body = format!(r#"{{"webhookTimestamp":{}000,"a":1.10}}"#, NOW_S + 1).into();
    assert_eq!(check(&scheme, &forged), Err(VerifyError::Mismatch));
}

#[test]
fn a_signature_in_the_body_covers_the_fields_that_are_named() {
    let mailgun = json!({"sig": "json:/signature/signature", "signed": "{json:/signature/timestamp}{json:/signature/token}",
        "time": "json:/signature/timestamp", "tolerance": 900});
    let scheme = scheme(with(hmac(), mailgun));
    let request = signed(&scheme, r#"{"signature":{"token":"a\u0062","timestamp":"0"},"event-data":{"event":"x"}}"#);
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["signature"]["timestamp"], NOW_S.to_string(), "text stays text");
    let replaced = |from: &str, to: &str| {
        let mut other = request.clone();
        other.body = String::from_utf8(other.body).unwrap().replace(from, to).into();
        check(&scheme, &other)
    };
    assert_eq!(replaced("\"x\"", "\"y\""), Ok(()), "not signed, by design");
    assert_eq!(replaced("a\\u0062", "ab"), Ok(()), "the value is signed, not its spelling");
    assert_eq!(replaced("a\\u0062", "abc"), Err(VerifyError::Mismatch));
    assert_eq!(
        replaced("\"signature\":\"", "\"other\":\""),
        Err(VerifyError::Missing("json:/signature/signature".into()))
    );
    assert_eq!(replaced("{\"sig", "\"sig"), Err(VerifyError::Missing("json:/signature/signature".into())));
}

#[test]
fn each_element_is_signed_by_itself() {
    let adyen = json!({"key": "hex", "encoding": "base64", "each": "json:/items", "sig": "json:/item/sig",
        "signed": "{json:/item/id}:{json:/item/amount/value}:{json:/item/missing}:{json:/item/ok}"});
    let scheme = scheme(with(hmac(), adyen));
    let hex = Secret::new("44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056");
    let key = scheme.key(&hex).unwrap();
    let item = |id: &str| format!(r#"{{"item":{{"id":"{id}","amount":{{"value":1130}},"ok":true}}}}"#);
    let mut request = outgoing(&format!(r#"{{"items":[{},{}]}}"#, item("a"), item("b")));
    scheme.sign(&hex, &mut request, NOW).unwrap();
    let verify =
        |body: &str| scheme.verify([&key], None, &RequestParts { body: body.as_bytes(), ..request.request() }, NOW);
    let body = String::from_utf8(request.body.clone()).unwrap();
    assert_eq!(verify(&body), Ok(()));
    for changed in ["\"b\"", "1130", "true"] {
        let at = body.rfind(changed).unwrap();
        let other = format!(
            "{}{}{}",
            &body[..at],
            if changed == "1130" { "1131" } else { "\"c\"" },
            &body[at + changed.len()..]
        );
        assert_eq!(verify(&other), Err(VerifyError::Mismatch), "{changed}");
    }
    for (none, what) in [(r#"{"items":[]}"#, "json:/items"), ("{}", "json:/items"), (r#"{"items":{}}"#, "json:/items")]
    {
        assert_eq!(verify(none), Err(VerifyError::Missing(what.into())), "{none}");
    }
    let unsigned = format!(r#"{{"items":[{}]}}"#, item("a"));
    assert_eq!(verify(&unsigned), Err(VerifyError::Missing("json:/item/sig".into())));
}

#[test]
fn the_url_is_the_public_one_with_the_query_as_it_came() {
    let scheme = scheme(with(hmac(), json!({"signed": "{method}{url}{body}"})));
    assert!(scheme.needs_url());
    let mut request = outgoing("{}");
    request.query = Some("a=%2F&b".into());
    scheme.sign(&secret(), &mut request, NOW).unwrap();
    assert_eq!(check(&scheme, &request), Ok(()));
    let formatted = outgoing("POSThttps://hooks.example.com/in/a?a=%2F&b{}");
    let plain = self::scheme(hmac());
    let same = signed(&plain, std::str::from_utf8(&formatted.body).unwrap());
    assert_eq!(header(&same, "x-sig"), header(&request, "x-sig"));
    for query in [None, Some(""), Some("a=/&b"), Some("b&a=%2F")] {
        let other = OutgoingRequest { query: query.map(str::to_owned), ..request.clone() };
        assert_eq!(check(&scheme, &other), Err(VerifyError::Mismatch), "{query:?}");
    }
    let other = OutgoingRequest { method: "PUT".into(), ..request.clone() };
    assert_eq!(check(&scheme, &other), Err(VerifyError::Mismatch));
}

#[test]
fn some_sequences_of_a_url_are_decoded_once() {
    let unescaped = scheme(with(hmac(), json!({"signed": "{url:unescaped}"})));
    let mut request = outgoing("");
    request.query = Some("r=https%3A%2f%2Fa%20b%253A%3&x=%41%2C%".into());
    unescaped.sign(&secret(), &mut request, NOW).unwrap();
    let plain = signed(&scheme(hmac()), "https://hooks.example.com/in/a?r=https://a%20b%253A%3&x=%41,%");
    assert_eq!(header(&request, "x-sig"), header(&plain, "x-sig"));
}

#[test]
fn an_id_is_signed_at_its_configured_location() {
    let bare = scheme(with(hmac(), json!({"signed": "{id}.{body}"})));
    assert!(bare.needs_id() && !scheme(hmac()).needs_id());
    let mut request = outgoing(r#"{"n":7}"#);
    set(&mut request, "x-id", "msg_1");
    assert!(bare.sign(&secret(), &mut request, NOW).is_err());
    let scheme = bare.with_id(&["header:X-Id".parse().unwrap(), "json:/n".parse().unwrap()]);
    scheme.sign(&secret(), &mut request, NOW).unwrap();
    assert_eq!(check(&scheme, &request), Ok(()));
    assert_eq!(header(&request, "x-sig"), header(&signed(&self::scheme(hmac()), r#"msg_1:7.{"n":7}"#), "x-sig"));
    set(&mut request, "x-id", "msg_2");
    assert_eq!(check(&scheme, &request), Err(VerifyError::Mismatch));
    request.headers.remove("x-id");
    assert_eq!(check(&scheme, &request), Err(VerifyError::Missing("header:x-id".into())));
}

#[test]
fn each_template_signs_the_text_that_it_describes() {
    for (template, text) in [
        ("{body}", "B"),
        ("v0:{body}", "v0:B"),
        ("{body}{body}", "BB"),
        ("é{body}\u{1f512}", "éB\u{1f512}"),
        ("{{{body}}}", "{B}"),
        ("{{body}}{body}", "{body}B"),
        ("{{{{{body}", "{{B"),
        ("{body}}}", "B}"),
        ("}}{body}{{", "}B{"),
        (r#"{{"a":"{body}"}}"#, r#"{"a":"B"}"#),
    ] {
        let scheme = scheme(with(hmac(), json!({"signed": template})));
        let plain = signed(&self::scheme(hmac()), text);
        assert_eq!(header(&signed(&scheme, "B"), "x-sig"), header(&plain, "x-sig"), "{template}");
    }
    // A placeholder ends at the first closing brace, so the name of a JSON field may hold an opening one.
    let scheme = scheme(with(hmac(), json!({"signed": "{json:/a{{b}{json:/c{d}"})));
    let plain = signed(&self::scheme(hmac()), "12");
    assert_eq!(header(&signed(&scheme, r#"{"c{d":2,"a{{b":1}"#), "x-sig"), header(&plain, "x-sig"));
}

#[test]
fn an_invalid_template_is_refused_with_a_reason() {
    let braces = "a brace is not closed or not opened; {{ and }} stand for braces";
    for (template, words) in [
        ("{body", braces),
        ("{body}{", braces),
        ("body}", braces),
        ("{body}}", braces),
        ("}{body}", braces),
        ("{{body}", braces),
        ("{}{body}", "{} is not known; {body}, {time}, {id}, {method}, "),
        ("{ body}", "{ body} is not known; {body}, "),
        ("{Body}", "{Body} is not known; {body}, "),
        ("{a{body}", "{a{body} is not known; {body}, "),
        (r#"{"a":{body}}"#, r#"{"a":{body} is not known; {body}, "#),
        ("{header:a b}{body}", "{header:a b} is not known; {body}, "),
        ("{json:a}{body}", "{json:a} is not known; {body}, "),
    ] {
        let errors = Scheme::try_new(&raw(with(hmac(), json!({"signed": template})))).unwrap_err();
        assert_eq!(errors.iter().map(|error| error.field).collect::<Vec<_>>(), ["signed"], "{template}");
        assert!(errors[0].detail.starts_with(words), "{template}: {}", errors[0].detail);
    }
}

#[test]
fn a_signature_may_be_in_any_of_several_locations() {
    let scheme = scheme(with(hmac(), json!({"sig": ["header:X-Sig-1", "header:X-Sig-2"], "encoding": "base64"})));
    let mut request = signed(&scheme, "{}");
    let good = header(&request, "x-sig-1").to_owned();
    set(&mut request, "x-sig-2", &good);
    set(&mut request, "x-sig-1", "");
    assert_eq!(check(&scheme, &request), Ok(()));
    set(&mut request, "x-sig-1", "no base64");
    assert_eq!(check(&scheme, &request), Ok(()));
    request.headers.remove("x-sig-2");
    assert!(matches!(check(&scheme, &request), Err(VerifyError::NoSignature { .. })));
    request.headers.remove("x-sig-1");
    assert_eq!(check(&scheme, &request), Err(VerifyError::Missing("header:x-sig-1".into())));
}

#[test]
fn a_hash_is_over_the_key_and_the_text() {
    // SHA-256 of `yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy` and `{}`.
    let scheme = scheme(with(hmac(), json!({"scheme": "hash", "signed": "{key}{body}"})));
    let mut request = outgoing("{}");
    let key = Secret::new("yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy");
    scheme.sign(&key, &mut request, NOW).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, b"yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy{}");
    assert_eq!(header(&request, "x-sig"), data_encoding::HEXLOWER.encode(digest.as_ref()));
}

#[test]
fn only_equal_tokens_match() {
    let scheme = scheme(json!({"scheme": "token", "sig": "header:Authorization", "prefix": "Bearer "}));
    assert!(scheme.sends_secret());
    let mut request = signed(&scheme, "{}");
    assert_eq!(header(&request, "authorization"), format!("Bearer {SECRET}"));
    assert_eq!(check_with(&scheme, &["other", SECRET], &request, NOW), Ok(()));
    for value in ["Bearer", "Bearer a secret", "bearer a secret of the test", SECRET, "Bearer a secret of the test."] {
        set(&mut request, "authorization", value);
        assert_eq!(check(&scheme, &request), Err(VerifyError::Token), "{value}");
    }
    request.headers = HeaderMap::new();
    assert_eq!(check(&scheme, &request), Err(VerifyError::Missing("header:authorization".into())));
}

#[test]
fn each_element_has_its_token() {
    let scheme = scheme(json!({"scheme": "token", "sig": "json:/clientState", "each": "json:/value"}));
    let request = signed(&scheme, r#"{"value":[{"a":1},{"clientState":"x"}]}"#);
    let mut other = request.clone();
    other.body = br#"{"value":[{"clientState":"a secret of the test"},{"clientState":"a secret"}]}"#.to_vec();
    assert_eq!(check(&scheme, &other), Err(VerifyError::Token));
}

#[test]
fn a_password_may_hold_a_colon() {
    let scheme = scheme(json!({"scheme": "basic", "sig": "header:Authorization"}));
    let mut request = outgoing("{}");
    scheme.sign(&Secret::new("u:pa:ss"), &mut request, NOW).unwrap();
    assert_eq!(header(&request, "authorization"), "Basic dTpwYTpzcw==");
    let check = |request: &OutgoingRequest| check_with(&scheme, &["u:pa:ss"], request, NOW);
    assert_eq!(check(&request), Ok(()));
    set(&mut request, "authorization", "basic dTpwYTpzcw==");
    assert_eq!(check(&request), Ok(()));
    for value in [
        "Basic",
        "Basic ",
        "Basic dTpwYQ==",
        "Basic dTpwYTpzcw",
        "dTpwYTpzcw==",
        "Bearer dTpwYTpzcw==",
        "Basic u:pa:ss",
    ] {
        set(&mut request, "authorization", value);
        assert_eq!(check(&request), Err(VerifyError::Token), "{value}");
    }
}

#[test]
fn the_scheme_none_accepts_every_request() {
    let scheme = scheme(json!({"scheme": "none"}));
    assert!(!scheme.needs_secret());
    assert_eq!(check_with(&scheme, &[], &outgoing("{}"), NOW), Ok(()));
}

#[test]
fn signatures_of_other_programs_are_accepted() {
    // RFC 8032 section 7.1, tests 2 and 3: seed, public key, message, signature.
    let rfc = [
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            &[0x72][..],
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            &[0xaf, 0x82],
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    let scheme = scheme(with(hmac(), json!({"scheme": "ed25519", "key": "hex"})));
    for (seed, public, message, signature) in rfc {
        let mut request = outgoing("");
        request.body = message.to_vec();
        scheme.sign(&Secret::new(seed), &mut request, NOW).unwrap();
        assert_eq!(header(&request, "x-sig"), signature);
        assert_eq!(scheme.verifying_secret(&Secret::new(seed)).unwrap().reveal(), public);
        assert_eq!(check_with(&scheme, &[public], &request, NOW), Ok(()));
        // The same signature with the group's order added to S, which a lax reader takes too.
        let order = [0xedu8, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14];
        let mut bytes = data_encoding::HEXLOWER.decode(signature.as_bytes()).unwrap();
        let mut carry = 0;
        for (i, byte) in bytes[32..].iter_mut().enumerate() {
            let addend = if i == 31 { 0x10 } else { order.get(i).copied().unwrap_or(0) };
            let sum = u16::from(*byte) + u16::from(addend) + carry;
            (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
        }
        set(&mut request, "x-sig", &data_encoding::HEXLOWER.encode(&bytes));
        assert_eq!(check_with(&scheme, &[public], &request, NOW), Err(VerifyError::Mismatch));
    }
}

#[test]
fn only_the_provider_signs_by_certificate() {
    for (name, code) in [("paypal", "code:paypal"), ("sns", "code:sns")] {
        let scheme = scheme(json!({"scheme": code}));
        assert_eq!(scheme.sign(&secret(), &mut outgoing("{}"), NOW), Err(SignError::ProviderOnly(name)));
    }
}

#[test]
fn a_scheme_in_code_refuses_what_it_does_not_follow() {
    let wrong = |raw: Value| -> Vec<&'static str> {
        let errors = Scheme::try_new(&serde_json::from_value(raw).unwrap()).err().unwrap_or_default();
        errors.iter().map(|error| error.field).collect()
    };
    let none: [&str; 0] = [];
    for (raw, fields) in [
        (json!({"scheme": "code:twilio"}), &none[..]),
        (json!({"scheme": "code:twilio", "sig": "header:X-TWILIO-signature"}), &none),
        (json!({"scheme": "code:twilio", "sig": "header:X-Mandrill-Signature"}), &["sig"]),
        (json!({"scheme": "code:mandrill", "sig": "header:X-Mandrill-Signature"}), &none),
        (json!({"scheme": "code:braintree", "sig": ["form:bt_signature", "form:sig"]}), &["sig"]),
        (json!({"scheme": "code:sns", "sig": "json:/Signature", "time": "json:/Timestamp"}), &["time"]),
        (json!({"scheme": "code:paypal", "time": "header:PayPal-Transmission-Time", "unit": "rfc3339"}), &none),
        (json!({"scheme": "code:contentful", "time": "header:X-Time"}), &["time"]),
        (
            json!({"scheme": "code:twilio", "split": ",", "prefix": "v1=", "encoding": "hex", "signed": "{body}", "each": "/a"}),
            &["split", "prefix", "encoding", "signed", "each"],
        ),
    ] {
        assert_eq!(wrong(raw.clone()), fields, "{raw}");
    }
}

#[test]
fn twilio_signs_forms_by_their_fields_and_other_bodies_by_their_digest() {
    let scheme = scheme(json!({"scheme": "code:twilio"}));
    assert!(scheme.needs_url());
    for (kind, body, other) in [
        ("application/json", r#"{"EventType":"onMessageAdded"}"#, r#"{"EventType":"onMessageRemoved"}"#),
        ("application/x-www-form-urlencoded", "To=%2B1800&From=%2B1415&To=%2B1800", "To=%2B1801&From=%2B1415"),
        ("application/json", "", "{}"),
    ] {
        let mut request = outgoing(body);
        request.query = Some("a=1&bodySHA256=old".into()).filter(|_| !body.is_empty());
        set(&mut request, "content-type", kind);
        scheme.sign(&secret(), &mut request, NOW).unwrap();
        assert_eq!(check(&scheme, &request), Ok(()), "{request:?}");
        let changed = OutgoingRequest { body: other.into(), ..request.clone() };
        assert!(check(&scheme, &changed).is_err(), "{changed:?}");
        let moved = OutgoingRequest { url: "https://hooks.example.com/in/b".into(), ..request.clone() };
        assert_eq!(check(&scheme, &moved), Err(VerifyError::Mismatch));
    }
}

#[test]
fn values_are_written_where_they_can_be() {
    let query = scheme(with(hmac(), json!({"sig": "query:sig", "signed": "{time}.{body}", "time": "query:t"})));
    let mut request = outgoing("{}");
    request.query = Some("a=%2F&t=old&sig=x".into());
    query.sign(&secret(), &mut request, NOW).unwrap();
    assert!(request.query.as_ref().unwrap().starts_with(&format!("a=%2F&t={NOW_S}&sig=")), "{request:?}");
    assert_eq!(check(&query, &request), Ok(()));
    let form = scheme(with(hmac(), json!({"time": "form:t"})));
    assert_eq!(signed(&form, "a=+&t=1").body, format!("a=+&t={NOW_S}").as_bytes());
    let body = scheme(with(hmac(), json!({"time": "json:/t"})));
    let not_json = body.sign(&secret(), &mut outgoing("[]"), NOW);
    assert_eq!(not_json, Err(SignError::UnwritableLocation("json:/t".into())));
}

/// Else `a`, `1` and `2.body` would be signed like `a.1`, `2` and `body`.
#[test]
fn an_id_does_not_contain_its_separator() {
    let standard = json!({ "signed": "{header:X-Id}.{body}" });
    let plain = json!({ "signed": "{header:X-Id}{body}" });
    for (fields, id, verdict) in [
        (&standard, "msg_1", Ok(())),
        (&standard, "msg.1", Err(VerifyError::Separator("header:x-id".into()))),
        (&plain, "msg.1", Ok(())),
    ] {
        let scheme = scheme(with(hmac(), fields));
        let mut request = outgoing("{}");
        set(&mut request, "x-id", id);
        let dot = if fields == &standard { "." } else { "" };
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
        let signature = ring::hmac::sign(&key, format!("{id}{dot}{{}}").as_bytes());
        set(&mut request, "x-sig", &data_encoding::HEXLOWER.encode(signature.as_ref()));
        assert_eq!(check(&scheme, &request), verdict, "{id}");
    }
}
