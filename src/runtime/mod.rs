//! What every stage stands on: clock, randomness, disk, memory budget, door, token bucket, metrics, threads.
//!
//! The only place that may ask the operating system for the time or for randomness (a lint holds that), so that every
//! other part can be tested on a clock and a seed of the test's own.

mod bucket;
mod budget;
mod clock;
mod ingest_permits;
pub mod logging;
pub mod metrics;
mod parallel;
mod percentiles;
mod random;
mod shared_bucket;

pub use bucket::Bucket;
pub use budget::{BodyLease, MemoryBudget};
pub use clock::{Clock, Instant, Moment};
pub use ingest_permits::{IngestPermits, Permit};
pub use metrics::Metrics;
pub use parallel::map_all;
pub use random::Random;
pub use shared_bucket::{SharedBucket, Taken};
