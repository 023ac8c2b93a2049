//! Tests of building sources from valid and invalid settings.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::testing::{build, identity, settings};
use super::*;
use crate::inbound::provider::DedupMode;
use crate::limits::SOURCE_BODY_BYTES_DEFAULT;
use crate::signature::RequestParts;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A custom source with additional lines.
fn custom(lines: &str) -> String {
    format!(
        "name = \"acme\"\nkind = \"custom\"\nsecrets = [\"{SECRET}\"]\n\
         verify = {{ scheme = \"hmac\", sig = \"header:X-Sig\", encoding = \"hex\" }}\n{lines}"
    )
}

/// A source of this kind with additional lines.
fn of_kind(kind: &str, lines: &str) -> String {
    format!("name = \"acme\"\nkind = \"{kind}\"\n{lines}")
}

/// The pointers of the violations.
fn wrong(toml: &str) -> Vec<String> {
    build(toml).err().unwrap_or_default().into_iter().map(|violation| violation.pointer).collect()
}

fn detail(toml: &str) -> String {
    build(toml).unwrap_err().remove(0).detail
}

#[test]
fn a_provider_source_needs_only_three_lines() {
    let source = build(&of_kind("shopify", &format!("secrets = [\"{SECRET}\"]"))).unwrap();
    assert_eq!(&*source.url, "https://hooks.example.com/api/v1/webhooks/acme");
    assert_eq!(source.status, SourceStatus::Active);
    assert_eq!(source.max_body_bytes, SOURCE_BODY_BYTES_DEFAULT);
    assert_eq!((source.rate_limit, source.secrets.len(), source.recipe.dedup), (None, 1, DedupMode::Id));
    assert!(source.warnings.is_empty(), "{:?}", source.warnings);
    assert!(!source.event_map.is_empty());
}

#[test]
fn all_settings_are_applied() {
    let source = build(&custom(
        r#"
        description = "Acme's shop"
        status = "SUSPENDED"
        id = ["header:X-Id", "json:/id"]
        type = "json:/type"
        dedup = "id+body"
        respond = "OK"
        event_map = [{ when = "*", type = "acme.{topic}" }]
        max_body_bytes = "2 MiB"
        rate_limit_rps = 2.5
        url = "https://proxy.example.com/in/acme/"
        "#,
    ))
    .unwrap();
    assert_eq!(source.status, SourceStatus::Suspended);
    assert_eq!((source.recipe.id.len(), source.recipe.event_type.len()), (2, 1));
    assert_eq!((source.recipe.dedup, source.recipe.respond.as_deref()), (DedupMode::IdAndBody, Some("OK")));
    assert_eq!(source.max_body_bytes, 2 << 20);
    assert_eq!(source.rate_limit, Some(RateLimit { per_second: 2.5, burst: 3 }));
    assert_eq!(&*source.url, "https://proxy.example.com/in/acme/", "as the sender was told");
}

#[test]
fn kinds_without_a_provider() {
    let none = build(&of_kind("none", "")).unwrap();
    assert_eq!(none.warnings.len(), 1, "{:?}", none.warnings);
    assert_eq!(none.recipe.dedup, DedupMode::Body);
    let secrets = format!("secrets = [\"user:{SECRET}\"]");
    for kind in ["token", "basic"] {
        assert!(build(&of_kind(kind, &secrets)).unwrap().recipe.accepts_forms, "{kind}");
        let elsewhere = format!("{secrets}\nverify = {{ scheme = \"{kind}\", sig = \"header:X-Token\" }}");
        assert!(build(&of_kind(kind, &elsewhere)).is_ok(), "{kind}");
        let other = format!("{secrets}\nverify = {{ scheme = \"hmac\", sig = \"header:X\", encoding = \"hex\" }}");
        assert_eq!(wrong(&of_kind(kind, &other)), ["/verify/scheme"]);
    }
    let partner = build(&of_kind("partner", "")).unwrap();
    assert_eq!(&*partner.url, "https://hooks.example.com/webhook/v1/");
    assert_eq!((partner.recipe.dedup, partner.recipe.accepts_forms), (DedupMode::Id, false));
    assert!(partner.warnings.is_empty(), "{:?}", partner.warnings);
    let by_body = build(&of_kind("partner", "dedup = \"body\"")).unwrap();
    assert_eq!(by_body.recipe.dedup, DedupMode::Body);
    let signed = format!("{secrets}\nverify = {{ scheme = \"hmac\", sig = \"header:X\", encoding = \"hex\" }}");
    assert_eq!(build(&of_kind("partner", &signed)).unwrap().secrets.len(), 1);
}

#[test]
fn sources_of_other_tenants_are_addressed_by_id() {
    let built = |kind: &str| {
        let identity = Identity { tenant: "acme".into(), ..identity() };
        Source::build(settings(&of_kind(kind, "")), identity, "https://hooks.example.com/").unwrap().url
    };
    assert_eq!(&*built("none"), "https://hooks.example.com/api/v1/webhooks/src_00000000000000000000000007");
    assert_eq!(&*built("partner"), "https://hooks.example.com/webhook/v1/");
}

#[test]
fn violations_are_reported_by_pointer() {
    let secrets = |text: &str| of_kind("stripe", &format!("secrets = {text}"));
    let long = "a".repeat(2_000);
    for (toml, pointers) in [
        (custom("").replace("acme", "Acme"), vec!["/name"]),
        (custom("").replace("acme", "events"), vec!["/name"]),
        (custom("").replace("acme", "hooktide"), vec!["/name"]),
        (of_kind("shpify", ""), vec!["/kind"]),
        (of_kind("custom", ""), vec!["/verify"]),
        (of_kind("none", "verify = { scheme = \"none\" }"), vec!["/verify"]),
        (of_kind("none", "secrets = [\"0123456789abcdef\"]"), vec!["/secrets"]),
        (of_kind("partner", "secrets = [\"0123456789abcdef\"]"), vec!["/secrets"]),
        (of_kind("stripe", ""), vec!["/secrets"]),
        (of_kind("stripe", "secrets = [\"0123456789abcdef\"]\nverify = { scheme = \"none\" }"), vec!["/verify"]),
        (secrets("[\"\"]"), vec!["/secrets/0"]),
        (secrets("[\"0123456789abcdef\", \"  \"]"), vec!["/secrets/1"]),
        (secrets("[{ value = \"\" }]"), vec!["/secrets/0/value"]),
        (secrets("[{ env = \"STRIPE\" }]"), vec!["/secrets/0/value"]),
        (secrets("[{ value = \"0123456789abcdef\", until = \"soon\" }]"), vec!["/secrets/0/until"]),
        (secrets("[{ value = \"0123456789abcdef\", when = \"header:X-Shop\" }]"), vec!["/secrets/0/when"]),
        (secrets("[{ value = \"0123456789abcdef\", when = \"json:/shop=a\" }]"), vec!["/secrets/0/when"]),
        (secrets("[{ value = \"0123456789abcdef\", when = \"path=\" }]"), vec!["/secrets/0/when"]),
        (of_kind("standard-webhooks", "secrets = [\"whsec_not base64!\"]"), vec!["/secrets/0"]),
        (custom("status = \"gone\""), vec!["/status"]),
        (custom("dedup = \"id\""), vec!["/dedup"]),
        (custom("dedup = \"hash\""), vec!["/dedup"]),
        (custom("id = \"body:/id\""), vec!["/id"]),
        (custom("id = []"), vec!["/id"]),
        (custom("type = [\"json:/a\", \"nowhere\"]"), vec!["/type"]),
        (custom("handshake = \"secret-knock\""), vec!["/handshake"]),
        (custom("tolerance = 60"), vec!["/tolerance"]),
        (of_kind("stripe", "secrets = [\"0123456789abcdef\"]\ntolerance = 0"), vec!["/tolerance"]),
        (custom(&format!("respond = \"{long}\"")), vec!["/respond"]),
        (custom(&format!("description = \"{long}\"")), vec!["/description"]),
        (custom("options = { webhook_id = \"1\" }"), vec!["/options/webhook_id"]),
        (of_kind("meta", "secrets = [\"0123456789abcdef\"]"), vec!["/options/verify_token"]),
        (
            of_kind("meta", "secrets = [\"0123456789abcdef\"]\noptions = { verify_token = \" \" }"),
            vec!["/options/verify_token"],
        ),
        (
            custom("event_map = [{ when = \"*\", type = \"a\", data = { total = \"/~\" } }]"),
            vec!["/event_map/0/data/total"],
        ),
        (custom("validation_config = {}"), vec!["/validation_config"]),
        (custom("max_body_bytes = 1"), vec!["/max_body_bytes"]),
        (custom("max_body_bytes = \"1 GiB\""), vec!["/max_body_bytes"]),
        (custom("max_body_bytes = \"much\""), vec!["/max_body_bytes"]),
        (custom("max_body_bytes = true"), vec!["/max_body_bytes"]),
        (custom("rate_limit_rps = 0.0"), vec!["/rate_limit_rps"]),
        (custom("rate_limit_rps = nan"), vec!["/rate_limit_rps"]),
        (custom("burst = 5"), vec!["/burst"]),
        (custom("rate_limit_rps = 5.0\nburst = 0"), vec!["/burst"]),
        (custom("url = \"/relative\""), vec!["/url"]),
        (custom("url = \"ftp://a.example/\""), vec!["/url"]),
        (custom("url = \"https://a.example/?x=1\""), vec!["/url"]),
        (custom("url = \"https://u:p@a.example/\""), vec!["/url"]),
        (custom("").replace("hex", "octal"), vec!["/verify/encoding"]),
        (custom("burst = 5\nstatus = \"gone\"\ndedup = \"x\""), vec!["/status", "/burst", "/dedup"]),
    ] {
        assert_eq!(wrong(&toml), pointers, "{toml}");
    }
    assert_eq!(detail(&of_kind("shpify", "")), "unknown; is it shopify?");
    assert!(detail(&of_kind("qqqqqq", "")).contains("custom"));
}

#[test]
fn a_scheme_that_signs_the_url_needs_a_public_url() {
    let toml = of_kind("square", &format!("secrets = [\"{SECRET}\"]"));
    assert!(build(&toml).unwrap().warnings.is_empty());
    let built = |toml: &str, public_url| Source::build(settings(toml), identity(), public_url);
    let violations = built(&toml, "").unwrap_err();
    assert_eq!(violations[0].pointer, "/url");
    assert_eq!(built(&toml, "http://127.0.0.1:8080").unwrap().warnings.len(), 1);
    let own = format!("{toml}\nurl = \"https://a.example/in\"");
    assert!(built(&own, "").unwrap().warnings.is_empty());
    let partner = of_kind(
        "partner",
        &format!(
            "secrets = [\"{SECRET}\"]\nverify = {{ scheme = \"hmac\", sig = \"header:X\", encoding = \"hex\", signed = \"{{url}}{{body}}\" }}"
        ),
    );
    assert_eq!(wrong(&partner), ["/verify/signed"]);
}

#[test]
fn what_cannot_work_as_written_is_explained() {
    let warnings = |kind: &str, more: &str| build(&of_kind(kind, more)).unwrap().warnings.join("; ");
    let base64 = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
    for prefix in ["", "whsec_", "v1,whsec_", "v1,"] {
        assert_eq!(warnings("standard-webhooks", &format!("secrets = [\"{prefix}{base64}\"]")), "", "{prefix}");
    }
    assert!(warnings("github", &format!("secrets = [\"v1,whsec_{base64}\"]")).contains("standard-webhooks"));
    assert_eq!(warnings("stripe", &format!("secrets = [\"whsec_{base64}\"]")), "", "Stripe's key has the prefix");
    assert!(warnings("github", "secrets = [\"'0123456789abcdef'\"]").contains("quotes"));
    let airtable = of_kind("airtable", &format!("secrets = [\"v1,whsec_{base64}\"]"));
    assert!(detail(&airtable).contains("supabase-auth"), "{}", detail(&airtable));

    assert!(warnings("none", "").contains("dedup = \"never\""));
    for more in ["dedup = \"never\"", "dedup = \"body\"", "id = \"form:id\""] {
        assert!(!warnings("none", more).contains("duplicate"), "{more}");
    }
    let by_id = detail(&of_kind("none", "dedup = \"id\""));
    assert!(by_id.contains("json:/id") && by_id.contains("never"), "{by_id}");
}

#[test]
fn a_kind_that_sends_its_secret_needs_none_at_first() {
    for kind in ["notion", "asana"] {
        assert!(build(&of_kind(kind, "")).unwrap().secrets.is_empty(), "{kind}");
    }
}

#[test]
fn weak_secrets_cause_warnings() {
    for (secret, warnings) in [(SECRET, 0), ("short-one", 1), ("0123456789abcdef0\\n", 1), (" short ", 2)] {
        let warned = build(&of_kind("token", &format!("secrets = [\"{secret}\"]"))).unwrap().warnings;
        assert_eq!(warned.len(), warnings, "{secret}: {warned:?}");
        assert!(warned.iter().all(|warning| !warning.contains(secret.trim())), "{warned:?}");
    }
}

/// The indexes of the secrets that are used for a request.
fn tried(source: &Source, headers: &[(&str, &str)], query: Option<&str>, path: &str, seconds: i64) -> Vec<usize> {
    let headers: HeaderMap =
        headers.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap())).collect();
    let request = RequestParts { method: "POST", url: "https://a.example/", query, path, headers: &headers, body: b"" };
    let tried = source.secrets_for(&request, Timestamp::from_millis(seconds * 1000)).unwrap();
    let place = |one: &SourceSecret| source.secrets.iter().position(|secret| std::ptr::eq(secret, one)).unwrap();
    tried.iter().map(|secret| place(secret)).collect()
}

#[test]
fn a_secret_with_a_condition_is_used_only_for_matching_requests() {
    let source = build(&of_kind(
        "shopify",
        r#"
        secrets = [
            "0123456789abcdef-for-all",
            { value = "0123456789abcdef-old", until = "1970-01-01T00:01:40Z" },
            { value = "0123456789abcdef-a", when = "header:X-Shopify-Shop-Domain=a.myshopify.com" },
            { value = "0123456789abcdef-b", when = "query:shop=b", until = "1970-01-01T00:01:40Z" },
            { value = "0123456789abcdef-c", when = "path=c" },
        ]
        "#,
    ))
    .unwrap();
    let shop = "x-shopify-shop-domain";
    assert_eq!(tried(&source, &[], None, "", 100), [0, 1], "the end is included");
    assert_eq!(tried(&source, &[], None, "", 101), [0]);
    assert_eq!(tried(&source, &[(shop, "a.myshopify.com")], None, "", 101), [2]);
    assert_eq!(tried(&source, &[(shop, "z.myshopify.com")], None, "", 101), [0]);
    assert_eq!(tried(&source, &[(shop, "a.myshopify.com")], Some("shop=b"), "c", 100), [2, 3, 4]);
    assert_eq!(tried(&source, &[], Some("shop=b"), "", 101), [0], "one that has ended is as if it were not there");
}
