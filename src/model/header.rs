//! Names of headers and media types that more than one layer reads or writes, in lower case.

/// The id of a request. Every response repeats the id.
pub const X_REQUEST_ID: &str = "x-request-id";
/// The id by which a client traces an event through several systems.
pub const X_CORRELATION_ID: &str = "x-correlation-id";
/// The trace context of an event (W3C Trace Context).
pub const TRACEPARENT: &str = "traceparent";
/// The idempotency key of a request: a repeated request with the same key has no second effect.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The number of gateways that an event has passed through. This header reveals a loop over several gateways.
pub const HOPS: &str = "webhook-hops";
/// The type of the event, on messages of the event bus.
pub const EVENT_TYPE: &str = "webhook-event-type";

/// JSON.
pub const JSON: &str = "application/json";
/// JSON with an explicit charset: the media type of the responses of the server.
pub const JSON_UTF8: &str = "application/json; charset=utf-8";
/// An HTML form.
pub const FORM: &str = "application/x-www-form-urlencoded";
