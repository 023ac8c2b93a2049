//! A delivery authenticates at the endpoint with the webhook's own credentials. No one else can read or use them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use nix::sys::signal::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::secrecy::holding;
use crate::support::{Server, Sink, WAIT_TIMEOUT};

const CA: &str = include_str!("../data/tls/ca.pem");
const CLIENTS_CA: &str = include_str!("../data/tls/clients-ca.pem");
const ONE: &str = include_str!("../data/tls/client-one.pem");
const ONE_KEY: &str = include_str!("../data/tls/client-one.key");
const TWO: &str = include_str!("../data/tls/client-two.pem");
const TWO_KEY: &str = include_str!("../data/tls/client-two.key");

/// A request at an HTTPS receiver: its connection, the client certificate, and the path.
#[derive(Debug)]
struct ReceivedRequest {
    connection: usize,
    certificate: CertificateDer<'static>,
    path: String,
}

/// An HTTPS receiver that requires a certificate of the clients' authority and responds with 204.
struct TlsSink {
    addr: SocketAddr,
    from: Receiver<ReceivedRequest>,
}

impl TlsSink {
    fn start() -> Self {
        let mut clients = RootCertStore::empty();
        clients.add(certificate(CLIENTS_CA)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(clients.into(), Arc::clone(&provider)).build();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_single_cert(
                vec![certificate(include_str!("../data/tls/server.pem"))],
                PrivateKeyDer::from_pem_slice(include_bytes!("../data/tls/server.key")).unwrap(),
            )
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (to, from) = sync_channel(1_000);
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().flatten().enumerate() {
                let (to, config) = (to.clone(), Arc::clone(&config));
                thread::spawn(move || serve(connection, stream, config, &to));
            }
        });
        Self { addr, from }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.addr)
    }

    fn next(&self) -> ReceivedRequest {
        self.from.recv_timeout(WAIT_TIMEOUT).expect("a delivery")
    }
}

/// Serves one connection until it ends. A failed handshake also ends it.
fn serve(connection: usize, stream: TcpStream, config: Arc<ServerConfig>, to: &SyncSender<ReceivedRequest>) {
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config).unwrap(), stream));
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if !matches!(stream.read_line(&mut first), Ok(1..)) {
            return;
        }
        loop {
            let mut line = String::new();
            if !matches!(stream.read_line(&mut line), Ok(1..)) {
                return;
            }
            match line.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        stream.read_exact(&mut vec![0; length]).unwrap();
        let certificate = stream.get_ref().conn.peer_certificates().unwrap()[0].clone().into_owned();
        let path = first.split(' ').nth(1).unwrap().to_owned();
        let _ = to.send(ReceivedRequest { connection, certificate, path });
        stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn mutual(certificate: &str, key: &str) -> Value {
    json!({ "ca": CA, "client_certificate": certificate, "client_key": key })
}

/// A unique part of a key's text.
fn piece(key: &str) -> String {
    key.lines().nth(1).unwrap().to_owned()
}

#[test]
fn each_kind_of_credentials_is_sent_and_never_shown_also_after_a_restart() {
    let mut server = Server::start(&[("LOGGING__LEVEL", "trace")]);
    let sink = Sink::start();
    let kinds = [
        (
            json!({ "type": "basic", "username": "shop", "password": "canary-of-basic" }),
            "authorization",
            "Basic c2hvcDpjYW5hcnktb2YtYmFzaWM=",
        ),
        (json!({ "type": "bearer", "token": "canary-of-bearer" }), "authorization", "Bearer canary-of-bearer"),
        (
            json!({ "type": "header", "name": "X-Api-Key", "value": "canary-of-header" }),
            "x-api-key",
            "canary-of-header",
        ),
    ];
    let ids: Vec<_> = kinds
        .iter()
        .enumerate()
        .map(|(n, (auth, _, _))| server.webhook(&sink.url(&format!("/{n}")), &["a.b"], json!({ "auth": auth })).0)
        .collect();
    let mut seen = String::new();
    for _ in 0..2 {
        let event = server.publish("a.b", &json!(1));
        for _ in &kinds {
            let got = sink.next();
            let (_, header, value) = &kinds[got.path[1..].parse::<usize>().unwrap()];
            assert_eq!((got.id(), got.headers[*header].as_str()), (event.as_str(), *value));
        }
        for id in &ids {
            let path = format!("/api/v1/webhooks/{id}");
            seen += &server.call("GET", &path, None).text();
            let tested = server.call("POST", &format!("{path}/test"), None);
            assert_eq!((tested.status, &tested.json()["success"]), (200, &json!(true)), "{}", tested.text());
            sink.next();
            let deliveries =
                server.until(&format!("{path}/deliveries"), |page| page["data"][0]["status"] == "delivered");
            let delivery = deliveries["data"][0]["id"].as_str().unwrap();
            let one = server.call("GET", &format!("/api/v1/deliveries/{delivery}"), None);
            assert!(one.json()["request"]["headers"].to_string().contains("***"), "{}", one.text());
            seen += &(tested.text() + &one.text());
        }
        server.restart(Signal::SIGTERM);
    }
    seen += &server.call("GET", "/api/v1/webhooks", None).text();
    seen += &server.call("GET", "/api/v1/audit", None).text();
    seen += &server.log();
    assert!(seen.contains(r#""password":"***""#) && seen.contains(r#""token":"***""#));
    for needle in ["canary-of-", "c2hvcDpjYW5hcn"] {
        assert!(!seen.contains(needle), "{needle} is shown");
        assert_eq!(holding(&server.data_dir(), needle.as_bytes()), Vec::<String>::new(), "{needle} is on the disk");
    }
}

#[test]
fn an_endpoint_that_requires_a_client_certificate_accepts_deliveries_with_tls_settings_only() {
    let mut server = Server::start(&[("LOGGING__LEVEL", "trace")]);
    let sink = TlsSink::start();
    let (webhook, _) = server.webhook(&sink.url("/in"), &["a.b"], json!({ "tls": mutual(ONE, ONE_KEY) }));
    let place = format!("/api/v1/webhooks/{webhook}");
    server.publish("a.b", &json!(1));
    let got = sink.next();
    assert_eq!((got.path.as_str(), got.certificate), ("/in", certificate(ONE)));
    let test = |server: &Server| server.call("POST", &format!("{place}/test"), None).json();
    assert_eq!(test(&server)["success"], true);
    assert_eq!(sink.next().certificate, certificate(ONE));

    server.restart(Signal::SIGTERM);
    server.publish("a.b", &json!(2));
    assert_eq!(sink.next().certificate, certificate(ONE));
    let shown = server.call("GET", &place, None);
    assert_eq!(shown.json()["tls"], json!({ "ca": CA, "client_certificate": ONE, "client_key": "***" }));

    // A new certificate is used from the next attempt on, on a new connection.
    let change = json!({ "tls": { "client_certificate": TWO, "client_key": TWO_KEY } });
    assert_eq!(server.call("PATCH", &place, Some(&change)).status, 200);
    assert_eq!(test(&server)["success"], true);
    assert_eq!(sink.next().certificate, certificate(TWO));

    // Without the certificate, without the authority, and without both.
    for (change, why) in [
        // The receiver's error may be lost, because it closes the connection at once.
        (json!({ "tls": { "client_certificate": null, "client_key": null } }), ""),
        (json!({ "tls": { "ca": null, "client_certificate": ONE, "client_key": ONE_KEY } }), "UnknownIssuer"),
        (json!({ "tls": null }), "UnknownIssuer"),
    ] {
        assert_eq!(server.call("PATCH", &place, Some(&change)).status, 200, "{change}");
        let tested = test(&server);
        assert_eq!(tested["success"], false, "{tested}");
        let error = tested["error"].as_str().unwrap();
        assert!(error.contains(why), "{error}");
    }
    assert!(sink.from.try_recv().is_err(), "nothing was taken");
    let seen = server.log() + &shown.text();
    for key in [ONE_KEY, TWO_KEY] {
        assert!(!seen.contains(&piece(key)), "a key is shown");
        assert_eq!(holding(&server.data_dir(), piece(key).as_bytes()), Vec::<String>::new(), "a key is on the disk");
    }
}

#[test]
fn webhooks_with_different_certificates_never_share_a_connection() {
    // Webhooks of one shard could share a connection. Four webhooks on at least two shards cover that case.
    let server = Server::start(&[]);
    let sink = TlsSink::start();
    let clients = [("/one", ONE, ONE_KEY), ("/two", TWO, TWO_KEY)];
    for n in 0..4 {
        let (path, certificate, key) = clients[n / 2];
        server.webhook(&sink.url(path), &["a.b"], json!({ "tls": mutual(certificate, key), "max_in_flight": 1 }));
    }
    let mut whose = std::collections::HashMap::new();
    for n in 0..20 {
        server.publish("a.b", &json!(n));
        for _ in 0..4 {
            let ReceivedRequest { connection, certificate: shown, path } = sink.next();
            let (_, of_path, _) = clients.iter().find(|(known, _, _)| *known == path).unwrap();
            assert_eq!(shown, certificate(of_path), "{path}");
            assert_eq!(*whose.entry(connection).or_insert(path.clone()), path);
        }
    }
    assert_eq!(whose.len(), 4, "one connection each: {whose:?}");
}

#[test]
fn the_command_gives_a_webhook_its_credentials_from_files() {
    let server = Server::start(&[]);
    let sink = TlsSink::start();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("ca.pem", CA), ("client.pem", ONE), ("client.key", ONE_KEY), ("token", "a token\n")] {
        std::fs::write(folder.path().join(name), text.replace("a token", "canary")).unwrap();
    }
    let url = format!("http://{}", server.addr);
    let hooktide = |args: &[&str]| {
        let env = [("HOOKTIDE_URL", url.as_str()), ("HOOKTIDE_KEY", server.key.as_str())];
        let (code, out, err) = crate::support::run(folder.path(), args, &env);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        out
    };
    let tls = ["--tls-ca", "ca.pem", "--tls-client-certificate", "client.pem", "--tls-client-key", "client.key"];
    let endpoint = sink.url("/in");
    hooktide(&[&["webhook", "add", &endpoint, "--uid", "mine", "--event", "a.b"][..], &tls].concat());
    let out = hooktide(&["webhook", "update", "mine", "--auth-bearer", "--auth-secret-file", "token"]);
    assert!(out.contains(r#"auth: {"token":"***","type":"bearer"}"#) && !out.contains("canary"), "{out}");
    hooktide(&["webhook", "test", "mine"]);
    assert_eq!(sink.next().certificate, certificate(ONE));
}
