//! Builds sources for tests.

use crate::inbound::source::{Identity, ManagedBy, Source, SourceSettings};
use crate::model::{FieldError, SourceId, Timestamp};

/// Parses settings from TOML.
pub(crate) fn settings(toml: &str) -> SourceSettings {
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

pub(crate) fn build(toml: &str) -> Result<Source, Vec<FieldError>> {
    Source::build(settings(toml), identity(), "https://hooks.example.com")
}
