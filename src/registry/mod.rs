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

mod access;
mod audit;
pub mod catalogue;
mod change;
mod compile;
mod cow;
mod event_type_change;
mod event_types;
mod keys;
mod profiles;
mod snapshot;
mod source_change;
mod source_setup;
mod sources;
mod tenants;
mod webhook_change;
mod writer;
mod writer_loop;
mod writer_state;

pub use access::{AccessError, FileAccess, NewKey};
pub use change::ChangeError;
pub use event_type_change::{ChangedType, EventTypeError, Replaces};
pub use snapshot::{Lookup, Registry};
pub use source_change::SourceError;
pub use source_setup::SourceSetup;
pub use tenants::TenantInfo;
pub use webhook_change::SubscriptionSettings;
pub use writer::{Running, Start, Writer, start};

pub use crate::storage::registry::{
    AuditEntry, AuditPage, AuditQuery, KeyFileError, KeyRecord as Key, RegistryStoreError, RemovedWebhook as Removed,
    admin_key,
};

/// Where every stage finds the current snapshot.
pub type Shared = Arc<ArcSwap<Registry>>;

#[cfg(test)]
mod event_type_tests;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod webhook_tests;
