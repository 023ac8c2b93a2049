//! A model of settle, as a shard sees it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::handoff::{BacklogRow, Refill, RefillKind, RefillReply, ToSettle};
use crate::model::{Decision, EventId, Timestamp, WebhookNo};

pub(super) type Delivery = (WebhookNo, EventId);

#[derive(Debug, Default)]
pub(super) struct Settle {
    pub(super) outstanding: BTreeSet<(EventId, WebhookNo)>,
    /// Deliveries of events whose rows a job will write.
    pub(super) unwritten: BTreeSet<(EventId, WebhookNo)>,
    pub(super) rows: BTreeMap<Delivery, (u16, Option<Timestamp>)>,
    /// Attempts before the last replay.
    pub(super) bases: BTreeMap<Delivery, u16>,
    pub(super) answers: VecDeque<RefillReply>,
    /// The final decision of each ended delivery, and the number of its last attempt.
    pub(super) ended: BTreeMap<Delivery, (Decision, u16)>,
}

impl Settle {
    /// Applies all messages, then answers the refill requests.
    pub(super) fn flush(&mut self, messages: impl Iterator<Item = ToSettle>, now: Timestamp) {
        let refills: Vec<_> = messages.filter_map(|message| self.apply(message)).collect();
        for refill in refills {
            let answer = self.answer(&refill, now);
            self.answers.push_back(answer);
        }
    }

    /// Moves a delivery to a row.
    pub(super) fn spill(&mut self, (no, event): Delivery) {
        self.outstanding.remove(&(event, no));
        self.rows.entry((no, event)).or_insert((0, None));
    }

    fn apply(&mut self, message: ToSettle) -> Option<Refill> {
        match message {
            ToSettle::Settled(list) => {
                for settled in list {
                    let delivery = (settled.webhook, settled.event);
                    self.outstanding.remove(&(settled.event, settled.webhook));
                    self.rows.remove(&delivery);
                    let spec = settled.attempt.map_or(0, |attempt| attempt.number);
                    match settled.decision {
                        Decision::Retry { at } => drop(self.rows.insert(delivery, (spec, Some(at)))),
                        decision => drop(self.ended.insert(delivery, (decision, spec))),
                    }
                }
                None
            }
            ToSettle::Spill(list) => {
                for delivery in list {
                    self.spill(delivery);
                }
                None
            }
            ToSettle::Refill(refill) => Some(refill),
            ToSettle::Announce(_) | ToSettle::ReplayStep(_) | ToSettle::Command(_) => None,
        }
    }

    fn answer(&self, refill: &Refill, now: Timestamp) -> RefillReply {
        let of_webhook = self.rows.range((refill.webhook, EventId::MIN)..=(refill.webhook, EventId::MAX));
        let (mut rows, mut not_before, mut kind, mut next_due) = (Vec::new(), Vec::new(), refill.kind, None);
        let mut is_all = true;
        let found: Vec<_> = match &mut kind {
            RefillKind::Ready { after } => {
                let found: Vec<_> = of_webhook
                    .filter(|((_, event), (_, at))| at.is_none() && *event > *after)
                    .take(refill.rows + 1)
                    .collect();
                if let Some(((_, last), _)) = found.iter().take(refill.rows).next_back() {
                    *after = *last;
                }
                found
            }
            RefillKind::Ordered { after } => {
                let before = self.unwritten.first().map(|(event, _)| *event);
                is_all = before.is_none();
                let found: Vec<_> = of_webhook
                    .filter(|((_, event), _)| *event > *after && before.is_none_or(|before| *event < before))
                    .take(refill.rows + 1)
                    .collect();
                for ((_, event), (_, at)) in found.iter().take(refill.rows) {
                    *after = *event;
                    not_before.extend(at.map(|at| (*event, at)));
                }
                found
            }
            RefillKind::Due { after, until } => {
                *until = (*until).min(Timestamp::from_millis(now.as_millis() - 1));
                let mut due: Vec<_> = of_webhook.filter_map(|(key, row)| Some(((row.1?, key.1), (key, row)))).collect();
                due.sort_by_key(|(place, _)| *place);
                due.retain(|(place, _)| *place > *after);
                next_due = due.iter().map(|((at, _), _)| *at).find(|at| *at > *until);
                due.retain(|((at, _), _)| *at <= *until);
                if let Some((place, _)) = due.iter().take(refill.rows).next_back() {
                    *after = *place;
                }
                due.into_iter().map(|(_, row)| row).collect()
            }
        };
        let end = found.len() <= refill.rows && is_all;
        rows.extend(found.iter().take(refill.rows).map(|(delivery, (attempts, _))| {
            let base = self.bases.get(delivery).copied().unwrap_or(0);
            BacklogRow { event: delivery.1, attempts: *attempts, base }
        }));
        RefillReply { webhook: refill.webhook, kind, rows, not_before: not_before.into(), end, next_due }
    }
}
