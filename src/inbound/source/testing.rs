//! Sources for tests.

use crate::inbound::source::{Breach, Identity, ManagedBy, Settings, Source};
use crate::model::{SourceId, Timestamp};

/// The settings of a TOML text.
pub(crate) fn settings(toml: &str) -> Settings {
    toml_edit::de::from_str(toml).unwrap()
}

pub(crate) fn identity() -> Identity {
    Identity {
        id: SourceId::from_u128(7),
        tenant: "default".into(),
        managed_by: ManagedBy::Api,
        token: None,
        created_at: Timestamp::from_millis(0),
        modified_at: Timestamp::from_millis(0),
        deleted_at: None,
        version: 1,
    }
}

pub(crate) fn build(toml: &str) -> Result<Source, Vec<Breach>> {
    Source::build(settings(toml), identity(), "https://hooks.example.com")
}
