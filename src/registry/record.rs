//! A webhook as registry.redb keeps it: versioned JSON, its secrets sealed.
//!
//! A field that is added later is absent in what was written before, so each such field has a default; a record of a later
//! version is refused rather than read in part.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use hyper::http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::endpoint_record::{AuthRecord, EndpointRecord, TlsRecord};
use super::retry_record::RetryRecord;
use super::secret::{OpenError, Vault};
use super::snapshot::Removed;
use crate::filter::{Field, Filter, FilterError};
use crate::model::{
    BreakerSettings, EventPattern, RateLimit, RetryOn, Secret, Timestamp, WebhookId, WebhookNo, WebhookStatus,
    is_secret_header,
};
use crate::outbound::profile::{Profile, Profiles};
use crate::outbound::{Order, SigningKeys, Subscription, Webhook, WebhookSettings};

const VERSION: u16 = 1;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A later program wrote it.
    #[error("of version {0}; this program reads version {VERSION}")]
    Version(u16),
    /// It is not such a record.
    #[error("damaged: {0}")]
    Damaged(Box<str>),
    /// Its secrets do not open.
    #[error("its secrets do not open: {0}")]
    Sealed(#[from] OpenError),
}

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    v: u16,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    status: WebhookStatus,
    #[serde(borrow)]
    endpoint: EndpointRecord<'a>,
    events: Vec<Cow<'a, str>>,
    /// [`Sealed`] as JSON, sealed for this webhook, in base64.
    #[serde(borrow)]
    sealed: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<RetryRecord>,
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
    /// With it `ordered` is set as well, so that a program that does not know it keeps order over all.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    ordered_by: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_on: Option<RetryOn>,
    /// `standard` where there is none.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    profile: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    filters: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    subscriptions: Vec<SubscriptionRecord<'a>>,
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
}

#[derive(Serialize, Deserialize)]
struct SubscriptionRecord<'a> {
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

/// What of a webhook is nobody's to read: its secret, all its headers, as any may carry a password, and how its endpoint
/// knows it.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(borrow)]
    secret: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    previous: Option<(Cow<'a, str>, i64)>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    auth: Option<AuthRecord<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    tls: Option<TlsRecord<'a>>,
}

/// The tombstone of a webhook.
#[derive(Serialize, Deserialize)]
struct RemovedRecord<'a> {
    v: u16,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    removed_ms: i64,
}

/// Binds what is sealed to its place: the row's number, and the webhook's id.
fn place(no: WebhookNo, id: WebhookId) -> [u8; 27] {
    let mut aad = *b"webhook...................\0";
    aad[7..11].copy_from_slice(&no.0.to_le_bytes());
    aad[11..27].copy_from_slice(&id.as_u128().to_le_bytes());
    aad
}

pub(super) fn encode(webhook: &Webhook, vault: &Vault) -> Result<Vec<u8>, serde_json::Error> {
    // A value that came by JSON was text; one that is not cannot be here.
    let headers = &webhook.headers;
    let sealed = Sealed {
        secret: webhook.keys.current.secret.reveal().into(),
        previous: webhook.keys.previous.as_ref().map(|(key, until)| (key.secret.reveal().into(), until.as_millis())),
        headers: headers.iter().map(|(n, v)| (n.as_str().into(), String::from_utf8_lossy(v.as_bytes()))).collect(),
        auth: webhook.auth.as_deref().map(AuthRecord::of),
        tls: webhook.tls.as_deref().map(TlsRecord::of),
    };
    let plain = Zeroizing::new(serde_json::to_vec(&sealed)?);
    let ms = |duration: Duration| duration.as_millis() as u64;
    serde_json::to_vec(&Record {
        v: VERSION,
        id: webhook.id.to_string().into(),
        tenant: (&*webhook.tenant).into(),
        status: webhook.status,
        endpoint: EndpointRecord::of(&webhook.endpoint),
        events: webhook.events.iter().map(|pattern| pattern.to_string().into()).collect(),
        sealed: BASE64.encode(&vault.seal(&place(webhook.no, webhook.id), &plain)).into(),
        retry: webhook.retry_policy.as_ref().map(RetryRecord::of),
        timeout_ms: webhook.timeout.map(ms),
        max_in_flight: webhook.max_in_flight,
        breaker: (webhook.breaker != BreakerSettings::default()).then(|| webhook.breaker.clone()),
        ordered: webhook.is_ordered(),
        ordered_by: webhook.order.field().map(|field| field.as_str().into()),
        retry_on: Some(webhook.retry_on).filter(|set| *set != RetryOn::ALL),
        profile: Some(webhook.profile.name()).filter(|name| *name != Profile::STANDARD).map(Cow::from),
        filters: webhook.filters.as_deref().map(Filter::as_json),
        subscriptions: webhook.subscriptions.iter().map(SubscriptionRecord::of).collect(),
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
    })
}

/// Reads a row. A filter or a subscription that this program cannot compile is damage: without it the webhook would get
/// events that it did not ask for.
pub(super) fn decode(
    no: WebhookNo,
    bytes: &[u8],
    vault: &Vault,
    profiles: &Profiles,
    tenant: impl FnOnce(&str) -> Arc<str>,
) -> Result<Webhook, RecordError> {
    let record: Record<'_> = serde_json::from_slice(bytes).map_err(|e| version_or_damage(bytes, &e))?;
    if record.v != VERSION {
        return Err(RecordError::Version(record.v));
    }
    let id: WebhookId = record.id.parse().map_err(damaged)?;
    let sealed = BASE64.decode(record.sealed.as_bytes()).map_err(damaged)?;
    let plain = vault.open(&place(no, id), &sealed)?;
    let sealed: Sealed<'_> = serde_json::from_slice(&plain).map_err(damaged)?;
    let ms = Duration::from_millis;
    let profile = record.profile.as_deref().map_or_else(Profile::standard, |name| profiles.resolve(name));
    let keys = keys(&sealed, &profile);
    let (created_at, updated_at) =
        (Timestamp::from_millis(record.created_ms), Timestamp::from_millis(record.updated_ms));
    let settings = WebhookSettings {
        uid: record.uid.map(Into::into),
        status: record.status,
        events: record
            .events
            .iter()
            .map(|text| EventPattern::try_new(text).map_err(damaged))
            .collect::<Result<_, _>>()?,
        subscriptions: record.subscriptions.iter().map(SubscriptionRecord::read).collect::<Result<_, _>>()?,
        filters: filter(record.filters)?,
        workspace_id: record.workspace_id.map(Into::into),
        profile,
        retry_policy: record.retry.map(RetryRecord::policy),
        retry_on: record.retry_on.unwrap_or(RetryOn::ALL),
        timeout: record.timeout_ms.map(ms),
        max_in_flight: record.max_in_flight,
        rate_limit: record.rate.map(|(per_second, burst)| RateLimit { per_second, burst }),
        breaker: record.breaker.unwrap_or_default(),
        order: order(record.ordered, record.ordered_by.as_deref())?,
        headers: headers(&sealed)?,
        auth: sealed.auth.map(AuthRecord::read).transpose()?.map(Arc::new),
        tls: sealed.tls.map(TlsRecord::read),
        name: record.name.map(Into::into),
        description: record.description.map(Into::into),
        user_id: record.user_id.map(Into::into),
        metadata: record.metadata.get().into(),
        tenant: tenant(&record.tenant),
        endpoint: record.endpoint.read()?,
        keys,
    };
    Ok(Webhook { no, id, settings, created_at, updated_at, version: record.version })
}

impl<'a> SubscriptionRecord<'a> {
    fn of(subscription: &'a Subscription) -> Self {
        Self {
            id: subscription.id.to_string().into(),
            event_type: subscription.event_type.to_string().into(),
            resource_id: subscription.resource_id.as_deref().map(Cow::from),
            is_active: subscription.is_active,
            filters: subscription.filters.as_deref().map(Filter::as_json),
            created_ms: subscription.created_at.as_millis(),
            updated_ms: subscription.updated_at.as_millis(),
        }
    }

    fn read(&self) -> Result<Subscription, RecordError> {
        Ok(Subscription {
            id: self.id.parse().map_err(damaged)?,
            event_type: EventPattern::try_new(&self.event_type).map_err(damaged)?,
            resource_id: self.resource_id.as_deref().map(Into::into),
            is_active: self.is_active,
            filters: filter(self.filters)?,
            created_at: Timestamp::from_millis(self.created_ms),
            updated_at: Timestamp::from_millis(self.updated_ms),
        })
    }
}

fn order(ordered: bool, by: Option<&str>) -> Result<Order, RecordError> {
    match by {
        Some(path) => Field::try_new(path).map(|field| Order::By(Arc::new(field))).map_err(damaged),
        None if ordered => Ok(Order::Acceptance),
        None => Ok(Order::Any),
    }
}

fn filter(written: Option<&RawValue>) -> Result<Option<Arc<Filter>>, RecordError> {
    let Some(written) = written else { return Ok(None) };
    let value = serde_json::from_str(written.get()).map_err(damaged)?;
    let fault = |errors: Vec<FilterError>| damaged(errors.first().map_or_else(String::new, ToString::to_string));
    Filter::compile(&value).map(|filter| Some(Arc::new(filter))).map_err(fault)
}

/// A secret that its profile cannot use any more is kept with the reason: the profile may come back.
fn keys(sealed: &Sealed<'_>, profile: &Profile) -> SigningKeys {
    let key = |text: &str| Arc::new(profile.stored_key(Secret::new(text)));
    let previous = sealed.previous.as_ref().map(|(text, until)| (key(text), Timestamp::from_millis(*until)));
    SigningKeys { current: key(&sealed.secret), previous }
}

fn headers(sealed: &Sealed<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, RecordError> {
    let header = |(name, value): &(Cow<'_, str>, Cow<'_, str>)| {
        let name = HeaderName::try_from(&**name).map_err(damaged)?;
        let mut value = HeaderValue::from_str(value).map_err(damaged)?;
        value.set_sensitive(is_secret_header(name.as_str()));
        Ok((name, value))
    };
    sealed.headers.iter().map(header).collect()
}

pub(super) fn encode_removed(removed: &Removed) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&RemovedRecord {
        v: VERSION,
        id: removed.id.to_string().into(),
        tenant: (&*removed.tenant).into(),
        removed_ms: removed.removed_at.as_millis(),
    })
}

pub(super) fn decode_removed(
    no: WebhookNo,
    bytes: &[u8],
    tenant: impl FnOnce(&str) -> Arc<str>,
) -> Result<Removed, RecordError> {
    let record: RemovedRecord<'_> = serde_json::from_slice(bytes).map_err(|e| version_or_damage(bytes, &e))?;
    if record.v != VERSION {
        return Err(RecordError::Version(record.v));
    }
    Ok(Removed {
        no,
        id: record.id.parse().map_err(damaged)?,
        tenant: tenant(&record.tenant),
        removed_at: Timestamp::from_millis(record.removed_ms),
    })
}

/// A later version may not even parse as ours; its number says so better than the parser.
pub(super) fn version_or_damage(bytes: &[u8], error: &serde_json::Error) -> RecordError {
    #[derive(Deserialize)]
    struct Version {
        v: u16,
    }
    match serde_json::from_slice::<Version>(bytes) {
        Ok(Version { v }) if v != VERSION => RecordError::Version(v),
        _ => damaged(error),
    }
}

pub(super) fn damaged(error: impl std::fmt::Display) -> RecordError {
    RecordError::Damaged(error.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_before_there_were_auth_and_tls_is_read_and_written_as_it_was() {
        let before = r#"{"secret":"whsec_x","previous":["whsec_y",7],"headers":[["x-team","a"]]}"#;
        let sealed: Sealed<'_> = serde_json::from_str(before).unwrap();
        assert!(sealed.auth.is_none() && sealed.tls.is_none());
        assert_eq!(serde_json::to_string(&sealed).unwrap(), before);
    }
}
