//! The words of the domain: ids, times, events, webhooks, deliveries and what became of them.
//!
//! Plain values without I/O, threads or clocks. Every stage speaks in these; none of them knows a stage.

mod attempt;
mod endpoint_auth;
mod event;
pub mod file;
pub mod header;
mod id;
mod inbound;
mod order;
pub mod path;
mod policy;
mod secret;
mod source;
mod tenant;
mod time;
mod webhook;
mod wire;

pub use attempt::{Attempt, AttemptError, DeadReason, Decision, DeliveryStatus};
pub use endpoint_auth::{Credentials, EndpointAuth};
pub use event::{DedupKey, DedupKind, Event, EventHead, HeadError, HeadStamp, NewEvent, Webhooks, data_of, raw_of};
pub use id::{AuditId, DeliveryId, EventId, IdError, KeyId, SourceId, SubscriptionId, WebhookId, WebhookNo};
pub use inbound::{Inbound, Mapping};
pub use order::Order;
pub use policy::{BreakerSettings, RateLimit, RetryOn, RetryPolicy};
pub use secret::{HIDDEN, Secret};
pub use source::{API_SOURCE, OWN_SOURCE, kind};
pub use tenant::{DEFAULT_TENANT, TENANT_BYTES_MAX, TENANT_NAME_ALLOWED, TenantSettings, Visibility, is_tenant_name};
pub use time::{TimeError, Timestamp};
pub use webhook::{
    Endpoint, EventPattern, PatternError, RESERVED_TYPES, SigningKey, SigningKeys, SigningKind, Subscription, Webhook,
    WebhookSettings, WebhookStatus, is_event_type,
};
