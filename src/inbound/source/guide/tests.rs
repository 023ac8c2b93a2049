//! Runs the programs of the guide unchanged against a socket and verifies the received requests with the source.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use http::HeaderMap;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::*;
use crate::inbound::source::{Identity, ManagedBy, SourceSettings};
use crate::model::{Secret, SourceId, Timestamp};
use crate::signature::RequestParts;

const SECRET: &str = "0123456789abcdef-key";

fn source(settings: &Value, public_url: &str) -> Source {
    let mut settings = settings.clone();
    settings["name"] = json!("acme");
    let settings: SourceSettings = serde_json::from_value(settings).unwrap();
    let token = PartnerToken::try_new("nNsCbbEO316t13WsH3fw4QIb").unwrap();
    let identity = Identity {
        id: SourceId::from_u128(1),
        tenant: Arc::from("default"),
        managed_by: ManagedBy::Api,
        token: (settings.kind == PARTNER).then(|| token.hash()),
        created_at: Timestamp::default(),
        modified_at: Timestamp::default(),
        deleted_at: None,
        version: 1,
    };
    Source::build(settings, identity, public_url).unwrap_or_else(|violations| panic!("{violations:?}"))
}

fn guide(source: &Source) -> String {
    source.guide(Some(&PartnerToken::try_new("nNsCbbEO316t13WsH3fw4QIb").unwrap()))
}

/// The program after the heading.
fn program<'g>(guide: &'g str, heading: &str) -> &'g str {
    let after = guide.split_once(heading).unwrap_or_else(|| panic!("no {heading} in {guide}")).1;
    let from = after.split_once("```").unwrap().1.split_once('\n').unwrap().1;
    from.split_once("```").unwrap().0
}

/// A received request.
struct CapturedRequest {
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

fn receive(stream: &mut TcpStream) -> CapturedRequest {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.strip_prefix("POST ").expect(&line).split(' ').next().unwrap().to_owned();
    let mut headers = HeaderMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value.trim()).unwrap());
    }
    let length = headers["content-length"].to_str().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").unwrap();
    CapturedRequest { path, headers, body }
}

/// Runs a program of the guide and returns the request it sent. Returns `None` if its language is not installed.
fn run(listener: &TcpListener, command: &mut Command, secret: &str) -> Option<CapturedRequest> {
    let mut child = command.env("WEBHOOK_SECRET", secret).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    let accepting = listener.try_clone().unwrap();
    let server = thread::spawn(move || receive(&mut accepting.accept().unwrap().0));
    assert!(child.wait().unwrap().success(), "{command:?}");
    Some(server.join().unwrap())
}

/// Signature schemes, each with the location of the id and a secret.
fn schemes() -> Vec<(Value, Value, String)> {
    let none = Value::Null;
    let sig = "header:X-Acme-Signature";
    vec![
        (
            json!({ "scheme": "hmac", "sig": sig, "prefix": "sha256=", "encoding": "hex" }),
            none.clone(),
            SECRET.to_owned(),
        ),
        (
            json!({ "scheme": "hmac", "alg": "sha512", "key": "hex", "sig": sig, "encoding": "base64",
                "signed": "v0:{time}:{body}", "time": "header:X-Acme-Time", "unit": "ms" }),
            none.clone(),
            "00112233445566778899aabbccddeeff".to_owned(),
        ),
        (
            json!({ "scheme": "hmac", "sig": sig, "split": ",", "prefix": "v1=", "encoding": "hex",
                "signed": "{time}.{body}", "time": "sig:t=" }),
            none.clone(),
            "it's \"quoted\" $HOME `x`".to_owned(),
        ),
        (
            json!({ "scheme": "hmac", "key": "whsec", "sig": "header:webhook-signature", "split": " ", "prefix": "v1,",
                "encoding": "base64", "signed": "{id}.{time}.{body}", "time": "header:webhook-timestamp" }),
            json!("header:webhook-id"),
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
        ),
        (
            json!({ "scheme": "hmac", "alg": "sha1", "key": "base64", "sig": sig, "encoding": "base64",
                "signed": "{method}|it's|{time}|{body}", "time": "header:X-Acme-Time", "unit": "rfc3339" }),
            json!("json:/delivery"),
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
        ),
    ]
}

fn verify(source: &Source, received: &CapturedRequest) {
    let request = RequestParts {
        method: "POST",
        url: &source.url,
        query: None,
        path: "",
        headers: &received.headers,
        body: &received.body,
    };
    let now = Timestamp::from_millis(system_now());
    assert_eq!(
        source.verify(&request, None, now),
        Ok(()),
        "{:?} {}",
        received.headers,
        String::from_utf8_lossy(&received.body)
    );
}

#[expect(clippy::disallowed_methods, reason = "the programs sign by the system's clock")]
fn system_now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[test]
fn requests_of_the_programs_are_verified() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let public_url = format!("http://{}", listener.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut ran = 0;
    for (verify_as, id, secret) in schemes() {
        let settings = json!({
            "kind": "partner", "verify": verify_as, "id": id, "secrets": [secret],
            "validation_config": { "allowed_event_types": ["user.*"], "required_fields": ["data.it's"], "max_age_seconds": 60 },
        });
        let source = source(&settings, &public_url);
        let guide = guide(&source);
        let file = |name: &str, heading: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, program(&guide, heading)).unwrap();
            path
        };
        let (shell, python, node) = (file("a.sh", "## Try it"), file("a.py", "### Python"), file("a.mjs", "### Node"));
        for (program, path) in [("sh", shell), ("python3", python), ("node", node)] {
            let Some(received) = run(&listener, Command::new(program).arg(path), &secret) else { continue };
            ran += 1;
            assert_eq!(received.path, "/webhook/v1/nNsCbbEO316t13WsH3fw4QIb");
            assert_eq!(received.headers["content-type"], "application/json");
            verify(&source, &received);
            let body: Value = serde_json::from_slice(&received.body).unwrap();
            assert_eq!(body["event_type"], "user.created");
            let checked = source.rules.as_ref().unwrap().check(&body, Timestamp::from_millis(system_now()));
            assert_eq!(checked, Ok(()), "{program}: {body}");
        }
    }
    assert!(ran >= schemes().len(), "no program could be run, so this tells nothing");
}

#[test]
fn the_curl_line_of_a_partner_works_unchanged() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let public_url = format!("http://{}", listener.local_addr().unwrap());
    let source = source(&json!({ "kind": "partner" }), &public_url);
    let guide = guide(&source);
    let line = program(&guide, "## Try it");
    assert_eq!(line.lines().count(), 1, "{line}");
    let received = run(&listener, Command::new("sh").args(["-c", line]), "").expect("sh");
    assert_eq!(received.path, "/webhook/v1/nNsCbbEO316t13WsH3fw4QIb");
    let body: Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!(body, json!({ "event_type": "order.created", "id": "example-1", "data": { "order_id": 1017 } }));
}

#[test]
fn a_guide_contains_no_secret_and_only_the_given_token() {
    let settings = json!({ "kind": "partner", "verify": { "scheme": "hmac", "sig": "header:X-S", "encoding": "hex" },
        "secrets": [SECRET], "description": "Orders of Acme", "rate_limit_rps": 5.0, "max_body_bytes": 2000 });
    let source = source(&settings, "https://hooks.example.com");
    let text = source.guide(None);
    for part in
        ["…4QIb", "Orders of Acme", "2000 bytes", "5 requests a second", "HMAC-SHA256", "| 429 |", "package main"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("nNsCbb") && !text.contains(SECRET));
    assert!(guide(&source).contains("https://hooks.example.com/webhook/v1/nNsCbbEO316t13WsH3fw4QIb"));
    assert!(format!("{:?}", Secret::new(SECRET)).contains("***"));
}

#[test]
fn the_go_program_imports_what_it_uses() {
    for (verify_as, id, secret) in schemes() {
        let settings = json!({ "kind": "partner", "verify": verify_as, "id": id, "secrets": [secret],
            "validation_config": { "max_age_seconds": 60 } });
        let guide = guide(&source(&settings, "https://hooks.example.com"));
        let (imports, code) = program(&guide, "### Go").split_once(")\n\n").unwrap();
        let all = [
            "bytes", "hmac", "sha1", "sha256", "sha512", "base64", "hex", "fmt", "io", "http", "os", "strconv",
            "strings", "time",
        ];
        for name in all {
            let is_imported =
                imports.lines().any(|line| line.trim().trim_matches('"').rsplit('/').next() == Some(name));
            assert_eq!(is_imported, code.contains(&format!("{name}.")), "{name} in {imports}{code}");
        }
    }
}

#[test]
fn the_guide_of_a_provider_describes_its_setup() {
    for (kind, secret) in [("stripe", "whsec_0123456789abcdef"), ("github", SECRET), ("shopify", SECRET)] {
        let source = source(&json!({ "kind": kind, "secrets": [secret] }), "https://hooks.example.com");
        let text = source.guide(None);
        for part in [
            "https://hooks.example.com/api/v1/webhooks/acme",
            "hooktide source rotate acme",
            "## Signature",
            "HMAC-SHA256",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains(secret));
    }
    let token = source(&json!({ "kind": "token", "secrets": [SECRET] }), "https://hooks.example.com").guide(None);
    assert!(token.contains("in the header `Authorization`") && token.contains("\"$WEBHOOK_SECRET\""), "{token}");
}
