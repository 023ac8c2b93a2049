//! sim: all stages on one thread, with one seed.
//!
//! A seed determines everything that happens: which stage works next, the time, the events, the answers of the
//! endpoints, the changes of webhooks, the faults of disk and network, and when the process or the power fails. The
//! stages are the real ones: the registry's writer, ingest, group commit, the body reader, retention, the shards and
//! settle. Only their threads, the clock, the disk and the endpoints are simulated.
//!
//! [`ledger`] holds what was promised, and checks it at each step. The promises are listed there.
//!
//! # Use
//!
//! `cargo test --lib sim::` runs a few seeds. `HOOKTIDE_SIM_SEEDS=500 HOOKTIDE_SIM_SECONDS=180` runs up to 500 seeds, for
//! at most three minutes. A seed that fails is printed: `HOOKTIDE_SIM_SEED=<seed>` runs it alone, and it belongs into
//! `REGRESSIONS` of `tests.rs`. `HOOKTIDE_SIM_FIRST` is the first seed, 0 by default.

mod clients;
mod endpoint;
mod ledger;
mod node;
mod tests;
mod world;
