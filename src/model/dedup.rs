//! dedup: what makes an event the same as an earlier one.

/// SHA-256 of tenant, sender, kind and id, cut to 128 bits. The folder `ingest` computes the keys.
pub type DedupKey = [u8; 16];

/// How the log treats a second event with the same key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DedupKind {
    /// The sender's own id: the same id is the same event, whatever its body.
    Id,
    /// An `Idempotency-Key`: the same key with another body is an error.
    IdempotencyKey,
}

/// What a sender's events are compared by. Two events are compared only if they are of one tenant and one sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DedupBy<'a> {
    /// The sender's id, whatever the body.
    Id(&'a str),
    /// The sender's id and the request's body together.
    IdAndBody(&'a str),
    /// The request's body.
    Body,
    /// An `Idempotency-Key`, which is valid for one body.
    IdempotencyKey {
        /// The key.
        key: &'a str,
        /// The event's index in a request of many events.
        index: Option<usize>,
    },
}
