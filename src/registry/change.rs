//! A change of the registry on its way to the thread that makes it, and the answer on its way back.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::access::{AccessAnswer, AccessChange, AccessError, FileAccess};
use super::audit::Actor;
use super::event_type_change::{EventTypeAnswer, EventTypeChange, EventTypeError};
use super::source_change::{SourceAnswer, SourceChange, SourceError};
use super::source_setup::SourceSetup;
use super::webhook_change::SubscriptionChange;
use crate::handoff::DisableReason;
use crate::limits::SUBSCRIPTIONS_MAX;
use crate::model::WebhookNo;
use crate::outbound::profile::Profiles;
use crate::outbound::{Webhook, WebhookSettings};
use crate::registry::catalogue;
use crate::storage::registry::{AuditPage, AuditQuery, RegistryStore};

/// A change on its way to the thread.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) change: Change,
    pub(super) actor: Option<Actor>,
    pub(super) reply: Reply,
}

/// What is to be changed.
#[derive(Debug)]
pub(super) enum Change {
    Create(Box<WebhookSettings>),
    Replace { no: WebhookNo, version: u64, settings: Box<WebhookSettings> },
    Remove { no: WebhookNo, version: Option<u64> },
    Disable { no: WebhookNo, reason: DisableReason },
    Subscription { no: WebhookNo, version: Option<u64>, change: SubscriptionChange },
    Access(Box<FileAccess>),
    KeyOrTenant(AccessChange),
    Audit(Box<AuditQuery>),
    Source(SourceChange),
    Sources(Box<SourceSetup>),
    Profiles(Profiles),
    EventType(EventTypeChange),
    EventTypes(Box<catalogue::Setup>),
    Stop,
}

/// Who waits for the end of a change.
#[derive(Debug)]
pub(super) enum Reply {
    Nobody,
    Webhook(oneshot::Sender<Answer>),
    Source(oneshot::Sender<SourceAnswer>),
    EventType(oneshot::Sender<EventTypeAnswer>),
    Access(oneshot::Sender<AccessAnswer>),
    Audit(oneshot::Sender<Result<AuditPage, ChangeError>>),
}

/// What a change came to.
pub(super) enum Outcome {
    Webhook(Answer),
    Source(SourceAnswer),
    EventType(EventTypeAnswer),
    Access(AccessAnswer),
    /// Is answered when the batch is written.
    Audit(Box<AuditQuery>),
}

/// What a change of a webhook came to: the webhook as it is now, if it is there.
pub(super) type Answer = Result<Option<Arc<Webhook>>, ChangeError>;

/// Why a change was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The webhook is not there any more.
    #[error("there is no such webhook")]
    NotFound,
    /// It is not of the version that the change was made from.
    #[error("the webhook was changed meanwhile")]
    Changed,
    /// Another webhook of the tenant, or a source, is found by this uid.
    #[error("another webhook or a source of the tenant is found by this uid")]
    UidTaken,
    /// The webhook has no such subscription.
    #[error("there is no such subscription")]
    SubscriptionNotFound,
    /// It has as many subscriptions as it may.
    #[error("the webhook has {SUBSCRIPTIONS_MAX} subscriptions, as many as it may")]
    TooManySubscriptions,
    /// Too many changes wait.
    #[error("too many changes wait for the disk")]
    Overloaded,
    /// There is no room.
    #[error("the disk is full")]
    DiskFull,
    /// registry.redb cannot be written, or the server is stopping.
    #[error("the registry takes no more changes")]
    Stopped,
}

impl Reply {
    /// Whoever asked may have hung up; the change is made all the same.
    pub(super) fn give(self, outcome: Outcome, store: &dyn RegistryStore) {
        match (self, outcome) {
            (Self::Access(reply), Outcome::Access(answer)) => drop(reply.send(answer)),
            (Self::Audit(reply), Outcome::Audit(query)) => {
                let page = store.audit(&query).map_err(|error| {
                    tracing::error!(target: "hooktide::registry", %error, "the audit log cannot be read");
                    ChangeError::Stopped
                });
                drop(reply.send(page));
            }
            (Self::Webhook(reply), Outcome::Webhook(answer)) => drop(reply.send(answer)),
            (Self::Source(reply), Outcome::Source(answer)) => drop(reply.send(answer)),
            (Self::EventType(reply), Outcome::EventType(answer)) => drop(reply.send(answer)),
            _ => {}
        }
    }

    /// Nothing was written.
    pub(super) fn refuse(self, refusal: ChangeError) {
        match self {
            Self::Nobody => {}
            Self::Webhook(reply) => drop(reply.send(Err(refusal))),
            Self::Source(reply) => drop(reply.send(Err(SourceError::Unavailable(refusal)))),
            Self::EventType(reply) => drop(reply.send(Err(EventTypeError::Unavailable(refusal)))),
            Self::Access(reply) => drop(reply.send(Err(AccessError::Unavailable(refusal)))),
            Self::Audit(reply) => drop(reply.send(Err(refusal))),
        }
    }
}
