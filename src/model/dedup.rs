//! Deduplication keys: what makes an event the same as an earlier event.

/// The SHA-256 of tenant, sender, kind and id, truncated to 128 bits. The folder `ingest` computes the keys.
pub type DedupKey = [u8; 16];

/// How the log treats a second event with the same key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DedupKind {
    /// The id that the sender gave. The same id means the same event, whatever the body is.
    Id,
    /// An `Idempotency-Key`. The same key with another body is an error.
    IdempotencyKey,
}

/// What two events are compared by. Two events are compared only if they have the same tenant and the same sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DedupBy<'a> {
    /// The id that the sender gave, whatever the body is.
    Id(&'a str),
    /// The id that the sender gave, together with the body of the request.
    IdAndBody(&'a str),
    /// The body of the request.
    Body,
    /// An `Idempotency-Key`. Each key is valid for one body.
    IdempotencyKey {
        /// The key.
        key: &'a str,
        /// The index of the event in a request with many events; `None` in a request with one event.
        index: Option<usize>,
    },
}
