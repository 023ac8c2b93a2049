//! The statistics backend: the interface through which the service reads the statistics of webhooks and tenants.
//!
//! The application implements it over the settle thread's records. Tests implement it in memory.

use std::collections::BTreeMap;

use super::{BackendResult, BoxFuture};
use crate::model::{EndpointState, WebhookNo};
use crate::settle::{Hour, HourlyStatsRow, StatsScope, WebhookStats};

/// The counts of a webhook at one moment.
#[derive(Debug, Clone, Default)]
pub struct WebhookCounts {
    /// Counts since the webhook was created.
    pub totals: WebhookStats,
    /// The number of deliveries that are accepted and not settled.
    pub waiting: usize,
    /// Whether there may be more of them than were counted.
    pub waiting_is_minimum: bool,
    /// Statistics by hour. An hour without statistics has no entry.
    pub hours: BTreeMap<Hour, HourlyStatsRow>,
}

/// Reads the statistics of webhooks and tenants. Methods may block unless their description says otherwise.
pub trait StatisticsBackend: Send + Sync + 'static {
    /// Returns the counts of a webhook with its hours from `first` to `last`, both included. Waiting deliveries on disk
    /// are counted up to `most`. All values are of the same moment. Does not block.
    fn of_webhook(
        &self,
        webhook: WebhookNo,
        first: Hour,
        last: Hour,
        most: usize,
    ) -> BoxFuture<'_, BackendResult<WebhookCounts>>;
    /// Returns statistics by hour from `first` to `last`, both included. An hour without statistics has no entry.
    fn hours(&self, of: StatsScope<'_>, first: Hour, last: Hour) -> BackendResult<BTreeMap<Hour, HourlyStatsRow>>;
    /// Returns the state of a webhook's circuit breaker. Does not block.
    fn breaker(&self, webhook: WebhookNo) -> BreakerState;
    /// Returns the state of a webhook's endpoint. `None`: neither paused nor failing. Does not block.
    fn endpoint_state(&self, webhook: WebhookNo) -> Option<EndpointState>;
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
