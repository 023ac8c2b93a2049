//! Requests to change the registry, and the results that the writer thread sends back.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::access::{AccessChange, AccessError, AccessResult, FileAccess};
use super::audit::Actor;
use super::event_type_change::{EventTypeChange, EventTypeError, EventTypeResult};
use super::source_change::{SourceChange, SourceError, SourceResult};
use super::source_setup::SourceSetup;
use super::stored_response::ResponseRenderer;
use super::webhook_change::SubscriptionChange;
use crate::handoff::DisableReason;
use crate::limits::{
    DEFINITIONS_BYTES_MAX, SUBSCRIPTIONS_MAX, TENANT_DEFINITIONS_BYTES_MAX, WEBHOOK_COMPILED_BYTES_MAX,
};
use crate::model::{Timestamp, WebhookNo};
use crate::outbound::profile::Profiles;
use crate::outbound::{Webhook, WebhookSettings};
use crate::registry::catalogue;
use crate::storage::StoredResponse;
use crate::storage::registry::{AuditPage, AuditQuery, RegistryStore};

/// A change that was sent to the writer thread.
#[derive(Debug)]
pub(super) struct ChangeRequest {
    pub(super) change: RegistryChange,
    pub(super) actor: Option<Actor>,
    /// The response to store with the change.
    pub(super) response: Option<ResponseRenderer>,
    pub(super) reply: ChangeReply,
}

/// A change of the registry, or another request to its thread.
#[derive(Debug)]
pub(super) enum RegistryChange {
    Create(Box<WebhookSettings>),
    Replace {
        no: WebhookNo,
        version: u64,
        settings: Box<WebhookSettings>,
        /// Whether the pause and the circuit breaker of the endpoint end, whatever the settings are.
        lifts_pause: bool,
    },
    /// Changes nothing. The response to the request is stored.
    Keep {
        no: WebhookNo,
        version: u64,
    },
    Remove {
        no: WebhookNo,
        version: Option<u64>,
    },
    Disable {
        no: WebhookNo,
        reason: DisableReason,
    },
    Subscription {
        no: WebhookNo,
        version: Option<u64>,
        change: SubscriptionChange,
    },
    Access(Box<FileAccess>),
    KeyOrTenant(AccessChange),
    Audit(Box<AuditQuery>),
    /// Reads the stored response of an idempotency key, given its hash.
    StoredResponse(Box<[u8; 32]>),
    Source(SourceChange),
    Sources(Box<SourceSetup>),
    Profiles(Profiles),
    EventType(EventTypeChange),
    EventTypes(Box<catalogue::CatalogueSetup>),
    Stop,
}

/// Where the writer thread sends the result of a change.
#[derive(Debug)]
pub(super) enum ChangeReply {
    Discard,
    Webhook(oneshot::Sender<WebhookResult>),
    Source(oneshot::Sender<SourceResult>),
    EventType(oneshot::Sender<EventTypeResult>),
    Access(oneshot::Sender<AccessResult>),
    Audit(oneshot::Sender<Result<AuditPage, ChangeError>>),
    StoredResponse(oneshot::Sender<Result<Option<StoredResponse>, ChangeError>>),
}

/// The result of a change.
pub(super) enum ChangeOutcome {
    Webhook(WebhookResult),
    Source(SourceResult),
    EventType(EventTypeResult),
    Access(AccessResult),
    /// The writer thread reads the audit log and answers after the batch is written.
    Audit(Box<AuditQuery>),
    /// As for the audit log; with the time at which the response must not have expired.
    StoredResponse(Box<[u8; 32]>, Timestamp),
}

/// The result of a change of a webhook: the webhook after the change. `None` if it was removed, and for changes that
/// concern no single webhook.
pub(super) type WebhookResult = Result<Option<Arc<Webhook>>, ChangeError>;

/// Why a change was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The webhook does not exist, or was removed.
    #[error("there is no such webhook")]
    NotFound,
    /// The webhook has another version than the change expects.
    #[error("the webhook was changed meanwhile")]
    Changed,
    /// Another webhook of the tenant has this uid, or a source has it as its name.
    #[error("another webhook or a source of the tenant is found by this uid")]
    UidTaken,
    /// The webhook has no such subscription.
    #[error("there is no such subscription")]
    SubscriptionNotFound,
    /// The webhook has the maximum number of subscriptions.
    #[error("the webhook has {SUBSCRIPTIONS_MAX} subscriptions, as many as it may")]
    TooManySubscriptions,
    /// The compiled regular expressions of the webhook and its subscriptions are too large together.
    #[error(
        "the compiled regular expressions of a webhook have at most {WEBHOOK_COMPILED_BYTES_MAX} bytes together, with \
         those of its subscriptions: fewer or simpler expressions"
    )]
    PatternsTooLarge,
    /// The definitions of the tenant would use too much memory.
    #[error(
        "the webhooks, sources and event types of a tenant may use {TENANT_DEFINITIONS_BYTES_MAX} bytes of memory, and \
         with this change they would use more: make filters, lists and schemas smaller, or delete what is not needed"
    )]
    TenantTooLarge,
    /// The definitions of all tenants would use too much memory.
    #[error(
        "the webhooks, sources and event types of all tenants may use {DEFINITIONS_BYTES_MAX} bytes of memory, and with \
         this change they would use more"
    )]
    RegistryTooLarge,
    /// The queue of the writer thread is full.
    #[error("too many changes wait for the disk")]
    Overloaded,
    /// The disk is full.
    #[error("the disk is full")]
    DiskFull,
    /// registry.redb cannot be written, or the server is stopping.
    #[error("the registry takes no more changes")]
    Stopped,
}

impl ChangeReply {
    /// Sends the result. The change stays in force if the caller no longer waits for the result.
    pub(super) fn send(self, outcome: ChangeOutcome, store: &dyn RegistryStore) {
        match (self, outcome) {
            (Self::Access(reply), ChangeOutcome::Access(answer)) => drop(reply.send(answer)),
            (Self::Audit(reply), ChangeOutcome::Audit(query)) => {
                let page = store.audit(&query).map_err(|error| {
                    tracing::error!(target: "hooktide::registry", %error, "the audit log cannot be read");
                    ChangeError::Stopped
                });
                drop(reply.send(page));
            }
            (Self::StoredResponse(reply), ChangeOutcome::StoredResponse(hash, now)) => {
                let found = store.stored_response(&hash, now).map_err(|error| {
                    tracing::error!(target: "hooktide::registry", %error, "stored responses cannot be read");
                    ChangeError::Stopped
                });
                drop(reply.send(found));
            }
            (Self::Webhook(reply), ChangeOutcome::Webhook(answer)) => drop(reply.send(answer)),
            (Self::Source(reply), ChangeOutcome::Source(answer)) => drop(reply.send(answer)),
            (Self::EventType(reply), ChangeOutcome::EventType(answer)) => drop(reply.send(answer)),
            _ => {}
        }
    }

    /// Reports that nothing was written.
    pub(super) fn refuse(self, refusal: ChangeError) {
        match self {
            Self::Discard => {}
            Self::Webhook(reply) => drop(reply.send(Err(refusal))),
            Self::Source(reply) => drop(reply.send(Err(SourceError::Unavailable(refusal)))),
            Self::EventType(reply) => drop(reply.send(Err(EventTypeError::Unavailable(refusal)))),
            Self::Access(reply) => drop(reply.send(Err(AccessError::Unavailable(refusal)))),
            Self::Audit(reply) => drop(reply.send(Err(refusal))),
            Self::StoredResponse(reply) => drop(reply.send(Err(refusal))),
        }
    }
}
