//! Responses to requests with an idempotency key. The writer stores a response in the transaction of its change.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::change::{ChangeError, ChangeOutcome, ChangeReply, RegistryChange};
use super::event_type_change::ChangedEventType;
use super::tenants::TenantInfo;
use super::writer::Writer;
use super::writer_state::{ChangeBatch, WriterState};
use super::{Key, access};
use crate::inbound::source::Source;
use crate::outbound::Webhook;
use crate::storage::registry::RegistryRow;
use crate::storage::{IdempotencyKey, NewStoredResponse, StoredResponse};

/// Renders the response to a change. `None`: the response is not stored.
pub type RenderResponse = Arc<dyn Fn(&ChangedResource<'_>) -> Option<Vec<u8>> + Send + Sync>;

/// Stores the response to a change under the idempotency key of its request.
#[derive(Clone)]
pub struct ResponseRenderer {
    /// The key of the request.
    pub key: IdempotencyKey,
    /// Renders the response, on the writer thread, without secrets.
    pub render: RenderResponse,
}

/// What a change made, for the response to its request.
#[derive(Debug, Clone, Copy)]
pub enum ChangedResource<'a> {
    /// A webhook, after the change.
    Webhook(&'a Arc<Webhook>),
    /// A source, after the change.
    Source(&'a Arc<Source>),
    /// An event type, after the change.
    EventType(&'a ChangedEventType),
    /// A new API key.
    Key(&'a Arc<Key>),
    /// A new tenant.
    Tenant(&'a TenantInfo),
}

impl fmt::Debug for ResponseRenderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseRenderer").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer that stores the response to its next change. `None`: no response is stored.
    #[must_use]
    pub fn recording(self, response: Option<ResponseRenderer>) -> Self {
        Self { response, ..self }
    }

    /// Reads the stored response of an idempotency key.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn stored_response(&self, hash: [u8; 32]) -> Result<Option<StoredResponse>, ChangeError> {
        let (reply, response) = oneshot::channel();
        self.send(RegistryChange::StoredResponse(Box::new(hash)), ChangeReply::StoredResponse(reply))?;
        response.await.unwrap_or(Err(ChangeError::Stopped))
    }
}

impl WriterState {
    /// Adds the response to a change that was made.
    pub(super) fn store_response(&self, response: ResponseRenderer, outcome: &ChangeOutcome, batch: &mut ChangeBatch) {
        let ResponseRenderer { key, render } = response;
        let Some(made) = outcome.resource() else { return };
        // The change must not fail because its response cannot be rendered.
        let response = catch_unwind(AssertUnwindSafe(|| render(&made))).unwrap_or_default();
        if let Some(response) = response {
            batch.rows.push(RegistryRow::StoredResponse(Box::new(NewStoredResponse { key, response }), self.now));
        } else {
            tracing::error!(target: "hooktide::registry", "the response to a change could not be stored");
        }
    }
}

impl ChangeOutcome {
    /// What the change made. `None` if it was refused, or made nothing that a response shows.
    fn resource(&self) -> Option<ChangedResource<'_>> {
        match self {
            Self::Webhook(Ok(Some(webhook))) => Some(ChangedResource::Webhook(webhook)),
            Self::Source(Ok(source)) => Some(ChangedResource::Source(source)),
            Self::EventType(Ok(changed)) => Some(ChangedResource::EventType(changed)),
            Self::Access(Ok(access::AccessOutcome::Key(key))) => Some(ChangedResource::Key(key)),
            Self::Access(Ok(access::AccessOutcome::Tenant(tenant))) => Some(ChangedResource::Tenant(tenant)),
            Self::Webhook(_)
            | Self::Source(_)
            | Self::EventType(_)
            | Self::Access(_)
            | Self::Audit(_)
            | Self::StoredResponse(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FailingDisk, TestRegistry, draft, test_registry, test_registry_on};
    use super::*;
    use crate::model::WebhookStatus;

    fn request(n: u8) -> ResponseRenderer {
        let key = IdempotencyKey { hash: [n; 32], fingerprint: [n; 32], tenant: "default".into() };
        let render = |changed: &ChangedResource<'_>| match changed {
            ChangedResource::Webhook(webhook) => Some(webhook.id.to_string().into_bytes()),
            _ => None,
        };
        ResponseRenderer { key, render: Arc::new(render) }
    }

    async fn create(writer: &Writer, response: ResponseRenderer) -> Result<Arc<Webhook>, ChangeError> {
        writer.clone().recording(Some(response)).create(draft("default", &["a"], WebhookStatus::Active)).await
    }

    #[tokio::test]
    async fn a_response_is_kept_with_its_change() {
        let dir = tempfile::tempdir().unwrap();
        let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
        assert_eq!(running.writer.stored_response([1; 32]).await.unwrap(), None);
        let made = create(&running.writer, request(1)).await.unwrap();
        let expected = StoredResponse { fingerprint: [1; 32], response: made.id.to_string().into_bytes() };
        assert_eq!(running.writer.stored_response([1; 32]).await.unwrap().as_ref(), Some(&expected));
        running.stop().unwrap();
        let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
        assert_eq!(running.writer.stored_response([1; 32]).await.unwrap(), Some(expected));
        running.stop().unwrap();
    }

    #[tokio::test]
    async fn a_change_that_is_refused_or_not_written_keeps_no_response() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FailingDisk::default();
        let TestRegistry { running, .. } = test_registry_on(Arc::new(disk.clone()), dir.path(), Vec::new()).unwrap();
        let writer = running.writer.clone().recording(Some(request(1)));
        let no = crate::model::WebhookNo(7);
        assert_eq!(writer.remove(no, None).await, Err(ChangeError::NotFound));
        disk.fail(nix::errno::Errno::ENOSPC);
        assert_eq!(create(&running.writer, request(1)).await.err(), Some(ChangeError::DiskFull));
        disk.mend();
        assert_eq!(running.writer.stored_response([1; 32]).await.unwrap(), None);
        running.stop().unwrap();
    }

    /// The change is made although its response cannot be rendered, and the writer goes on.
    #[tokio::test]
    async fn a_panic_of_the_rendering_costs_only_the_response() {
        let dir = tempfile::tempdir().unwrap();
        let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
        let panics = ResponseRenderer { render: Arc::new(|_| panic!("of the test")), ..request(1) };
        create(&running.writer, panics).await.unwrap();
        assert_eq!(running.writer.stored_response([1; 32]).await.unwrap(), None);
        create(&running.writer, request(2)).await.unwrap();
        running.stop().unwrap();
    }
}
