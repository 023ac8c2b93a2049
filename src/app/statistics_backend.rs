//! The service's access to statistics.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{EndpointState, WebhookNo};
use crate::runtime::Metrics;
use crate::service::{BackendFailed, BackendResult, BoxFuture, BreakerState, StatisticsBackend, WebhookCounts};
use crate::settle::{DeliveryRecords, Hour, HourlyStatsRow, StatsScope};
use crate::storage::delivery::LookupError;

/// Reads statistics from settle's records, and breaker states from the metrics of the shards.
pub(super) struct StatisticsAdapter {
    pub(super) records: DeliveryRecords,
    pub(super) metrics: Arc<Metrics>,
}

impl StatisticsBackend for StatisticsAdapter {
    fn of_webhook(
        &self,
        webhook: WebhookNo,
        first: Hour,
        last: Hour,
        most: usize,
    ) -> BoxFuture<'_, BackendResult<WebhookCounts>> {
        Box::pin(async move {
            let snapshot = self.records.snapshot(webhook, first, last).await.ok_or(BackendFailed::Busy)?;
            let totals = snapshot.totals();
            let read = tokio::task::spawn_blocking(move || snapshot.read(most).map_err(failed));
            let (waiting, waiting_is_minimum, hours) = read.await.map_err(|_| BackendFailed::Unreadable)??;
            Ok(WebhookCounts { totals, waiting, waiting_is_minimum, hours })
        })
    }

    fn hours(&self, of: StatsScope<'_>, first: Hour, last: Hour) -> BackendResult<BTreeMap<Hour, HourlyStatsRow>> {
        self.records.hourly_stats(of, first, last).map_err(failed)
    }

    fn breaker(&self, webhook: WebhookNo) -> BreakerState {
        match self.metrics.breakers.get(webhook.0) {
            0 => BreakerState::Closed,
            1 => BreakerState::HalfOpen,
            _ => BreakerState::Open,
        }
    }

    fn endpoint_state(&self, webhook: WebhookNo) -> Option<EndpointState> {
        self.metrics.endpoint_states.get(webhook)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used by map_err")]
fn failed(error: LookupError) -> BackendFailed {
    tracing::error!(target: "hooktide::api", %error, "the figures cannot be read");
    BackendFailed::Unreadable
}
