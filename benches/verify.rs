//! Measures the verification of a webhook: time and allocations of a scheme compared with its HMAC.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::expect_used, reason = "a benchmark that fails has nothing to say")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hooktide::model::{Secret, Timestamp};
use hooktide::signature::{OneOrMany, OutgoingRequest, RawScheme, Scheme, VerifyingKey};
use ring::hmac;

const SIZES: [usize; 3] = [1 << 10, 16 << 10, 1 << 20];
const SECRET: &str = "whsec_5b1df3c2a9e84f0c8d7e6a5b4c3d2e1f";
const NOW: Timestamp = Timestamp::from_millis(1_711_015_200_000);

/// One signature of the body in one header, like Shopify's.
fn plain() -> RawScheme {
    RawScheme {
        scheme: "hmac".into(),
        sig: Some(OneOrMany::One("header:X-Shopify-Hmac-Sha256".into())),
        encoding: Some("base64".into()),
        ..RawScheme::default()
    }
}

/// A list of signatures with the time in it, like Stripe's.
fn timed() -> RawScheme {
    RawScheme {
        scheme: "hmac".into(),
        sig: Some(OneOrMany::One("header:Stripe-Signature".into())),
        split: Some(",".into()),
        prefix: Some("v1=".into()),
        encoding: Some("hex".into()),
        signed: Some("{time}.{body}".into()),
        time: Some("sig:t=".into()),
        ..RawScheme::default()
    }
}

/// A scheme, its key, and a request signed with it.
fn signed(raw: &RawScheme, bytes: usize) -> (Scheme, VerifyingKey, OutgoingRequest) {
    let secret = Secret::new(SECRET);
    let scheme = Scheme::try_new(raw).expect("a scheme");
    let mut request = OutgoingRequest { method: "POST".into(), body: vec![b'x'; bytes], ..OutgoingRequest::default() };
    scheme.sign(&secret, &mut request, NOW).expect("signed");
    let key = scheme.key(&secret).expect("a key");
    (scheme, key, request)
}

fn verify(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify");
    for bytes in SIZES {
        group.throughput(Throughput::Bytes(bytes as u64));
        let raw_key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let body = vec![b'x'; bytes];
        let tag = hmac::sign(&raw_key, &body);
        group.bench_function(BenchmarkId::new("ring", bytes), |b| {
            b.iter(|| hmac::verify(&raw_key, black_box(&body), tag.as_ref()).expect("it fits"));
        });
        for (name, raw) in [("plain", plain()), ("timed", timed())] {
            let (scheme, key, request) = signed(&raw, bytes);
            let check = || scheme.verify([&key], None, black_box(&request.request()), NOW);
            assert_eq!(check(), Ok(()));
            let counted = allocation_counter::measure(|| assert_eq!(check(), Ok(())));
            assert_eq!(counted.count_total, 0, "{name} allocates at {bytes} bytes");
            group.bench_function(BenchmarkId::new(name, bytes), |b| b.iter(|| check().expect("it fits")));
        }
    }
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
