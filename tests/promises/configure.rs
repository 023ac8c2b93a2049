//! A wrong configuration is named, key by key, before anything is opened.

use serde_json::json;

use crate::support::{Server, Sink, run};

#[test]
fn check_prints_what_is_in_force_or_one_line_for_each_thing_wrong() {
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
fn a_command_says_what_it_did() {
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
    assert!(err.contains("bearer"), "the server's words are shown: {err}");
    let (code, _, _) = run(dir.path(), &["send"], &env);
    assert_eq!(code, 2, "bad usage");
}

#[test]
fn the_log_can_be_counted_and_verified_offline() {
    let mut server = Server::start(&[]);
    for n in 0..100 {
        server.publish("a.b", &json!(n));
    }
    server.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0));
    let data = server.data_dir();
    let env = [("HOOKTIDE_SERVER__DATA_DIR", data.to_str().unwrap())];
    for command in ["stat", "verify"] {
        let (code, out, err) = run(&data, &["log", command], &env);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("100"), "{command}: {out}");
    }
}
