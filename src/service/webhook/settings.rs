//! Reads the document that creates or changes a webhook into the settings that the registry stores.
//!
//! A new field of a webhook must be read in [`read`], which lists every field of [`WebhookSettings`]; a missing field
//! is a compile error. The name of the field must be added to `ALLOWED`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::auth;
use super::document::WebhookDocument;
use super::keys::{keys, profile};
use super::policy::{RetryDefaults, order, rate_limit};
use crate::limits::URL_BYTES_MAX;
use crate::model::{
    DEFAULT_TENANT, FieldError, Principal, RetryOn, RetryPolicy, TENANT_NAME_ALLOWED, TenantSettings, WebhookStatus,
    is_tenant_name,
};
use crate::outbound::profile::Profile;
use crate::outbound::tls::EndpointTls;
use crate::outbound::{BUS_HEADER_PREFIX, Endpoint, EndpointAuth, SUBJECT_SCHEME, Webhook, WebhookSettings};
use crate::registry::Registry;
use crate::service::fields::{DESCRIPTION_CHARS_MAX, DocumentFields, FieldUpdate, NAME_CHARS_MAX, pointer, unknown};
use crate::service::reference::{UID_BYTES_MAX, is_uid};
use crate::service::{CheckUrl, Error, ErrorKind};

const TIMEOUT_SECONDS: std::ops::RangeInclusive<f64> = 1.0..=300.0;
const IN_FLIGHT: std::ops::RangeInclusive<u64> = 1..=256;
const ALLOWED: &str = "url, uid, events, filters, workspace_id, secret, name, description, status, active, is_active, \
    profile, key_type, retry_policy, max_retries, timeout_seconds, rate_limit_rps, burst, max_in_flight, breaker, ordered, ordered_by, \
    headers, auth, tls, metadata, user_id, tenant, org_id";
/// Fields that a client may send back unchanged.
const READ_ONLY: [&str; 5] = ["id", "created_at", "secret_hint", "public_key", "previous_secret_ends_at"];
/// Fields that a client may send back and that may have changed meanwhile. A client that must detect changes uses
/// `If-Match`.
const IGNORED: [&str; 5] = ["updated_at", "subscription_count", "warnings", "paused_until", "pause_reason"];

/// What a document is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// It creates a webhook.
    Create,
    /// It replaces a webhook. Absent fields return to their defaults, except secret, status, owner, and the uid that
    /// older clients use to refer to the webhook.
    Replace(&'a Webhook),
    /// It patches a webhook. Absent fields keep their values.
    Patch(&'a Webhook),
}

impl<'a> Purpose<'a> {
    /// The present webhook.
    pub(super) fn current(self) -> Option<&'a Webhook> {
        match self {
            Self::Create => None,
            Self::Replace(webhook) | Self::Patch(webhook) => Some(webhook),
        }
    }

    /// The webhook whose values absent fields keep.
    pub(super) fn base(self) -> Option<&'a Webhook> {
        match self {
            Self::Patch(webhook) => Some(webhook),
            Self::Create | Self::Replace(_) => None,
        }
    }
}

/// What the fields are validated against.
pub(super) struct SettingsContext<'a> {
    pub(super) check_url: &'a CheckUrl,
    pub(super) default_retry: &'a RetryPolicy,
    pub(super) principal: &'a Principal,
    /// Profiles and the defaults of tenants.
    pub(super) registry: Arc<Registry>,
}

/// Reads a document.
///
/// # Errors
/// All invalid fields, by JSON pointer.
pub(super) fn read(
    body: Map<String, Value>,
    purpose: Purpose<'_>,
    rules: &SettingsContext<'_>,
) -> Result<WebhookSettings, Error> {
    let mut fields = DocumentFields::new(body);
    let base = purpose.base();
    if let Some(current) = purpose.current() {
        check_read_only(&mut fields, current, rules);
    }
    check_bus_rights(&fields, purpose.current(), rules.principal)?;
    let (endpoint, egress_only) = endpoint(&mut fields, base, rules.check_url);
    let tenant = tenant(&mut fields, purpose, rules.principal);
    let status = status(&mut fields, purpose);
    let profile = profile(&mut fields, purpose, tenant.as_deref(), &rules.registry);
    let keys = profile.as_deref().and_then(|profile| keys(&mut fields, purpose.current(), profile));
    let defaults = tenant.as_deref().map(|tenant| rules.registry.tenant_settings(tenant)).unwrap_or_default();
    let uid = uid(&mut fields).or(purpose.current().and_then(|w| w.uid.clone()));
    let events = fields.events().or(base.map(|w| w.events.clone())).unwrap_or_default();
    let name = fields.text("name", NAME_CHARS_MAX).or(base.and_then(|w| w.name.clone()));
    let description = fields.text("description", DESCRIPTION_CHARS_MAX).or(base.and_then(|w| w.description.clone()));
    let filters = fields.filters().or(base.map(|w| w.filters.clone())).flatten();
    let workspace_id = fields.id("workspace_id").or(base.and_then(|w| w.workspace_id.clone()));
    let user_id = fields.id("user_id").or(owner(purpose, rules.principal));
    if !rules.principal.sees_user(user_id.as_deref()) {
        fields.wrong("/user_id", "expected your own: in this tenant everybody sees only the webhooks of his own");
    }
    let (retry_policy, retry_on) = retries(&mut fields, base, &defaults, rules.default_retry);
    let timeout = timeout(&mut fields, base.and_then(|w| w.timeout));
    let rate_limit = rate_limit(&mut fields, base.and_then(|w| w.rate_limit));
    let max_in_flight = max_in_flight(&mut fields, base.and_then(|w| w.max_in_flight));
    let breaker = fields.breaker(base.map(|w| &w.breaker)).or(base.map(|w| w.breaker.clone())).unwrap_or_default();
    let order = order(&mut fields, base.map(|w| &w.order));
    let headers = headers(&mut fields, purpose, profile.as_deref());
    let auth = auth(&mut fields, purpose, profile.as_deref(), &headers);
    if endpoint.as_ref().is_some_and(|endpoint| endpoint.subject.is_some()) {
        check_bus_fields(&mut fields, auth.as_deref(), &headers);
    }
    let tls = tls(&mut fields, purpose, endpoint.as_ref());
    let metadata = fields.metadata(base.map(|w| &*w.metadata)).or(base.map(|w| w.metadata.clone()));
    let DocumentFields { unread, mut errors } = fields;
    errors.extend(unknown(&unread, ALLOWED));
    match (endpoint, tenant, profile.zip(keys)) {
        (Some(endpoint), Some(tenant), Some((profile, keys))) if errors.is_empty() => Ok(WebhookSettings {
            uid,
            status,
            profile,
            events,
            subscriptions: purpose.current().map_or_else(|| [].into(), |w| Arc::clone(&w.subscriptions)),
            filters,
            workspace_id,
            retry_policy,
            retry_on,
            timeout,
            max_in_flight,
            rate_limit,
            breaker,
            order,
            headers,
            auth,
            tls,
            name,
            description,
            user_id,
            metadata: metadata.unwrap_or_else(|| "{}".into()),
            tenant,
            endpoint,
            keys,
        }),
        _ => Err(refusal(errors, egress_only)),
    }
}

/// Reads the retry policy and the failures that are retried. The tenant's defaults apply to absent fields.
fn retries(
    fields: &mut DocumentFields,
    base: Option<&Webhook>,
    defaults: &TenantSettings,
    default: &RetryPolicy,
) -> (Option<RetryPolicy>, RetryOn) {
    let retries = RetryDefaults {
        present: base.and_then(|w| w.retry_policy.as_ref()),
        present_on: base.map_or(RetryOn::ALL, |w| w.retry_on),
        absent: base.map_or(defaults.retry_policy.as_ref(), |w| w.retry_policy.as_ref()),
        null: defaults.retry_policy.as_ref(),
        default,
    };
    retries.read(fields)
}

fn timeout(fields: &mut DocumentFields, present: Option<Duration>) -> Option<Duration> {
    match fields.number("timeout_seconds", TIMEOUT_SECONDS) {
        FieldUpdate::Value(seconds) => Some(Duration::from_millis((seconds * 1000.0).round() as u64)),
        FieldUpdate::Null => None,
        FieldUpdate::Absent => present,
    }
}

fn max_in_flight(fields: &mut DocumentFields, present: Option<u16>) -> Option<u16> {
    match fields.whole("max_in_flight", IN_FLIGHT) {
        FieldUpdate::Value(n) => Some(n as u16),
        FieldUpdate::Null => None,
        FieldUpdate::Absent => present,
    }
}

/// Reads the custom headers. The profile's own headers are refused.
fn headers(
    fields: &mut DocumentFields,
    purpose: Purpose<'_>,
    profile: Option<&Profile>,
) -> Vec<(HeaderName, HeaderValue)> {
    let base = purpose.base();
    let present = purpose.current().map(|w| &*w.headers).unwrap_or_default();
    let headers = fields.headers(present, base.is_some()).or(base.map(|w| w.headers.clone())).unwrap_or_default();
    for (name, _) in headers.iter().filter(|(name, _)| profile.is_some_and(|profile| profile.sets_header(name))) {
        fields.wrong(format!("/headers/{name}"), "the webhook's profile sets this header");
    }
    headers
}

/// Reads the credentials. Their header must be set neither by the profile nor by `headers`.
fn auth(
    fields: &mut DocumentFields,
    purpose: Purpose<'_>,
    profile: Option<&Profile>,
    headers: &[(HeaderName, HeaderValue)],
) -> Option<Arc<EndpointAuth>> {
    let base = purpose.base();
    let present = purpose.current().and_then(|w| w.auth.as_deref());
    let auth = fields.auth(present, base.is_some()).or(base.and_then(|w| w.auth.clone()))?;
    let (at, (name, _)) = (auth::place(&auth), auth.header());
    if profile.is_some_and(|profile| profile.sets_header(name)) {
        fields.wrong(at, format!("the webhook's profile sets the header {name}"));
    }
    if headers.iter().any(|(other, _)| other == name) {
        fields.wrong(at, format!("sets the header {name}, and so do the headers; leave it out of one of them"));
        fields.wrong(format!("/headers/{name}"), "auth sets this header; leave it out of one of them");
    }
    Some(auth)
}

/// Reads the TLS settings. The endpoint must use https.
fn tls(fields: &mut DocumentFields, purpose: Purpose<'_>, endpoint: Option<&Endpoint>) -> Option<Arc<EndpointTls>> {
    let base = purpose.base();
    let present = purpose.current().and_then(|w| w.tls.as_ref());
    let tls = fields.tls(present, base.is_some()).or(base.map(|w| w.tls.clone())).flatten()?;
    if endpoint.is_some_and(|endpoint| !endpoint.tls) {
        fields.wrong("/tls", "is for an https endpoint, and this one is not: expected an https url, or no tls");
    }
    Some(tls)
}

fn refusal(errors: Vec<FieldError>, egress: bool) -> Error {
    if egress && let [error] = errors.as_slice() {
        let mut problem = Error::new(ErrorKind::EgressRefused, error.detail.clone());
        problem.errors = errors;
        return problem;
    }
    Error::invalid_body(errors)
}

/// Removes fields that a client may send back as it read them. Fields that the server sets must be unchanged.
fn check_read_only(fields: &mut DocumentFields, current: &Webhook, rules: &SettingsContext<'_>) {
    for key in IGNORED {
        fields.unread.remove(key);
    }
    let shown = serde_json::to_value(WebhookDocument::of(current, rules.default_retry)).unwrap_or_default();
    for key in READ_ONLY {
        if let Some(given) = fields.unread.remove(key)
            && shown.get(key) != Some(&given)
        {
            fields.wrong(pointer(key), "is set by the server and cannot be changed");
        }
    }
}

/// Only a caller of tenant `*` may decide that a webhook publishes on the event bus, or no longer does: the bus belongs
/// to the operator.
fn check_bus_rights(fields: &DocumentFields, current: Option<&Webhook>, caller: &Principal) -> Result<(), Error> {
    let Some(url) = fields.unread.get("url").and_then(Value::as_str) else { return Ok(()) };
    let current = current.map(|webhook| &*webhook.endpoint.url);
    let is_bus = |url: &str| url.starts_with(SUBJECT_SCHEME);
    if caller.tenant.is_none() || current == Some(url) || !(is_bus(url) || current.is_some_and(is_bus)) {
        return Ok(());
    }
    let detail =
        "only a key of tenant * may create a webhook with a nats:// URL, or change a URL that is or becomes one";
    Err(Error::new(ErrorKind::Forbidden, detail))
}

/// Refuses what a webhook of the event bus cannot have.
fn check_bus_fields(fields: &mut DocumentFields, auth: Option<&EndpointAuth>, headers: &[(HeaderName, HeaderValue)]) {
    if auth.is_some() {
        fields.wrong("/auth", "is for an http or https endpoint; the section [nats] has the credentials of the bus");
    }
    for (name, _) in headers.iter().filter(|(name, _)| name.as_str().starts_with(BUS_HEADER_PREFIX)) {
        fields.wrong(format!("/headers/{name}"), "headers that begin with Nats- are commands to the broker");
    }
}

/// Reads the endpoint. The second value is `true` if only the egress rules refuse it.
fn endpoint(fields: &mut DocumentFields, base: Option<&Webhook>, check: &CheckUrl) -> (Option<Endpoint>, bool) {
    let mut egress = false;
    let before = fields.errors.len();
    let given = fields.take("url", |value| match value {
        Value::String(url) if url.len() <= URL_BYTES_MAX => check(&url).map_err(|problem| {
            egress = problem.egress;
            problem.detail
        }),
        _ => Err(format!("expected an http or https URL of at most {URL_BYTES_MAX} bytes")),
    });
    let required = matches!(given, FieldUpdate::Null) || (matches!(given, FieldUpdate::Absent) && base.is_none());
    if required && fields.errors.len() == before {
        fields.wrong("/url", "is required: an http or https URL");
        return (None, false);
    }
    (given.or(base.map(|w| w.endpoint.clone())), egress)
}

/// The owner if the document names none: the present owner, or the caller for a new webhook.
fn owner(purpose: Purpose<'_>, caller: &Principal) -> Option<Box<str>> {
    match purpose.current() {
        Some(current) => current.user_id.clone(),
        None => caller.user.as_deref().map(Into::into),
    }
}

/// Reads an id that the client assigns and that paths accept. A number is converted to text.
fn uid(fields: &mut DocumentFields) -> FieldUpdate<Box<str>> {
    fields.take("uid", |value| {
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let allowed = || {
            format!(
                "expected 1 to {UID_BYTES_MAX} of A-Z a-z 0-9 . _ : @ -, which does not begin with wh_ or src_ and is not \
                events or deliveries"
            )
        };
        if is_uid(&text) { Ok(text.into()) } else { Err(allowed()) }
    })
}

/// Reads the tenant. Only a key of tenant `*` may name another tenant than its own, and only for a new webhook.
fn tenant(fields: &mut DocumentFields, purpose: Purpose<'_>, principal: &Principal) -> Option<Arc<str>> {
    let own = purpose.current().map(|w| &w.tenant).or(principal.tenant.as_ref());
    let mut tenant = own.cloned();
    let before = fields.errors.len();
    for key in ["tenant", "org_id"] {
        let Some(named) = fields.id(key).value() else { continue };
        match &tenant {
            Some(tenant) if **tenant == *named => {}
            Some(_) if purpose.current().is_some() => fields.wrong(pointer(key), "cannot be changed"),
            Some(_) if own.is_some() => fields.wrong(pointer(key), "only a key of tenant * may name another tenant"),
            Some(_) => fields.wrong(pointer(key), "contradicts tenant"),
            None if is_tenant_name(&named) => tenant = Some((*named).into()),
            None => {
                fields.wrong(pointer(key), format!("expected {TENANT_NAME_ALLOWED}"));
            }
        }
    }
    (fields.errors.len() == before).then(|| tenant.unwrap_or_else(|| DEFAULT_TENANT.into()))
}

/// Reads `status`, `active` and `is_active`, which are three ways to write the same value.
fn status(fields: &mut DocumentFields, purpose: Purpose<'_>) -> WebhookStatus {
    let current = purpose.current().map(|w| w.status);
    let given = fields
        .take("status", |value| match value.as_str() {
            Some("active") => Ok(WebhookStatus::Active),
            Some("paused") => Ok(WebhookStatus::Paused),
            Some("inactive") => Ok(WebhookStatus::Inactive),
            Some("failed") if current == Some(WebhookStatus::Failed) => Ok(WebhookStatus::Failed),
            _ => Err("expected active, paused or inactive".to_owned()),
        })
        .value();
    let mut status = given;
    for key in ["active", "is_active"] {
        let Some(active) = fields.flag(key).value() else { continue };
        match status {
            Some(status) if status.is_matched() == active => {}
            Some(_) => fields.wrong(pointer(key), "contradicts another of status, active and is_active"),
            // A flag with the present value changes nothing. A paused webhook shows `active: true`. It stays paused
            // when a client that does not know `status` sends back what it read.
            None if current.is_some_and(|current| current.is_matched() == active) => status = current,
            None => status = Some(if active { WebhookStatus::Active } else { WebhookStatus::Inactive }),
        }
    }
    status.or(current).unwrap_or(WebhookStatus::Active)
}
