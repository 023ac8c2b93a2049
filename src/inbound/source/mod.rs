//! source: those whom webhooks come from, providers and partners: how each is verified, named, mapped and bounded.
//!
//! Promises: a source is built from its settings whole or not at all, with everything that is wrong named; what a request
//! of it becomes is decided without I/O. Must never know: HTTP connections, the log, redb.
//!
//! [`Settings`] are what a person writes, the same in `config.toml`, in the interface and in registry.redb; a [`Source`] is
//! what they come to.

mod build;
mod check;
mod configured;
mod file_id;
mod form;
mod guide;
mod headers;
mod intake;
mod limit;
mod map;
mod plan;
mod rejection;
mod rules;
mod schema;
mod secret;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;

pub use build::{Identity, PLAIN_KINDS, recipe_of};
pub use configured::{Configured, FileSource};
pub use file_id::file_id;
pub use form::form_object;
pub use headers::{has_secret_in_body, is_hidden, kept_headers};
pub use intake::{Content, Data, Intake, Unfit, spend};
pub use limit::Limiter;
pub use map::{EventMap, Incoming, MapError, Mapped, plain_type};
pub use plan::Plan;
#[cfg(test)]
pub(crate) use plan::id_and_topic;
pub use rejection::{Rejection, Rejections};
pub use rules::Rules;
pub(crate) use schema::Schema;
pub use token::{Token, TokenError, token_hash};

pub use crate::model::{FieldError as Breach, SecretSetting, SecretTable, SourceSettings as Settings, SourceStatus};

use crate::inbound::provider::Recipe;
use crate::model::{RateLimit, Secret, SourceId, Timestamp};
use crate::signature::{Key, Place};

/// A source as the registry's snapshot holds it. Immutable; a change makes a new one.
#[derive(Debug)]
pub struct Source {
    /// Its public id.
    pub id: SourceId,
    /// Unique within its tenant, with the uids of webhooks: `[a-z0-9][a-z0-9-]{0,62}`.
    pub name: Box<str>,
    /// The tenant it belongs to.
    pub tenant: Arc<str>,
    /// As written, with its secrets resolved and without a token; what the interface shows of it hides the secrets.
    pub settings: Settings,
    /// Whether it takes anything.
    pub status: SourceStatus,
    /// Who may change it.
    pub managed_by: ManagedBy,
    /// How it is verified, and what its requests say.
    pub recipe: Recipe,
    /// Where the recipe's values stand, compiled.
    pub plan: Plan,
    /// Its secrets, each with its key.
    pub secrets: Vec<SourceSecret>,
    /// What its events become.
    pub event_map: EventMap,
    /// What a partner's events must be.
    pub rules: Option<Rules>,
    /// Bytes of a body.
    pub max_body_bytes: usize,
    /// Requests a second; `None`: no limit.
    pub rate_limit: Option<RateLimit>,
    /// The public URL, without a query: `server.public_url` and the path, or the source's own.
    pub url: Box<str>,
    /// Of a partner: the SHA-256 of its token, and the token's last four characters.
    pub token: Option<TokenHash>,
    /// Things that a person should know: `kind = "none"`, a short secret.
    pub warnings: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub modified_at: Timestamp,
    /// When it was deleted; it can be restored.
    pub deleted_at: Option<Timestamp>,
    /// Rises by one with each change; the ETag.
    pub version: u64,
}

/// Who may change a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManagedBy {
    /// The configuration file.
    File,
    /// The interface.
    Api,
}

/// A secret in force, and for what.
#[derive(Debug)]
pub struct SourceSecret {
    /// As given.
    pub secret: Secret,
    /// The key made from it.
    pub key: Key,
    /// Not after this.
    pub until: Option<Timestamp>,
    /// Only for requests that have this value there: one secret for each shop or account.
    pub when: Option<(Place, Box<str>)>,
}

/// What is kept of a partner's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHash {
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// Its last four characters.
    pub hint: Box<str>,
}
