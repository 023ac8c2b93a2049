//! Fuzz target `multipart`. The code is in `targets.rs`.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "a target is one of them")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::multipart(data));
