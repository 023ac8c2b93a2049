//! Compares the acknowledged events with the received deliveries and counts lost and duplicated deliveries.
//!
//! Load and sink each record their own part. Events are numbered, so the parts need neither a lock nor hashing. They
//! are compared after load and sink have ended.

use super::traffic::Traffic;

/// The set of acknowledged events, recorded by the load. One bit per event number.
#[derive(Debug, Default)]
pub(super) struct AcceptedEvents {
    words: Vec<u64>,
}

impl AcceptedEvents {
    /// Adds an event by its number.
    pub(super) fn insert(&mut self, seq: u64) {
        let word = (seq / 64) as usize;
        if word >= self.words.len() {
            self.words.resize((word + 1).next_power_of_two(), 0);
        }
        self.words[word] |= 1 << (seq % 64);
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        let bits = |(n, word): (usize, &u64)| {
            let word = *word;
            (0..64_u64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| n as u64 * 64 + bit)
        };
        self.words.iter().enumerate().filter(|(_, word)| **word != 0).flat_map(bits)
    }
}

/// Whether a delivery arrived for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArrivalKind {
    /// The first delivery of this event to this webhook.
    First,
    /// A repeated delivery of this event to this webhook.
    Repeated,
}

/// Number of deliveries of each event to each webhook, recorded by the sink. A count saturates at 255.
#[derive(Debug, Default)]
pub(super) struct DeliveryCounts {
    counts: Vec<u8>,
}

impl DeliveryCounts {
    /// Counts a delivery at an index from [`Traffic::delivery_index`].
    pub(super) fn insert(&mut self, index: usize) -> ArrivalKind {
        if index >= self.counts.len() {
            self.counts.resize((index + 1).next_power_of_two(), 0);
        }
        let count = &mut self.counts[index];
        *count = count.saturating_add(1);
        if *count == 1 { ArrivalKind::First } else { ArrivalKind::Repeated }
    }

    fn count(&self, index: usize) -> u8 {
        self.counts.get(index).copied().unwrap_or(0)
    }
}

/// Lost and duplicated deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Discrepancies {
    /// Deliveries of acknowledged events that never arrived.
    pub(super) lost: u64,
    /// Deliveries that arrived again after the endpoint had accepted them.
    pub(super) duplicated: u64,
}

/// Number of deliveries that must arrive for these acknowledged events. Webhooks with a failing endpoint are not
/// counted.
pub(super) fn expected(traffic: &Traffic, accepted: &AcceptedEvents) -> u64 {
    accepted.iter().map(|seq| healthy(traffic, seq).count() as u64).sum()
}

/// Counts the lost and duplicated deliveries of the webhooks whose endpoint does not fail.
pub(super) fn discrepancies(
    traffic: &Traffic,
    accepted: &AcceptedEvents,
    delivery_counts: &DeliveryCounts,
) -> Discrepancies {
    let places = |seq| healthy(traffic, seq).map(move |webhook| traffic.delivery_index(seq, webhook));
    let lost = accepted.iter().flat_map(places).filter(|place| delivery_counts.count(*place) == 0).count() as u64;
    // A failing webhook receives an event repeatedly by design.
    let repeated = delivery_counts.counts.iter().enumerate().filter(|(_, count)| **count > 1);
    let taken = repeated.filter(|(place, _)| !traffic.fails(webhook_at(traffic, *place)));
    Discrepancies { lost, duplicated: taken.map(|(_, count)| u64::from(count - 1)).sum() }
}

fn healthy(traffic: &Traffic, seq: u64) -> impl Iterator<Item = u32> {
    traffic.webhooks_of(seq).filter(|webhook| !traffic.fails(*webhook))
}

fn webhook_at(traffic: &Traffic, index: usize) -> u32 {
    let fanout = traffic.fanout.max(1) as usize;
    traffic.webhooks_of((index / fanout) as u64).start + (index % fanout) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(failing: f64) -> Traffic {
        Traffic { webhooks: 4, fanout: 2, payload: 128, batch: 1, failing }
    }

    fn deliver(traffic: &Traffic, delivery_counts: &mut DeliveryCounts, seq: u64) {
        for webhook in traffic.webhooks_of(seq) {
            delivery_counts.insert(traffic.delivery_index(seq, webhook));
        }
    }

    #[test]
    fn missing_deliveries_are_lost_and_repeated_deliveries_are_duplicated() {
        let traffic = traffic(0.0);
        let (mut accepted, mut delivery_counts) = (AcceptedEvents::default(), DeliveryCounts::default());
        for seq in [0, 63, 64, 1_000] {
            accepted.insert(seq);
        }
        assert_eq!(expected(&traffic, &accepted), 8);
        for seq in [0, 63, 64] {
            deliver(&traffic, &mut delivery_counts, seq);
        }
        assert_eq!(delivery_counts.insert(traffic.delivery_index(64, 0)), ArrivalKind::Repeated);
        assert_eq!(discrepancies(&traffic, &accepted, &delivery_counts), Discrepancies { lost: 2, duplicated: 1 });
        deliver(&traffic, &mut delivery_counts, 1_000);
        assert_eq!(discrepancies(&traffic, &accepted, &delivery_counts), Discrepancies { lost: 0, duplicated: 1 });
    }

    #[test]
    fn deliveries_of_unacknowledged_events_are_not_counted() {
        let traffic = traffic(0.0);
        let mut delivery_counts = DeliveryCounts::default();
        deliver(&traffic, &mut delivery_counts, 5);
        assert_eq!(
            discrepancies(&traffic, &AcceptedEvents::default(), &delivery_counts),
            Discrepancies { lost: 0, duplicated: 0 }
        );
    }

    #[test]
    fn failing_webhooks_are_neither_lost_nor_duplicated() {
        let traffic = traffic(0.5);
        let (mut accepted, mut delivery_counts) = (AcceptedEvents::default(), DeliveryCounts::default());
        accepted.insert(0);
        assert_eq!(expected(&traffic, &accepted), 1);
        delivery_counts.insert(traffic.delivery_index(0, 0));
        delivery_counts.insert(traffic.delivery_index(0, 1));
        delivery_counts.insert(traffic.delivery_index(0, 1));
        assert_eq!(discrepancies(&traffic, &accepted, &delivery_counts), Discrepancies { lost: 0, duplicated: 0 });
    }
}
