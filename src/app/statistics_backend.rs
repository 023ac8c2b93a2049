//! The service's access to statistics.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::WebhookNo;
use crate::runtime::Metrics;
use crate::service::{BackendFailed, BackendResult, BreakerState, StatisticsBackend};
use crate::settle::{DeliveryRecords, Hour, HourlyStatsRow, StatsScope, WebhookStats};
use crate::storage::delivery::LookupError;

/// Reads statistics from settle's records, and breaker states from the metrics of the shards.
pub(super) struct StatisticsAdapter {
    pub(super) records: DeliveryRecords,
    pub(super) metrics: Arc<Metrics>,
}

impl StatisticsBackend for StatisticsAdapter {
    fn totals(&self, webhook: WebhookNo) -> WebhookStats {
        self.records.stats(webhook)
    }

    fn hours(&self, of: StatsScope<'_>, first: Hour, last: Hour) -> BackendResult<BTreeMap<Hour, HourlyStatsRow>> {
        self.records.hourly_stats(of, first, last).map_err(failed)
    }

    fn waiting(&self, webhook: WebhookNo, most: usize) -> BackendResult<usize> {
        self.records.rows_of(webhook, most).map_err(failed)
    }

    fn breaker(&self, webhook: WebhookNo) -> BreakerState {
        match self.metrics.breakers.get(webhook.0) {
            0 => BreakerState::Closed,
            1 => BreakerState::HalfOpen,
            _ => BreakerState::Open,
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used by map_err")]
fn failed(error: LookupError) -> BackendFailed {
    tracing::error!(target: "hooktide::api", %error, "the figures cannot be read");
    BackendFailed::Unreadable
}
