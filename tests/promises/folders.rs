//! A data folder of an earlier version opens without loss. A data folder of a later version is refused with one line.
//!
//! 1. A released server was killed. Its folder and its last responses are in `tests/data/folders`.
//! 2. This program starts on a copy. Every response is the same, and waiting deliveries are made.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::signal::Signal;
use redb::{Database, TableDefinition};
use serde_json::{Value, json};

use crate::support::{Server, Sink, WAIT_TIMEOUT, run};

/// Retention settings under which nothing expires.
const SETTINGS: &[(&str, &str)] = &[
    ("LOG__RETENTION_HOURS", "87600"),
    ("HISTORY__RETENTION_HOURS", "87600"),
    ("DEAD_LETTERS__RETENTION_HOURS", "87600"),
    ("DELIVERY__BREAKER__DISABLE_AFTER_HOURS", "87600"),
    ("SERVER__PUBLIC_URL", "https://hooks.example.com"),
];

/// The folders of all versions, the oldest first.
fn folders() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/folders");
    let mut folders: Vec<_> = all.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

/// Copies a folder's data into `data` of a temporary folder.
fn copy(folder: &Path) -> Arc<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    let archive = folder.join("data.tar.gz");
    let unpacked = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()).status().unwrap();
    assert!(unpacked.success());
    Arc::new(dir)
}

/// The first difference between `expected` and `found`. `found` may have additional members.
fn differs(expected: &Value, found: &Value, at: &str) -> Option<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            expected.iter().find_map(|(name, value)| match found.get(name) {
                Some(other) => differs(value, other, &format!("{at}/{name}")),
                None => Some(format!("{at}/{name} is missing")),
            })
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let pairs = expected.iter().zip(found).enumerate();
            pairs.into_iter().find_map(|(n, (one, other))| differs(one, other, &format!("{at}/{n}")))
        }
        (expected, found) if expected == found => None,
        (expected, found) => Some(format!("{at}: {expected} is now {found}")),
    }
}

/// Waits until each of these events has arrived at its path.
fn until_delivered(sink: &Sink, expected: &Value) {
    let (path, events) = (expected["path"].as_str().unwrap(), expected["events"].as_array().unwrap());
    assert!(!events.is_empty());
    let until = Instant::now() + WAIT_TIMEOUT;
    for event in events {
        let has_come = || sink.all().iter().any(|got| got.path == path && got.id() == event.as_str().unwrap());
        while !has_come() {
            assert!(Instant::now() < until, "{event} does not come to {path}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn the_folders_of_all_earlier_formats_open_with_nothing_lost() {
    for folder in folders() {
        let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
        let sink = Sink::on(expected["receiver"].as_str().unwrap().parse().unwrap(), |_| 204.into());
        let mut server = Server::start_in(copy(&folder), SETTINGS);
        for (path, answer) in expected["answers"].as_object().unwrap() {
            let found = server.call("GET", path, None);
            assert_eq!(found.status, 200, "{path}: {}", found.text());
            assert_eq!(differs(answer, &found.json(), ""), None, "{path} in {}", folder.display());
        }

        // Deliveries in flight at the kill continue by themselves. The others are retried by a call.
        until_delivered(&sink, &expected["late"]);
        for delivery in expected["retrying"]["deliveries"].as_array().unwrap() {
            // The delivery may already be due.
            server.call("POST", &format!("/api/v1/deliveries/{}/retry", delivery.as_str().unwrap()), None);
        }
        until_delivered(&sink, &expected["retrying"]);
        let of = |which: &str| format!("/api/v1/webhooks/{}", expected[which]["webhook"].as_str().unwrap());
        assert_eq!(server.call("POST", &format!("{}/resume", of("paused")), None).status, 200);
        until_delivered(&sink, &expected["paused"]);
        let replayed = server.call("POST", &format!("{}/dead-letters/bulk-replay", of("dead")), Some(&json!({})));
        assert_eq!(replayed.status, 202, "{}", replayed.text());
        until_delivered(&sink, &expected["dead"]);

        let new = server.publish("order.created", &json!({ "n": 99, "customer": { "id": "c" } }));
        until_delivered(&sink, &json!({ "path": "/standard", "events": [new] }));
        server.restart(Signal::SIGTERM);
        assert_eq!(server.call("GET", &format!("/api/v1/events/{new}"), None).status, 200);
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait(), Some(0));
        let data = server.data_dir().display().to_string();
        let (code, report, _) = run(&server.data_dir(), &["log", "verify", "--data-dir", &data], &[]);
        assert_eq!(code, 0, "{report}");
    }
}

/// The newest file in a folder below the data folder.
fn newest(data: &Path, dir: &str) -> PathBuf {
    let mut files: Vec<_> = data.join(dir).read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "redb"));
    files.into_iter().max().unwrap()
}

#[test]
fn a_file_of_a_later_format_is_refused_with_instructions() {
    const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
    let folder = folders().pop().unwrap();
    for dir in ["state.redb", "registry.redb", "log", "history"] {
        let copied = copy(&folder);
        let data = copied.path().join("data");
        if dir == "history" {
            // A segment that was open in a crash is checked when it is first read. A start therefore repairs no third
            // file.
            let mut server = Server::start_in(Arc::clone(&copied), SETTINGS);
            server.signal(Signal::SIGTERM);
            assert_eq!(server.wait(), Some(0));
        }
        let path = if dir.contains('.') { data.join(dir) } else { newest(&data, dir) };
        let database = Database::open(&path).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(META).unwrap().insert("format", 2u32.to_le_bytes().as_slice()).unwrap();
        write.commit().unwrap();
        drop(database);
        refused(copied.path(), &path);
    }
    for name in ["admin.key", "secrets.key"] {
        let copied = copy(&folder);
        let path = copied.path().join("data").join(name);
        std::fs::write(&path, "# hooktide format 2\nanything\n").unwrap();
        refused(copied.path(), &path);
    }
}

/// Asserts that a server does not start and prints one line with the reason and the file name.
fn refused(dir: &Path, path: &Path) {
    // With a timeout, in case the server starts.
    let mut command = Command::new("timeout");
    command.args(["60", crate::support::binary(), "serve"]).current_dir(dir).env_clear();
    command.env("HOOKTIDE_SERVER__LISTEN", "127.0.0.1:0").env("HOOKTIDE_SERVER__DATA_DIR", dir.join("data"));
    let output = command.output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{} was opened", path.display());
    let errors = String::from_utf8_lossy(&output.stderr);
    let line = format!(
        "{} has format version 2; this program reads version 1: run the newer program, or restore a backup",
        path.display()
    );
    assert!(errors.lines().any(|logged| logged.ends_with(&line)), "{errors}");
}
