//! A webhook as it is compiled: where events go, which, how they are signed, and at what pace.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::profile::Profile;
use super::tls::EndpointTls;
use super::{EndpointAuth, Order};
use crate::filter::{Facts, Filter, Subject};
use crate::model::{
    BreakerSettings, EventPattern, RateLimit, RetryOn, RetryPolicy, SubscriptionId, Timestamp, WebhookId, WebhookNo,
    WebhookStatus,
};
use crate::signature::SigningKey;

/// A webhook as the registry's snapshot holds it. Immutable; a change makes a new one. What its user decides is read through
/// it: `webhook.status` is `webhook.settings.status`.
#[derive(Debug)]
pub struct Webhook {
    /// Its number, the key of everything stored per webhook.
    pub no: WebhookNo,
    /// Its public id.
    pub id: WebhookId,
    /// What its user decides.
    pub settings: WebhookSettings,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Rises by one with each change; the ETag.
    pub version: u64,
}

impl Deref for Webhook {
    type Target = WebhookSettings;

    fn deref(&self) -> &WebhookSettings {
        &self.settings
    }
}

/// Everything of a webhook that its user decides; numbers, times and versions are the registry's.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// The tenant it belongs to.
    pub tenant: Arc<str>,
    /// An id of the user's own, unique within the tenant, under which it is found as well.
    pub uid: Option<Box<str>>,
    /// Whether it is matched and sent to.
    pub status: WebhookStatus,
    /// Where events go.
    pub endpoint: Endpoint,
    /// Which events, each pattern once.
    pub events: Vec<EventPattern>,
    /// Events that `events` does not name, each with conditions of its own.
    pub subscriptions: Arc<[Subscription]>,
    /// Holds for `events` and subscriptions alike; `None`: all.
    pub filters: Option<Arc<Filter>>,
    /// Only events of this workspace; `None`: all.
    pub workspace_id: Option<Box<str>>,
    /// What a delivery looks like and how it is signed.
    pub profile: Arc<Profile>,
    /// The secret and the keys made from it.
    pub keys: SigningKeys,
    /// When and how often to try again; `None`: the configured default.
    pub retry_policy: Option<RetryPolicy>,
    /// Which failures are tried again.
    pub retry_on: RetryOn,
    /// For one attempt, body included; `None`: the configured default.
    pub timeout: Option<Duration>,
    /// Deliveries at once; `None`: the configured default.
    pub max_in_flight: Option<u16>,
    /// Deliveries a second; `None`: no limit.
    pub rate_limit: Option<RateLimit>,
    /// The circuit breaker, where it differs from the configured one.
    pub breaker: BreakerSettings,
    /// Which deliveries wait for which.
    pub order: Order,
    /// Headers of the user's own, checked; values that hold secrets are marked by [`http::HeaderValue::is_sensitive`].
    ///
    /// [`http::HeaderValue::is_sensitive`]: http::HeaderValue::is_sensitive
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// How deliveries show the endpoint who sends them, beside the signature; no header of `headers`.
    pub auth: Option<Arc<EndpointAuth>>,
    /// Whom to trust and as whom to come, of an https endpoint; `None`: the server's own way.
    pub tls: Option<Arc<EndpointTls>>,
    /// A name for people.
    pub name: Option<Box<str>>,
    /// A description for people.
    pub description: Option<Box<str>>,
    /// The user who owns it.
    pub user_id: Option<Box<str>>,
    /// Raw JSON object of the user's own; `{}` without one.
    pub metadata: Box<str>,
}

impl WebhookSettings {
    /// An active webhook that wants no event yet, with defaults for all the rest.
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
            order: Order::Any,
            headers: Vec::new(),
            auth: None,
            tls: None,
            name: None,
            description: None,
            user_id: None,
            metadata: "{}".into(),
        }
    }

    /// Whether an event is wanted, by type and by every condition; the status is not looked at.
    pub fn wants(&self, facts: &Facts<'_>) -> bool {
        self.wants_also(&mut Subject::new(facts))
    }

    /// The same of an event that other webhooks look at too: its payload is read once for all of them.
    pub fn wants_also(&self, subject: &mut Subject<'_>) -> bool {
        let facts = *subject.facts();
        let by_events = self.events.iter().any(|pattern| pattern.matches(facts.event_type));
        self.workspace_id.as_deref().is_none_or(|own| facts.workspace_id == Some(own))
            && (by_events || self.subscriptions.iter().any(|subscription| subscription.wants_also(subject)))
            && self.filters.as_ref().is_none_or(|filter| filter.passes(subject))
    }

    /// Whether some deliveries wait for others.
    pub fn is_ordered(&self) -> bool {
        self.order != Order::Any
    }

    /// Whether a match by type is all there is to it: no filter, workspace or subscription has to be looked at.
    pub fn is_unconditional(&self) -> bool {
        self.filters.is_none() && self.workspace_id.is_none() && self.subscriptions.is_empty()
    }
}

/// Events of one type that a webhook wants under conditions (API section 4).
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its public id.
    pub id: SubscriptionId,
    /// Which events.
    pub event_type: EventPattern,
    /// Only of this resource; `None`: all.
    pub resource_id: Option<Box<str>>,
    /// Whether it is looked at.
    pub is_active: bool,
    /// Which of them; `None`: all.
    pub filters: Option<Arc<Filter>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Subscription {
    /// Whether it is active and wants this event.
    pub fn wants(&self, facts: &Facts<'_>) -> bool {
        self.wants_also(&mut Subject::new(facts))
    }

    /// The same of an event that others look at too.
    pub fn wants_also(&self, subject: &mut Subject<'_>) -> bool {
        let facts = *subject.facts();
        self.is_active
            && self.event_type.matches(facts.event_type)
            && self.resource_id.as_deref().is_none_or(|own| facts.resource_id == Some(own))
            && self.filters.as_ref().is_none_or(|filter| filter.passes(subject))
    }
}

/// Where a webhook's events go: an absolute `http` or `https` URL, checked by the egress rules for literals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As the user wrote it.
    pub url: Box<str>,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host as it is resolved: a name in lower case, or an address without brackets.
    pub host: Box<str>,
    /// Port, the scheme's default where none was given.
    pub port: u16,
    /// The `Host` header.
    pub authority: http::HeaderValue,
    /// Path and query, as the request line has them.
    pub target: http::uri::PathAndQuery,
}

/// A secret with the keys that sign from it. The old secret signs beside the new one until its end.
#[derive(Clone)]
pub struct SigningKeys {
    /// Signs everything.
    pub current: Arc<SigningKey>,
    /// Signs beside it until the given time.
    pub previous: Option<(Arc<SigningKey>, Timestamp)>,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::model::HIDDEN)
    }
}
