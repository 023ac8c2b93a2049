//! Property tests: every scheme verifies what it signs, and refuses a request with one changed bit.

use http::header::HeaderValue;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

use super::*;
use crate::model::{Secret, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_711_015_200_120);

/// A scheme with a secret for it.
#[derive(Debug, Clone)]
struct Trial {
    raw: RawScheme,
    secret: String,
}

fn p256() -> String {
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
    data_encoding::BASE64.encode(pair.as_ref())
}

/// (scheme, alg, key, the secret's text)
fn methods() -> impl Strategy<Value = (&'static str, Option<&'static str>, &'static str, String)> {
    let bytes = proptest::collection::vec(any::<u8>(), 32..40);
    (select(vec!["hmac", "hash", "ed25519", "ecdsa-p256"]), select(vec!["sha1", "sha256", "sha512"]), 0..4usize, bytes)
        .prop_map(|(scheme, alg, form, bytes)| {
            let (hex, base64) = (data_encoding::HEXLOWER.encode(&bytes), data_encoding::BASE64.encode(&bytes));
            match scheme {
                "ed25519" => {
                    let seed = format!("whsk_{}", data_encoding::BASE64.encode(&bytes[..32]));
                    (scheme, None, ["hex", "base64", "whpk", "spki-base64"][form], seed)
                }
                "ecdsa-p256" => (scheme, None, ["hex", "base64", "spki-base64", "hex"][form], p256()),
                _ => {
                    let text = [hex.clone(), hex, base64.clone(), format!("whsec_{base64}")][form].clone();
                    (scheme, Some(alg), ["utf8", "hex", "base64", "whsec"][form], text)
                }
            }
        })
}

fn trials() -> impl Strategy<Value = Trial> {
    let parts = select(vec![
        "{body}",
        "{header:x-id}{body}",
        "v0:{method} {url}:{body}",
        "{url:unescaped}{body}{header:x-no|x-id}",
    ]);
    let times = select(vec![None, Some("header:x-time"), Some("sig:t="), Some("query:t")]);
    let marks = (select(vec!["", "v1=", "sha256="]), select(vec![None, Some(","), Some(";"), Some(" ")]));
    (methods(), marks, select(vec!["hex", "base64", "base64url"]), parts, times, select(vec!["s", "ms", "rfc3339"]))
        .prop_map(|((scheme, alg, key, secret), (prefix, split), encoding, parts, time, unit)| {
            let time = if split.is_none() && time == Some("sig:t=") { None } else { time };
            let key_part = if scheme == "hash" { "{key}" } else { "" };
            let time_part = if time.is_some() { "{time}." } else { "" };
            let some = |text: &str| Some(text.to_owned());
            let raw = RawScheme {
                jwt: None,
                scheme: scheme.into(),
                alg: alg.map(str::to_owned),
                key: some(key),
                sig: Some(OneOrMany::One("header:x-sig".into())),
                split: split.map(str::to_owned),
                prefix: some(prefix),
                encoding: some(encoding),
                signed: Some(format!("{key_part}{time_part}{parts}")),
                time: time.map(str::to_owned),
                unit: time.and_then(|_| some(unit)),
                tolerance: time.map(|_| 604_800),
                each: None,
            };
            Trial { raw, secret }
        })
}

/// The part of a request in which one bit is changed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    Body,
    Header(&'static str),
    Query,
    Url,
    Method,
}

fn flip(bytes: &[u8], at: Index) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    let bit = at.index(flipped.len() * 8);
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

/// The request with one bit changed; `None` if the target is not there, or the result is no request.
fn changed(request: &OutgoingRequest, target: Target, at: Index) -> Option<OutgoingRequest> {
    let mut other = request.clone();
    let text = |text: &str| if text.is_empty() { None } else { String::from_utf8(flip(text.as_bytes(), at)).ok() };
    match target {
        Target::Body if request.body.is_empty() => return None,
        Target::Body => other.body = flip(&request.body, at),
        Target::Header(name) => {
            let value = flip(request.headers.get(name)?.as_bytes(), at);
            other.headers.insert(name, HeaderValue::from_bytes(&value).ok()?);
        }
        Target::Query => other.query = Some(text(request.query.as_deref()?)?),
        Target::Url => other.url = text(&request.url)?,
        Target::Method => other.method = text(&request.method)?,
    }
    Some(other)
}

/// Whether the scheme must detect the change.
fn is_covered(raw: &RawScheme, target: Target) -> bool {
    let signed = raw.signed.as_deref().unwrap_or_default();
    match target {
        Target::Body | Target::Header("x-sig") => true,
        Target::Header("x-id") => signed.contains("x-id"),
        Target::Header(_) => raw.time.as_deref() == Some("header:x-time"),
        Target::Query | Target::Url => signed.contains("{url"),
        Target::Method => signed.contains("{method}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_signed_is_verified_and_nothing_else(
        trial in trials(), body in proptest::collection::vec(any::<u8>(), 0..80),
        targets in proptest::collection::vec((select(vec![
            Target::Body, Target::Header("x-sig"), Target::Header("x-id"), Target::Header("x-time"), Target::Query,
            Target::Url, Target::Method,
        ]), any::<Index>()), 1..8),
    ) {
        let scheme = Scheme::try_new(&trial.raw).unwrap();
        let secret = Secret::new(trial.secret.as_str());
        let mut request = OutgoingRequest {
            method: "POST".into(),
            url: "https://hooks.example.com/in%3A/a".into(),
            query: Some("x=%3a%41&y".into()),
            body,
            ..OutgoingRequest::default()
        };
        request.headers.insert("x-id", HeaderValue::from_static("msg_1"));
        scheme.sign(&secret, &mut request, NOW).unwrap();
        let key = scheme.key(&scheme.verifying_secret(&secret).unwrap()).unwrap();
        let check = |request: &OutgoingRequest| scheme.verify([&key], None, &request.request(), NOW);
        prop_assert_eq!(check(&request), Ok(()));

        for (target, at) in targets {
            let Some(other) = changed(&request, target, at).filter(|_| is_covered(&trial.raw, target)) else { continue };
            let sig = |request: &OutgoingRequest| request.headers["x-sig"].as_bytes().to_ascii_lowercase();
            // Digits in the other case are the same signature, and a sequence that is decoded before it is signed may be
            // written so or so.
            let is_same = match target {
                Target::Header("x-sig") => trial.raw.encoding.as_deref() == Some("hex") && sig(&other) == sig(&request),
                Target::Query | Target::Url => {
                    trial.raw.signed.as_deref().is_some_and(|signed| signed.contains("{url:unescaped}"))
                }
                _ => false,
            };
            if !is_same {
                prop_assert!(check(&other).is_err(), "{:?} of {:?}", target, other);
            }
        }
    }

    #[test]
    fn another_secret_verifies_nothing(trial in trials(), other in trials(), body in ".{0,20}") {
        let scheme = Scheme::try_new(&trial.raw).unwrap();
        let mut request = OutgoingRequest { method: "POST".into(), body: body.into(), ..OutgoingRequest::default() };
        request.headers.insert("x-id", HeaderValue::from_static("msg_1"));
        scheme.sign(&Secret::new(trial.secret.as_str()), &mut request, NOW).unwrap();
        let Ok(key) = scheme.key(&Secret::new(other.secret.as_str())) else { return Ok(()) };
        prop_assert_eq!(scheme.verify([&key], None, &request.request(), NOW), Err(VerifyError::Mismatch));
    }

    #[test]
    fn no_request_panics(
        trial in trials(), sig in proptest::collection::vec(32..=255u8, 0..200), time in "[ -~]{0,30}",
        id in "[ -~]{0,30}", query in proptest::option::of(".{0,30}"), body in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let scheme = Scheme::try_new(&trial.raw).unwrap();
        let Ok(key) = scheme.verifying_secret(&Secret::new(trial.secret.as_str())).map(|text| scheme.key(&text).unwrap()) else {
            return Ok(());
        };
        let mut request = OutgoingRequest { method: "POST".into(), query, body, ..OutgoingRequest::default() };
        for (name, value) in [("x-sig", &sig[..]), ("x-time", time.as_bytes()), ("x-id", id.as_bytes())] {
            if let Ok(value) = HeaderValue::from_bytes(value) { request.headers.insert(name, value); }
        }
        prop_assert!(scheme.verify([&key], None, &request.request(), NOW).is_err());
    }

    #[test]
    fn no_scheme_panics(
        fields in proptest::collection::vec(proptest::option::of(prop_oneof![
            ".{0,12}",
            select(vec!["hmac", "hex", "whsec", "json:/a", "header:a|b", ",", "v1=", "{body}{time}", "{json:/a}{{", "sig:t=", "ms", "token"])
                .prop_map(str::to_owned),
        ]), 10..=10),
        tolerance in proptest::option::of(any::<u64>()), body in ".{0,30}",
    ) {
        let mut fields = fields.into_iter();
        let mut next = || fields.next().flatten();
        let raw = RawScheme {
            jwt: None,
            scheme: next().unwrap_or_else(|| "hmac".into()),
            alg: next(),
            key: next(),
            sig: next().map(|text| OneOrMany::Many(vec![text])),
            split: next(),
            prefix: next(),
            encoding: next(),
            signed: next(),
            time: next(),
            unit: None,
            tolerance,
            each: next(),
        };
        if let Ok(scheme) = Scheme::try_new(&raw) {
            let mut request = OutgoingRequest { method: "POST".into(), body: body.into(), ..OutgoingRequest::default() };
            let secret = Secret::new("00112233445566778899aabbccddeeff");
            if scheme.sign(&secret, &mut request, NOW).is_ok() && let Ok(key) = scheme.key(&secret) {
                let _ = scheme.verify([&key], None, &request.request(), NOW);
            }
        }
    }
}
