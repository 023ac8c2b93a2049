//! The three schemes against requests of the providers' own libraries and of PayPal itself, and against their mutations.
//!
//! `tests/data/certificates` holds what the providers' libraries made (`vectors.jsonl`; those of others are read where they
//! are), and a chain that was made for these tests: `chain.pem` is `leaf.key`'s certificate and the intermediate that signed
//! it, `root.pem` signed that; `other-name.pem` is the same key under names that are not PayPal's, `elliptic.pem` a
//! certificate with another kind of key.

use std::fs;
use std::path::{Path, PathBuf};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::Value;

use super::certificate::SignatureDigest;
use super::sns::SnsMessage;
use super::*;

/// 2026-05-28T20:26:40Z.
const NOW: Timestamp = Timestamp::from_millis(1_780_000_000_000);
const CERTIFICATE_URL: &str = "https://api.paypal.com/v1/notifications/certs/CERT-1";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/certificates").join(name)
}

fn pem(name: &str) -> Vec<u8> {
    fs::read(data(name)).unwrap()
}

fn headers<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

fn request<'a>(url: &'a str, headers: &'a HeaderMap, body: &'a [u8]) -> RequestParts<'a> {
    let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
    RequestParts { method: "POST", url, query, path: "", headers, body }
}

fn check(
    which: CodeScheme,
    keys: &[&str],
    certificate: Option<&Certificate>,
    request: &RequestParts<'_>,
    now: Timestamp,
) -> Result<(), VerifyError> {
    let keys: Vec<Secret> = keys.iter().map(|key| Secret::new(*key)).collect();
    verify(which, &keys.iter().collect::<Vec<_>>(), certificate, request, now, PAYPAL_TOLERANCE)
}

/// One line of a file of vectors, checked as a source would: the verdict.
fn judge(vector: &Value) -> Result<(), VerifyError> {
    let text = |name: &str| vector[name].as_str().unwrap_or_default();
    let headers = headers(vector["headers"].as_object().unwrap().iter().map(|(n, v)| (&**n, v.as_str().unwrap())));
    let body = BASE64.decode(text("body_base64").as_bytes()).unwrap();
    let request = RequestParts { method: text("method"), ..request(text("url"), &headers, &body) };
    let now = vector["at"].as_i64().map_or(NOW, |at| Timestamp::from_millis(at * 1000));
    match text("recipe") {
        "twilio" => check(CodeScheme::Twilio, &[text("key")], None, &request, now),
        kind => {
            let certificate = Certificate::from_pem(text("key").as_bytes()).unwrap();
            let (which, keys) = match kind {
                "paypal" => (CodeScheme::Paypal, vec![vector["params"]["webhook_id"].as_str().unwrap()]),
                _ => (CodeScheme::Sns, vec![]),
            };
            certificate_url(which, &request)?;
            check(which, &keys, Some(&certificate), &request, now)
        }
    }
}

#[test]
fn every_vector_gets_its_verdict() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/vectors.jsonl");
    let mut files = vec![(data("vectors.jsonl"), 9)];
    if shared.exists() {
        files.push((shared, 33));
    }
    for (file, at_least) in files {
        let mut count = 0;
        for line in fs::read_to_string(&file).unwrap().lines() {
            let vector: Value = serde_json::from_str(line).unwrap();
            if !matches!(vector["recipe"].as_str(), Some("twilio" | "paypal" | "aws-sns")) {
                continue;
            }
            count += 1;
            let expected = vector["recommended"].as_str().or(vector["expect"].as_str()).unwrap();
            let got = judge(&vector);
            assert_eq!(got.is_ok(), expected == "accept", "{}: {got:?}", vector["id"]);
        }
        assert!(count >= at_least, "{}: {count}", file.display());
    }
}

fn vector(id: &str) -> Value {
    let text = fs::read_to_string(data("vectors.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|line| line["id"] == id).unwrap()
}

// --- Twilio --------------------------------------------------------------------------------------------------------

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded; charset=UTF-8");

#[test]
fn what_is_signed_for_twilio_verifies_and_nothing_else_does() {
    let (url, body) = ("https://hooks.example.com/in/sms?a=1", b"To=%2B18&Body=hi+there&To=%2B17".as_slice());
    let signature = sign_twilio(&Secret::new("token"), url, Some(body));
    let verdict = |url: &str, body: &[u8], tokens: &[&str], signature: &str| {
        let headers = headers([FORM, ("x-twilio-signature", signature)]);
        check(CodeScheme::Twilio, tokens, None, &request(url, &headers, body), NOW)
    };
    assert_eq!(verdict(url, body, &["token"], &signature), Ok(()));
    assert_eq!(verdict(url, body, &["old", "token"], &signature), Ok(()));
    assert_eq!(verdict("https://hooks.example.com:443/in/sms?a=1", body, &["token"], &signature), Ok(()));
    // The order and repetition of fields are not signed, everything else is.
    assert_eq!(verdict(url, b"To=%2B17&To=%2B17&Body=hi%20there&To=%2B18", &["token"], &signature), Ok(()));
    for (url, body, tokens, given) in [
        ("https://hooks.example.com/in/sms?a=2", body, &["token"][..], &*signature),
        ("https://hooks.example.com/in/sms", body, &["token"], &signature),
        ("http://hooks.example.com/in/sms?a=1", body, &["token"], &signature),
        (url, b"To=%2B18&Body=hi+there", &["token"], &signature),
        (url, b"To=%2B18&Body=hi+there&To=%2B17&x=", &["token"], &signature),
        (url, b"", &["token"], &signature),
        (url, body, &["Token"], &signature),
        (url, body, &[], &signature),
        (url, body, &["token"], &signature[..24]),
        (url, body, &["token"], "AAAA"),
    ] {
        let verdict = verdict(url, body, tokens, given);
        assert!(matches!(verdict, Err(VerifyError::Mismatch | VerifyError::NoSignature { .. })), "{verdict:?}");
    }
}

#[test]
fn each_bit_of_a_twilio_request_counts() {
    let body = br#"{"EventType":"onMessageAdded"}"#;
    let url = format!("https://hooks.example.com/in/twilio?{}", body_hash(body));
    let signature = sign_twilio(&Secret::new("token"), &url, None);
    let verdict = |body: &[u8], signature: &str| {
        let headers = headers([("content-type", "application/json"), ("x-twilio-signature", signature)]);
        check(CodeScheme::Twilio, &["token"], None, &request(&url, &headers, body), NOW)
    };
    assert_eq!(verdict(body, &signature), Ok(()));
    for bit in 0..body.len() * 8 {
        let mut other = body.to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verdict(&other, &signature), Err(VerifyError::Mismatch));
    }
    let raw = BASE64.decode(signature.as_bytes()).unwrap();
    for bit in 0..raw.len() * 8 {
        let mut other = raw.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verdict(body, &BASE64.encode(&other)), Err(VerifyError::Mismatch));
    }
}

#[test]
fn a_body_that_is_no_form_must_be_named_by_the_url() {
    let token = Secret::new("token");
    let verdict = |url: &str, body: &[u8], kind: Option<&str>| {
        let signature = sign_twilio(&token, url, None);
        let headers =
            headers(kind.map(|kind| ("content-type", kind)).into_iter().chain([("x-twilio-signature", &*signature)]));
        check(CodeScheme::Twilio, &["token"], None, &request(url, &headers, body), NOW)
    };
    let at = |query: &str| format!("https://hooks.example.com/in/twilio{query}");
    let hash = body_hash(b"{}");
    assert_eq!(verdict(&at(&format!("?{}", hash.to_uppercase().replace("BODY", "body"))), b"{}", None), Ok(()));
    assert_eq!(verdict(&at(""), b"", None), Ok(()));
    let missing = Err(VerifyError::Missing("query:bodySHA256".into()));
    assert_eq!(verdict(&at(""), b"{}", Some("application/json")), missing);
    assert_eq!(verdict(&at(""), b"{}", None), missing);
    assert_eq!(verdict(&at(""), b"{}", Some("text/plain")), missing);
    assert_eq!(verdict(&at(&format!("?{hash}")), b"{ }", None), Err(VerifyError::Mismatch));
    assert_eq!(verdict(&at(&format!("?{hash}")), b"", None), Err(VerifyError::Mismatch));
    assert_eq!(verdict(&at("?bodySHA256="), b"{}", None), Err(VerifyError::Mismatch));
    assert_eq!(verdict(&at("?bodySHA256=%zz"), b"{}", None), Err(VerifyError::Mismatch));
    let twice = at(&format!("?{hash}&{}", body_hash(b"[]")));
    assert_eq!(verdict(&twice, b"{}", None), Err(VerifyError::Ambiguous("query:bodySHA256".into())));
}

#[test]
fn headers_that_are_missing_or_doubtful_are_named() {
    let verdict = |pairs: &[(&str, &str)]| {
        let headers = headers(pairs.iter().copied());
        check(CodeScheme::Twilio, &["token"], None, &request("https://hooks.example.com/", &headers, b""), NOW)
    };
    let name = "x-twilio-signature";
    assert_eq!(verdict(&[]), Err(VerifyError::Missing(name.into())));
    assert_eq!(verdict(&[(name, "")]), Err(VerifyError::Missing(name.into())));
    assert_eq!(verdict(&[(name, "ü")]), Err(VerifyError::Missing(name.into())));
    assert_eq!(verdict(&[(name, "AAAA"), (name, "AAAB")]), Err(VerifyError::Ambiguous(name.into())));
    assert_eq!(verdict(&[(name, "AAAA"), (name, "AAAA")]), Err(VerifyError::Mismatch));
    let none = Err(VerifyError::NoSignature { location: name.into(), form: "base64".into() });
    // Without padding, in the URL alphabet, and with unused bits.
    for bad in ["AAA", "AA-_", "AAB=", "%%%%"] {
        assert_eq!(verdict(&[(name, bad)]), none, "{bad}");
    }
}

// --- PayPal --------------------------------------------------------------------------------------------------------

fn rsa_sign(message: &[u8]) -> String {
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem("leaf.key")).unwrap();
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
    BASE64.encode(&signature)
}

/// A request of PayPal's, signed by the test's own key, with some headers changed afterwards.
fn paypal_headers(time: &str, body: &[u8], changed: &[(&str, &str)]) -> HeaderMap {
    let signature = rsa_sign(format!("t-1|{time}|WH-1|{}", crc32fast::hash(body)).as_bytes());
    let mut map = headers([
        ("paypal-transmission-id", "t-1"),
        ("paypal-transmission-time", time),
        ("paypal-transmission-sig", &*signature),
        ("paypal-cert-url", CERTIFICATE_URL),
        ("paypal-auth-algo", "SHA256withRSA"),
    ]);
    for (name, value) in changed {
        map.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    map
}

fn paypal_at(time: &str, changed: &[(&str, &str)], certificate: &Certificate) -> Result<(), VerifyError> {
    let headers = paypal_headers(time, b"{}", changed);
    check(
        CodeScheme::Paypal,
        &["WH-0", "WH-1"],
        Some(certificate),
        &request("https://hooks.example.com/", &headers, b"{}"),
        NOW,
    )
}

#[test]
fn paypal_s_time_is_kept_to_on_both_sides() {
    let pinned = Certificate::from_pem(&pem("chain.pem")).unwrap();
    for (time, verdict) in [
        ("2026-05-28T20:26:40Z", Ok(())),
        ("2026-05-28T22:26:40.000+02:00", Ok(())),
        ("2026-05-28T20:21:40Z", Ok(())),
        ("2026-05-28T20:31:40Z", Ok(())),
        ("2026-05-28T20:21:39Z", Err(VerifyError::TooOld { seconds: 301, allowed: 300 })),
        ("2026-05-28T20:21:39.999Z", Err(VerifyError::TooOld { seconds: 301, allowed: 300 })),
        ("2026-05-28T20:31:41Z", Err(VerifyError::TooNew { seconds: 301, allowed: 300 })),
        ("1780000000", Err(VerifyError::Time { location: "paypal-transmission-time".into(), unit: "RFC 3339" })),
        ("2026-05-28", Err(VerifyError::Time { location: "paypal-transmission-time".into(), unit: "RFC 3339" })),
    ] {
        assert_eq!(paypal_at(time, &[], &pinned), verdict, "{time}");
    }
}

#[test]
fn each_header_of_paypal_s_counts() {
    let time = "2026-05-28T20:26:40Z";
    let pinned = Certificate::from_pem(&pem("chain.pem")).unwrap();
    let verdict = |name, value| paypal_at(time, &[(name, value)], &pinned);
    assert_eq!(verdict("x-other", "1"), Ok(()));
    assert_eq!(verdict("paypal-transmission-id", "t-2"), Err(VerifyError::Mismatch));
    assert_eq!(verdict("paypal-transmission-time", "2026-05-28T20:26:41Z"), Err(VerifyError::Mismatch));
    assert_eq!(verdict("paypal-transmission-sig", "AAAA"), Err(VerifyError::Mismatch));
    assert!(matches!(verdict("paypal-transmission-sig", "?"), Err(VerifyError::NoSignature { .. })));
    for algorithm in ["SHA1withRSA", "sha256withrsa", "none"] {
        assert!(matches!(verdict("paypal-auth-algo", algorithm), Err(VerifyError::NoSignature { .. })), "{algorithm}");
    }
    let elsewhere = "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1";
    assert!(matches!(verdict("paypal-cert-url", elsewhere), Err(VerifyError::Certificate(_))));
    for name in ["paypal-transmission-id", "paypal-transmission-time", "paypal-transmission-sig"] {
        assert_eq!(verdict(name, ""), Err(VerifyError::Missing(name.into())));
    }
    let headers = paypal_headers(time, b"{}", &[]);
    let of = |body: &'static [u8], ids: &[&str], certificate| {
        check(CodeScheme::Paypal, ids, certificate, &request("https://hooks.example.com/", &headers, body), NOW)
    };
    assert_eq!(of(b"{}", &["WH-1"], Some(&pinned)), Ok(()));
    assert_eq!(of(b"{ }", &["WH-1"], Some(&pinned)), Err(VerifyError::Mismatch));
    assert_eq!(of(b"{}", &["WH-2"], Some(&pinned)), Err(VerifyError::Mismatch));
    assert_eq!(of(b"{}", &[], Some(&pinned)), Err(VerifyError::Mismatch));
    assert!(matches!(of(b"{}", &["WH-1"], None), Err(VerifyError::Certificate(_))));
}

// --- Certificates --------------------------------------------------------------------------------------------------

#[test]
fn a_fetched_certificate_must_be_of_the_domain_and_of_a_known_authority() {
    let time = "2026-05-28T20:26:40Z";
    let reason = |certificate: &Certificate| match paypal_at(time, &[], certificate) {
        Err(VerifyError::Certificate(why)) => why.into_string(),
        other => format!("{other:?}"),
    };
    // This one came with a chain, to an authority that only this test knows.
    let chain = Certificate::fetched(&pem("chain.pem")).unwrap();
    assert!(reason(&chain).starts_with("its chain leads to no known authority"), "{}", reason(&chain));
    // And one that came alone has only its host to speak for it.
    let text = String::from_utf8(pem("chain.pem")).unwrap();
    let alone = text.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    assert_eq!(paypal_at(time, &[], &Certificate::fetched(alone.as_bytes()).unwrap()), Ok(()));
    let other = Certificate::fetched(&pem("other-name.pem")).unwrap();
    assert_eq!(reason(&other), "it is not one for *.paypal.com");
    // What a person put into the settings is believed.
    assert_eq!(paypal_at(time, &[], &Certificate::from_pem(&pem("other-name.pem")).unwrap()), Ok(()));
}

#[test]
fn a_chain_is_checked_up_to_an_authority() {
    let root = CertificateDer::from_pem_slice(&pem("root.pem")).unwrap();
    let anchors = [webpki::anchor_from_trusted_cert(&root).unwrap()];
    let chain = Certificate::from_pem(&pem("chain.pem")).unwrap();
    assert_eq!(chain.check_chain(&anchors, NOW), Ok(()));
    let at = |text: &str| chain.check_chain(&anchors, text.parse().unwrap()).is_ok();
    assert!(at("2020-01-01T00:00:00Z") && at("2119-12-31T23:59:59Z"));
    assert!(!at("2019-12-31T23:59:59Z") && !at("2120-01-01T00:00:01Z"));
    assert!(chain.check_chain(webpki_roots::TLS_SERVER_ROOTS, NOW).is_err());
    assert!(chain.check_chain(&[], NOW).is_err());
    // The intermediate is missing.
    assert!(Certificate::from_pem(&pem("other-name.pem")).unwrap().check_chain(&anchors, NOW).is_err());
}

#[test]
fn a_certificate_ends() {
    let chain = Certificate::from_pem(&pem("chain.pem")).unwrap();
    assert_eq!(chain.not_after().to_string(), "2120-01-01T00:00:00.000Z");
    let verdict = |at: &str| chain.check_dates(at.parse().unwrap()).map_err(|why| why.to_string());
    assert_eq!(verdict("2020-01-01T00:00:00Z"), Ok(()));
    assert_eq!(verdict("2120-01-01T00:00:00Z"), Ok(()));
    let early = "the certificate: it is not valid before 2020-01-01T00:00:00.000Z";
    assert_eq!(verdict("2019-12-31T23:59:59Z"), Err(early.to_owned()));
    let late = "the certificate: it was valid until 2120-01-01T00:00:00.000Z";
    assert_eq!(verdict("2120-01-01T00:00:00.001Z"), Err(late.to_owned()));
    // The signature does not help.
    let mut sns = vector("sns-notification-v1");
    assert_eq!(judge(&sns), Ok(()));
    for at in [1_577_836_799, 2_240_524_801_i64] {
        sns["at"] = at.into();
        assert!(matches!(judge(&sns), Err(VerifyError::Certificate(_))), "{at}");
    }
}

/// One element of DER. Contents of 128 bytes or more have a length of two bytes.
fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let head = if length < 0x80 { vec![tag, low] } else { vec![tag, 0x82, high, low] };
    [&head, contents].concat()
}

/// A certificate of version 1 with this validity and the subjectPublicKeyInfo of `chain.pem`, in PEM.
fn made(validity: &[u8]) -> Vec<u8> {
    let chain = CertificateDer::from_pem_slice(&pem("chain.pem")).unwrap();
    let key = chain.windows(4).position(|four| four == [0x30, 0x82, 0x01, 0x22]).unwrap();
    let algorithm = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b, 5, 0];
    let name = [0x30, 0];
    let signed = [&[2, 1, 1][..], &algorithm, &name, validity, &name, &chain[key..key + 4 + 0x122]].concat();
    wrap(&element(0x30, &[&element(0x30, &signed)[..], &algorithm, &[3, 2, 0, 0]].concat()))
}

fn wrap(der: &[u8]) -> Vec<u8> {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(der)).into_bytes()
}

#[test]
fn dates_of_both_forms_are_read() {
    const INTEGER: u8 = 0x02;
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let start = element(UTC_TIME, b"200101000000Z");
    for (tag, text, expected) in [
        (UTC_TIME, "150318000000Z", Some("2015-03-18T00:00:00.000Z")),
        (UTC_TIME, "491231235959Z", Some("2049-12-31T23:59:59.000Z")),
        (UTC_TIME, "500101000000Z", Some("1950-01-01T00:00:00.000Z")),
        (GENERALIZED_TIME, "21200101000000Z", Some("2120-01-01T00:00:00.000Z")),
        // The latest time that a timestamp can be formatted as.
        (GENERALIZED_TIME, "99991231235959Z", Some("9999-12-31T23:59:59.000Z")),
        (UTC_TIME, "150318000000", None),
        (UTC_TIME, "1503180000Z", None),
        (UTC_TIME, "151318000000Z", None),
        (UTC_TIME, "150318000000+0100", None),
        (UTC_TIME, "150318000000+0000", None),
        (UTC_TIME, "1503180000+0000", None),
        (UTC_TIME, "15031800000xZ", None),
        (GENERALIZED_TIME, "150318000000Z", None),
        (GENERALIZED_TIME, "201503180000Z", None),
        (GENERALIZED_TIME, "20150318000000", None),
        (GENERALIZED_TIME, "20150318000000.5Z", None),
        (INTEGER, "150318000000Z", None),
    ] {
        let date = element(tag, text.as_bytes());
        let end = Certificate::from_pem(&made(&element(0x30, &[&start[..], &date].concat())));
        let read = end.as_ref().map(|certificate| certificate.not_after().to_string());
        assert_eq!(read.ok().as_deref(), expected, "{text}");
        assert!(end.is_ok() || end.err() == Some(CertificateError::Malformed), "{text}");
        // As the first date it is read the same way.
        let both = Certificate::from_pem(&made(&element(0x30, &[&date[..], &start].concat())));
        assert_eq!(both.is_ok(), expected.is_some(), "{text}");
    }
    for odd in [&start[..], &[&start[..], &start, &start].concat()] {
        assert_eq!(Certificate::from_pem(&made(&element(0x30, odd))).err(), Some(CertificateError::Malformed));
    }
}

#[test]
fn a_length_beyond_what_is_there_is_refused() {
    let good = CertificateDer::from_pem_slice(&pem("other-name.pem")).unwrap();
    let (head, contents) = good.split_at(4);
    assert_eq!(head[..2], [0x30, 0x82]);
    for head in [
        &[0x30, 0x80][..],
        &[0x30, 0x81, 0x7f],
        &[0x30, 0x82, 0xff, 0xff],
        &[0x30, 0x83, 0xff, 0xff, 0xff],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x30, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x30, 0xff],
    ] {
        let read = Certificate::from_pem(&wrap(&[head, contents].concat()));
        assert_eq!(read.err(), Some(CertificateError::Malformed), "{head:02x?}");
    }
    assert_eq!(Certificate::from_pem(&wrap(&[&good[..], &[0]].concat())).err(), Some(CertificateError::Malformed));
}

#[test]
fn text_that_is_not_a_certificate_is_refused() {
    let read = |bytes: &[u8]| Certificate::from_pem(bytes).map(|_| ());
    let good = String::from_utf8(pem("chain.pem")).unwrap();
    assert_eq!(read(good.as_bytes()), Ok(()));
    assert_eq!(read(b""), Err(CertificateError::Pem));
    assert_eq!(read(b"<html></html>"), Err(CertificateError::Pem));
    assert_eq!(read(&pem("leaf.key")), Err(CertificateError::Pem));
    assert_eq!(read(&good.as_bytes()[..good.len() / 3]), Err(CertificateError::Pem));
    assert_eq!(read(&pem("elliptic.pem")), Err(CertificateError::NotRsa));
    assert_eq!(read(good.repeat(5).as_bytes()), Err(CertificateError::TooMany));
    let der = CertificateDer::from_pem_slice(good.as_bytes()).unwrap();
    assert_eq!(read(&wrap(&der)), Ok(()));
    for length in 0..der.len() {
        assert!(read(&wrap(&der[..length])).is_err(), "{length}");
    }
    // Whatever is changed is read as something or refused, and never believed to have made the signature.
    let signature = BASE64.decode(rsa_sign(b"x").as_bytes()).unwrap();
    let made =
        |pem: &[u8]| Certificate::from_pem(pem).map(|read| read.verify(SignatureDigest::Sha256, b"x", &signature));
    assert_eq!(made(&wrap(&der)), Ok(Ok(())));
    let modulus = der.windows(4).position(|four| four == [0x02, 0x82, 0x01, 0x01]).unwrap();
    for at in modulus..modulus + 260 {
        let mut other = der.to_vec();
        other[at] ^= 0x10;
        assert_ne!(made(&wrap(&other)), Ok(Ok(())), "{at}");
    }
}

// --- SNS -----------------------------------------------------------------------------------------------------------

/// The result of verifying a message with some changed fields.
fn sns_with(id: &str, topics: &[&str], change: impl FnOnce(&mut Value)) -> Result<(), VerifyError> {
    let vector = vector(id);
    let certificate = Certificate::from_pem(vector["key"].as_str().unwrap().as_bytes()).unwrap();
    let body = BASE64.decode(vector["body_base64"].as_str().unwrap().as_bytes()).unwrap();
    let mut message: Value = serde_json::from_slice(&body).unwrap();
    change(&mut message);
    let (headers, body) = (HeaderMap::new(), message.to_string());
    let request = request("https://hooks.example.com/in/aws-sns", &headers, body.as_bytes());
    check(CodeScheme::Sns, topics, Some(&certificate), &request, NOW)
}

const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";

#[test]
fn each_signed_field_of_a_message_counts() {
    for (id, fields) in [
        ("sns-reserialised", &["Message", "MessageId", "Subject", "Timestamp", "TopicArn"][..]),
        ("sns-notification-v1", &["Message", "MessageId", "Subject", "Timestamp", "TopicArn"]),
        ("sns-subscription", &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn"]),
    ] {
        assert_eq!(sns_with(id, &[], |_| ()), Ok(()), "{id}");
        assert_eq!(sns_with(id, &[], |message| message["UnsubscribeURL"] = "x".into()), Ok(()), "{id}");
        for field in fields {
            let changed = sns_with(id, &[], |message| message[field] = "x".into());
            assert_eq!(changed, Err(VerifyError::Mismatch), "{id} {field}");
            let gone = sns_with(id, &[], |message| drop(message.as_object_mut().unwrap().remove(*field)));
            // A message may do without a subject; this one had one.
            let expected =
                if *field == "Subject" { VerifyError::Mismatch } else { VerifyError::Missing((*field).into()) };
            assert_eq!(gone, Err(expected), "{id} {field}");
            let other = sns_with(id, &[], |message| message[field] = 1.into());
            assert_eq!(other, Err(VerifyError::Body("JSON of SNS")), "{id} {field}");
        }
        for field in ["Signature", "SignatureVersion", "SigningCertURL", "Type"] {
            let empty = sns_with(id, &[], |message| message[field] = "".into());
            assert_eq!(empty, Err(VerifyError::Missing(field.into())), "{id} {field}");
        }
        let kind = sns_with(id, &[], |message| message["Type"] = "UnsubscribeConfirmation".into());
        assert!(kind.is_err(), "{id}");
    }
}

#[test]
fn only_the_topics_of_a_source_are_accepted() {
    let verdict = |topics: &[&str]| sns_with("sns-reserialised", topics, |_| ());
    assert_eq!(verdict(&[TOPIC]), Ok(()));
    assert_eq!(verdict(&["arn:aws:sns:us-west-2:1:Other", TOPIC]), Ok(()));
    assert_eq!(verdict(&["arn:aws:sns:us-west-2:1:Other"]), Err(VerifyError::Token));
    assert_eq!(verdict(&[""]), Err(VerifyError::Token));
}

#[test]
fn what_sns_does_not_sign_is_refused() {
    let vector = vector("sns-notification-v1");
    let certificate = Certificate::from_pem(vector["key"].as_str().unwrap().as_bytes()).unwrap();
    let good = BASE64.decode(vector["body_base64"].as_str().unwrap().as_bytes()).unwrap();
    let verdict = |headers: &HeaderMap, body: &[u8]| {
        let request = request("https://hooks.example.com/", headers, body);
        assert_eq!(certificate_url(CodeScheme::Sns, &request).is_ok(), SnsMessage::read(&request).is_ok());
        check(CodeScheme::Sns, &[TOPIC], Some(&certificate), &request, NOW)
    };
    let none = HeaderMap::new();
    assert_eq!(verdict(&none, &good), Ok(()));
    let raw = verdict(&headers([("x-amz-sns-rawdelivery", "true")]), &good);
    assert!(matches!(raw, Err(VerifyError::Missing(what)) if what.contains("raw message delivery")));
    // A field that is there twice: which of them was signed?
    let text = String::from_utf8(good).unwrap();
    for twice in [r#"{"Message":"x","#, r#"{"\u004dessage":"x","#] {
        assert_eq!(verdict(&none, text.replacen('{', twice, 1).as_bytes()), Err(VerifyError::Body("JSON of SNS")));
    }
    for bad in ["", "null", "[]", "{}", "Message=x", "\u{feff}{}"] {
        assert!(verdict(&none, bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn names_lead_to_the_schemes() {
    for code in [CodeScheme::Twilio, CodeScheme::Paypal, CodeScheme::Sns] {
        assert_eq!(code.name().parse(), Ok(code));
    }
    assert_eq!("Twilio".parse::<CodeScheme>(), Err(()));
    let headers = HeaderMap::new();
    assert_eq!(certificate_url(CodeScheme::Twilio, &request("https://a.example/", &headers, b"")), Ok(None));
}
