//! service: the management operations as typed functions, without HTTP.
//!
//! A front end (the HTTP API, a console, another protocol) parses its client's request, calls one operation of
//! [`Service`] and renders the result.
//!
//! Invariants:
//! - Each operation checks the caller's role itself.
//! - A resource of another tenant is reported as not found.
//! - Only the operation that creates a secret returns the secret.
//! - Every list is bounded.
//! - Every change is written to the audit log.
//!
//! This module must never know: HTTP requests, responses, status codes, header syntax, query strings, redb, threads.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::inbound::source::Rejections;
use crate::limits::{
    API_READS_AT_ONCE, MANAGE_RETRY_AFTER, PAYLOAD_COPIES, PAYLOADS_BYTES, READ_BYTES, READ_WAIT, READS_BYTES,
    TENANT_PAYLOADS_BYTES, TENANT_READS_BYTES,
};
use crate::model::{EventHead, EventId, Principal, RetryPolicy};
use crate::outbound::Endpoint;
use crate::registry::{Shared, Writer};
use crate::runtime::{Clock, TenantBudget, TenantBudgetError, TenantShare};
use crate::storage::ReadLog;

pub mod access;
pub mod error;
pub(crate) mod fields;
pub mod page;
pub mod reference;
pub mod stored_response;
pub mod version;
pub mod webhook;

pub mod dead_letter;
pub mod delivery;
pub mod event;
pub mod filter_test;
pub mod replay;
pub mod search;
pub mod statistics;
pub mod summary;

pub mod event_type;
pub mod source;

pub mod audit;
pub mod key;
pub mod tenant;

pub mod delivery_backend;
pub mod statistics_backend;
pub mod test_delivery;

pub mod apply;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use access::Operation;
pub use delivery_backend::{
    BackendFailed, BackendResult, BoxFuture, DeadLetter, Delivery, DeliveryBackend, Replay, ReplayScope, RowBatch,
};
pub use error::{Error, ErrorKind};
pub use page::{ListPage, PageRequest};
pub use reference::{SourceRef, WebhookRef};
pub use statistics_backend::{BreakerState, StatisticsBackend, WebhookCounts};
pub use stored_response::{ResponseRecorder, ResponseStore};
pub use test_delivery::{TestDelivery, TestDeliveryResult, TestRefused, TestSender};
pub use version::ExpectedVersion;

/// Parses the URL of a webhook into an endpoint and checks the URL against the egress rules.
pub type CheckUrl = Box<dyn Fn(&str) -> Result<Endpoint, UrlProblem> + Send + Sync>;

/// Why a URL is refused as the URL of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlProblem {
    /// `true` if the egress rules forbid the address; `false` if the URL is malformed.
    pub egress: bool,
    /// What is wrong and what is allowed.
    pub detail: String,
}

/// The dependencies of a [`Service`].
pub struct ServiceParts {
    /// Snapshot of webhooks, sources, event types, API keys and tenants.
    pub registry: Shared,
    /// Applies changes to the registry.
    pub writer: Writer,
    /// Reads and changes deliveries, dead letters and replays.
    pub deliveries: Arc<dyn DeliveryBackend>,
    /// Reads the statistics of webhooks and tenants.
    pub statistics: Arc<dyn StatisticsBackend>,
    /// Reads events.
    pub log: Arc<dyn ReadLog>,
    /// Checks the URLs of webhooks.
    pub check_url: CheckUrl,
    /// Whether the configuration has an event bus.
    pub has_bus: bool,
    /// The setting `delivery.schedule`, for webhooks without a retry policy of their own.
    pub default_retry: RetryPolicy,
    /// The requests that sources rejected.
    pub rejections: Arc<Rejections>,
    /// The clock for the expiry of API keys and for the overlap of old and new secrets.
    pub clock: Clock,
    /// Sends test deliveries.
    pub test_sender: Arc<dyn TestSender>,
}

/// The management operations. Each file of this folder adds the operations of one resource.
pub struct Service {
    registry: Shared,
    writer: Writer,
    deliveries: Arc<dyn DeliveryBackend>,
    statistics: Arc<dyn StatisticsBackend>,
    log: Arc<dyn ReadLog>,
    check_url: CheckUrl,
    has_bus: bool,
    default_retry: RetryPolicy,
    rejections: Arc<Rejections>,
    clock: Clock,
    test_sender: Arc<dyn TestSender>,
    reads: Semaphore,
    /// The memory of reads: their rows, and their responses until they are sent.
    read_memory: Arc<TenantBudget>,
    /// The memory of large payloads that are shown.
    payload_memory: Arc<TenantBudget>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// Creates a service from its dependencies.
    pub fn new(parts: ServiceParts) -> Self {
        Self {
            registry: parts.registry,
            writer: parts.writer,
            deliveries: parts.deliveries,
            statistics: parts.statistics,
            log: parts.log,
            check_url: parts.check_url,
            has_bus: parts.has_bus,
            default_retry: parts.default_retry,
            rejections: parts.rejections,
            clock: parts.clock,
            test_sender: parts.test_sender,
            reads: Semaphore::new(API_READS_AT_ONCE),
            read_memory: TenantBudget::new(READS_BYTES, TENANT_READS_BYTES),
            payload_memory: TenantBudget::new(PAYLOADS_BYTES, TENANT_PAYLOADS_BYTES),
        }
    }

    /// The retry policy of webhooks that have none of their own.
    pub fn default_retry(&self) -> &RetryPolicy {
        &self.default_retry
    }

    /// Runs a read of the delivery backend and the event log on a blocking thread. A semaphore limits the number of
    /// concurrent reads.
    pub(crate) async fn read<T, E>(
        &self,
        read: impl FnOnce(&dyn DeliveryBackend, &dyn ReadLog) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let failed = || Error::new(ErrorKind::Internal, "the store could not be read");
        let _turn = self.reads.acquire().await.map_err(|_| failed())?;
        let (deliveries, log) = (Arc::clone(&self.deliveries), Arc::clone(&self.log));
        tokio::task::spawn_blocking(move || read(&*deliveries, &*log)).await.map_err(|_| failed())?
    }

    /// Takes the memory of a read and its response. The caller holds it until the response is sent.
    ///
    /// # Errors
    /// If the reads of all tenants or of this one use their memory for longer than [`READ_WAIT`].
    pub async fn read_memory(&self, principal: &Principal) -> Result<TenantShare, Error> {
        take_memory(&self.read_memory, principal, READ_BYTES).await
    }

    /// Takes the memory to show the payload of an event, by its length in the log.
    ///
    /// # Errors
    /// As for [`Self::read_memory`], or if the log cannot be read.
    pub(super) async fn payload_memory(&self, principal: &Principal, id: EventId) -> Result<TenantShare, Error> {
        let bytes = self.read(move |_, log| {
            let newest = log.heads_before(EventId::from_u128(id.as_u128().saturating_add(1)), 1)?.pop();
            let head = newest.filter(|(found, _)| *found == id).map(|(_, head)| head);
            let length = head.as_deref().and_then(|head| Some(EventHead::parse(head).ok()?.event.body_len()));
            Ok::<_, Error>(length.unwrap_or_default())
        });
        take_memory(&self.payload_memory, principal, bytes.await?.saturating_mul(PAYLOAD_COPIES)).await
    }
}

async fn take_memory(of: &Arc<TenantBudget>, principal: &Principal, bytes: usize) -> Result<TenantShare, Error> {
    of.take_within(principal.tenant.as_deref(), bytes, READ_WAIT).await.map_err(|error| {
        let error = match error {
            TenantBudgetError::Exhausted => Error::new(ErrorKind::Overloaded, "too many reads use memory"),
            TenantBudgetError::TenantExhausted => {
                Error::new(ErrorKind::RateLimited, "too many reads of this tenant use memory")
            }
        };
        error.retry_after(MANAGE_RETRY_AFTER)
    })
}
