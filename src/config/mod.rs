//! config: reads and checks the configuration, in two stages. `RawConfig` has the values as written, and [`Config`] has
//! the checked values with their types.
//!
//! A [`ConfigDraft`] holds a configuration together with its errors. Higher layers compile sources, profiles, event
//! types, key sets and declared webhooks from the plain values of [`Config`], and their callers add the errors to the
//! draft.
//!
//! Guarantees:
//!
//! - All values are checked before anything is opened.
//! - An error names the key, the origin of its value, and what is allowed.
//! - Every field of [`Config`] is a key of `config.toml`, which documents all keys.
//!
//! Must never know: the compiled form of the values.

mod access;
mod catalogue;
mod check;
mod draft;
mod error;
mod layers;
mod legacy_variables;
mod load;
mod nats;
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
pub use draft::{ConfigDraft, LoadedConfig};
pub(crate) use error::key_of;
pub use error::{ConfigError, ConfigErrors, PartError};
pub(crate) use layers::TomlFile;
pub use layers::{Environment, Flags, KEY_VARIABLE, PREFIX, URL_VARIABLE};
pub use load::Loader;
pub use nats::NatsConfig;
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

/// A checked configuration. Parts that other folders compile are here as written.
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
    /// `[nats]`; `None`: there is no event bus.
    pub nats: Option<NatsConfig>,
    /// `[[sources]]`
    pub sources: Vec<SourceConfig>,
    /// `[profiles]`
    pub profiles: ProfilesConfig,
    /// `[[tenants]]`
    pub tenants: Vec<FileTenant>,
    /// `max_body_bytes` of sources without this setting; `None`: the built-in default.
    pub source_body_bytes: Option<u64>,
    /// `[events]` and `[[event_types]]`
    pub event_types: EventTypesConfig,
    /// `apply`: the file that declares webhooks.
    pub apply: Option<PathBuf>,
}

/// `[profiles]`
#[derive(Debug, Clone, Default)]
pub struct ProfilesConfig {
    /// The profiles by name, as written.
    pub written: BTreeMap<String, RawProfile>,
    /// The header for signatures of the built-in profile `homechef`; `None`: the built-in header.
    pub homechef_signature: Option<Box<str>>,
}

/// `[events]` and `[[event_types]]`
#[derive(Debug, Clone, Default)]
pub struct EventTypesConfig {
    /// Whether events of types that are in no catalogue are refused.
    pub strict: bool,
    /// `[[event_types]]`, as written.
    pub types: Vec<EventTypeSettings>,
    /// `events.catalogues`
    pub catalogues: Vec<CatalogueConfig>,
}

/// An entry of `[[tenants]]`, checked.
#[derive(Debug, Clone)]
pub struct FileTenant {
    /// The tenant's name.
    pub name: Arc<str>,
    /// The defaults for the tenant's webhooks.
    pub settings: TenantSettings,
}

/// `[server]`
#[derive(Debug, Clone)]
pub struct Server {
    /// The addresses to listen on, at least one. Port 0 picks a free port.
    pub listen: Vec<SocketAddr>,
    /// The address for management, console and metrics. If set, the addresses of `listen` do not serve them.
    pub admin_listen: Option<SocketAddr>,
    /// The folder of all data.
    pub data_dir: PathBuf,
    /// Maximum bytes of a request's body.
    pub max_body_bytes: usize,
    /// Maximum bytes of an array or NDJSON body.
    pub max_batch_bytes: usize,
    /// Threads that accept requests.
    pub workers: usize,
    /// How long a stop waits for running requests and deliveries.
    pub drain: Duration,
    /// The URL under which others reach this server, without a trailing `/`; `None`: the first listener's address.
    pub public_url: Option<Box<str>>,
    /// The origins of other sites that may send requests from browsers.
    pub cors_origins: Vec<Box<str>>,
}

impl Server {
    /// The public URL, as far as it is known before the server listens.
    pub fn public_url(&self) -> String {
        self.public_url_at(self.listen.first().copied())
    }

    /// The public URL of a server that listens on this address.
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
    /// The keys of the configuration. The first-start key and the keys created through the API are valid too.
    pub api_keys: Vec<ApiKey>,
    /// The secret for HS256 signatures of tokens.
    pub jwt_secret: Option<Secret>,
    /// The file with public keys for signatures of tokens, as an alternative to the secret.
    pub jwks_file: Option<PathBuf>,
    /// The required `iss` of a token.
    pub jwt_issuer: Option<Box<str>>,
    /// The required `aud` of a token, alone or among others.
    pub jwt_audience: Option<Box<str>>,
    /// The role for a token without a role, and for a user that a trusted proxy names.
    pub default_role: Role,
    /// The lifetime of a token from `hooktide token`.
    pub token_ttl: Duration,
    /// The networks whose `X-User-ID` and `X-Org-ID` headers are trusted.
    pub trusted_proxy: Vec<IpNet>,
}

/// An entry of `auth.api_keys`.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// The key, at least 16 characters.
    pub key: Secret,
    /// The key's tenant; `None` for `*`: all tenants.
    pub tenant: Option<Arc<str>>,
    /// The key's role.
    pub role: Role,
}

/// `[logging]`
#[derive(Debug, Clone)]
pub struct Logging {
    /// Whether log lines are JSON instead of text.
    pub json: bool,
    /// A `tracing` filter: `info`, or `hooktide=debug,warn`.
    pub level: Box<str>,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// The size at which a segment is closed and a new one begins.
    pub segment_bytes: u64,
    /// The age at which a segment is closed and a new one begins.
    pub segment_age: Duration,
    /// The age at which a segment is deleted.
    pub retention: Duration,
    /// The total size of all segments at which the oldest segment is deleted.
    pub retention_bytes: u64,
    /// Maximum bytes of bodies that are carried over because deliveries still wait when their segment is deleted.
    pub carry_bytes: u64,
    /// Whether redb uses two-phase commit.
    pub two_phase_commit: bool,
}

/// `[history]`
#[derive(Debug, Clone)]
pub struct History {
    /// The age at which attempts are deleted.
    pub retention: Duration,
}

/// `[dead_letters]`
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// The age at which dead letters are deleted.
    pub retention: Duration,
}

/// `[dedup]`
#[derive(Debug, Clone)]
pub struct Dedup {
    /// How long an id is remembered.
    pub ttl: Duration,
    /// Maximum number of remembered ids.
    pub max_keys: usize,
}

/// `[delivery]`: the defaults for webhooks.
#[derive(Debug, Clone)]
pub struct DeliveryDefaults {
    /// The retry schedule. n delays make n + 1 attempts.
    pub retry_policy: RetryPolicy,
    /// The timeout of one attempt, including the response's body.
    pub timeout: Duration,
    /// Maximum of concurrent deliveries to a webhook.
    pub max_in_flight: u16,
}

/// `[delivery.breaker]`: the circuit breaker of each webhook.
#[derive(Debug, Clone)]
pub struct Breaker {
    /// The number of recent attempts that the breaker counts.
    pub window: u16,
    /// The share of failures in the window that opens the breaker.
    pub failure_ratio: f64,
    /// The minimum number of attempts in the window before the breaker opens.
    pub min_attempts: u16,
    /// How long the breaker stays open at first. Each failed probe doubles the time.
    pub open: Duration,
    /// The maximum time that the breaker stays open.
    pub open_max: Duration,
    /// The number of successes that closes the breaker.
    pub close_after: u16,
    /// How long every attempt must fail before the webhook is disabled.
    pub disable_after: Duration,
}

impl Breaker {
    /// The settings for a webhook that overrides some of them.
    #[must_use]
    pub fn with(&self, own: &BreakerSettings) -> Self {
        let window = own.window.unwrap_or(self.window);
        let open = own.open_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(self.open);
        Self {
            window,
            failure_ratio: own.failure_ratio.unwrap_or(self.failure_ratio),
            // The window never has more attempts than this.
            min_attempts: own.min_attempts.unwrap_or(self.min_attempts).min(window),
            open,
            // The first time is the minimum of all later ones.
            open_max: self.open_max.max(open),
            close_after: own.close_after.unwrap_or(self.close_after),
            disable_after: own.disable_after().unwrap_or(self.disable_after),
        }
    }
}

/// `[dispatch]`
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// Number of shard threads.
    pub shards: usize,
    /// Maximum bytes of bodies in memory.
    pub memory_bytes: usize,
}

/// `[egress]`
#[derive(Debug, Clone)]
pub struct Egress {
    /// Special-purpose networks that deliveries may reach.
    pub allow: Vec<IpNet>,
    /// Public networks that deliveries must not reach.
    pub deny: Vec<IpNet>,
    /// Whether `http://` is refused.
    pub require_https: bool,
    /// A PEM file with certificate authorities to trust in addition to the public ones.
    pub ca_file: Option<PathBuf>,
    /// The DNS servers. Empty: those of `/etc/resolv.conf`.
    pub dns_servers: Vec<SocketAddr>,
}

/// `[metrics]`
#[derive(Debug, Clone)]
pub struct MetricsAccess {
    /// Whether `/metrics` needs no key on the public listener.
    pub public: bool,
}
