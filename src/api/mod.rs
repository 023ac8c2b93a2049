//! api: management over HTTP, one file per resource. Knows the stages by their handles; is known by admit's router.
//!
//! Promises: what belongs to another tenant is not there (404); a secret is in no answer but the one that made it; every
//! list is bounded; what a 202 acknowledged is found at once. Checked in this order: role, query, existence, media
//! type, body, state. Must never know: redb, threads, how a delivery is made.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::http::{Background, Call, Problem, ProblemCode, Response, Router, reply};
use crate::inbound::source::Rejections;
use crate::limits::API_READS_AT_ONCE;
use crate::model::{Principal, RetryPolicy};
use crate::outbound::{Endpoint, Webhook};
use crate::registry::{DEFAULT_TENANT, Known, Shared, Writer};
use crate::runtime::Clock;
use crate::storage::ReadLog;

mod route;
pub mod routes;

mod audit;
mod dead_letter;
mod delivery;
pub mod docs;
mod event;
mod event_type;
mod figures;
mod filter_test;
mod key;
mod listing;
mod recover;
mod replay;
mod source;
mod source_body;
mod source_rotate;
mod source_view;
mod stats;
mod subscription;
mod tenant;
mod webhook;
mod webhook_auth;
mod webhook_body;
mod webhook_fields;
mod webhook_headers;
mod webhook_keys;
mod webhook_list;
mod webhook_metrics;
mod webhook_policy;
mod webhook_preview;
mod webhook_secret;
mod webhook_test;
mod webhook_tls;
mod webhook_view;

mod answer;
mod body;
mod idempotency;
mod page;
mod search;
mod store;

pub use figures::{BreakerState, FigureStore};
pub use store::{Answered, DeadLetter, Delivery, DeliveryStore, Later, Part, Replay, StoreFailed, Work};
pub use webhook_test::{TestDelivery, TestRefused, Tested, Tester};

use idempotency::{Idempotency, Turn};
use route::WebhookRef;

#[cfg(test)]
mod tests;

/// Turns the URL of a webhook into an endpoint, or says why not.
pub type CheckUrl = Box<dyn Fn(&str) -> Result<Endpoint, UrlProblem> + Send + Sync>;

/// Why a URL cannot be a webhook's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlProblem {
    /// Whether the egress rules forbid it, and not its form.
    pub egress: bool,
    /// What is wrong and what is allowed.
    pub detail: String,
}

/// What the interface is built from.
pub struct Parts {
    /// Webhooks, keys.
    pub registry: Shared,
    /// The way to change them.
    pub writer: Writer,
    /// Deliveries, dead letters, replays.
    pub deliveries: Arc<dyn DeliveryStore>,
    /// Figures.
    pub figures: Arc<dyn FigureStore>,
    /// Events.
    pub log: Arc<dyn ReadLog>,
    /// The rules for URLs.
    pub check_url: CheckUrl,
    /// `delivery.schedule`, for webhooks without a policy of their own.
    pub default_retry: RetryPolicy,
    /// What sources refused.
    pub rejections: Arc<Rejections>,
    /// For idempotency keys, and the ends of secrets.
    pub clock: Clock,
    /// Makes test deliveries.
    pub tester: Arc<dyn Tester>,
    /// The routes.
    pub router: Arc<Router>,
    /// For what is completed although the caller left.
    pub background: Background,
}

/// The answer to whoever had something made.
struct Made {
    answer: Response,
    /// The same without its secrets; `None` of one that can be given once only.
    remembered: Option<Response>,
}

impl From<Response> for Made {
    fn from(answer: Response) -> Self {
        Self { remembered: reply::copy(&answer), answer }
    }
}

/// See the module.
pub struct Api {
    registry: Shared,
    writer: Writer,
    deliveries: Arc<dyn DeliveryStore>,
    figures: Arc<dyn FigureStore>,
    log: Arc<dyn ReadLog>,
    check_url: CheckUrl,
    default_retry: RetryPolicy,
    rejections: Arc<Rejections>,
    clock: Clock,
    tester: Arc<dyn Tester>,
    router: Arc<Router>,
    background: Background,
    idempotency: Arc<Idempotency>,
    reads: Semaphore,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    /// The interface over these parts.
    pub fn new(parts: Parts) -> Self {
        Self {
            registry: parts.registry,
            writer: parts.writer,
            deliveries: parts.deliveries,
            figures: parts.figures,
            log: parts.log,
            check_url: parts.check_url,
            default_retry: parts.default_retry,
            rejections: parts.rejections,
            tester: parts.tester,
            router: parts.router,
            background: parts.background,
            idempotency: Idempotency::new(parts.clock.clone()),
            clock: parts.clock,
            reads: Semaphore::new(API_READS_AT_ONCE),
        }
    }

    /// Answers a call. The body of an answer to HEAD is left to the server to drop, which keeps its length.
    pub async fn handle(&self, call: Call) -> Response {
        let answer = match Box::pin(self.answer(&call)).await {
            Ok(answer) => answer,
            Err(problem) => problem.into_response(&call.request_id),
        };
        if answer.status() == hyper::StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(target: "hooktide::api", request_id = %call.request_id, path = call.parts.uri.path(), "failed");
        }
        answer
    }

    /// The webhook that a path names, removed or not, if the caller may know of it. A uid leads only to one that is there.
    fn known(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<Known, Problem> {
        let registry = self.registry.load();
        let known = match of {
            WebhookRef::Id(id) => registry.known_by_id(id),
            WebhookRef::Uid(uid) => {
                let tenant = principal.tenant.as_deref().unwrap_or(DEFAULT_TENANT);
                registry.webhook_by_uid(tenant, uid).and_then(|webhook| registry.known(webhook.no))
            }
        };
        known.filter(|known| may_see(principal, known)).cloned().ok_or_else(|| Problem::not_found("webhook"))
    }

    /// Makes something, also when the caller hangs up meanwhile, and remembers the answer for its `Idempotency-Key`.
    async fn make(
        &self,
        call: &Call,
        work: impl Future<Output = Result<Made, Problem>> + Send + 'static,
    ) -> Result<Response, Problem> {
        let tenant = call.principal.tenant.as_deref().unwrap_or("*");
        let scope = [tenant, call.parts.uri.path()];
        let claim = match self.idempotency.claim(&call.parts.headers, scope, &call.body)? {
            Turn::First(claim) => claim,
            Turn::Again(answer) => return Ok(answer),
        };
        let making = self.background.spawn(async move {
            let made = work.await?;
            if let Some(remembered) = made.remembered {
                claim.keep(remembered);
            }
            Ok(made.answer)
        });
        making.await.unwrap_or_else(|_| Err(Problem::new(ProblemCode::Internal, "it could not be made")))
    }

    /// Reads from the stores on a thread that may block, so many at once.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn DeliveryStore, &dyn ReadLog) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let failed = || Problem::new(ProblemCode::Internal, "the store could not be read");
        let _turn = self.reads.acquire().await.map_err(|_| failed())?;
        let (deliveries, log) = (Arc::clone(&self.deliveries), Arc::clone(&self.log));
        tokio::task::spawn_blocking(move || read(&*deliveries, &*log)).await.map_err(|_| failed())?
    }
}

/// Whether what belongs to `tenant` is there for the caller.
fn sees(principal: &Principal, tenant: &str) -> bool {
    principal.tenant.as_deref().is_none_or(|own| own == tenant)
}

/// Whether a webhook, there or removed, is there for the caller: the one rule for reads, lists, counts and figures.
fn may_see(principal: &Principal, webhook: &Known) -> bool {
    match webhook {
        Known::Live(webhook) => may_see_live(principal, webhook),
        // Whose it was is not known any more.
        Known::Removed(removed) => sees(principal, &removed.tenant) && principal.sees_user(None),
    }
}

/// The same of a webhook that is there.
fn may_see_live(principal: &Principal, webhook: &Webhook) -> bool {
    sees(principal, &webhook.tenant) && principal.sees_user(webhook.user_id.as_deref())
}
