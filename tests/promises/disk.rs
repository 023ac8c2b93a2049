//! On a full disk only new events are refused. Accepted events are kept and delivered, and the server resumes when
//! there is free space.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Answer, Client, Server, Sink, scaled};

/// Size that holds the ballast (16 MiB), the reserve (an eighth), and the files while they are empty.
const DISK_MIB: usize = 128;
const FILLER_MIB: usize = 64;
const MIB: usize = 1 << 20;
/// Deliveries that wait while the disk is full.
const WAITING: usize = 20;

/// A small file system for the data of a server. Dropping it unmounts the file system.
struct SmallDisk(Arc<tempfile::TempDir>);

impl SmallDisk {
    /// `None` if this user may not mount a file system.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let size = format!("size={DISK_MIB}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&data).output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(Arc::new(dir))),
            done => {
                println!("skipped: no small disk can be mounted here: {done:?}");
                None
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("data").join(name)
    }

    /// Fills this number of bytes, or all free space.
    fn fill(&self, name: &str, bytes: usize) {
        let mut file = File::create(self.path(name)).unwrap();
        for _ in (0..bytes).step_by(4096) {
            if file.write_all(&[1; 4096]).is_err() {
                return;
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path().join("data")).status();
    }
}

fn publish(client: &mut Client, event_type: &str, bytes: usize) -> Answer {
    let event = json!({ "type": event_type, "data": "x".repeat(bytes) });
    client.call("POST", "/api/v1/events", Some(&event))
}

#[test]
fn a_full_disk_refuses_events_keeps_accepted_ones_and_recovers_with_free_space() {
    for _ in 0..scaled(1) {
        fill_and_free_a_disk();
    }
}

fn fill_and_free_a_disk() {
    let Some(disk) = SmallDisk::mount() else { return };
    disk.fill("filler", FILLER_MIB * MIB);
    let server = Server::start_in(
        Arc::clone(&disk.0),
        &[
            ("LOG__SEGMENT_BYTES", "8 MiB"),
            ("DELIVERY__BREAKER__OPEN_SECONDS", "1"),
            ("DELIVERY__BREAKER__OPEN_SECONDS_MAX", "1"),
        ],
    );
    let takes = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&takes);
    let sink = Sink::answering(move |_| if asked.load(Ordering::Relaxed) { 200.into() } else { 503.into() });
    let policy = json!({ "retry_policy": { "max_retries": 100, "retry_delay": 1, "backoff": 1.0 } });
    let (webhook, _) = server.webhook(&sink.url("/"), &["order.*"], policy);

    let mut accepted: Vec<String> = (0..WAITING).map(|n| server.publish("order.created", &json!(n))).collect();
    let mut client = server.client();
    assert_eq!(client.call("GET", "/ready", None).status, 200);
    let refused = loop {
        let answer = publish(&mut client, "photo.taken", 500_000);
        if answer.status != 202 {
            break answer;
        }
        accepted.push(answer.json()["id"].as_str().unwrap().to_owned());
        assert!(accepted.len() * 500_000 < DISK_MIB * MIB, "more was accepted than fits");
    };
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("disk_full")), "{}", refused.text());
    assert!(refused.headers.contains_key("retry-after"));

    // The reserve is used up. Settle gets its space from the ballast.
    disk.fill("reserve", DISK_MIB * MIB);
    assert_eq!(client.call("GET", "/ready", None).status, 503);
    takes.store(true, Ordering::Relaxed);
    server.until(&format!("/api/v1/webhooks/{webhook}/deliveries"), |page| {
        let delivered = page["data"].as_array().unwrap().iter().filter(|one| one["status"] == "delivered");
        delivered.count() == WAITING
    });
    for id in &accepted {
        assert_eq!(client.call("GET", &format!("/api/v1/events/{id}"), None).status, 200, "{id} was accepted");
    }
    assert_eq!(publish(&mut client, "order.created", 1).status, 503);

    for name in ["filler", "reserve"] {
        std::fs::remove_file(disk.path(name)).unwrap();
    }
    let until = Instant::now() + Duration::from_secs(5);
    while publish(&mut client, "order.created", 1).status != 202 {
        assert!(Instant::now() < until, "there is room and events are refused:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.call("GET", "/ready", None).status, 200);
}
