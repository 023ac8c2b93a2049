//! A request from its head to its answer, in this order: what no request may be, path and method, who asks, body.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use prometheus::IntCounter;

use super::inbound;
use super::publish::{self, PublishContext};
use super::{Admit, Directory, Management};
use crate::auth::Access;
use crate::handoff::ReplyRouter;
use crate::http::connection::Watch;
use crate::http::incoming::{self, Bounds, Complete};
use crate::http::listener::Arrival;
use crate::http::request::{Head, X_REQUEST_ID, request_id};
use crate::http::{
    self, BodyRoom, Call, ListenerKind, Problem, ProblemCode, Response, Serve, Target, Verbs, cors, reply, upload,
};
use crate::inbound::source::{Source, SourceStatus};
use crate::ingest::Submit;
use crate::model::{DEFAULT_TENANT, Principal, Role, SourceId};
use crate::runtime::metrics::{Recorder, UsedCounters};
use crate::runtime::{Clock, Instant, Random};

/// What one thread has for its requests.
#[derive(Debug)]
pub struct Worker<D, S, M> {
    pub(super) admit: Arc<Admit<D, S, M>>,
    pub(super) desk: ReplyRouter,
    random: RefCell<Random>,
    ack: Recorder,
    classes: [IntCounter; 4],
    pub(super) inbound: UsedCounters,
}

/// A request whose answer is being made.
pub(super) struct Exchange<'a> {
    at: Arrival,
    watch: &'a Watch,
    incoming: Option<Incoming>,
    /// When the last byte had come.
    pub(super) complete_at: Option<Instant>,
}

impl<D: Directory, S: Submit, M: Management> Worker<D, S, M> {
    /// `desk` is of the thread that this worker lives on.
    pub(super) fn new(admit: Arc<Admit<D, S, M>>, desk: ReplyRouter) -> Self {
        let classes = ["2xx", "3xx", "4xx", "5xx"].map(|class| admit.metrics.requests.with_label_values(&[class]));
        let ack = admit.metrics.ack_latency.recorder();
        let inbound = UsedCounters::new(&admit.metrics.inbound);
        Self { admit, desk, random: RefCell::new(Random::system()), ack, classes, inbound }
    }

    async fn handle(&self, exchange: &mut Exchange<'_>, parts: Parts, id: &HeaderValue) -> Result<Response, Problem> {
        let head = Head::of(&parts);
        head.check(&parts)?;
        match self.admit.router.target(&parts.method, parts.uri.path(), exchange.at.surface)? {
            Target::Publish => self.publish(exchange, &head, id).await,
            Target::Partner(token) => {
                let call = inbound::Call { head: &head, parts: &parts, id, path: "" };
                self.partner(exchange, call, token).await
            }
            Target::Source { name, path } => {
                if let Some(source) = self.source(&parts.method, exchange.at.surface, name, path)? {
                    let call = inbound::Call { head: &head, parts: &parts, id, path: path.unwrap_or_default() };
                    return self.receive(exchange, call, &source).await;
                }
                let principal = self.authenticate(&head, exchange.at.peer)?;
                self.manage(exchange, parts, principal, id).await
            }
            Target::Management => {
                let principal = self.authenticate(&head, exchange.at.peer)?;
                self.manage(exchange, parts, principal, id).await
            }
            Target::Health => {
                let figures = head.has_credentials()
                    && self.authenticate(&head, exchange.at.peer).is_ok_and(|who| may_read(&who));
                if figures {
                    self.admit.health.observe(&self.admit.manage).await;
                }
                Ok(self.admit.health.report(figures.then_some(&*self.admit.metrics)))
            }
            Target::Ready => Ok(self.admit.health.readiness()),
            Target::Live => reply::json(StatusCode::OK, &serde_json::json!({ "status": "ok" })),
            Target::Metrics => self.metrics(exchange, &head).await,
            Target::Document => self.document(exchange, parts).await,
        }
    }

    async fn publish(
        &self,
        exchange: &mut Exchange<'_>,
        head: &Head<'_>,
        id: &HeaderValue,
    ) -> Result<Response, Problem> {
        let admit = &*self.admit;
        let published = async {
            let principal = self.authenticate(head, exchange.at.peer)?;
            publish::may_publish(&principal)?;
            if let Some(problem) = publish::closed(&admit.health) {
                return Err(problem);
            }
            let envelope = PublishContext::of(head, &principal, id, admit.clock.now(), &self.desk)?;
            let body = exchange.body(publish::bounds(envelope.media_type, admit.limits), admit).await?;
            exchange.complete_at = Some(admit.clock.instant());
            admit.publish(envelope, &body.bytes).await
        };
        published.await.inspect_err(|problem: &Problem| {
            admit.metrics.refused.with_label_values(&[problem.code.as_str()]).inc();
        })
    }

    /// The source that a path below `/api/v1/webhooks/` names; `None`: it is for the management.
    ///
    /// # Errors
    /// 404 where nothing else can be meant, 405 for what a source does not answer.
    fn source(
        &self,
        method: &Method,
        surface: ListenerKind,
        name: &str,
        path: Option<&str>,
    ) -> Result<Option<Arc<Source>>, Problem> {
        let none = || Problem::new(ProblemCode::SourceNotFound, "there is no such source");
        let directory = &self.admit.directory;
        let found = match name.parse() {
            Ok(id) => directory.source_by_id(id),
            Err(_) => directory.source(DEFAULT_TENANT, name),
        };
        let Some(source) = found else {
            let is_for_a_source = name.starts_with(SourceId::PREFIX) || (*method == Method::POST && path.is_none());
            return if surface == ListenerKind::Public || is_for_a_source { Err(none()) } else { Ok(None) };
        };
        // A partner is only known by its token.
        if source.status == SourceStatus::Inactive || source.token.is_some() {
            return Err(none());
        }
        let path = path.filter(|path| !path.is_empty());
        if path.is_some_and(|path| !source.takes_path() || !inbound::is_name_in_path(path)) {
            return Err(Problem::not_found("path"));
        }
        match (source.recipe.handshake.is_some(), method) {
            (_, &Method::POST) | (true, &(Method::GET | Method::HEAD)) => Ok(Some(source)),
            (true, _) => Err(Problem::method_not_allowed(Verbs::GET_POST)),
            (false, _) => Err(Problem::method_not_allowed(Verbs::POST)),
        }
    }

    /// Hands a call over to the management's threads, and its body as it comes in.
    async fn manage(
        &self,
        exchange: &mut Exchange<'_>,
        mut parts: Parts,
        principal: Principal,
        id: &HeaderValue,
    ) -> Result<Response, Problem> {
        if parts.method == Method::HEAD {
            // The same answer; its body stays here.
            parts.method = Method::GET;
        }
        let request_id: Box<str> = id.to_str().unwrap_or_default().into();
        let principal = self.introduced(principal, &request_id);
        let admit = Arc::clone(&self.admit);
        let (feed, upload) = upload::open(exchange.incoming()?, admit.limits.body_bytes, &admit.bodies)?;
        let handed = self.admit.manage.hand_over(async move {
            let body = upload.read().await?;
            let call = Call { parts, body: body.bytes.clone(), principal, request_id };
            Ok(admit.management.handle(call).await)
        })?;
        feed.until(async { handed.await? }, exchange.watch).await
    }

    async fn document(&self, exchange: &Exchange<'_>, parts: Parts) -> Result<Response, Problem> {
        let admit = Arc::clone(&self.admit);
        let handed = self.admit.manage.hand_over(async move { admit.management.document(parts.uri.path()) })?;
        exchange.watch.waits_elsewhere();
        handed.await?.ok_or_else(|| Problem::not_found("document"))
    }

    async fn metrics(&self, exchange: &Exchange<'_>, head: &Head<'_>) -> Result<Response, Problem> {
        if !self.admit.limits.public_metrics
            && exchange.at.surface != ListenerKind::Admin
            && !may_read(&self.authenticate(head, exchange.at.peer)?)
        {
            return Err(Problem::new(ProblemCode::Forbidden, "a publisher cannot read"));
        }
        let admit = Arc::clone(&self.admit);
        let handed = self.admit.manage.hand_over(async move {
            admit.health.observe(&admit.manage).await;
            admit.metrics.ingest_permits_in_use.set(admit.ingest.deliveries() as i64);
            admit.metrics.body_bytes.set(admit.ingest.body_bytes() as i64);
            let mut response = Response::new(http::Body::in_pieces(admit.metrics.families()));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        })?;
        exchange.watch.waits_elsewhere();
        handed.await
    }
}

impl<D: Directory, S: Submit, M: Management> http::Worker for Worker<D, S, M> {
    async fn answer(&self, at: Arrival, watch: &Rc<Watch>, request: Request<Incoming>) -> Response {
        let (parts, incoming) = request.into_parts();
        let id = request_id(&parts.headers, &mut self.random.borrow_mut());
        let mut exchange = Exchange { at, watch, incoming: Some(incoming), complete_at: None };
        // The `Origin` of a request matters only while sites are listed.
        let access = self.admit.access.load().has_origins().then(|| self.admit.access.load_full());
        let listed = access.as_ref().and_then(|access| listed_origin(access, &parts));
        let preflight = listed.as_ref().and_then(|_| cors::preflight(&parts));
        let mut response = match preflight {
            Some(response) => response,
            None => self.handle(&mut exchange, parts, &id).await.unwrap_or_else(|problem| refuse(problem, &id)),
        };
        if access.is_some() {
            cors::stamp(listed.as_ref(), &mut response);
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

impl<D: Directory, S: Submit, M: Management> Serve for Admit<D, S, M> {
    type Worker = Worker<D, S, M>;

    fn worker(self: &Arc<Self>) -> Self::Worker {
        let (desk, clerk) = ReplyRouter::open();
        tokio::task::spawn_local(clerk.run());
        Worker::new(Arc::clone(self), desk)
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Exchange<'_> {
    /// The body, which can be taken once.
    fn incoming(&mut self) -> Result<Incoming, Problem> {
        self.incoming.take().ok_or_else(|| Problem::new(ProblemCode::Internal, "the body was read"))
    }

    pub(super) async fn body<'b, D, S, M>(
        &mut self,
        bounds: Bounds,
        admit: &'b Admit<D, S, M>,
    ) -> Result<Complete<&'b BodyRoom>, Problem> {
        let incoming = self.incoming()?;
        let body = incoming::read(incoming, bounds, &admit.bodies, self.watch).await;
        if body.is_ok() {
            self.watch.body_ends();
        } else {
            self.watch.body_pauses();
        }
        body
    }
}

/// A log line for people only where something is broken: neither what clients send nor an overload may fill the disk.
fn refuse(problem: Problem, id: &HeaderValue) -> Response {
    let id = id.to_str().unwrap_or_default();
    if problem.code == ProblemCode::Internal {
        tracing::error!(request_id = id, detail = %problem.detail, "request failed");
    } else {
        tracing::debug!(request_id = id, code = problem.code.as_str(), detail = %problem.detail, "request refused");
    }
    problem.into_response(id)
}

/// The request's `Origin`, if it is that of a listed site.
fn listed_origin(access: &Access, parts: &Parts) -> Option<HeaderValue> {
    let origin = parts.headers.get(ORIGIN)?;
    origin.to_str().is_ok_and(|text| access.allows_origin(text)).then(|| origin.clone())
}

fn may_read(principal: &Principal) -> bool {
    principal.role != Role::Publisher
}
