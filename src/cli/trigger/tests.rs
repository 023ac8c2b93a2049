//! Signs and verifies a request of every provider kind that can be signed without the provider's private key.

use std::collections::BTreeSet;

use clap::Parser;

use super::super::tests::server;
use super::super::{Cli, dispatch};
use super::*;
use crate::inbound::provider::{Recipe, recipes};

const NOW: Timestamp = Timestamp::from_millis(1_711_015_200_120);
/// A secret that is valid as text, hexadecimal and base64, and a key of 32 bytes in hexadecimal.
const HEX: &str = "4b1d2c3e5f60718293a4b5c6d7e8f9000112233445566778899aabbccddeeff0";

fn secret_for(recipe: &RawRecipe) -> Secret {
    let scheme = recipe.verify.scheme.as_str();
    match (scheme, recipe.verify.key.as_deref()) {
        ("ecdsa-p256", _) => {
            let rng = ring::rand::SystemRandom::new();
            let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
            let document = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &rng).unwrap();
            Secret::new(data_encoding::BASE64.encode(document.as_ref()))
        }
        ("basic", _) => Secret::new("user:pass:word"),
        (_, Some("whsec")) => Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        _ => Secret::new(HEX),
    }
}

fn target(kind: &str, recipe: &RawRecipe) -> TriggerTarget {
    TriggerTarget {
        kind: kind.to_owned(),
        recipe: recipe.clone(),
        secret: None,
        url: Url::parse("https://hooks.example.com/in").unwrap(),
        signed_url: "https://hooks.example.com/in".into(),
    }
}

/// Builds, signs and verifies an event. Returns its type and id as a source reads them.
fn round_trip(kind: &str, recipe: &RawRecipe, event_type: &str, seed: u64) -> (Option<String>, Option<String>) {
    let usable = Recipe::try_new(recipe).unwrap();
    let secret = secret_for(recipe);
    let mut random = Random::seeded(seed);
    let request = build_request(kind, recipe, None, &mut PlaceholderFiller::new(event_type, NOW, &mut random));
    let mut outgoing = target(kind, recipe).outgoing(&request).unwrap();
    usable.scheme.sign(&secret, &mut outgoing, NOW).unwrap_or_else(|e| panic!("{kind} {event_type}: {e}"));
    let verifying = usable.scheme.verifying_secret(&secret).unwrap();
    let keys: Vec<_> = usable
        .scheme
        .needs_secret()
        .then(|| usable.scheme.key_of_any_length(&verifying).unwrap())
        .into_iter()
        .collect();
    let request = outgoing.request();
    usable.scheme.verify(&keys, None, &request, NOW).unwrap_or_else(|e| panic!("{kind} {event_type}: {e}"));
    if usable.scheme.needs_secret() {
        let other = Secret::new(if recipe.verify.scheme == "basic" { "user:other" } else { "5cd1b6b7b1e2" });
        if let Ok(key) = usable.scheme.key_of_any_length(&other) {
            assert!(usable.scheme.verify([&key], None, &request, NOW).is_err(), "{kind}: another secret");
        }
    }
    let (id, topic) = crate::inbound::source::id_and_topic(&usable, &request);
    (topic, id)
}

#[test]
fn triggered_events_are_verified() {
    let mut signed = 0;
    for (kind, recipe) in recipes() {
        let is_published = recipe.verify.jwt.as_ref().is_some_and(|jwt| jwt.jwks.is_some());
        if is_published || ["code:paypal", "code:sns"].contains(&recipe.verify.scheme.as_str()) {
            continue;
        }
        let generic = if recipe.example.is_empty() { "example.happened" } else { &recipe.example };
        for event_type in samples(kind).iter().map(|sample| sample.event_type).chain([generic]) {
            let (found, id) = round_trip(kind, recipe, event_type, 1);
            let has_type = recipe.r#type.is_some() && !(kind == "slack" && event_type == "slash_command");
            if has_type {
                assert_eq!(found.as_deref(), Some(event_type), "{kind}");
            }
            if recipe.id.is_some() && kind != "slack" {
                assert!(id.is_some(), "{kind} {event_type} has no id");
                assert_ne!(round_trip(kind, recipe, event_type, 2).1, id, "{kind} {event_type}");
            }
        }
        signed += 1;
    }
    assert!(signed >= 40, "{signed}");
}

#[test]
fn samples_belong_to_known_kinds() {
    let known: BTreeSet<_> = recipes().map(|(name, _)| name).collect();
    for kind in ["shopify", "stripe", "github", "slack"] {
        assert!(known.contains(kind) && !samples(kind).is_empty(), "{kind}");
    }
}

fn run(words: &[&str]) -> Result<String, CliError> {
    let environment = Environment::new([("SECRET".into(), HEX.into())]);
    let mut out = Vec::new();
    let cli = Cli::try_parse_from(std::iter::once(&"hooktide").chain(words)).unwrap();
    dispatch(cli, environment, &mut out).map(|_| String::from_utf8(out).unwrap())
}

#[test]
fn a_kind_is_sent_to_any_url_without_a_server() {
    let (url, served) =
        server(&[("202 Accepted", r#"{"id":"evt_1","duplicate":false}"#), ("401 Unauthorized", r#"{"detail":"no"}"#)]);
    let to = format!("{url}/in?x=1");
    let words = ["trigger", "github", "push", "--to", &to, "--secret-env", "SECRET", "--count", "2"];
    assert_eq!(run(&words).unwrap(), "202 evt_1\n401 no\n");
    let requests = served.join().unwrap();
    let head = requests[0].split_once("\r\n\r\n").unwrap().0;
    assert!(head.starts_with("POST /in?x=1 HTTP/1.1\r\n"), "{head}");
    for header in ["x-github-event: push", "x-hub-signature-256: sha256=", "user-agent: GitHub-Hookshot/"] {
        assert!(head.contains(header), "{head}");
    }
    assert_ne!(requests[0], requests[1]);
}

#[test]
fn a_configured_source_needs_no_secret_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, format!("[[sources]]\nname = \"shop\"\nkind = \"shopify\"\nsecrets = [\"{HEX}\"]\n"))
        .unwrap();
    let path = file.display().to_string();
    let printed = run(&["trigger", "shop", "orders/create", "--print", "--config", &path]).unwrap();
    assert!(printed.starts_with("POST http://127.0.0.1:8080/api/v1/webhooks/shop\n"), "{printed}");
    assert!(
        printed.contains("\nX-Shopify-Topic: orders/create\n") && printed.contains("\nx-shopify-hmac-sha256: "),
        "{printed}"
    );
    let printed = run(&["trigger", "shop", "--config", &path]).unwrap();
    assert!(printed.contains("orders/create\n") && printed.contains("shop/redact\n"), "{printed}");
}

#[test]
fn missing_values_are_reported() {
    let to = ["--to", "http://127.0.0.1:9/"];
    let e = run(&[&["trigger", "stripe", "invoice.paid", "--kind", "stripe"], &to[..]].concat()).unwrap_err();
    assert!(e.to_string().starts_with("stripe, of which no secret is known here, needs a secret"), "{e}");
    let e = run(&[&["trigger", "x", "y", "--kind", "nobody"], &to[..]].concat()).unwrap_err();
    assert!(e.to_string().starts_with("\"nobody\" is no kind of provider"), "{e}");
    let e = run(&[&["trigger", "paypal", "PAYMENT", "--secret-env", "SECRET"], &to[..]].concat()).unwrap_err();
    assert!(e.to_string().contains("only the provider can sign"), "{e}");
}
