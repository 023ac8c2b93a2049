//! Sources: the providers and partners that send webhooks, with verification, naming, event maps and limits.
//!
//! Invariants: a source is built completely from its settings or not at all, and all errors are reported. A request is
//! turned into an event without I/O. This module must never know HTTP connections, the log or redb.
//!
//! [`SourceSettings`] are the settings as a user writes them; they are the same in `config.toml`, in the API and in
//! registry.redb. A [`Source`] is built from them.

mod build;
mod check;
mod configured;
mod extraction;
mod file_source_id;
mod form;
mod guide;
mod headers;
mod intake;
mod map;
mod rate_limit;
mod rejection;
mod schema;
mod schema_cost;
mod secret;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod token;
mod validation;
mod verify;

use std::sync::Arc;

pub use build::{Identity, PLAIN_KINDS, recipe_of};
pub use configured::{ConfiguredSources, FileSource};
pub use extraction::ExtractionPlan;
#[cfg(test)]
pub(crate) use extraction::id_and_topic;
pub use file_source_id::file_source_id;
pub use form::form_object;
pub use headers::{has_secret_in_body, is_hidden, kept_headers};
pub use intake::{ContentKind, EventData, InboundEvent, IntakeError};
pub use map::{EventMap, MapError, MapInput, MappedEvent, default_event_type};
pub use rate_limit::RateLimiter;
pub use rejection::{Rejection, Rejections};
pub use schema::CheckWork;
pub(crate) use schema::Schema;
pub use token::{PartnerToken, PartnerTokenError, token_hash};
pub use validation::ValidationRules;
pub use verify::dummy_mac;

pub use crate::model::{SecretSetting, SecretTable, SourceSettings, SourceStatus};

use crate::inbound::provider::Recipe;
use crate::model::{RateLimit, Secret, SourceId, SubjectPattern, Timestamp};
use crate::signature::{ValueLocation, VerifyingKey};

/// A source in the snapshot of the registry. It is immutable; a change creates a new one.
#[derive(Debug)]
pub struct Source {
    /// The public id.
    pub id: SourceId,
    /// The name, `[a-z0-9][a-z0-9-]{0,62}`. It is unique within the tenant, together with the uids of webhooks.
    pub name: Box<str>,
    /// The tenant that owns the source.
    pub tenant: Arc<str>,
    /// The settings as written, with resolved secrets and without the token. API responses hide the secrets.
    pub settings: SourceSettings,
    /// Whether the source accepts requests.
    pub status: SourceStatus,
    /// Where the source is managed.
    pub managed_by: ManagedBy,
    /// How requests are verified and interpreted.
    pub recipe: Recipe,
    /// The compiled locations of the recipe's values in a request.
    pub extraction: ExtractionPlan,
    /// The secrets with their keys.
    pub secrets: Vec<SourceSecret>,
    /// The event map.
    pub event_map: EventMap,
    /// The validation rules for the events of a partner.
    pub rules: Option<ValidationRules>,
    /// What a source of kind `nats` consumes. `None` for other kinds.
    pub bus: Option<BusSubscription>,
    /// The maximum body size in bytes.
    pub max_body_bytes: usize,
    /// The rate limit. `None` if there is no limit.
    pub rate_limit: Option<RateLimit>,
    /// The public URL without a query: `server.public_url` with the path, or the `url` of the settings.
    pub url: Box<str>,
    /// The hash of the token in a partner's URL. `None` for other kinds.
    pub token: Option<TokenHash>,
    /// Warnings for the user, such as about `kind = "none"` or a short secret.
    pub warnings: Vec<String>,
    /// The time of creation.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub modified_at: Timestamp,
    /// The time of deletion. A deleted source can be restored.
    pub deleted_at: Option<Timestamp>,
    /// The version, which increases by one with each change. It is the ETag.
    pub version: u64,
}

/// What a source consumes from the event bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusSubscription {
    /// The subjects.
    pub subjects: Vec<SubjectPattern>,
    /// The name of the durable consumer.
    pub durable: Box<str>,
    /// The stream; `None`: the one that has the first subject.
    pub stream: Option<Box<str>>,
}

/// Where a source is managed, and so where it can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManagedBy {
    /// The configuration file.
    File,
    /// The API.
    Api,
}

/// A secret of a source, with the time and the requests for which it is valid.
#[derive(Debug)]
pub struct SourceSecret {
    /// The secret as configured.
    pub secret: Secret,
    /// The key derived from the secret.
    pub key: VerifyingKey,
    /// The time until which the secret is valid, inclusive. `None` if it does not expire.
    pub until: Option<Timestamp>,
    /// The secret is valid only for requests with this value at this location, for example one secret per shop or account.
    pub when: Option<(ValueLocation, Box<str>)>,
}

/// The stored hash of a partner's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHash {
    /// The SHA-256 of the token.
    pub hash: [u8; 32],
    /// The last four characters of the token.
    pub hint: Box<str>,
}
