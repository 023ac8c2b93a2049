//! Finding records in the blocks of a segment's tables.

use std::ops::Bound;

use bytes::Bytes;
use redb::{AccessGuard, ReadOnlyTable};

use super::block::Records;
use super::segment::Tables;
use super::{LogPosition, ReadError};
use crate::storage::FileError;

pub(super) fn heads_after(
    tables: &Tables,
    after: LogPosition,
    limit: usize,
) -> Result<Vec<(LogPosition, Bytes)>, ReadError> {
    let mut out = Vec::new();
    // The block that begins at or before `after` may hold what follows it.
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
    tables: &Tables,
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

/// The records of the block with this key; a damaged head or block is an error with its place.
pub(super) fn records(
    key: u128,
    block: &[u8],
) -> Result<impl Iterator<Item = Result<(LogPosition, &[u8]), ReadError>>, ReadError> {
    let key = LogPosition::from_key(key).event();
    let records = Records::of(block).map_err(|_| ReadError::Damaged(key))?;
    Ok(records.map(move |record| record.map_err(|_| ReadError::Damaged(key))))
}

/// Finds rising ids in a table: looks each block up once and walks it once.
pub(super) struct BlockReader<'t> {
    table: &'t ReadOnlyTable<u128, &'static [u8]>,
    block: Option<(u128, AccessGuard<'static, &'static [u8]>, usize)>,
}

/// How a walk towards an id ended.
enum Walk {
    Found(Bytes),
    /// A later one came.
    Absent,
    /// The block came to its end.
    Ended,
}

impl<'t> BlockReader<'t> {
    pub(super) fn new(table: &'t ReadOnlyTable<u128, &'static [u8]>) -> Self {
        Self { table, block: None }
    }

    pub(super) fn find(&mut self, id: LogPosition) -> Result<Option<Bytes>, ReadError> {
        match self.walk(id)? {
            Walk::Found(bytes) => return Ok(Some(bytes)),
            Walk::Absent => return Ok(None),
            Walk::Ended => {}
        }
        let range = (Bound::Unbounded, Bound::Included(id.key()));
        let entry = self.table.range::<u128>(range).map_err(FileError::from)?.next_back();
        let Some((key, block)) = entry.transpose().map_err(FileError::from)? else { return Ok(None) };
        if self.block.as_ref().is_some_and(|(current, ..)| *current == key.value()) {
            // Walked to its end just now.
            return Ok(None);
        }
        let key = key.value();
        let remaining =
            Records::of(block.value()).map_err(|_| ReadError::Damaged(LogPosition::from_key(key).event()))?.remaining();
        self.block = Some((key, block, remaining));
        match self.walk(id)? {
            Walk::Found(bytes) => Ok(Some(bytes)),
            Walk::Absent | Walk::Ended => Ok(None),
        }
    }

    /// Goes on in the current block.
    fn walk(&mut self, id: LogPosition) -> Result<Walk, ReadError> {
        let Some((key, block, remaining)) = &mut self.block else { return Ok(Walk::Ended) };
        let mut records = Records::resume(block.value(), *remaining);
        loop {
            *remaining = records.remaining();
            match records.next() {
                None => return Ok(Walk::Ended),
                Some(Err(_)) => return Err(ReadError::Damaged(LogPosition::from_key(*key).event())),
                Some(Ok((at, _))) if at < id => {}
                Some(Ok((at, bytes))) if at == id => {
                    return Ok(Walk::Found(Bytes::copy_from_slice(bytes)));
                }
                Some(Ok(_)) => return Ok(Walk::Absent),
            }
        }
    }
}
