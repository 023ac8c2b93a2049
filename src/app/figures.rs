//! The interface's view of the figures.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::WebhookNo;
use crate::runtime::Metrics;
use crate::service::{Answered, BreakerState, FigureStore, StoreFailed};
use crate::settle::{FiguresOf, Hour, HourRow, Records, WebhookStats};
use crate::storage::delivery::LookupError;

/// Settle's records, and the breakers as the shards show them.
pub(super) struct Figures {
    pub(super) records: Records,
    pub(super) metrics: Arc<Metrics>,
}

impl FigureStore for Figures {
    fn totals(&self, webhook: WebhookNo) -> WebhookStats {
        self.records.stats(webhook)
    }

    fn hours(&self, of: FiguresOf<'_>, first: Hour, last: Hour) -> Answered<BTreeMap<Hour, HourRow>> {
        self.records.figures(of, first, last).map_err(failed)
    }

    fn waiting(&self, webhook: WebhookNo, most: usize) -> Answered<usize> {
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
fn failed(error: LookupError) -> StoreFailed {
    tracing::error!(target: "hooktide::api", %error, "the figures cannot be read");
    StoreFailed
}
