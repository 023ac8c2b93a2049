//! The format of the log's records and of the blocks that hold them.
//!
//! A segment has two tables, `heads` and `bodies`, of the same format. A key is the [`LogPosition`] of the first record
//! in the block. A value is a block (version 1, integers little-endian):
//!
//! ```text
//! u8 version, then the records in ascending order of position: u128 position, u32 length, bytes
//! ```
//!
//! redb stores a value of more than 4 KiB in pages of its own, rounded up to a power of two. So blocks are sized to
//! fill such pages: blocks of 63 KiB while there is enough data, and descending powers of two for the rest of a batch.
//! This wastes at most an eighth of each block except the last. A record larger than a block has a block of its own.

use std::ops::Range;

use super::LogPosition;
use crate::limits::BLOCK_BYTES_MAX;

const VERSION: u8 = 1;
/// Bytes before each record's content: position and length.
pub(super) const RECORD_HEADER: usize = 16 + 4;
/// What redb adds to a single value in a leaf page: the page header, the value's offset and the key.
const LEAF_OVERHEAD: usize = 4 + 4 + 16;
const PAGE_BYTES: usize = 4096;
/// The page order whose pages (4 KiB shifted left by it) hold [`BLOCK_BYTES_MAX`].
const LARGEST_ORDER: u32 = 4;
/// Memory kept from one batch to the next.
const SCRATCH_BYTES: usize = 1 << 20;

/// Packs the records of a batch into blocks. Its memory is reused for the next batch.
#[derive(Debug, Default)]
pub struct Packer {
    bytes: Vec<u8>,
    blocks: Vec<(LogPosition, Range<usize>)>,
}

/// Iterates over the records of a block, in order.
#[derive(Debug, Clone)]
pub struct BlockRecords<'a> {
    rest: &'a [u8],
}

/// The error for bytes that are not a block of version 1. A later block version implies a newer file format, and such a
/// file is refused when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("damaged block")]
pub struct BadBlock;

impl Packer {
    /// Replaces the last batch with these records. Their positions must be ascending.
    pub fn pack<'a>(&mut self, records: impl Iterator<Item = (LogPosition, &'a [u8])> + Clone) {
        self.blocks.clear();
        self.bytes.clear();
        self.bytes.shrink_to(SCRATCH_BYTES);
        let mut remaining: usize = records.clone().map(|(_, bytes)| RECORD_HEADER + bytes.len()).sum();
        let mut capacity = 0;
        for (id, bytes) in records {
            let len = RECORD_HEADER + bytes.len();
            match self.blocks.last_mut() {
                Some((_, range)) if self.bytes.len() - range.start + len <= capacity => {}
                _ => {
                    capacity = capacity_for(remaining, len);
                    self.blocks.push((id, self.bytes.len()..0));
                    self.bytes.push(VERSION);
                }
            }
            self.bytes.extend_from_slice(&id.key().to_le_bytes());
            self.bytes.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(bytes);
            if let Some((_, range)) = self.blocks.last_mut() {
                range.end = self.bytes.len();
            }
            remaining -= len;
        }
    }

    /// Returns the blocks with their keys, in order.
    pub fn blocks(&self) -> impl Iterator<Item = (LogPosition, &[u8])> {
        self.blocks.iter().map(|(first, range)| (*first, &self.bytes[range.clone()]))
    }

    /// Returns the total bytes of all blocks.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// Returns how many bytes of a block fit in a page of this order.
const fn usable(order: u32) -> usize {
    if order == LARGEST_ORDER { BLOCK_BYTES_MAX } else { (PAGE_BYTES << order) - LEAF_OVERHEAD }
}

/// Returns the size of the next block. `remaining` is the bytes of all unpacked records, `first` those of the first
/// record.
fn capacity_for(remaining: usize, first: usize) -> usize {
    let needed = remaining + 1;
    let order_of = |bytes: usize| (0..LARGEST_ORDER).find(|&order| bytes <= usable(order)).unwrap_or(LARGEST_ORDER);
    let whole = order_of(needed);
    let order = if whole > 0 && needed < usable(whole) / 8 * 7 { whole - 1 } else { whole };
    usable(order.max(order_of(first + 1)))
}

impl<'a> BlockRecords<'a> {
    /// Opens a block. Fails if its version is not 1.
    pub fn of(block: &'a [u8]) -> Result<Self, BadBlock> {
        match block.split_first() {
            Some((&VERSION, rest)) => Ok(Self { rest }),
            _ => Err(BadBlock),
        }
    }

    /// Returns the number of unread bytes, for [`BlockRecords::resume`].
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Continues at the last `remaining` bytes of a block, where an earlier iteration stopped.
    pub fn resume(block: &'a [u8], remaining: usize) -> Self {
        Self { rest: &block[block.len().saturating_sub(remaining)..] }
    }

    fn split(&mut self) -> Option<(LogPosition, &'a [u8])> {
        let (id, rest) = self.rest.split_first_chunk::<16>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        self.rest = rest;
        Some((LogPosition::from_key(u128::from_le_bytes(*id)), bytes))
    }
}

impl<'a> Iterator for BlockRecords<'a> {
    type Item = Result<(LogPosition, &'a [u8]), BadBlock>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.split().ok_or(BadBlock);
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(sizes: &[usize]) -> (Packer, Vec<(LogPosition, Vec<u8>)>) {
        let records: Vec<_> = (1u128..)
            .zip(sizes)
            .map(|(n, &len)| {
                (LogPosition::from_key(n << 70), (0..len).map(|b| (b ^ n as usize) as u8).collect::<Vec<_>>())
            })
            .collect();
        let mut packer = Packer::default();
        packer.pack(records.iter().map(|(id, bytes)| (*id, bytes.as_slice())));
        (packer, records)
    }

    fn pages(packer: &Packer) -> usize {
        packer.blocks().map(|(_, block)| (block.len() + LEAF_OVERHEAD).next_power_of_two().max(PAGE_BYTES)).sum()
    }

    #[test]
    fn pages_of_a_large_batch_are_nearly_full() {
        for count in [16, 40, 64, 100, 137, 256, 1_000] {
            let (packer, _) = pack(&vec![1024; count]);
            let waste = pages(&packer) as f64 / (count * 1024) as f64;
            assert!(waste < 1.35, "{count} events: {waste}");
        }
        assert!(pages(&pack(&vec![1024; 1_000]).0) < 1_000 * 1024 * 11 / 10);
    }

    #[test]
    fn a_cut_block_is_damaged() {
        let (packer, _) = pack(&[10, 20]);
        let (_, block) = packer.blocks().next().unwrap();
        assert!(BlockRecords::of(&block[..block.len() - 1]).unwrap().any(|record| record.is_err()));
        assert_eq!(BlockRecords::of(&[]).err(), Some(BadBlock));
        assert_eq!(BlockRecords::of(&[9, 0]).err(), Some(BadBlock));
    }

    proptest! {
        #[test]
        fn records_read_back_as_packed(sizes in proptest::collection::vec(prop_oneof![0..200usize, 0..9_000usize, 60_000..70_000usize], 0..60)) {
            let (packer, records) = pack(&sizes);
            let mut read = Vec::new();
            for (first, block) in packer.blocks() {
                let inside: Vec<_> = BlockRecords::of(block).unwrap().collect::<Result<_, _>>().unwrap();
                prop_assert_eq!(inside[0].0, first);
                prop_assert!(block.len() <= BLOCK_BYTES_MAX || inside.len() == 1);
                read.extend(inside.into_iter().map(|(id, bytes)| (id, bytes.to_vec())));
            }
            prop_assert_eq!(read, records);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(records) = BlockRecords::of(&bytes) {
                let _ = records.count();
            }
        }
    }
}
