//! The versions of webhooks, sources and event types, which are their ETags.
//!
//! One counter gives all versions. So a resource that is created again under the same name never has a version that the
//! deleted one had. The last version is a row of registry.redb, written with the changes.

use super::snapshot::Registry;
use crate::model::{Timestamp, WebhookNo};
use crate::storage::registry::{RegistryStore, RegistryStoreError};

/// The distance from the versions of a program that had a counter for each resource. Those of deleted resources are not
/// known any more.
const UNKNOWN_VERSIONS: u64 = 1_000_000;

/// Gives versions.
#[derive(Debug)]
pub(super) struct VersionCounter {
    last: u64,
    /// The last version in the rows that were passed to the store.
    stored: u64,
}

impl VersionCounter {
    /// Continues behind the last version of the store.
    pub(super) fn load(store: &dyn RegistryStore, registry: &Registry) -> Result<Self, RegistryStoreError> {
        let stored = store.last_version()?;
        let present = registry.last_version();
        let is_older = stored.is_none() && (present > 0 || store.last_audit()? > 0);
        let last = stored.unwrap_or_default().max(present) + if is_older { UNKNOWN_VERSIONS } else { 0 };
        Ok(Self { last, stored: stored.unwrap_or_default() })
    }

    /// Returns the next version.
    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Returns the last version, if the store does not have it.
    pub(super) fn unwritten(&mut self) -> Option<u64> {
        let is_new = self.last > self.stored;
        self.stored = self.last;
        is_new.then_some(self.last)
    }
}

/// Returns the version of a resource of the configuration that is new or changed. No row is written for it, so the version
/// is a time: above all versions of the counter, and later after each restart.
pub(super) fn version_of_file(old: Option<u64>, now: Timestamp) -> u64 {
    let now = u64::try_from(now.as_millis()).unwrap_or_default();
    old.map_or(now, |old| now.max(old + 1))
}

impl Registry {
    /// The highest version of all stored resources.
    fn last_version(&self) -> u64 {
        let webhooks = self.newest(None, WebhookNo(u32::MAX)).map(|webhook| webhook.version);
        let sources = self.sources.stored().map(|source| source.version);
        webhooks.chain(sources).chain(self.event_types.stored_versions()).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_of_the_configuration_gets_a_later_version_with_each_change_and_start() {
        let at = Timestamp::from_millis;
        assert_eq!(version_of_file(None, at(1_700_000_000_000)), 1_700_000_000_000);
        assert_eq!(version_of_file(Some(5), at(7)), 7);
        assert_eq!(version_of_file(Some(7), at(7)), 8);
        assert_eq!(version_of_file(Some(9), at(7)), 10);
    }
}
