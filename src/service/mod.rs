//! service: the typed operations of the management, without HTTP.
//!
//! A front end (the HTTP API, a console, another protocol) parses what its client sent, calls one operation and shows
//! the result. Promises: each operation checks the caller's role itself; what belongs to another tenant is not found; a
//! secret is only in the result of the operation that made it; every list is bounded; each change is in the audit log.
//! Must never know: requests, responses, status codes, header syntax, query strings, redb, threads.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::inbound::source::Rejections;
use crate::limits::API_READS_AT_ONCE;
use crate::model::RetryPolicy;
use crate::outbound::Endpoint;
use crate::registry::{Shared, Writer};
use crate::runtime::Clock;
use crate::storage::ReadLog;

pub mod access;
pub mod error;
pub(crate) mod fields;
pub mod page;
pub mod reference;
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

pub mod figures;
pub mod store;
pub mod test_delivery;

pub mod apply;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use access::Operation;
pub use error::{Error, ErrorKind};
pub use figures::{BreakerState, FigureStore};
pub use page::{Page, Rows};
pub use reference::{SourceRef, WebhookRef};
pub use store::{Answered, DeadLetter, Delivery, DeliveryStore, Later, Part, Replay, StoreFailed, Work};
pub use test_delivery::{TestDelivery, TestRefused, Tested, Tester};
pub use version::ExpectedVersion;

/// Turns the URL of a webhook into an endpoint, or says why it cannot.
pub type CheckUrl = Box<dyn Fn(&str) -> Result<Endpoint, UrlProblem> + Send + Sync>;

/// Why a URL cannot be a webhook's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlProblem {
    /// Whether the egress rules forbid the address; otherwise the URL is malformed.
    pub egress: bool,
    /// What is wrong and what is allowed.
    pub detail: String,
}

/// What a service is built from.
pub struct Parts {
    /// Webhooks, sources, event types, keys, tenants.
    pub registry: Shared,
    /// Changes the registry.
    pub writer: Writer,
    /// Deliveries, dead letters, replays.
    pub deliveries: Arc<dyn DeliveryStore>,
    /// Figures of webhooks and tenants.
    pub figures: Arc<dyn FigureStore>,
    /// Events.
    pub log: Arc<dyn ReadLog>,
    /// The rules for URLs.
    pub check_url: CheckUrl,
    /// `delivery.schedule`, for webhooks without a policy of their own.
    pub default_retry: RetryPolicy,
    /// What sources refused.
    pub rejections: Arc<Rejections>,
    /// The time that keys expire by and secrets overlap by.
    pub clock: Clock,
    /// Makes test deliveries.
    pub tester: Arc<dyn Tester>,
}

/// The operations of the management. See the module.
pub struct Service {
    registry: Shared,
    writer: Writer,
    deliveries: Arc<dyn DeliveryStore>,
    figures: Arc<dyn FigureStore>,
    log: Arc<dyn ReadLog>,
    check_url: CheckUrl,
    default_retry: RetryPolicy,
    rejections: Arc<Rejections>,
    clock: Clock,
    tester: Arc<dyn Tester>,
    reads: Semaphore,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// A service over these parts.
    pub fn new(parts: Parts) -> Self {
        Self {
            registry: parts.registry,
            writer: parts.writer,
            deliveries: parts.deliveries,
            figures: parts.figures,
            log: parts.log,
            check_url: parts.check_url,
            default_retry: parts.default_retry,
            rejections: parts.rejections,
            clock: parts.clock,
            tester: parts.tester,
            reads: Semaphore::new(API_READS_AT_ONCE),
        }
    }

    /// The retry policy of webhooks that have none of their own.
    pub fn default_retry(&self) -> &RetryPolicy {
        &self.default_retry
    }

    /// Reads from the stores on a thread that may block. A semaphore bounds how many reads run at once.
    pub(crate) async fn read<T, E>(
        &self,
        read: impl FnOnce(&dyn DeliveryStore, &dyn ReadLog) -> Result<T, E> + Send + 'static,
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
}
