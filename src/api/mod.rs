//! api: the management API over HTTP, with one file per resource. A handler parses the request, calls one operation of the
//! service (or drafts a resource and has it created), and returns the result.
//!
//! - A resource of another tenant does not exist for the caller (404).
//! - A secret is shown only in the response to the request that created it.
//! - Every list is limited.
//! - A resource is found immediately after its 202.
//! - The checks run in this order: role, query, existence, media type, body, state.
//! - This folder must never know the registry writer, the stores, redb, threads, or how a delivery is made.

use std::sync::Arc;

use crate::http::{BackgroundTasks, ManagementRequest, Problem, ProblemCode, Response, Router, reply};
use crate::runtime::Clock;
use crate::service::Service;

mod path_ids;
pub mod routes;

mod audit;
mod dead_letter;
mod delivery;
pub mod docs;
mod event;
mod event_type;
mod filter_test;
mod key;
mod listing;
mod replay;
mod source;
mod source_view;
mod stats;
mod subscription;
mod tenant;
mod webhook;
mod webhook_list;
mod webhook_metrics;
mod webhook_secret;
mod webhook_test;

mod body;
mod condition;
mod error;
mod handler;
mod idempotency;
mod page;

pub use error::describe;

use idempotency::{ClaimResult, Idempotency};

#[cfg(test)]
mod tests;

/// The result of a request that supports an idempotency key.
struct IdempotentResponse {
    response: Response,
    /// The response without its secrets, for repeated requests. `None` if the response can be sent only once.
    stored: Option<Response>,
}

impl From<Response> for IdempotentResponse {
    fn from(response: Response) -> Self {
        Self { stored: reply::clone_response(&response), response }
    }
}

/// The management API.
pub struct Api {
    service: Arc<Service>,
    router: Arc<Router>,
    background: BackgroundTasks,
    idempotency: Arc<Idempotency>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    /// Creates the API of a service. `background` completes started requests after their client disconnected. `clock`
    /// determines when an idempotency key expires.
    pub fn new(service: Arc<Service>, router: Arc<Router>, background: BackgroundTasks, clock: Clock) -> Self {
        Self { service, router, background, idempotency: Idempotency::new(clock) }
    }

    /// Handles a request. The server omits the body of a response to HEAD and keeps its length.
    pub async fn handle(&self, request: ManagementRequest) -> Response {
        let answer = match Box::pin(self.answer(&request)).await {
            Ok(answer) => answer,
            Err(problem) => problem.into_response(&request.request_id),
        };
        if answer.status() == hyper::StatusCode::INTERNAL_SERVER_ERROR {
            let path = request.parts.uri.path();
            tracing::error!(target: "hooktide::api", request_id = %request.request_id, path, "failed");
        }
        answer
    }

    /// Runs the work of a request to its end, even if the client disconnects, and stores the response for its
    /// `Idempotency-Key`.
    async fn run_idempotent(
        &self,
        request: &ManagementRequest,
        work: impl Future<Output = Result<IdempotentResponse, Problem>> + Send + 'static,
    ) -> Result<Response, Problem> {
        let tenant = request.principal.tenant.as_deref().unwrap_or("*");
        let scope = [tenant, request.parts.uri.path()];
        let claim = match self.idempotency.claim(&request.parts.headers, scope, &request.body)? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let running = self.background.spawn(async move {
            let finished = work.await?;
            if let Some(stored) = finished.stored {
                claim.store(stored);
            }
            Ok(finished.response)
        });
        running.await.unwrap_or_else(|_| Err(Problem::new(ProblemCode::Internal, "it could not be made")))
    }
}
