//! The journal of a simulated disk, and the simulation of crashes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Contents, SimDisk};
use crate::runtime::Random;

/// Identifies a file independently of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileNo(pub(super) usize);

/// An operation on the disk.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Create { path: PathBuf, file: FileNo },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    SyncDir { dir: PathBuf },
    SetLen { file: FileNo, len: u64 },
    Write { file: FileNo, offset: usize, data: Arc<[u8]> },
    Sync { file: FileNo },
    SyncFailed { file: FileNo },
}

/// The unsynced changes that a crash loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All changes.
    All,
    /// No changes.
    Nothing,
    /// All changes after a random one.
    Tail,
    /// Random writes and length changes.
    Some,
    /// Random sectors of this many bytes.
    Sectors(usize),
    /// The data, but not the length changes.
    Data,
    /// The length changes, but not the data within the old lengths.
    Lengths,
}

impl Loss {
    /// Returns the kind of loss number `n`, cycling through all kinds.
    pub(crate) fn of(n: u64) -> Self {
        const KINDS: [Loss; 8] = [
            Loss::All,
            Loss::Nothing,
            Loss::Tail,
            Loss::Some,
            Loss::Sectors(512),
            Loss::Sectors(4096),
            Loss::Data,
            Loss::Lengths,
        ];
        KINDS[(n % KINDS.len() as u64) as usize]
    }
}

impl Op {
    pub(super) fn apply(&self, to: &mut Contents) {
        match self {
            Self::Create { path, file } => {
                to.names.insert(path.clone(), *file);
                if to.files.len() <= file.0 {
                    to.files.resize_with(file.0 + 1, Vec::new);
                }
            }
            Self::Rename { from, to: new } => {
                if let Some(file) = to.names.remove(from) {
                    to.names.insert(new.clone(), file);
                }
            }
            Self::Remove { path } => {
                to.names.remove(path);
            }
            Self::SetLen { file, len } => to.files[file.0].resize(*len as usize, 0),
            Self::Write { file, offset, data } => {
                let bytes = &mut to.files[file.0];
                bytes.resize(bytes.len().max(offset + data.len()), 0);
                bytes[*offset..offset + data.len()].copy_from_slice(data);
            }
            Self::SyncDir { .. } | Self::Sync { .. } | Self::SyncFailed { .. } => {}
        }
    }

    fn is_of_name(&self, dir: &Path) -> bool {
        match self {
            Self::Create { path, .. } | Self::Remove { path } => path.parent() == Some(dir),
            Self::Rename { to, .. } => to.parent() == Some(dir),
            _ => false,
        }
    }
}

/// A replay of a journal that tracks which changes are durable.
#[derive(Debug)]
pub(crate) struct JournalReplay {
    durable: Contents,
    /// Name changes that are not durable yet, in order.
    names: Vec<Op>,
    /// Changes of each file that are not durable yet, in order.
    data: Vec<Vec<Op>>,
    journal: Vec<Op>,
    at: usize,
}

impl JournalReplay {
    pub(super) fn new(base: Contents, journal: Vec<Op>) -> Self {
        let data = vec![Vec::new(); base.files.len()];
        Self { durable: base, names: Vec::new(), data, journal, at: 0 }
    }

    /// Returns the number of operations replayed so far.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Replays one operation. Returns `false` at the end of the journal.
    pub(crate) fn step(&mut self) -> bool {
        let Some(op) = self.journal.get(self.at).cloned() else { return false };
        self.at += 1;
        match &op {
            Op::Create { file, .. } => {
                self.durable.files.resize_with(self.durable.files.len().max(file.0 + 1), Vec::new);
                self.data.resize_with(self.data.len().max(file.0 + 1), Vec::new);
                self.names.push(op);
            }
            Op::Rename { .. } | Op::Remove { .. } => self.names.push(op),
            Op::SyncDir { dir } => {
                let (synced, rest): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut self.names).into_iter().partition(|op| op.is_of_name(dir));
                for op in synced {
                    op.apply(&mut self.durable);
                }
                self.names = rest;
            }
            Op::SetLen { file, .. } | Op::Write { file, .. } => self.data[file.0].push(op),
            Op::Sync { file } => {
                for op in std::mem::take(&mut self.data[file.0]) {
                    op.apply(&mut self.durable);
                }
            }
            Op::SyncFailed { file } => self.data[file.0].clear(),
        }
        true
    }

    /// Returns the durable content of a file.
    pub(super) fn into_durable(mut self, file: FileNo) -> Vec<u8> {
        std::mem::take(&mut self.durable.files[file.0])
    }

    /// Returns the disk after a crash at the current operation.
    pub(crate) fn crash(&self, loss: Loss, random: &mut Random) -> SimDisk {
        let mut kept = self.durable.clone();
        let names = match loss {
            Loss::All => 0,
            Loss::Nothing => self.names.len(),
            _ => random.between(0..=self.names.len() as u64) as usize,
        };
        for op in &self.names[..names] {
            op.apply(&mut kept);
        }
        for ops in &self.data {
            let tail = random.between(0..=ops.len() as u64) as usize;
            for (place, op) in ops.iter().enumerate() {
                keep(op, place, tail, loss, random, &mut kept);
            }
        }
        SimDisk::holding(kept)
    }
}

fn keep(op: &Op, place: usize, tail: usize, loss: Loss, random: &mut Random, kept: &mut Contents) {
    let mut coin = || random.between(0..=1) == 1;
    match (loss, op) {
        (Loss::All, _) | (Loss::Data, Op::Write { .. }) | (Loss::Lengths, Op::SetLen { .. }) => {}
        (Loss::Nothing | Loss::Data, _) => op.apply(kept),
        (Loss::Tail, _) => {
            if place < tail {
                op.apply(kept);
            }
        }
        (Loss::Some, Op::Write { file, offset, data }) => {
            if coin() {
                clipped(*file, *offset, data, kept);
            }
        }
        (Loss::Lengths, Op::Write { file, offset, data }) => clipped(*file, *offset, data, kept),
        (Loss::Sectors(size), Op::Write { file, offset, data }) => {
            for (n, sector) in data.chunks(size).enumerate() {
                if coin() {
                    clipped(*file, offset + n * size, sector, kept);
                }
            }
        }
        (Loss::Some | Loss::Sectors(_), _) => {
            if coin() {
                op.apply(kept);
            }
        }
        (Loss::Lengths, _) => {}
    }
}

/// Applies a write, cut at the end of the file, because the change of its length may be lost.
fn clipped(file: FileNo, offset: usize, data: &[u8], kept: &mut Contents) {
    let bytes = &mut kept.files[file.0];
    let end = (offset + data.len()).min(bytes.len());
    if offset < end {
        bytes[offset..end].copy_from_slice(&data[..end - offset]);
    }
}
