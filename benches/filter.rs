//! Compares five ways to read two values of a payload for a filter.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark that fails has nothing to say")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hooktide::filter::{EventFields, Filter};
use hooktide::json::{Document, Path, Pointer, PointerSet};
use serde_json::{Value, json};
use simd_json::prelude::{ValueAsScalar, ValueIntoString, ValueObjectAccess};

/// An order of about this size, filled with items. The values that the filter reads are before and after the items.
fn payload(bytes: usize) -> Vec<u8> {
    let item = |n: usize| {
        json!({"sku": format!("sku-{n:06}"), "name": "A thing that \"somebody\" ordered", "quantity": n % 9 + 1,
            "price": 12.5, "options": {"colour": "blue", "gift": false, "sizes": [1, 2, 3]}})
    };
    let mut items = Vec::new();
    loop {
        let order = json!({"customer": {"id": 4711, "city": "Zürich", "tier": "gold"}, "currency": "CHF", "items": items,
            "status": "completed", "total": 1234.5});
        let text = serde_json::to_vec(&order).expect("JSON");
        if text.len() >= bytes {
            return text;
        }
        let missing = (bytes - text.len()) / 170 + 1;
        items.extend((items.len()..items.len() + missing).map(item));
    }
}

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("two values of a payload");
    for kib in [1, 16, 256] {
        let data = payload(kib << 10);
        group.throughput(Throughput::Bytes(data.len() as u64));
        let is_right = |status: &str, tier: &str| assert!(status == "completed" && tier == "gold");
        group.bench_function(BenchmarkId::new("serde_json, a tree", kib), |b| {
            b.iter(|| {
                let value: Value = serde_json::from_slice(black_box(&data)).expect("JSON");
                is_right(value["status"].as_str().unwrap_or(""), value["customer"]["tier"].as_str().unwrap_or(""));
            });
        });
        group.bench_function(BenchmarkId::new("simd-json, a borrowed tree", kib), |b| {
            let (mut copy, mut buffers) = (Vec::new(), simd_json::Buffers::default());
            b.iter(|| {
                // This parser modifies its input and needs a copy.
                copy.clear();
                copy.extend_from_slice(black_box(&data));
                let value = simd_json::to_borrowed_value_with_buffers(&mut copy, &mut buffers).expect("JSON");
                let tier = value.get("customer").and_then(|customer| customer.get("tier"));
                is_right(
                    value.get("status").and_then(|v| v.as_str()).unwrap_or(""),
                    tier.and_then(|v| v.as_str()).unwrap_or(""),
                );
            });
        });
        group.bench_function(BenchmarkId::new("simd-json, a tape", kib), |b| {
            let (mut copy, mut buffers) = (Vec::new(), simd_json::Buffers::default());
            b.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(&data));
                let tape = simd_json::to_tape_with_buffers(&mut copy, &mut buffers).expect("JSON");
                let value = tape.as_value();
                let tier = value.get("customer").and_then(|customer| customer.get("tier"));
                is_right(
                    value.get("status").and_then(ValueIntoString::into_string).unwrap_or(""),
                    tier.and_then(ValueIntoString::into_string).unwrap_or(""),
                );
            });
        });
        group.bench_function(BenchmarkId::new("one pass for pointers", kib), |b| {
            let mut set = PointerSet::default();
            let slots = ["/status", "/customer/tier"].map(|text| set.add(&Pointer::try_new(text).expect("a pointer")));
            b.iter(|| {
                let found = set.read(black_box(&data)).expect("JSON");
                let [status, tier] = slots.map(|slot| found.raw(slot).map_or("", |raw| raw.get().trim_matches('"')));
                is_right(status, tier);
            });
        });
        group.bench_function(BenchmarkId::new("a document", kib), |b| {
            let paths = ["status", "customer.tier"].map(|text| Path::try_new(text).expect("a path"));
            b.iter(|| {
                let mut document = Document::new(black_box(&data));
                let [status, tier] = paths.each_ref().map(|path| document.find(path).unwrap_or_default());
                assert!(status == b"\"completed\"" && tier == b"\"gold\"");
            });
        });
        group.bench_function(BenchmarkId::new("a filter of two rules", kib), |b| {
            let filter = json!({"conditions": {"operator": "and", "rules": [
                {"field": "total", "operator": "greater_than", "value": 1000},
                {"field": "customer.tier", "operator": "equals", "value": "gold"}]}});
            let filter = Filter::compile(&filter).expect("a filter");
            let event_fields = EventFields { data: &data, ..EventFields::default() };
            b.iter(|| assert!(black_box(&filter).matches(black_box(&event_fields)) == Ok(true)));
        });
    }
    group.finish();
}

criterion_group!(benches, reading);
criterion_main!(benches);
