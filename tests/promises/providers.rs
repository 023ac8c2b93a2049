//! Requests signed by the providers' own libraries are accepted once. Changed requests are refused.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::support::{Client, Server, Sink};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// New requests of every provider. `./test` installs the libraries that make them.
fn requests() -> Vec<Value> {
    let python = Command::new(format!("{ROOT}/target/python/bin/python"))
        .arg(format!("{ROOT}/tests/providers/sign.py"))
        .output()
        .expect("target/python; ./test makes it");
    let node = Command::new("node")
        .arg("--input-type=module")
        .current_dir(format!("{ROOT}/target/node"))
        .stdin(std::fs::File::open(format!("{ROOT}/tests/providers/sign.mjs")).map(Stdio::from).unwrap())
        .output()
        .expect("node and target/node; ./test makes them");
    let mut requests = Vec::new();
    for output in [python, node] {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        requests.extend(
            output
                .stdout
                .split(|b| *b == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_slice::<Value>(line).unwrap()),
        );
    }
    assert!(requests.len() > 60, "{} requests", requests.len());
    requests
}

/// A server whose configuration file has the sources of these requests.
fn server_of(requests: &[Value]) -> Server {
    let sources: BTreeMap<_, _> =
        requests.iter().map(|request| (request["source"]["name"].to_string(), &request["source"])).collect();
    let mut config = "[server]\npublic_url = \"https://hooks.example.com\"\n".to_owned();
    config += "[egress]\nallow = [\"127.0.0.0/8\"]\n";
    for source in sources.values() {
        config += "\n[[sources]]\n";
        for (key, value) in source.as_object().unwrap() {
            match value.as_object() {
                None => config += &format!("{key} = {value}\n"),
                Some(table) => {
                    let members: Vec<_> = table.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                    config += &format!("{key} = {{ {} }}\n", members.join(", "));
                }
            }
        }
    }
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let file = dir.path().join("hooktide.toml");
    std::fs::write(&file, config).unwrap();
    Server::start_in(dir, &[("CONFIG", file.to_str().unwrap())])
}

struct Request {
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn of(request: &Value) -> Self {
        let name = request["source"]["name"].as_str().unwrap();
        let query = match request["query"].as_str().unwrap() {
            "" => String::new(),
            query => format!("?{query}"),
        };
        let headers = request["headers"].as_object().unwrap();
        Self {
            path: format!("/api/v1/webhooks/{name}{query}"),
            headers: headers.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect(),
            body: BASE64.decode(request["body"].as_str().unwrap().as_bytes()).unwrap(),
        }
    }

    fn send(&self, client: &mut Client) -> (u16, Value) {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let answer = client.send("POST", &self.path, &headers, &self.body).unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }
}

#[test]
fn requests_signed_by_the_providers_libraries_are_accepted_once_and_changed_bodies_never() {
    let requests = requests();
    let server = server_of(&requests);
    let mut stranger = Client::to(server.addr, String::new());
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for made in &requests {
        let request = Request::of(made);
        // Adyen signs only some fields, so one of them must change.
        let at = request.body.windows(5).position(|part| part == b"value").map_or(request.body.len() / 2, |at| at + 7);
        let mut forged = Request::of(made);
        forged.body[at] ^= 1;
        assert_eq!(forged.send(&mut stranger).0, 401, "{made}");

        let (status, first) = request.send(&mut stranger);
        let again = request.send(&mut stranger);
        let path = format!("/api/v1/events?source={}", made["source"]["name"].as_str().unwrap());
        let id = if first["id"].is_null() {
            // A provider that requires a specific response.
            assert!(matches!((status, again.0), (200, 200) | (204, 204)), "{status} for {made}\n{}", server.log());
            server.call("GET", &path, None).json()["data"][0]["id"].clone()
        } else {
            assert_eq!(&first["duplicate"], &json!(false), "{first} for {made}\n{}", server.log());
            assert_eq!((again.0, &again.1["duplicate"], &again.1["id"]), (200, &json!(true), &first["id"]));
            first["id"].clone()
        };
        *taken.entry(path).or_insert(0) += 1;
        let event = server.call("GET", &format!("/api/v1/events/{}", id.as_str().unwrap()), None).json();
        assert_eq!((&event["type"], &event["verified"]), (&made["type"], &json!(true)), "{event}");
        assert_eq!(event["source"], made["source"]["name"]);
        if !made["external_id"].is_null() {
            assert_eq!(event["external_id"], made["external_id"]);
        }
    }
    for (path, count) in taken {
        let events = server.call("GET", &format!("{path}&limit=250"), None).json();
        assert_eq!(events["data"].as_array().unwrap().len(), count, "{path}: each once");
    }
}

#[test]
fn real_payloads_arrive_byte_for_byte() {
    let requests: Vec<_> =
        requests().into_iter().filter(|request| request["source"]["kind"] == "github").take(20).collect();
    let server = server_of(&requests);
    let sink = Sink::start();
    server.webhook(&sink.url("/"), &["github.*"], json!({}));
    let mut stranger = Client::to(server.addr, String::new());
    for made in &requests {
        let request = Request::of(made);
        assert_eq!(request.send(&mut stranger).0, 202);
        let got = sink.next();
        let data = [b"\"data\":".as_slice(), &request.body, b"}"].concat();
        assert!(got.body.ends_with(&data), "{}", String::from_utf8_lossy(&got.body));
        assert_eq!(got.json()["type"], made["type"]);
    }
}
