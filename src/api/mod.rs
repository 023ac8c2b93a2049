//! api: management over HTTP, one file per resource. A handler parses the request, calls one operation of the service (or
//! drafts a thing and has it made) and shows the result.
//!
//! Promises: what belongs to another tenant is not there (404); a secret is in no answer but the one that made it; every
//! list is bounded; what a 202 acknowledged is found at once. Checked in this order: role, query, existence, media
//! type, body, state. Must never know: the registry's writer, the stores, redb, threads, how a delivery is made.

use std::sync::Arc;

use crate::http::{Background, Call, Problem, ProblemCode, Response, Router, reply};
use crate::runtime::Clock;
use crate::service::Service;

mod route;
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

mod answer;
mod body;
mod condition;
mod error;
mod idempotency;
mod page;

pub use error::describe;

use idempotency::{Idempotency, Turn};

#[cfg(test)]
mod tests;

/// The answer to whoever had something made.
struct Made {
    answer: Response,
    /// The same without its secrets; `None` of one that can be given once only.
    remembered: Option<Response>,
}

impl From<Response> for Made {
    fn from(answer: Response) -> Self {
        Self { remembered: reply::copy(&answer), answer }
    }
}

/// See the module.
pub struct Api {
    service: Arc<Service>,
    router: Arc<Router>,
    background: Background,
    idempotency: Arc<Idempotency>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    /// The interface over this service. `background` completes what was begun although the caller left; `clock` tells when an
    /// `Idempotency-Key` is forgotten.
    pub fn new(service: Arc<Service>, router: Arc<Router>, background: Background, clock: Clock) -> Self {
        Self { service, router, background, idempotency: Idempotency::new(clock) }
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
        let making = self.background.spawn(async move {
            let made = work.await?;
            if let Some(remembered) = made.remembered {
                claim.keep(remembered);
            }
            Ok(made.answer)
        });
        making.await.unwrap_or_else(|_| Err(Problem::new(ProblemCode::Internal, "it could not be made")))
    }
}
