//! Measures whether the response time of a refusal reveals which part of the request was wrong. The measurement is run
//! by hand on an idle machine:
//!
//! `cargo test --release --test promises timing -- --ignored --nocapture`. The results are in docs/SECURITY.md.

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use crate::support::{Client, Server};

/// Number of requests of each kind.
const TRIES: usize = 100_000;
/// Number of initial requests of each kind that are not counted.
const WARM_UP: usize = 1_000;

struct Kind {
    name: &'static str,
    path: String,
    signature: Option<String>,
    micros: Vec<f64>,
}

impl Kind {
    /// Mean and variance of the fastest nine tenths. The slowest tenth is caused by other work of the system.
    fn moments(&self) -> (f64, f64) {
        let mut sorted = self.micros[WARM_UP..].to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.truncate(sorted.len() * 9 / 10);
        let n = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / n;
        (mean, sorted.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / (n - 1.0))
    }
}

#[test]
#[ignore = "a measurement of some minutes"]
fn refusals_take_the_same_time() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let file = dir.path().join("hooktide.toml");
    let source = "[[sources]]\nname = \"shop\"\nkind = \"github\"\nsecrets = [\"0123456789abcdef0123\"]\n";
    std::fs::write(&file, source).unwrap();
    let server = Server::start_in(dir, &[("CONFIG", file.to_str().unwrap())]);
    let made = server.call("POST", "/api/v1/sources", Some(&json!({ "name": "acme", "kind": "partner" })));
    assert_eq!(made.status, 201, "{}", made.text());
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let inactive = json!({ "status": "inactive" });
    assert_eq!(server.call("PATCH", "/api/v1/sources/acme", Some(&inactive)).status, 200);

    // HMAC-SHA256 of "{}" by the secret above.
    let right = {
        use ring::hmac::{HMAC_SHA256, Key, sign};
        data_encoding::HEXLOWER.encode(sign(&Key::new(HMAC_SHA256, b"0123456789abcdef0123"), b"{}").as_ref())
    };
    let flip = |at: usize| {
        let digit = if &right[at..=at] == "0" { "1" } else { "0" };
        format!("sha256={}{digit}{}", &right[..at], &right[at + 1..])
    };
    let kind = |name, path: &str, signature| Kind { name, path: path.to_owned(), signature, micros: Vec::new() };
    let (shop, unknown) = ("/api/v1/webhooks/shop", format!("/webhook/v1/{}", "A".repeat(token.len())));
    let mut kinds = [
        kind("wrong first byte", shop, Some(flip(0))),
        kind("wrong last byte", shop, Some(flip(63))),
        kind("wrong length", shop, Some(format!("sha256={}", &right[..62]))),
        kind("no signature", shop, None),
        kind("unknown token", &unknown, None),
        kind("inactive partner's token", &format!("/webhook/v1/{token}"), None),
    ];
    let mut client = Client::to(server.addr, String::new());
    let mut order: Vec<usize> = (0..kinds.len()).collect();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..TRIES {
        // The order changes each time, so that no kind always follows the same kind.
        random.shuffle(&mut order);
        for at in &order {
            let kind = &mut kinds[*at];
            let signature = kind.signature.as_deref().map(|signature| ("X-Hub-Signature-256", signature));
            let headers: Vec<_> = [("Content-Type", "application/json")].into_iter().chain(signature).collect();
            let start = Instant::now();
            let answer = client.send("POST", &kind.path, &headers, b"{}").unwrap();
            kind.micros.push(start.elapsed().as_secs_f64() * 1e6);
            assert_eq!(answer.status, 401);
        }
    }
    println!("{TRIES} refusals of each kind, microseconds as the client sees them");
    for (group, reference) in [(0..4, 0), (4..6, 4)] {
        let (mean_0, variance_0) = kinds[reference].moments();
        for kind in &kinds[group] {
            let (mean, variance) = kind.moments();
            let n = (TRIES - WARM_UP) as f64 * 0.9;
            let t = (mean - mean_0) / ((variance + variance_0) / n).sqrt();
            println!("{:<26} mean {mean:8.3}  difference {:+.3}  t {t:+.1}", kind.name, mean - mean_0);
        }
    }
}
