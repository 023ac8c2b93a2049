//! A body that makes or changes a webhook, read as a whole into what the registry keeps.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::body::{pointer, unknown};
use super::webhook_fields::{DESCRIPTION_CHARS_MAX, Fields, Given, NAME_CHARS_MAX, RETRIES_MAX};
use super::webhook_view::View;
use super::{CheckUrl, FieldError, Problem, ProblemCode};
use crate::model::{
    Endpoint, RateLimit, RetryPolicy, Secret, SigningKey, SigningKeys, Webhook, WebhookSettings, WebhookStatus,
    is_tenant_name,
};
use crate::registry::{DEFAULT_TENANT, Principal};

const URL_BYTES_MAX: usize = 2_048;
const TIMEOUT_SECONDS: std::ops::RangeInclusive<f64> = 1.0..=300.0;
const RATE: std::ops::RangeInclusive<f64> = 0.01..=100_000.0;
const BURST: std::ops::RangeInclusive<u64> = 1..=100_000;
const IN_FLIGHT: std::ops::RangeInclusive<u64> = 1..=256;
const TENANT_BYTES_MAX: usize = 63;
const ALLOWED: &str = "url, events, secret, name, description, status, active, is_active, profile, retry_policy, \
    max_retries, timeout_seconds, rate_limit_rps, burst, max_in_flight, headers, metadata, user_id, tenant, org_id";
/// Fields that a client may send back as it read them.
const READ_ONLY: [&str; 3] = ["id", "created_at", "secret_hint"];

/// What a body is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// A new webhook.
    Create,
    /// What is absent goes back to its default, but for secret, status and owner.
    Replace(&'a Webhook),
    /// What is absent stays.
    Patch(&'a Webhook),
}

impl<'a> Purpose<'a> {
    /// The webhook as it is.
    fn current(self) -> Option<&'a Webhook> {
        match self {
            Self::Create => None,
            Self::Replace(webhook) | Self::Patch(webhook) => Some(webhook),
        }
    }

    /// The webhook whose fields stay where the body has none.
    fn base(self) -> Option<&'a Webhook> {
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
}

/// Reads a body. Each field that is wrong is named.
pub(super) fn read(
    body: Map<String, Value>,
    purpose: Purpose<'_>,
    rules: &Rules<'_>,
) -> Result<WebhookSettings, Problem> {
    let mut fields = Fields::new(body);
    let base = purpose.base();
    if let Some(current) = purpose.current() {
        sent_back(&mut fields, current, rules);
    }
    let (endpoint, egress_only) = endpoint(&mut fields, base, rules.check_url);
    let tenant = tenant(&mut fields, purpose, rules.principal);
    let status = status(&mut fields, purpose);
    let keys = keys(&mut fields, purpose.current());
    profile(&mut fields);
    let events = fields.events().or(base.map(|w| w.events.clone())).unwrap_or_default();
    let name = fields.text("name", NAME_CHARS_MAX).or(base.and_then(|w| w.name.clone()));
    let description = fields.text("description", DESCRIPTION_CHARS_MAX).or(base.and_then(|w| w.description.clone()));
    let user_id = fields.id("user_id").or(purpose.current().and_then(|w| w.user_id.clone()));
    let retry_policy = retry_policy(&mut fields, base, rules.default_retry);
    let timeout = match fields.number("timeout_seconds", TIMEOUT_SECONDS) {
        Given::Value(seconds) => Some(Duration::from_millis((seconds * 1000.0).round() as u64)),
        Given::Null => None,
        Given::Absent => base.and_then(|w| w.timeout),
    };
    let rate_limit = rate_limit(&mut fields, base);
    let max_in_flight = match fields.whole("max_in_flight", IN_FLIGHT) {
        Given::Value(n) => Some(n as u16),
        Given::Null => None,
        Given::Absent => base.and_then(|w| w.max_in_flight),
    };
    let present = purpose.current().map(|w| &*w.headers).unwrap_or_default();
    let headers = fields.headers(present, base.is_some()).or(base.map(|w| w.headers.clone())).unwrap_or_default();
    let metadata = fields.metadata(base.map(|w| &*w.metadata)).or(base.map(|w| w.metadata.clone()));
    let Fields { left, mut errors } = fields;
    errors.extend(unknown(&left, ALLOWED));
    match (endpoint, tenant, keys) {
        (Some(endpoint), Some(tenant), Some(keys)) if errors.is_empty() => Ok(WebhookSettings {
            status,
            events,
            retry_policy,
            timeout,
            max_in_flight,
            rate_limit,
            headers,
            name,
            description,
            user_id,
            metadata: metadata.unwrap_or_else(|| "{}".into()),
            ..WebhookSettings::new(tenant, endpoint, keys)
        }),
        _ => Err(refusal(errors, egress_only)),
    }
}

fn refusal(errors: Vec<FieldError>, egress: bool) -> Problem {
    if egress && let [error] = errors.as_slice() {
        let mut problem = Problem::new(ProblemCode::EgressRefused, error.detail.clone());
        problem.errors = errors;
        return problem;
    }
    Problem::invalid_body(errors)
}

/// A client may send back what it read; what the server sets must be as it was.
fn sent_back(fields: &mut Fields, current: &Webhook, rules: &Rules<'_>) {
    // It tells when, not what; `If-Match` is for who wants to be sure.
    fields.left.remove("updated_at");
    let shown = serde_json::to_value(View::of(current, rules.default_retry)).unwrap_or_default();
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
            None if is_tenant(&named) => tenant = Some((*named).into()),
            None => {
                let detail =
                    format!("expected 1 to {TENANT_BYTES_MAX} of A-Z a-z 0-9 . _ : -, the first a letter or digit");
                fields.wrong(pointer(key), detail);
            }
        }
    }
    (fields.errors.len() == before).then(|| tenant.unwrap_or_else(|| DEFAULT_TENANT.into()))
}

pub(super) fn is_tenant(name: &str) -> bool {
    is_tenant_name(name)
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
            None => status = Some(if active { WebhookStatus::Active } else { WebhookStatus::Inactive }),
        }
    }
    status.or(current).unwrap_or(WebhookStatus::Active)
}

/// The secret is given at creation or made; afterwards it stays.
fn keys(fields: &mut Fields, current: Option<&Webhook>) -> Option<SigningKeys> {
    if let Some(current) = current {
        if fields.left.remove("secret").is_some() {
            fields.wrong("/secret", "is set at creation and cannot be changed here");
        }
        return Some(current.keys.clone());
    }
    let before = fields.errors.len();
    let given = fields.take("secret", |value| match value {
        Value::String(text) => SigningKey::try_new(Secret::new(text)).map_err(|error| error.to_string()),
        _ => Err("expected text".to_owned()),
    });
    if fields.errors.len() > before {
        return None;
    }
    let key = given.value().unwrap_or_else(SigningKey::generate);
    Some(SigningKeys { current: Arc::new(key), previous: None })
}

fn profile(fields: &mut Fields) {
    let _standard = fields.take("profile", |value| match value.as_str() {
        Some("standard") => Ok(()),
        _ => Err("expected \"standard\"".to_owned()),
    });
}

/// `retry_policy` beats `max_retries`; that alone changes how many retries the present policy makes.
fn retry_policy(fields: &mut Fields, base: Option<&Webhook>, default: &RetryPolicy) -> Option<RetryPolicy> {
    let present = base.and_then(|w| w.retry_policy.as_ref());
    let given = fields.retry_policy(present);
    let retries = fields.whole("max_retries", 0..=RETRIES_MAX);
    match (given, retries) {
        (Given::Value(policy), _) => Some(policy),
        (Given::Null, Given::Value(retries)) => Some(with_retries(default, retries as u16)),
        (Given::Absent, Given::Value(retries)) => Some(with_retries(present.unwrap_or(default), retries as u16)),
        (Given::Null, _) | (_, Given::Null) => None,
        (Given::Absent, Given::Absent) => present.cloned(),
    }
}

/// The policy with this many retries: a schedule is cut, or goes on with its last delay.
fn with_retries(policy: &RetryPolicy, retries: u16) -> RetryPolicy {
    match policy {
        RetryPolicy::Schedule(delays) => {
            let last = delays.last().copied().unwrap_or(Duration::from_secs(60));
            RetryPolicy::Schedule(
                delays.iter().copied().chain(std::iter::repeat(last)).take(usize::from(retries)).collect(),
            )
        }
        RetryPolicy::Backoff { retry_delay, backoff_permille, max_delay, .. } => RetryPolicy::Backoff {
            max_retries: retries,
            retry_delay: *retry_delay,
            backoff_permille: *backoff_permille,
            max_delay: *max_delay,
        },
    }
}

/// How many retries a policy makes.
pub(super) fn retries_of(policy: &RetryPolicy) -> usize {
    match policy {
        RetryPolicy::Schedule(delays) => delays.len(),
        RetryPolicy::Backoff { max_retries, .. } => usize::from(*max_retries),
    }
}

fn rate_limit(fields: &mut Fields, base: Option<&Webhook>) -> Option<RateLimit> {
    let present = base.and_then(|w| w.rate_limit);
    let rate = fields.number("rate_limit_rps", RATE);
    let burst = fields.whole("burst", BURST);
    let no_rate = matches!(rate, Given::Null);
    let per_second = rate.or(present.map(|limit| limit.per_second));
    let Some(per_second) = per_second else {
        if matches!(burst, Given::Value(_)) && fields.errors.iter().all(|error| error.pointer != "/rate_limit_rps") {
            fields.wrong("/burst", "needs rate_limit_rps");
        }
        return None;
    };
    // As much as a second lets through, at least one.
    let default = (per_second.ceil() as u32).max(1);
    let burst = match burst {
        Given::Value(burst) => burst as u32,
        Given::Absent if !no_rate => present.map_or(default, |limit| limit.burst),
        Given::Absent | Given::Null => default,
    };
    Some(RateLimit { per_second, burst })
}
