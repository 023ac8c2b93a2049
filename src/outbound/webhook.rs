//! The compiled webhook: its endpoint, the events that it receives, its signing keys and its delivery policies.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::profile::Profile;
use super::tls::EndpointTls;
use super::{DeliveryOrder, EndpointAuth, SubjectTemplate};
use crate::filter::{Filter, FilterInput, TooCostly};
use crate::limits::DEFINITION_BASE_BYTES;
use crate::model::{
    BreakerSettings, EventPattern, RateLimit, RetryOn, RetryPolicy, SubscriptionId, Timestamp, WebhookId, WebhookNo,
    WebhookStatus,
};
use crate::signature::SigningKey;

/// A webhook in the snapshot of the registry. The type is immutable, and a change creates a new instance. The settings
/// are accessible through `Deref`: `webhook.status` is `webhook.settings.status`.
#[derive(Debug)]
pub struct Webhook {
    /// The number, the key of everything stored per webhook.
    pub no: WebhookNo,
    /// The public id.
    pub id: WebhookId,
    /// The settings that the user chose.
    pub settings: WebhookSettings,
    /// When the webhook was created.
    pub created_at: Timestamp,
    /// When the webhook was last changed.
    pub updated_at: Timestamp,
    /// The version, which rises with each change. The version is the ETag.
    pub version: u64,
    /// The version at which the URL was set, or the webhook was resumed. The pause and the circuit breaker of an earlier
    /// address do not count.
    pub address_version: u64,
}

impl Deref for Webhook {
    type Target = WebhookSettings;

    fn deref(&self) -> &WebhookSettings {
        &self.settings
    }
}

/// All settings of a webhook that its user chooses. The registry assigns numbers, times and versions.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// The tenant of the webhook.
    pub tenant: Arc<str>,
    /// An id that the user chose, unique within the tenant. The API also finds the webhook by this id.
    pub uid: Option<Box<str>>,
    /// The status, which decides whether events are matched and deliveries sent.
    pub status: WebhookStatus,
    /// The endpoint that receives the deliveries.
    pub endpoint: Endpoint,
    /// The patterns of the event types, without duplicates.
    pub events: Vec<EventPattern>,
    /// Additional event types, each with its own conditions.
    pub subscriptions: Arc<[Subscription]>,
    /// The filter, which applies to `events` and to subscriptions; `None` lets all events pass.
    pub filters: Option<Arc<Filter>>,
    /// Only events of this workspace match; `None` means all events.
    pub workspace_id: Option<Box<str>>,
    /// The profile: the form of deliveries and their signature.
    pub profile: Arc<Profile>,
    /// The secrets and the keys made from them.
    pub keys: SigningKeys,
    /// When and how often to retry; `None` means the configured default.
    pub retry_policy: Option<RetryPolicy>,
    /// Which failures are retried.
    pub retry_on: RetryOn,
    /// The timeout of one attempt, including the response body; `None` means the configured default.
    pub timeout: Option<Duration>,
    /// The maximum number of concurrent deliveries; `None` means the configured default.
    pub max_in_flight: Option<u16>,
    /// The maximum rate of deliveries; `None` means no limit.
    pub rate_limit: Option<RateLimit>,
    /// The circuit breaker settings that differ from the configured settings.
    pub breaker: BreakerSettings,
    /// The order of deliveries.
    pub order: DeliveryOrder,
    /// Additional headers, checked. [`http::HeaderValue::is_sensitive`] is true for values that are secrets.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The credentials for the endpoint, in addition to the signature. Their header is not in `headers`.
    pub auth: Option<Arc<EndpointAuth>>,
    /// The TLS settings of an https endpoint; `None` means the settings of the server.
    pub tls: Option<Arc<EndpointTls>>,
    /// A name for people.
    pub name: Option<Box<str>>,
    /// A description for people.
    pub description: Option<Box<str>>,
    /// The user who owns it.
    pub user_id: Option<Box<str>>,
    /// A raw JSON object that the user chose; `{}` by default.
    pub metadata: Box<str>,
}

/// Units of work of a subscription whose event type does not match.
const SUBSCRIPTION_WORK: u64 = 4;

impl WebhookSettings {
    /// Creates the settings of an active webhook that receives no events yet, with defaults for all other settings.
    pub fn new(tenant: Arc<str>, endpoint: Endpoint, keys: SigningKeys) -> Self {
        Self {
            tenant,
            uid: None,
            status: WebhookStatus::Active,
            endpoint,
            events: Vec::new(),
            subscriptions: Arc::new([]),
            filters: None,
            workspace_id: None,
            profile: Profile::standard(),
            keys,
            retry_policy: None,
            retry_on: RetryOn::ALL,
            timeout: None,
            max_in_flight: None,
            rate_limit: None,
            breaker: BreakerSettings::default(),
            order: DeliveryOrder::Any,
            headers: Vec::new(),
            auth: None,
            tls: None,
            name: None,
            description: None,
            user_id: None,
            metadata: "{}".into(),
        }
    }

    /// Whether an event matches by type and by every condition. The status is not checked. The webhooks that check one
    /// event share the input, so the payload is read once.
    ///
    /// # Errors
    /// [`TooCostly`] if the filters need more work than is left.
    pub fn matches_input(&self, input: &mut FilterInput<'_>) -> Result<bool, TooCostly> {
        let event_fields = *input.event_fields();
        if self.workspace_id.as_deref().is_some_and(|own| event_fields.workspace_id != Some(own)) {
            return Ok(false);
        }
        let mut matches = self.events.iter().any(|pattern| pattern.matches(event_fields.event_type));
        for subscription in self.subscriptions.iter() {
            if matches {
                break;
            }
            input.spend(SUBSCRIPTION_WORK)?;
            matches = subscription.matches_input(input)?;
        }
        match &self.filters {
            Some(filter) if matches => filter.matches_input(input),
            _ => Ok(matches),
        }
    }

    /// The bytes of the compiled regular expressions of all filters, with those of the subscriptions.
    pub fn pattern_bytes(&self) -> usize {
        let subscriptions = self.subscriptions.iter().filter_map(|subscription| subscription.filters.as_ref());
        self.filters.iter().chain(subscriptions).map(|filter| filter.pattern_bytes()).sum()
    }

    /// The bytes of memory that the settings need, about.
    pub fn memory_bytes(&self) -> usize {
        let filter = |filter: &Option<Arc<Filter>>| filter.as_ref().map_or(0, |filter| filter.memory_bytes());
        let subscriptions = self.subscriptions.iter();
        let subscriptions = subscriptions.map(|subscription| DEFINITION_BASE_BYTES / 2 + filter(&subscription.filters));
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        let events = self.events.len() * size_of::<EventPattern>() * 2;
        let texts = self.metadata.len() + self.description.as_ref().map_or(0, |text| text.len());
        DEFINITION_BASE_BYTES
            + filter(&self.filters)
            + subscriptions.sum::<usize>()
            + headers.sum::<usize>()
            + events
            + texts
    }

    /// Whether some deliveries wait for others.
    pub fn is_ordered(&self) -> bool {
        self.order != DeliveryOrder::Any
    }

    /// Whether only the event type decides, because there is no filter, workspace or subscription.
    pub fn is_unconditional(&self) -> bool {
        self.filters.is_none() && self.workspace_id.is_none() && self.subscriptions.is_empty()
    }
}

/// A subscription: a pattern of event types with conditions.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The public id.
    pub id: SubscriptionId,
    /// The pattern of the event types.
    pub event_type: EventPattern,
    /// Only events of this resource match; `None` means all events.
    pub resource_id: Option<Box<str>>,
    /// Whether the subscription is active. An inactive subscription matches nothing.
    pub is_active: bool,
    /// The filter; `None` lets all events pass.
    pub filters: Option<Arc<Filter>>,
    /// When the subscription was created.
    pub created_at: Timestamp,
    /// When the subscription was last changed.
    pub updated_at: Timestamp,
}

impl Subscription {
    /// Whether the subscription is active and matches this event.
    ///
    /// # Errors
    /// [`TooCostly`] if the filter needs more work than is left.
    pub fn matches_input(&self, input: &mut FilterInput<'_>) -> Result<bool, TooCostly> {
        let event_fields = *input.event_fields();
        let matches = self.is_active
            && self.event_type.matches(event_fields.event_type)
            && self.resource_id.as_deref().is_none_or(|own| event_fields.resource_id == Some(own));
        match &self.filters {
            Some(filter) if matches => filter.matches_input(input),
            _ => Ok(matches),
        }
    }
}

/// The endpoint of a webhook: an absolute `http` or `https` URL, or a subject of the event bus. Addresses in the URL were
/// checked by the egress rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL as the user wrote it.
    pub url: Box<str>,
    /// Whether the connection uses TLS.
    pub tls: bool,
    /// The host to resolve: a name in lower case, or an address without brackets.
    pub host: Box<str>,
    /// The port; the default of the scheme if the URL has none.
    pub port: u16,
    /// The `Host` header.
    pub authority: http::HeaderValue,
    /// The path and query for the request line.
    pub target: http::uri::PathAndQuery,
    /// The subject to publish to, if the URL is a `nats://` URL. The endpoint has no host then.
    pub subject: Option<Arc<SubjectTemplate>>,
}

/// The signing keys of a webhook. After a rotation, the previous keys sign in addition to the current key, each until its
/// own expiry.
#[derive(Clone)]
pub struct SigningKeys {
    /// The key that signs every delivery.
    pub current: Arc<SigningKey>,
    /// The previous keys, which also sign until the given times. The newest is first.
    pub previous: Vec<(Arc<SigningKey>, Timestamp)>,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::model::HIDDEN)
    }
}
