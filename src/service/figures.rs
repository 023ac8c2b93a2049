//! What the interface asks of the figures: the seam that a test fills with figures of its own.

use std::collections::BTreeMap;

use super::Answered;
use crate::model::WebhookNo;
use crate::settle::{FiguresOf, Hour, HourRow, WebhookStats};

/// Figures of webhooks and tenants. All of it may block.
pub trait FigureStore: Send + Sync + 'static {
    /// Counts since a webhook was made.
    fn totals(&self, webhook: WebhookNo) -> WebhookStats;
    /// Figures by hour, both ends included; an hour without any is not there.
    fn hours(&self, of: FiguresOf<'_>, first: Hour, last: Hour) -> Answered<BTreeMap<Hour, HourRow>>;
    /// Deliveries of a webhook that wait on the disk, counted up to `most`.
    fn waiting(&self, webhook: WebhookNo, most: usize) -> Answered<usize>;
    /// How a webhook's circuit breaker stands.
    fn breaker(&self, webhook: WebhookNo) -> BreakerState;
}

/// How a circuit breaker stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// All goes through.
    #[default]
    Closed,
    /// One probe at a time does.
    HalfOpen,
    /// Nothing does.
    Open,
}
