//! Names of the files and folders in the data folder.

/// Webhooks, sources, event types, keys and tenants.
pub const REGISTRY: &str = "registry.redb";
/// What is still to be delivered.
pub const STATE: &str = "state.redb";
/// The folder of the log's segments.
pub const LOG: &str = "log";
/// The folder of bodies that outlive their segment.
pub const CARRY: &str = "carry";
/// The folder of finished attempts.
pub const HISTORY: &str = "history";
/// Gives up its space when the disk is full.
pub const BALLAST: &str = "ballast";
/// The key that a server makes at its first start.
pub const ADMIN_KEY: &str = "admin.key";
/// The keys that secrets are encrypted with.
pub const SECRETS_KEY: &str = "secrets.key";
