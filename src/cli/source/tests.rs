//! Tests of the `source` commands against a scripted server.

use super::super::tests::command;
use super::*;

#[test]
fn add_prints_the_url_and_sends_what_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "shpss_1\n").unwrap();
    let answer = r#"{"id":"src_1","url":"https://hooks.example.com/api/v1/webhooks/shopify","secret_hints":["…ss_1"]}"#;
    let path = file.display().to_string();
    let words = [
        "source",
        "add",
        "shopify",
        "--kind",
        "shopify",
        "--secret-file",
        &path,
        "--option",
        "a=b=c",
        "--rate",
        "5",
        "--dedup",
        "never",
    ];
    let (printed, requests) = command(&words, &[("201 Created", answer)]);
    assert_eq!(
        printed.unwrap(),
        "id: src_1\nurl: https://hooks.example.com/api/v1/webhooks/shopify\nsecrets in force: …ss_1\n"
    );
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /api/v1/sources HTTP/1.1\r\n"), "{head}");
    let sent: Value = serde_json::from_str(body).unwrap();
    let wanted = json!({"name": "shopify", "kind": "shopify", "secrets": ["shpss_1"], "options": {"a": "b=c"}, "rate_limit_rps": 5.0, "dedup": "never"});
    assert_eq!(sent, wanted);
}

#[test]
fn add_prints_token_and_guide_of_a_partner() {
    let answer = r##"{"id":"src_1","url":"http://127.0.0.1:1/webhook/v1/tok","token":"tok","guide":"# Acme\n\nSend\u001b it.","warnings":["w"]}"##;
    let rules = r#"{"required":["id"]}"#;
    let words = ["source", "add", "acme", "--partner", "--validation", rules, "--max-body", "2 MiB"];
    let (printed, requests) = command(&words, &[("201 Created", answer)]);
    assert_eq!(
        printed.unwrap(),
        "id: src_1\nurl: http://127.0.0.1:1/webhook/v1/tok\ntoken: tok\nwarning: w\n\n# Acme\n\nSend\\u{1b} it.\n"
    );
    let sent: Value = serde_json::from_str(requests[0].split_once("\r\n\r\n").unwrap().1).unwrap();
    let wanted = json!({"name": "acme", "kind": "partner", "validation_config": {"required": ["id"]}, "max_body_bytes": "2 MiB"});
    assert_eq!(sent, wanted);
}

#[test]
fn a_source_is_disabled_deleted_and_restored() {
    let (printed, requests) = command(&["source", "disable", "acme"], &[("200 OK", r#"{"status":"inactive"}"#)]);
    assert_eq!(printed.unwrap(), "acme inactive\n");
    assert!(requests[0].starts_with("PATCH /api/v1/sources/acme "), "{requests:?}");
    assert!(requests[0].ends_with(r#"{"status":"inactive"}"#), "{requests:?}");
    let (printed, _) = command(&["source", "enable", "acme"], &[("200 OK", r#"{"status":"active"}"#)]);
    assert_eq!(printed.unwrap(), "acme active\n");
    let (printed, requests) = command(&["source", "delete", "acme"], &[("204 No Content", "")]);
    assert_eq!(printed.unwrap(), "acme deleted\n");
    assert!(requests[0].starts_with("DELETE /api/v1/sources/acme "), "{requests:?}");
    let (printed, requests) = command(&["source", "restore", "acme"], &[("200 OK", r#"{"status":"active"}"#)]);
    assert_eq!(printed.unwrap(), "acme active\n");
    assert!(requests[0].starts_with("POST /api/v1/sources/acme/restore "), "{requests:?}");
}

#[test]
fn the_secret_of_a_handshake_is_forgotten() {
    let (printed, requests) = command(&["source", "forget-secret", "asana"], &[("200 OK", r#"{"name":"asana"}"#)]);
    assert_eq!(printed.unwrap(), "asana has no secret; the next handshake of the sender brings one\n");
    assert!(requests[0].starts_with("POST /api/v1/sources/asana/forget-secret "), "{requests:?}");
}

#[test]
fn a_token_is_rotated_without_a_value_and_rejections_are_a_table() {
    let words = ["source", "rotate", "acme", "--token"];
    let (printed, requests) = command(&words, &[("200 OK", r#"{"id":"src_1","url":"https://x/","token":"new"}"#)]);
    assert_eq!(printed.unwrap(), "id: src_1\nurl: https://x/\ntoken: new\n");
    assert!(requests[0].starts_with("POST /api/v1/sources/acme/rotate-token "), "{requests:?}");
    assert!(requests[0].ends_with("{}"), "{requests:?}");

    let answer = r#"{"data":[{"at":"2026-01-31T12:00:00.000Z","status":401,"request":"POST /x","reason":"header X is missing"}]}"#;
    let (printed, _) = command(&["source", "rejections", "acme"], &[("200 OK", answer)]);
    assert_eq!(
        printed.unwrap(),
        "WHEN                      STATUS  REQUEST  REASON\n\
         2026-01-31T12:00:00.000Z  401     POST /x  header X is missing\n"
    );
}

#[test]
fn a_guide_is_markdown_as_it_is() {
    let (printed, _) = command(&["source", "guide", "acme"], &[("200 OK", "# Acme\n\n- one\n")]);
    assert_eq!(printed.unwrap(), "# Acme\n\n- one\n");
}

#[test]
fn a_source_that_is_not_there_is_not_ready() {
    let (printed, _) = command(&["source", "check", "nobody"], &[("404 Not Found", r#"{"code":"not_found"}"#)]);
    assert!(printed.unwrap().starts_with("nobody is not ready\n  lacks: it is not configured: "));
}
