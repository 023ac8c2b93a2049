//! Sources whose senders prove themselves by tokens: published keys are fetched over TLS and within the egress rules, and
//! a request whose head proves nothing is refused before its body.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::support::{Client, Server};

/// An HTTPS server that publishes a set of keys.
struct Publisher {
    addr: SocketAddr,
    document: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Publisher {
    fn start() -> Self {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("../data/tls/server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("../data/tls/server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, document, asked) = (listener.local_addr().unwrap(), Arc::default(), Arc::default());
        let (published, count): (Arc<Mutex<String>>, Arc<AtomicUsize>) = (Arc::clone(&document), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                let mut stream =
                    BufReader::new(StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream));
                let mut line = String::new();
                // A client that does not trust the certificate ends the handshake.
                while line != "\r\n" {
                    line.clear();
                    if stream.read_line(&mut line).unwrap_or(0) == 0 {
                        break;
                    }
                }
                let body = published.lock().unwrap().clone();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.get_mut().write_all([head.as_bytes(), body.as_bytes()].concat().as_slice());
                stream.get_mut().conn.send_close_notify();
                let _ = stream.get_mut().flush();
            }
        });
        Self { addr, document, asked }
    }

    fn publish(&self, keys: &[(&str, &Ed25519KeyPair)]) {
        let keys: Vec<_> = keys
            .iter()
            .map(|(id, pair)| {
                let x = BASE64URL_NOPAD.encode(pair.public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": x })
            })
            .collect();
        *self.document.lock().unwrap() = json!({ "keys": keys }).to_string();
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(id: &str, pair: &Ed25519KeyPair, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&json!({ "alg": "EdDSA", "kid": id })), part(claims));
    let signature = pair.sign(signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

fn server(publisher: &Publisher, egress: &str) -> Server {
    let ca = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls/ca.pem");
    let config = format!(
        "[server]\npublic_url = \"https://hooks.example.com\"\n\
         [egress]\nca_file = \"{}\"\n{egress}\n\
         [[sources]]\nname = \"cloud\"\nkind = \"custom\"\n\
         [sources.verify]\nscheme = \"jwt\"\nsig = \"header:Authorization\"\n\
         jwt = {{ alg = \"EdDSA\", jwks = \"https://{}/keys\", claims = {{ aud = \"{{url}}\", iss = \"me\" }} }}\n",
        ca.display(),
        publisher.addr,
    );
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let file = dir.path().join("hooktide.toml");
    std::fs::write(&file, config).unwrap();
    Server::start_in(dir, &[("CONFIG", file.to_str().unwrap())])
}

fn send(server: &Server, token: &str, body: &str) -> u16 {
    let value = format!("Bearer {token}");
    let headers = [("Authorization", value.as_str()), ("Content-Type", "application/json")];
    let mut stranger = Client::to(server.addr, String::new());
    stranger.send("POST", "/api/v1/webhooks/cloud", &headers, body.as_bytes()).unwrap().status
}

#[test]
fn published_keys_verify_tokens_and_strangers_cause_no_flood_of_requests() {
    let publisher = Publisher::start();
    let [one, two] = [[1; 32], [2; 32]].map(|seed| Ed25519KeyPair::from_seed_unchecked(&seed).unwrap());
    publisher.publish(&[("one", &one)]);
    let server = server(&publisher, "allow = [\"127.0.0.0/8\"]");
    let claims = json!({ "iss": "me", "aud": "https://hooks.example.com/api/v1/webhooks/cloud", "exp": now() + 300 });
    assert_eq!(send(&server, &token("one", &one, &claims), "{\"n\":1}"), 202, "{}", server.log());
    for (what, text) in [
        ("another key", token("one", &two, &claims)),
        ("another issuer", token("one", &one, &json!({ "iss": "you", "aud": claims["aud"], "exp": now() + 300 }))),
        ("another audience", token("one", &one, &json!({ "iss": "me", "aud": "x", "exp": now() + 300 }))),
        (
            "an end that has passed",
            token("one", &one, &json!({ "iss": "me", "aud": claims["aud"], "exp": now() - 100 })),
        ),
        ("no token", "abc".to_owned()),
    ] {
        assert_eq!(send(&server, &text, "{\"n\":2}"), 401, "{what}");
    }
    for n in 0..50 {
        assert_eq!(send(&server, &token(&format!("invented-{n}"), &two, &claims), "{}"), 401);
    }
    assert!(publisher.asked.load(Ordering::Relaxed) <= 2, "{} fetches", publisher.asked.load(Ordering::Relaxed));
    assert_eq!(send(&server, &token("one", &one, &claims), "{\"n\":3}"), 202);
    let rejections = server.call("GET", "/api/v1/sources/cloud/rejections", None).json();
    assert!(!rejections.to_string().contains(&token("one", &one, &claims)), "a token is a secret");
}

#[test]
fn keys_at_a_forbidden_address_are_not_fetched() {
    let publisher = Publisher::start();
    let one = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    publisher.publish(&[("one", &one)]);
    let server = server(&publisher, "");
    let claims = json!({ "iss": "me", "aud": "https://hooks.example.com/api/v1/webhooks/cloud", "exp": now() + 300 });
    let status = send(&server, &token("one", &one, &claims), "{}");
    assert!(matches!(status, 401 | 503), "{status}");
    assert_eq!(publisher.asked.load(Ordering::Relaxed), 0);
}

/// The body of a request without the right token is never read.
#[test]
fn a_wrong_token_is_refused_before_the_body() {
    let publisher = Publisher::start();
    let one = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    publisher.publish(&[("one", &one)]);
    let server = server(&publisher, "allow = [\"127.0.0.0/8\"]");
    let mut stream = TcpStream::connect(server.addr).unwrap();
    stream.set_read_timeout(Some(crate::support::WAIT_TIMEOUT)).unwrap();
    let head = "POST /api/v1/webhooks/cloud HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                Authorization: Bearer no\r\nContent-Length: 9000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 401");
}
