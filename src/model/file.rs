//! Names of the files and folders in the data folder.

/// Webhooks, sources, event types, keys and tenants.
pub const REGISTRY: &str = "registry.redb";
/// The delivery state: what is still to be delivered.
pub const STATE: &str = "state.redb";
/// The folder of the log's segments.
pub const LOG: &str = "log";
/// The folder of event bodies that are still needed after their segment is removed.
pub const CARRY: &str = "carry";
/// The folder with the history of finished attempts.
pub const HISTORY: &str = "history";
/// A file that reserves disk space. Hooktide frees the space when the disk is full.
pub const BALLAST: &str = "ballast";
/// The API key that a server creates at its first start.
pub const ADMIN_KEY: &str = "admin.key";
/// The encryption keys of the stored secrets.
pub const SECRETS_KEY: &str = "secrets.key";
