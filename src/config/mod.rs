//! Configuration in two stages: `Raw` (what was written, by figment) → [`Config`] (checked, typed).
//!
//! Promises: everything is checked before anything is opened; an error names the key, where it came from, and what is
//! allowed. Every field here is a key of `config.toml`, which documents them all. Must never know: the stages.

mod access;
mod check;
mod error;
mod event_types;
mod layers;
mod load;
mod profiles;
mod raw;
mod show;
mod sources;
mod tenants;
mod value;

#[cfg(test)]
mod event_type_tests;
#[cfg(test)]
mod profile_tests;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
mod tests;

pub(crate) use error::key_of;
pub use error::{ConfigError, ConfigErrors};
pub(crate) use layers::TomlFile;
pub use layers::{Environment, Flags, KEY_VARIABLE, PREFIX, URL_VARIABLE};
pub use load::{Loaded, Loader};
pub(crate) use sources::read_secret_file;
pub(crate) use value::{parse_duration, parse_size};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::auth::KeySet;
use crate::inbound::source::{Settings, TokenHash};
use crate::model::{BreakerSettings, RetryPolicy, Role, Secret, TenantSettings};
use crate::outbound::profile::Profiles;

/// What is in force.
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
    pub sources: Vec<FileSource>,
    /// Those built in, and `[profiles]`.
    pub profiles: Profiles,
    /// `[[tenants]]`
    pub tenants: Vec<FileTenant>,
    /// `max_body_bytes` of sources that have none of their own; `None`: the built-in default.
    pub source_body_bytes: Option<u64>,
    /// `[events]` and `[[event_types]]`
    pub event_types: crate::registry::catalogue::Setup,
    /// `apply`: webhooks that a file declares.
    pub apply: Option<Arc<crate::service::apply::Declared>>,
    /// Things that a person should know, in sentences; nothing is wrong.
    pub warnings: Vec<String>,
}

/// An entry of `[[sources]]`, checked.
#[derive(Debug, Clone)]
pub struct FileSource {
    /// As written, with secrets of variables and files read.
    pub settings: Settings,
    /// The tenant it belongs to.
    pub tenant: Arc<str>,
    /// Of a partner.
    pub token: Option<TokenHash>,
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
    /// What signs the tokens that are taken.
    pub jwt: JwtKeys,
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

/// What signs tokens: one algorithm, or keys of which each has its own.
#[derive(Debug, Clone)]
pub enum JwtKeys {
    /// No token is taken.
    None,
    /// HS256 with `auth.jwt_secret`.
    Secret(Secret),
    /// RS256, ES256 and EdDSA with the keys of `auth.jwks_file`.
    Published(Arc<KeySet>),
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
