//! Tests of the commands against a scripted server.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use clap::CommandFactory;
use socket2::{Domain, Socket, Type};

use super::*;

mod deliveries;

#[test]
fn the_command_definitions_are_valid() {
    Cli::command().debug_assert();
}

#[test]
fn flags_of_serve_need_no_subcommand() {
    let cli = Cli::try_parse_from(["hooktide", "--listen", "127.0.0.1:1", "--listen", "127.0.0.1:2"]).unwrap();
    assert!(cli.command.is_none());
    assert_eq!(cli.serve.listen, ["127.0.0.1:1", "127.0.0.1:2"]);
}

#[test]
fn bad_usage_is_2_and_help_is_0() {
    for (args, code) in [
        (&["hooktide", "--help"][..], 0),
        (&["hooktide", "--version"], 0),
        (&["hooktide", "nonsense"], 2),
        (&["hooktide", "send"], 2),
        (&["hooktide", "webhook", "show", "a/b"], 2),
        (&["hooktide", "webhook", "add", "http://x/", "--event", "order.*.x"], 2),
        (&["hooktide", "replay", "--since", "yesterday"], 2),
        (&["hooktide", "listen", "--fail", "99"], 2),
        (&["hooktide", "filter", "test", "{}"], 2),
        (&["hooktide", "source", "add", "shop"], 2),
        (&["hooktide", "source", "add", "shop", "--kind", "shopify", "--partner"], 2),
        (&["hooktide", "source", "add", "shop", "--kind", "shopify", "--token", "-"], 2),
        (&["hooktide", "source", "add", "shop", "--kind", "paypal", "--option", "webhook_id"], 2),
        (&["hooktide", "source", "rotate", "shop", "--token", "--secret", "-"], 2),
    ] {
        assert_eq!(Cli::try_parse_from(args).unwrap_err().exit_code(), code, "{args:?}");
    }
}

#[test]
fn check_prints_the_effective_configuration() {
    let cli = Cli::try_parse_from(["hooktide", "check", "--data-dir", "/srv/x"]).unwrap();
    let mut out = Vec::new();
    dispatch(cli, Environment::default(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("data_dir = \"/srv/x\"  # flag --data-dir\n"), "{text}");
}

#[test]
fn a_bad_configuration_is_2() {
    let cli = Cli::try_parse_from(["hooktide", "check", "--listen", "nowhere"]).unwrap();
    let e = dispatch(cli, Environment::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(e.exit_code(), ExitCode::from(2));
}
/// Responds to one request after the other, each on its own connection. Returns the requests.
pub(super) fn server(answers: &[(&str, &str)]) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers: Vec<String> = answers
        .iter()
        .map(|(status, body)| format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
        .collect();
    let served = thread::spawn(move || {
        answers.iter().map(|answer| one_request(&listener.accept().unwrap().0, answer)).collect()
    });
    (url, served)
}

fn one_request(mut stream: &TcpStream, answer: &str) -> String {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut request).unwrap() > 0, "{request}");
    }
    let length =
        request.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request.push_str(std::str::from_utf8(&body).unwrap());
    stream.write_all(answer.as_bytes()).unwrap();
    request
}

/// Runs a command against a server with these responses. Returns the printed text and the requests.
pub(super) fn command(words: &[&str], answers: &[(&str, &str)]) -> (Result<String, CliError>, Vec<String>) {
    let (url, served) = server(answers);
    let args = ["hooktide"].iter().chain(words).copied().chain(["--url", &url, "--key", "a-key-of-the-tests"]);
    let mut out = Vec::new();
    let done = dispatch(Cli::try_parse_from(args).unwrap(), Environment::default(), &mut out);
    (done.map(|_| String::from_utf8(out).unwrap()), served.join().unwrap())
}

#[test]
fn send_publishes_and_prints_the_id() {
    let answer = r#"{"id":"evt_1","status":"accepted","duplicate":false,"webhooks":1}"#;
    let (printed, requests) =
        command(&["send", "order.created", r#"{"id":  1}"#, "--id", "x"], &[("202 Accepted", answer)]);
    assert_eq!(printed.unwrap(), "evt_1\n");
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /api/v1/events HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Bearer a-key-of-the-tests"), "{head}");
    assert_eq!(body, r#"{"type":"order.created","data":{"id":  1},"id":"x"}"#);

    let (printed, _) = command(&["send", "a", "--json"], &[("200 OK", r#"{"id":"evt_1","duplicate":true}"#)]);
    assert_eq!(printed.unwrap(), "{\"id\":\"evt_1\",\"duplicate\":true}\n");
    let (printed, _) = command(&["send", "a"], &[("200 OK", r#"{"id":"evt_1","duplicate":true}"#)]);
    assert_eq!(printed.unwrap(), "evt_1 (duplicate)\n");
}

#[test]
fn webhook_add_prints_id_and_secret() {
    let answer = r#"{"id":"wh_1","secret":"whsec_x","warnings":["no events: nothing will match"]}"#;
    let words =
        ["webhook", "add", "https://example.com/in", "--event", "order.*", "--event", "a", "--rate-limit-rps", "2.5"];
    let (printed, requests) = command(&words, &[("201 Created", answer)]);
    assert_eq!(printed.unwrap(), "id: wh_1\nsecret: whsec_x\nwarning: no events: nothing will match\n");
    let body = requests[0].split_once("\r\n\r\n").unwrap().1;
    assert_eq!(body, r#"{"events":["order.*","a"],"rate_limit_rps":2.5,"url":"https://example.com/in"}"#);
}

#[test]
fn webhooks_are_paused_and_removed() {
    let (printed, requests) = command(&["webhook", "pause", "wh_1"], &[("200 OK", r#"{"status":"paused"}"#)]);
    assert_eq!(printed.unwrap(), "wh_1 paused\n");
    assert!(requests[0].starts_with("PATCH /api/v1/webhooks/wh_1 "), "{requests:?}");
    assert!(requests[0].ends_with(r#"{"status":"paused"}"#), "{requests:?}");

    let (printed, requests) = command(&["webhook", "remove", "wh_1"], &[("204 No Content", "")]);
    assert_eq!(printed.unwrap(), "wh_1 removed\n");
    assert!(requests[0].starts_with("DELETE /api/v1/webhooks/wh_1 "), "{requests:?}");
}

#[test]
fn a_refusal_is_a_sentence_with_each_field_that_is_wrong() {
    let answer = r#"{"type":"/docs/errors#invalid_body","title":"t","status":422,"detail":"2 fields are wrong","code":"invalid_body",
        "errors":[{"pointer":"/url","detail":"no URL"},{"pointer":"/secret","detail":"too short"}]}"#;
    let (done, _) = command(&["webhook", "add", "x", "--event", "*"], &[("422 Unprocessable Content", answer)]);
    let e = done.unwrap_err();
    assert_eq!(
        e.to_string(),
        "the server answered 422 invalid_body: 2 fields are wrong\n  /url: no URL\n  /secret: too short"
    );
    assert_eq!(e.exit_code(), ExitCode::FAILURE);

    let (done, _) = command(&["webhook", "list"], &[("502 Bad Gateway", "<html>")]);
    assert_eq!(done.unwrap_err().to_string(), "the server answered 502");
}

#[test]
fn a_replay_is_followed_to_its_end() {
    let (printed, requests) = command(
        &["replay", "--since", "2026-01-31T12:00:00Z", "--type", "order.*"],
        &[
            ("202 Accepted", r#"{"id":"rpl_1","status":"running","events":0}"#),
            ("200 OK", r#"{"id":"rpl_1","status":"done","events":7}"#),
        ],
    );
    assert_eq!(printed.unwrap(), "rpl_1 running events=0\nrpl_1 done events=7\n");
    assert!(requests[0].ends_with(r#"{"since":"2026-01-31T12:00:00.000Z","types":["order.*"]}"#), "{requests:?}");
    assert!(requests[1].starts_with("GET /api/v1/replays/rpl_1 "), "{requests:?}");

    let words = ["replay", "--since", "1h", "--detach"];
    let (printed, _) = command(&words, &[("202 Accepted", r#"{"id":"rpl_1","status":"running"}"#)]);
    assert_eq!(printed.unwrap(), "rpl_1\n");

    let words = ["replay", "--since", "1h"];
    let (done, _) = command(&words, &[("202 Accepted", r#"{"id":"rpl_1","status":"cancelled"}"#)]);
    assert_eq!(done.unwrap_err().to_string(), "the replay rpl_1 ended as cancelled");
}

#[test]
fn a_key_and_a_server_are_required() {
    let run = |args: &[&str]| {
        let cli = Cli::try_parse_from(args).unwrap();
        dispatch(cli, Environment::default(), &mut Vec::new()).unwrap_err()
    };
    let e = run(&["hooktide", "webhook", "list", "--data-dir", "/nowhere"]);
    assert!(e.to_string().contains("(/nowhere/admin.key: "), "{e}");
    assert_eq!(e.exit_code(), ExitCode::from(2));

    let e = run(&["hooktide", "webhook", "list", "--key", "k", "--url", "ftp://x"]);
    assert_eq!(e.to_string(), "\"ftp://x\" is not the URL of a server, such as http://127.0.0.1:8080");

    // A bound port whose owner does not listen.
    let taken = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    taken.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let deaf = taken.local_addr().unwrap().as_socket().unwrap();
    let e = run(&["hooktide", "webhook", "list", "--key", "k", "--url", &format!("http://{deaf}")]);
    assert!(e.to_string().starts_with(&format!("http://{deaf}/ cannot be reached: ")), "{e}");
    assert_eq!(e.exit_code(), ExitCode::FAILURE);
}

#[test]
fn every_field_of_a_webhook_has_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filters.json");
    std::fs::write(&file, r#"{"fields":{"a":1}}"#).unwrap();
    let filters = format!("@{}", file.display());
    let words = [
        &["webhook", "add", "https://example.com/in", "--uid", "shop:7", "--name", "n", "--description", "d"][..],
        &["--user-id", "u", "--workspace-id", "w", "--filters", &filters, "--profile", "raw", "--max-retries", "3"],
        &["--retry-delay", "1m", "--backoff", "1.5", "--max-delay", "2h", "--retry-on", "5xx,429"],
        &["--timeout-seconds", "2.5", "--rate-limit-rps", "10", "--burst", "20", "--max-in-flight", "4", "--ordered"],
        &["--ordered-by", "customer.id"],
        &["--breaker", r#"{"window":20}"#, "--header", "X-Team=a=b", "--metadata", r#"{"a":[]}"#],
        &["--status", "paused", "--tenant", "acme"],
    ]
    .concat();
    let (printed, requests) = command(&words, &[("201 Created", r#"{"id":"wh_1","secret":"s"}"#)]);
    assert_eq!(printed.unwrap(), "id: wh_1\nsecret: s\n");
    let body: serde_json::Value = serde_json::from_str(requests[0].split_once("\r\n\r\n").unwrap().1).unwrap();
    let expected = serde_json::json!({
        "url": "https://example.com/in", "uid": "shop:7", "name": "n", "description": "d", "user_id": "u",
        "workspace_id": "w", "filters": {"fields": {"a": 1}}, "profile": "raw",
        "retry_policy": {"max_retries": 3, "retry_delay": 60, "backoff": 1.5, "max_delay": 7200, "retry_on": ["5xx", "429"]},
        "timeout_seconds": 2.5, "rate_limit_rps": 10, "burst": 20, "max_in_flight": 4, "ordered": true, "ordered_by": "customer.id",
        "breaker": {"window": 20}, "headers": {"X-Team": "a=b"}, "metadata": {"a": []}, "status": "paused", "tenant": "acme",
    });
    assert_eq!(body, expected);
}

#[test]
fn webhooks_are_updated_listed_and_found_by_uid() {
    let words = ["webhook", "update", "shop:7", "--tenant", "acme", "--retry-schedule", "5s,1m,90", "--unset", "burst"];
    let words = [&words[..], &["--endpoint", "https://example.com/new", "--ordered", "false"]].concat();
    let answer = r#"{"id":"wh_1","uid":"shop:7","ordered":false,"warnings":["no events: nothing will match"]}"#;
    let (printed, requests) = command(&words, &[("200 OK", answer)]);
    assert_eq!(printed.unwrap(), "id: wh_1\nuid: shop:7\nordered: false\nwarning: no events: nothing will match\n");
    assert!(requests[0].starts_with("PATCH /api/v1/webhooks/shop:7?tenant=acme "), "{requests:?}");
    let expected =
        r#"{"burst":null,"ordered":false,"retry_policy":{"schedule":[5,60,90]},"url":"https://example.com/new"}"#;
    assert!(requests[0].ends_with(expected), "{requests:?}");

    let words = ["webhook", "list", "--status", "paused", "--type", "order.created", "--search", "a b", "--uid", "x@y"];
    let (printed, requests) = command(&words, &[("200 OK", r#"{"data":[]}"#)]);
    assert_eq!(printed.unwrap(), "no webhooks\n");
    let path = "/api/v1/webhooks?limit=50&status=paused&event_type=order.created&q=a+b&uid=x%40y";
    assert!(requests[0].starts_with(&format!("GET {path} ")), "{requests:?}");
}

#[test]
fn credentials_and_certificates_come_from_files_and_variables() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (secret, ca, key) = (file("secret", "hunter2\n"), file("ca", "CA\n"), file("key", "KEY\n"));
    for (words, expected) in [
        (
            &["--auth-basic", "shop", "--auth-secret-file", &secret][..],
            serde_json::json!({"auth": {"type": "basic", "username": "shop", "password": "hunter2"}}),
        ),
        (
            &["--auth-bearer", "--auth-secret-file", &secret],
            serde_json::json!({"auth": {"type": "bearer", "token": "hunter2"}}),
        ),
        (
            &["--auth-header", "X-Api-Key", "--auth-secret-file", &secret],
            serde_json::json!({"auth": {"type": "header", "name": "X-Api-Key", "value": "hunter2"}}),
        ),
        (&["--auth-basic", "other"], serde_json::json!({"auth": {"type": "basic", "username": "other"}})),
        (
            &["--tls-ca", &ca, "--tls-client-certificate", &ca, "--tls-client-key", &key],
            serde_json::json!({"tls": {"ca": "CA", "client_certificate": "CA", "client_key": "KEY"}}),
        ),
        (&["--unset", "auth", "--unset", "tls"], serde_json::json!({"auth": null, "tls": null})),
    ] {
        let words = [&["webhook", "update", "wh_1"][..], words].concat();
        let (printed, requests) = command(&words, &[("200 OK", r#"{"id":"wh_1","auth":{"type":"basic"}}"#)]);
        assert_eq!(printed.unwrap(), "id: wh_1\nauth: {\"type\":\"basic\"}\n");
        let body: serde_json::Value = serde_json::from_str(requests[0].split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body, expected);
    }
    for words in [
        &["--auth-basic", "a", "--auth-bearer"][..],
        &["--auth-secret", "-"],
        &["--auth-bearer", "--auth-secret", "-", "--auth-secret-env", "A"],
    ] {
        let args = [&["hooktide", "webhook", "update", "wh_1"], words].concat();
        assert_eq!(Cli::try_parse_from(&args).unwrap_err().exit_code(), 2, "{words:?}");
    }
    let received = |args: &[&str]| {
        let args = [&["hooktide", "webhook", "add", "https://example.com/"], args].concat();
        dispatch(Cli::try_parse_from(args).unwrap(), Environment::default(), &mut Vec::new()).unwrap_err().to_string()
    };
    let exposed = received(&["--auth-bearer", "--auth-secret", "hunter2"]);
    assert!(exposed.starts_with("--auth-secret takes only -") && !exposed.contains("hunter2"), "{exposed}");
    let twice = received(&["--auth-bearer", "--auth-secret", "-", "--secret", "-"]);
    assert_eq!(twice, "only one of the secrets and the JSON can come from standard input");
    assert!(received(&["--tls-ca", "/nowhere/ca.pem"]).starts_with("/nowhere/ca.pem cannot be read"));
}

#[test]
fn flags_that_contradict_are_bad_usage() {
    for words in [
        &["--retry-schedule", "5s", "--max-retries", "1", "--retry-delay", "5"][..],
        &["--retry-delay", "5s"],
        &["--backoff", "2"],
        &["--retry-on", "3xx"],
        &["--header", "X-Team"],
        &["--status", "failed"],
        &["--retry-schedule", "soon"],
    ] {
        let args = [&["hooktide", "webhook", "add", "https://example.com/"], words].concat();
        assert_eq!(Cli::try_parse_from(&args).unwrap_err().exit_code(), 2, "{words:?}");
    }
    let args = ["hooktide", "webhook", "add", "https://example.com/", "--secret", "-", "--metadata", "-"];
    let e = dispatch(Cli::try_parse_from(args).unwrap(), Environment::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(e.to_string(), "only one of the secrets and the JSON can come from standard input");
}

#[test]
fn keys_are_made_and_revoked() {
    let answer = r#"{"id":"key_1","key":"hk_x","role":"member"}"#;
    let words = ["key", "add", "--role", "member", "--tenant", "*", "--expires", "2999-01-01T00:00:00Z"];
    let (printed, requests) = command(&words, &[("201 Created", answer)]);
    assert_eq!(printed.unwrap(), "id: key_1\nkey: hk_x\n");
    let body = requests[0].split_once("\r\n\r\n").unwrap().1;
    assert_eq!(body, r#"{"role":"member","tenant":"*","expires_at":"2999-01-01T00:00:00.000Z"}"#);
    let (printed, requests) = command(&["key", "revoke", "key_1"], &[("204 No Content", "")]);
    assert_eq!(printed.unwrap(), "key_1 revoked\n");
    assert!(requests[0].starts_with("DELETE /api/v1/keys/key_1 "), "{requests:?}");
}

#[test]
fn a_token_needs_the_configured_secret() {
    let run = |environment: &[(&str, &str)]| {
        let cli = Cli::try_parse_from(["hooktide", "token", "--role", "viewer", "--ttl", "15m"]).unwrap();
        let environment = Environment::new(environment.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let mut out = Vec::new();
        dispatch(cli, environment, &mut out).map(|_| String::from_utf8(out).unwrap())
    };
    assert_eq!(run(&[]).unwrap_err().exit_code(), ExitCode::from(2));
    let token = run(&[("JWT_SECRET", "a-secret-of-more-than-32-bytes-in-all")]).unwrap();
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    for words in [&["hooktide", "token", "--role", "root"][..], &["hooktide", "token", "--tenant", "*"]] {
        assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 2, "{words:?}");
    }
}
