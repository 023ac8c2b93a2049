//! runtime: what all stages use: clock, randomness, memory budget, ingest permits, token buckets, metrics, logging,
//! threads.
//!
//! # Invariant
//! Only this folder may ask the operating system for the time or for randomness. A lint enforces this. All other code can
//! therefore be tested with the test's own clock and seed.

mod clock;
mod ingest_permits;
pub mod logging;
mod memory_budget;
pub mod metrics;
mod panics;
mod parallel;
mod percentiles;
mod random;
mod shared_token_bucket;
mod tenant_budget;
mod token_bucket;
mod watchdog;
mod work_budget;

pub use clock::{Clock, Instant, Moment};
pub use ingest_permits::{IngestPermit, IngestPermits};
pub use memory_budget::{BodyLease, MemoryBudget};
pub use metrics::Metrics;
pub use panics::count_panics;
pub use parallel::parallel_map;
pub use random::Random;
pub use shared_token_bucket::{SharedTokenBucket, TakeResult};
pub use tenant_budget::{TenantBudget, TenantBudgetError, TenantShare};
pub use token_bucket::TokenBucket;
pub use watchdog::{Heartbeat, StalledStage, Watchdog, WatchdogChanges};
pub use work_budget::WorkBudget;
