//! `hooktide log`: reads the log on disk. While a server has the log open, only its readable part is reported.

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::error::CliError;
use super::{ServerArgs, output};
use crate::config::Environment;
use crate::model::{EventId, Timestamp};
use crate::storage::RealDisk;
use crate::storage::log::{self, LogStat, SegmentStat, SegmentState};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show segments, events and bytes; changes nothing
    Stat(FolderArgs),
    /// Read every event, compare every checksum, repair a segment that was open in a crash; with the server stopped
    Verify(FolderArgs),
}

#[derive(Debug, clap::Args)]
struct FolderArgs {
    /// Configuration file that names the data folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder [default: the configured one]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The JSON report of a log.
#[derive(Serialize)]
struct LogReport {
    events: u64,
    allocated_bytes: u64,
    sound: bool,
    /// Whether a running server has the folder open.
    in_use: bool,
    /// Segments, the oldest first, then the files of carried bodies.
    data: Vec<FileReport>,
}

#[derive(Serialize)]
struct FileReport {
    file: String,
    events: u64,
    bytes: u64,
    allocated_bytes: u64,
    first_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
    state: String,
    damaged: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// The report is printed first. Then the result is [`CliError::Damaged`] if data cannot be read, or [`CliError::InUse`]
/// if not everything was verified.
pub(super) fn run(args: Args, environment: Environment, out: &mut dyn Write) -> Result<(), CliError> {
    let (folder, thorough) = match args.command {
        Command::Stat(folder) => (folder, false),
        Command::Verify(folder) => (folder, true),
    };
    let server = ServerArgs { config: folder.config, data_dir: folder.data_dir, ..ServerArgs::default() };
    let dir = server.loader(false, environment).load_for_client()?.server.data_dir;
    if !dir.is_dir() {
        return Err(CliError::NoFolder { path: dir });
    }
    let stat = if thorough { log::verify(&RealDisk, &dir)? } else { log::stat(&RealDisk, &dir)? };
    print(&stat, folder.json, out)?;
    let damaged = |file: &SegmentStat| matches!(file.state, SegmentState::Damaged(_)) || !file.damaged.is_empty();
    // A segment that was not closed is not damaged. The next start repairs it.
    if stat.segments.iter().chain(&stat.carried).any(damaged) {
        return Err(CliError::Damaged);
    }
    if thorough && stat.is_in_use() { Err(CliError::InUse) } else { Ok(()) }
}

fn print(stat: &LogStat, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let report = LogReport {
        events: stat.events(),
        allocated_bytes: stat.allocated(),
        sound: stat.is_sound(),
        in_use: stat.is_in_use(),
        data: stat.segments.iter().chain(&stat.carried).map(file_report).collect(),
    };
    let value = serde_json::to_value(&report).map_err(std::io::Error::from)?;
    if json {
        return Ok(writeln!(out, "{value}")?);
    }
    let columns = [
        ("FILE", "/file"),
        ("EVENTS", "/events"),
        ("BYTES", "/bytes"),
        ("ON DISK", "/allocated_bytes"),
        ("FIRST", "/first_at"),
        ("LAST", "/last_at"),
        ("STATE", "/state"),
    ];
    output::page(out, &value, &columns, "no segments")?;
    for file in &report.data {
        file.damaged.iter().try_for_each(|event| writeln!(out, "damaged: {event} in {}", file.file))?;
    }
    writeln!(out, "{} events, {} bytes on the disk", report.events, report.allocated_bytes)?;
    if report.in_use {
        writeln!(out, "a running server has this folder open: what it is writing is not counted")?;
    }
    Ok(())
}

fn file_report(file: &SegmentStat) -> FileReport {
    let at = |end: Option<(EventId, Timestamp)>| end.map(|(_, at)| at);
    FileReport {
        file: file.path.display().to_string(),
        events: file.events,
        bytes: file.len,
        allocated_bytes: file.allocated,
        first_at: at(file.first),
        last_at: at(file.last),
        state: match &file.state {
            SegmentState::Sound => "sound".to_owned(),
            SegmentState::NotClosed => "not closed".to_owned(),
            SegmentState::InUse => "in use".to_owned(),
            SegmentState::Damaged(why) => format!("damaged: {why}"),
        },
        damaged: file.damaged.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn printed(stat: &LogStat, json: bool) -> String {
        let mut out = Vec::new();
        print(stat, json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_folder_without_a_log_has_nothing_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let stat = log::stat(&RealDisk, folder.path()).unwrap();
        assert_eq!(printed(&stat, false), "no segments\n0 events, 0 bytes on the disk\n");
    }

    #[test]
    fn segments_are_in_columns_and_damage_is_named() {
        let end = |n| Some((EventId::from_u128(n), Timestamp::from_millis(n as i64)));
        let event = EventId::from_u128(7);
        let segment = SegmentStat {
            path: Path::new("log/a.redb").to_owned(),
            len: 4096,
            allocated: 8192,
            events: 2,
            first: end(0),
            last: end(1000),
            state: SegmentState::Damaged("no head".to_owned()),
            damaged: vec![event],
        };
        let stat = LogStat { segments: vec![segment], carried: Vec::new() };
        let expected = format!(
            "FILE        EVENTS  BYTES  ON DISK  FIRST                     LAST                      STATE\n\
             log/a.redb  2       4096   8192     1970-01-01T00:00:00.000Z  1970-01-01T00:00:01.000Z  damaged: no head\n\
             damaged: {event} in log/a.redb\n\
             2 events, 8192 bytes on the disk\n"
        );
        assert_eq!(printed(&stat, false), expected);
        let json: serde_json::Value = serde_json::from_str(&printed(&stat, true)).unwrap();
        assert_eq!((&json["sound"], &json["data"][0]["damaged"][0]), (&false.into(), &event.to_string().into()));
    }
}
