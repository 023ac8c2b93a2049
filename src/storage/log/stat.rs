//! `hooktide log stat` and `hooktide log verify`: inspect the log's files.
//!
//! While a server is running, its newest segment cannot be read. No segment is locked then, because the server must be
//! able to open them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::BlockRecords;
use super::scan::records;
use super::segment::{self, SegmentTables};
use super::{LogPosition, ReadError};
use crate::model::{EventHead, EventId, Timestamp, file};
use crate::storage::{Disk, FileError};

/// The contents of a log.
#[derive(Debug, Clone, Default)]
pub struct LogStat {
    /// Segments, oldest first.
    pub segments: Vec<SegmentStat>,
    /// Files of carried events, oldest first.
    pub carried: Vec<SegmentStat>,
}

/// The contents of a segment or a file of carried events.
#[derive(Debug, Clone)]
pub struct SegmentStat {
    /// The file's path.
    pub path: PathBuf,
    /// The file's length in bytes.
    pub len: u64,
    /// Bytes allocated on the disk.
    pub allocated: u64,
    /// The number of events.
    pub events: u64,
    /// The first event, and when it was received.
    pub first: Option<(EventId, Timestamp)>,
    /// The last event, and when it was received.
    pub last: Option<(EventId, Timestamp)>,
    /// Whether the file could be read.
    pub state: SegmentState,
    /// Events whose head or body cannot be read. For a damaged block, its first event.
    pub damaged: Vec<EventId>,
}

/// Whether a segment could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentState {
    /// The file could be read.
    Sound,
    /// The file was open during a crash. The next start or `verify` repairs it.
    NotClosed,
    /// A running server has the file open. It was not read, or `verify` read it without checking the checksums of its
    /// pages.
    InUse,
    /// The file could not be read, for this reason.
    Damaged(String),
}

impl LogStat {
    /// Returns the number of events in all segments.
    pub fn events(&self) -> u64 {
        self.segments.iter().map(|segment| segment.events).sum()
    }

    /// Returns the bytes that all files allocate on the disk.
    pub fn allocated(&self) -> u64 {
        self.segments.iter().chain(&self.carried).map(|segment| segment.allocated).sum()
    }

    /// Returns whether a running server has the folder open.
    pub fn is_in_use(&self) -> bool {
        self.segments.iter().chain(&self.carried).any(|segment| segment.state == SegmentState::InUse)
    }

    /// Returns whether every file could be read and no event is damaged.
    pub fn is_sound(&self) -> bool {
        let sound = |segment: &SegmentStat| segment.state == SegmentState::Sound && segment.damaged.is_empty();
        self.segments.iter().chain(&self.carried).all(sound)
    }
}

/// Counts the events of each file. Changes nothing.
pub fn stat(disk: &(impl Disk + Clone), dir: &Path) -> io::Result<LogStat> {
    inspect_all(&(Arc::new(disk.clone()) as Arc<dyn Disk>), dir, false)
}

/// Reads every event and verifies the checksum of every page. First repairs a segment that was open during a crash.
pub fn verify(disk: &(impl Disk + Clone), dir: &Path) -> io::Result<LogStat> {
    inspect_all(&(Arc::new(disk.clone()) as Arc<dyn Disk>), dir, true)
}

fn inspect_all(disk: &Arc<dyn Disk>, dir: &Path, thorough: bool) -> io::Result<LogStat> {
    let files = |name: &str| -> io::Result<Vec<PathBuf>> {
        let mut paths = match disk.list(&dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            paths => paths?,
        };
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "redb"));
        Ok(paths)
    };
    let (log, carried) = (files(file::LOG)?, files(file::CARRY)?);
    // A server always has the newest segment open, so its lock shows whether one is running.
    let is_locked = |path: &PathBuf| segment::open_unrepaired(disk, path).is_err_and(|error| error.is_in_use());
    let depth = match (thorough, log.last().is_some_and(is_locked)) {
        (false, _) => CheckDepth::Count,
        (true, true) => CheckDepth::Read,
        (true, false) => CheckDepth::Check,
    };
    let inspect_files = |paths: Vec<PathBuf>| paths.into_iter().map(|path| inspect(disk, path, depth)).collect();
    let segments: io::Result<_> = inspect_files(log);
    Ok(LogStat { segments: segments?, carried: inspect_files(carried)? })
}

/// What an inspection reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckDepth {
    /// Only heads.
    Count,
    /// Heads and bodies, without a lock that the server needs.
    Read,
    /// Heads, bodies and the checksum of every page.
    Check,
}

fn inspect(disk: &Arc<dyn Disk>, path: PathBuf, depth: CheckDepth) -> io::Result<SegmentStat> {
    let size = disk.size(&path)?;
    let mut stat = SegmentStat {
        path,
        len: size.len,
        allocated: size.allocated,
        events: 0,
        first: None,
        last: None,
        state: SegmentState::Sound,
        damaged: Vec::new(),
    };
    if depth == CheckDepth::Check {
        match segment::check(disk, &stat.path) {
            Ok(true) => {}
            Ok(false) => stat.state = SegmentState::Damaged("pages with a wrong checksum".into()),
            Err(error) => {
                stat.state = SegmentState::Damaged(error.to_string());
                return Ok(stat);
            }
        }
    }
    let counted = match segment::open_unrepaired(disk, &stat.path) {
        Ok(tables) => count(&tables, &mut stat, depth != CheckDepth::Count).map_err(|error| error.to_string()),
        Err(error) if error.is_unrepaired() => {
            stat.state = SegmentState::NotClosed;
            Ok(())
        }
        Err(error) if error.is_in_use() => {
            stat.state = SegmentState::InUse;
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    };
    match counted {
        Err(error) => stat.state = SegmentState::Damaged(error),
        Ok(()) if depth == CheckDepth::Read => stat.state = SegmentState::InUse,
        Ok(()) => {}
    }
    Ok(stat)
}

fn count(tables: &SegmentTables, stat: &mut SegmentStat, thorough: bool) -> Result<(), ReadError> {
    let mut heads = Vec::new();
    for entry in tables.heads.range::<u128>(..).map_err(FileError::from)? {
        let (key, block) = entry.map_err(FileError::from)?;
        let Ok(block) = BlockRecords::of(block.value()) else {
            stat.damaged.push(LogPosition::from_key(key.value()).event());
            continue;
        };
        for record in block {
            let Ok((id, head)) = record.map(|(at, head)| (at.event(), head)) else {
                stat.damaged.push(LogPosition::from_key(key.value()).event());
                break;
            };
            match EventHead::parse(head) {
                Ok(head) => {
                    let at = (id, head.event.received_at);
                    stat.events += 1;
                    stat.first.get_or_insert(at);
                    stat.last = Some(at);
                    if thorough {
                        heads.push((id, head.event.body_len()));
                    }
                }
                Err(_) => stat.damaged.push(id),
            }
        }
    }
    if thorough {
        compare_bodies(tables, &heads, stat)?;
    }
    Ok(())
}

/// Checks that each head has a body of the length that the head names.
fn compare_bodies(tables: &SegmentTables, heads: &[(EventId, usize)], stat: &mut SegmentStat) -> Result<(), ReadError> {
    let mut heads = heads.iter().copied().peekable();
    for entry in tables.bodies.range::<u128>(..).map_err(FileError::from)? {
        let (key, block) = entry.map_err(FileError::from)?;
        let Ok(bodies) = records(key.value(), block.value()) else {
            stat.damaged.push(LogPosition::from_key(key.value()).event());
            continue;
        };
        for record in bodies {
            let Ok((id, body)) = record.map(|(at, body)| (at.event(), body)) else { break };
            while let Some((missing, _)) = heads.next_if(|(head, _)| *head < id) {
                stat.damaged.push(missing);
            }
            if heads.next_if(|(head, _)| *head == id).is_some_and(|(_, len)| len != body.len()) {
                stat.damaged.push(id);
            }
        }
    }
    stat.damaged.extend(heads.map(|(missing, _)| missing));
    Ok(())
}
