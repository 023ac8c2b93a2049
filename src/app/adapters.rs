//! What requests are answered with: the service, the API over it, and what the workers of the listeners share.

use std::sync::Arc;

use rustls::ClientConfig;

use super::external_calls::NetworkCalls;
use super::figures::Figures;
use super::server::Foundation;
use super::store::Store;
use super::test_delivery::Prober;
use crate::admit::{Admit, Health, Limits, Management};
use crate::api::{self, Api};
use crate::auth::SharedAccess;
use crate::commit;
use crate::config::Config;
use crate::handoff::CommitHandle;
use crate::http::{BodyRoom, Call, ManageThreads, Response, Router};
use crate::inbound::source::{Limiter, Rejections};
use crate::ingest::Ingest;
use crate::outbound::{Endpoint, SharedGuard};
use crate::registry::{self, Shared};
use crate::runtime::IngestPermits;
use crate::service::{self, Service, UrlProblem};
use crate::settle;

/// What the answers to requests depend on.
pub(super) struct AdapterParts<'a> {
    pub(super) config: &'a Config,
    pub(super) foundation: &'a Foundation,
    pub(super) registry: &'a registry::Running,
    pub(super) state: &'a settle::Running,
    pub(super) commit: &'a commit::Running,
    pub(super) health: &'a Arc<Health>,
    pub(super) guard: &'a SharedGuard,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) tokens: &'a SharedAccess,
    pub(super) router: Arc<Router>,
    pub(super) manage: &'a ManageThreads,
}

/// What answers requests.
pub(super) struct Answering {
    /// The operations of the management.
    pub(super) service: Arc<Service>,
    /// Makes events of the gateway's own.
    pub(super) ingest: Ingest<Shared, CommitHandle>,
    /// What the workers of the listeners share.
    pub(super) admit: Arc<Admit<Shared, CommitHandle, Manage>>,
}

/// Builds what answers requests over the running stages.
pub(super) fn build(parts: AdapterParts<'_>) -> Answering {
    let AdapterParts { config, foundation, registry, commit, .. } = parts;
    let rejections = Arc::<Rejections>::default();
    let service = Arc::new(service(&parts, &rejections));
    let api =
        Api::new(Arc::clone(&service), Arc::clone(&parts.router), parts.manage.background(), foundation.clock.clone());
    let ingest_permits = Arc::new(IngestPermits::new(config.dispatch.memory_bytes));
    let ingest =
        Ingest::new(Shared::clone(&registry.shared), commit.handle(), ingest_permits, Arc::clone(&foundation.memory));
    let external_calls = NetworkCalls::new(parts.guard, parts.tls, registry.writer.clone(), foundation.clock.clone());
    let admit = Admit {
        router: parts.router,
        access: Arc::clone(parts.tokens),
        directory: Shared::clone(&registry.shared),
        ingest: ingest.clone(),
        management: Manage(Arc::new(api)),
        manage: parts.manage.handle(),
        health: Arc::clone(parts.health),
        bodies: BodyRoom::new(),
        clock: foundation.clock.clone(),
        metrics: Arc::clone(&foundation.metrics),
        limiter: Limiter::default(),
        rejections,
        external_calls: Arc::new(external_calls),
        limits: Limits::of(config),
    };
    Answering { service, ingest, admit: Arc::new(admit) }
}

fn service(parts: &AdapterParts<'_>, rejections: &Arc<Rejections>) -> Service {
    let AdapterParts { config, foundation, registry, state, .. } = parts;
    let guard = Arc::clone(parts.guard);
    Service::new(service::Parts {
        registry: Shared::clone(&registry.shared),
        writer: registry.writer.clone(),
        deliveries: Arc::new(Store(state.records.clone())),
        figures: Arc::new(Figures { records: state.records.clone(), metrics: Arc::clone(&foundation.metrics) }),
        log: parts.commit.log(),
        check_url: Box::new(move |url| {
            Endpoint::try_new(url, &guard.load())
                .map_err(|error| UrlProblem { egress: error.is_egress(), detail: error.to_string() })
        }),
        default_retry: config.delivery.retry_policy.clone(),
        rejections: Arc::clone(rejections),
        clock: foundation.clock.clone(),
        tester: Prober::new(&foundation.shards, &foundation.clock, &foundation.memory),
    })
}

/// Admit's way to the API.
pub(super) struct Manage(pub(super) Arc<Api>);

impl Management for Manage {
    async fn handle(&self, call: Call) -> Response {
        self.0.handle(call).await
    }

    fn document(&self, path: &str) -> Option<Response> {
        api::docs::at(path)
    }
}
