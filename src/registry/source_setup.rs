//! From settings to the sources of the snapshot: those of registry.redb, and those of the configuration.

use std::sync::Arc;

use serde_json::Value;

use super::Registry;
use crate::inbound::source::{
    Breach, FileSource, Identity, ManagedBy, SecretSetting, Settings, Source, SourceStatus, file_id,
};
use crate::model::{SourceId, Timestamp};
use crate::storage::registry::same_settings;

/// What sources are built with beside their own settings, and those that the configuration names.
#[derive(Debug, Clone, Default)]
pub struct SourceSetup {
    /// `server.public_url`, or the first listener's address.
    pub public_url: Box<str>,
    /// `max_body_bytes` of a source that has none of its own; `None`: the built-in default.
    pub max_body_bytes: Option<u64>,
    /// The sources of the configuration, checked.
    pub files: Vec<FileSource>,
}

impl SourceSetup {
    /// A source of these settings, which stay as they were written.
    pub(super) fn build(&self, settings: Settings, identity: Identity) -> Result<Source, Vec<Breach>> {
        let written = settings.max_body_bytes.clone();
        let max_body_bytes = written.clone().or(self.max_body_bytes.map(Value::from));
        let mut source = Source::build(Settings { max_body_bytes, ..settings }, identity, &self.public_url)?;
        source.settings.max_body_bytes = written;
        Ok(source)
    }

    /// A source that was good once. If it is not any more (a kind that is gone), it keeps its place and its settings, takes
    /// nothing, and says why. `None` if not even that can be; its record stays.
    pub(super) fn rebuild(&self, settings: Settings, identity: Identity) -> Option<Arc<Source>> {
        let refused = match self.build(settings.clone(), identity.clone()) {
            Ok(source) => return Some(Arc::new(source)),
            Err(breaches) => in_words(&breaches),
        };
        let (id, name) = (identity.id, settings.name.clone());
        tracing::error!(
            target: "hooktide::registry", source_id = %id, source = name, problem = refused,
            "a source cannot be used any more; it is kept, and taken as inactive"
        );
        match Source::build(Settings::new(&settings.name, "none"), identity, &self.public_url) {
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

/// Breaches as one line.
fn in_words(breaches: &[Breach]) -> String {
    let lines: Vec<_> = breaches.iter().map(|breach| format!("{}: {}", breach.pointer, breach.detail)).collect();
    lines.join("; ")
}

impl Registry {
    /// The sources of the configuration, in place of those before. One that is as it was keeps its version and times.
    pub(super) fn set_sources(&mut self, setup: &SourceSetup, now: Timestamp) {
        let mut all = Vec::with_capacity(setup.files.len());
        for file in &setup.files {
            let tenant = self.make_tenant(&file.tenant);
            let id = file_id(&tenant, &file.settings.name);
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
                version: 1,
            };
            if let Some(old) = self.known_source(id) {
                let is_same = same_settings(&old.settings, &settings) && old.token == file.token;
                identity.created_at = old.created_at;
                identity.modified_at = if is_same { old.modified_at } else { now };
                identity.version = old.version + u64::from(!is_same);
            }
            all.extend(setup.rebuild(settings, identity));
        }
        self.sources.set_files(all);
    }

    /// Every source of registry.redb, built again for another public URL.
    pub(super) fn rebuild_sources(&mut self, setup: &SourceSetup) {
        let stored: Vec<_> = self.sources.stored().cloned().collect();
        for source in stored {
            if let Some(source) = setup.rebuild(source.settings.clone(), Identity::of(&source)) {
                self.sources.put(source);
            }
        }
    }

    /// The settings with the secret that a handshake brought, if they have none of their own.
    fn with_learned(&self, id: SourceId, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        if settings.secrets.is_empty() {
            settings.secrets.extend(self.sources.learned(id).cloned().map(SecretSetting::Text));
        }
        settings
    }
}
