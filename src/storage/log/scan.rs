//! Finds records in the blocks of a segment's tables.

use std::ops::Bound;

use bytes::Bytes;
use redb::{AccessGuard, ReadOnlyTable};

use super::block::BlockRecords;
use super::segment::SegmentTables;
use super::{LogPosition, ReadError};
use crate::storage::FileError;

pub(super) fn heads_after(
    tables: &SegmentTables,
    after: LogPosition,
    limit: usize,
) -> Result<Vec<(LogPosition, Bytes)>, ReadError> {
    let mut out = Vec::new();
    // The block that begins at or before `after` may contain later records.
    let begins = tables.heads.range(..=after.key()).map_err(FileError::from)?.next_back();
    let begins = begins.transpose().map_err(FileError::from)?.map_or(0, |(key, _)| key.value());
    for entry in tables.heads.range(begins..).map_err(FileError::from)? {
        let (key, block) = entry.map_err(FileError::from)?;
        for record in records(key.value(), block.value())? {
            let (id, head) = record?;
            if id > after {
                if out.len() == limit {
                    return Ok(out);
                }
                out.push((id, Bytes::copy_from_slice(head)));
            }
        }
    }
    Ok(out)
}

pub(super) fn heads_before(
    tables: &SegmentTables,
    before: LogPosition,
    limit: usize,
) -> Result<Vec<(LogPosition, Bytes)>, ReadError> {
    let mut out: Vec<(LogPosition, Bytes)> = Vec::new();
    for entry in tables.heads.range(..before.key()).map_err(FileError::from)?.rev() {
        let (key, block) = entry.map_err(FileError::from)?;
        let block_records = records(key.value(), block.value())?.collect::<Result<Vec<_>, _>>()?;
        for (id, head) in block_records.into_iter().rev().filter(|(id, _)| *id < before) {
            if out.len() == limit {
                return Ok(out);
            }
            out.push((id, Bytes::copy_from_slice(head)));
        }
    }
    Ok(out)
}

/// Iterates over the records of the block with this key. A damaged block is an error with the block's first event.
pub(super) fn records(
    key: u128,
    block: &[u8],
) -> Result<impl Iterator<Item = Result<(LogPosition, &[u8]), ReadError>>, ReadError> {
    let key = LogPosition::from_key(key).event();
    let records = BlockRecords::of(block).map_err(|_| ReadError::Damaged(key))?;
    Ok(records.map(move |record| record.map_err(|_| ReadError::Damaged(key))))
}

/// Finds records by ascending position. Looks up each block once and iterates over it once.
pub(super) struct BlockReader<'t> {
    table: &'t ReadOnlyTable<u128, &'static [u8]>,
    block: Option<(u128, AccessGuard<'static, &'static [u8]>, usize)>,
}

/// The result of searching a block for a position.
enum FindResult {
    Found(Bytes),
    /// The block has a later record, but not this one.
    Absent,
    /// The end of the block was reached.
    Ended,
}

impl<'t> BlockReader<'t> {
    pub(super) fn new(table: &'t ReadOnlyTable<u128, &'static [u8]>) -> Self {
        Self { table, block: None }
    }

    pub(super) fn find(&mut self, id: LogPosition) -> Result<Option<Bytes>, ReadError> {
        match self.walk(id)? {
            FindResult::Found(bytes) => return Ok(Some(bytes)),
            FindResult::Absent => return Ok(None),
            FindResult::Ended => {}
        }
        let range = (Bound::Unbounded, Bound::Included(id.key()));
        let entry = self.table.range::<u128>(range).map_err(FileError::from)?.next_back();
        let Some((key, block)) = entry.transpose().map_err(FileError::from)? else { return Ok(None) };
        if self.block.as_ref().is_some_and(|(current, ..)| *current == key.value()) {
            // This block has just been searched to its end.
            return Ok(None);
        }
        let key = key.value();
        let remaining = BlockRecords::of(block.value())
            .map_err(|_| ReadError::Damaged(LogPosition::from_key(key).event()))?
            .remaining();
        self.block = Some((key, block, remaining));
        match self.walk(id)? {
            FindResult::Found(bytes) => Ok(Some(bytes)),
            FindResult::Absent | FindResult::Ended => Ok(None),
        }
    }

    /// Continues the search in the current block.
    fn walk(&mut self, id: LogPosition) -> Result<FindResult, ReadError> {
        let Some((key, block, remaining)) = &mut self.block else { return Ok(FindResult::Ended) };
        let mut records = BlockRecords::resume(block.value(), *remaining);
        loop {
            *remaining = records.remaining();
            match records.next() {
                None => return Ok(FindResult::Ended),
                Some(Err(_)) => return Err(ReadError::Damaged(LogPosition::from_key(*key).event())),
                Some(Ok((at, _))) if at < id => {}
                Some(Ok((at, bytes))) if at == id => {
                    return Ok(FindResult::Found(Bytes::copy_from_slice(bytes)));
                }
                Some(Ok(_)) => return Ok(FindResult::Absent),
            }
        }
    }
}
