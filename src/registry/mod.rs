//! registry: webhooks and keys, as an immutable snapshot for readers and one thread that changes them.
//!
//! Promises: a change is durable in registry.redb before its answer, and in the snapshot before it too; a secret is on the
//! disk only encrypted. Readers load the snapshot without a lock.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Role;
use crate::model::{Webhook, WebhookId, WebhookNo, Webhooks};

/// Where every stage finds the current snapshot.
pub type Shared = Arc<ArcSwap<Registry>>;

/// Who asks.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The tenant; `None`: any (`*`).
    pub tenant: Option<Arc<str>>,
    /// What it may do.
    pub role: Role,
}

/// An immutable snapshot: webhooks by number and by id, an index from tenant and type to webhooks, keys by hash.
#[derive(Debug, Default)]
pub struct Registry {}

impl Registry {
    /// The webhooks of the tenant that want this type and are matched in their status, ascending, each once.
    pub fn matching(&self, _tenant: &str, _event_type: &str) -> Webhooks {
        unimplemented!("owned by registry")
    }

    /// The webhook with this number, unless it was removed.
    pub fn webhook(&self, _no: WebhookNo) -> Option<&Arc<Webhook>> {
        unimplemented!("owned by registry")
    }

    /// The webhook with this public id, unless it was removed.
    pub fn webhook_by_id(&self, _id: WebhookId) -> Option<&Arc<Webhook>> {
        unimplemented!("owned by registry")
    }

    /// Who the bearer of this key is.
    pub fn authenticate(&self, _key: &str) -> Option<Principal> {
        unimplemented!("owned by registry")
    }

    /// The tenant's name as a shared string, if there is such a tenant (`default` always is).
    pub fn tenant(&self, _name: &str) -> Option<Arc<str>> {
        unimplemented!("owned by registry")
    }
}
