//! The settings of a source. The folder `inbound` compiles them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::header::IDEMPOTENCY_KEY;
use super::{FieldError, HIDDEN, OneOrMany, RawScheme, Secret};
use crate::limits::SOURCE_SECRET_CHARS_RECOMMENDED;

/// The settings of a source, in the same form in `config.toml`, in the API and in registry.redb (encrypted there).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// The name, unique within the tenant.
    pub name: String,
    /// The kind: a provider of the table, `standard-webhooks`, `partner`, `custom`, `token`, `basic` or `none`.
    pub kind: String,
    /// The tenant; `default` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// A description for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The status, in upper or lower case; `active` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The secrets. A request is valid if it matches any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretSetting>,
    /// The signature scheme of a source of kind `custom`. A source of kind `token` or `basic` gives only the location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<RawScheme>,
    /// The location of the delivery id; overrides the location of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<OneOrMany>,
    /// The location of the event type; overrides the location of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<OneOrMany>,
    /// The deduplication mode `id`, `id+body`, `body` or `never`; overrides the mode of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<String>,
    /// The name of a handshake; overrides the handshake of the kind. `""` means no handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<String>,
    /// The response body for an accepted event; overrides the body of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<String>,
    /// The allowed difference between a signed timestamp and the clock in seconds; overrides the value of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<u64>,
    /// Values that the kind needs in addition to secrets: PayPal's `webhook_id`, SNS's `topic_arn`, Meta's
    /// `verify_token`, `certificate`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// The event map; overrides the map of the kind. `[]` means that events stay as received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_map: Option<Vec<Value>>,
    /// The validation rules for the events of a partner: the short form, or a JSON Schema under `schema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_config: Option<Value>,
    /// The maximum body size in bytes, as a number or a text like `"10 MiB"`; 10 MiB if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<Value>,
    /// The allowed number of requests per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit_rps: Option<f64>,
    /// The allowed number of requests in one burst within that rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// The subjects that a source of kind `nats` consumes, with `*` and `>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subjects: Option<OneOrMany>,
    /// The name of the durable consumer of a source of kind `nats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<String>,
    /// The stream of a source of kind `nats`; the stream that has the first subject if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The public URL, if it is not `server.public_url` with the usual path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A secret setting: a text or a table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SecretSetting {
    /// The text of the secret.
    Text(Secret),
    /// A table, for a secret that expires or is limited to some requests.
    Table(SecretTable),
}

/// A secret with its limits. Exactly one of `value`, `env` and `file` is given. Only the configuration file may use
/// `env` and `file`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretTable {
    /// The text of the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Secret>,
    /// The name of the environment variable that holds the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The path of the file that holds the secret. A line end at the end of the file is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The time at which the secret expires (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The requests that the secret is limited to: `header:X-Shopify-Shop-Domain=a.myshopify.com`, `query:…=…` or
    /// `path=…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// The status of a source, which decides whether requests are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceStatus {
    /// Requests are accepted.
    #[default]
    Active,
    /// The source responds as if it did not exist: 401 for the token of a partner, 404 for a name.
    Inactive,
    /// The source responds with 403, so that the sender learns about the suspension.
    Suspended,
}

impl SecretSetting {
    /// The secret; `None` if the secret is in an environment variable or a file and has not been read yet.
    pub fn value(&self) -> Option<&Secret> {
        match self {
            Self::Text(secret) => Some(secret),
            Self::Table(table) => table.value.as_ref(),
        }
    }

    /// A copy whose text is replaced by the hint of the secret.
    fn hidden(&self) -> Self {
        match self {
            Self::Text(secret) => Self::Text(Secret::new(hint(secret))),
            Self::Table(table) => {
                let value = table.value.as_ref().map(|secret| Secret::new(hint(secret)));
                Self::Table(SecretTable { value, ..table.clone() })
            }
        }
    }
}

impl SourceSettings {
    /// Creates settings with a name and a kind and no other values.
    pub fn new(name: &str, kind: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            tenant: None,
            description: None,
            status: None,
            secrets: Vec::new(),
            verify: None,
            id: None,
            r#type: None,
            dedup: None,
            handshake: None,
            respond: None,
            tolerance: None,
            options: BTreeMap::new(),
            event_map: None,
            validation_config: None,
            max_body_bytes: None,
            rate_limit_rps: None,
            burst: None,
            subjects: None,
            durable: None,
            stream: None,
            url: None,
        }
    }

    /// The parsed status; `active` if none is given.
    ///
    /// # Errors
    /// [`FieldError`] if the text is not a status.
    pub fn status(&self) -> Result<SourceStatus, FieldError> {
        match self.status.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("active") => Ok(SourceStatus::Active),
            Some("inactive") => Ok(SourceStatus::Inactive),
            Some("suspended") => Ok(SourceStatus::Suspended),
            Some(_) => Err(FieldError::new("/status", "expected active, inactive or suspended")),
        }
    }

    /// A copy that is safe to show. Secrets are reduced to their last characters (`…abcd`). Options that are secrets
    /// are replaced by `***`.
    #[must_use]
    pub fn hidden(&self) -> Self {
        let mut shown = self.clone();
        shown.secrets = self.secrets.iter().map(SecretSetting::hidden).collect();
        for (name, value) in &mut shown.options {
            if is_secret_name(name) {
                HIDDEN.clone_into(value);
            }
        }
        shown
    }

    /// The hints of the secrets, in order. A secret in an environment variable or a file that has not been read has no
    /// hint.
    pub fn secret_hints(&self) -> Vec<String> {
        self.secrets.iter().filter_map(SecretSetting::value).map(hint).collect()
    }
}

/// The last four characters. A short secret gets only an ellipsis, because four characters would be a large part of the
/// secret.
fn hint(secret: &Secret) -> String {
    match secret.reveal().chars().count() {
        SOURCE_SECRET_CHARS_RECOMMENDED.. => secret.hint(),
        _ => "…".to_owned(),
    }
}

/// Whether a setting or header with this name holds a secret, such as `verify_token` or `X-Api-Key`.
pub fn is_secret_name(name: &str) -> bool {
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return is_secret_name(&name.to_ascii_lowercase());
    }
    if name == IDEMPOTENCY_KEY {
        return false;
    }
    ["authorization", "cookie", "password", "secret"].iter().any(|word| name.contains(word))
        || ["token", "key"]
            .iter()
            .any(|word| name.strip_suffix(word).is_some_and(|rest| !rest.ends_with(char::is_alphanumeric)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str) -> SourceSettings {
        toml_edit::de::from_str(toml).unwrap()
    }

    #[test]
    fn a_shown_copy_holds_no_secret() {
        let shown = settings(
            r#"
            name = "meta"
            kind = "meta"
            secrets = ["0123456789abcdef-canary", "canary", { value = "another-long-canary", until = "2030-01-01T00:00:00Z" }, { env = "META" }]
            options = { verify_token = "canary", app_id = "17" }
            "#,
        )
        .hidden();
        let values: Vec<_> = shown.secrets.iter().map(|secret| secret.value().map(Secret::reveal)).collect();
        assert_eq!(values, [Some("…nary"), Some("…"), Some("…nary"), None]);
        assert_eq!(shown.options["verify_token"], "***");
        assert_eq!(shown.options["app_id"], "17");
        assert!(!format!("{shown:?}").contains("canary"), "{shown:?}");
        assert_eq!(shown.secret_hints(), ["…", "…", "…"], "a hint of a hint says nothing");
    }

    #[test]
    fn a_status_is_read_in_any_case() {
        for (text, status) in [
            ("ACTIVE", Some(SourceStatus::Active)),
            ("Inactive", Some(SourceStatus::Inactive)),
            ("suspended", Some(SourceStatus::Suspended)),
            ("", None),
            ("deleted", None),
        ] {
            let settings = settings(&format!("name = \"a\"\nkind = \"none\"\nstatus = {text:?}"));
            assert_eq!(settings.status().ok(), status, "{text}");
        }
        assert_eq!(settings("name = \"a\"\nkind = \"none\"").status(), Ok(SourceStatus::Active));
    }

    #[test]
    fn names_of_secrets_are_recognised() {
        for name in
            ["authorization", "Proxy-Authorization", "cookie", "x-gitlab-token", "X-Api-Key", "verify_token", "token"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["x-shopify-shop-domain", "webhook_id", "topic_arn", "certificate", "x-monkey", "Idempotency-Key"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
