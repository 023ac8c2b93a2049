//! Paths of the HTTP interface. The server routes by them; the client commands and the declarative files call them.

/// Everything below this prefix is the API.
pub const API: &str = "/api/v1/";
/// Publishes an event, and lists events.
pub const EVENTS: &str = "/api/v1/events";
/// Webhooks. Below it, a source's name or id is where its provider sends to.
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
/// Partners send here; the token follows.
pub const PARTNER: &str = "/webhook/v1/";

/// Words below [`WEBHOOKS`] that are neither a webhook's `uid` nor a source's name.
pub const WEBHOOK_WORDS: [&str; 2] = ["events", "deliveries"];
