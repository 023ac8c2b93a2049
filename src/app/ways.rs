//! Admit's ways to the commit thread and to the interface, and what the interface works with.

use std::sync::Arc;

use super::figures::Figures;
use super::store::Store;
use crate::admit::{Management, Submit};
use crate::api::{self, Api, Tester, UrlProblem};
use crate::commit;
use crate::config::Config;
use crate::handoff::{CommitHandle, Refused, Submission};
use crate::http::{Call, Response, Router};
use crate::inbound::source::Rejections;
use crate::outbound::{Endpoint, SharedGuard};
use crate::registry::{self, Shared};
use crate::runtime::{Clock, Metrics};
use crate::settle;

/// What the interface is given beside the stages.
pub(super) struct Given<'a> {
    pub(super) guard: &'a SharedGuard,
    pub(super) rejections: &'a Arc<Rejections>,
    pub(super) clock: &'a Clock,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) tester: Arc<dyn Tester>,
    pub(super) router: &'a Arc<Router>,
}

/// The interface over what runs.
pub(super) fn api(
    config: &Config,
    registry: &registry::Running,
    state: &settle::Running,
    commit: &commit::Running,
    given: Given<'_>,
) -> Api {
    let guard = Arc::clone(given.guard);
    Api::new(api::Parts {
        registry: Shared::clone(&registry.shared),
        writer: registry.writer.clone(),
        deliveries: Arc::new(Store(state.records.clone())),
        figures: Arc::new(Figures { records: state.records.clone(), metrics: Arc::clone(given.metrics) }),
        log: commit.log(),
        check_url: Box::new(move |url| {
            Endpoint::try_new(url, &guard.load())
                .map_err(|error| UrlProblem { egress: error.is_egress(), detail: error.to_string() })
        }),
        default_retry: config.delivery.retry_policy.clone(),
        rejections: Arc::clone(given.rejections),
        clock: given.clock.clone(),
        tester: given.tester,
        router: Arc::clone(given.router),
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
