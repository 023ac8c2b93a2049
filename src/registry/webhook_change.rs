//! The uid check for webhooks, and changes of their subscriptions.

use std::sync::Arc;

use super::change::{ChangeError, RegistryChange, WebhookResult};
use super::snapshot::Registry;
use super::writer::Writer;
use super::writer_state::{ChangeBatch, WriterState, current};
use crate::filter::Filter;
use crate::limits::{SUBSCRIPTIONS_MAX, WEBHOOK_COMPILED_BYTES_MAX};
use crate::model::{DEFAULT_TENANT, EventPattern, SubscriptionId, Timestamp, WebhookNo};
use crate::outbound::{Subscription, Webhook, WebhookSettings};

/// The settings of a subscription that its user sets.
#[derive(Debug, Clone)]
pub struct SubscriptionSettings {
    /// The event types.
    pub event_type: EventPattern,
    /// Only events about this resource; `None`: all events.
    pub resource_id: Option<Box<str>>,
    /// Whether the subscription is used for matching.
    pub is_active: bool,
    /// Only events that pass this filter; `None`: all events.
    pub filters: Option<Arc<Filter>>,
}

#[derive(Debug)]
pub(super) enum SubscriptionChange {
    Add(SubscriptionSettings),
    Replace(SubscriptionId, SubscriptionSettings),
    Remove(SubscriptionId),
}

impl Writer {
    /// Adds a subscription to a webhook, if the webhook has this version or no version is given. It is the last
    /// subscription of the returned webhook.
    pub async fn add_subscription(
        &self,
        no: WebhookNo,
        version: Option<u64>,
        settings: SubscriptionSettings,
    ) -> Result<Arc<Webhook>, ChangeError> {
        self.subscribe(no, version, SubscriptionChange::Add(settings)).await
    }

    /// Replaces the settings of a subscription, which keeps its id, creation time and position.
    pub async fn replace_subscription(
        &self,
        no: WebhookNo,
        version: Option<u64>,
        id: SubscriptionId,
        settings: SubscriptionSettings,
    ) -> Result<Arc<Webhook>, ChangeError> {
        self.subscribe(no, version, SubscriptionChange::Replace(id, settings)).await
    }

    /// Removes a subscription.
    pub async fn remove_subscription(
        &self,
        no: WebhookNo,
        version: Option<u64>,
        id: SubscriptionId,
    ) -> Result<Arc<Webhook>, ChangeError> {
        self.subscribe(no, version, SubscriptionChange::Remove(id)).await
    }

    /// The writer thread changes the subscription, so that concurrent changes do not overwrite each other.
    async fn subscribe(
        &self,
        no: WebhookNo,
        version: Option<u64>,
        change: SubscriptionChange,
    ) -> Result<Arc<Webhook>, ChangeError> {
        self.request_webhook(RegistryChange::Subscription { no, version, change }).await?.ok_or(ChangeError::Stopped)
    }
}

impl WriterState {
    pub(super) fn apply_subscription(
        &mut self,
        (no, version): (WebhookNo, Option<u64>),
        change: SubscriptionChange,
        next: &mut Registry,
        batch: &mut ChangeBatch,
    ) -> WebhookResult {
        let old = current(next, no, version)?;
        let now = self.now;
        let mut all = old.subscriptions.to_vec();
        let place =
            |all: &[Subscription], id| all.iter().position(|one| one.id == id).ok_or(ChangeError::SubscriptionNotFound);
        let (action, fields) = match change {
            SubscriptionChange::Add(_) if all.len() >= SUBSCRIPTIONS_MAX => {
                return Err(ChangeError::TooManySubscriptions);
            }
            SubscriptionChange::Add(settings) => {
                let id = SubscriptionId::from_u128(self.random.ulid(now));
                all.push(settings.subscription(id, now, now));
                ("subscription.created", Vec::new())
            }
            SubscriptionChange::Replace(id, settings) => {
                let at = place(&all, id)?;
                let fields = settings.changed(&all[at]);
                all[at] = settings.subscription(id, all[at].created_at, now);
                ("subscription.updated", fields)
            }
            SubscriptionChange::Remove(id) => {
                all.remove(place(&all, id)?);
                ("subscription.deleted", Vec::new())
            }
        };
        let settings = WebhookSettings { subscriptions: all.into(), ..old.settings.clone() };
        next.check_size(&settings, Some(&old))?;
        let webhook = self.changed(&old, settings);
        let webhook = batch.put(next, webhook);
        batch.audit_webhook(action, &webhook, fields);
        Ok(Some(webhook))
    }
}

impl SubscriptionSettings {
    /// The names of the fields that differ from those of a subscription.
    fn changed(&self, old: &Subscription) -> Vec<&'static str> {
        let text = |filter: &Option<Arc<Filter>>| filter.as_ref().map(|filter| filter.as_json().get().to_owned());
        let fields = [
            ("event_type", self.event_type != old.event_type),
            ("resource_id", self.resource_id != old.resource_id),
            ("is_active", self.is_active != old.is_active),
            ("filters", text(&self.filters) != text(&old.filters)),
        ];
        fields.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
    }

    fn subscription(self, id: SubscriptionId, created_at: Timestamp, updated_at: Timestamp) -> Subscription {
        let Self { event_type, resource_id, is_active, filters } = self;
        Subscription { id, event_type, resource_id, is_active, filters, created_at, updated_at }
    }
}

impl Registry {
    /// Checks the size of a webhook's regular expressions, and the memory of its tenant. A webhook that is too large
    /// already may become smaller.
    pub(super) fn check_size(&self, settings: &WebhookSettings, old: Option<&Webhook>) -> Result<(), ChangeError> {
        let max = old.map_or(0, |old| old.pattern_bytes()).max(WEBHOOK_COMPILED_BYTES_MAX);
        if settings.pattern_bytes() > max {
            return Err(ChangeError::PatternsTooLarge);
        }
        self.check_memory(&settings.tenant, old.map_or(0, |old| old.memory_bytes()), settings.memory_bytes())
    }

    /// Checks that the uid of these settings is free: no other webhook of the tenant has it, and no source of the tenant
    /// or of tenant `default` has it as its name. A bare name denotes a source of tenant `default` for callers of every
    /// tenant. A webhook may keep its uid, also while a source of the file hides it.
    pub(super) fn check_uid(&self, settings: &WebhookSettings, old: Option<&Webhook>) -> Result<(), ChangeError> {
        let Some(uid) = settings.uid.as_deref().filter(|uid| old.and_then(|old| old.uid.as_deref()) != Some(uid))
        else {
            return Ok(());
        };
        let tenant = old.map_or(&settings.tenant, |old| &old.tenant);
        let is_source = [tenant, DEFAULT_TENANT].iter().any(|tenant| self.source(tenant, uid).is_some());
        let is_taken = is_source || self.webhook_by_uid(tenant, uid).is_some();
        if is_taken { Err(ChangeError::UidTaken) } else { Ok(()) }
    }
}
