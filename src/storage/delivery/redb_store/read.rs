//! Reads state.redb and the files of the history.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use redb::{Error, ReadTransaction, ReadableTableMetadata};

use super::history::HistoryFiles;
use super::pending::{self, between};
use super::table::{
    DEAD, DUE, DeliveryKey, ENDPOINT_STATES, HISTORY, HOURLY_STATS, JOBS, OUTBOX, PENDING, STATS, WEBHOOK_HEALTH, WIDE,
    key,
};
use super::{hourly_stats, jobs, list, refill};
use crate::model::{Attempt, DeliveryId, EndpointState, EventId, Timestamp, WebhookNo};
use crate::storage::delivery::checkpoint::decode_webhooks;
use crate::storage::delivery::dead_letter::is_expired;
use crate::storage::delivery::endpoint_state;
use crate::storage::delivery::rows::PendingRow;
use crate::storage::delivery::{
    DeadLetterRecord, DeliveryPage, DeliveryQuery, DeliveryReader, DeliveryRecord, Hour, HourlyStatsRow, Job, JobKind,
    LookupError, OutboxRow, RefillReply, RefillRequest, StatisticsView, StatsScope, StoredBacklog, TableCounts,
    UnflushedStats, WebhookFailureState, WidePart,
};
use crate::storage::file::RedbFile;
use crate::storage::{StoredResponse, idempotency};

/// The reader of the delivery store. Clones share the open files.
#[derive(Debug, Clone)]
pub(crate) struct RedbDeliveryReader {
    pub(super) state: Arc<RedbFile>,
    pub(super) files: Arc<HistoryFiles>,
}

impl RedbDeliveryReader {
    fn read<T>(&self, read: impl Fn(&ReadTransaction) -> Result<T, Error>) -> Result<T, LookupError> {
        Ok(self.state.read(read)?)
    }

    /// Returns every row with its attempts and due time, and every dead letter.
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

/// A read transaction of state.redb.
struct RedbStatisticsView(ReadTransaction);

impl fmt::Debug for RedbStatisticsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedbStatisticsView")
    }
}

impl StatisticsView for RedbStatisticsView {
    fn rows_of(&self, webhook: WebhookNo, most: usize) -> Result<usize, LookupError> {
        let (first, last) = (key(webhook, EventId::MIN), key(webhook, EventId::MAX));
        let table = self.0.open_table(PENDING).map_err(Error::from)?;
        Ok(table.range::<&DeliveryKey>(&first..=&last).map_err(Error::from)?.take(most).count())
    }

    fn hourly_stats(
        &self,
        of: StatsScope<'_>,
        first: Hour,
        last: Hour,
        recent: &UnflushedStats,
    ) -> Result<BTreeMap<Hour, HourlyStatsRow>, LookupError> {
        Ok(hourly_stats::read(&self.0, of, first, last, recent)?)
    }
}

impl DeliveryReader for RedbDeliveryReader {
    fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRecord>, LookupError> {
        let key = key(id.webhook, id.event);
        let (waits, dead_letter) = self.read(|txn| {
            let row = txn.open_table(PENDING)?.get(&key)?.map(|row| PendingRow::decode(row.value()));
            let dead_letter = match txn.open_table(DEAD)?.get(&key)? {
                Some(value) => Some(DeadLetterRecord::decode(id, value.value())?),
                None => None,
            };
            Ok((row, dead_letter))
        })?;
        let last = self.files.attempts(id)?.pop();
        Ok(match (waits, dead_letter, last) {
            (None, None, None) => None,
            (Some(row), _, last) => Some(DeliveryRecord::of_row(id, row, last)),
            (None, Some(dead_letter), last) => Some(DeliveryRecord::of_dead_letter(dead_letter, last)),
            (None, None, Some(last)) => Some(DeliveryRecord::of_history(id, last)),
        })
    }

    fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, LookupError> {
        Ok(self.files.attempts(id)?)
    }

    fn deliveries(&self, query: &DeliveryQuery, limit: usize) -> Result<DeliveryPage<DeliveryRecord>, LookupError> {
        Ok(list::deliveries(&self.state, &self.files, query, limit)?)
    }

    fn dead_letters(&self, query: &DeliveryQuery, limit: usize) -> Result<DeliveryPage<DeadLetterRecord>, LookupError> {
        Ok(list::dead_letters(&self.state, query, limit)?)
    }

    fn dead_letter(&self, id: DeliveryId) -> Result<Option<DeadLetterRecord>, LookupError> {
        self.read(|txn| {
            let value = txn.open_table(DEAD)?.get(&key(id.webhook, id.event))?;
            value.map(|value| DeadLetterRecord::decode(id, value.value())).transpose()
        })
    }

    fn stored_response(&self, hash: &[u8; 32], now: Timestamp) -> Result<Option<StoredResponse>, LookupError> {
        self.read(|txn| idempotency::find(txn, hash, now))
    }

    fn statistics_view(&self) -> Result<Box<dyn StatisticsView>, LookupError> {
        Ok(Box::new(RedbStatisticsView(self.state.begin_read()?)))
    }

    fn oldest(&self, webhooks: usize) -> Result<Option<EventId>, LookupError> {
        self.read(|txn| pending::oldest(txn, webhooks))
    }

    fn refill(
        &self,
        query: &[RefillRequest],
        now: Timestamp,
        unwritten: Option<EventId>,
    ) -> Result<Vec<RefillReply>, LookupError> {
        self.read(|txn| query.iter().map(|query| refill::refill(txn, query, now, unwritten)).collect())
    }

    fn backlog(&self) -> Result<StoredBacklog, LookupError> {
        self.read(|txn| Ok(StoredBacklog { waiting: refill::waiting(txn)?, rows: txn.open_table(PENDING)?.len()? }))
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

    fn hourly_stats(
        &self,
        of: StatsScope<'_>,
        first: Hour,
        last: Hour,
        recent: &UnflushedStats,
    ) -> Result<BTreeMap<Hour, HourlyStatsRow>, LookupError> {
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
        let health = self.read(load_webhook_health)?;
        let disabled = health.into_iter().filter(|(_, health)| *health == WebhookFailureState::Disabled);
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
            between(&txn.open_table(DEAD)?, &from, first, last, |_, event, dead_letter| {
                // The body of an expired dead letter is already deleted.
                if !is_expired(dead_letter) {
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
                hours: txn.open_table(HOURLY_STATS)?.len()?,
                history_files: txn.open_table(HISTORY)?.len()?,
            })
        })
    }
}

/// Returns the failure state of every webhook that has one.
pub(super) fn load_webhook_health(txn: &ReadTransaction) -> Result<Vec<(WebhookNo, WebhookFailureState)>, Error> {
    use redb::ReadableTable;
    let table = txn.open_table(WEBHOOK_HEALTH)?;
    let health = table.iter()?.map(|entry| {
        let (no, row) = entry?;
        Ok((WebhookNo(no.value()), WebhookFailureState::decode(row.value())))
    });
    health.collect()
}

/// Returns the state of every endpoint that has one.
pub(super) fn load_endpoint_states(txn: &ReadTransaction) -> Result<Vec<(WebhookNo, EndpointState)>, Error> {
    use redb::ReadableTable;
    let table = txn.open_table(ENDPOINT_STATES)?;
    let states = table.iter()?.map(|entry| {
        let (no, row) = entry?;
        Ok(endpoint_state::decode(row.value()).map(|state| (WebhookNo(no.value()), state)))
    });
    states.filter_map(Result::transpose).collect()
}
