//! A document that makes or changes a webhook, read as a whole into the settings that the registry keeps.
//!
//! A new field of a webhook is read in [`read`], which names every field of [`WebhookSettings`]: without it the program does
//! not compile. The field's name goes into `ALLOWED`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::auth;
use super::document::Document;
use super::keys::{keys, profile};
use super::policy::{Retries, order, rate_limit};
use crate::limits::URL_BYTES_MAX;
use crate::model::{
    DEFAULT_TENANT, FieldError, Principal, RetryOn, RetryPolicy, TENANT_NAME_ALLOWED, TenantSettings, WebhookStatus,
    is_tenant_name,
};
use crate::outbound::profile::Profile;
use crate::outbound::tls::EndpointTls;
use crate::outbound::{Endpoint, EndpointAuth, Webhook, WebhookSettings};
use crate::registry::Registry;
use crate::service::fields::{DESCRIPTION_CHARS_MAX, Fields, Given, NAME_CHARS_MAX, pointer, unknown};
use crate::service::reference::{UID_BYTES_MAX, is_uid};
use crate::service::{CheckUrl, Error, ErrorKind};

const TIMEOUT_SECONDS: std::ops::RangeInclusive<f64> = 1.0..=300.0;
const IN_FLIGHT: std::ops::RangeInclusive<u64> = 1..=256;
const ALLOWED: &str = "url, uid, events, filters, workspace_id, secret, name, description, status, active, is_active, \
    profile, key_type, retry_policy, max_retries, timeout_seconds, rate_limit_rps, burst, max_in_flight, breaker, ordered, ordered_by, \
    headers, auth, tls, metadata, user_id, tenant, org_id";
/// Fields that a client may send back as it read them.
const READ_ONLY: [&str; 5] = ["id", "created_at", "secret_hint", "public_key", "previous_secret_ends_at"];
/// Fields that a client may send back, and that may have changed meanwhile; `If-Match` is for who wants to be sure.
const IGNORED: [&str; 3] = ["updated_at", "subscription_count", "warnings"];

/// What a body is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// A new webhook.
    Create,
    /// What is absent goes back to its default, but for secret, status and owner, and the uid that old clients know it by.
    Replace(&'a Webhook),
    /// What is absent stays.
    Patch(&'a Webhook),
}

impl<'a> Purpose<'a> {
    /// The webhook as it is.
    pub(super) fn current(self) -> Option<&'a Webhook> {
        match self {
            Self::Create => None,
            Self::Replace(webhook) | Self::Patch(webhook) => Some(webhook),
        }
    }

    /// The webhook whose fields stay where the body has none.
    pub(super) fn base(self) -> Option<&'a Webhook> {
        match self {
            Self::Patch(webhook) => Some(webhook),
            Self::Create | Self::Replace(_) => None,
        }
    }
}

/// What fields are checked against.
pub(super) struct Rules<'a> {
    pub(super) check_url: &'a CheckUrl,
    pub(super) default_retry: &'a RetryPolicy,
    pub(super) principal: &'a Principal,
    /// Profiles, and what holds for tenants by default.
    pub(super) registry: Arc<Registry>,
}

/// Reads a body. Each field that is wrong is named.
pub(super) fn read(
    body: Map<String, Value>,
    purpose: Purpose<'_>,
    rules: &Rules<'_>,
) -> Result<WebhookSettings, Error> {
    let mut fields = Fields::new(body);
    let base = purpose.base();
    if let Some(current) = purpose.current() {
        sent_back(&mut fields, current, rules);
    }
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
    let tls = tls(&mut fields, purpose, endpoint.as_ref());
    let metadata = fields.metadata(base.map(|w| &*w.metadata)).or(base.map(|w| w.metadata.clone()));
    let Fields { left, mut errors } = fields;
    errors.extend(unknown(&left, ALLOWED));
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

/// Whether and when to try again, and after which failures: the tenant's way, where the body does not say.
fn retries(
    fields: &mut Fields,
    base: Option<&Webhook>,
    defaults: &TenantSettings,
    default: &RetryPolicy,
) -> (Option<RetryPolicy>, RetryOn) {
    let retries = Retries {
        present: base.and_then(|w| w.retry_policy.as_ref()),
        present_on: base.map_or(RetryOn::ALL, |w| w.retry_on),
        absent: base.map_or(defaults.retry_policy.as_ref(), |w| w.retry_policy.as_ref()),
        null: defaults.retry_policy.as_ref(),
        default,
    };
    retries.read(fields)
}

fn timeout(fields: &mut Fields, present: Option<Duration>) -> Option<Duration> {
    match fields.number("timeout_seconds", TIMEOUT_SECONDS) {
        Given::Value(seconds) => Some(Duration::from_millis((seconds * 1000.0).round() as u64)),
        Given::Null => None,
        Given::Absent => present,
    }
}

fn max_in_flight(fields: &mut Fields, present: Option<u16>) -> Option<u16> {
    match fields.whole("max_in_flight", IN_FLIGHT) {
        Given::Value(n) => Some(n as u16),
        Given::Null => None,
        Given::Absent => present,
    }
}

/// Headers of the user's own, none of which the profile sets itself.
fn headers(fields: &mut Fields, purpose: Purpose<'_>, profile: Option<&Profile>) -> Vec<(HeaderName, HeaderValue)> {
    let base = purpose.base();
    let present = purpose.current().map(|w| &*w.headers).unwrap_or_default();
    let headers = fields.headers(present, base.is_some()).or(base.map(|w| w.headers.clone())).unwrap_or_default();
    for (name, _) in headers.iter().filter(|(name, _)| profile.is_some_and(|profile| profile.sets(name))) {
        fields.wrong(format!("/headers/{name}"), "the webhook's profile sets this header");
    }
    headers
}

/// Credentials, whose header neither the profile nor `headers` sets.
fn auth(
    fields: &mut Fields,
    purpose: Purpose<'_>,
    profile: Option<&Profile>,
    headers: &[(HeaderName, HeaderValue)],
) -> Option<Arc<EndpointAuth>> {
    let base = purpose.base();
    let present = purpose.current().and_then(|w| w.auth.as_deref());
    let auth = fields.auth(present, base.is_some()).or(base.and_then(|w| w.auth.clone()))?;
    let (at, (name, _)) = (auth::place(&auth), auth.header());
    if profile.is_some_and(|profile| profile.sets(name)) {
        fields.wrong(at, format!("the webhook's profile sets the header {name}"));
    }
    if headers.iter().any(|(other, _)| other == name) {
        fields.wrong(at, format!("sets the header {name}, and so do the headers; leave it out of one of them"));
        fields.wrong(format!("/headers/{name}"), "auth sets this header; leave it out of one of them");
    }
    Some(auth)
}

/// TLS settings, of an endpoint that speaks TLS.
fn tls(fields: &mut Fields, purpose: Purpose<'_>, endpoint: Option<&Endpoint>) -> Option<Arc<EndpointTls>> {
    let base = purpose.base();
    let present = purpose.current().and_then(|w| w.tls.as_ref());
    let tls = fields.tls(present, base.is_some()).or(base.map(|w| w.tls.clone())).flatten()?;
    if endpoint.is_some_and(|endpoint| !endpoint.tls) {
        fields.wrong("/tls", "is for an https endpoint, and this one is http: expected an https url, or no tls");
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

/// A client may send back what it read; what the server sets must be as it was.
fn sent_back(fields: &mut Fields, current: &Webhook, rules: &Rules<'_>) {
    for key in IGNORED {
        fields.left.remove(key);
    }
    let shown = serde_json::to_value(Document::of(current, rules.default_retry)).unwrap_or_default();
    for key in READ_ONLY {
        if let Some(given) = fields.left.remove(key)
            && shown.get(key) != Some(&given)
        {
            fields.wrong(pointer(key), "is set by the server and cannot be changed");
        }
    }
}

/// The endpoint, and whether only the egress rules are against it.
fn endpoint(fields: &mut Fields, base: Option<&Webhook>, check: &CheckUrl) -> (Option<Endpoint>, bool) {
    let mut egress = false;
    let before = fields.errors.len();
    let given = fields.take("url", |value| match value {
        Value::String(url) if url.len() <= URL_BYTES_MAX => check(&url).map_err(|problem| {
            egress = problem.egress;
            problem.detail
        }),
        _ => Err(format!("expected an http or https URL of at most {URL_BYTES_MAX} bytes")),
    });
    let required = matches!(given, Given::Null) || (matches!(given, Given::Absent) && base.is_none());
    if required && fields.errors.len() == before {
        fields.wrong("/url", "is required: an http or https URL");
        return (None, false);
    }
    (given.or(base.map(|w| w.endpoint.clone())), egress)
}

/// The user who owns it, where the body does not say: for a new webhook, the caller.
fn owner(purpose: Purpose<'_>, caller: &Principal) -> Option<Box<str>> {
    match purpose.current() {
        Some(current) => current.user_id.clone(),
        None => caller.user.as_deref().map(Into::into),
    }
}

/// An id of the user's own, under which paths find it; a number is read as its text.
fn uid(fields: &mut Fields) -> Given<Box<str>> {
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

/// Whose it is. Only a key of tenant `*` names another tenant, and only for a new webhook.
fn tenant(fields: &mut Fields, purpose: Purpose<'_>, principal: &Principal) -> Option<Arc<str>> {
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

/// `status`, `active` and `is_active` say one thing in three dialects.
fn status(fields: &mut Fields, purpose: Purpose<'_>) -> WebhookStatus {
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
            // A flag that says what is so already changes nothing: a paused webhook, which reads `active: true`, stays
            // paused for a client that knows no pause and writes back what it read.
            None if current.is_some_and(|current| current.is_matched() == active) => status = current,
            None => status = Some(if active { WebhookStatus::Active } else { WebhookStatus::Inactive }),
        }
    }
    status.or(current).unwrap_or(WebhookStatus::Active)
}
