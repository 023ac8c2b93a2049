//! Admit's ways to the commit thread and to the interface, and what the interface works with.

use std::sync::Arc;

use super::store::Store;
use crate::admit::{Management, Submit};
use crate::api::{self, Api, Call, Response, UrlProblem};
use crate::commit::{self, Refused, Submission};
use crate::config::Config;
use crate::model::Endpoint;
use crate::registry::{self, Shared};
use crate::runtime::Clock;
use crate::send::SharedGuard;
use crate::settle;
use crate::source::Rejections;

/// The interface over what runs.
pub(super) fn api(
    config: &Config,
    registry: &registry::Running,
    state: &settle::Running,
    commit: &commit::Running,
    guard: &SharedGuard,
    rejections: &Arc<Rejections>,
    clock: &Clock,
) -> Api {
    let guard = Arc::clone(guard);
    Api::new(api::Parts {
        registry: Shared::clone(&registry.shared),
        writer: registry.writer.clone(),
        deliveries: Arc::new(Store(state.records.clone())),
        log: commit.log(),
        check_url: Box::new(move |url| {
            Endpoint::try_new(url, &guard.load())
                .map_err(|error| UrlProblem { egress: error.is_egress(), detail: error.to_string() })
        }),
        default_retry: config.delivery.retry_policy.clone(),
        rejections: Arc::clone(rejections),
        clock: clock.clone(),
    })
}

/// Admit's way to the commit thread.
pub(super) struct ToCommit(pub(super) commit::Handle);

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
        match path {
            "/openapi.json" => Some(api::document(api::Format::Json)),
            "/openapi.yaml" => Some(api::document(api::Format::Yaml)),
            _ => None,
        }
    }
}
