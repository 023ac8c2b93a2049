//! Headers and media types that more than one layer reads or writes, in lower case.

/// The id of a request, which every response repeats.
pub const X_REQUEST_ID: &str = "x-request-id";
/// The id by which a client follows an event through several systems.
pub const X_CORRELATION_ID: &str = "x-correlation-id";
/// The trace that an event belongs to (W3C Trace Context).
pub const TRACEPARENT: &str = "traceparent";
/// The key that makes a repeated request the same request.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Counts how often an event has passed through a gateway. A loop over several gateways is found by this header.
pub const HOPS: &str = "webhook-hops";

/// JSON.
pub const JSON: &str = "application/json";
/// JSON, with its charset spelled out: the media type of the server's own answers.
pub const JSON_UTF8: &str = "application/json; charset=utf-8";
/// An HTML form.
pub const FORM: &str = "application/x-www-form-urlencoded";
