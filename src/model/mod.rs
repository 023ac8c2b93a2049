//! The domain types as plain data: ids, times, events, webhooks, deliveries and their outcomes.
//!
//! The types use no I/O, threads or clocks. Every stage uses these types. This folder must never know a stage.

mod attempt;
mod dedup;
mod endpoint_state;
mod event;
mod event_type;
mod field_error;
pub mod file;
pub mod header;
mod id;
mod inbound_info;
mod numeric_ids;
pub mod path;
mod policy;
mod principal;
mod profile;
mod role;
mod scheme;
mod secret;
mod source;
mod source_settings;
mod subject;
mod tenant;
mod time;
mod webhook;
mod wire;

pub use attempt::{Attempt, AttemptError, DeadReason, Decision, DeliveryStatus};
pub use dedup::{DedupBy, DedupKey, DedupKind};
pub use endpoint_state::{EndpointPause, EndpointState, OpenBreaker, PauseReason};
pub use event::{DedupFields, EventHead, HeadError, MatchedWebhooks, NewEvent, Webhooks, data_of, raw_of};
pub use event_type::EventTypeSettings;
pub use field_error::FieldError;
pub use id::{AuditId, DeliveryId, EventId, IdError, KeyId, SourceId, SubscriptionId, WebhookId, WebhookNo};
pub use inbound_info::{InboundInfo, Mapping};
pub use numeric_ids::NumericIds;
pub use policy::{BreakerSettings, RateLimit, RetryOn, RetryPolicy};
pub use principal::Principal;
pub use profile::{RawEnvelope, RawProfile, RawSigning};
pub use role::Role;
pub use scheme::{OneOrMany, RawJwt, RawScheme};
pub use secret::{API_KEY_PREFIX, HIDDEN, Secret, is_secret_header};
pub use source::{API_SOURCE, OPERATIONAL_SOURCE, kind};
pub use source_settings::{SecretSetting, SecretTable, SourceSettings, SourceStatus, is_secret_name};
pub use subject::{BUS_NAME_ALLOWED, SubjectError, SubjectPattern, is_bus_name};
pub use tenant::{DEFAULT_TENANT, TENANT_BYTES_MAX, TENANT_NAME_ALLOWED, TenantSettings, Visibility, is_tenant_name};
pub use time::{TimeError, Timestamp};
pub use webhook::{EventPattern, PatternError, RESERVED_TYPE_PREFIX, WebhookStatus, is_event_type};
