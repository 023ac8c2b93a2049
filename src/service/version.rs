//! Optimistic locking: the version that a caller expects of the resource that it changes.

use super::Error;

/// The version that a caller expects. A change is refused if the resource has another version, or if its version
/// changes before the change is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// The version at the time of the call, whatever it is.
    Current,
    /// One of these versions. An empty list matches nothing.
    OneOf(Vec<u64>),
}

impl ExpectedVersion {
    /// Returns the version to which the change is bound: `current` if the caller expects a version, `None` otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::VersionMismatch`](super::ErrorKind::VersionMismatch) if the resource has another version.
    pub fn bind(expected: Option<&Self>, current: u64) -> Result<Option<u64>, Error> {
        match expected {
            None => Ok(None),
            Some(Self::Current) => Ok(Some(current)),
            Some(Self::OneOf(versions)) if versions.contains(&current) => Ok(Some(current)),
            Some(Self::OneOf(_)) => Err(Error::version_mismatch(current)),
        }
    }
}
