//! Reading values from all layers, and the errors. The tests use their own environment instead of the one of the process.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::raw::RawConfig;
use super::testing::{REFERENCE, environment, lines, with_file, with_vars};
use super::{Config, Flags, Loader};
use crate::model::{RetryPolicy, Role, Visibility};

fn errors(loader: &Loader) -> Vec<String> {
    lines(&loader.load_for_client().unwrap_err(), loader)
}

fn errors_of_file(text: &str) -> Vec<String> {
    let (loader, _folder) = with_file(text);
    errors(&loader)
}

fn schedule(config: &Config) -> Vec<u64> {
    match &config.delivery.retry_policy {
        RetryPolicy::Schedule(delays) => delays.iter().map(Duration::as_secs).collect(),
        RetryPolicy::Backoff { .. } => panic!("the configuration has schedules only"),
    }
}

#[test]
fn the_reference_file_has_exactly_the_keys_and_their_defaults() {
    let written: Value = toml_edit::de::from_str(REFERENCE).unwrap();
    assert_eq!(written, serde_json::to_value(RawConfig::default()).unwrap());
}

/// Each key with bounds gets a value beyond them. The comment in the reference file must have the bounds of the error.
#[test]
fn the_reference_file_documents_the_actual_bounds() {
    let mut bounded = 0;
    for (key, default) in leaves(&serde_json::to_value(RawConfig::default()).unwrap(), "") {
        let beyond = match &default {
            Value::Number(_) => "99999999",
            Value::String(text) if text == "auto" => "99999999",
            Value::String(text) if text.ends_with('B') => "9999999 TiB",
            Value::Array(_) if key == "delivery.schedule" => "99999999",
            _ => continue,
        };
        let name = format!("HOOKTIDE_{}", key.to_uppercase().replace('.', "__"));
        let value = if key == "dedup.max_keys" { "999999999" } else { beyond };
        let said = errors(&with_vars(&[(&name, value)])).remove(0);
        let (_, bounds) = said.split_once("allowed is ").unwrap_or_else(|| panic!("{key}: {said}"));
        let (section, name) = key.rsplit_once('.').unwrap();
        let section = REFERENCE.split_once(&format!("[{section}]\n")).unwrap().1;
        let before = section.split_once(&format!("\n{name} = ")).unwrap().0;
        let comment = before.rsplit_once("\n\n").map_or(before, |(_, text)| text);
        let comment: String = comment.lines().rev().take_while(|line| line.starts_with('#')).collect();
        assert!(comment.contains(bounds), "{key}: {bounds:?} is not in {comment:?}");
        bounded += 1;
    }
    assert!(bounded > 20, "{bounded}");
}

fn leaves(value: &Value, at: &str) -> Vec<(String, Value)> {
    let Value::Object(members) = value else { return vec![(at.to_owned(), value.clone())] };
    let below = |name: &String| if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
    members.iter().flat_map(|(name, value)| leaves(value, &below(name))).collect()
}

#[test]
fn an_empty_configuration_has_the_defaults() {
    let config = Loader::default().load_for_client().unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.server.data_dir, PathBuf::from("hooktide-data"));
    assert_eq!(config.server.max_body_bytes, 1 << 20);
    assert_eq!(config.log.retention, Duration::from_secs(168 * 3600));
    assert_eq!(schedule(&config), [5, 60, 300, 900, 3600, 7200, 21600, 43200, 86400]);
    assert!(config.egress.allow.is_empty() && config.log.two_phase_commit && !config.logging.json);
    assert!(config.server.workers >= 1 && config.dispatch.shards >= 1);
}

#[test]
fn flags_override_variables_which_override_legacy_variables_and_the_file() {
    let (mut loader, _folder) =
        with_file("[server]\nlisten = \"127.0.0.1:1\"\ndata_dir = \"file\"\n[dedup]\nttl_hours = 1\n");
    assert_eq!(loader.load_for_client().unwrap().server.listen, ["127.0.0.1:1".parse().unwrap()]);

    let old = [("PORT", "2"), ("DEDUP_TTL_HOURS", "2")];
    loader.environment = environment(&old);
    let config = loader.load_for_client().unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:2".parse().unwrap()]);
    assert_eq!(config.dedup.ttl, Duration::from_secs(2 * 3600));

    let ours =
        [old[0], old[1], ("HOOKTIDE_SERVER__LISTEN", "127.0.0.1:3, [::1]:3"), ("HOOKTIDE_SERVER__DATA_DIR", "env")];
    loader.environment = environment(&ours);
    let config = loader.load_for_client().unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:3".parse().unwrap(), "[::1]:3".parse().unwrap()]);
    assert_eq!(config.server.data_dir, PathBuf::from("env"));

    loader.flags = Flags {
        listen: vec!["localhost:4".to_owned()],
        admin_listen: Some("127.0.0.1:5".to_owned()),
        data_dir: Some("flag".into()),
    };
    let config = loader.load_for_client().unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:4".parse().unwrap()]);
    assert_eq!(config.server.admin_listen, Some("127.0.0.1:5".parse().unwrap()));
    assert_eq!(config.server.data_dir, PathBuf::from("flag"));
}

#[test]
fn every_kind_of_value_can_come_from_the_environment() {
    let config = with_vars(&[
        ("HOOKTIDE_AUTH__API_KEYS", r#"[{ key = "0123456789abcdef", tenant = "*", role = "publisher" }]"#),
        ("HOOKTIDE_LOG__SEGMENT_BYTES", "2 MiB"),
        ("HOOKTIDE_LOG__TWO_PHASE_COMMIT", "false"),
        ("HOOKTIDE_DELIVERY__SCHEDULE", "1s, 2m"),
        ("HOOKTIDE_DELIVERY__BREAKER__FAILURE_RATIO", "0.25"),
        ("HOOKTIDE_DISPATCH__SHARDS", "3"),
        ("HOOKTIDE_EGRESS__ALLOW", "10.1.2.3/8,::1"),
        ("HOOKTIDE_URL", "http://elsewhere"),
    ])
    .load_for_client()
    .unwrap();
    let [key] = config.auth.api_keys.as_slice() else { panic!("one key") };
    assert_eq!((key.key.reveal(), &key.tenant, key.role), ("0123456789abcdef", &None, Role::Publisher));
    assert_eq!(config.log.segment_bytes, 2 << 20);
    assert!(!config.log.two_phase_commit);
    assert_eq!(schedule(&config), [1, 120]);
    assert!((config.breaker.failure_ratio - 0.25).abs() < f64::EPSILON);
    assert_eq!(config.dispatch.shards, 3);
    assert_eq!(config.egress.allow, ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
}

#[test]
fn variables_of_replaced_systems_are_read() {
    let config = with_vars(&[
        ("HOST", "0.0.0.0"),
        ("PORT", "1"),
        ("SERVER_PORT", "8084"),
        ("LOG_LEVEL", "WARNING"),
        ("WEBHOOK_MAX_RETRIES", "4"),
        ("WEBHOOK_RETRY_DELAY", "14400"),
        ("WEBHOOK_TIMEOUT", "10"),
        ("WEBHOOK_MAX_PAYLOAD_SIZE", "1048577"),
        ("DEDUP_TTL_HOURS", ""),
    ])
    .load_for_client()
    .unwrap();
    assert_eq!(config.server.listen, ["0.0.0.0:8084".parse().unwrap()]);
    assert_eq!(&*config.logging.level, "warn");
    assert_eq!(schedule(&config), [14_400, 28_800, 57_600, 86_400], "doubled, a day at most");
    assert_eq!(config.delivery.timeout, Duration::from_secs(10));
    assert_eq!(config.server.max_body_bytes, 1_048_577);

    let config = with_vars(&[("WEBHOOK_RETRY_DELAY", "60"), ("SERVER_HOST", "::1")]).load_for_client().unwrap();
    assert_eq!(schedule(&config), [60, 120, 240]);
    assert_eq!(config.server.listen, ["[::1]:8080".parse().unwrap()]);
    assert!(schedule(&with_vars(&[("WEBHOOK_MAX_RETRIES", "0")]).load_for_client().unwrap()).is_empty());
}

#[test]
fn variables_without_effect_are_listed_and_ignored() {
    let names = ["DB_HOST", "REDIS_URL", "ENVIRONMENT", "AUTH_SERVICE_URL", "HOOKTIDE_LISTEN", "HOOKTIDE_URL", "HOME"];
    let loader = with_vars(&names.map(|name| (name, "x")));
    assert_eq!(
        loader.environment.ignored(),
        ["AUTH_SERVICE_URL", "DB_HOST", "ENVIRONMENT", "HOOKTIDE_LISTEN", "REDIS_URL"]
    );
    assert!(loader.load_for_client().is_ok());
}

#[test]
fn dev_reaches_loopback_and_listens_only_there() {
    let dev = Loader { dev: true, ..Loader::default() };
    let allow = dev.load_for_client().unwrap().egress.allow;
    assert_eq!(allow, ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);

    let some = Loader { dev: true, ..with_vars(&[("HOOKTIDE_EGRESS__ALLOW", "10.0.0.0/8,::1/128")]) };
    let allow = some.load_for_client().unwrap().egress.allow;
    assert_eq!(allow, ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap(), "127.0.0.0/8".parse().unwrap()]);

    let open = Loader { dev: true, ..with_vars(&[("HOST", "0.0.0.0")]) };
    assert_eq!(
        errors(&open),
        ["server.listen (environment variable HOST): --dev listens on loopback only, not on 0.0.0.0:8080"]
    );
}

/// Pairs of a file and its error.
const WRONG: &[(&str, &str)] = &[
    ("[server", "configuration file (config.toml:1): this is not TOML: invalid table header, expected `.`, `]`"),
    (
        "[kafka]\nurl = \"x\"",
        "kafka (config.toml:1): unknown key; allowed here: apply, server, auth, logging, log, history, dead_letters, dedup, delivery, dispatch, egress, metrics, nats, events, sources, profiles, event_types, tenants",
    ),
    ("[server]\n\nlisen = \"x\"", "server.lisen (config.toml:3): unknown key; did you mean \"listen\"?"),
    ("[auth]\njwt_secrets = [\"x\"]", "auth.jwt_secrets (config.toml:2): unknown key; did you mean \"jwt_secret\"?"),
    ("[auth]\njwt_secret = \"hunter2\"", "auth.jwt_secret (config.toml:2): 7 bytes; allowed is 32 to 1024"),
    (
        "[auth]\ndefault_role = \"root\"",
        "auth.default_role (config.toml:2): \"root\" is not a role: publisher, viewer, member or admin",
    ),
    (
        "[auth]\ntrusted_proxy = [\"proxy\"]",
        "auth.trusted_proxy (config.toml:2): \"proxy\" is not a network such as \"10.0.0.0/8\" or \"fd00::/8\"",
    ),
    (
        "[server]\ncors_origins = [\"*\"]",
        "server.cors_origins (config.toml:2): \"*\" is not taken: name each site, such as \"https://app.example.com\"",
    ),
    (
        "[server]\ncors_origins = [\"https://app.example.com/a\"]",
        "server.cors_origins (config.toml:2): \"https://app.example.com/a\" is not an origin; a browser says \"https://app.example.com\"",
    ),
    (
        "[[tenants]]\nname = \"*\"",
        "tenants[0].name (config.toml:2): \"*\" is not a tenant: 1 to 63 of A-Z a-z 0-9 . _ : -, the first a letter or digit",
    ),
    ("[[tenants]]\nname = \"a\"\n[[tenants]]\nname = \"a\"", "tenants[1].name (config.toml:4): \"a\" is there twice"),
    (
        "[[tenants]]\nname = \"a\"\nretry_policy = { max_retries = 101, retry_delay = 60 }",
        "tenants[0].retry_policy.max_retries (config.toml:3): 101; allowed is 0 to 100",
    ),
    ("server = 1", "server (config.toml:1): 1 is not a table"),
    (
        "[server]\nlisten = []",
        "server.listen (config.toml:2): at least one address is needed, such as \"127.0.0.1:8080\"",
    ),
    ("[server]\nlisten = 8080", "server.listen (config.toml:2): 8080 is not a list, or one text with commas"),
    (
        "[server]\nlisten = \"0.0.0.0\"",
        "server.listen (config.toml:2): \"0.0.0.0\" is not an address with a port such as \"127.0.0.1:8080\" or \"[::]:8080\"",
    ),
    (
        "[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
        "server.listen (config.toml:2): 127.0.0.1:1 is there twice",
    ),
    (
        "[server]\nadmin_listen = \"127.0.0.1:8080\"",
        "server.admin_listen (config.toml:2): 127.0.0.1:8080 is an address of server.listen as well",
    ),
    ("[server]\ndata_dir = \"\"", "server.data_dir (config.toml:2): a folder is needed, such as \"hooktide-data\""),
    (
        "[server]\nmax_body_bytes = \"1 XB\"",
        "server.max_body_bytes (config.toml:2): \"1 XB\" is not a size such as \"256 MiB\" or a number of bytes",
    ),
    (
        "[server]\nmax_body_bytes = \"1 GiB\"",
        "server.max_body_bytes (config.toml:2): 1 GiB; allowed is 1 KiB to 25 MiB",
    ),
    (
        "[server]\nmax_batch_bytes = \"512 KiB\"",
        "server.max_body_bytes (default): 1 MiB is more than server.max_batch_bytes, which is 512 KiB",
    ),
    ("[server]\nworkers = \"many\"", "server.workers (config.toml:2): \"many\" is not \"auto\" or a whole number"),
    (
        "[server]\ndrain_seconds = -1",
        "server.drain_seconds (config.toml:2): -1 is not a number of seconds or a duration such as \"30s\" or \"5m\"",
    ),
    ("[logging]\nformat = \"xml\"", "logging.format (config.toml:2): \"xml\" is neither \"text\" nor \"json\""),
    (
        "[logging]\nlevel = \"loud\"",
        "logging.level (config.toml:2): \"loud\" is not off, error, warn, info, debug or trace, nor a list such as \"hooktide::send=debug,warn\"",
    ),
    (
        "[log]\nsegment_bytes = \"1 GiB\"\nretention_bytes = \"512 MiB\"",
        "log.segment_bytes (config.toml:2): 1 GiB is more than log.retention_bytes, which is 512 MiB",
    ),
    ("[log]\nretention_hours = 12", "log.segment_hours (default): 24h is more than log.retention_hours, which is 12h"),
    ("[log]\ntwo_phase_commit = 1", "log.two_phase_commit (config.toml:2): 1 is not true or false"),
    ("[dedup]\nmax_keys = 10", "dedup.max_keys (config.toml:2): 10; allowed is 1000 to 100000000"),
    (
        "[dedup]\nttl_hours = \"a day\"",
        "dedup.ttl_hours (config.toml:2): \"a day\" is not a number of hours or a duration such as \"24h\" or \"90m\"",
    ),
    ("[delivery]\nschedule = [\"5s\",\n \"48h\"]", "delivery.schedule (config.toml:2): 48h; allowed is 1ms to 24h"),
    (
        "[delivery]\nschedule = [\"5s\",\n \"soon\"]",
        "delivery.schedule[1] (config.toml:3): \"soon\" is not a number of seconds or a duration such as \"30s\" or \"5m\"",
    ),
    (
        "[delivery.breaker]\nfailure_ratio = 2",
        "delivery.breaker.failure_ratio (config.toml:2): 2; allowed is 0.01 to 1",
    ),
    (
        "[delivery.breaker]\nmin_attempts = 60",
        "delivery.breaker.min_attempts (config.toml:2): 60 is more than delivery.breaker.window, which is 50",
    ),
    (
        "[egress]\nallow = [\"10.0.0.0/33\"]",
        "egress.allow (config.toml:2): \"10.0.0.0/33\" is not a network such as \"10.0.0.0/8\" or \"fd00::/8\"",
    ),
    (
        "[[auth.api_keys]]\nrole = \"admin\"",
        "auth.api_keys[0].key (config.toml:1): a key of 16 to 256 characters is needed",
    ),
    (
        "[auth]\napi_keys = [{ key = \"0123456789abcdef\" }]",
        "auth.api_keys[0].role (config.toml:2): \"\" is not a role: publisher, viewer, member or admin",
    ),
    (
        "[[auth.api_keys]]\nkey = \"short\"\nrole = \"admin\"",
        "auth.api_keys[0].key (config.toml:2): a key has 16 to 256 visible ASCII characters",
    ),
    (
        "[[auth.api_keys]]\nrole = \"admin\"\nkey = 12345678",
        "auth.api_keys[0].key (config.toml:3): what stands here (hidden) is not a string",
    ),
    (
        "[auth]\napi_keys = [\"0123456789abcdef\"]",
        "auth.api_keys[0] (config.toml:2): what stands here (hidden) is not a table",
    ),
    (
        "[[auth.api_keys]]\nkey = \"0123456789abcdef\"\nrole = \"admin\"\ntenant = \"A b\"",
        "auth.api_keys[0].tenant (config.toml:4): \"A b\" is not a tenant: \"*\", or 1 to 63 of A-Z a-z 0-9 . _ : -, the first a letter or digit",
    ),
];

#[test]
fn each_error_has_its_key_and_line_and_the_allowed_values() {
    for (text, said) in WRONG {
        assert_eq!(errors_of_file(text), [*said], "{text}");
    }
}

#[test]
fn errors_name_variables_and_flags() {
    for (vars, said) in [
        (
            ("HOOKTIDE_SERVER__LISTEN", "x"),
            "server.listen (environment variable HOOKTIDE_SERVER__LISTEN): \"x\" is not an address with a port such as \"127.0.0.1:8080\" or \"[::]:8080\"",
        ),
        (
            ("HOOKTIDE_AUTH__API_KEYS", "0123456789abcdef"),
            "auth.api_keys (environment variable HOOKTIDE_AUTH__API_KEYS): what stands here (hidden) is not a list",
        ),
        (
            ("HOOKTIDE_KAFKA__URL", "x"),
            "kafka (environment variable HOOKTIDE_KAFKA__URL): unknown key; allowed here: apply, server, auth, logging, log, history, dead_letters, dedup, delivery, dispatch, egress, metrics, nats, events, sources, profiles, event_types, tenants",
        ),
        (
            ("HOOKTIDE_LOG__LEVL", "x"),
            "log.levl (environment variable HOOKTIDE_LOG__LEVL): unknown key; allowed here: segment_bytes, segment_hours, retention_hours, retention_bytes, carry_bytes, two_phase_commit",
        ),
        (("PORT", "http"), "server.listen (environment variable PORT): \"http\" is not a port, 0 to 65535"),
        (
            ("SERVER_HOST", "example.com"),
            "server.listen (environment variable SERVER_HOST): \"example.com\" is not an address to listen on, such as \"0.0.0.0\"",
        ),
        (
            ("WEBHOOK_TIMEOUT", "1h"),
            "delivery.timeout_seconds (environment variable WEBHOOK_TIMEOUT): 1h; allowed is 100ms to 10m",
        ),
        (
            ("WEBHOOK_MAX_RETRIES", "all"),
            "delivery.schedule (environment variable WEBHOOK_MAX_RETRIES): \"all\" is not a whole number from 0 to 64",
        ),
        (
            ("WEBHOOK_RETRY_DELAY", "0"),
            "delivery.schedule (environment variable WEBHOOK_RETRY_DELAY): 0s; allowed is 1ms to 24h",
        ),
    ] {
        assert_eq!(errors(&with_vars(&[vars])), [said]);
    }
    let flags = Flags { listen: vec!["nowhere".to_owned()], ..Flags::default() };
    let said = errors(&Loader { flags, ..Loader::default() });
    assert!(said[0].starts_with("server.listen (flag --listen): \"nowhere\" is not"), "{said:?}");
}

#[test]
fn all_errors_are_reported_together() {
    let (mut loader, _folder) = with_file(
        "[server]\nlisen = 1\ndrain_seconds = 0\n[log]\nsegment_bytes = true\n[[auth.api_keys]]\nkey = 1\nrole = \"king\"\n\
         [[auth.api_keys]]\nkey = \"0123456789abcdef\"\nrole = \"admin\"\nadmin = 1\n",
    );
    loader.environment = environment(&[("PORT", "x"), ("HOOKTIDE_DEDUP__MAX_KEYS", "some")]);
    let said = errors(&loader);
    let keys: Vec<&str> = said.iter().filter_map(|line| line.split_once(" (")).map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        [
            "server.listen",
            "auth.api_keys[0].key",
            "auth.api_keys[1].admin",
            "dedup.max_keys",
            "log.segment_bytes",
            "server.lisen",
            "server.drain_seconds",
            "auth.api_keys[0].role",
        ]
    );
    assert!(said[2].contains("config.toml:12"), "{said:?}");
}

#[test]
fn a_missing_file_is_an_error() {
    let loader = Loader { file: Some("/nowhere/config.toml".into()), ..Loader::default() };
    let said = loader.load_for_client().unwrap_err().to_string();
    assert!(said.starts_with("configuration file (/nowhere/config.toml): cannot be read: No such file"), "{said}");
}

#[test]
fn the_shown_configuration_hides_secrets_and_can_be_read_again() {
    let (mut loader, _folder) =
        with_file("[[auth.api_keys]]\nkey = \"0123456789abcdef\"\nrole = \"admin\"\n[log]\nsegment_hours = \"90m\"\n");
    loader.environment = environment(&[("HOOKTIDE_SERVER__LISTEN", "127.0.0.1:1,127.0.0.1:2")]);
    let shown = loader.draft().finish().unwrap().shown;
    assert!(!shown.contains("0123456789abcdef"), "{shown}");
    assert!(
        shown.contains("listen = [\"127.0.0.1:1\", \"127.0.0.1:2\"]  # environment variable HOOKTIDE_SERVER__LISTEN\n"),
        "{shown}"
    );
    assert!(shown.contains("segment_hours = \"90m\"  # "), "{shown}");
    assert!(shown.contains("\n[delivery.breaker]\nwindow = 50\n"), "{shown}");

    let (again, _folder) = with_file(&shown.replace("***", "0123456789abcdef"));
    let strip =
        |shown: &str| shown.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(strip(&again.draft().finish().unwrap().shown), strip(&shown));
}

#[test]
fn token_tenant_and_cors_settings_are_read() {
    let (mut loader, _folder) = with_file(
        "[[tenants]]\nname = \"homechef\"\nprofile = \"homechef\"\nretry_policy = { max_retries = 3, retry_delay = 60 }\n\
         [[tenants]]\nname = \"epic\"\nretry_policy = { schedule = [60, \"5m\"] }\nvisibility = \"owner\"\n",
    );
    loader.environment = environment(&[
        ("JWT_SECRET", "a-secret-of-more-than-32-bytes-in-all"),
        ("JWT_EXPIRATION", "24h"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example.com, http://localhost:3000/"),
    ]);
    let read = loader.draft().finish().unwrap();
    let config = read.config;
    assert_eq!(config.auth.token_ttl, Duration::from_secs(24 * 3600));
    assert_eq!(config.auth.jwt_secret.as_ref().map(|secret| secret.reveal().len()), Some(37));
    assert_eq!(config.auth.jwks_file, None);
    assert_eq!(config.server.cors_origins, ["https://app.example.com".into(), "http://localhost:3000".into()]);
    assert!(!read.shown.contains("a-secret-of-more"), "{}", read.shown);
    let [homechef, epic] = &*config.tenants else { panic!("{:?}", config.tenants) };
    assert_eq!((&*homechef.name, homechef.settings.profile.as_deref()), ("homechef", Some("homechef")));
    let doubled = RetryPolicy::Backoff {
        max_retries: 3,
        retry_delay: Duration::from_secs(60),
        backoff_permille: 2_000,
        max_delay: Duration::from_secs(86_400),
    };
    assert_eq!(homechef.settings.retry_policy, Some(doubled));
    let delays = [60, 300].map(Duration::from_secs);
    assert_eq!(epic.settings.retry_policy, Some(RetryPolicy::Schedule(delays.into())));
    assert_eq!((homechef.settings.visibility, epic.settings.visibility), (Visibility::Tenant, Visibility::Owner));
}

#[test]
fn the_public_url_defaults_to_the_first_listener() {
    for (listen, url) in [
        ("127.0.0.1:8081", "http://127.0.0.1:8081"),
        ("0.0.0.0:80,127.0.0.1:1", "http://127.0.0.1:80"),
        ("[::]:8080", "http://[::1]:8080"),
    ] {
        let config = with_vars(&[("HOOKTIDE_SERVER__LISTEN", listen)]).load_for_client().unwrap();
        assert_eq!(config.server.public_url(), url);
        assert_eq!(config.server.public_url_at(Some("127.0.0.1:5".parse().unwrap())), "http://127.0.0.1:5");
    }
    let config =
        with_vars(&[("HOOKTIDE_SERVER__PUBLIC_URL", "https://a.example.com/hooks/")]).load_for_client().unwrap();
    assert_eq!(config.server.public_url(), "https://a.example.com/hooks");
}
