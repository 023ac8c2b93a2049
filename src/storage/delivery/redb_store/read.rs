//! The reading side over state.redb and the history's files.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{Error, ReadTransaction, ReadableTableMetadata};

use super::history::Files;
use super::pending::{self, between};
use super::table::{DEAD, DUE, HISTORY, HOURS, JOBS, Key, OUTBOX, PENDING, STATS, WATCH, WIDE, key};
use super::{hourly_stats, jobs, list, refill};
use crate::model::{Attempt, DeliveryId, EventId, Timestamp, WebhookNo};
use crate::storage::delivery::checkpoint::decode_webhooks;
use crate::storage::delivery::dead_letter::is_expired;
use crate::storage::delivery::rows::PendingRow;
use crate::storage::delivery::{
    Backlog, DeadLetter, DeliveryReader, DeliveryRecord, FiguresOf, Hour, HourRow, Job, JobKind, LookupError,
    OutboxRow, Page, Recent, Refilled, RowsWanted, Standing, TableCounts, Wanted, WidePart,
};
use crate::storage::file::Store;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct RedbDeliveryReader {
    pub(super) state: Arc<Store>,
    pub(super) files: Arc<Files>,
}

impl RedbDeliveryReader {
    fn read<T>(&self, read: impl Fn(&ReadTransaction) -> Result<T, Error>) -> Result<T, LookupError> {
        Ok(self.state.read(read)?)
    }

    /// Every row that waits, with attempts and due time, and every dead letter.
    #[cfg(test)]
    #[expect(clippy::type_complexity, reason = "two lists for one test")]
    pub(crate) fn everything(
        &self,
    ) -> Result<(Vec<(DeliveryId, u16, Option<Timestamp>)>, Vec<DeliveryId>), LookupError> {
        use redb::ReadableTable;

        use super::table::delivery;
        self.read(|txn| {
            let (mut rows, mut dead) = (Vec::new(), Vec::new());
            for entry in txn.open_table(PENDING)?.iter()? {
                let (key, row) = entry?;
                let PendingRow { attempts, due, .. } = PendingRow::decode(row.value());
                rows.push((delivery(key.value()), attempts, due));
            }
            for entry in txn.open_table(DEAD)?.iter()? {
                dead.push(delivery(entry?.0.value()));
            }
            Ok((rows, dead))
        })
    }
}

impl DeliveryReader for RedbDeliveryReader {
    fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRecord>, LookupError> {
        let key = key(id.webhook, id.event);
        let (waits, letter) = self.read(|txn| {
            let row = txn.open_table(PENDING)?.get(&key)?.map(|row| PendingRow::decode(row.value()));
            let letter = match txn.open_table(DEAD)?.get(&key)? {
                Some(value) => Some(DeadLetter::decode(id, value.value())?),
                None => None,
            };
            Ok((row, letter))
        })?;
        let last = self.files.attempts(id)?.pop();
        Ok(match (waits, letter, last) {
            (None, None, None) => None,
            (Some(row), _, last) => Some(DeliveryRecord::of_row(id, row, last)),
            (None, Some(letter), last) => Some(DeliveryRecord::of_letter(letter, last)),
            (None, None, Some(last)) => Some(DeliveryRecord::of_history(id, last)),
        })
    }

    fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, LookupError> {
        Ok(self.files.attempts(id)?)
    }

    fn deliveries(&self, wanted: &Wanted, limit: usize) -> Result<Page<DeliveryRecord>, LookupError> {
        Ok(list::deliveries(&self.state, &self.files, wanted, limit)?)
    }

    fn dead_letters(&self, wanted: &Wanted, limit: usize) -> Result<Page<DeadLetter>, LookupError> {
        Ok(list::letters(&self.state, wanted, limit)?)
    }

    fn dead_letter(&self, id: DeliveryId) -> Result<Option<DeadLetter>, LookupError> {
        self.read(|txn| {
            let value = txn.open_table(DEAD)?.get(&key(id.webhook, id.event))?;
            value.map(|value| DeadLetter::decode(id, value.value())).transpose()
        })
    }

    fn rows_of(&self, webhook: WebhookNo, most: usize) -> Result<usize, LookupError> {
        let (first, last) = (key(webhook, EventId::MIN), key(webhook, EventId::MAX));
        self.read(|txn| Ok(txn.open_table(PENDING)?.range::<&Key>(&first..=&last)?.take(most).count()))
    }

    fn oldest(&self, webhooks: usize) -> Result<Option<EventId>, LookupError> {
        self.read(|txn| pending::oldest(txn, webhooks))
    }

    fn refill(
        &self,
        wanted: &[RowsWanted],
        now: Timestamp,
        unwritten: Option<EventId>,
    ) -> Result<Vec<Refilled>, LookupError> {
        self.read(|txn| wanted.iter().map(|wanted| refill::refill(txn, wanted, now, unwritten)).collect())
    }

    fn backlog(&self) -> Result<Backlog, LookupError> {
        self.read(|txn| Ok(Backlog { waiting: refill::waiting(txn)?, rows: txn.open_table(PENDING)?.len()? }))
    }

    fn jobs(&self) -> Result<Vec<Job>, LookupError> {
        self.read(|txn| jobs::load(&txn.open_table(JOBS)?))
    }

    fn wide(&self, job: u64, from: u32, limit: usize) -> Result<WidePart, LookupError> {
        self.read(|txn| {
            let row = txn.open_table(WIDE)?.get(job)?;
            let webhooks = row.and_then(|row| decode_webhooks(row.value()).map(|(webhooks, _)| webhooks));
            Ok(WidePart::of(&webhooks.unwrap_or_default(), from, limit))
        })
    }

    fn figures(
        &self,
        of: FiguresOf<'_>,
        first: Hour,
        last: Hour,
        recent: &Recent,
    ) -> Result<BTreeMap<Hour, HourRow>, LookupError> {
        self.read(|txn| hourly_stats::read(txn, of, first, last, recent))
    }

    fn outbox(&self, after: Option<u64>, limit: usize) -> Result<Vec<OutboxRow>, LookupError> {
        let from = after.map_or(0, |after| after + 1);
        self.read(|txn| {
            let table = txn.open_table(OUTBOX)?;
            let rows = table.range(from..)?.take(limit).map(|entry| {
                let (no, row) = entry?;
                Ok((no.value(), row.value().to_vec()))
            });
            rows.collect()
        })
    }

    fn disabled(&self) -> Result<Vec<WebhookNo>, LookupError> {
        let standings = self.read(load_standings)?;
        let disabled = standings.into_iter().filter(|(_, standing)| *standing == Standing::Disabled);
        Ok(disabled.map(|(webhook, _)| webhook).collect())
    }

    fn needed(&self, first: EventId, last: EventId) -> Result<Vec<EventId>, LookupError> {
        let mut events = self.read(|txn| {
            let mut events = Vec::new();
            let from = key(WebhookNo(0), first);
            between(&txn.open_table(PENDING)?, &from, first, last, |_, event, _| {
                events.push(event);
                true
            })?;
            between(&txn.open_table(DEAD)?, &from, first, last, |_, event, letter| {
                // One that expired has no body to keep.
                if !is_expired(letter) {
                    events.push(event);
                }
                true
            })?;
            for job in jobs::load(&txn.open_table(JOBS)?)?.iter().filter(|job| job.is_running()) {
                match job.kind {
                    JobKind::Wide { event } if (first..=last).contains(&event) => events.push(event),
                    _ => {}
                }
            }
            Ok(events)
        })?;
        events.sort_unstable();
        events.dedup();
        Ok(events)
    }

    fn counts(&self) -> Result<TableCounts, LookupError> {
        self.read(|txn| {
            Ok(TableCounts {
                pending: txn.open_table(PENDING)?.len()?,
                due: txn.open_table(DUE)?.len()?,
                dead: txn.open_table(DEAD)?.len()?,
                jobs: txn.open_table(JOBS)?.len()?,
                webhooks: txn.open_table(STATS)?.len()?,
                hours: txn.open_table(HOURS)?.len()?,
                history_files: txn.open_table(HISTORY)?.len()?,
            })
        })
    }
}

/// Every webhook that does not stand well.
pub(super) fn load_standings(txn: &ReadTransaction) -> Result<Vec<(WebhookNo, Standing)>, Error> {
    use redb::ReadableTable;
    let table = txn.open_table(WATCH)?;
    let standings = table.iter()?.map(|entry| {
        let (no, row) = entry?;
        Ok((WebhookNo(no.value()), Standing::decode(row.value())))
    });
    standings.collect()
}
