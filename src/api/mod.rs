//! api: management over HTTP, one file per resource. Knows the stages by their handles; is known by admit's router.
//!
//! Promises: what belongs to another tenant is not there (404); a secret is in no answer but the one that made it; every
//! list is bounded; what a 202 acknowledged is found at once. Checked in this order: role, query, existence, media
//! type, body, state. Must never know: redb, threads, how a delivery is made.

use std::sync::Arc;

use hyper::Method;
use tokio::sync::Semaphore;

use crate::commit::ReadLog;
use crate::limits::API_READS_AT_ONCE;
use crate::model::{Endpoint, RetryPolicy, Webhook};
use crate::registry::{DEFAULT_TENANT, Known, Principal, Shared, Writer};
use crate::runtime::Clock;
use crate::source::Rejections;

pub mod problem;
mod route;

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

mod body;
mod idempotency;
mod page;
mod reply;
mod roles;
mod search;
mod store;

pub use figures::{BreakerState, FigureStore};
pub use problem::{FieldError, Problem, ProblemCode};
pub use store::{Answered, DeadLetter, Delivery, DeliveryStore, Later, Part, Replay, StoreFailed, Work};
pub use webhook_test::{TestDelivery, TestRefused, Tested, Tester};

use docs::document;
use idempotency::{Idempotency, Turn};
use route::{Route, WebhookRef};

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
    figures: Arc<dyn FigureStore>,
    log: Arc<dyn ReadLog>,
    check_url: CheckUrl,
    default_retry: RetryPolicy,
    rejections: Arc<Rejections>,
    clock: Clock,
    tester: Arc<dyn Tester>,
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
        let path = route::spelled(call.parts.uri.path());
        let mut route = Route::parse(&path).ok_or_else(|| Problem::not_found("path or id"))?;
        let method = if call.parts.method == Method::HEAD { &Method::GET } else { &call.parts.method };
        if !route.allows(method) {
            return Err(Problem::method_not_allowed(route.allow()));
        }
        if let Route::Document(format) = route {
            return Ok(document(format));
        }
        roles::authorise(call.principal.role, route, method)?;
        page::Query::of(&call.parts.uri).none_is_empty()?;
        idempotency::key_of(&call.parts.headers)?;
        self.look_up(call, &mut route)?;
        match route {
            Route::Sources
            | Route::Source(_)
            | Route::SourceRestore(_)
            | Route::RotateSecret(_)
            | Route::RotateToken(_)
            | Route::Guide(_)
            | Route::Rejections(_) => self.answer_source(call, route, method).await,
            Route::Deliveries
            | Route::DeliveriesOf(_)
            | Route::Delivery(_)
            | Route::RetryDelivery(_)
            | Route::Recover(_)
            | Route::DeadLetters
            | Route::DeadLettersOf(_)
            | Route::DeadLetterOf(..)
            | Route::ReplayDeadLetter(..)
            | Route::BulkReplay(_)
            | Route::Events
            | Route::Event(_)
            | Route::ReplayEvent(_)
            | Route::Replays
            | Route::Replay(_) => self.answer_delivery(call, route, method).await,
            Route::Keys
            | Route::Key(_)
            | Route::Tenants
            | Route::Audit
            | Route::EventTypes(_)
            | Route::EventType(_) => self.answer_admin(call, route, method).await,
            _ => self.answer_webhook(call, route, method).await,
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

    async fn answer_webhook(&self, call: &Call, route: Route<'_>, method: &Method) -> Result<Response, Problem> {
        match (route, method) {
            (Route::Webhooks, &Method::POST) => self.create_webhook(call).await,
            (Route::Webhooks, _) => self.list_webhooks(call),
            (Route::Webhook(of), &Method::PATCH) => self.patch_webhook(call, of).await,
            (Route::Webhook(of), &Method::PUT) => self.put_webhook(call, of).await,
            (Route::Webhook(of), &Method::DELETE) => self.delete_webhook(call, of).await,
            (Route::Webhook(of), _) => self.read_webhook(call, of),
            (Route::Pause(of), _) => self.pause_webhook(call, of).await,
            (Route::Resume(of), _) => self.resume_webhook(call, of).await,
            (Route::Test(of), _) => self.test_webhook(call, of).await,
            (Route::RegenerateSecret(of), _) => self.regenerate_secret(call, of).await,
            (Route::WebhookMetrics(of), _) => self.webhook_metrics(call, of).await,
            (Route::Stats, _) => self.stats(call).await,
            (Route::Subscriptions(of), &Method::POST) => self.create_subscription(call, of).await,
            (Route::Subscriptions(of), _) => self.list_subscriptions(call, of),
            (Route::Subscription(of, id), &Method::PUT) => self.put_subscription(call, of, id).await,
            (Route::Subscription(of, id), &Method::DELETE) => self.delete_subscription(call, of, id).await,
            (Route::Subscription(of, id), _) => self.read_subscription(call, of, id),
            (Route::FilterTest, _) => self.test_filter(call).await,
            (Route::Document(format), _) => Ok(document(format)),
            _ => Err(Problem::not_found("path or id")),
        }
    }

    async fn answer_delivery(&self, call: &Call, route: Route<'_>, method: &Method) -> Result<Response, Problem> {
        match (route, method) {
            (Route::Deliveries, _) => self.list_deliveries(call, None).await,
            (Route::DeliveriesOf(of), _) => self.list_deliveries(call, Some(of)).await,
            (Route::Delivery(id), _) => self.read_delivery(call, id).await,
            (Route::RetryDelivery(id), _) => self.retry_delivery(call, id).await,
            (Route::Recover(of), _) => self.recover(call, of).await,
            (Route::Events, _) => self.list_events(call).await,
            (Route::Event(id), _) => self.read_event(call, id).await,
            (Route::ReplayEvent(id), _) => self.replay_event(call, id).await,
            (Route::Replays, &Method::POST) => self.start_replay(call).await,
            (Route::Replays, _) => self.list_replays(call).await,
            (Route::Replay(no), &Method::DELETE) => self.cancel_replay(call, no).await,
            (Route::Replay(no), _) => self.read_replay(call, no).await,
            (Route::DeadLetters, _) => self.list_dead_letters(call, None).await,
            (Route::DeadLettersOf(of), _) => self.list_dead_letters(call, Some(of)).await,
            (Route::DeadLetterOf(of, letter), &Method::DELETE) => self.discard_dead_letter(call, of, letter).await,
            (Route::DeadLetterOf(of, letter), _) => self.read_dead_letter(call, of, letter).await,
            (Route::ReplayDeadLetter(of, letter), _) => self.replay_dead_letter(call, of, letter).await,
            (Route::BulkReplay(of), _) => self.bulk_replay(call, of).await,
            _ => Err(Problem::not_found("path or id")),
        }
    }

    async fn answer_admin(&self, call: &Call, route: Route<'_>, method: &Method) -> Result<Response, Problem> {
        match (route, method) {
            (Route::Keys, &Method::POST) => self.create_key(call).await,
            (Route::Keys, _) => self.list_keys(call),
            (Route::Key(id), &Method::DELETE) => self.revoke_key(call, id).await,
            (Route::Key(id), _) => self.read_key(call, id),
            (Route::Tenants, &Method::POST) => self.create_tenant(call).await,
            (Route::Tenants, _) => self.list_tenants(call),
            (Route::Audit, _) => self.list_audit(call).await,
            (Route::EventTypes(_), &Method::POST) => self.create_event_type(call).await,
            (Route::EventTypes(_), _) => self.list_event_types(call),
            (Route::EventType(name), &Method::PUT) => self.put_event_type(call, name).await,
            (Route::EventType(name), &Method::DELETE) => self.delete_event_type(call, name).await,
            (Route::EventType(name), _) => self.read_event_type(call, name),
            _ => Err(Problem::not_found("path or id")),
        }
    }

    /// For a key of tenant `*`, a uid is one of `?tenant=`, where that is given; from here on the webhook has its id.
    fn look_up(&self, call: &Call, route: &mut Route<'_>) -> Result<(), Problem> {
        if call.principal.tenant.is_some() {
            return Ok(());
        }
        if let Some(of) = route.webhook_mut()
            && let WebhookRef::Uid(uid) = *of
            && let Some(tenant) = webhook_list::tenant_of(&call.principal, &page::Query::of(&call.parts.uri))?
        {
            let registry = self.registry.load();
            let webhook = registry.webhook_by_uid(tenant, uid).ok_or_else(|| Problem::not_found("webhook"))?;
            *of = WebhookRef::Id(webhook.id);
        }
        Ok(())
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
