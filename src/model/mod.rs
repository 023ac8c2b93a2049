//! The words of the domain: ids, times, events, webhooks, deliveries and what became of them.
//!
//! Plain values without I/O, threads or clocks. Every stage speaks in these; none of them knows a stage.

mod attempt;
mod event;
mod id;
mod inbound;
mod secret;
mod time;
mod webhook;

pub use attempt::{Attempt, AttemptError, DeadReason, Decision, DeliveryStatus};
pub use event::{DedupKey, DedupKind, Event, EventHead, HeadError, HeadStamp, NewEvent, Webhooks, data_of, raw_of};
pub use id::{DeliveryId, EventId, IdError, SourceId, WebhookId, WebhookNo};
pub use inbound::{Inbound, Mapping};
pub use secret::Secret;
pub use time::{TimeError, Timestamp};
pub use webhook::{
    Endpoint, EventPattern, PatternError, RateLimit, RetryPolicy, SigningKey, SigningKeys, Webhook, WebhookStatus,
    is_event_type,
};
