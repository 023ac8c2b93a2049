//! admit: HTTP in. Checks what came, matches it, hands it to commit, and answers when it is on the disk.
//!
//! Promises: an answer that says "accepted" is built from a [`Committed`](crate::handoff::Committed) and from nothing else;
//! a request that is not acceptable is told each thing that is wrong with it. Must never know: redb; whether a webhook is
//! healthy. Listeners, connections and the reading of bodies, with their bounds, are in [`crate::http`].

mod caller;
mod event_type;
mod external_calls;
mod health;
mod inbound;
mod parse;
mod publish;
mod refusal;
mod reply;
mod service;
mod validate;

use std::future::Future;
use std::sync::Arc;

pub use external_calls::{CallFailed, ExternalCall, ExternalCalls};
pub use health::{Health, Part, PartState};
pub use service::Worker;

use crate::auth::SharedAccess;
use crate::config;
use crate::http::{BodyRoom, Call, Manage, Response, Router};
use crate::inbound::source::{Limiter, Rejections, Source};
use crate::ingest::{Ingest, Matcher};
use crate::model::{Principal, SourceId, Timestamp, Visibility};
use crate::registry::Shared;
use crate::registry::catalogue::TypeRule;
use crate::runtime::{Clock, Metrics};

/// All that the workers share.
#[derive(Debug)]
pub struct Admit<D, S, M> {
    /// Which path leads where.
    pub router: Arc<Router>,
    /// Who may without an API key, and from which sites.
    pub access: SharedAccess,
    /// Who may, and who wants what.
    pub directory: D,
    /// Makes events and brings them into the log.
    pub ingest: Ingest<D, S>,
    /// Everything that is neither publishing nor health …
    pub management: M,
    /// … and the threads on which it runs.
    pub manage: Manage,
    /// What `/health` and `/ready` say.
    pub health: Arc<Health>,
    /// Counts the bodies that are being read or wait for their commit.
    pub bodies: Arc<BodyRoom>,
    /// Time.
    pub clock: Clock,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// How fast each source may send.
    pub limiter: Limiter,
    /// What sources were refused, for whoever sets them up.
    pub rejections: Arc<Rejections>,
    /// For certificates, confirmations and secrets that a handshake brings.
    pub external_calls: Arc<dyn ExternalCalls>,
    /// What a body may weigh, and who may see the metrics.
    pub limits: Limits,
}

/// The configuration that admit needs of a request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Bytes of an array or of NDJSON.
    pub batch_bytes: usize,
    /// Whether `/metrics` needs no key.
    pub public_metrics: bool,
}

impl Limits {
    /// As configured.
    pub fn of(config: &config::Config) -> Self {
        Self {
            body_bytes: config.server.max_body_bytes,
            batch_bytes: config.server.max_batch_bytes.max(config.server.max_body_bytes),
            public_metrics: config.metrics.public,
        }
    }
}

/// The part of the registry that a request needs.
pub trait Directory: Matcher {
    /// Who the bearer of this API key is, at this time.
    fn authenticate(&self, key: &str, now: Timestamp) -> Option<Principal>;
    /// What a member of this tenant sees.
    fn visibility(&self, tenant: &str) -> Visibility;
    /// Whether there is such a tenant.
    fn has_tenant(&self, name: &str) -> bool;
    /// What the catalogue says of a tenant's events of this type.
    fn type_rule(&self, tenant: &str, event_type: &str) -> TypeRule;
    /// The source of this name; a deleted one is none.
    fn source(&self, tenant: &str, name: &str) -> Option<Arc<Source>>;
    /// The source with this public id; a deleted one is none.
    fn source_by_id(&self, id: SourceId) -> Option<Arc<Source>>;
    /// The source whose token this is, whatever its status; a deleted one is none.
    fn source_by_token(&self, token: &str) -> Option<Arc<Source>>;
}

impl Directory for Shared {
    fn authenticate(&self, key: &str, now: Timestamp) -> Option<Principal> {
        self.load().authenticate(key, now)
    }

    fn visibility(&self, tenant: &str) -> Visibility {
        self.load().visibility(tenant)
    }

    fn has_tenant(&self, name: &str) -> bool {
        self.load().tenant(name).is_some()
    }

    fn type_rule(&self, tenant: &str, event_type: &str) -> TypeRule {
        self.load().type_rule(tenant, event_type)
    }

    fn source(&self, tenant: &str, name: &str) -> Option<Arc<Source>> {
        self.load().source(tenant, name).cloned()
    }

    fn source_by_id(&self, id: SourceId) -> Option<Arc<Source>> {
        self.load().source_by_id(id).cloned()
    }

    fn source_by_token(&self, token: &str) -> Option<Arc<Source>> {
        self.load().source_by_token(token).cloned()
    }
}

/// The rest of the interface, behind the same listeners. Called on the threads of the management.
pub trait Management: Send + Sync + 'static {
    /// A call below `/api/v1/` of somebody who is known.
    fn handle(&self, call: Call) -> impl Future<Output = Response> + Send;

    /// A document below `/openapi.` or `/docs`, open to everybody, if there is one.
    fn document(&self, _path: &str) -> Option<Response> {
        None
    }
}

#[cfg(test)]
mod tests;
