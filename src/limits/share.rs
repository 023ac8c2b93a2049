//! Bounds of what one client, one address or one tenant can use of what all share.

use std::time::Duration;

use super::{BODIES_IN_FLIGHT_BYTES, MANAGE_REQUESTS_MAX, SOURCE_BODY_BYTES_MAX};

/// The part of [`BODIES_IN_FLIGHT_BYTES`] for callers without credentials. A source proves its signature after its body.
pub const PUBLIC_BODIES_BYTES: usize = 32 << 20;
/// Bytes of the bodies of one address without credentials: the largest body of a source.
pub const PEER_BODIES_BYTES: usize = SOURCE_BODY_BYTES_MAX;
/// Bytes of the incomplete bodies of one tenant, if it sends more than one.
pub const TENANT_BODIES_BYTES: usize = 32 << 20;
/// Bytes that an incomplete body reserves at least: its buffer, and what its connection needs.
pub const INCOMPLETE_BODY_BYTES_MIN: usize = 8 * 1024;
/// Counters for the bytes of addresses, and as many for tenants. Two owners that share a counter share a limit.
pub const BODY_OWNER_SLOTS: usize = 1_024;
/// Bytes per second below which a body gives way to others when there is no room for bodies.
pub const BODY_SLOW_RATE: u64 = 64 * 1024;
/// Time over which the rate of a body is measured for this.
pub const BODY_SLOW_WINDOW: Duration = Duration::from_secs(1);
/// Attempts to find room for a body. Another body can take what became free.
pub const BODY_EVICTION_TRIES: usize = 4;

/// One address may have a connection in this many of all connections before its connections give way first.
pub const CROWD_PART: usize = 4;
/// Time after which a connection that sends its head or its body too slowly gives way to new connections.
pub const SLOW_CONNECTION_AGE: Duration = Duration::from_secs(1);
/// Divisor of the connections that give way at once, so that a new connection rarely has to look at all others.
pub const GIVING_WAY_PART: usize = 64;
/// Pause before a new connection without a slot looks again for connections that give way.
pub const GIVE_WAY_RETRY: Duration = Duration::from_millis(50);

/// Management requests of one tenant that wait for their response. Further requests get a 429 response.
pub const MANAGE_REQUESTS_PER_TENANT: usize = MANAGE_REQUESTS_MAX / 4 * 3;

/// Bytes of memory of all reads of the management API: their rows, and their responses until they are sent.
pub const READS_BYTES: usize = 64 << 20;
/// The part of [`READS_BYTES`] that one tenant can use.
pub const TENANT_READS_BYTES: usize = 48 << 20;
/// Bytes that a read counts until its response is complete. From then on the response counts.
pub const READ_BYTES: usize = 8 << 20;
/// Bytes of the events of a list page after which the page ends, with a cursor. A response is about as large again.
pub const PAGE_BYTES_MAX: usize = 2 << 20;
/// Bytes of the payloads that a page of dead letters shows. A page leaves out payloads that do not fit.
pub const DEAD_LETTER_PAYLOADS_BYTES: usize = 1 << 20;
/// Bytes of memory of all reads of large payloads, in addition to [`READS_BYTES`].
pub const PAYLOADS_BYTES: usize = 128 << 20;
/// The part of [`PAYLOADS_BYTES`] that one tenant can use.
pub const TENANT_PAYLOADS_BYTES: usize = 96 << 20;
/// Copies of a payload while it is shown: as it is stored, as JSON, in the response, and for data that are not JSON with
/// escapes.
pub const PAYLOAD_COPIES: usize = 5;
/// Time that a read waits for its memory before it gets a 503 or 429 response.
pub const READ_WAIT: Duration = Duration::from_secs(5);

const _: () = assert!(
    PEER_BODIES_BYTES < PUBLIC_BODIES_BYTES && PUBLIC_BODIES_BYTES < BODIES_IN_FLIGHT_BYTES,
    "strangers must leave room for others"
);
const _: () = assert!(
    READ_BYTES < TENANT_READS_BYTES && TENANT_READS_BYTES < READS_BYTES && TENANT_PAYLOADS_BYTES < PAYLOADS_BYTES,
    "one tenant must leave memory for the reads of others"
);
