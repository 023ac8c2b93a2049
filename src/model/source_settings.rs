//! A source as it is written. `inbound` compiles it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::header::IDEMPOTENCY_KEY;
use super::{FieldError, HIDDEN, OneOrMany, RawScheme, Secret};
use crate::limits::SOURCE_SECRET_CHARS_GOOD;

/// The settings of a source, the same in `config.toml`, in the interface and in registry.redb (sealed there).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// Unique within its tenant.
    pub name: String,
    /// A provider of the table, `standard-webhooks`, `partner`, `custom`, `token`, `basic` or `none`.
    pub kind: String,
    /// `default` if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `active` if it is not given; read in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Secrets in force, each valid by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretSetting>,
    /// How a source of kind `custom` (or `token`, `basic`, for the place) is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<RawScheme>,
    /// Where the delivery's id stands, in place of the kind's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<OneOrMany>,
    /// Where the event's type stands, in place of the kind's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<OneOrMany>,
    /// `id`, `id+body`, `body` or `never`, in place of the kind's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<String>,
    /// Name of a handshake, in place of the kind's; `""`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<String>,
    /// Body of the answer to an accepted event, in place of the kind's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<String>,
    /// Seconds that a signed time may be off, in place of the kind's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<u64>,
    /// What the kind asks for beside secrets: PayPal's `webhook_id`, SNS's `topic_arn`, Meta's `verify_token`, `certificate`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// What events become, in place of the kind's map; `[]`: they stay as they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_map: Option<Vec<Value>>,
    /// What a partner's events must be: the short form, or a JSON Schema below `schema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_config: Option<Value>,
    /// Bytes of a body, a number or text like `"10 MiB"`; 10 MiB if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<Value>,
    /// Requests a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit_rps: Option<f64>,
    /// Requests at once within that rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// The public URL, where it is not `server.public_url` and the usual path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A secret: its text, or a table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SecretSetting {
    /// The secret itself.
    Text(Secret),
    /// With an end, or for some requests only.
    Table(SecretTable),
}

/// A secret with what holds for it. Exactly one of `value`, `env` and `file` is given; only the configuration file may
/// name `env` and `file`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretTable {
    /// The secret itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Secret>,
    /// Name of the environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The file that holds it; a line end after it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Not after this (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// `header:X-Shopify-Shop-Domain=a.myshopify.com`, `query:…=…`, `path=…`: only for such requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// Whether a source takes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceStatus {
    /// It does.
    #[default]
    Active,
    /// As if it were not there: 401 for a partner's token, 404 for a name.
    Inactive,
    /// 403, so that the sender knows.
    Suspended,
}

impl SecretSetting {
    /// Its text; `None` while it still stands elsewhere, in the environment or a file.
    pub fn value(&self) -> Option<&Secret> {
        match self {
            Self::Text(secret) => Some(secret),
            Self::Table(table) => table.value.as_ref(),
        }
    }

    /// With the text replaced by what a person recognises it by.
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
    /// A name and a kind, and nothing else.
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
            url: None,
        }
    }

    /// The status that is written, `active` if none is.
    ///
    /// # Errors
    /// For text that is no status.
    pub fn status(&self) -> Result<SourceStatus, FieldError> {
        match self.status.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("active") => Ok(SourceStatus::Active),
            Some("inactive") => Ok(SourceStatus::Inactive),
            Some("suspended") => Ok(SourceStatus::Suspended),
            Some(_) => Err(FieldError::new("/status", "expected active, inactive or suspended")),
        }
    }

    /// A copy to show: of each secret only its last characters (`…abcd`), of options that are secrets nothing.
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

    /// By what a person recognises the secrets, in their order; none for one that stands elsewhere.
    pub fn secret_hints(&self) -> Vec<String> {
        self.secrets.iter().filter_map(SecretSetting::value).map(hint).collect()
    }
}

/// The last four characters; of a short secret nothing, as that would be a good part of it.
fn hint(secret: &Secret) -> String {
    match secret.reveal().chars().count() {
        SOURCE_SECRET_CHARS_GOOD.. => secret.hint(),
        _ => "…".to_owned(),
    }
}

/// Whether what has this name is a secret: `verify_token`, `X-Api-Key`.
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
    fn names_of_secrets() {
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
