//! The OpenAPI document matches the server: every path, every method, and the shape of every response.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Answer, Client, Server, Sink};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
const NO_KEY: &str = "";

/// `/openapi.json` of a running server.
struct Document(Value);

impl Document {
    fn of(server: &Server) -> Self {
        let answer = server.call("GET", "/openapi.json", None);
        assert_eq!(answer.status, 200, "{}", answer.text());
        Self(answer.json())
    }

    /// Resolves a value that is a reference.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(to) => self.resolve(self.0.pointer(to.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{to}"))),
            None => value,
        }
    }

    fn paths(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0["paths"].as_object().unwrap().iter().map(|(path, item)| (&**path, self.resolve(item)))
    }

    /// Every path with each of its methods.
    fn operations(&self) -> impl Iterator<Item = (String, String)> {
        self.paths().flat_map(|(path, item)| {
            let methods = METHODS.iter().filter(|method| item.get(**method).is_some());
            methods.map(|method| (path.to_owned(), (*method).to_owned()))
        })
    }

    /// Whether an operation can be called without a key.
    fn is_open(&self, operation: &Value) -> bool {
        let security = operation.get("security").unwrap_or(&self.0["security"]);
        security.as_array().unwrap().iter().any(|way| way.as_object().unwrap().is_empty())
    }

    /// All differences between a response and its description.
    fn violations(&self, path: &str, method: &str, answer: &Answer) -> Vec<String> {
        let item = self.resolve(&self.0["paths"][path]);
        let response = &item[method.to_ascii_lowercase()]["responses"][answer.status.to_string()];
        if response.is_null() {
            return vec![format!("the status {} is not described", answer.status)];
        }
        let response = self.resolve(response);
        let Some(content) = response["content"].as_object() else {
            return if answer.body.is_empty() { vec![] } else { vec!["a body that is not described".to_owned()] };
        };
        let media = answer.headers["content-type"].split(';').next().unwrap();
        let Some(content) = content.get(media) else { return vec![format!("{media} is not described")] };
        if !media.ends_with("json") {
            return Vec::new();
        }
        self.differences(&content["schema"], &answer.json(), "")
    }

    /// Supports the part of JSON Schema that the document uses: types, required and known members, alternatives.
    fn differences(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let mut parts = Vec::new();
        self.collect(schema, &mut parts);
        let mut found = Vec::new();
        for part in &parts {
            if !is_of_type(&part["type"], value) {
                found.push(format!("{at}: {value} is not {}", part["type"]));
            }
            let is_chosen = part["enum"].as_array().is_none_or(|choices| choices.contains(value));
            if !is_chosen || part.get("const").is_some_and(|only| only != value) {
                found.push(format!("{at}: {value} is no choice"));
            }
            for branches in ["oneOf", "anyOf"].iter().filter_map(|choice| part[*choice].as_array()) {
                let branches = branches.iter().map(|branch| self.differences(branch, value, at));
                found.extend(branches.min_by_key(Vec::len).unwrap_or_default());
            }
            for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                if let Some(items) = part.get("items") {
                    found.extend(self.differences(items, item, &format!("{at}/{n}")));
                }
            }
        }
        if let Some(members) = value.as_object() {
            found.extend(self.member_differences(&parts, members, at));
        }
        found
    }

    fn member_differences(&self, parts: &[&Value], members: &serde_json::Map<String, Value>, at: &str) -> Vec<String> {
        let mut found = Vec::new();
        let required = parts.iter().filter_map(|part| part["required"].as_array()).flatten();
        let missing = required.filter_map(Value::as_str).filter(|name| !members.contains_key(*name));
        found.extend(missing.map(|name| format!("{at}/{name} is missing")));
        // An object without described members may have any members.
        let is_described = parts.iter().any(|part| part.get("properties").is_some());
        for (name, member) in members.iter().filter(|_| is_described) {
            let described: Vec<_> = parts.iter().filter_map(|part| part["properties"].get(name)).collect();
            if described.is_empty() {
                found.push(format!("{at}/{name} is not described"));
            }
            found.extend(described.iter().flat_map(|to| self.differences(to, member, &format!("{at}/{name}"))));
        }
        found
    }

    /// Collects a schema and all schemas that apply together with it.
    fn collect<'a>(&'a self, schema: &'a Value, parts: &mut Vec<&'a Value>) {
        let schema = self.resolve(schema);
        parts.push(schema);
        for more in schema["allOf"].as_array().into_iter().flatten() {
            self.collect(more, parts);
        }
    }
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type of JSON Schema: {other}"),
    };
    match wanted {
        Value::Null => true,
        Value::Array(any) => any.iter().any(|name| is(name.as_str().unwrap())),
        one => is(one.as_str().unwrap()),
    }
}

/// The path with well-formed ids that do not exist.
fn path_with_unknown_ids(method: &str, path: &str) -> String {
    let zeros = |n| "0".repeat(n);
    if (method, path) == ("post", WEBHOOK) {
        // This parameter is the name of a source.
        return "/api/v1/webhooks/nobody".to_owned();
    }
    path.replace("{subscription_id}", &format!("sub_{}", zeros(26)))
        .replace("{key_id}", &format!("key_{}", zeros(26)))
        .replace("{event_type}", "no.such.type")
        .replace("{source_id}", &format!("src_{}", zeros(26)))
        .replace("{token}", &zeros(24))
        .replace("{event_id}", &format!("evt_{}", zeros(26)))
        .replace("{webhook_id}", &format!("wh_{}", zeros(26)))
        .replace("{delivery_id}", &format!("dlv_{}", zeros(33)))
        .replace("{dead_letter_id}", &format!("dlv_{}", zeros(33)))
        .replace("{replay_id}", "rpl_4000000000")
}

#[test]
fn exactly_the_described_operations_exist_and_need_a_key_unless_open() {
    let server = Server::start(&[]);
    let document = Document::of(&server);
    let (mut known, mut stranger) = (server.client(), Client::to(server.addr, NO_KEY.to_owned()));
    let empty = json!({});
    let mut operations = 0;
    for (path, item) in document.paths() {
        for method in METHODS {
            let at = path_with_unknown_ids(method, path);
            assert!(!at.contains('{'), "{path} has a parameter that this test does not know");
            let upper = method.to_ascii_uppercase();
            let body = (method != "get").then_some(&empty);
            let answer = known.call(&upper, &at, body);
            let Some(operation) = item.get(method) else {
                assert_eq!(answer.status, 405, "{upper} {path} is not described, and is there: {}", answer.text());
                continue;
            };
            operations += 1;
            let is_missing = answer.status == 404 && answer.json()["detail"].as_str().unwrap().contains("path");
            assert!(answer.status != 405 && !is_missing, "{upper} {path} is not there: {}", answer.text());
            let without = stranger.call(&upper, &at, body);
            // An unknown partner token is refused as well, but not for a missing key.
            let is_refused = without.status == 401
                && without.headers["www-authenticate"] == "Bearer"
                && without.json()["code"] == "unauthenticated";
            assert_eq!(is_refused, !document.is_open(operation), "{upper} {path}: {}", without.text());
        }
    }
    assert!(operations > 30, "only {operations} operations are described");
}

#[test]
fn the_described_problem_codes_are_the_existing_ones() {
    let server = Server::start(&[]);
    let document = Document::of(&server);
    let codes = document.0.pointer("/components/schemas/Problem/properties/code/enum").unwrap();
    let described: BTreeSet<_> = codes.as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    let there: BTreeSet<_> = hooktide::http::ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(described, there);
}

/// Makes calls and checks their responses against the document.
struct Session {
    document: Document,
    client: Client,
    /// Operations with a successful response.
    good: BTreeSet<(String, String)>,
}

impl Session {
    /// Makes a call with `ids` as the parameters of `path`. The response must have the status `want` and match the
    /// document.
    fn call(&mut self, method: &str, path: &str, ids: &[&str], query: &str, body: Option<Value>, want: u16) -> Answer {
        let bytes = body.map(|body| serde_json::to_vec(&body).unwrap()).unwrap_or_default();
        self.call_with_headers(&[("Content-Type", "application/json")], method, path, ids, query, &bytes, want)
    }

    #[expect(clippy::too_many_arguments, reason = "a line of the script each")]
    fn call_with_headers(
        &mut self,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        ids: &[&str],
        query: &str,
        body: &[u8],
        want: u16,
    ) -> Answer {
        let parts = path
            .split('/')
            .scan(ids.iter(), |ids, part| Some(if part.starts_with('{') { *ids.next().unwrap() } else { part }));
        let at = parts.collect::<Vec<_>>().join("/") + query;
        let answer = self.client.send(method, &at, headers, body).unwrap();
        assert_eq!(answer.status, want, "{method} {at}: {}", answer.text());
        let violations = self.document.violations(path, method, &answer);
        assert!(violations.is_empty(), "{method} {at} {want}:\n{}\n{}", violations.join("\n"), answer.text());
        if want < 400 {
            self.good.insert((path.to_owned(), method.to_ascii_lowercase()));
        }
        answer
    }
}

fn id_of(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

const EVENTS: &str = "/api/v1/events";
const EVENT: &str = "/api/v1/events/{event_id}";
const WEBHOOKS: &str = "/api/v1/webhooks";
const WEBHOOK: &str = "/api/v1/webhooks/{webhook_id}";
const PARTNER: &str = "/webhook/v1/{token}";
const DELIVERIES: &str = "/api/v1/webhooks/{webhook_id}/deliveries";
const DEAD_LETTERS: &str = "/api/v1/webhooks/{webhook_id}/dead-letters";
const REPLAYS: &str = "/api/v1/replays";
/// The operation whose success is not tested: a replay of so few events ends before it can be cancelled.
const UNTESTED_SUCCESS: (&str, &str) = ("/api/v1/replays/{replay_id}", "delete");

#[test]
fn responses_match_their_description() {
    const PUBLISHER: &str = "a-publisher-s-key-of-the-tests";
    let keys = format!(r#"[{{ key = "{PUBLISHER}", tenant = "default", role = "publisher" }}]"#);
    // The server creates no admin key if one is configured. The folder therefore gets its admin key first.
    let mut server = Server::start(&[]);
    server.set("AUTH__API_KEYS", &keys);
    server.restart(nix::sys::signal::Signal::SIGTERM);
    let sink = Sink::answering(|delivery| if delivery.path == "/dead" { 500.into() } else { 204.into() });
    let mut session = Session { document: Document::of(&server), client: server.client(), good: BTreeSet::new() };
    let s = &mut session;

    for path in ["/health", "/api/v1/health", "/ready", "/api/v1/health/ready", "/api/v1/health/live"] {
        s.call("GET", path, &[], "", None, 200);
    }
    for path in ["/metrics", "/openapi.json", "/openapi.yaml", "/docs", "/docs/errors"] {
        s.call("GET", path, &[], "", None, 200);
    }
    webhooks(s, &sink);
    more_of_webhooks(s, &sink);
    catalogue(s);
    access(s);
    sources(s);
    let good = json!({ "url": sink.url("/good"), "events": ["order.*"] });
    let good = id_of(&s.call("POST", WEBHOOKS, &[], "", Some(good), 201));
    let dead = json!({ "url": sink.url("/dead"), "events": ["order.*"], "max_retries": 0 });
    let dead = id_of(&s.call("POST", WEBHOOKS, &[], "", Some(dead), 201));
    let event = events(s);
    server.until(&format!("/api/v1/webhooks/{dead}/dead-letters"), |page| page["data"].as_array().unwrap().len() == 2);
    let delivered =
        |page: &Value| page["data"].as_array().unwrap().iter().any(|delivery| delivery["status"] == "delivered");
    server.until(&format!("/api/v1/webhooks/{good}/deliveries"), delivered);
    deliveries(s, &server, (&good, &dead), &event);
    replays(s, &server, &dead, &event);
    s.call("DELETE", WEBHOOK, &[&good], "", None, 204);
    let unseen = s.document.operations().filter(|operation| !s.good.contains(operation));
    let unseen: Vec<_> = unseen.filter(|(path, method)| (&**path, &**method) != UNTESTED_SUCCESS).collect();
    assert!(unseen.is_empty(), "no good answer was seen of {unseen:?}");

    s.client.key = PUBLISHER.to_owned();
    s.call("GET", WEBHOOKS, &[], "", None, 403);
    s.call("POST", REPLAYS, &[], "", Some(json!({})), 403);
    s.call("GET", "/metrics", &[], "", None, 403);
    s.client.key = NO_KEY.to_owned();
    s.call("GET", EVENT, &[&event], "", None, 401);
    s.call("GET", "/health", &[], "", None, 200);
}

fn webhooks(s: &mut Session, sink: &Sink) {
    let all = json!({
        "url": sink.url("/all"), "events": ["some.thing", "other.*"], "name": "a name", "description": "a description",
        "retry_policy": { "max_retries": 3, "retry_delay": 60 }, "timeout_seconds": 5, "rate_limit_rps": 10, "burst": 20,
        "max_in_flight": 2, "headers": { "Authorization": "Bearer token" }, "metadata": { "a": [1] }, "user_id": 7,
    });
    let made = s.call("POST", WEBHOOKS, &[], "", Some(all), 201);
    let id = id_of(&made);
    let tls = json!({
        "ca": include_str!("../data/tls/ca.pem"), "client_certificate": include_str!("../data/tls/client-one.pem"),
        "client_key": include_str!("../data/tls/client-one.key"),
    });
    let secure = json!({ "url": "https://example.com/", "tls": tls, "auth": { "type": "bearer", "token": "a.token" } });
    s.call("POST", WEBHOOKS, &[], "", Some(secure), 201);
    s.call("POST", WEBHOOKS, &[], "", Some(json!({ "urll": 1 })), 422);
    s.call("POST", WEBHOOKS, &[], "", Some(json!({ "url": "http://10.0.0.1/" })), 422);
    s.call_with_headers(&[("Content-Type", "text/csv")], "POST", WEBHOOKS, &[], "", b"a,b", 415);
    s.call_with_headers(&[], "POST", WEBHOOKS, &[], "", b"{", 400);
    s.call("GET", WEBHOOKS, &[], "?limit=1&status=active", None, 200);
    s.call("GET", WEBHOOKS, &[], "?limit=0", None, 400);
    let etag = s.call("GET", WEBHOOK, &[&id], "", None, 200).headers["etag"].clone();
    s.call_with_headers(&[("If-None-Match", &etag)], "GET", WEBHOOK, &[&id], "", b"", 304);
    s.call("PATCH", WEBHOOK, &[&id], "", Some(json!({ "description": null })), 200);
    let patch = br#"{"name":"b"}"#;
    s.call_with_headers(&[("Content-Type", "application/merge-patch+json")], "PATCH", WEBHOOK, &[&id], "", patch, 200);
    s.call_with_headers(&[("If-Match", &etag)], "PATCH", WEBHOOK, &[&id], "", patch, 412);
    s.call("PUT", WEBHOOK, &[&id], "", Some(json!({ "url": sink.url("/all") })), 200);
    s.call("POST", "/api/v1/webhooks/{webhook_id}/pause", &[&id], "", None, 200);
    s.call("POST", "/api/v1/webhooks/{webhook_id}/resume", &[&id], "", None, 200);
    s.call("PATCH", WEBHOOK, &[&id], "", Some(json!({ "active": false })), 200);
    s.call("POST", "/api/v1/webhooks/{webhook_id}/pause", &[&id], "", None, 409);
    s.call("DELETE", WEBHOOK, &[&id], "", None, 204);
    s.call("GET", WEBHOOK, &[&id], "", None, 404);
}

fn more_of_webhooks(s: &mut Session, sink: &Sink) {
    let all = json!({
        "url": sink.url("/all"), "uid": "mine", "workspace_id": 7, "events": ["order.paid"], "profile": "homechef",
        "filters": { "conditions": { "operator": "not", "rules": [{ "field": "a", "operator": "exists" }] } },
        "retry_policy": { "schedule": [1, 2], "retry_on": ["5xx", "timeout"] }, "ordered": true, "ordered_by": "customer.id",
        "breaker": { "window": 20, "failure_ratio": 0.9, "open_seconds": 2.5 },
        "auth": { "type": "header", "name": "X-Api-Key", "value": "a secret" },
    });
    s.call("POST", WEBHOOKS, &[], "?dry_run=true", Some(all.clone()), 200);
    s.call("POST", WEBHOOKS, &[], "?dry_run=maybe", Some(all.clone()), 400);
    let id = id_of(&s.call("POST", WEBHOOKS, &[], "", Some(all.clone()), 201));
    s.call("POST", WEBHOOKS, &[], "", Some(all.clone()), 409);
    s.call("PUT", WEBHOOK, &["mine"], "?dry_run=true", Some(all), 200);
    s.call("GET", WEBHOOK, &["mine"], "", None, 200);
    s.call("GET", WEBHOOKS, &[], "?uid=mine&user_id=nobody&workspace_id=7&q=x&event_type=order.paid", None, 200);
    for empty in ["status", "event_type", "uid", "tenant", "limit"] {
        let answer = s.call("GET", WEBHOOKS, &[], &format!("?{empty}="), None, 400);
        assert!(answer.text().contains(&format!("query parameter {empty}")), "{}", answer.text());
    }
    s.call("GET", WEBHOOKS, &[], "?q=&cursor=", None, 200);
    let bad = br#"{"url":7}"#;
    s.call_with_headers(&[("If-Match", "\"0\"")], "PATCH", WEBHOOK, &[&id], "", bad, 422);

    let test = "/api/v1/webhooks/{webhook_id}/test";
    s.call("POST", test, &[&id], "", None, 200);
    s.call("POST", test, &[&id], "", Some(json!({ "event_type": "order.paid", "data": [1] })), 200);
    s.call("POST", test, &[&id], "", Some(json!({ "event_type": "a b" })), 422);
    let again = "/api/v1/webhooks/{webhook_id}/regenerate-secret";
    s.call("POST", again, &[&id], "", Some(json!({ "overlap_seconds": 60 })), 200);
    s.call("POST", again, &[&id], "", Some(json!({ "key_type": "rsa" })), 422);
    s.call("POST", again, &[&id], "", Some(json!({ "overlap_seconds": -1 })), 422);
    s.call_with_headers(&[("If-Match", "\"0\"")], "POST", again, &[&id], "", b"", 412);
    for path in ["/api/v1/webhooks/{webhook_id}/metrics", "/api/v1/webhooks/{webhook_id}/stats"] {
        s.call("GET", path, &[&id], "", None, 200);
        s.call("GET", path, &["nobody"], "", None, 404);
    }

    let all = "/api/v1/webhooks/{webhook_id}/subscriptions";
    let wanted = json!({ "event_type": "record.*", "resource_id": 7, "filters": { "fields": { "status": "done" } } });
    let one = id_of(&s.call("POST", all, &[&id], "", Some(wanted.clone()), 201));
    s.call("POST", all, &[&id], "", Some(json!({})), 422);
    s.call("GET", all, &[&id], "?event_type=record.new&resource_id=7&is_active=true", None, 200);
    s.call("GET", all, &[&id], "?is_active=perhaps", None, 400);
    let path = "/api/v1/webhooks/{webhook_id}/subscriptions/{subscription_id}";
    let read = s.call("GET", path, &[&id, &one], "", None, 200);
    let etag = read.headers["etag"].clone();
    s.call_with_headers(&[("If-None-Match", &etag)], "GET", path, &[&id, &one], "", b"", 304);
    s.call("PUT", path, &[&id, &one], "", Some(read.json()), 200);
    s.call("PUT", path, &[&id, &one], "", Some(json!({ "event_type": "record.new" })), 200);
    s.call("PUT", path, &[&id, &one], "", Some(json!({ "event_type": 7 })), 422);
    let put = serde_json::to_vec(&wanted).unwrap();
    s.call_with_headers(&[("If-Match", &etag)], "PUT", path, &[&id, &one], "", &put, 412);
    s.call("DELETE", path, &[&id, &one], "", None, 204);
    s.call("DELETE", path, &[&id, &one], "", None, 404);
    s.call("DELETE", WEBHOOK, &["mine"], "", None, 204);

    let filter = json!({ "fields": { "n": 1 }, "user_id": ["u"] });
    let tried = "/api/v1/filters/test";
    let event = json!({ "type": "order.paid", "data": { "n": 1 }, "user_id": "u" });
    let answer = s.call("POST", tried, &[], "", Some(json!({ "filter": filter, "event": event })), 200);
    assert_eq!(answer.json()["matches"], true, "{}", answer.text());
    s.call("POST", tried, &[], "", Some(json!({ "filter": { "nope": 1 }, "event": event })), 422);
}

fn catalogue(s: &mut Session) {
    let (all, one) = ("/api/v1/event-types", "/api/v1/event-types/{event_type}");
    let good = json!({ "name": "some.thing", "category": "things", "description": "A thing", "example": { "n": 1 },
        "schema": { "type": "object" }, "validate": true });
    s.call("POST", all, &[], "", Some(good.clone()), 201);
    s.call("POST", all, &[], "", Some(good.clone()), 409);
    s.call("POST", all, &[], "", Some(json!({ "name": "a b", "validate": true })), 422);
    for path in [all, "/api/v1/webhooks/events", "/api/v1/webhooks/events/available"] {
        s.call("GET", path, &[], "?category=things&deprecated=false&q=thing", None, 200);
        s.call("GET", path, &[], "?deprecated=perhaps", None, 400);
    }
    let etag = s.call("GET", one, &["some.thing"], "", None, 200).headers["etag"].clone();
    s.call_with_headers(&[("If-None-Match", &etag)], "GET", one, &["some.thing"], "", b"", 304);
    s.call("GET", one, &["no.such.type"], "", None, 404);
    s.call("PUT", one, &["some.thing"], "?dry_run=true", Some(json!({ "deprecated": true })), 200);
    let old = json!({ "deprecated": true, "replaced_by": "other.thing" });
    s.call("PUT", one, &["some.thing"], "", Some(old.clone()), 200);
    s.call("PUT", one, &["other.thing"], "", Some(json!({})), 201);
    let bytes = serde_json::to_vec(&old).unwrap();
    s.call_with_headers(&[("If-Match", &etag)], "PUT", one, &["some.thing"], "", &bytes, 412);
    s.call("PUT", one, &["some.thing"], "", Some(json!({ "name": "another" })), 422);
    s.call("DELETE", one, &["some.thing"], "", None, 204);
    s.call("DELETE", one, &["some.thing"], "", None, 404);
}

fn access(s: &mut Session) {
    let (all, one) = ("/api/v1/keys", "/api/v1/keys/{key_id}");
    let good = json!({ "name": "a shop", "role": "viewer", "tenant": "acme", "expires_at": "2999-01-31T12:00:00Z" });
    let id = id_of(&s.call("POST", all, &[], "", Some(good), 201));
    s.call("POST", all, &[], "", Some(json!({ "role": "king" })), 422);
    s.call("GET", all, &[], "?role=viewer&tenant=acme", None, 200);
    s.call("GET", all, &[], "?role=king", None, 400);
    let etag = s.call("GET", one, &[&id], "", None, 200).headers["etag"].clone();
    s.call_with_headers(&[("If-None-Match", &etag)], "GET", one, &[&id], "", b"", 304);
    s.call("DELETE", one, &[&id], "", None, 204);
    s.call("DELETE", one, &[&id], "", None, 404);
    let tenants = "/api/v1/tenants";
    let good = json!({ "name": "umbrella", "profile": "homechef", "retry_policy": { "schedule": [1] }, "visibility": "owner" });
    s.call("POST", tenants, &[], "", Some(good.clone()), 201);
    s.call("POST", tenants, &[], "", Some(good), 409);
    s.call("POST", tenants, &[], "", Some(json!({ "name": "*", "visibility": 7 })), 422);
    s.call("GET", tenants, &[], "", None, 200);
    s.call("GET", tenants, &[], "?limit=251", None, 400);
    let changes = s.call("GET", "/api/v1/audit", &[], "?action=tenant.*&since=2020-01-01T00:00:00Z", None, 200).json();
    assert_eq!(changes["data"].as_array().unwrap().len(), 1, "{changes}");
    s.call("GET", "/api/v1/audit", &[], "?since=", None, 400);
}

const SOURCES: &str = "/api/v1/sources";
const SOURCE: &str = "/api/v1/sources/{source_id}";

fn sources(s: &mut Session) {
    let rules = json!({ "required_fields": ["data.id"], "schema": { "type": "object" } });
    let partner = json!({ "name": "acme", "kind": "partner", "description": "A partner", "rate_limit_rps": 2,
        "validation_config": rules, "max_body_bytes": "1 MiB", "event_map": [{ "when": "*", "type": "acme.{topic}" }] });
    let made = s.call("POST", SOURCES, &[], "", Some(partner.clone()), 201).json();
    let token = made["token"].as_str().unwrap().to_owned();
    s.call("POST", SOURCES, &[], "", Some(partner), 409);
    s.call("POST", SOURCES, &[], "", Some(json!({ "name": "b", "kind": "nobody" })), 422);
    let verify = json!({ "scheme": "hmac", "sig": "header:X-S", "encoding": "hex" });
    let custom =
        json!({ "name": "erp", "kind": "custom", "verify": verify, "id": ["header:X-Id"], "type": "json:/type" });
    s.call("POST", SOURCES, &[], "", Some(custom), 201);
    s.call("GET", SOURCES, &[], "?limit=1&status=ACTIVE&q=acme", None, 200);
    s.call("GET", SOURCES, &[], "?status=gone", None, 400);
    let etag = s.call("GET", SOURCE, &["acme"], "", None, 200).headers["etag"].clone();
    s.call_with_headers(&[("If-None-Match", &etag)], "GET", SOURCE, &["acme"], "", b"", 304);
    s.call("PATCH", SOURCE, &["acme"], "", Some(json!({ "description": null })), 200);
    s.call_with_headers(&[("If-Match", &etag)], "PATCH", SOURCE, &["acme"], "", br#"{"burst":3}"#, 412);
    s.call("PATCH", SOURCE, &["acme"], "", Some(json!({ "nope": 1 })), 422);
    s.call(
        "POST",
        "/api/v1/sources/{source_id}/rotate-secret",
        &["erp"],
        "",
        Some(json!({ "overlap_seconds": 60 })),
        200,
    );
    s.call("POST", "/api/v1/sources/{source_id}/rotate-token", &["erp"], "", None, 409);
    s.call("GET", "/api/v1/sources/{source_id}/guide", &["erp"], "", None, 200);

    let event = json!({ "event_type": "user.created", "id": "1", "data": { "id": 7 } });
    let first = id_of(&s.call("POST", PARTNER, &[&token], "", Some(event.clone()), 202));
    let read = s.call("GET", EVENT, &[&first], "", None, 200).json();
    assert_eq!((&read["topic"], &read["mapping"]), (&json!("user.created"), &json!("mapped")), "{read}");
    assert!(read["raw"].as_str().is_some_and(|raw| raw.contains("event_type")), "{read}");
    s.call("POST", PARTNER, &[&token], "", Some(event.clone()), 200);
    s.call("POST", PARTNER, &["0123456789012345678901234567"], "", Some(event.clone()), 401);
    s.call("POST", WEBHOOK, &["erp"], "", Some(event.clone()), 401);
    s.call("POST", SOURCES, &[], "", Some(json!({ "name": "open", "kind": "none" })), 201);
    s.call("POST", WEBHOOK, &["open"], "", Some(event.clone()), 202);
    s.call("POST", WEBHOOK, &["nobody"], "", Some(event.clone()), 404);
    let rejections = s.call("GET", "/api/v1/sources/{source_id}/rejections", &["erp"], "", None, 200).json();
    assert_eq!(rejections["data"].as_array().unwrap().len(), 1, "{rejections}");
    s.call("GET", "/api/v1/sources/{source_id}/rejections", &["erp"], "?limit=0", None, 400);
    s.call("PATCH", SOURCE, &["acme"], "", Some(json!({ "status": "suspended", "rate_limit_rps": null })), 200);
    s.call("POST", PARTNER, &[&token], "", Some(event.clone()), 403);
    s.call("PATCH", SOURCE, &["acme"], "", Some(json!({ "status": "active" })), 200);
    s.call("POST", PARTNER, &[&token], "", Some(json!({ "event_type": "user.created", "data": {} })), 422);
    let rotated = s.call("POST", "/api/v1/sources/{source_id}/rotate-token", &["acme"], "", None, 200).json();
    let forget = "/api/v1/sources/{source_id}/forget-secret";
    s.call("POST", forget, &["acme"], "", None, 409);
    let asana = json!({ "name": "asana", "kind": "asana", "secrets": ["a-secret-of-asana"] });
    s.call("POST", "/api/v1/sources", &[], "", Some(asana), 201);
    s.call("POST", forget, &["asana"], "", None, 200);
    s.call("POST", PARTNER, &[&token], "", Some(event.clone()), 401);
    s.call("POST", PARTNER, &[rotated["token"].as_str().unwrap()], "", Some(event), 200);
    s.call("DELETE", SOURCE, &["acme"], "", None, 204);
    s.call("GET", SOURCE, &["acme"], "", None, 404);
    s.call("POST", "/api/v1/sources/{source_id}/restore", &["acme"], "", None, 200);
    s.call("DELETE", SOURCE, &["acme"], "", None, 204);
}

fn events(s: &mut Session) -> String {
    let event = json!({
        "type": "order.created", "data": { "n": 1 }, "id": "mine", "resource_id": 1, "workspace_id": "w", "user_id": "u",
        "metadata": { "k": "v" }, "timestamp": "2026-01-31T12:00:00Z", "tenant": "default",
    });
    let id = id_of(&s.call("POST", EVENTS, &[], "", Some(event.clone()), 202));
    s.call("POST", EVENTS, &[], "", Some(event), 200);
    let many = json!([{ "event": "order.paid", "data": 1 }, { "type": "a b", "data": 1 }]);
    s.call("POST", EVENTS, &[], "", Some(many), 202);
    s.call("POST", EVENTS, &[], "", Some(json!({ "type": "order.created" })), 422);
    s.call("POST", EVENTS, &[], "", Some(json!({ "type": "order.created", "data": 1, "nope": 1 })), 422);
    let refused = s.call("POST", EVENTS, &[], "", Some(json!([{ "type": "a b", "data": 1 }])), 422);
    assert_eq!(refused.json()["rejected"], 1, "{}", refused.text());
    s.call_with_headers(&[("Content-Type", "application/json")], "POST", EVENTS, &[], "", b"{\"type\":", 400);
    let page = s.call("GET", EVENTS, &[], "?limit=1&type=order.*", None, 200);
    assert!(page.json()["next_cursor"].is_string(), "{}", page.text());
    let read = s.call("GET", EVENT, &[&id], "", None, 200);
    assert_eq!(read.json()["data"], json!({ "n": 1 }));
    id
}

fn deliveries(s: &mut Session, server: &Server, (good, dead): (&str, &str), event: &str) {
    s.call("GET", EVENT, &[event], "", None, 200);
    let page = s.call("GET", DELIVERIES, &[good], "?status=delivered", None, 200).json();
    let delivery = page["data"][0]["id"].as_str().unwrap();
    for path in ["/api/v1/deliveries/{delivery_id}", "/api/v1/webhooks/deliveries/{delivery_id}"] {
        let etag = s.call("GET", path, &[delivery], "", None, 200).headers["etag"].clone();
        s.call_with_headers(&[("If-None-Match", &etag)], "GET", path, &[delivery], "", b"", 304);
    }
    s.call("GET", DELIVERIES, &[dead], "", None, 200);
    for path in ["/api/v1/deliveries", "/api/v1/webhooks/deliveries"] {
        s.call("GET", path, &[], &format!("?webhook_id={good}&event_type=order.*&q=order&limit=1"), None, 200);
        s.call("GET", path, &[], "?status=gone", None, 400);
    }
    s.call("GET", "/api/v1/dead-letters", &[], &format!("?webhook_id={dead}&failure_reason=exhausted"), None, 200);
    s.call("GET", "/api/v1/dead-letters", &[], "?failure_reason=bored", None, 400);
    s.call("GET", "/api/v1/stats", &[], "?since=2026-01-31T12:00:00Z", None, 200);
    s.call("GET", "/api/v1/stats", &[], "?since=yesterday", None, 400);
    let delivered = |page: &Value| page["status"] == "delivered";
    for path in ["/api/v1/deliveries/{delivery_id}/retry", "/api/v1/webhooks/deliveries/{delivery_id}/retry"] {
        // A delivered event is delivered again.
        s.call("POST", path, &[delivery], "", None, 202);
        server.until(&format!("/api/v1/deliveries/{delivery}"), delivered);
        s.call("POST", path, &[delivery], "", Some(json!({ "now": true })), 422);
    }
    let page = s.call("GET", DEAD_LETTERS, &[dead], "", None, 200).json();
    let [letter, other] = [0, 1].map(|n| page["data"][n]["id"].as_str().unwrap());
    let one = "/api/v1/webhooks/{webhook_id}/dead-letters/{dead_letter_id}";
    s.call("DELETE", one, &[dead, other], "", None, 204);
    s.call("GET", one, &[dead, other], "", None, 404);
    s.call("GET", one, &[dead, letter], "", None, 200);
    s.call("POST", &format!("{one}/replay"), &[dead, letter], "", None, 202);
    let dead_again = |page: &Value| !page["data"].as_array().unwrap().is_empty();
    server.until(&format!("/api/v1/webhooks/{dead}/dead-letters"), dead_again);
    s.call("POST", &format!("{DEAD_LETTERS}/bulk-replay"), &[dead], "", Some(json!({ "ids": [letter] })), 202);
    let recover = "/api/v1/webhooks/{webhook_id}/recover";
    s.call("POST", recover, &[dead], "", Some(json!({ "since": "2026-01-31T12:00:00Z" })), 202);
    s.call("POST", recover, &[dead], "", Some(json!({})), 422);
    let since = json!({ "since": "2026-01-31T12:00:00Z" });
    s.call("POST", recover, &["nobody"], "", Some(since), 404);
    let filter = json!({ "filter": { "types": ["order.*"], "failure_reason": "exhausted" } });
    s.call("POST", &format!("{DEAD_LETTERS}/bulk-replay"), &[dead], "", Some(filter), 202);
    s.call("POST", &format!("{DEAD_LETTERS}/bulk-replay"), &[dead], "", Some(json!({ "ids": ["x"] })), 422);
    let unknown = json!({ "filter": { "failure_reason": "bored" } });
    s.call("POST", &format!("{DEAD_LETTERS}/bulk-replay"), &[dead], "", Some(unknown), 422);
}

fn replays(s: &mut Session, server: &Server, webhook: &str, event: &str) {
    let to = json!({ "webhook_id": webhook });
    s.call("POST", "/api/v1/events/{event_id}/replay", &[event], "", Some(to), 202);
    let wanted = json!({ "since": "2026-01-31T12:00:00Z", "types": ["order.*"], "webhook_id": webhook });
    let id = id_of(&s.call("POST", REPLAYS, &[], "", Some(wanted), 202));
    s.call("POST", "/api/v1/replay", &[], "", Some(json!({ "since": "yesterday" })), 422);
    for path in ["/api/v1/replay", REPLAYS] {
        s.call("POST", path, &[], "", Some(json!({ "until": "2026-01-31T12:00:00Z" })), 202);
        s.call("GET", path, &[], "?limit=1", None, 200);
    }
    s.call("GET", "/api/v1/replays/{replay_id}", &[&id], "", None, 200);
    s.call("GET", "/api/v1/replays/{replay_id}", &["rpl_4000000000"], "", None, 404);
    server.until(&format!("/api/v1/replays/{id}"), |replay| replay["status"] == "done");
    s.call("DELETE", "/api/v1/replays/{replay_id}", &[&id], "", None, 409);
}
