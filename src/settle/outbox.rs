//! Operational events between the transaction that decided them and the log: a row each, in the order decided, until the log
//! has it. What a row says is whoever's business who composed it.

use redb::{Error, ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::hours::Hours;
use super::keeper::Keeper;
use super::table::OUTBOX;
use crate::model::Timestamp;

/// A row: its number, and what was composed.
pub type OutboxRow = (u64, Vec<u8>);

/// What settle knows of the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outbox {
    /// The next row's number.
    pub(super) next: u64,
    /// Rows on the disk.
    pub(super) rows: u64,
}

impl Outbox {
    pub(super) fn load(txn: &ReadTransaction) -> Result<Self, Error> {
        let table = txn.open_table(OUTBOX)?;
        Ok(Self { next: table.last()?.map_or(0, |(no, _)| no.value() + 1), rows: table.len()? })
    }

    /// Adds rows, and removes those up to `admitted`.
    pub(super) fn write(
        self,
        txn: &WriteTransaction,
        rows: &[Box<[u8]>],
        admitted: Option<u64>,
    ) -> Result<Self, Error> {
        let Self { mut next, .. } = self;
        let mut table = txn.open_table(OUTBOX)?;
        for row in rows {
            table.insert(next, &**row)?;
            next += 1;
        }
        if let Some(admitted) = admitted {
            while table.first()?.is_some_and(|(no, _)| no.value() <= admitted) {
                table.pop_first()?;
            }
        }
        Ok(Self { next, rows: table.len()? })
    }
}

/// What a transaction did of figures and operational events.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    pub(super) hours: bool,
    outbox: Outbox,
}

impl Keeper {
    /// Writes figures, how webhooks stand, and operational events.
    pub(super) fn write_told(
        &self,
        txn: &WriteTransaction,
        hours: &Hours,
        now: Timestamp,
        is_last: bool,
    ) -> Result<Told, Error> {
        self.watches.write(txn)?;
        Ok(Told {
            hours: hours.write(txn, now, self.clock.now(), is_last)?,
            outbox: self.outbox.write(txn, &self.gathered.outbox, self.gathered.admitted)?,
        })
    }

    /// All of that is durable.
    pub(super) fn learn_told(&mut self, told: Told) {
        self.watches.written();
        let has_new = told.outbox.next > self.outbox.next;
        self.outbox = told.outbox;
        self.metrics.outbox_waiting.set(told.outbox.rows as i64);
        if has_new {
            (self.hooks.outbox)();
        }
    }
}

/// The first rows after this one.
pub(super) fn rows_after(txn: &ReadTransaction, after: Option<u64>, limit: usize) -> Result<Vec<OutboxRow>, Error> {
    let table = txn.open_table(OUTBOX)?;
    let from = after.map_or(0, |after| after + 1);
    let rows = table.range(from..)?.take(limit).map(|entry| {
        let (no, row) = entry?;
        Ok((no.value(), row.value().to_vec()))
    });
    rows.collect()
}
