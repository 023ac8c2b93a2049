//! api: management over HTTP, one file per resource. Knows the stages by their handles; is known by admit's router.
//!
//! Promises: what belongs to another tenant is not there (404); a secret is in no answer but the one that made it; every
//! list is bounded; what a 202 acknowledged is found at once. Checked in this order: role, existence, media type, body.
//! Must never know: redb, threads, how a delivery is made.

use std::sync::Arc;

use hyper::Method;
use tokio::sync::Semaphore;

use crate::commit::ReadLog;
use crate::config::Role;
use crate::limits::API_READS_AT_ONCE;
use crate::model::{Endpoint, RetryPolicy, WebhookId};
use crate::registry::{Known, Principal, Shared, Writer};
use crate::runtime::Clock;
use crate::source::Rejections;

pub mod problem;
mod route;

mod dead_letter;
mod delivery;
mod event;
mod openapi;
mod replay;
mod source;
mod source_body;
mod source_rotate;
mod source_view;
mod webhook;
mod webhook_body;
mod webhook_fields;
mod webhook_headers;
mod webhook_view;

mod body;
mod idempotency;
mod page;
mod reply;
mod store;

pub use openapi::{Format, document};
pub use problem::{FieldError, Problem, ProblemCode};
pub use store::{Answered, DeadLetter, Delivery, DeliveryStore, Later, Replay, StoreFailed};

use idempotency::{Idempotency, Turn};
use route::Route;

#[cfg(test)]
mod tests;

/// Every answer's body is whole in memory.
pub type Response = hyper::Response<http_body_util::Full<bytes::Bytes>>;

/// A request whose body has been read and whose caller is known.
#[derive(Debug)]
pub struct Call {
    /// Method, URI, headers.
    pub parts: hyper::http::request::Parts,
    /// The whole body.
    pub body: bytes::Bytes,
    /// Who asks.
    pub principal: Principal,
    /// The caller's `X-Request-ID` if it was sane, else a new one.
    pub request_id: Box<str>,
}

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
}

/// The answer to whoever had something made.
struct Made {
    answer: Response,
    /// The same without its secrets.
    remembered: Response,
}

impl From<Response> for Made {
    fn from(answer: Response) -> Self {
        Self { remembered: answer.clone(), answer }
    }
}

/// See the module.
pub struct Api {
    registry: Shared,
    writer: Writer,
    deliveries: Arc<dyn DeliveryStore>,
    log: Arc<dyn ReadLog>,
    check_url: CheckUrl,
    default_retry: RetryPolicy,
    rejections: Arc<Rejections>,
    clock: Clock,
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
            log: parts.log,
            check_url: parts.check_url,
            default_retry: parts.default_retry,
            rejections: parts.rejections,
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

    async fn answer(&self, call: &Call) -> Result<Response, Problem> {
        let route = Route::parse(call.parts.uri.path()).ok_or_else(|| Problem::not_found("path or id"))?;
        let method = if call.parts.method == Method::HEAD { &Method::GET } else { &call.parts.method };
        if !route.allows(method) {
            return Err(Problem::method_not_allowed(route.allow()));
        }
        if let Route::Document(format) = route {
            return Ok(document(format));
        }
        authorise(call.principal.role, method)?;
        match route {
            Route::Sources
            | Route::Source(_)
            | Route::SourceRestore(_)
            | Route::RotateSecret(_)
            | Route::RotateToken(_)
            | Route::Guide(_)
            | Route::Rejections(_) => self.answer_source(call, route, method).await,
            _ => self.answer_other(call, route, method).await,
        }
    }

    async fn answer_source(&self, call: &Call, route: Route<'_>, method: &Method) -> Result<Response, Problem> {
        match (route, method) {
            (Route::Sources, &Method::POST) => self.create_source(call).await,
            (Route::Sources, _) => self.list_sources(call),
            (Route::Source(of), &Method::PATCH) => self.patch_source(call, of).await,
            (Route::Source(of), &Method::DELETE) => self.delete_source(call, of).await,
            (Route::Source(of), _) => self.read_source(call, of),
            (Route::SourceRestore(of), _) => self.restore_source(call, of).await,
            (Route::RotateSecret(of), _) => self.rotate_secret(call, of).await,
            (Route::RotateToken(of), _) => self.rotate_token(call, of).await,
            (Route::Guide(of), _) => self.guide(call, of),
            (Route::Rejections(of), _) => self.list_rejections(call, of),
            _ => Err(Problem::not_found("path or id")),
        }
    }

    async fn answer_other(&self, call: &Call, route: Route<'_>, method: &Method) -> Result<Response, Problem> {
        match (route, method) {
            (Route::Webhooks, &Method::POST) => self.create_webhook(call).await,
            (Route::Webhooks, _) => self.list_webhooks(call),
            (Route::Webhook(id), &Method::PATCH) => self.patch_webhook(call, id).await,
            (Route::Webhook(id), &Method::PUT) => self.put_webhook(call, id).await,
            (Route::Webhook(id), &Method::DELETE) => self.delete_webhook(call, id).await,
            (Route::Webhook(id), _) => self.read_webhook(call, id),
            (Route::Pause(id), _) => self.pause_webhook(call, id).await,
            (Route::Resume(id), _) => self.resume_webhook(call, id).await,
            (Route::DeliveriesOf(id), _) => self.list_deliveries(call, id).await,
            (Route::Delivery(id), _) => self.read_delivery(call, id).await,
            (Route::Events, _) => self.list_events(call).await,
            (Route::Event(id), _) => self.read_event(call, id).await,
            (Route::ReplayEvent(id), _) => self.replay_event(call, id).await,
            (Route::Replays, &Method::POST) => self.start_replay(call).await,
            (Route::Replays, _) => self.list_replays(call).await,
            (Route::Replay(no), _) => self.read_replay(call, no).await,
            (Route::DeadLetters(id), _) => self.list_dead_letters(call, id).await,
            (Route::DeadLetter(id, letter), _) => self.read_dead_letter(call, id, letter).await,
            (Route::ReplayDeadLetter(id, letter), _) => self.replay_dead_letter(call, id, letter).await,
            (Route::BulkReplay(id), _) => self.bulk_replay(call, id).await,
            (Route::Document(format), _) => Ok(document(format)),
            _ => Err(Problem::not_found("path or id")),
        }
    }

    /// The webhook with this id, removed or not, if the caller may know of it.
    fn known(&self, principal: &Principal, id: WebhookId) -> Result<Known, Problem> {
        let registry = self.registry.load();
        registry
            .known_by_id(id)
            .filter(|known| sees(principal, known.tenant()))
            .cloned()
            .ok_or_else(|| Problem::not_found("webhook"))
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
        let making = tokio::spawn(async move {
            let made = work.await?;
            claim.keep(made.remembered);
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

fn authorise(role: Role, method: &Method) -> Result<(), Problem> {
    match role {
        Role::Publisher => Err(Problem::new(ProblemCode::Forbidden, "a publisher may only publish events")),
        Role::Viewer if method != Method::GET => Err(Problem::new(ProblemCode::Forbidden, "a viewer may only read")),
        Role::Viewer | Role::Member | Role::Admin => Ok(()),
    }
}

/// Whether what belongs to `tenant` is there for the caller.
fn sees(principal: &Principal, tenant: &str) -> bool {
    principal.tenant.as_deref().is_none_or(|own| own == tenant)
}
