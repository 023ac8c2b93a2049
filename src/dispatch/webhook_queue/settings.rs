//! What a webhook's settings mean for its deliveries: sending or not, limits, and circuit breaker settings.

use crate::config;
use crate::dispatch::rate_control::SendLimits;
use crate::dispatch::shard_state::ShardState;
use crate::model::{BreakerSettings, DeadReason, WebhookStatus};
use crate::outbound::{DeliveryOrder, Webhook};

/// What a webhook's status means for its deliveries.
pub(super) enum SendState {
    /// Deliveries are made.
    Sending,
    /// Deliveries wait until the webhook is resumed.
    Held,
    /// Deliveries become dead letters.
    Ended(DeadReason),
}

/// Returns what the webhook's status means. `None` is a deleted webhook.
pub(super) fn send_state(webhook: Option<&Webhook>) -> SendState {
    match webhook.map(|webhook| webhook.status) {
        Some(WebhookStatus::Active) => SendState::Sending,
        Some(WebhookStatus::Paused | WebhookStatus::Inactive) => SendState::Held,
        Some(WebhookStatus::Failed) => SendState::Ended(DeadReason::Disabled),
        None => SendState::Ended(DeadReason::Removed),
    }
}

/// Returns the webhook's concurrency and rate limits.
///
/// The last quarter of a shard's concurrency is reserved for webhooks with nothing in flight, so that many slow webhooks
/// cannot use all of it. A webhook that waits because of this rule has a delivery in flight and is scheduled again when
/// that delivery ends.
pub(super) fn send_limits<'a>(webhook: &'a Webhook, state: &ShardState) -> SendLimits<'a> {
    let is_crowded = state.in_flight >= state.bounds.in_flight - state.bounds.in_flight / 4;
    let in_flight_max = if is_crowded || webhook.order == DeliveryOrder::Acceptance {
        1
    } else {
        webhook.max_in_flight.unwrap_or(state.setup.delivery.max_in_flight)
    };
    SendLimits { in_flight_max, rate: webhook.rate_limit.as_ref() }
}

/// Returns the circuit breaker settings of a webhook that sets any.
pub(super) fn own_breaker(webhook: &Webhook, state: &ShardState) -> Option<Box<config::Breaker>> {
    let own = &webhook.breaker;
    (*own != BreakerSettings::default()).then(|| Box::new(state.setup.breaker.with(own)))
}
