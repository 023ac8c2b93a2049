//! The tables of state.redb and their keys. All keys are big-endian bytes, compared as such; times are of the scheduling
//! clock with the sign flipped, so that bytes sort as times do.

use redb::TableDefinition;

use crate::model::{DeliveryId, EventId, Timestamp, WebhookNo};
use crate::storage::delivery::part;

/// (webhook, event)
pub(super) type Key = [u8; 20];
/// (webhook, time, event), or (time, webhook, event)
pub(super) type TimeKey = [u8; 28];

/// What waits on disk: see [`super::pending`].
pub(super) const PENDING: TableDefinition<&Key, &[u8; 12]> = TableDefinition::new("pending");
/// (webhook, time, event) → attempts and base, of the rows that wait for a time.
pub(super) const DUE: TableDefinition<&TimeKey, (u16, u16)> = TableDefinition::new("due");
/// Dead letters: see [`super::super::dead_letter`].
pub(super) const DEAD: TableDefinition<&Key, &[u8]> = TableDefinition::new("dead");
/// (time, webhook, event), for retention.
pub(super) const DEAD_AT: TableDefinition<&TimeKey, ()> = TableDefinition::new("dead_at");
/// Jobs: see [`super::super::job`].
pub(super) const JOBS: TableDefinition<u64, &[u8]> = TableDefinition::new("jobs");
/// Job → the webhooks of its wide event.
pub(super) const WIDE: TableDefinition<u64, &[u8]> = TableDefinition::new("wide");
/// Webhook → its statistics.
pub(super) const STATS: TableDefinition<u32, &[u8; 48]> = TableDefinition::new("stats");
/// Number of a history file → what it spans: see [`super::history`].
pub(super) const HISTORY: TableDefinition<u64, &[u8; 40]> = TableDefinition::new("history");
/// (hour, webhook or tenant) → figures by event type: see [`super::hours`].
pub(super) const HOURS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("hours");
/// Webhook → how badly it stands: see [`super::super::standing`].
pub(super) const WATCH: TableDefinition<u32, u8> = TableDefinition::new("watch");
/// Operational events that are not in the log yet: see [`super::write`].
pub(super) const OUTBOX: TableDefinition<u64, &[u8]> = TableDefinition::new("outbox");
/// The checkpoint and the high waters, by name.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// The key of a delivery.
pub(super) fn key(webhook: WebhookNo, event: EventId) -> Key {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&webhook.0.to_be_bytes());
    key[4..].copy_from_slice(&event.as_u128().to_be_bytes());
    key
}

/// The delivery of a key.
pub(super) fn delivery(key: &Key) -> DeliveryId {
    DeliveryId { webhook: WebhookNo(u32::from_be_bytes(part(key, 0))), event: event_at(key, 4) }
}

/// The key of a row that waits for a time.
pub(super) fn due_key(webhook: WebhookNo, at: Timestamp, event: EventId) -> TimeKey {
    let mut key = [0; 28];
    key[..4].copy_from_slice(&webhook.0.to_be_bytes());
    key[4..12].copy_from_slice(&time_bytes(at));
    key[12..].copy_from_slice(&event.as_u128().to_be_bytes());
    key
}

/// Time and event of such a key.
pub(super) fn due_of(key: &TimeKey) -> (Timestamp, EventId) {
    (time_at(key, 4), event_at(key, 12))
}

/// The key of a dead letter's time.
pub(super) fn dead_at_key(at: Timestamp, webhook: WebhookNo, event: EventId) -> TimeKey {
    let mut time_key = [0; 28];
    time_key[..8].copy_from_slice(&time_bytes(at));
    time_key[8..].copy_from_slice(&key(webhook, event));
    time_key
}

/// Time and delivery of such a key.
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
