//! Configuration in two stages: `Raw` is what was written, [`Config`] is the same, checked and with types.
//!
//! A [`Draft`] holds a configuration together with its errors. The folders above compile sources, profiles, event types,
//! key sets and declared webhooks from the plain values of [`Config`]; their errors are added to the draft by the caller.
//!
//! Promises: everything is checked before anything is opened; an error names the key, the origin of its value, and what
//! is allowed. Every field of [`Config`] is a key of `config.toml`, which documents all keys. Must never know: what the
//! values are compiled to.

mod access;
mod catalogue;
mod check;
mod draft;
mod error;
mod layers;
mod load;
mod old_names;
mod origins;
mod raw;
mod secret_file;
mod show;
mod sources;
mod tenants;
mod value;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use catalogue::CatalogueConfig;
pub use draft::{Draft, Loaded};
pub(crate) use error::key_of;
pub use error::{ConfigError, ConfigErrors, PartError};
pub(crate) use layers::TomlFile;
pub use layers::{Environment, Flags, KEY_VARIABLE, PREFIX, URL_VARIABLE};
pub use load::Loader;
pub use origins::Origins;
pub(crate) use secret_file::read_secret_file;
pub use sources::SourceConfig;
pub(crate) use value::{parse_duration, parse_size};

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{BreakerSettings, EventTypeSettings, RawProfile, RetryPolicy, Role, Secret, TenantSettings};

/// A checked configuration. What others compile is here as it is written.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[auth]`
    pub auth: Auth,
    /// `[logging]`
    pub logging: Logging,
    /// `[log]`
    pub log: Log,
    /// `[history]`
    pub history: History,
    /// `[dead_letters]`
    pub dead_letters: DeadLetters,
    /// `[dedup]`
    pub dedup: Dedup,
    /// `[delivery]`
    pub delivery: DeliveryDefaults,
    /// `[delivery.breaker]`
    pub breaker: Breaker,
    /// `[dispatch]`
    pub dispatch: Dispatch,
    /// `[egress]`
    pub egress: Egress,
    /// `[metrics]`
    pub metrics: MetricsAccess,
    /// `[[sources]]`
    pub sources: Vec<SourceConfig>,
    /// `[profiles]`
    pub profiles: ProfilesConfig,
    /// `[[tenants]]`
    pub tenants: Vec<FileTenant>,
    /// `max_body_bytes` of sources that have none of their own; `None`: the built-in default.
    pub source_body_bytes: Option<u64>,
    /// `[events]` and `[[event_types]]`
    pub event_types: EventTypesConfig,
    /// `apply`: the file that declares webhooks.
    pub apply: Option<PathBuf>,
}

/// `[profiles]`
#[derive(Debug, Clone, Default)]
pub struct ProfilesConfig {
    /// Each profile by its name, as it is written.
    pub written: BTreeMap<String, RawProfile>,
    /// The header in which the built-in profile `homechef` signs, if a variable names another one.
    pub homechef_signature: Option<Box<str>>,
}

/// `[events]` and `[[event_types]]`
#[derive(Debug, Clone, Default)]
pub struct EventTypesConfig {
    /// Whether types that are in no catalogue are refused.
    pub strict: bool,
    /// `[[event_types]]`, as they are written.
    pub types: Vec<EventTypeSettings>,
    /// `events.catalogues`
    pub catalogues: Vec<CatalogueConfig>,
}

/// An entry of `[[tenants]]`, checked.
#[derive(Debug, Clone)]
pub struct FileTenant {
    /// Its name.
    pub name: Arc<str>,
    /// What holds for its webhooks.
    pub settings: TenantSettings,
}

/// `[server]`
#[derive(Debug, Clone)]
pub struct Server {
    /// At least one; port 0 picks one.
    pub listen: Vec<SocketAddr>,
    /// Management, console and metrics answer only here when set.
    pub admin_listen: Option<SocketAddr>,
    /// The folder of all data.
    pub data_dir: PathBuf,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Bytes of an array or NDJSON body.
    pub max_batch_bytes: usize,
    /// Threads that accept requests.
    pub workers: usize,
    /// How long a stop waits for what is in flight.
    pub drain: Duration,
    /// Where the world reaches this server, without a `/` at its end; `None`: at the first listener's address.
    pub public_url: Option<Box<str>>,
    /// The other sites whose pages may ask, as browsers name them.
    pub cors_origins: Vec<Box<str>>,
}

impl Server {
    /// Where the world reaches this server, as far as is known before it listens.
    pub fn public_url(&self) -> String {
        self.public_url_at(self.listen.first().copied())
    }

    /// The same, with the address that it listens on.
    pub fn public_url_at(&self, listen: Option<SocketAddr>) -> String {
        let local = || {
            let mut addr = listen?;
            match addr.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
                _ => {}
            }
            Some(format!("http://{addr}"))
        };
        self.public_url.as_deref().map(str::to_owned).or_else(local).unwrap_or_default()
    }
}

/// `[auth]`
#[derive(Debug, Clone)]
pub struct Auth {
    /// Keys from the configuration; the first-start key and those made by the interface come on top.
    pub api_keys: Vec<ApiKey>,
    /// The secret that signs tokens with HS256.
    pub jwt_secret: Option<Secret>,
    /// The file of public keys that sign tokens, in place of the secret.
    pub jwks_file: Option<PathBuf>,
    /// The `iss` that a token must have.
    pub jwt_issuer: Option<Box<str>>,
    /// The `aud` that a token must have, alone or among others.
    pub jwt_audience: Option<Box<str>>,
    /// Of a token without a role, and of a user that a trusted proxy names.
    pub default_role: Role,
    /// How long a token of `hooktide token` lasts.
    pub token_ttl: Duration,
    /// From whom `X-User-ID` and `X-Org-ID` are believed.
    pub trusted_proxy: Vec<IpNet>,
}

/// An entry of `auth.api_keys`.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// The key itself, at least 16 characters.
    pub key: Secret,
    /// Its tenant; `None` for `*`: all.
    pub tenant: Option<Arc<str>>,
    /// What it may do.
    pub role: Role,
}

/// `[logging]`
#[derive(Debug, Clone)]
pub struct Logging {
    /// JSON lines instead of text.
    pub json: bool,
    /// A `tracing` filter: `info`, or `hooktide=debug,warn`.
    pub level: Box<str>,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// Size at which a segment is followed by the next.
    pub segment_bytes: u64,
    /// Age at which it is.
    pub segment_age: Duration,
    /// Age at which a segment goes.
    pub retention: Duration,
    /// Size of all segments at which the oldest goes.
    pub retention_bytes: u64,
    /// Bodies that still wait when their segment goes.
    pub carry_bytes: u64,
    /// redb's two-phase commit.
    pub two_phase_commit: bool,
}

/// `[history]`
#[derive(Debug, Clone)]
pub struct History {
    /// Age at which attempts are forgotten.
    pub retention: Duration,
}

/// `[dead_letters]`
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// Age at which they are forgotten.
    pub retention: Duration,
}

/// `[dedup]`
#[derive(Debug, Clone)]
pub struct Dedup {
    /// How long an id is remembered.
    pub ttl: Duration,
    /// How many are.
    pub max_keys: usize,
}

/// `[delivery]`: what a webhook without a setting of its own gets.
#[derive(Debug, Clone)]
pub struct DeliveryDefaults {
    /// n delays make n + 1 attempts.
    pub retry_policy: RetryPolicy,
    /// For one attempt, body included.
    pub timeout: Duration,
    /// Deliveries at once.
    pub max_in_flight: u16,
}

/// `[delivery.breaker]`: the circuit breaker of each webhook.
#[derive(Debug, Clone)]
pub struct Breaker {
    /// Attempts looked at.
    pub window: u16,
    /// Share of failures among them that opens it.
    pub failure_ratio: f64,
    /// No fewer attempts open it.
    pub min_attempts: u16,
    /// How long it stays open at first, doubling with each failed probe …
    pub open: Duration,
    /// … up to this.
    pub open_max: Duration,
    /// Successes that close it again.
    pub close_after: u16,
    /// After this long of nothing but failure the webhook is disabled.
    pub disable_after: Duration,
}

impl Breaker {
    /// As it is for a webhook with settings of its own.
    #[must_use]
    pub fn with(&self, own: &BreakerSettings) -> Self {
        let window = own.window.unwrap_or(self.window);
        let open = own.open_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(self.open);
        Self {
            window,
            failure_ratio: own.failure_ratio.unwrap_or(self.failure_ratio),
            // More attempts than the window holds are never seen.
            min_attempts: own.min_attempts.unwrap_or(self.min_attempts).min(window),
            open,
            // It doubles from where it begins.
            open_max: self.open_max.max(open),
            close_after: own.close_after.unwrap_or(self.close_after),
            disable_after: own.disable_after().unwrap_or(self.disable_after),
        }
    }
}

/// `[dispatch]`
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// Shard threads.
    pub shards: usize,
    /// Bytes of bodies in memory.
    pub memory_bytes: usize,
}

/// `[egress]`
#[derive(Debug, Clone)]
pub struct Egress {
    /// Special-purpose networks that are let through.
    pub allow: Vec<IpNet>,
    /// Networks that are refused although they are public.
    pub deny: Vec<IpNet>,
    /// Whether `http://` is refused.
    pub require_https: bool,
    /// PEM file of certificate authorities to trust beside the public ones.
    pub ca_file: Option<PathBuf>,
}

/// `[metrics]`
#[derive(Debug, Clone)]
pub struct MetricsAccess {
    /// Whether `/metrics` needs no key on the public listener.
    pub public: bool,
}
