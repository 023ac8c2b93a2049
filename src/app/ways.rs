//! What requests are answered with: the service, the API over it, and what the workers of the listeners share.

use std::sync::Arc;

use rustls::ClientConfig;

use super::figures::Figures;
use super::outside::World;
use super::probe::Prober;
use super::server::Ground;
use super::store::Store;
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
use crate::runtime::Door;
use crate::service::{self, Service, UrlProblem};
use crate::settle;

/// What the answers to requests depend on.
pub(super) struct Doors<'a> {
    pub(super) config: &'a Config,
    pub(super) ground: &'a Ground,
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
pub(super) fn doors(doors: Doors<'_>) -> Answering {
    let Doors { config, ground, registry, commit, .. } = doors;
    let rejections = Arc::<Rejections>::default();
    let service = Arc::new(service(&doors, &rejections));
    let api =
        Api::new(Arc::clone(&service), Arc::clone(&doors.router), doors.manage.background(), ground.clock.clone());
    let door = Arc::new(Door::new(config.dispatch.memory_bytes));
    let ingest = Ingest::new(Shared::clone(&registry.shared), commit.handle(), door, Arc::clone(&ground.memory));
    let outside = World::new(doors.guard, doors.tls, registry.writer.clone(), ground.clock.clone());
    let admit = Admit {
        router: doors.router,
        access: Arc::clone(doors.tokens),
        directory: Shared::clone(&registry.shared),
        ingest: ingest.clone(),
        management: Manage(Arc::new(api)),
        manage: doors.manage.handle(),
        health: Arc::clone(doors.health),
        bodies: BodyRoom::new(),
        clock: ground.clock.clone(),
        metrics: Arc::clone(&ground.metrics),
        limiter: Limiter::default(),
        rejections,
        outside: Arc::new(outside),
        limits: Limits::of(config),
    };
    Answering { service, ingest, admit: Arc::new(admit) }
}

fn service(doors: &Doors<'_>, rejections: &Arc<Rejections>) -> Service {
    let Doors { config, ground, registry, state, .. } = doors;
    let guard = Arc::clone(doors.guard);
    Service::new(service::Parts {
        registry: Shared::clone(&registry.shared),
        writer: registry.writer.clone(),
        deliveries: Arc::new(Store(state.records.clone())),
        figures: Arc::new(Figures { records: state.records.clone(), metrics: Arc::clone(&ground.metrics) }),
        log: doors.commit.log(),
        check_url: Box::new(move |url| {
            Endpoint::try_new(url, &guard.load())
                .map_err(|error| UrlProblem { egress: error.is_egress(), detail: error.to_string() })
        }),
        default_retry: config.delivery.retry_policy.clone(),
        rejections: Arc::clone(rejections),
        clock: ground.clock.clone(),
        tester: Prober::new(&ground.shards, &ground.clock, &ground.memory),
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
