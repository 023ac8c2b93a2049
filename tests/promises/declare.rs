//! A declared file is applied by the command and by the server itself. The event type catalogue validates events.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::Server;

/// Runs the command against a server. Returns its exit code, output and errors.
fn hooktide(server: &Server, args: &[&str], vars: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(crate::support::binary());
    command
        .args(args)
        .env_clear()
        .env("HOOKTIDE_URL", format!("http://{}", server.addr))
        .env("HOOKTIDE_KEY", &server.key);
    let output = command.envs(vars.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn uids(server: &Server) -> Vec<String> {
    let list = server.call("GET", "/api/v1/webhooks", None).json();
    let rows = list["data"].as_array().unwrap().iter();
    rows.filter_map(|row| row["uid"].as_str().map(str::to_owned)).collect()
}

#[test]
fn applying_a_file_is_idempotent_and_prunes() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("webhooks.toml");
    let file = path.to_str().unwrap();
    let webhook =
        |uid: &str| format!("[[webhooks]]\nuid = \"{uid}\"\nurl = \"http://127.0.0.1:9999/{uid}\"\nevents = [\"a\"]\n");
    std::fs::write(&path, format!("[[event_types]]\nname = \"a\"\n{}{}", webhook("one"), webhook("two"))).unwrap();

    let (code, out, err) = hooktide(&server, &["apply", "-f", file, "--dry-run"], &[]);
    assert_eq!(
        (code, out.lines().last()),
        (0, Some("would be: 3 added, 0 changed, 0 unchanged, 0 removed, 0 left")),
        "{err}"
    );
    assert!(uids(&server).is_empty());
    let (code, out, err) = hooktide(&server, &["apply", "-f", file], &[]);
    assert_eq!((code, out.lines().last()), (0, Some("3 added, 0 changed, 0 unchanged, 0 removed, 0 left")), "{err}");
    assert_eq!(out.matches("secret: whsec_").count(), 2, "{out}");
    let (_, out, _) = hooktide(&server, &["apply", "-f", file], &[]);
    assert_eq!(out, "0 added, 0 changed, 3 unchanged, 0 removed, 0 left\n");

    std::fs::write(&path, webhook("one").replace("[\"a\"]", "[\"a\", \"b\"]\nordered_by = \"a.b\"")).unwrap();
    let (_, out, _) = hooktide(&server, &["apply", "-f", file, "--prune"], &[]);
    assert_eq!(
        out,
        "~ webhook one\n    events: [\"a\"] -> [\"a\",\"b\"]\n    ordered: false -> true\n    ordered_by: \"a.b\"\n- webhook two\n0 added, 1 changed, 0 unchanged, 1 removed, 0 left\n"
    );
    assert_eq!(uids(&server), ["one"]);

    // An error in the file's form gives exit code 2, a refusal by the server exit code 1. Line and key are named.
    std::fs::write(&path, webhook("one") + "secret = \"whsec_canary\"\n").unwrap();
    let (code, _, err) = hooktide(&server, &["apply", "-f", file], &[]);
    assert_eq!(code, 2);
    assert!(err.contains("webhooks.toml:5: webhooks[0].secret: ") && !err.contains("canary"), "{err}");
    std::fs::write(&path, webhook("one") + "timeout_seconds = 0\n").unwrap();
    let (code, _, err) = hooktide(&server, &["apply", "-f", file], &[]);
    assert_eq!((code, err.contains("webhooks.toml:5: webhooks[0].timeout_seconds: ")), (1, true), "{err}");
}

#[test]
fn subscriptions_types_and_secrets_by_reference_are_applied_once() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let (path, secret) = (folder.path().join("webhooks.toml"), folder.path().join("secret"));
    let file = path.to_str().unwrap();
    let whsec = |letter: &str| format!("whsec_{}", letter.repeat(32));
    std::fs::write(&secret, whsec("a")).unwrap();
    let types = "[[event_types]]\nname = \"order.created\"\ncategory = \"orders\"\nexample = { id = 1 }\n";
    let one = format!(
        "[[webhooks]]\nuid = \"one\"\nurl = \"http://127.0.0.1:9999/\"\nsecret = {{ file = \"{}\" }}\n\
         [[webhooks.subscriptions]]\nevent_type = \"order.created\"\n\
         [[webhooks.subscriptions]]\nevent_type = \"order.*\"\nresource_id = 7\nfilters = {{ fields = {{ paid = true }} }}\n",
        secret.display()
    );
    let two = "[[webhooks]]\nuid = \"two\"\nurl = \"http://127.0.0.1:9999/two\"\n";
    let apply = |more: &[&str]| {
        let (code, out, err) = hooktide(&server, &[&["apply", "-f", file], more].concat(), &[]);
        assert_eq!((code, &*err), (0, ""), "{out}");
        assert!(!out.contains(&whsec("a")) && !out.contains(&whsec("b")), "{out}");
        out
    };
    let subscriptions = || {
        let list = server.call("GET", "/api/v1/webhooks/one/subscriptions", None).json();
        let rows = list["data"].as_array().unwrap().iter();
        rows.map(|row| (row["id"].clone(), row["event_type"].clone(), row["is_active"].clone())).collect::<Vec<_>>()
    };
    let hint = || server.call("GET", "/api/v1/webhooks/one", None).json()["secret_hint"].clone();
    std::fs::write(&path, format!("{types}{one}{two}")).unwrap();
    let out = apply(&[]);
    assert!(out.ends_with("3 added, 0 changed, 0 unchanged, 0 removed, 0 left\n"), "{out}");
    assert_eq!(out.matches("secret: whsec_").count(), 1, "of the one that was made: {out}");
    let (before, version) =
        (subscriptions(), server.call("GET", "/api/v1/webhooks/one", None).json()["updated_at"].clone());
    assert_eq!((before.len(), hint()), (2, json!("whsec_…aaaa")));
    let same = "0 added, 0 changed, 3 unchanged, 0 removed, 0 left\n";
    assert_eq!(apply(&[]), same);
    assert_eq!(subscriptions(), before);
    assert_eq!(server.call("GET", "/api/v1/webhooks/one", None).json()["updated_at"], version);

    // The file changes: another secret, a changed and a removed subscription, a changed event type.
    std::fs::write(&secret, whsec("b")).unwrap();
    let changed =
        one.replacen("event_type = \"order.created\"", "event_type = \"order.created\"\nis_active = false", 1);
    let (changed, _) = changed.rsplit_once("[[webhooks.subscriptions]]").unwrap();
    std::fs::write(&path, format!("{}{changed}{two}", types.replace("orders", "sales"))).unwrap();
    let out = apply(&[]);
    for line in [
        "category: \"orders\" -> \"sales\"",
        "secret: another one",
        "subscription order.created: ",
        "subscription order.*: ",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
    assert!(out.ends_with("0 added, 2 changed, 1 unchanged, 0 removed, 0 left\n"), "{out}");
    assert_eq!(hint(), "whsec_…bbbb");
    assert_eq!(subscriptions(), [(before[1].0.clone(), json!("order.created"), json!(false))]);
    assert_eq!(apply(&[]), same);

    std::fs::write(&path, format!("{}{changed}", types.replace("orders", "sales"))).unwrap();
    let left = "? webhook two\n    is not in the file any more; --prune removes it\n0 added, 0 changed, 2 unchanged, 0 removed, 1 left\n";
    assert_eq!(apply(&[]), left);
    assert_eq!(apply(&["--prune"]), "- webhook two\n0 added, 0 changed, 2 unchanged, 1 removed, 0 left\n");
    assert_eq!(apply(&["--prune"]), "0 added, 0 changed, 2 unchanged, 0 removed, 0 left\n");
    assert_eq!(uids(&server), ["one"]);
}

#[test]
fn the_configured_file_is_applied_before_the_server_is_ready_and_with_each_reload() {
    let folder = tempfile::tempdir().unwrap();
    let (config, file) = (folder.path().join("config.toml"), folder.path().join("webhooks.toml"));
    let webhook =
        |uid: &str| format!("[[webhooks]]\nuid = \"{uid}\"\nurl = \"https://example.com/{uid}\"\nevents = [\"a.b\"]\n");
    let strict =
        "[events]\nstrict = true\n[[event_types]]\nname = \"a.b\"\nvalidate = true\nschema = { required = [\"id\"] }\n";
    std::fs::write(&config, format!("apply = \"{}\"\n{strict}", file.display())).unwrap();
    std::fs::write(&file, webhook("one")).unwrap();
    let mut server = Server::start(&[("CONFIG", config.to_str().unwrap())]);
    assert_eq!(uids(&server), ["one"]);
    assert!(!server.log().contains("whsec_"), "{}", server.log());

    let publish = |server: &Server, event_type: &str, data: Value| {
        let answer = server.call("POST", "/api/v1/events", Some(&json!({"type": event_type, "data": data})));
        (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(publish(&server, "a.b", json!({"id": 1})), (202, String::new()));
    assert_eq!(publish(&server, "a.b", json!({})), (422, "invalid_body".to_owned()));
    assert_eq!(publish(&server, "a.c", json!({"id": 1})), (422, "unknown_event_type".to_owned()));

    // An invalid file changes nothing.
    std::fs::write(&file, webhook("two") + "tenant = \"x\"\n").unwrap();
    server.signal(Signal::SIGHUP);
    server.until_logged("webhooks[0].tenant");
    assert_eq!(uids(&server), ["one"]);
    std::fs::write(&file, "prune = true\n".to_owned() + &webhook("two")).unwrap();
    std::fs::write(&config, format!("apply = \"{}\"\n", file.display())).unwrap();
    server.signal(Signal::SIGHUP);
    server.until_logged("removed=1");
    assert_eq!(uids(&server), ["two"]);
    assert_eq!(publish(&server, "a.c", json!({})), (202, String::new()));

    // The server keeps working if the API refuses a declared object.
    std::fs::write(&file, webhook("two") + &webhook("bad").replace("https://example.com", "http://10.0.0.1")).unwrap();
    server.restart(Signal::SIGTERM);
    server.until_logged("webhooks[1].url");
    assert_eq!((uids(&server), publish(&server, "a.c", json!({})).0), (vec!["two".to_owned()], 202));
}

#[test]
fn event_types_are_managed_by_the_command_and_survive_a_restart() {
    let mut server = Server::start(&[]);
    let schema = r#"{"required":["id"]}"#;
    let add = ["event-type", "add", "order.created", "--category", "orders", "--schema", schema, "--validate"];
    let (code, out, err) = hooktide(&server, &add, &[]);
    assert!(code == 0 && out.starts_with("name: order.created\ncategory: orders\n"), "{out}{err}");
    let (code, _, err) = hooktide(&server, &add, &[]);
    assert_eq!((code, err.contains("409 conflict")), (1, true), "{err}");
    server.restart(Signal::SIGKILL);
    let (_, out, _) = hooktide(&server, &["event-type", "list"], &[]);
    assert!(out.contains("order.created  orders    false       api"), "{out}");
    let answer = server.call("POST", "/api/v1/events", Some(&json!({"type": "order.created", "data": {}})));
    assert_eq!((answer.status, &answer.json()["errors"][0]["pointer"]), (422, &json!("/data")));
    let (code, out, _) = hooktide(&server, &["event-type", "add", "order.created", "--deprecated", "--replace"], &[]);
    assert!(code == 0 && out.contains("deprecated: true") && !out.contains("schema"), "{out}");
    assert_eq!(hooktide(&server, &["event-type", "remove", "order.created"], &[]).1, "order.created removed\n");
    assert_eq!(hooktide(&server, &["event-type", "show", "order.created"], &[]).0, 1);
}
