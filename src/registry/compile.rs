//! Compiles stored records to the snapshot, at the start and after a full disk, and makes records for the store.
//!
//! All cores compile webhooks, and one thread puts them in order: each webhook costs some microseconds for HMAC keys
//! and filters.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::Registry;
use super::catalogue::{EventType, EventTypeDefinition};
use super::source_setup::SourceSetup;
use crate::filter::{Filter, FilterError};
use crate::inbound::source::{Identity, ManagedBy, Source};
use crate::limits::LOAD_THREADS_MAX;
use crate::outbound::profile::Profiles;
use crate::outbound::tls::EndpointTls;
use crate::outbound::{EndpointAuth, SigningKeys, Subscription, Webhook, WebhookSettings};
use crate::runtime::parallel_map;
use crate::storage::registry::record::damaged;
use crate::storage::registry::{
    EventTypeRecord, RecordError, RegistryRecord, RegistryStore, RegistryStoreError, SourceRecord, SubscriptionRecord,
    WebhookRecord,
};

/// Loads everything stored as a snapshot, without the parts of the configuration.
pub(super) fn load(
    store: &mut dyn RegistryStore,
    setup: &SourceSetup,
    profiles: &Profiles,
) -> Result<Registry, RegistryStoreError> {
    let mut registry = Registry::default();
    store.load(&mut |stored| registry.take(stored, setup, profiles))?;
    Ok(registry)
}

impl Registry {
    fn take(
        &mut self,
        stored: RegistryRecord,
        setup: &SourceSetup,
        profiles: &Profiles,
    ) -> Result<(), RegistryStoreError> {
        match stored {
            RegistryRecord::Webhooks(records) => {
                let compiled = parallel_map(records, LOAD_THREADS_MAX, |record| {
                    let no = record.no.0;
                    compile(record, profiles).map_err(|error| RegistryStoreError::Record { no, error })
                });
                for webhook in compiled {
                    let mut webhook = webhook?;
                    // All webhooks of a tenant share one string.
                    let tenant = self.ensure_tenant(&webhook.tenant);
                    webhook.settings = WebhookSettings { tenant, ..webhook.settings };
                    self.put(webhook.into());
                }
            }
            RegistryRecord::Removed(mut removed) => {
                removed.tenant = self.ensure_tenant(&removed.tenant);
                self.put_removed(Arc::new(removed));
            }
            RegistryRecord::Source(record) => {
                let SourceRecord { settings, mut identity } = *record;
                identity.tenant = self.ensure_tenant(&identity.tenant);
                if let Some(source) = setup.rebuild(settings, identity) {
                    self.put_source(source);
                }
            }
            RegistryRecord::LearnedSecret(id, secret) => self.sources.learn(id, secret),
            RegistryRecord::EventType(record) => {
                let tenant = self.ensure_tenant(&record.tenant);
                let failed = |error| RegistryStoreError::EventType { name: record.name.clone(), error };
                let event_type = event_type(&record, &tenant).map_err(failed)?;
                self.put_event_type(&tenant, Arc::new(event_type));
            }
            RegistryRecord::Tenant(name, record) => drop(self.put_stored_tenant(&name, Arc::new(record))),
            RegistryRecord::Key(mut key) => {
                key.tenant = key.tenant.as_deref().map(|tenant| self.ensure_tenant(tenant));
                Arc::make_mut(&mut self.keys).put(Arc::new(key));
            }
        }
        Ok(())
    }
}

/// Compiles a stored webhook. A filter or a subscription that cannot be compiled is an error: without it the webhook
/// would get events that it did not subscribe to. A secret that its profile can no longer use is kept with the reason,
/// because the profile may come back.
pub(super) fn compile(record: WebhookRecord, profiles: &Profiles) -> Result<Webhook, RecordError> {
    let profile = profiles.resolve(&record.profile);
    let key = |secret| Arc::new(profile.stored_key(secret));
    let keys = SigningKeys {
        current: key(record.secret),
        previous: record.previous.into_iter().map(|(secret, until)| (key(secret), until)).collect(),
    };
    let settings = WebhookSettings {
        uid: record.uid,
        status: record.status,
        events: record.events,
        subscriptions: record.subscriptions.into_iter().map(subscription).collect::<Result<_, _>>()?,
        filters: filter(record.filters.as_deref())?,
        workspace_id: record.workspace_id,
        profile,
        retry_policy: record.retry_policy,
        retry_on: record.retry_on,
        timeout: record.timeout,
        max_in_flight: record.max_in_flight,
        rate_limit: record.rate_limit,
        breaker: record.breaker,
        order: record.order,
        headers: record.headers,
        auth: record.auth.map(EndpointAuth::try_new).transpose().map_err(damaged)?.map(Arc::new),
        tls: record.tls.map(EndpointTls::stored).map(Arc::new),
        name: record.name,
        description: record.description,
        user_id: record.user_id,
        metadata: record.metadata,
        ..WebhookSettings::new(record.tenant, record.endpoint, keys)
    };
    let WebhookRecord { no, id, created_at, updated_at, version, address_version, .. } = record;
    Ok(Webhook { no, id, settings, created_at, updated_at, version, address_version })
}

fn subscription(record: SubscriptionRecord) -> Result<Subscription, RecordError> {
    let SubscriptionRecord { id, event_type, resource_id, is_active, filters, created_at, updated_at } = record;
    let filters = filter(filters.as_deref())?;
    Ok(Subscription { id, event_type, resource_id, is_active, filters, created_at, updated_at })
}

fn filter(written: Option<&RawValue>) -> Result<Option<Arc<Filter>>, RecordError> {
    let Some(written) = written else { return Ok(None) };
    let value = serde_json::from_str(written.get()).map_err(damaged)?;
    let fault = |errors: Vec<FilterError>| damaged(errors.first().map_or_else(String::new, ToString::to_string));
    Filter::compile_stored(&value).map(|filter| Some(Arc::new(filter))).map_err(fault)
}

/// Compiles a stored event type. If its schema can no longer be compiled, the event type stays without a schema, and
/// the log has the reason.
fn event_type(record: &EventTypeRecord, tenant: &Arc<str>) -> Result<EventType, RecordError> {
    let settings: super::catalogue::Settings = serde_json::from_str(record.settings.get()).map_err(damaged)?;
    let definition = EventTypeDefinition::try_new(settings.clone()).unwrap_or_else(|errors| {
        let problem: Vec<_> = errors.iter().map(|b| format!("{}: {}", b.pointer, b.detail)).collect();
        tracing::error!(
            target: "hooktide::registry", tenant = %tenant, event_type = settings.name, problem = problem.join("; "),
            "an event type's schema cannot be used any more: its events are not checked"
        );
        EventTypeDefinition::without_schema(settings)
    });
    Ok(EventType {
        definition: Arc::new(definition),
        tenant: Some(Arc::clone(tenant)),
        managed_by: ManagedBy::Api,
        created_at: record.created_at,
        updated_at: record.updated_at,
        version: record.version,
    })
}

/// The record of a webhook for the store.
pub(super) fn webhook_record(webhook: &Webhook) -> WebhookRecord {
    let raw = |filter: &Option<Arc<Filter>>| filter.as_ref().map(|filter| filter.as_json().to_owned());
    let subscription = |one: &Subscription| SubscriptionRecord {
        id: one.id,
        event_type: one.event_type.clone(),
        resource_id: one.resource_id.clone(),
        is_active: one.is_active,
        filters: raw(&one.filters),
        created_at: one.created_at,
        updated_at: one.updated_at,
    };
    let keys = &webhook.keys;
    WebhookRecord {
        no: webhook.no,
        id: webhook.id,
        tenant: Arc::clone(&webhook.tenant),
        uid: webhook.uid.clone(),
        status: webhook.status,
        endpoint: webhook.endpoint.clone(),
        events: webhook.events.clone(),
        subscriptions: webhook.subscriptions.iter().map(subscription).collect(),
        filters: raw(&webhook.filters),
        workspace_id: webhook.workspace_id.clone(),
        profile: webhook.profile.name().into(),
        secret: keys.current.secret.clone(),
        previous: keys.previous.iter().map(|(key, until)| (key.secret.clone(), *until)).collect(),
        retry_policy: webhook.retry_policy.clone(),
        retry_on: webhook.retry_on,
        timeout: webhook.timeout,
        max_in_flight: webhook.max_in_flight,
        rate_limit: webhook.rate_limit,
        breaker: webhook.breaker.clone(),
        order: webhook.order.clone(),
        headers: webhook.headers.clone(),
        auth: webhook.auth.as_ref().map(|auth| auth.credentials().clone()),
        tls: webhook.tls.as_ref().map(|tls| tls.settings().clone()),
        name: webhook.name.clone(),
        description: webhook.description.clone(),
        user_id: webhook.user_id.clone(),
        metadata: webhook.metadata.clone(),
        created_at: webhook.created_at,
        updated_at: webhook.updated_at,
        version: webhook.version,
        address_version: webhook.address_version,
    }
}

/// The record of a source for the store.
pub(super) fn source_record(source: &Source) -> SourceRecord {
    SourceRecord { settings: source.settings.clone(), identity: Identity::of(source) }
}

/// The record of a tenant's event type for the store.
pub(super) fn event_type_record(tenant: &Arc<str>, event_type: &EventType) -> serde_json::Result<EventTypeRecord> {
    Ok(EventTypeRecord {
        tenant: Arc::clone(tenant),
        name: event_type.name().into(),
        settings: serde_json::value::to_raw_value(&event_type.definition.settings)?,
        created_at: event_type.created_at,
        updated_at: event_type.updated_at,
        version: event_type.version,
    })
}
