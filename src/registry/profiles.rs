//! Webhooks and their profiles: what a reload of `[profiles]` changes.

use std::sync::Arc;

use super::audit::AuditRecord;
use super::change::{Change, ChangeError};
use super::snapshot::Registry;
use super::writer::Writer;
use super::writer_state::{Batch, WriterState};
use crate::model::WebhookNo;
use crate::outbound::profile::Profiles;
use crate::outbound::{SigningKeys, Webhook, WebhookSettings};
use crate::signature::SigningKey;

impl Writer {
    /// Profiles in place of those before (a reload of the configuration). Webhooks of one that changed are built anew, and
    /// those of one that is gone stay, with deliveries that fail until it is back.
    pub async fn set_profiles(&self, profiles: Profiles) -> Result<(), ChangeError> {
        self.ask(Change::Profiles(profiles)).await.map(drop)
    }
}

impl WriterState {
    /// Nothing of this is a row: a record names its profile.
    pub(super) fn apply_profiles(&mut self, profiles: Profiles, next: &mut Registry, batch: &mut Batch) {
        let profiles = profiles.keeping(&self.profiles);
        if !profiles.are(&self.profiles) {
            batch.note(AuditRecord::reloaded(vec!["profiles".into()]));
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
            batch.tell(old.no);
            next.put(Arc::new(Webhook {
                no: old.no,
                id: old.id,
                settings: fitted(old.settings.clone(), &self.profiles),
                created_at: old.created_at,
                updated_at: old.updated_at,
                version: old.version,
            }));
        }
    }
}

fn is_current(settings: &WebhookSettings, profiles: &Profiles) -> bool {
    profiles.get(settings.profile.name()).is_some_and(|profile| Arc::ptr_eq(profile, &settings.profile))
}

/// The settings with their profile as it is now: it may have changed since they were read.
pub(super) fn fitted(settings: WebhookSettings, profiles: &Profiles) -> WebhookSettings {
    if is_current(&settings, profiles) {
        return settings;
    }
    let profile = profiles.resolve(settings.profile.name());
    let key = |key: &SigningKey| Arc::new(profile.stored_key(key.secret.clone()));
    let keys = SigningKeys {
        current: key(&settings.keys.current),
        previous: settings.keys.previous.as_ref().map(|(previous, until)| (key(previous), *until)),
    };
    WebhookSettings { profile, keys, ..settings }
}
