//! Responses to requests with an idempotency key.
//!
//! A front end renders a response once more, without secrets, for repeated requests. The response is opaque here. It is
//! stored in the file, and in the transaction, of the change that it reports.

use std::fmt;
use std::sync::Arc;

use super::{Error, Service};
use crate::inbound::source::Source;
use crate::outbound::Webhook;
use crate::registry::{ChangedResource, ResponseRenderer};
use crate::settle::ResponseToStore;
use crate::storage::{IdempotencyKey, NumberedResponse, StoredResponse};

/// Where the changes of an operation are stored, and with them its responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseStore {
    /// Webhooks, subscriptions, sources, event types, API keys and tenants.
    Registry,
    /// Replays, dead letters and deliveries.
    Deliveries,
}

/// Stores the response that reports a `T` under the idempotency key of the request.
pub struct ResponseRecorder<T> {
    key: IdempotencyKey,
    render: Arc<RenderFn<T>>,
}

impl<T> Clone for ResponseRecorder<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), render: Arc::clone(&self.render) }
    }
}

type RenderFn<T> = dyn Fn(&T) -> Option<Vec<u8>> + Send + Sync;

impl<T> fmt::Debug for ResponseRecorder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseRecorder").field("key", &self.key).finish_non_exhaustive()
    }
}

impl<T: 'static> ResponseRecorder<T> {
    /// Stores what `render` returns. `render` may run on the thread that makes the change, and must omit secrets. `None`
    /// for a request without a key.
    pub fn new(
        key: Option<IdempotencyKey>,
        render: impl Fn(&T) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Option<Self> {
        key.map(|key| Self { key, render: Arc::new(render) })
    }

    /// The response to a change of the registry. `made` finds in the changed resource what the response reports.
    pub(super) fn of_change(
        self,
        made: impl Fn(&ChangedResource<'_>) -> Option<T> + Send + Sync + 'static,
    ) -> ResponseRenderer {
        let Self { key, render } = self;
        ResponseRenderer { key, render: Arc::new(move |changed| render(&made(changed)?)) }
    }

    /// The response that reports `made`.
    pub(super) fn response(self, made: &T) -> Option<ResponseToStore> {
        Some((self.key, NumberedResponse::from((self.render)(made)?)))
    }
}

/// The webhook that a change made.
pub(super) fn changed_webhook(changed: &ChangedResource<'_>) -> Option<Arc<Webhook>> {
    match changed {
        ChangedResource::Webhook(webhook) => Some(Arc::clone(webhook)),
        _ => None,
    }
}

/// The source that a change made.
pub(super) fn changed_source(changed: &ChangedResource<'_>) -> Option<Arc<Source>> {
    match changed {
        ChangedResource::Source(source) => Some(Arc::clone(source)),
        _ => None,
    }
}

impl ResponseRecorder<u64> {
    /// The response that reports a number which only the change knows.
    pub(super) fn numbered(self) -> Option<ResponseToStore> {
        Some((self.key, NumberedResponse::of(|number| (self.render)(&number))?))
    }
}

impl Service {
    /// Reads the stored response of an idempotency key, given its hash.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn stored_response(&self, of: ResponseStore, hash: [u8; 32]) -> Result<Option<StoredResponse>, Error> {
        match of {
            ResponseStore::Registry => Ok(self.writer.stored_response(hash).await?),
            ResponseStore::Deliveries => {
                let now = self.clock.steady();
                self.read(move |store, _| Ok(store.stored_response(&hash, now)?)).await
            }
        }
    }
}
