//! admit: the ingest routes. Checks each request, matches the webhooks, submits the event to commit, and responds after the
//! event is durable.
//!
//! - A response that says "accepted" is built from a [`Committed`](crate::handoff::Committed) and from nothing else.
//! - The response to an invalid request lists every error.
//! - This folder must never know redb or whether a webhook is healthy.
//! - [`crate::http`] contains listeners, connections and the reading of bodies, with their limits.

mod caller;
mod event_type;
mod external_calls;
mod health;
mod inbound;
mod message;
mod parse;
mod publish;
mod refusal;
mod reply;
mod rule_check;
mod validate;
mod verification;
mod worker;

use std::future::Future;
use std::sync::Arc;

pub use external_calls::{ExternalCall, ExternalCallError, ExternalCalls};
pub use health::{ComponentHealth, ComponentState, ProcessHealth};
#[doc(hidden)]
pub use parse::readable_lines;
pub use rule_check::RuleCheckTurns;
pub use worker::Worker;

use crate::auth::SharedAccessRules;
use crate::config;
use crate::http::{BodyBudget, ManagementHandle, ManagementRequest, Response, Router};
use crate::inbound::source::{RateLimiter, Rejections, Source};
use crate::ingest::{Ingest, Matcher};
use crate::model::{Principal, SourceId, Timestamp, Visibility};
use crate::registry::Shared;
use crate::registry::catalogue::TypeRule;
use crate::runtime::{Clock, Metrics, WorkBudget};

/// The state that all worker threads share.
#[derive(Debug)]
pub struct Admit<D, S, M> {
    /// The compiled routes.
    pub router: Arc<Router>,
    /// Authentication without an API key (tokens, trusted proxies), and the sites that CORS allows.
    pub access: SharedAccessRules,
    /// API keys, tenants, sources and the webhooks that match an event.
    pub registry: D,
    /// Builds events and submits them to the log.
    pub ingest: Ingest<D, S>,
    /// The handler of management requests.
    pub management: M,
    /// The threads that run the management handler.
    pub management_threads: ManagementHandle,
    /// The state that `/health` and `/ready` report.
    pub health: Arc<ProcessHealth>,
    /// The memory budget for bodies that are being read or wait for their commit.
    pub bodies: Arc<BodyBudget>,
    /// Bounds the checks of large bodies against rules.
    pub rule_checks: RuleCheckTurns,
    /// The clock.
    pub clock: Clock,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// The rate limiter of the sources.
    pub limiter: RateLimiter,
    /// The latest refused requests of each source, for the person who configures the source.
    pub rejections: Arc<Rejections>,
    /// Fetches certificates, confirms subscriptions, and stores secrets that a handshake contains.
    pub external_calls: Arc<dyn ExternalCalls>,
    /// The size limits of bodies, and whether metrics are public.
    pub limits: RequestLimits,
}

/// The configured limits of requests.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// The maximum size of a body in bytes.
    pub body_bytes: usize,
    /// The maximum size of an array or of NDJSON in bytes.
    pub batch_bytes: usize,
    /// Whether `/metrics` needs no API key.
    pub public_metrics: bool,
}

impl RequestLimits {
    /// The limits of a configuration. A batch may be at least as large as a single body.
    pub fn of(config: &config::Config) -> Self {
        Self {
            body_bytes: config.server.max_body_bytes,
            batch_bytes: config.server.max_batch_bytes.max(config.server.max_body_bytes),
            public_metrics: config.metrics.public,
        }
    }
}

/// The read access to the registry that ingest requests need.
pub trait RegistryReader: Matcher {
    /// The principal of an API key at this time. `None` if the key is unknown, revoked or expired.
    fn authenticate_api_key(&self, key: &str, now: Timestamp) -> Option<Principal>;
    /// Which resources a member of this tenant may see.
    fn visibility(&self, tenant: &str) -> Visibility;
    /// Whether the tenant exists.
    fn has_tenant(&self, name: &str) -> bool;
    /// The rule of the event type catalogue for this type and tenant.
    fn type_rule(&self, tenant: &str, event_type: &str) -> TypeRule;
    /// The work that the tenant may cause in each second.
    fn tenant_work(&self, tenant: &str) -> Arc<WorkBudget>;
    /// The source with this name. `None` if it does not exist or is deleted.
    fn source(&self, tenant: &str, name: &str) -> Option<Arc<Source>>;
    /// The source with this public id. `None` if it does not exist or is deleted.
    fn source_by_id(&self, id: SourceId) -> Option<Arc<Source>>;
    /// The source with this token, regardless of its status. `None` if it does not exist or is deleted.
    fn source_by_token(&self, token: &str) -> Option<Arc<Source>>;
}

impl RegistryReader for Shared {
    fn authenticate_api_key(&self, key: &str, now: Timestamp) -> Option<Principal> {
        self.load().authenticate_api_key(key, now)
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

    fn tenant_work(&self, tenant: &str) -> Arc<WorkBudget> {
        Arc::clone(self.load().tenant_work(tenant))
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

/// The handler of management requests and documents, which share the listeners with ingest. It runs on the management
/// threads.
pub trait Management: Send + Sync + 'static {
    /// Handles a request below `/api/v1/` from an authenticated caller.
    fn handle(&self, call: ManagementRequest) -> impl Future<Output = Response> + Send;

    /// The public document at a path below `/openapi.` or `/docs`. `None` if it does not exist.
    fn document(&self, _path: &str) -> Option<Response> {
        None
    }
}

#[cfg(test)]
mod tests;
