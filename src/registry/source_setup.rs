//! Builds the sources of the snapshot from their settings: those of registry.redb, and those of the configuration.

use std::sync::Arc;

use serde_json::Value;

use super::Registry;
use super::versions::version_of_file;
use crate::inbound::source::{
    FileSource, Identity, ManagedBy, SecretSetting, Source, SourceSettings, SourceStatus, file_source_id,
};
use crate::model::{FieldError, SourceId, Timestamp};
use crate::storage::registry::same_settings;

/// Defaults for all sources, and the sources of the configuration.
#[derive(Debug, Clone, Default)]
pub struct SourceSetup {
    /// `server.public_url`, or the URL of the first listener's address.
    pub public_url: Box<str>,
    /// The `max_body_bytes` of a source without this setting; `None`: the built-in default.
    pub max_body_bytes: Option<u64>,
    /// The sources of the configuration, checked.
    pub files: Vec<FileSource>,
}

impl SourceSetup {
    /// Builds a source. Its stored settings stay as they were written, without the default for `max_body_bytes`.
    pub(super) fn build(&self, settings: SourceSettings, identity: Identity) -> Result<Source, Vec<FieldError>> {
        let written = settings.max_body_bytes.clone();
        let max_body_bytes = written.clone().or(self.max_body_bytes.map(Value::from));
        let mut source = Source::build(SourceSettings { max_body_bytes, ..settings }, identity, &self.public_url)?;
        source.settings.max_body_bytes = written;
        Ok(source)
    }

    /// Builds a source whose settings were valid once. If they no longer are, for example because a kind was dropped,
    /// the source keeps its identity and its settings, is inactive, and has the reason as a warning. `None` if even
    /// that source cannot be built; its record stays in the store.
    pub(super) fn rebuild(&self, settings: SourceSettings, identity: Identity) -> Option<Arc<Source>> {
        let refused = match self.build(settings.clone(), identity.clone()) {
            Ok(source) => return Some(Arc::new(source)),
            Err(errors) => in_words(&errors),
        };
        let (id, name) = (identity.id, settings.name.clone());
        tracing::error!(
            target: "hooktide::registry", source_id = %id, source = name, problem = refused,
            "a source cannot be used any more; it is kept, and taken as inactive"
        );
        match Source::build(SourceSettings::new(&settings.name, "none"), identity, &self.public_url) {
            Ok(mut source) => {
                source.settings = settings;
                source.status = SourceStatus::Inactive;
                source.warnings = vec![format!("it cannot be used any more: {refused}")];
                Some(Arc::new(source))
            }
            Err(_) => None,
        }
    }
}

/// The errors as one line.
fn in_words(errors: &[FieldError]) -> String {
    let lines: Vec<_> = errors.iter().map(|error| format!("{}: {}", error.pointer, error.detail)).collect();
    lines.join("; ")
}

impl Registry {
    /// Replaces the sources of the configuration. An unchanged source keeps its version and times.
    pub(super) fn set_sources(&mut self, setup: &SourceSetup, now: Timestamp) {
        let mut all = Vec::with_capacity(setup.files.len());
        for file in &setup.files {
            let tenant = self.ensure_tenant(&file.tenant);
            let id = file_source_id(&tenant, &file.settings.name);
            if let Some(hidden) = self.sources.of_store(&tenant, &file.settings.name) {
                tracing::warn!(
                    target: "hooktide::registry", source = file.settings.name, hidden = %hidden.id,
                    "the configuration has a source of the same name as one of the interface, which it hides"
                );
            }
            if let Some(hidden) = self.webhook_by_uid(&tenant, &file.settings.name) {
                tracing::warn!(
                    target: "hooktide::registry", source = file.settings.name, hidden = %hidden.id,
                    "the configuration has a source whose name is a webhook's uid, under which that is not found meanwhile"
                );
            }
            let settings = self.with_learned(id, &file.settings);
            let mut identity = Identity {
                id,
                tenant,
                managed_by: ManagedBy::File,
                token: file.token.clone(),
                created_at: now,
                modified_at: now,
                deleted_at: None,
                version: version_of_file(None, now),
            };
            if let Some(old) = self.source_including_deleted(id) {
                let is_same = same_settings(&old.settings, &settings) && old.token == file.token;
                identity.created_at = old.created_at;
                identity.modified_at = if is_same { old.modified_at } else { now };
                identity.version = if is_same { old.version } else { version_of_file(Some(old.version), now) };
            }
            all.extend(setup.rebuild(settings, identity));
        }
        self.sources.set_files(all);
    }

    /// Builds every source of registry.redb again, for another public URL or body limit.
    pub(super) fn rebuild_sources(&mut self, setup: &SourceSetup) {
        let stored: Vec<_> = self.sources.stored().cloned().collect();
        for source in stored {
            if let Some(source) = setup.rebuild(source.settings.clone(), Identity::of(&source)) {
                self.put_source(source);
            }
        }
    }

    /// The settings, with the secret that a handshake brought if the settings have no secret.
    fn with_learned(&self, id: SourceId, settings: &SourceSettings) -> SourceSettings {
        let mut settings = settings.clone();
        if settings.secrets.is_empty() {
            settings.secrets.extend(self.sources.learned(id).cloned().map(SecretSetting::Text));
        }
        settings
    }
}
