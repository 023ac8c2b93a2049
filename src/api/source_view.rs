//! Sources and their rejections as JSON.

use serde::Serialize;
use serde_json::Value;

use crate::inbound::provider::DedupMode;
use crate::inbound::source::{ManagedBy, PartnerToken, Rejection, SecretSetting, Source, SourceSettings, SourceStatus};
use crate::model::{Secret, Timestamp};
use crate::signature::{OneOrMany, RawScheme};

/// A source as JSON, without its secrets and its token.
#[derive(Serialize)]
pub(super) struct View {
    id: String,
    name: String,
    kind: String,
    tenant: String,
    description: Option<String>,
    status: SourceStatus,
    url: String,
    secret_hints: Vec<String>,
    /// One entry for each hint, with the expiry of the secret and the requests that use it.
    secrets: Vec<SecretView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify: Option<RawScheme>,
    /// The setting `id`. It has another name here, because `id` is the id of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_id: Option<OneOrMany>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<OneOrMany>,
    dedup: DedupMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    respond: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tolerance: Option<u64>,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    options: std::collections::BTreeMap<String, String>,
    validation_config: Option<Value>,
    event_map: Option<Vec<Value>>,
    max_body_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit_rps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subjects: Option<OneOrMany>,
    #[serde(skip_serializing_if = "Option::is_none")]
    durable: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    managed_by: ManagedBy,
    warnings: Vec<String>,
    created_at: Timestamp,
    modified_at: Timestamp,
    deleted_at: Option<Timestamp>,
    /// The secret that a person must paste at the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_token: Option<String>,
}

#[derive(Serialize)]
struct SecretView {
    hint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<String>,
}

/// The response to the creation of a source, a secret or a token.
#[derive(Serialize)]
pub(super) struct CreatedSourceView {
    #[serde(flatten)]
    pub(super) source: View,
    /// Shown only in this response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    /// Shown only in this response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
    /// The guide for the sender. It contains the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) guide: Option<String>,
}

impl View {
    /// Converts a source. The URL contains a new `token`, or otherwise only the end of the token.
    pub(super) fn of(source: &Source, token: Option<&PartnerToken>) -> Self {
        let SourceSettings { kind, description, verify, id, r#type, handshake, respond, tolerance, options, .. } =
            source.settings.hidden();
        Self {
            id: source.id.to_string(),
            name: source.name.to_string(),
            kind,
            tenant: source.tenant.to_string(),
            description,
            status: source.status,
            url: source.address(token),
            secret_hints: source.settings.secret_hints(),
            secrets: secrets(&source.settings),
            verify,
            delivery_id: id,
            r#type,
            dedup: source.recipe.dedup,
            handshake,
            respond,
            tolerance,
            options,
            validation_config: source.settings.validation_config.clone(),
            event_map: source.settings.event_map.clone(),
            max_body_bytes: source.max_body_bytes,
            rate_limit_rps: source.rate_limit.map(|limit| limit.per_second),
            burst: source.rate_limit.map(|limit| limit.burst),
            subjects: source.settings.subjects.clone(),
            durable: source.settings.durable.clone(),
            stream: source.settings.stream.clone(),
            managed_by: source.managed_by,
            warnings: source.warnings.clone(),
            created_at: source.created_at,
            modified_at: source.modified_at,
            deleted_at: source.deleted_at,
            verification_token: None,
        }
    }

    /// Adds the secret that a person must paste at the provider.
    pub(super) fn with_verification_token(self, secret: Option<&Secret>) -> Self {
        Self { verification_token: secret.map(|secret| secret.reveal().to_owned()), ..self }
    }
}

fn secrets(settings: &SourceSettings) -> Vec<SecretView> {
    let with_value = settings.secrets.iter().filter(|setting| setting.value().is_some());
    let views = with_value.zip(settings.secret_hints()).map(|(setting, hint)| match setting {
        SecretSetting::Text(_) => SecretView { hint, until: None, when: None },
        SecretSetting::Table(table) => SecretView { hint, until: table.until.clone(), when: table.when.clone() },
    });
    views.collect()
}

/// The `ETag` of a source: its version.
pub(super) fn etag(source: &Source) -> String {
    format!("\"{}\"", source.version)
}

/// A refused request of a source as JSON.
#[derive(Serialize)]
pub(super) struct RejectionView {
    at: Timestamp,
    request_id: Box<str>,
    status: u16,
    reason: Box<str>,
    request: Box<str>,
    headers: serde_json::Map<String, Value>,
    body: String,
    body_bytes: usize,
}

impl From<Rejection> for RejectionView {
    fn from(rejection: Rejection) -> Self {
        let mut headers = serde_json::Map::new();
        for (name, value) in rejection.headers {
            match headers.get_mut(&*name) {
                // RFC 9110 joins several lines of a header field with commas.
                Some(Value::String(first)) => *first = format!("{first}, {value}"),
                _ => _ = headers.insert(name.into(), String::from(value).into()),
            }
        }
        Self {
            at: rejection.at,
            request_id: rejection.request_id,
            status: rejection.status,
            reason: rejection.reason,
            request: rejection.request,
            headers,
            body: String::from_utf8_lossy(&rejection.body).into_owned(),
            body_bytes: rejection.body_bytes,
        }
    }
}
