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

use crate::http::{BackgroundTasks, ManagementRequest, Response, Router, reply};
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

use idempotency::{ClaimResult, KeysInFlight};

#[cfg(test)]
mod tests;

/// The management API.
pub struct Api {
    service: Arc<Service>,
    router: Arc<Router>,
    background: BackgroundTasks,
    keys_in_flight: Arc<KeysInFlight>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    /// Creates the API of a service. `background` completes started requests after their client disconnected.
    pub fn new(service: Arc<Service>, router: Arc<Router>, background: BackgroundTasks) -> Self {
        Self { service, router, background, keys_in_flight: Arc::default() }
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
}
