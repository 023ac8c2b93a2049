//! Errors in the configuration are reported for each key before any file is opened.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Server, Sink, run};

/// The status of a request with this token to a source of kind `token`. Each request has a new body.
fn sent(server: &Server, path: &str, token: &str) -> u16 {
    static BODIES: AtomicU64 = AtomicU64::new(0);
    let body = format!("{{\"n\":{}}}", BODIES.fetch_add(1, Ordering::Relaxed));
    let headers = [("Content-Type", "application/json"), ("X-Token", token)];
    let mut client = server.client();
    client.key.clear();
    client.send("POST", path, &headers, body.as_bytes()).unwrap().status
}

#[test]
fn configured_sources_exist_at_the_start_and_change_with_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let (file, secret) = (dir.path().join("config.toml"), dir.path().join("secret"));
    std::fs::write(&secret, "first-secret-of-the-file\n").unwrap();
    let source = |name: &str| {
        let (sig, secret) = ("{ scheme = \"token\", sig = \"header:X-Token\" }", secret.display());
        format!(
            "[[sources]]\nname = \"{name}\"\nkind = \"token\"\nverify = {sig}\nsecrets = [{{ file = \"{secret}\" }}]\n"
        )
    };
    let partner = "[[sources]]\nname = \"acme\"\nkind = \"partner\"\ntoken = \"nNsCbbEO316t13WsH3fw4QIb\"\n";
    std::fs::write(&file, source("one") + partner).unwrap();
    let mut server = Server::start(&[("CONFIG", file.to_str().unwrap())]);
    let (one, two) = ("/api/v1/webhooks/one", "/api/v1/webhooks/two");
    let to_partner = "/webhook/v1/nNsCbbEO316t13WsH3fw4QIb";
    assert_eq!(sent(&server, one, "first-secret-of-the-file"), 202);
    assert_eq!(sent(&server, to_partner, ""), 202);
    assert_eq!((sent(&server, one, "another-secret"), sent(&server, two, "first-secret-of-the-file")), (401, 404));

    // An invalid file changes nothing, and neither does a missing secret file.
    std::fs::write(&file, source("one") + &source("two") + "[[sources]]\nname = \"x\"\nkind = \"nobody\"\n").unwrap();
    server.signal(Signal::SIGHUP);
    server.until_logged("sources[2].kind");
    assert_eq!(
        (sent(&server, one, "first-secret-of-the-file"), sent(&server, two, "first-secret-of-the-file")),
        (202, 404)
    );

    std::fs::write(&secret, "second-secret-of-the-file\n").unwrap();
    std::fs::write(&file, source("one") + &source("two")).unwrap();
    server.signal(Signal::SIGHUP);
    server.until_logged("configuration reloaded");
    assert_eq!(
        (sent(&server, one, "first-secret-of-the-file"), sent(&server, one, "second-secret-of-the-file")),
        (401, 202)
    );
    assert_eq!(sent(&server, two, "second-secret-of-the-file"), 202);
    assert_eq!(sent(&server, to_partner, ""), 401);

    server.restart(Signal::SIGTERM);
    assert_eq!(sent(&server, two, "second-secret-of-the-file"), 202);
    assert!(!server.log().contains("of-the-file"), "{}", server.log());
}

#[test]
fn check_prints_the_effective_configuration_or_one_line_per_error() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = run(dir.path(), &["check"], &[("HOOKTIDE_DELIVERY__TIMEOUT_SECONDS", "7")]);
    assert_eq!(code, 0);
    assert!(out.contains("timeout_seconds = 7"), "{out}");

    std::fs::write(
        dir.path().join("bad.toml"),
        "[server]\nlisten = \"nowhere\"\n[log]\nsegment_bytes = \"1 KiB\"\n[colour]\nred = 1\n",
    )
    .unwrap();
    let (code, _, err) = run(dir.path(), &["check", "--config", "bad.toml"], &[]);
    assert_eq!(code, 2);
    for key in ["server.listen", "log.segment_bytes", "colour"] {
        assert!(err.lines().any(|line| line.contains(key) && line.contains("bad.toml")), "{key} in:\n{err}");
    }
}

#[test]
fn commands_print_their_result() {
    let server = Server::start(&[]);
    let sink = Sink::start();
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://{}", server.addr);
    let env = [("HOOKTIDE_URL", &*url), ("HOOKTIDE_KEY", &*server.key)];
    let (code, out, err) = run(dir.path(), &["webhook", "add", &sink.url("/"), "--event", "a.*"], &env);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("wh_") && out.contains("whsec_"), "{out}");
    let (code, out, err) = run(dir.path(), &["send", "a.b", r#"{"n":1}"#], &env);
    assert_eq!(code, 0, "{err}");
    let delivery = sink.next();
    assert!(out.contains(delivery.id()), "{out}");
    assert_eq!(delivery.json()["data"], json!({ "n": 1 }));

    let (code, _, err) = run(dir.path(), &["send", "a.b", "1", "--key", "hk_wrong"], &env);
    assert_eq!(code, 1);
    assert!(err.contains("unauthenticated"), "the server's words are shown: {err}");
    let (code, _, _) = run(dir.path(), &["send"], &env);
    assert_eq!(code, 2, "bad usage");
}

#[test]
fn the_log_can_be_counted_and_verified_offline() {
    let mut server = Server::start(&[]);
    for n in 0..100 {
        server.publish("a.b", &json!(n));
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0));
    let data = server.data_dir();
    let env = [("HOOKTIDE_SERVER__DATA_DIR", data.to_str().unwrap())];
    for command in ["stat", "verify"] {
        let (code, out, err) = run(&data, &["log", command], &env);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("100"), "{command}: {out}");
    }
}

#[test]
fn the_log_of_a_running_server_is_not_reported_as_damaged() {
    let server = Server::start(&[]);
    server.publish("a.b", &json!(1));
    let data = server.data_dir();
    let folder = ["--data-dir", data.to_str().unwrap()];
    let (code, out, err) = run(&data, &[&["log", "stat"][..], &folder].concat(), &[]);
    assert_eq!((code, &*err), (0, ""), "{out}");
    assert!(out.contains("in use") && out.contains("a running server has this folder open"), "{out}");
    let (code, out, err) = run(&data, &[&["log", "verify"][..], &folder].concat(), &[]);
    assert_eq!(code, 1, "{out}");
    assert!(err.contains("stop the server") && !out.contains("damaged"), "{out}{err}");

    // The server is not affected.
    assert_eq!(server.call("GET", "/ready", None).status, 200);
    server.publish("a.b", &json!(2));
}

#[test]
fn a_second_server_on_a_folder_is_refused() {
    let server = Server::start(&[]);
    let data = server.data_dir();
    let (code, out, err) = run(&data, &["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()], &[]);
    assert_eq!((code, &*out), (1, ""));
    assert!(err.contains("another server has the data folder"), "{err}");
}

#[test]
fn a_missing_folder_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = run(dir.path(), &["log", "stat", "--data-dir", "nowhere"], &[]);
    assert_eq!(code, 2);
    assert!(err.contains("nowhere"), "{err}");
}
