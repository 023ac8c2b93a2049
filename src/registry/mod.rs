//! registry: webhooks, sources and keys, as an immutable snapshot for readers and one thread that changes them.
//!
//! Promises: a change is durable in registry.redb before its answer, and in the snapshot before it too; a secret is on the
//! disk only encrypted. Readers load the snapshot without a lock. Must never know: HTTP, or what is delivered.
//!
//! ```text
//! api, dispatch ──► Writer ──► one thread: gather, one transaction, fsync, new snapshot ──► answers, shards, settle
//! admit, dispatch, api ◄────── Shared: the snapshot, copied on write
//! ```

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Role;
use crate::model::Visibility;

mod access;
mod audit;
mod change;
mod cow;
mod endpoint_record;
mod event_type_change;
mod event_types;
mod keys;
mod load;
mod profiles;
mod record;
mod retry_record;
mod secret;
mod snapshot;
mod source_change;
mod source_record;
mod source_setup;
mod sources;
mod store;
mod tenants;
mod webhook_change;
mod work;
mod writer;

pub use access::{AccessError, FileAccess, NewKey};
pub use audit::{AuditEntry, AuditPage, AuditQuery};
pub use change::ChangeError;
pub use event_type_change::{ChangedType, EventTypeError, Replaces};
pub use keys::Key;
pub use record::is_secret_header;
pub use secret::{KeyFileError, admin_key};
pub use snapshot::{Known, Registry, Removed};
pub use source_change::SourceError;
pub use source_setup::SourceSetup;
pub use store::StoreError;
pub use tenants::TenantInfo;
pub use webhook_change::SubscriptionSettings;
pub use writer::{Running, Start, Writer, start};

/// Where every stage finds the current snapshot.
pub type Shared = Arc<ArcSwap<Registry>>;

/// Who asks.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The tenant; `None`: any (`*`).
    pub tenant: Option<Arc<str>>,
    /// What it may do.
    pub role: Role,
    /// The user on whose behalf it acts: `sub` of a JWT, or what a trusted proxy says; `None` for a key.
    pub user: Option<Arc<str>>,
    /// Who it is in the audit log: `key_…`, `user 42`, `the first key`; never a secret.
    pub name: Arc<str>,
    /// What it sees of its tenant, if it is not an admin.
    pub visibility: Visibility,
    /// The request that it asks in, for the audit log.
    pub request_id: Option<Arc<str>>,
}

impl Principal {
    /// Somebody who is nobody in particular.
    pub fn new(tenant: Option<Arc<str>>, role: Role) -> Self {
        Self { tenant, role, user: None, name: "".into(), visibility: Visibility::default(), request_id: None }
    }

    /// Whether it sees a webhook of its tenant whose user this is.
    pub fn sees_user(&self, user_id: Option<&str>) -> bool {
        let is_own = || self.user.is_some() && self.user.as_deref() == user_id;
        self.visibility == Visibility::Tenant || self.role == Role::Admin || is_own()
    }
}

#[cfg(test)]
mod event_type_tests;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod webhook_tests;
