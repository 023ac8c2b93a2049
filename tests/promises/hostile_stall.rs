//! No client can stop the server: neither the filters of a replay nor a disk that does not answer. A stop ends in time
//! whatever is stuck.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Client, Server, Sink};

/// What a stop may take beyond `drain_seconds`, with room for a slow machine.
const STOP_MAX: Duration = Duration::from_secs(5 + 5);
/// Events with a body of 64 KiB whose filters a replay evaluates.
const COSTLY_EVENTS: usize = 8;

/// Makes `fsync` and `fdatasync` take as many seconds as `slow` has bytes, and wait while `stuck` exists.
const SLOW_SYNC: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>
static void delay(void) {
    struct stat about;
    while (stat(STUCK, &about) == 0) usleep(10000);
    if (stat(SLOW, &about) == 0) sleep(about.st_size);
}
static int real(const char *name, int file) {
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return sync(file);
}
int fsync(int file) { delay(); return real("fsync", file); }
int fdatasync(int file) { delay(); return real("fdatasync", file); }
"#;

/// A server on a disk whose syncs the test delays.
struct SlowDisk {
    dir: Arc<tempfile::TempDir>,
    library: PathBuf,
}

impl SlowDisk {
    /// `None` without a C compiler.
    fn new() -> Option<Self> {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let (source, library) = (dir.path().join("slow.c"), dir.path().join("slow.so"));
        std::fs::write(&source, SLOW_SYNC).unwrap();
        let define = |name: &str, file: &str| format!("-D{name}=\"{}\"", dir.path().join(file).display());
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", &define("STUCK", "stuck"), &define("SLOW", "slow"), "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status();
        match compiled {
            Ok(status) if status.success() => Some(Self { dir, library }),
            failed => {
                println!("skipped: no C compiler: {failed:?}");
                None
            }
        }
    }

    fn start(&self) -> Server {
        let library = self.library.to_str().unwrap();
        Server::start_in(Arc::clone(&self.dir), &[("SERVER__DRAIN_SECONDS", "1"), ("LD_PRELOAD", library)])
    }

    /// Lets each sync wait until [`Self::go_on`].
    fn stick(&self) {
        File::create(self.dir.path().join("stuck")).unwrap();
    }

    fn go_on(&self) {
        std::fs::remove_file(self.dir.path().join("stuck")).unwrap();
    }

    /// Lets each sync take this number of seconds.
    fn slow_down(&self, seconds: usize) {
        std::fs::write(self.dir.path().join("slow"), vec![b'x'; seconds]).unwrap();
    }
}

/// Publishes on another thread, because no answer may come.
fn publish_in_background(server: &Server, data: Value) -> thread::JoinHandle<()> {
    let mut client = server.client();
    thread::spawn(move || {
        let body = serde_json::to_vec(&json!({ "type": "a.b", "data": data })).unwrap();
        let _ = client.send("POST", "/api/v1/events", &[], &body);
    })
}

fn until_status(client: &mut Client, path: &str, status: u16) -> Value {
    let until = Instant::now() + crate::support::WAIT_TIMEOUT;
    loop {
        let answer = client.call("GET", path, None);
        if answer.status == status {
            return answer.json();
        }
        assert!(Instant::now() < until, "{path} stays {}: {}", answer.status, answer.text());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_disk_that_is_stuck_is_reported_refuses_events_and_does_not_delay_a_stop() {
    let Some(disk) = SlowDisk::new() else { return };
    let mut server = disk.start();
    let sink = Sink::start();
    server.webhook(&sink.url("/"), &["*"], json!({}));
    let first = server.publish("a.b", &json!(1));
    assert_eq!(sink.next().id(), first);

    disk.stick();
    let waiting = publish_in_background(&server, json!(2));
    let mut client = server.client();
    let health = until_status(&mut client, "/health", 503);
    let parts = health["parts"].as_array().unwrap();
    let stages = parts.iter().find(|part| part["name"] == "stages").unwrap();
    assert_eq!(stages["state"], "failed");
    assert!(stages["detail"].as_str().unwrap().contains("commit"), "{stages}");
    until_status(&mut client, "/ready", 503);
    let metrics = client.call("GET", "/metrics", None).text();
    assert!(metrics.contains(r#"hooktide_stage_stalled{stage="commit"} 1"#), "{metrics}");
    let event = json!({ "type": "a.b", "data": 3 });
    let refused = client.call("POST", "/api/v1/events", Some(&event));
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("overloaded")));
    assert!(refused.headers.contains_key("retry-after"));
    server.until_logged("a stage has work and makes no progress");

    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(), Some(3), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(1) + STOP_MAX, "{:?}", begun.elapsed());
    assert!(server.log().contains("the server ends before all of its parts have stopped"), "{}", server.log());
    waiting.join().unwrap();

    disk.go_on();
    server.restart_ended();
    let last = server.publish("a.b", &json!(4));
    while sink.next().id() != last {}
}

#[test]
fn a_stage_that_recovers_takes_events_again() {
    let Some(disk) = SlowDisk::new() else { return };
    let server = disk.start();
    let mut client = server.client();
    disk.stick();
    let waiting = publish_in_background(&server, json!(1));
    until_status(&mut client, "/health", 503);
    disk.go_on();
    waiting.join().unwrap();
    until_status(&mut client, "/health", 200);
    until_status(&mut client, "/ready", 200);
    server.publish("a.b", &json!(2));
}

#[test]
fn a_slow_disk_does_not_delay_a_stop_and_loses_nothing() {
    let Some(disk) = SlowDisk::new() else { return };
    let mut server = disk.start();
    let sink = Sink::start();
    server.webhook(&sink.url("/"), &["*"], json!({}));
    disk.slow_down(2);
    let event = server.publish("a.b", &json!(1));
    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    let code = server.wait();
    assert!(matches!(code, Some(0 | 3)), "{code:?}: {}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(1) + STOP_MAX, "{:?}", begun.elapsed());
    disk.slow_down(0);
    server.restart_ended();
    // It may have been delivered before the stop too.
    assert_eq!(sink.next().id(), event);
}

#[test]
fn the_filters_of_a_replay_keep_nobody_waiting_and_do_not_delay_a_stop() {
    let mut server = Server::start(&[("SERVER__DRAIN_SECONDS", "5")]);
    let sink = Sink::start();
    let text = "ab".repeat(32 * 1024);
    for n in 0..COSTLY_EVENTS {
        server.publish("costly.one", &json!({ "n": n, "text": text }));
    }
    let rule = |n: usize| {
        let expression = format!("[ab]*a[ab]{{{}}}c", 3_600 - n);
        json!({ "field": "text", "operator": "matches", "value": expression })
    };
    let rules: Vec<_> = (0..6).map(rule).collect();
    let filters = json!({ "conditions": { "operator": "or", "rules": rules } });
    let costly = json!({ "url": sink.url("/costly"), "events": ["costly.*"], "filters": filters });
    let created = server.call("POST", "/api/v1/webhooks", Some(&costly));
    if created.status == 201 {
        let replay = server.call("POST", "/api/v1/replays", Some(&json!({ "include_unmatched": true })));
        assert_eq!(replay.status, 202, "{}", replay.text());
    } else {
        assert_eq!(created.status, 422, "{}", created.text());
    }
    let (webhook, _) = server.webhook(&sink.url("/healthy"), &["healthy.*"], json!({}));
    let mut client = server.client();
    for n in 0..20 {
        let event = server.publish("healthy.one", &json!(n));
        let list = client.call("GET", &format!("/api/v1/webhooks/{webhook}/deliveries"), None);
        assert_eq!(list.status, 200, "{}", list.text());
        while sink.next().id() != event {}
    }
    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(5) + STOP_MAX, "{:?}", begun.elapsed());
}
