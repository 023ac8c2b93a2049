//! Tests of `[[sources]]`: values, their origins, and errors.

use serde_json::json;

use super::CompiledConfig;
use super::tests::{errors, errors_of_file, load};
use crate::config::testing::{REFERENCE, environment, with_file, with_vars};
use crate::inbound::source::{PartnerToken, SecretSetting, SourceSettings};
use crate::limits::SOURCE_BODY_BYTES_DEFAULT;

/// The secrets of a source, as the server has them.
fn secrets(setup: &CompiledConfig, at: usize) -> Vec<&str> {
    setup.sources[at].settings.secrets.iter().map(|secret| secret.value().unwrap().reveal()).collect()
}

/// The lines of the reference file that are TOML after their `#`. Words follow a space, and continuation lines four
/// spaces.
fn reference() -> String {
    let lines = REFERENCE.lines().filter_map(|line| line.strip_prefix('#'));
    let is_toml = |line: &&str| !line.is_empty() && (!line.starts_with(' ') || line.starts_with("    "));
    lines.filter(is_toml).flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn the_sources_of_the_reference_file_are_valid_and_have_every_key() {
    // The source of kind nats needs an event bus.
    let (loader, _folder) = with_file(&format!("[nats]\nurl = \"nats://127.0.0.1:4222\"\n{}", reference()));
    let setup = load(&loader);
    let names: Vec<_> = setup.sources.iter().map(|source| source.settings.name.as_str()).collect();
    assert_eq!(names, ["shopify", "acme", "a-partner", "whatsapp", "shop"]);
    let written: toml_edit::DocumentMut = reference().parse().unwrap();
    let tables = written["sources"].as_array_of_tables().unwrap();
    // Serde lists the known keys when it meets an unknown one.
    let known = serde_json::from_value::<SourceSettings>(json!({ "?": 1 })).unwrap_err().to_string();
    let known: Vec<_> = known.split('`').skip(3).step_by(2).chain(["token"]).collect();
    assert!(known.len() > 15, "{known:?}");
    for key in known {
        assert!(tables.iter().any(|table| table.contains_key(key)), "{key} is not in config.toml");
    }
}

#[test]
fn a_source_needs_three_lines() {
    let (loader, _folder) = with_file(
        "[server]\npublic_url = \"https://hooks.example.com/\"\n\
         [[sources]]\nname = \"shopify\"\nkind = \"shopify\"\nsecrets = [\"a-secret-of-the-provider\"]\n\
         [[sources]]\nname = \"stripe\"\nkind = \"stripe\"\nsecrets = [\"whsec_0123456789abcdef\"]\n\
         [[sources]]\nname = \"github\"\nkind = \"github\"\nsecrets = [\"another-of-the-provider\"]\n\
         [[sources]]\nname = \"acme\"\nkind = \"partner\"\ntoken = \"nNsCbbEO316t13WsH3fw4QIb\"\n",
    );
    let setup = load(&loader);
    assert_eq!(setup.config.server.public_url.as_deref(), Some("https://hooks.example.com"));
    assert_eq!(setup.sources.len(), 4);
    assert_eq!(setup.warnings, Vec::<String>::new());
    assert!(setup.sources.iter().all(|source| &*source.tenant == "default"));
    let token = PartnerToken::try_new("nNsCbbEO316t13WsH3fw4QIb").unwrap().hash();
    assert_eq!(setup.sources[3].token.as_ref(), Some(&token));
    assert!(setup.sources[3].settings.secrets.is_empty());
}

#[test]
fn secrets_come_from_variables_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    for (content, secret) in [
        ("secret-of-the-file\n", "secret-of-the-file"),
        ("secret-of-the-file\r\n", "secret-of-the-file"),
        ("secret-of-the-file", "secret-of-the-file"),
        ("two\nlines-of-the-file\n", "two\nlines-of-the-file"),
    ] {
        std::fs::write(&path, content).unwrap();
        let (mut loader, _folder) = with_file(&format!(
            "[[sources]]\nname = \"a\"\nkind = \"github\"\nsecrets = [\"plain-secret-in-the-file\", {{ env = \"A_SECRET\", \
             until = \"2030-01-01T00:00:00Z\" }}, {{ file = \"{}\" }}]\n[[sources]]\nname = \"b\"\nkind = \"partner\"\n\
             token = {{ env = \"A_TOKEN\" }}",
            path.display()
        ));
        loader.environment =
            environment(&[("A_SECRET", "secret-of-the-variable"), ("A_TOKEN", "nNsCbbEO316t13WsH3fw4QIb")]);
        let setup = load(&loader);
        assert_eq!(secrets(&setup, 0), ["plain-secret-in-the-file", "secret-of-the-variable", secret]);
        let SecretSetting::Table(table) = &setup.sources[0].settings.secrets[1] else { panic!("a table stays one") };
        assert_eq!((table.until.as_deref(), &table.env), (Some("2030-01-01T00:00:00Z"), &None));
        assert!(setup.sources[1].token.is_some());
        let shown = load(&loader).shown;
        assert!(!shown.contains("of-the") && !shown.contains("plain-secret") && !shown.contains("nNsC"), "{shown}");
        assert!(shown.contains("env = \"A_SECRET\"") && shown.contains("token = { env = \"A_TOKEN\" }"), "{shown}");
    }
}

const HEAD: &str = "[[sources]]\nname = \"a\"\nkind = \"github\"\n";

/// Pairs of the lines after a source of kind github, and the error.
const WRONG: &[(&str, &str)] = &[
    ("secrets = [\"\"]", "sources[0].secrets[0] (config.toml:4): expected 1 to 8192 characters, not blank"),
    ("", "sources[0].secrets (config.toml:1): kind github needs at least one"),
    (
        "secrets = [12345678]",
        "sources[0].secrets[0] (config.toml:4): what stands here (hidden) is neither text nor a table of value, env or file, with until and when",
    ),
    (
        "secrets = [{ vlaue = \"0123456789abcdef\" }]",
        "sources[0].secrets[0] (config.toml:4): what stands here (hidden) is neither text nor a table of value, env or file, with until and when",
    ),
    ("secrets = \"0123456789abcdef\"", "sources[0].secrets (config.toml:4): what stands here (hidden) is not a list"),
    ("secrets = [{}]", "sources[0].secrets[0] (config.toml:4): expected exactly one of value, env and file"),
    (
        "secrets = [{ value = \"0123456789abcdef\", env = \"A\" }]",
        "sources[0].secrets[0] (config.toml:4): expected exactly one of value, env and file",
    ),
    (
        "secrets = [\"0123456789abcdef\",\n { env = \"NOT_SET\" }]",
        "sources[0].secrets[1].env (config.toml:5): the environment variable NOT_SET is not set",
    ),
    (
        "secrets = [{ file = \"/nowhere/secret\" }]",
        "sources[0].secrets[0].file (config.toml:4): /nowhere/secret cannot be read: No such file or directory (os error 2)",
    ),
    ("secrets = [{ file = \"/dev/null\" }]", "sources[0].secrets[0].file (config.toml:4): /dev/null is empty"),
    (
        "secrets = [{ file = \"/dev/zero\" }]",
        "sources[0].secrets[0].file (config.toml:4): /dev/zero is longer than a secret, which has at most 65536 bytes",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\nsecret = 1",
        "sources[0].secret (config.toml:5): unknown key; did you mean \"secrets\"?",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\ntokn = \"x\"",
        "sources[0].tokn (config.toml:5): unknown key; did you mean \"token\"?",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\ntoken = \"nNsCbbEO316t13WsH3fw4QIb\"",
        "sources[0].token (config.toml:5): only a source of kind \"partner\" has a token",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\nid = 1",
        "sources[0].id (config.toml:5): this is neither text nor a list of texts",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\nstatus = \"on\"",
        "sources[0].status (config.toml:5): expected active, inactive or suspended",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\ntenant = \"A b\"",
        "sources[0].tenant (config.toml:5): \"A b\" is not a tenant: 1 to 63 of A-Z a-z 0-9 . _ : -, the first a letter or digit",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\nmax_body_bytes = \"100 MiB\"",
        "sources[0].max_body_bytes (config.toml:5): expected a size such as \"10 MiB\" or a number of bytes, 1 KiB to 25 MiB",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\n[[sources]]\nname = \"a\"\nkind = \"github\"\nsecrets = [\"0123456789abcdef\"]",
        "sources[1].name (config.toml:6): \"a\" is there twice",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\n[[sources]]\nname = \"events\"\nkind = \"github\"\nsecrets = [\"0123456789abcdef\"]",
        "sources[1].name (config.toml:6): events means something else in paths or types; choose another name",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\n[[sources]]\nname = \"src_x\"\nkind = \"github\"\nsecrets = [\"0123456789abcdef\"]",
        "sources[1].name (config.toml:6): expected 1 to 63 of a-z, 0-9 and -, not - at first",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\n[[sources]]\nname = \"b\"\nkind = \"Shopify\"\nsecrets = [\"0123456789abcdef\"]",
        "sources[1].kind (config.toml:7): unknown; is it shopify?",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\n[[sources]]\nname = \"b\"\nkind = \"partner\"",
        "sources[1].token (config.toml:5): a partner needs the token of its URL: 22 to 128 of A-Z, a-z, 0-9, - and _",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\n[[sources]]\nname = \"b\"\nkind = \"partner\"\ntoken = \"short\"",
        "sources[1].token (config.toml:8): a token has 22 to 128 of A-Z, a-z, 0-9, - and _",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\n[[sources]]\nname = \"b\"\nkind = \"partner\"\ntoken = { env = \"NOT_SET\" }",
        "sources[1].token.env (config.toml:8): the environment variable NOT_SET is not set",
    ),
    (
        "secrets = [\"0123456789abcdef\"]\n[[sources]]\nname = \"b\"\nkind = \"partner\"\ntoken = \"nNsCbbEO316t13WsH3fw4QIb\"\n[[sources]]\nname = \"c\"\nkind = \"partner\"\ntoken = \"nNsCbbEO316t13WsH3fw4QIb\"",
        "sources[2].token (config.toml:12): this token is there twice",
    ),
];

#[test]
fn each_error_has_its_key_and_line_and_the_allowed_values() {
    for (rest, said) in WRONG {
        assert_eq!(errors_of_file(&format!("{HEAD}{rest}")), [*said], "{rest}");
    }
    for (text, said) in [
        ("sources = 1", "sources (config.toml:1): 1 is not a list"),
        ("sources = [1]", "sources[0] (config.toml:1): 1 is not a table"),
        ("[[sources]]\nname = \"a\"", "sources[0] (config.toml:1): kind is missing"),
        (
            "[server]\npublic_url = \"hooks.example.com\"",
            "server.public_url (config.toml:2): \"hooks.example.com\" is not an http or https URL without a query, such as \"https://hooks.example.com\"",
        ),
        (
            "[server]\npublic_url = \"https://hooks.example.com/?a=b\"",
            "server.public_url (config.toml:2): \"https://hooks.example.com/?a=b\" is not an http or https URL without a query, such as \"https://hooks.example.com\"",
        ),
    ] {
        assert_eq!(errors_of_file(text), [said], "{text}");
    }
}

#[test]
fn all_errors_of_a_source_are_reported_together() {
    let said = errors_of_file(
        "[[sources]]\nname = \"A\"\nkind = \"github\"\nsecrets = [{ env = \"NOT_SET\" }]\ndedup = \"sometimes\"\n\
         [[sources]]\nname = \"b\"\nkind = \"github\"\nsecrets = [\"0123456789abcdef\"]\nburst = 3",
    );
    let keys: Vec<_> = said.iter().map(|line| line.split_once(" (").unwrap().0).collect();
    assert_eq!(keys, ["sources[0].secrets[0].env", "sources[0].name", "sources[0].dedup", "sources[1].burst"]);
}

#[test]
fn variables_of_replaced_systems_add_sources() {
    let vars = [("SHOPIFY_WEBHOOK_SECRET", "a-secret-of-shopify"), ("STRIPE_WEBHOOK_SECRET", "whsec_0123456789abcdef")];
    let loader = with_vars(&vars);
    let setup = load(&loader);
    let made: Vec<_> = setup.sources.iter().map(|s| (s.settings.name.as_str(), s.settings.kind.as_str())).collect();
    assert_eq!(made, [("shopify", "shopify"), ("stripe", "stripe")]);
    assert_eq!((secrets(&setup, 0), secrets(&setup, 1)), (vec![vars[0].1], vec![vars[1].1]));
    assert_eq!((&setup.sources[0].settings.max_body_bytes, setup.config.source_body_bytes), (&None, None));
    let shown = load(&loader).shown;
    let line = "secrets = [{ env = \"SHOPIFY_WEBHOOK_SECRET\" }]  # environment variable SHOPIFY_WEBHOOK_SECRET\n";
    assert!(shown.contains(line) && !shown.contains("a-secret"), "{shown}");

    // A configured source takes precedence over the variable, and a source of another tenant is separate.
    let (mut loader, _folder) = with_file(
        "[[sources]]\nname = \"shopify\"\nkind = \"shopify\"\nsecrets = [\"configured-secret\"]\n\
         [[sources]]\nname = \"stripe\"\ntenant = \"acme\"\nkind = \"stripe\"\nsecrets = [\"configured-secret\"]",
    );
    loader.environment = environment(&vars);
    let setup = load(&loader);
    assert_eq!(setup.sources.len(), 3);
    assert_eq!(secrets(&setup, 0), ["configured-secret"]);
    let said = "environment variable SHOPIFY_WEBHOOK_SECRET is not used: the source \"shopify\" is configured";
    assert_eq!(setup.warnings, [said]);
    assert!(load(&loader).shown.starts_with(&format!("# warning: {said}\n")));

    let said = errors(&with_vars(&[("SHOPIFY_WEBHOOK_SECRET", " ")]));
    let blank = "expected 1 to 8192 characters, not blank";
    assert_eq!(said, [format!("sources[0].secrets[0].value (environment variable SHOPIFY_WEBHOOK_SECRET): {blank}")]);
}

#[test]
fn the_body_limit_of_replaced_systems_is_a_default() {
    let (mut loader, _folder) = with_file(
        "[[sources]]\nname = \"a\"\nkind = \"none\"\n[[sources]]\nname = \"b\"\nkind = \"none\"\nmax_body_bytes = 2048",
    );
    loader.environment = environment(&[("MAX_PAYLOAD_SIZE_MB", "5")]);
    let setup = load(&loader);
    let sizes: Vec<_> = setup.sources.iter().map(|source| source.settings.max_body_bytes.clone().unwrap()).collect();
    assert_eq!((sizes, setup.config.source_body_bytes), (vec![json!("5 MiB"), json!(2048)], Some(5 << 20)));
    let shown = load(&loader).shown;
    assert!(shown.contains("max_body_bytes = \"5 MiB\"  # environment variable MAX_PAYLOAD_SIZE_MB\n"), "{shown}");
    for text in ["0", "26", "many", "-1"] {
        assert_eq!(
            errors(&with_vars(&[("MAX_PAYLOAD_SIZE_MB", text)])),
            [format!(
                "sources.max_body_bytes (environment variable MAX_PAYLOAD_SIZE_MB): {text:?} is not a whole number of megabytes from 1 to 25"
            )]
        );
    }
    assert_eq!(SOURCE_BODY_BYTES_DEFAULT, 10 << 20);
}

#[test]
fn warnings_are_shown_and_secrets_are_hidden() {
    let (loader, _folder) = with_file(
        "[[sources]]\nname = \"open\"\nkind = \"none\"\n[[sources]]\nname = \"hook\"\nkind = \"meta\"\n\
         secrets = [\"canary-one-of-the-file\"]\noptions = { verify_token = \"canary-two\" }\nevent_map = [{ when = \"*\", type = \"a.b\" }]\n",
    );
    let read = load(&loader);
    let [warning] = read.warnings.as_slice() else { panic!("{:?}", read.warnings) };
    assert!(warning.starts_with("sources[0] (") && warning.contains("config.toml:1): kind none"), "{warning}");
    assert!(read.shown.starts_with("# warning: sources[0] ("), "{}", read.shown);
    assert!(!read.shown.contains("canary") && !format!("{:?}", read.sources[1].settings.secrets).contains("canary"));
    // The shown configuration can be read again.
    let (again, _other) = with_file(&read.shown.replace("***", "0123456789abcdef"));
    let strip = |shown: &str| {
        shown.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).skip(1).collect::<Vec<_>>()
    };
    assert_eq!(strip(&load(&again).shown), strip(&read.shown));
}

#[test]
fn a_client_does_not_need_the_server_s_secrets() {
    let (loader, _folder) = with_file(
        "[server]\nlisten = \"127.0.0.1:9\"\n[[sources]]\nname = \"a\"\nkind = \"github\"\nsecrets = [{ env = \"NOT_SET\" }]",
    );
    assert!(CompiledConfig::load(&loader).is_err());
    let config = loader.load_for_client().unwrap();
    assert_eq!(config.server.listen[0].port(), 9);
    assert!(config.sources[0].settings.secrets[0].value().is_none(), "a reference stays one");
    let (loader, _folder) = with_file("[[sources]]\nname = \"a\"\nknd = \"github\"");
    assert!(loader.load_for_client().is_err(), "what is no configuration at all is said all the same");
}
