//! Bounds of the responses that are stored for requests with an `Idempotency-Key`.

use std::time::Duration;

/// Bytes of stored responses to requests with an `Idempotency-Key`, for one tenant in one file. The oldest are deleted
/// first. Room for some thousand creations of usual size.
pub const IDEMPOTENCY_TENANT_BYTES: u64 = 8 << 20;
/// Bytes of stored responses of all tenants in one file. The oldest are deleted first.
pub const IDEMPOTENCY_FILE_BYTES: u64 = 256 << 20;
/// What a stored response counts as beside its own bytes: the keys of its rows and their place in the file.
pub const IDEMPOTENCY_ROW_BYTES: u64 = 256;
/// Expired responses that the write of a response deletes.
pub const IDEMPOTENCY_EXPIRED_STEP: usize = 64;
/// Time that the management API remembers an `Idempotency-Key`.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(24 * 60 * 60);
