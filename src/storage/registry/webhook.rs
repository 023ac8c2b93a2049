//! The row of a webhook: JSON, with encrypted secrets. Also the tombstone of a removed webhook.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::endpoint::{AuthRow, EndpointRow, TlsRow};
use super::record::{RecordError, VERSION, damaged, parse, versioned};
use super::retry::RetryRow;
use super::vault::Vault;
use crate::filter::EventField;
use crate::model::{
    BreakerSettings, EventPattern, RateLimit, RetryOn, RetryPolicy, Secret, SubscriptionId, Timestamp, WebhookId,
    WebhookNo, WebhookStatus, is_secret_header,
};
use crate::outbound::profile::Profile;
use crate::outbound::tls::TlsSettings;
use crate::outbound::{Credentials, DeliveryOrder, Endpoint};

/// A webhook as it is stored: its filters as JSON, its profile by name, its secrets as text.
#[derive(Debug, Clone)]
pub struct WebhookRecord {
    /// The number, which is the key of the row.
    pub no: WebhookNo,
    /// The public id.
    pub id: WebhookId,
    /// The tenant.
    pub tenant: Arc<str>,
    /// The id that the user chose.
    pub uid: Option<Box<str>>,
    /// The status, which decides whether events are matched and sent.
    pub status: WebhookStatus,
    /// The endpoint that events are sent to.
    pub endpoint: Endpoint,
    /// The patterns of the event types to send.
    pub events: Vec<EventPattern>,
    /// Subscriptions: further events, with their own conditions.
    pub subscriptions: Vec<SubscriptionRecord>,
    /// The filter as JSON.
    pub filters: Option<Box<RawValue>>,
    /// Only events of this workspace are sent.
    pub workspace_id: Option<Box<str>>,
    /// The name of the profile.
    pub profile: Box<str>,
    /// The signing secret.
    pub secret: Secret,
    /// The previous signing secrets, and until when they also sign. The newest is first.
    pub previous: Vec<(Secret, Timestamp)>,
    /// The retry policy, if the webhook has its own.
    pub retry_policy: Option<RetryPolicy>,
    /// The failures that are retried.
    pub retry_on: RetryOn,
    /// The timeout of an attempt, if the webhook has its own.
    pub timeout: Option<Duration>,
    /// The maximum number of concurrent deliveries, if the webhook has its own.
    pub max_in_flight: Option<u16>,
    /// The maximum number of deliveries per second.
    pub rate_limit: Option<RateLimit>,
    /// The settings of the circuit breaker.
    pub breaker: BreakerSettings,
    /// The order of deliveries.
    pub order: DeliveryOrder,
    /// Additional headers of each delivery.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The credentials for the endpoint.
    pub auth: Option<Credentials>,
    /// The TLS settings for the endpoint.
    pub tls: Option<TlsSettings>,
    /// The display name.
    pub name: Option<Box<str>>,
    /// The description for display.
    pub description: Option<Box<str>>,
    /// The caller's id of a user.
    pub user_id: Option<Box<str>>,
    /// The user's metadata, a JSON object.
    pub metadata: Box<str>,
    /// When the webhook was created.
    pub created_at: Timestamp,
    /// When the webhook was last changed.
    pub updated_at: Timestamp,
    /// The version. Increases with each change.
    pub version: u64,
    /// The version at which the URL was set, or the webhook was resumed.
    pub address_version: u64,
}

/// A subscription of a webhook as it is stored.
#[derive(Debug, Clone)]
pub struct SubscriptionRecord {
    /// The public id.
    pub id: SubscriptionId,
    /// The pattern of the event types.
    pub event_type: EventPattern,
    /// Only events of this resource.
    pub resource_id: Option<Box<str>>,
    /// Whether the subscription is active.
    pub is_active: bool,
    /// The filter as JSON.
    pub filters: Option<Box<RawValue>>,
    /// When the subscription was created.
    pub created_at: Timestamp,
    /// When the subscription was last changed.
    pub updated_at: Timestamp,
}

/// The tombstone of a removed webhook. Its number and id are never reused, and its deliveries in the history still
/// belong to its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedWebhook {
    /// The number.
    pub no: WebhookNo,
    /// The public id.
    pub id: WebhookId,
    /// The tenant it belonged to.
    pub tenant: Arc<str>,
    /// When the webhook was removed.
    pub removed_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    v: u16,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    status: WebhookStatus,
    #[serde(borrow)]
    endpoint: EndpointRow<'a>,
    events: Vec<Cow<'a, str>>,
    /// [`SealedWebhook`] as JSON, encrypted for this webhook, in base64.
    #[serde(borrow)]
    sealed: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<RetryRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<(f64, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    breaker: Option<BreakerSettings>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ordered: bool,
    /// If it is set, `ordered` is set too, so that an older program without this field keeps the order over all events.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    ordered_by: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_on: Option<RetryOn>,
    /// Absent: `standard`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    profile: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    filters: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    subscriptions: Vec<SubscriptionRow<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workspace_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    metadata: &'a RawValue,
    created_ms: i64,
    updated_ms: i64,
    version: u64,
    #[serde(default)]
    address_version: u64,
}

#[derive(Serialize, Deserialize)]
struct SubscriptionRow<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    resource_id: Option<Cow<'a, str>>,
    is_active: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    filters: Option<&'a RawValue>,
    created_ms: i64,
    updated_ms: i64,
}

/// The encrypted part of a webhook: its secrets, all its headers, because any may contain a password, and the
/// credentials and TLS settings of its endpoint.
#[derive(Serialize, Deserialize)]
struct SealedWebhook<'a> {
    #[serde(borrow)]
    secret: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    previous: Option<(Cow<'a, str>, i64)>,
    /// The previous secrets before `previous`. An older program drops them.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    older: Vec<(Cow<'a, str>, i64)>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    auth: Option<AuthRow<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    tls: Option<TlsRow<'a>>,
}

#[derive(Serialize, Deserialize)]
struct RemovedRow<'a> {
    v: u16,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    removed_ms: i64,
}

/// Returns the additional authenticated data that binds encrypted data to the row's number and the webhook's id.
fn sealing_context(no: WebhookNo, id: WebhookId) -> [u8; 27] {
    let mut aad = *b"webhook...................\0";
    aad[7..11].copy_from_slice(&no.0.to_le_bytes());
    aad[11..27].copy_from_slice(&id.as_u128().to_le_bytes());
    aad
}

versioned!(Row<'_>, RemovedRow<'_>);

pub(super) fn encode(webhook: &WebhookRecord, vault: &Vault) -> Result<Vec<u8>, serde_json::Error> {
    // Header values come from JSON, so they are text and the lossy conversion changes nothing.
    let headers = &webhook.headers;
    let mut previous = webhook.previous.iter().map(|(secret, until)| (secret.reveal().into(), until.as_millis()));
    let sealed = SealedWebhook {
        secret: webhook.secret.reveal().into(),
        previous: previous.next(),
        older: previous.collect(),
        headers: headers.iter().map(|(n, v)| (n.as_str().into(), String::from_utf8_lossy(v.as_bytes()))).collect(),
        auth: webhook.auth.as_ref().map(AuthRow::of),
        tls: webhook.tls.as_ref().map(TlsRow::of),
    };
    let plain = Zeroizing::new(serde_json::to_vec(&sealed)?);
    let ms = |duration: Duration| duration.as_millis() as u64;
    serde_json::to_vec(&Row {
        v: VERSION,
        id: webhook.id.to_string().into(),
        tenant: (&*webhook.tenant).into(),
        status: webhook.status,
        endpoint: EndpointRow::of(&webhook.endpoint),
        events: webhook.events.iter().map(|pattern| pattern.to_string().into()).collect(),
        sealed: BASE64.encode(&vault.encrypt(&sealing_context(webhook.no, webhook.id), &plain)).into(),
        retry: webhook.retry_policy.as_ref().map(RetryRow::of),
        timeout_ms: webhook.timeout.map(ms),
        max_in_flight: webhook.max_in_flight,
        breaker: (webhook.breaker != BreakerSettings::default()).then(|| webhook.breaker.clone()),
        ordered: webhook.order != DeliveryOrder::Any,
        ordered_by: webhook.order.field().map(|field| field.as_str().into()),
        retry_on: Some(webhook.retry_on).filter(|set| *set != RetryOn::ALL),
        profile: Some(&*webhook.profile).filter(|name| *name != Profile::STANDARD).map(Cow::from),
        filters: webhook.filters.as_deref(),
        subscriptions: webhook.subscriptions.iter().map(SubscriptionRow::of).collect(),
        workspace_id: webhook.workspace_id.as_deref().map(Cow::from),
        uid: webhook.uid.as_deref().map(Cow::from),
        rate: webhook.rate_limit.map(|rate| (rate.per_second, rate.burst)),
        name: webhook.name.as_deref().map(Cow::from),
        description: webhook.description.as_deref().map(Cow::from),
        user_id: webhook.user_id.as_deref().map(Cow::from),
        metadata: serde_json::from_str(&webhook.metadata)?,
        created_ms: webhook.created_at.as_millis(),
        updated_ms: webhook.updated_at.as_millis(),
        version: webhook.version,
        address_version: webhook.address_version,
    })
}

pub(super) fn decode(no: WebhookNo, bytes: &[u8], vault: &Vault) -> Result<WebhookRecord, RecordError> {
    let row: Row<'_> = parse(bytes)?;
    let id: WebhookId = row.id.parse().map_err(damaged)?;
    let sealed = BASE64.decode(row.sealed.as_bytes()).map_err(damaged)?;
    let plain = vault.decrypt(&sealing_context(no, id), &sealed)?;
    let sealed: SealedWebhook<'_> = serde_json::from_slice(&plain).map_err(damaged)?;
    let previous = sealed.previous.iter().chain(&sealed.older);
    Ok(WebhookRecord {
        no,
        id,
        tenant: (*row.tenant).into(),
        uid: row.uid.map(Into::into),
        status: row.status,
        events: row.events.iter().map(|text| EventPattern::try_new(text).map_err(damaged)).collect::<Result<_, _>>()?,
        subscriptions: row.subscriptions.iter().map(SubscriptionRow::read).collect::<Result<_, _>>()?,
        filters: row.filters.map(ToOwned::to_owned),
        workspace_id: row.workspace_id.map(Into::into),
        profile: row.profile.as_deref().unwrap_or(Profile::STANDARD).into(),
        secret: Secret::new(&*sealed.secret),
        previous: previous.map(|(text, until)| (Secret::new(&**text), Timestamp::from_millis(*until))).collect(),
        retry_policy: row.retry.map(RetryRow::policy),
        retry_on: row.retry_on.unwrap_or(RetryOn::ALL),
        timeout: row.timeout_ms.map(Duration::from_millis),
        max_in_flight: row.max_in_flight,
        rate_limit: row.rate.map(|(per_second, burst)| RateLimit { per_second, burst }),
        breaker: row.breaker.unwrap_or_default(),
        order: order(row.ordered, row.ordered_by.as_deref())?,
        headers: headers(&sealed)?,
        auth: sealed.auth.map(AuthRow::read).transpose()?,
        tls: sealed.tls.map(TlsRow::read),
        name: row.name.map(Into::into),
        description: row.description.map(Into::into),
        user_id: row.user_id.map(Into::into),
        metadata: row.metadata.get().into(),
        endpoint: row.endpoint.read()?,
        created_at: Timestamp::from_millis(row.created_ms),
        updated_at: Timestamp::from_millis(row.updated_ms),
        version: row.version,
        address_version: row.address_version,
    })
}

impl<'a> SubscriptionRow<'a> {
    fn of(subscription: &'a SubscriptionRecord) -> Self {
        Self {
            id: subscription.id.to_string().into(),
            event_type: subscription.event_type.to_string().into(),
            resource_id: subscription.resource_id.as_deref().map(Cow::from),
            is_active: subscription.is_active,
            filters: subscription.filters.as_deref(),
            created_ms: subscription.created_at.as_millis(),
            updated_ms: subscription.updated_at.as_millis(),
        }
    }

    fn read(&self) -> Result<SubscriptionRecord, RecordError> {
        Ok(SubscriptionRecord {
            id: self.id.parse().map_err(damaged)?,
            event_type: EventPattern::try_new(&self.event_type).map_err(damaged)?,
            resource_id: self.resource_id.as_deref().map(Into::into),
            is_active: self.is_active,
            filters: self.filters.map(ToOwned::to_owned),
            created_at: Timestamp::from_millis(self.created_ms),
            updated_at: Timestamp::from_millis(self.updated_ms),
        })
    }
}

fn order(ordered: bool, by: Option<&str>) -> Result<DeliveryOrder, RecordError> {
    match by {
        Some(path) => EventField::try_new(path).map(|field| DeliveryOrder::ByField(Arc::new(field))).map_err(damaged),
        None if ordered => Ok(DeliveryOrder::Acceptance),
        None => Ok(DeliveryOrder::Any),
    }
}

fn headers(sealed: &SealedWebhook<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, RecordError> {
    let header = |(name, value): &(Cow<'_, str>, Cow<'_, str>)| {
        let name = HeaderName::try_from(&**name).map_err(damaged)?;
        let mut value = HeaderValue::from_str(value).map_err(damaged)?;
        value.set_sensitive(is_secret_header(name.as_str()));
        Ok((name, value))
    };
    sealed.headers.iter().map(header).collect()
}

pub(super) fn encode_removed(removed: &RemovedWebhook) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&RemovedRow {
        v: VERSION,
        id: removed.id.to_string().into(),
        tenant: (&*removed.tenant).into(),
        removed_ms: removed.removed_at.as_millis(),
    })
}

pub(super) fn decode_removed(no: WebhookNo, bytes: &[u8]) -> Result<RemovedWebhook, RecordError> {
    let row: RemovedRow<'_> = parse(bytes)?;
    Ok(RemovedWebhook {
        no,
        id: row.id.parse().map_err(damaged)?,
        tenant: (*row.tenant).into(),
        removed_at: Timestamp::from_millis(row.removed_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_row_without_auth_and_tls_is_read_and_written_unchanged() {
        let before = r#"{"secret":"whsec_x","previous":["whsec_y",7],"headers":[["x-team","a"]]}"#;
        let sealed: SealedWebhook<'_> = serde_json::from_str(before).unwrap();
        assert!(sealed.auth.is_none() && sealed.tls.is_none());
        assert_eq!(serde_json::to_string(&sealed).unwrap(), before);
    }
}
