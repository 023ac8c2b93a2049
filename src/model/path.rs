//! Paths of the HTTP API. The server routes by these paths. The client commands and the declarative files call them.

/// The prefix of all API paths.
pub const API: &str = "/api/v1/";
/// Publishes an event, and lists events.
pub const EVENTS: &str = "/api/v1/events";
/// Webhooks. A provider sends requests to the name or id of its source below this path.
pub const WEBHOOKS: &str = "/api/v1/webhooks";
/// Deliveries.
pub const DELIVERIES: &str = "/api/v1/deliveries";
/// Event types.
pub const EVENT_TYPES: &str = "/api/v1/event-types";
/// Sources.
pub const SOURCES: &str = "/api/v1/sources";
/// API keys.
pub const KEYS: &str = "/api/v1/keys";
/// Tenants.
pub const TENANTS: &str = "/api/v1/tenants";
/// Replays.
pub const REPLAYS: &str = "/api/v1/replays";
/// The prefix of the URLs that partners send to. The token of the partner follows.
pub const PARTNER: &str = "/webhook/v1/";

/// Path segments below [`WEBHOOKS`] that are reserved and so cannot be the `uid` of a webhook or the name of a source.
pub const RESERVED_WEBHOOK_SEGMENTS: [&str; 2] = ["events", "deliveries"];
