//! Admit's ways to the commit thread and to the interface, and what the interface works with.

use std::sync::Arc;

use rustls::ClientConfig;

use super::figures::Figures;
use super::outside::World;
use super::probe::Prober;
use super::server::Ground;
use super::store::Store;
use crate::admit::{Admit, Health, Limits, Management, Submit};
use crate::api::{self, Api, UrlProblem};
use crate::auth::SharedAccess;
use crate::commit;
use crate::config::Config;
use crate::handoff::{CommitHandle, Refused, Submission};
use crate::http::{BodyRoom, Call, ManageThreads, Response, Router};
use crate::inbound::source::{Limiter, Rejections};
use crate::outbound::{Endpoint, SharedGuard};
use crate::registry::{self, Shared};
use crate::runtime::Door;
use crate::settle;

/// What requests are answered with.
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

/// The interface over what runs, and what the listeners' threads share.
pub(super) fn doors(doors: Doors<'_>) -> (Arc<Api>, Arc<Admit<Shared, ToCommit, Manage>>) {
    let Doors { config, ground, registry, commit, .. } = doors;
    let rejections = Arc::<Rejections>::default();
    let api = Arc::new(api(&doors, &rejections));
    let outside = World::new(doors.guard, doors.tls, registry.writer.clone(), ground.clock.clone());
    let admit = Admit {
        router: doors.router,
        access: Arc::clone(doors.tokens),
        directory: Shared::clone(&registry.shared),
        submit: ToCommit(commit.handle()),
        management: Manage(Arc::clone(&api)),
        manage: doors.manage.handle(),
        health: Arc::clone(doors.health),
        door: Arc::new(Door::new(config.dispatch.memory_bytes)),
        memory: Arc::clone(&ground.memory),
        bodies: BodyRoom::new(),
        clock: ground.clock.clone(),
        metrics: Arc::clone(&ground.metrics),
        limiter: Limiter::default(),
        rejections,
        outside: Arc::new(outside),
        limits: Limits::of(config),
    };
    (api, Arc::new(admit))
}

fn api(doors: &Doors<'_>, rejections: &Arc<Rejections>) -> Api {
    let Doors { config, ground, registry, state, .. } = doors;
    let guard = Arc::clone(doors.guard);
    Api::new(api::Parts {
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
        router: Arc::clone(&doors.router),
        background: doors.manage.background(),
    })
}

/// Admit's way to the commit thread.
pub(super) struct ToCommit(pub(super) CommitHandle);

impl Submit for ToCommit {
    fn submit(&self, submission: Submission) -> Result<(), (Refused, Submission)> {
        self.0.submit(submission)
    }
}

/// Admit's way to the interface.
pub(super) struct Manage(pub(super) Arc<Api>);

impl Management for Manage {
    async fn handle(&self, call: Call) -> Response {
        self.0.handle(call).await
    }

    fn document(&self, path: &str) -> Option<Response> {
        api::docs::at(path)
    }
}
