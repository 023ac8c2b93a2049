//! `hooktide log stat` and `hooktide log verify`: what a log holds. Beside a running server the segment that is being
//! written cannot be read, and none is locked, as the server must find them free.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::Records;
use super::scan::records;
use super::segment::{self, Tables};
use super::{LogPosition, ReadError};
use crate::model::{EventHead, EventId, Timestamp, file};
use crate::storage::{Disk, FileError};

/// What a log holds.
#[derive(Debug, Clone, Default)]
pub struct LogStat {
    /// Segments, oldest first.
    pub segments: Vec<SegmentStat>,
    /// Files of carried bodies.
    pub carried: Vec<SegmentStat>,
}

/// What a segment holds.
#[derive(Debug, Clone)]
pub struct SegmentStat {
    /// Its file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// What it takes on the disk.
    pub allocated: u64,
    /// Events in it.
    pub events: u64,
    /// The first, and when it arrived.
    pub first: Option<(EventId, Timestamp)>,
    /// The last, and when it arrived.
    pub last: Option<(EventId, Timestamp)>,
    /// Whether all of that could be read.
    pub state: SegmentState,
    /// Events whose head or body cannot be read, or keys of such blocks.
    pub damaged: Vec<EventId>,
}

/// Whether a segment could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentState {
    /// Yes.
    Sound,
    /// It was open in a crash; the next start (or `verify`) repairs it.
    NotClosed,
    /// A running server has it open: not read, or by `verify` without comparing its checksums.
    InUse,
    /// No.
    Damaged(String),
}

impl LogStat {
    /// Events in all segments.
    pub fn events(&self) -> u64 {
        self.segments.iter().map(|segment| segment.events).sum()
    }

    /// Bytes on the disk of all files.
    pub fn allocated(&self) -> u64 {
        self.segments.iter().chain(&self.carried).map(|segment| segment.allocated).sum()
    }

    /// Whether a running server has the folder open.
    pub fn is_in_use(&self) -> bool {
        self.segments.iter().chain(&self.carried).any(|segment| segment.state == SegmentState::InUse)
    }

    /// Whether everything could be read.
    pub fn is_sound(&self) -> bool {
        let sound = |segment: &SegmentStat| segment.state == SegmentState::Sound && segment.damaged.is_empty();
        self.segments.iter().chain(&self.carried).all(sound)
    }
}

/// Counts what is there, and changes nothing.
pub fn stat(disk: &(impl Disk + Clone), dir: &Path) -> io::Result<LogStat> {
    look(&(Arc::new(disk.clone()) as Arc<dyn Disk>), dir, false)
}

/// Reads every event and compares every page's checksum; a segment that was open in a crash is repaired first.
pub fn verify(disk: &(impl Disk + Clone), dir: &Path) -> io::Result<LogStat> {
    look(&(Arc::new(disk.clone()) as Arc<dyn Disk>), dir, true)
}

fn look(disk: &Arc<dyn Disk>, dir: &Path, thorough: bool) -> io::Result<LogStat> {
    let files = |name: &str| -> io::Result<Vec<PathBuf>> {
        let mut paths = match disk.list(&dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            paths => paths?,
        };
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "redb"));
        Ok(paths)
    };
    let (log, carried) = (files(file::LOG)?, files(file::CARRY)?);
    // A server always has the newest segment open, so that one tells.
    let is_locked = |path: &PathBuf| segment::open_unrepaired(disk, path).is_err_and(|error| error.is_in_use());
    let depth = match (thorough, log.last().is_some_and(is_locked)) {
        (false, _) => Depth::Count,
        (true, true) => Depth::Read,
        (true, false) => Depth::Check,
    };
    let look_at_all = |paths: Vec<PathBuf>| paths.into_iter().map(|path| look_at(disk, path, depth)).collect();
    let segments: io::Result<_> = look_at_all(log);
    Ok(LogStat { segments: segments?, carried: look_at_all(carried)? })
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Heads.
    Count,
    /// Heads and bodies, taking no lock that a server would miss.
    Read,
    /// Heads, bodies and the checksum of every page.
    Check,
}

fn look_at(disk: &Arc<dyn Disk>, path: PathBuf, depth: Depth) -> io::Result<SegmentStat> {
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
    if depth == Depth::Check {
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
        Ok(tables) => count(&tables, &mut stat, depth != Depth::Count).map_err(|error| error.to_string()),
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
        Ok(()) if depth == Depth::Read => stat.state = SegmentState::InUse,
        Ok(()) => {}
    }
    Ok(stat)
}

fn count(tables: &Tables, stat: &mut SegmentStat, thorough: bool) -> Result<(), ReadError> {
    let mut heads = Vec::new();
    for entry in tables.heads.range::<u128>(..).map_err(FileError::from)? {
        let (key, block) = entry.map_err(FileError::from)?;
        let Ok(block) = Records::of(block.value()) else {
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

/// Each head has its body, of the length it says.
fn compare_bodies(tables: &Tables, heads: &[(EventId, usize)], stat: &mut SegmentStat) -> Result<(), ReadError> {
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
