//! SIGTERM finishes the deliveries in flight and exits with 0. SIGHUP with an invalid file changes nothing.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::load::LoadedServer;
use crate::support::{Reply, Server, Sink, scaled};

#[test]
fn sigterm_finishes_deliveries_in_flight_and_exits_0() {
    let mut server = Server::start(&[]);
    let sink = Sink::answering(|_| Reply { after: Duration::from_secs(1), ..200.into() });
    let (webhook, _) = server.webhook(&sink.url("/"), &["*"], json!({}));
    server.publish("a.b", &json!(1));
    sink.next();
    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0), "{}", server.log());
    assert!(begun.elapsed() >= Duration::from_millis(500), "the delivery was let end");

    server.restart_ended();
    let page = server.until(&format!("/api/v1/webhooks/{webhook}/deliveries"), |page| page["data"][0].is_object());
    assert_eq!((&page["data"][0]["status"], &page["data"][0]["attempt_count"]), (&json!("delivered"), &json!(1)));
    assert_eq!(sink.all().len(), 1, "recorded, so not sent again");
}

#[test]
fn a_stop_is_bounded_and_interrupted_deliveries_are_repeated() {
    let mut server = Server::start(&[("SERVER__DRAIN_SECONDS", "1")]);
    let sink = Sink::answering(|_| Reply { after: Duration::from_secs(20), ..200.into() });
    server.webhook(&sink.url("/"), &["*"], json!({}));
    let event = server.publish("a.b", &json!(1));
    sink.next();
    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    server.restart_ended();
    assert_eq!(sink.next().id(), event);
}

#[test]
fn sighup_applies_a_valid_file_and_ignores_an_invalid_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "[egress]\nallow = []\n").unwrap();
    let server = Server::start(&[("CONFIG", file.to_str().unwrap())]);
    let refused = |url: &str| {
        let answer = server.call("POST", "/api/v1/webhooks", Some(&json!({ "url": url, "events": ["*"] })));
        (answer.status, answer.json()["code"].as_str().map(str::to_owned))
    };
    let private = "http://10.1.2.3/";
    assert_eq!(refused(private), (422, Some("egress_refused".to_owned())));

    std::fs::write(&file, "[egress]\nallow = \"everything\"\n").unwrap();
    server.signal(Signal::SIGHUP);
    server.until_logged("egress.allow");
    assert_eq!(refused(private).0, 422);

    std::fs::write(&file, "[egress]\nallow = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n").unwrap();
    server.signal(Signal::SIGHUP);
    server.until_logged("configuration reloaded");
    assert_eq!(refused(private).0, 201);
}

#[test]
fn restarts_lose_nothing_and_reloads_drop_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let write = |timeout: usize, broken: &str| {
        let text = format!("[egress]\nallow = [\"127.0.0.0/8\"]\n[delivery]\ntimeout_seconds = {timeout}\n{broken}");
        std::fs::write(&file, text).unwrap();
    };
    write(10, "");
    let mut load = LoadedServer::start(&[("CONFIG", file.to_str().unwrap())]);
    let restarts = scaled(3);
    for restart in 0..restarts {
        let (before, mut reloads) = (load.failed(), load.server.log().matches("configuration reloaded").count());
        for reload in 0..5 {
            write(10 + (restart * 5 + reload) % 20, "");
            load.server.signal(Signal::SIGHUP);
            reloads += 1;
            let until = Instant::now() + Duration::from_secs(30);
            while load.server.log().matches("configuration reloaded").count() < reloads {
                assert!(Instant::now() < until, "a reload was not logged:\n{}", load.server.log());
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        write(10, "[delivery.surprise]\n");
        load.server.signal(Signal::SIGHUP);
        load.server.until_logged("surprise");
        write(10, "");
        assert_eq!(load.failed(), before, "a request failed during reloads");
        load.server.signal(Signal::SIGTERM);
        assert_eq!(load.server.wait(), Some(0), "{}", load.server.log());
        load.server.restart_ended();
        load.redirect();
        // Requests that were sent to the server before it stopped may still fail.
        std::thread::sleep(Duration::from_millis(500));
    }
    let result = load.finish();
    assert!(result.acknowledged > restarts * 50, "the load was too small: {}", result.acknowledged);
    println!("{} acknowledged, 0 lost, over {restarts} restarts and {} reloads", result.acknowledged, restarts * 5);
}
