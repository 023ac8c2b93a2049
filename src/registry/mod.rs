//! registry: webhooks, sources, event types, tenants and API keys, as an immutable snapshot that one thread replaces.
//!
//! Guarantees:
//!
//! - A change is durable in registry.redb, and visible in the snapshot, before the caller gets its result.
//! - A secret is on the disk only encrypted.
//! - Readers load the snapshot without a lock.
//!
//! Must never know: HTTP, and the content of deliveries.
//!
//! ```text
//! api, dispatch ──► Writer ──► one thread: batch, one transaction, fsync, new snapshot ──► results, shards, settle
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
mod evaluation;
mod event_type_change;
mod event_types;
mod keys;
mod memory;
mod profiles;
mod snapshot;
mod source_change;
mod source_setup;
mod sources;
mod stored_response;
mod tenants;
mod versions;
mod webhook_change;
mod writer;
mod writer_loop;
mod writer_state;

pub use access::{AccessError, FileAccess, NewKey};
pub use change::ChangeError;
pub use event_type_change::{ChangedEventType, EventTypeError, PutMode};
pub use snapshot::{Registry, WebhookEntry};
pub use source_change::SourceError;
pub use source_setup::SourceSetup;
pub use stored_response::{ChangedResource, RenderResponse, ResponseRenderer};
pub use tenants::TenantInfo;
pub use webhook_change::SubscriptionSettings;
pub use writer::{RegistryOptions, RegistryThread, Writer, start};

pub use crate::storage::registry::{
    AuditEntry, AuditPage, AuditQuery, KeyFileError, KeyRecord as Key, RegistryStoreError, RemovedWebhook as Removed,
    admin_key,
};

/// The current snapshot, shared by all stages.
pub type Shared = Arc<ArcSwap<Registry>>;

#[cfg(test)]
mod event_type_tests;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
pub(crate) mod stepping;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod webhook_tests;
