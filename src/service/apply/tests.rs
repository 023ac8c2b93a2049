//! Tests of the structure of declaration files.

use super::*;
use crate::config::Environment;

fn read(text: &str) -> Result<DeclarationFile, Vec<DeclarationError>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("webhooks.toml");
    std::fs::write(&path, text).unwrap();
    let environment = Environment::new([("SECRET".into(), "whsec_canary-of-the-environment".into())]);
    DeclarationFile::read(&path, &environment).map_err(|errors| {
        let prefix = format!("{}/", folder.path().display());
        errors
            .into_iter()
            .map(|fault| DeclarationError { location: fault.location.replace(&prefix, ""), ..fault })
            .collect()
    })
}

#[test]
fn each_structural_error_names_line_and_key() {
    for (text, said) in [
        ("[[webhooks]", "webhooks.toml:1: this is not TOML: invalid table header, expected `.`, `]]`"),
        ("colour = 1", "webhooks.toml:1: colour: unknown key; allowed here: tenant, set, prune, event_types, webhooks"),
        ("\nset = \"\"", "webhooks.toml:2: set: expected 1 to 64 characters"),
        ("prune = \"yes\"", "webhooks.toml:1: prune: expected true or false"),
        ("webhooks = 7", "webhooks.toml:1: webhooks: expected a list of tables"),
        (
            "[[webhooks]]\nurl = \"https://x\"",
            "webhooks.toml:1: webhooks[0].uid: is required: text of 1 to 128 of A-Z a-z 0-9 . _ : @ -",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\n[[webhooks]]\nuid = \"a\"",
            "webhooks.toml:4: webhooks[1].uid: \"a\" is there twice",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\ntenant = \"x\"",
            "webhooks.toml:3: webhooks[0].tenant: is set for the whole file, above its tables",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\nsecret = \"whsec_canary\"",
            "webhooks.toml:3: webhooks[0].secret: expected { env = \"VARIABLE\" } or { file = \"PATH\" }: a secret does not stand in this file",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\nheaders = { Authorization = \"Bearer canary\" }",
            "webhooks.toml:3: webhooks[0].headers.Authorization: expected { env = \"VARIABLE\" } or { file = \"PATH\" }: a secret does not stand in this file",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\nauth = { type = \"bearer\", token = \"canary\" }",
            "webhooks.toml:3: webhooks[0].auth.token: expected { env = \"VARIABLE\" } or { file = \"PATH\" }: a secret does not stand in this file",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\n[webhooks.tls]\nclient_key = \"canary\"",
            "webhooks.toml:4: webhooks[0].tls.client_key: expected { env = \"VARIABLE\" } or { file = \"PATH\" }: a secret does not stand in this file",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\ntls = { ca = { env = \"ABSENT\" } }",
            "webhooks.toml:3: webhooks[0].tls.ca: the environment variable ABSENT is not set",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\nsecret = { env = \"ABSENT\" }",
            "webhooks.toml:3: webhooks[0].secret: the environment variable ABSENT is not set",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\nsubscriptions = [7]",
            "webhooks.toml:3: webhooks[0].subscriptions[0]: expected a table",
        ),
        ("[[event_types]]\ncategory = \"x\"", "webhooks.toml:1: event_types[0]: needs a name"),
        (
            "[[event_types]]\nname = \"a\"\n[[event_types]]\nname = \"a\"",
            "webhooks.toml:4: event_types[1].name: \"a\" is there twice",
        ),
    ] {
        let errors = read(text).unwrap_err();
        let found: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(found, [said], "{text}");
        assert!(!found.concat().contains("canary"), "{found:?}");
    }
    assert!(read("").unwrap().webhooks.is_empty());
}
