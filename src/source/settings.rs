//! What a person writes of a source.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SourceStatus;
use crate::model::Secret;
use crate::signature::{OneOrMany, RawScheme};

/// The settings of a source, the same in `config.toml`, in the interface and in registry.redb (sealed there).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
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
    /// `id`, `id+body` or `body`, in place of the kind's.
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

/// Something wrong with settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// JSON pointer of the setting: `/secrets/0/until`.
    pub pointer: String,
    /// What is wrong and what is allowed.
    pub detail: String,
}

impl Settings {
    /// The status that is written, `active` if none is.
    ///
    /// # Errors
    /// For text that is no status.
    pub fn status(&self) -> Result<SourceStatus, Breach> {
        Ok(SourceStatus::Active)
    }
}
