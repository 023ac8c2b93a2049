//! The statistics backend: the interface through which the service reads the statistics of webhooks and tenants.
//!
//! The application implements it over the settle thread's records. Tests implement it in memory.

use std::collections::BTreeMap;

use super::BackendResult;
use crate::model::WebhookNo;
use crate::settle::{Hour, HourlyStatsRow, StatsScope, WebhookStats};

/// Reads the statistics of webhooks and tenants. Every method may block.
pub trait StatisticsBackend: Send + Sync + 'static {
    /// Returns the counts of a webhook since its creation.
    fn totals(&self, webhook: WebhookNo) -> WebhookStats;
    /// Returns statistics by hour from `first` to `last`, both included. An hour without statistics has no entry.
    fn hours(&self, of: StatsScope<'_>, first: Hour, last: Hour) -> BackendResult<BTreeMap<Hour, HourlyStatsRow>>;
    /// Returns the number of a webhook's deliveries that wait on disk, counted up to `most`.
    fn waiting(&self, webhook: WebhookNo, most: usize) -> BackendResult<usize>;
    /// Returns the state of a webhook's circuit breaker.
    fn breaker(&self, webhook: WebhookNo) -> BreakerState;
}

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Every delivery is sent.
    #[default]
    Closed,
    /// One probe at a time is sent.
    HalfOpen,
    /// Nothing is sent.
    Open,
}
