//! Handles a request in this order: the general checks of the head, the route, authentication, the body.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use prometheus::IntCounter;

use super::inbound::InboundRequest;
use super::publish::{self, PublishContext};
use super::refusal::unknown_source;
use super::{Admit, Management, RegistryReader};
use crate::auth::AccessRules;
use crate::handoff::ReplyRouter;
use crate::http::connection::ConnectionMonitor;
use crate::http::incoming::{self, BodyLimits, ReceivedBody};
use crate::http::listener::ConnectionInfo;
use crate::http::request::{RequestHead, X_REQUEST_ID, request_id};
use crate::http::{
    self, BodyBudget, BodyOwner, ListenerKind, ManagementRequest, Problem, ProblemCode, Response, RouteTarget, Serve,
    cors, reply, upload,
};
use crate::inbound::source::Source;
use crate::ingest::Submit;
use crate::limits::DISCARDED_BODY_BYTES_MAX;
use crate::model::{DEFAULT_TENANT, Principal, Role, SourceId};
use crate::runtime::metrics::{CounterCache, LatencyRecorder};
use crate::runtime::{Clock, Heartbeat, Instant, Metrics, Random};

/// Stands for callers without a tenant where tenants have shares. No tenant has this name.
const NO_TENANT: &str = "";

/// The request handler of one worker thread.
#[derive(Debug)]
pub struct Worker<D, S, M> {
    pub(super) admit: Arc<Admit<D, S, M>>,
    pub(super) reply_router: ReplyRouter,
    random: RefCell<Random>,
    ack: LatencyRecorder,
    classes: [IntCounter; 4],
    pub(super) inbound: CounterCache,
}

/// A request that is being handled.
pub(super) struct Exchange<'a> {
    connection: ConnectionInfo,
    monitor: &'a ConnectionMonitor,
    incoming: Option<Incoming>,
    /// When the last byte of the body arrived.
    pub(super) complete_at: Option<Instant>,
}

impl<D: RegistryReader, S: Submit, M: Management> Worker<D, S, M> {
    /// Creates the handler. `reply_router` must belong to the same thread.
    pub(super) fn new(admit: Arc<Admit<D, S, M>>, reply_router: ReplyRouter) -> Self {
        let classes = ["2xx", "3xx", "4xx", "5xx"].map(|class| admit.metrics.requests.with_label_values(&[class]));
        let ack = admit.metrics.ack_latency.recorder();
        let inbound = CounterCache::new(&admit.metrics.inbound);
        Self { admit, reply_router, random: RefCell::new(Random::system()), ack, classes, inbound }
    }

    async fn handle(&self, exchange: &mut Exchange<'_>, parts: Parts, id: &HeaderValue) -> Result<Response, Problem> {
        let head = RequestHead::of(&parts);
        let listener = exchange.connection.listener;
        let inbound = InboundRequest { head: &head, parts: &parts, id, path: "", has_token: false };
        let routed = head.check(&parts);
        let routed = routed.and_then(|()| self.admit.router.target(&parts.method, parts.uri.path(), listener));
        match routed.map_err(|problem| self.refused_unrouted(inbound, listener, problem))? {
            RouteTarget::Publish => self.publish(exchange, &head, id).await,
            RouteTarget::Partner(token) => {
                self.partner(exchange, InboundRequest { has_token: true, ..inbound }, token).await
            }
            RouteTarget::Source { name, path } => {
                if let Some(source) = self.named_source(name) {
                    let inbound = InboundRequest { path: path.unwrap_or_default(), ..inbound };
                    return self.receive(exchange, inbound, &source).await;
                }
                let is_for_a_source =
                    name.starts_with(SourceId::PREFIX) || (parts.method == Method::POST && path.is_none());
                if listener == ListenerKind::Public || is_for_a_source {
                    return Err(unknown_source());
                }
                let principal = self.authenticate(&head, exchange.connection.peer)?;
                self.manage(exchange, parts, principal, id).await
            }
            RouteTarget::Management => {
                let principal = self.authenticate(&head, exchange.connection.peer)?;
                self.manage(exchange, parts, principal, id).await
            }
            RouteTarget::Health => {
                let include_stats = head.has_credentials()
                    && self.authenticate(&head, exchange.connection.peer).is_ok_and(|who| may_read(&who));
                if include_stats {
                    self.admit.health.refresh_gauges(&self.admit.management_threads).await;
                }
                Ok(self.admit.health.report(include_stats.then_some(&*self.admit.metrics)))
            }
            RouteTarget::Ready => Ok(self.admit.health.readiness()),
            RouteTarget::Live => reply::json(StatusCode::OK, &serde_json::json!({ "status": "ok" })),
            RouteTarget::Metrics => self.metrics(exchange, &head).await,
            RouteTarget::Document => self.document(exchange, parts).await,
        }
    }

    async fn publish(
        &self,
        exchange: &mut Exchange<'_>,
        head: &RequestHead<'_>,
        id: &HeaderValue,
    ) -> Result<Response, Problem> {
        let admit = &*self.admit;
        let published = async {
            let principal = self.authenticate(head, exchange.connection.peer)?;
            publish::may_publish(&principal)?;
            if let Some(problem) = publish::unavailable(&admit.health) {
                return Err(problem);
            }
            let context = PublishContext::of(head, &principal, id, admit.clock.now(), &self.reply_router)?;
            let owner = BodyOwner::Tenant(principal.tenant.as_deref());
            let body = exchange.body(publish::body_limits(context.media_type, admit.limits), owner, admit).await?;
            exchange.complete_at = Some(admit.clock.instant());
            admit.publish(context, &body.bytes).await
        };
        published.await.inspect_err(|problem: &Problem| {
            admit.metrics.refused.with_label_values(&[problem.code.as_str()]).inc();
        })
    }

    /// The source that a path below `/api/v1/webhooks/` names, regardless of its status.
    pub(super) fn named_source(&self, name: &str) -> Option<Arc<Source>> {
        match name.parse() {
            Ok(id) => self.admit.registry.source_by_id(id),
            Err(_) => self.admit.registry.source(DEFAULT_TENANT, name),
        }
    }

    /// Handles a request on the management threads, and forwards its body while it arrives.
    async fn manage(
        &self,
        exchange: &mut Exchange<'_>,
        mut parts: Parts,
        principal: Principal,
        id: &HeaderValue,
    ) -> Result<Response, Problem> {
        if parts.method == Method::HEAD {
            // The response is the same as for GET. The server omits its body.
            parts.method = Method::GET;
        }
        let request_id: Box<str> = id.to_str().unwrap_or_default().into();
        let principal = self.with_request_context(principal, &request_id);
        let admit = Arc::clone(&self.admit);
        let tenant = principal.tenant.clone();
        let (feed, upload) = upload::open(exchange.incoming()?, admit.limits.body_bytes, &admit.bodies, tenant)?;
        let task = self.admit.management_threads.spawn(async move {
            let body = upload.read().await?;
            // A permit is for work, not for a client that is slow to send its body.
            let _permit = admit.management_threads.permit(principal.tenant.as_deref())?;
            let request = ManagementRequest { parts, body: body.bytes.clone(), principal, request_id };
            Ok(admit.management.handle(request).await)
        });
        feed.forward_until(async { task.await? }, exchange.monitor).await
    }

    async fn document(&self, exchange: &Exchange<'_>, parts: Parts) -> Result<Response, Problem> {
        let admit = Arc::clone(&self.admit);
        let permit = self.admit.management_threads.permit(Some(NO_TENANT))?;
        let task = self.admit.management_threads.spawn(async move {
            let _permit = permit;
            admit.management.document(parts.uri.path())
        });
        exchange.monitor.response_offloaded();
        task.await?.ok_or_else(|| Problem::not_found("document"))
    }

    async fn metrics(&self, exchange: &Exchange<'_>, head: &RequestHead<'_>) -> Result<Response, Problem> {
        if !self.admit.limits.public_metrics
            && exchange.connection.listener != ListenerKind::Admin
            && !may_read(&self.authenticate(head, exchange.connection.peer)?)
        {
            return Err(Problem::new(ProblemCode::Forbidden, "a publisher cannot read"));
        }
        let admit = Arc::clone(&self.admit);
        let permit = self.admit.management_threads.permit(Some(NO_TENANT))?;
        let task = self.admit.management_threads.spawn(async move {
            let _permit = permit;
            admit.health.refresh_gauges(&admit.management_threads).await;
            admit.metrics.ingest_permits_in_use.set(admit.ingest.deliveries() as i64);
            admit.metrics.body_bytes.set(admit.ingest.body_bytes() as i64);
            let (all, public) = admit.bodies.used();
            for (share, bytes) in [("all", all), ("unauthenticated", public)] {
                admit.metrics.receiving_bytes.with_label_values(&[share]).set(bytes as i64);
            }
            let mut response = Response::new(http::Body::from_chunks(admit.metrics.families()));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        });
        exchange.monitor.response_offloaded();
        task.await
    }
}

impl<D: RegistryReader, S: Submit, M: Management> http::RequestHandler for Worker<D, S, M> {
    async fn answer(
        &self,
        connection: ConnectionInfo,
        monitor: &Rc<ConnectionMonitor>,
        request: Request<Incoming>,
    ) -> Response {
        let (parts, incoming) = request.into_parts();
        let id = request_id(&parts.headers, &mut self.random.borrow_mut());
        let mut exchange = Exchange { connection, monitor, incoming: Some(incoming), complete_at: None };
        // The `Origin` is checked only if CORS sites are configured.
        let access = self.admit.access.load().has_origins().then(|| self.admit.access.load_full());
        let listed = access.as_ref().and_then(|access| listed_origin(access, &parts));
        let preflight = listed.as_ref().and_then(|_| cors::preflight(&parts));
        let handled = {
            let work = pin!(async {
                match preflight {
                    Some(response) => Ok(response),
                    None => self.handle(&mut exchange, parts, &id).await,
                }
            });
            http::catch_panic(work).await.and_then(|handled| handled)
        };
        let mut response = handled.unwrap_or_else(|problem| refuse(problem, &id));
        if access.is_some() {
            cors::set_headers(listed.as_ref(), &mut response);
        }
        response.headers_mut().insert(X_REQUEST_ID.clone(), id);
        let class = usize::from(response.status().as_u16() / 100).clamp(2, 5) - 2;
        self.classes[class].inc();
        if let Some(complete_at) = exchange.complete_at {
            let latency = self.admit.clock.instant().duration_since(complete_at);
            self.admit.metrics.ack_seconds.observe(latency.as_secs_f64());
            self.ack.record(latency);
        }
        response
    }
}

impl<D: RegistryReader, S: Submit, M: Management> Serve for Admit<D, S, M> {
    type Handler = Worker<D, S, M>;

    fn worker(self: &Arc<Self>) -> Self::Handler {
        let (reply_router, receiver) = ReplyRouter::open();
        tokio::task::spawn_local(receiver.run());
        Worker::new(Arc::clone(self), reply_router)
    }

    fn heartbeat(&self, worker: usize) -> Heartbeat {
        self.metrics.watchdog.watch(format!("admit-{worker}"))
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

impl Exchange<'_> {
    /// Takes the unread body. It can be taken once.
    fn incoming(&mut self) -> Result<Incoming, Problem> {
        self.incoming.take().ok_or_else(|| Problem::new(ProblemCode::Internal, "the body was read"))
    }

    /// Reads the complete body.
    ///
    /// # Errors
    /// As for [`incoming::read`].
    pub(super) async fn body<'b, D, S, M>(
        &mut self,
        bounds: BodyLimits,
        owner: BodyOwner<'_>,
        admit: &'b Admit<D, S, M>,
    ) -> Result<ReceivedBody<&'b BodyBudget>, Problem> {
        let incoming = self.incoming()?;
        let body = incoming::read(incoming, bounds, (&admit.bodies, owner), self.monitor).await;
        if body.is_ok() {
            self.monitor.body_finished();
        } else {
            self.monitor.body_paused();
        }
        body
    }

    /// The owner of a body whose sender is not authenticated.
    pub(super) fn peer(&self) -> BodyOwner<'static> {
        BodyOwner::Peer(self.connection.peer)
    }

    /// Reads and discards a short body that is not needed, so that the client can use its connection again.
    pub(super) async fn discard_body(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            incoming::discard(incoming, DISCARDED_BODY_BYTES_MAX, self.monitor).await;
        }
    }
}

/// Logs a problem and returns its response. Only internal errors are logged above the debug level, so that neither
/// clients nor an overload can fill the disk with logs.
fn refuse(problem: Problem, id: &HeaderValue) -> Response {
    let id = id.to_str().unwrap_or_default();
    if problem.code == ProblemCode::Internal {
        tracing::error!(request_id = id, detail = %problem.detail, "request failed");
    } else {
        tracing::debug!(request_id = id, code = problem.code.as_str(), detail = %problem.detail, "request refused");
    }
    problem.into_response(id)
}

/// The `Origin` of the request, if its site is configured for CORS.
fn listed_origin(access: &AccessRules, parts: &Parts) -> Option<HeaderValue> {
    let origin = parts.headers.get(ORIGIN)?;
    origin.to_str().is_ok_and(|text| access.allows_origin(text)).then(|| origin.clone())
}

fn may_read(principal: &Principal) -> bool {
    principal.role != Role::Publisher
}
