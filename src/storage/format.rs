//! Format versions of the data files.
//!
//! Each redb file has an entry `format` in its table `meta`. The entry is written when the file is created, or in the
//! transaction that first needs a newer format. A file without the entry has version 1. The version covers the file's
//! tables and every kind of row whose own encoding has no version.
//!
//! A program refuses to open a file of a newer version, because it could misread or drop rows.

use std::io;
use std::path::Path;

use redb::{Error, ReadTransaction, TableDefinition, TableError, WriteTransaction};

/// state.redb also stores its checkpoint and its high-water marks in this table.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const FORMAT: &str = "format";
/// The version of a file without the entry `format`.
const UNSTATED: u32 = 1;

/// A kind of redb file and the newest format version of it that this program reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileKind {
    newest: u32,
}

/// Segments of the log and files of carried events.
pub(crate) const SEGMENT_FILE: FileKind = FileKind { newest: 1 };
/// state.redb.
pub(crate) const STATE_FILE: FileKind = FileKind { newest: 1 };
/// Files of the attempt history.
pub(crate) const HISTORY_FILE: FileKind = FileKind { newest: 1 };
/// registry.redb.
pub(crate) const REGISTRY_FILE: FileKind = FileKind { newest: 1 };

/// The error for a data file, or a row of one, in a format that this program does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file} has format version {found}; this program reads {}: run the newer program, or restore a backup",
    versions(*.newest)
)]
pub struct FormatError {
    /// The file, or the row of a file.
    pub file: String,
    /// The version found.
    pub found: String,
    /// The newest version that this program reads.
    pub newest: u32,
}

fn versions(newest: u32) -> String {
    if newest == UNSTATED { format!("version {newest}") } else { format!("versions {UNSTATED} to {newest}") }
}

impl FormatError {
    /// Returns the format error that [`check`] wrapped in an error of redb, and `None` for other errors.
    pub(crate) fn of(error: &Error) -> Option<&Self> {
        match error {
            Error::Io(error) => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }
}

/// Returns an error if the file has a format version that this program does not know.
pub(super) fn check(read: &ReadTransaction, path: &Path, kind: FileKind) -> Result<(), Error> {
    let table = match read.open_table(META) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let Some(entry) = table.get(FORMAT)? else { return Ok(()) };
    let found = match <[u8; 4]>::try_from(entry.value()) {
        Ok(bytes) => {
            let version = u32::from_le_bytes(bytes);
            if (UNSTATED..=kind.newest).contains(&version) {
                return Ok(());
            }
            version.to_string()
        }
        Err(_) => "of an unknown form".to_owned(),
    };
    let refused = FormatError { file: path.display().to_string(), found, newest: kind.newest };
    Err(Error::Io(io::Error::new(io::ErrorKind::InvalidData, refused)))
}

/// Writes the format version into a file that is being created.
pub(super) fn stamp(write: &WriteTransaction, kind: FileKind) -> Result<(), Error> {
    write.open_table(META)?.insert(FORMAT, &kind.newest.to_le_bytes()[..])?;
    Ok(())
}

/// Returns an error for a key file (`admin.key`, `secrets.key`) of a newer format. Version 1 has no format line.
///
/// The first line of a later version is `# hooktide format <n>`.
pub(crate) fn check_key_file(path: &Path, text: &str) -> Result<(), FormatError> {
    const HEADER: &str = "# hooktide format ";
    match text.lines().next().and_then(|line| line.trim().strip_prefix(HEADER)) {
        Some(found) if found.trim() != "1" => {
            Err(FormatError { file: path.display().to_string(), found: found.trim().to_owned(), newest: UNSTATED })
        }
        _ => Ok(()),
    }
}

/// Writes another format version into a file, as a later program would.
#[cfg(test)]
pub(crate) fn set_version(disk: &dyn super::Disk, path: &Path, version: u32) {
    let database = redb::Builder::new().create_with_backend(disk.open(path).unwrap()).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert(FORMAT, &version.to_le_bytes()[..]).unwrap();
    write.commit().unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_names_no_format_or_version_1() {
        let path = Path::new("/data/admin.key");
        assert_eq!(check_key_file(path, "hk_0123456789abcdef\n"), Ok(()));
        assert_eq!(check_key_file(path, "# a comment\nhk_0123456789abcdef\n"), Ok(()));
        assert_eq!(check_key_file(path, "# hooktide format 1\nhk_0123456789abcdef\n"), Ok(()));
        let refused = check_key_file(path, "# hooktide format 2\nhk_0123456789abcdef\n").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "/data/admin.key has format version 2; this program reads version 1: run the newer program, or restore a \
             backup"
        );
    }
}
