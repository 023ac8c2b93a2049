//! Requests of providers whose form differs from a plain JSON body with one event.

use data_encoding::{BASE64, HEXLOWER};
use ring::hmac;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Server, Sink};

const SECRET: &str = "a-secret-of-the-provider";

/// A server with one webhook for everything, and the sink of the webhook.
fn server() -> (Server, Sink) {
    let (server, sink) = (Server::start(&[]), Sink::start());
    server.webhook(&sink.url("/"), &["*"], json!({}));
    (server, sink)
}

fn create(server: &Server, name: &str, document: Value) -> Value {
    let mut document = document;
    document["name"] = name.into();
    document["kind"] = document.get("kind").cloned().unwrap_or_else(|| name.into());
    let made = server.call("POST", "/api/v1/sources", Some(&document));
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()
}

fn send(server: &Server, name: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let path = format!("/api/v1/webhooks/{name}");
    Client::to(server.addr, String::new()).send("POST", &path, headers, body.as_bytes()).unwrap()
}

fn hmac_of(algorithm: hmac::Algorithm, key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, key), text.as_bytes()).as_ref().to_vec()
}

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

#[test]
fn the_json_in_a_form_of_github_is_the_data_of_the_event() {
    let (server, sink) = server();
    create(&server, "github", json!({ "secrets": [SECRET] }));
    let payload = json!({ "action": "opened", "number": 7, "text": "a&b=c ü" });
    let body = form(&[("payload", &payload.to_string())]);
    let signature = format!("sha256={}", HEXLOWER.encode(&hmac_of(hmac::HMAC_SHA256, SECRET.as_bytes(), &body)));
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("X-Hub-Signature-256", &*signature),
        ("X-GitHub-Event", "pull_request"),
        ("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
    ];
    assert!(send(&server, "github", &headers, &body).status < 300);
    let event = sink.next().json();
    assert_eq!((&event["type"], &event["data"]), (&json!("github.pull_request"), &payload), "{event}");

    // The signature is that of the form, so a changed form is refused.
    assert_eq!(send(&server, "github", &headers, &body.replace("opened", "closed")).status, 401);
}

#[test]
fn an_interaction_and_a_command_of_slack_are_events() {
    let (server, sink) = server();
    create(&server, "slack", json!({ "secrets": [SECRET] }));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    let payload = json!({ "type": "block_actions", "trigger_id": "1.2.a", "user": { "id": "U1" } });
    let cases = [
        (form(&[("payload", &payload.to_string())]), "slack.block_actions", payload.clone()),
        (form(&[("command", "/deploy"), ("trigger_id", "1.2.b")]), "slack.deploy", json!(null)),
    ];
    for (body, event_type, data) in cases {
        let signed = hmac_of(hmac::HMAC_SHA256, SECRET.as_bytes(), &format!("v0:{now}:{body}"));
        let signature = format!("v0={}", HEXLOWER.encode(&signed));
        let headers = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("X-Slack-Request-Timestamp", &*now),
            ("X-Slack-Signature", &*signature),
        ];
        let answer = send(&server, "slack", &headers, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let event = sink.next().json();
        assert!(event["type"].as_str().unwrap().starts_with("slack."), "{event}");
        if data.is_object() {
            assert_eq!((&event["type"], &event["data"]), (&json!(event_type), &data), "{event}");
        } else {
            assert_eq!(event["data"]["command"], "/deploy", "{event}");
        }
    }
}

#[test]
fn lifecycle_notifications_of_microsoft_graph_keep_their_type() {
    let (server, sink) = server();
    create(&server, "microsoft-graph", json!({ "secrets": [SECRET] }));
    for (field, value) in [("lifecycleEvent", "reauthorizationRequired"), ("changeType", "updated")] {
        let body = json!({ "value": [{ "subscriptionId": "s", "clientState": SECRET, field: value }] }).to_string();
        let answer = send(&server, "microsoft-graph", &[("Content-Type", "application/json")], &body);
        assert!(answer.status < 300, "{}", answer.text());
        assert_eq!(sink.next().json()["type"], format!("microsoft-graph.{value}"));
    }
}

#[test]
fn requests_of_twilio_keep_their_type() {
    let (server, sink) = server();
    let made = create(&server, "twilio", json!({ "secrets": [SECRET] }));
    let url = made["url"].as_str().unwrap();
    for (field, value) in [
        ("MessageStatus", "delivered"),
        ("EventType", "onMessageAdded"),
        ("StatusCallbackEvent", "participant-join"),
        ("RecordingStatus", "completed"),
    ] {
        // Twilio signs the URL and the fields in the order of their names.
        let fields = [("AccountSid", "AC1"), (field, value)];
        let signed = fields.iter().fold(url.to_owned(), |text, (name, value)| text + name + value);
        let signature = BASE64.encode(&hmac_of(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes(), &signed));
        let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("X-Twilio-Signature", &*signature)];
        let answer = send(&server, "twilio", &headers, &form(&fields));
        assert!(answer.status < 300, "{}", answer.text());
        assert_eq!(sink.next().json()["type"], format!("twilio.{value}"));
    }
}

#[test]
fn a_location_of_the_signature_that_a_scheme_does_not_read_is_an_error() {
    let (server, _) = server();
    let verify = json!({ "scheme": "code:twilio", "sig": "header:X-Mandrill-Signature" });
    let document = json!({ "name": "m", "kind": "custom", "secrets": [SECRET], "verify": verify });
    let refused = server.call("POST", "/api/v1/sources", Some(&document));
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("/verify/sig") && refused.text().contains("code:mandrill"), "{}", refused.text());
}

#[test]
fn a_batch_of_adyen_that_begins_with_a_known_item_is_accepted() {
    let (server, sink) = server();
    let key = [7; 32];
    create(&server, "adyen", json!({ "secrets": [HEXLOWER.encode(&key)] }));
    let item = |reference: &str| {
        let signed = format!("{reference}::Acme:order:1000:EUR:AUTHORISATION:true");
        json!({ "NotificationRequestItem": {
            "pspReference": reference, "merchantAccountCode": "Acme", "merchantReference": "order",
            "amount": { "value": 1000, "currency": "EUR" }, "eventCode": "AUTHORISATION", "success": "true",
            "additionalData": { "hmacSignature": BASE64.encode(&hmac_of(hmac::HMAC_SHA256, &key, &signed)) },
        } })
    };
    let notify = |items: &[Value]| {
        let body = json!({ "live": "false", "notificationItems": items }).to_string();
        let answer = send(&server, "adyen", &[("Content-Type", "application/json")], &body);
        assert_eq!((answer.status, &*answer.text()), (200, "[accepted]"));
    };
    let (first, second) = (item("8535296650153317"), item("8535296650153318"));
    notify(std::slice::from_ref(&first));
    notify(&[first.clone(), second]);
    notify(std::slice::from_ref(&first));
    let received = [sink.next().json(), sink.next().json()];
    let items = |event: &Value| event["data"]["notificationItems"].as_array().unwrap().len();
    assert_eq!(received.each_ref().map(items), [1, 2], "the second item is not lost, the repeated request is");
    assert_eq!(server.call("GET", "/api/v1/events", None).json()["data"].as_array().unwrap().len(), 2);
}

#[test]
fn hints_name_what_was_probably_meant() {
    let (server, _) = server();
    let pasted = json!({ "secrets": ["v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] });
    let made = create(&server, "github", pasted);
    assert!(made["warnings"].to_string().contains("standard-webhooks"), "{made}");
    for (kind, right) in [("whatsapp", "meta"), ("facebook", "meta"), ("outlook", "microsoft-graph")] {
        let refused = server.call("POST", "/api/v1/sources", Some(&json!({ "name": "x", "kind": kind })));
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert!(refused.text().contains(right), "{kind}: {}", refused.text());
    }
    for kind in ["gitea", "box"] {
        create(&server, kind, json!({ "secrets": [SECRET] }));
    }
    let unverified = json!({ "name": "m", "kind": "none", "dedup": "id" });
    let refused = server.call("POST", "/api/v1/sources", Some(&unverified));
    assert!(refused.status == 422 && refused.text().contains("dedup"), "{}", refused.text());
}
