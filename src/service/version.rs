//! The version that a caller expects of the thing that it changes.

use super::Error;

/// Which version the caller takes a thing to have. A change is refused if the thing has another one, or gets another one
/// while the change is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Whichever it has now.
    Current,
    /// One of these; an empty list matches nothing.
    OneOf(Vec<u64>),
}

impl ExpectedVersion {
    /// The version that the change is bound to: `current`, if the caller expects a version and the thing has it.
    ///
    /// # Errors
    /// [`ErrorKind::VersionMismatch`](super::ErrorKind::VersionMismatch) if the thing has another version.
    pub fn bind(expected: Option<&Self>, current: u64) -> Result<Option<u64>, Error> {
        match expected {
            None => Ok(None),
            Some(Self::Current) => Ok(Some(current)),
            Some(Self::OneOf(versions)) if versions.contains(&current) => Ok(Some(current)),
            Some(Self::OneOf(_)) => Err(Error::version_mismatch(current)),
        }
    }
}
