//! Admit's way to the interface, and what the interface works with.

use std::sync::Arc;

use super::figures::Figures;
use super::store::Store;
use crate::admit::Management;
use crate::api::{self, Api};
use crate::commit;
use crate::config::Config;
use crate::http::{Call, Response};
use crate::inbound::source::Rejections;
use crate::outbound::{Endpoint, SharedGuard};
use crate::registry::{self, Shared};
use crate::runtime::{Clock, Metrics};
use crate::service::{self, Service, Tester, UrlProblem};
use crate::settle;

/// What the service is given beside the stages.
pub(super) struct Given<'a> {
    pub(super) guard: &'a SharedGuard,
    pub(super) rejections: &'a Arc<Rejections>,
    pub(super) clock: &'a Clock,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) tester: Arc<dyn Tester>,
}

/// The service over the running stages.
pub(super) fn service(
    config: &Config,
    registry: &registry::Running,
    state: &settle::Running,
    commit: &commit::Running,
    given: Given<'_>,
) -> Service {
    let guard = Arc::clone(given.guard);
    Service::new(service::Parts {
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
    })
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
