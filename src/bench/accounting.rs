//! The account: which events were acknowledged, which deliveries arrived, and what does not add up.
//!
//! Load and sink each keep their own half, without a lock and without hashing, as events are numbered; the halves meet
//! once both have ended.

use super::traffic::Traffic;

/// The load's half: the events that were acknowledged.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    words: Vec<u64>,
}

impl Accepted {
    /// Notes an event.
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

/// What an arrival at a sink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The first of this event at this webhook.
    First,
    /// Another one.
    Repeated,
}

/// The sink's half: how often each event came to each webhook.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    counts: Vec<u8>,
}

impl Arrivals {
    /// Notes an arrival at a place ([`Traffic::place`]).
    pub(super) fn insert(&mut self, place: usize) -> Arrival {
        if place >= self.counts.len() {
            self.counts.resize((place + 1).next_power_of_two(), 0);
        }
        let count = &mut self.counts[place];
        *count = count.saturating_add(1);
        if *count == 1 { Arrival::First } else { Arrival::Repeated }
    }

    fn count(&self, place: usize) -> u8 {
        self.counts.get(place).copied().unwrap_or(0)
    }
}

/// What does not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Balance {
    /// Deliveries of acknowledged events that never came.
    pub(super) lost: u64,
    /// Deliveries that came again although they had been taken.
    pub(super) duplicated: u64,
}

/// Deliveries that must come once these events are acknowledged.
pub(super) fn expected(traffic: &Traffic, accepted: &Accepted) -> u64 {
    accepted.iter().map(|seq| healthy(traffic, seq).count() as u64).sum()
}

/// Compares the halves, over the webhooks that take what they get.
pub(super) fn balance(traffic: &Traffic, accepted: &Accepted, arrivals: &Arrivals) -> Balance {
    let places = |seq| healthy(traffic, seq).map(move |webhook| traffic.place(seq, webhook));
    let lost = accepted.iter().flat_map(places).filter(|place| arrivals.count(*place) == 0).count() as u64;
    // Failing webhooks see an event again and again by design.
    let repeated = arrivals.counts.iter().enumerate().filter(|(_, count)| **count > 1);
    let taken = repeated.filter(|(place, _)| !traffic.fails(webhook_at(traffic, *place)));
    Balance { lost, duplicated: taken.map(|(_, count)| u64::from(count - 1)).sum() }
}

fn healthy(traffic: &Traffic, seq: u64) -> impl Iterator<Item = u32> {
    traffic.webhooks_of(seq).filter(|webhook| !traffic.fails(*webhook))
}

fn webhook_at(traffic: &Traffic, place: usize) -> u32 {
    let fanout = traffic.fanout.max(1) as usize;
    traffic.webhooks_of((place / fanout) as u64).start + (place % fanout) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(failing: f64) -> Traffic {
        Traffic { webhooks: 4, fanout: 2, payload: 128, batch: 1, failing }
    }

    fn deliver(traffic: &Traffic, arrivals: &mut Arrivals, seq: u64) {
        for webhook in traffic.webhooks_of(seq) {
            arrivals.insert(traffic.place(seq, webhook));
        }
    }

    #[test]
    fn what_never_came_is_lost_and_what_came_again_is_duplicated() {
        let traffic = traffic(0.0);
        let (mut accepted, mut arrivals) = (Accepted::default(), Arrivals::default());
        for seq in [0, 63, 64, 1_000] {
            accepted.insert(seq);
        }
        assert_eq!(expected(&traffic, &accepted), 8);
        for seq in [0, 63, 64] {
            deliver(&traffic, &mut arrivals, seq);
        }
        assert_eq!(arrivals.insert(traffic.place(64, 0)), Arrival::Repeated);
        assert_eq!(balance(&traffic, &accepted, &arrivals), Balance { lost: 2, duplicated: 1 });
        deliver(&traffic, &mut arrivals, 1_000);
        assert_eq!(balance(&traffic, &accepted, &arrivals), Balance { lost: 0, duplicated: 1 });
    }

    #[test]
    fn what_was_not_acknowledged_may_come_or_not() {
        let traffic = traffic(0.0);
        let mut arrivals = Arrivals::default();
        deliver(&traffic, &mut arrivals, 5);
        assert_eq!(balance(&traffic, &Accepted::default(), &arrivals), Balance { lost: 0, duplicated: 0 });
    }

    #[test]
    fn failing_webhooks_are_neither_lost_nor_duplicated() {
        let traffic = traffic(0.5);
        let (mut accepted, mut arrivals) = (Accepted::default(), Arrivals::default());
        accepted.insert(0);
        assert_eq!(expected(&traffic, &accepted), 1);
        arrivals.insert(traffic.place(0, 0));
        arrivals.insert(traffic.place(0, 1));
        arrivals.insert(traffic.place(0, 1));
        assert_eq!(balance(&traffic, &accepted, &arrivals), Balance { lost: 0, duplicated: 0 });
    }
}
