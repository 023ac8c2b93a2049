//! Changes of `[profiles]` at a reload, and their effect on webhooks.

use std::sync::Arc;

use super::audit::AuditRecord;
use super::change::{ChangeError, RegistryChange};
use super::snapshot::Registry;
use super::writer::Writer;
use super::writer_state::{ChangeBatch, WriterState};
use crate::model::WebhookNo;
use crate::outbound::profile::Profiles;
use crate::outbound::{SigningKeys, Webhook, WebhookSettings};
use crate::signature::SigningKey;

impl Writer {
    /// Replaces the profiles, at a reload. The webhooks of a changed profile are built again. The webhooks of a removed
    /// profile stay, but their deliveries fail until the profile is back.
    pub async fn set_profiles(&self, profiles: Profiles) -> Result<(), ChangeError> {
        self.request_webhook(RegistryChange::Profiles(profiles)).await.map(drop)
    }
}

impl WriterState {
    /// Writes no row, because a webhook's record has only the name of its profile.
    pub(super) fn apply_profiles(&mut self, profiles: Profiles, next: &mut Registry, batch: &mut ChangeBatch) {
        let profiles = profiles.reuse_unchanged(&self.profiles);
        if !profiles.is_same(&self.profiles) {
            batch.audit(AuditRecord::reloaded(vec!["profiles".into()]));
        }
        self.profiles = profiles;
        next.profiles = self.profiles.clone();
        let all = next.newest(None, WebhookNo(u32::MAX));
        let concerned: Vec<_> = all.filter(|webhook| !is_current(webhook, &self.profiles)).map(Arc::clone).collect();
        for old in concerned {
            if !self.profiles.resolve(old.profile.name()).is_known() {
                tracing::error!(
                    target: "hooktide::registry", webhook_id = %old.id, profile = old.profile.name(),
                    "the profile of a webhook is not configured; its deliveries fail until it is"
                );
            }
            batch.notify_shard(old.no);
            next.put(Arc::new(Webhook {
                no: old.no,
                id: old.id,
                settings: with_current_profile(old.settings.clone(), &self.profiles),
                created_at: old.created_at,
                updated_at: old.updated_at,
                version: old.version,
                address_version: old.address_version,
            }));
        }
    }
}

fn is_current(settings: &WebhookSettings, profiles: &Profiles) -> bool {
    profiles.get(settings.profile.name()).is_some_and(|profile| Arc::ptr_eq(profile, &settings.profile))
}

/// The settings with the current version of their profile, which may have changed after they were read.
pub(super) fn with_current_profile(settings: WebhookSettings, profiles: &Profiles) -> WebhookSettings {
    if is_current(&settings, profiles) {
        return settings;
    }
    let profile = profiles.resolve(settings.profile.name());
    let key = |key: &SigningKey| Arc::new(profile.stored_key(key.secret.clone()));
    let keys = SigningKeys {
        current: key(&settings.keys.current),
        previous: settings.keys.previous.iter().map(|(previous, until)| (key(previous), *until)).collect(),
    };
    WebhookSettings { profile, keys, ..settings }
}
