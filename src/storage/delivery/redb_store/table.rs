//! The tables of state.redb and their keys.
//!
//! Keys are big-endian bytes and sorted as bytes. Times are of the scheduling clock. Their sign bit is flipped, so that
//! the bytes sort like the times.

use redb::TableDefinition;

use crate::model::{DeliveryId, EventId, Timestamp, WebhookNo};
use crate::storage::delivery::part;

/// The key (webhook, event).
pub(super) type DeliveryKey = [u8; 20];
/// The key (webhook, time, event) or (time, webhook, event).
pub(super) type TimeKey = [u8; 28];

/// (webhook, event) → a row: a delivery that waits on disk. See [`super::pending`].
pub(super) const PENDING: TableDefinition<&DeliveryKey, &[u8; 12]> = TableDefinition::new("pending");
/// (webhook, time, event) → attempts and base of a row that waits for a time.
pub(super) const DUE: TableDefinition<&TimeKey, (u16, u16)> = TableDefinition::new("due");
/// (webhook, event) → a dead letter. See [`super::super::dead_letter`].
pub(super) const DEAD: TableDefinition<&DeliveryKey, &[u8]> = TableDefinition::new("dead");
/// (time, webhook, event) of each dead letter, for retention.
pub(super) const DEAD_AT: TableDefinition<&TimeKey, ()> = TableDefinition::new("dead_at");
/// Job number → the job as JSON. See [`super::super::job`].
pub(super) const JOBS: TableDefinition<u64, &[u8]> = TableDefinition::new("jobs");
/// Job number → the webhooks of its wide event.
pub(super) const WIDE: TableDefinition<u64, &[u8]> = TableDefinition::new("wide");
/// Webhook → its statistics.
pub(super) const STATS: TableDefinition<u32, &[u8; 48]> = TableDefinition::new("stats");
/// Number of a history file → its range of events. See [`super::history`].
pub(super) const HISTORY: TableDefinition<u64, &[u8; 40]> = TableDefinition::new("history");
/// (hour, webhook or tenant) → statistics by event type. See [`super::hourly_stats`].
pub(super) const HOURLY_STATS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("hours");
/// Webhook → its failure state. See [`super::super::webhook_health`].
pub(super) const WEBHOOK_HEALTH: TableDefinition<u32, u8> = TableDefinition::new("watch");
/// Webhook → the state of its endpoint. See [`super::super::endpoint_state`].
pub(super) const ENDPOINT_STATES: TableDefinition<u32, &[u8]> = TableDefinition::new("endpoints");
/// Row number → an operational event that is not in the log yet. See [`super::write`].
pub(super) const OUTBOX: TableDefinition<u64, &[u8]> = TableDefinition::new("outbox");
/// The checkpoint, the high-water marks and other single values, by name.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Returns the key of a delivery.
pub(super) fn key(webhook: WebhookNo, event: EventId) -> DeliveryKey {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&webhook.0.to_be_bytes());
    key[4..].copy_from_slice(&event.as_u128().to_be_bytes());
    key
}

/// Returns the delivery of a key.
pub(super) fn delivery(key: &DeliveryKey) -> DeliveryId {
    DeliveryId { webhook: WebhookNo(u32::from_be_bytes(part(key, 0))), event: event_at(key, 4) }
}

/// Returns the key of a row that waits for a time.
pub(super) fn due_key(webhook: WebhookNo, at: Timestamp, event: EventId) -> TimeKey {
    let mut key = [0; 28];
    key[..4].copy_from_slice(&webhook.0.to_be_bytes());
    key[4..12].copy_from_slice(&time_bytes(at));
    key[12..].copy_from_slice(&event.as_u128().to_be_bytes());
    key
}

/// Returns the time and event of such a key.
pub(super) fn due_of(key: &TimeKey) -> (Timestamp, EventId) {
    (time_at(key, 4), event_at(key, 12))
}

/// Returns the key of a dead letter in `dead_at`.
pub(super) fn dead_at_key(at: Timestamp, webhook: WebhookNo, event: EventId) -> TimeKey {
    let mut time_key = [0; 28];
    time_key[..8].copy_from_slice(&time_bytes(at));
    time_key[8..].copy_from_slice(&key(webhook, event));
    time_key
}

/// Returns the time and delivery of such a key.
pub(super) fn dead_at_of(key: &TimeKey) -> (Timestamp, DeliveryId) {
    let webhook = WebhookNo(u32::from_be_bytes(part(key, 8)));
    (time_at(key, 0), DeliveryId { webhook, event: event_at(key, 12) })
}

fn time_bytes(at: Timestamp) -> [u8; 8] {
    (at.as_millis() ^ i64::MIN).to_be_bytes()
}

fn time_at(key: &[u8], at: usize) -> Timestamp {
    Timestamp::from_millis(i64::from_be_bytes(part(key, at)) ^ i64::MIN)
}

fn event_at(key: &[u8], at: usize) -> EventId {
    EventId::from_u128(u128::from_be_bytes(part(key, at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_read_back_and_sort_as_their_parts(a: (u32, i64, u128), b: (u32, i64, u128)) {
            let due = |(w, t, e): (u32, i64, u128)| {
                due_key(WebhookNo(w), Timestamp::from_millis(t), EventId::from_u128(e))
            };
            prop_assert_eq!(due(a).cmp(&due(b)), a.cmp(&b));
            prop_assert_eq!(due_of(&due(a)), (Timestamp::from_millis(a.1), EventId::from_u128(a.2)));
            let id = DeliveryId { webhook: WebhookNo(a.0), event: EventId::from_u128(a.2) };
            prop_assert_eq!(delivery(&key(id.webhook, id.event)), id);
            let at = Timestamp::from_millis(a.1);
            prop_assert_eq!(dead_at_of(&dead_at_key(at, id.webhook, id.event)), (at, id));
        }
    }
}
