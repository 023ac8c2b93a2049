//! The configuration as written, with its defaults. The types fit, but the meaning of the values is not checked yet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::catalogue::Catalogue;
use super::sources::SourceConfig;
use super::tenants::RawTenant;
use super::value::{
    AutoCount, CommaList, Count, Delay, Fraction, GIB, HoursValue, MIB, SecondsValue, Size, Toggle, one_or_list,
};
use crate::model::{DEFAULT_TENANT, EventTypeSettings, HIDDEN, RawProfile, Secret, SecretSetting};

/// Defines sections with their keys, types and defaults. Every section refuses unknown keys.
macro_rules! sections {
    ($($(#[doc = $doc:literal])* $section:ident {
        $($(#[$attribute:meta])* $key:ident: $type:ty = $default:expr,)*
    })*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Deserialize, Serialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct $section {
            $($(#[$attribute])* pub(super) $key: $type,)*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }
    )*};
}

sections! {
    /// The whole file.
    RawConfig {
        apply: String = String::new(),
        server: Server = Server::default(),
        auth: Auth = Auth::default(),
        logging: Logging = Logging::default(),
        log: Log = Log::default(),
        history: History = History::default(),
        dead_letters: DeadLetters = DeadLetters::default(),
        dedup: Dedup = Dedup::default(),
        delivery: Delivery = Delivery::default(),
        dispatch: Dispatch = Dispatch::default(),
        egress: Egress = Egress::default(),
        metrics: Metrics = Metrics::default(),
        nats: Nats = Nats::default(),
        events: Events = Events::default(),
        #[serde(skip_serializing_if = "Vec::is_empty")]
        sources: Vec<SourceConfig> = Vec::new(),
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        profiles: BTreeMap<String, RawProfile> = BTreeMap::new(),
        #[serde(skip_serializing_if = "Vec::is_empty")]
        event_types: Vec<EventTypeSettings> = Vec::new(),
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tenants: Vec<RawTenant> = Vec::new(),
    }
    /// `[server]`
    Server {
        #[serde(serialize_with = "one_or_list")]
        listen: CommaList<String> = CommaList(vec!["127.0.0.1:8080".to_owned()]),
        admin_listen: String = String::new(),
        data_dir: String = "hooktide-data".to_owned(),
        max_body_bytes: Size = Size(MIB),
        max_batch_bytes: Size = Size(16 * MIB),
        workers: AutoCount = AutoCount(None),
        drain_seconds: SecondsValue = SecondsValue::whole(30),
        public_url: String = String::new(),
        cors_origins: CommaList<String> = CommaList(Vec::new()),
    }
    /// `[auth]`
    Auth {
        api_keys: Vec<ApiKey> = Vec::new(),
        #[serde(serialize_with = "hidden_unless_empty")]
        jwt_secret: Secret = Secret::new(""),
        jwks_file: String = String::new(),
        jwt_issuer: String = String::new(),
        jwt_audience: String = String::new(),
        default_role: String = "member".to_owned(),
        token_ttl_seconds: SecondsValue = SecondsValue::whole(3_600),
        trusted_proxy: CommaList<String> = CommaList(Vec::new()),
    }
    /// An entry of `auth.api_keys`. The check finds missing keys, because it can name the entry.
    ApiKey {
        #[serde(serialize_with = "hidden")]
        key: Option<Secret> = None,
        tenant: String = DEFAULT_TENANT.to_owned(),
        role: String = String::new(),
    }
    /// `[logging]`
    Logging {
        format: String = "text".to_owned(),
        level: String = "info".to_owned(),
    }
    /// `[log]`
    Log {
        segment_bytes: Size = Size(256 * MIB),
        segment_hours: HoursValue = HoursValue::whole(24),
        retention_hours: HoursValue = HoursValue::whole(168),
        retention_bytes: Size = Size(50 * GIB),
        carry_bytes: Size = Size(5 * GIB),
        two_phase_commit: Toggle = Toggle(true),
    }
    /// `[history]`
    History {
        retention_hours: HoursValue = HoursValue::whole(168),
    }
    /// `[dead_letters]`
    DeadLetters {
        retention_hours: HoursValue = HoursValue::whole(720),
    }
    /// `[dedup]`
    Dedup {
        ttl_hours: HoursValue = HoursValue::whole(24),
        max_keys: Count = Count(1_000_000),
    }
    /// `[delivery]`
    Delivery {
        schedule: CommaList<Delay> = default_schedule(),
        timeout_seconds: SecondsValue = SecondsValue::whole(30),
        max_in_flight: Count = Count(8),
        breaker: Breaker = Breaker::default(),
    }
    /// `[delivery.breaker]`
    Breaker {
        window: Count = Count(50),
        failure_ratio: Fraction = Fraction(0.5),
        min_attempts: Count = Count(10),
        open_seconds: SecondsValue = SecondsValue::whole(30),
        open_seconds_max: SecondsValue = SecondsValue::whole(600),
        close_after: Count = Count(2),
        disable_after_hours: HoursValue = HoursValue::whole(120),
    }
    /// `[dispatch]`
    Dispatch {
        shards: AutoCount = AutoCount(None),
        memory_bytes: Size = Size(256 * MIB),
    }
    /// `[egress]`
    Egress {
        allow: CommaList<String> = CommaList(Vec::new()),
        deny: CommaList<String> = CommaList(Vec::new()),
        require_https: Toggle = Toggle(false),
        ca_file: String = String::new(),
        dns_servers: CommaList<String> = CommaList(Vec::new()),
    }
    /// `[nats]`
    Nats {
        #[serde(serialize_with = "one_or_list")]
        url: CommaList<String> = CommaList(vec![String::new()]),
        #[serde(serialize_with = "hidden_setting")]
        token: SecretSetting = SecretSetting::Text(Secret::new("")),
        credentials_file: String = String::new(),
        nkey_file: String = String::new(),
        ca_file: String = String::new(),
        client_certificate_file: String = String::new(),
        client_key_file: String = String::new(),
        stream: String = "HOOKTIDE".to_owned(),
        subjects: CommaList<String> = CommaList(vec!["hooktide.>".to_owned()]),
        #[serde(serialize_with = "one_or_list")]
        monitor_url: CommaList<String> = CommaList(vec![String::new()]),
    }
    /// `[events]`
    Events {
        strict: Toggle = Toggle(false),
        catalogues: CommaList<Catalogue> = CommaList(Vec::new()),
    }
    /// `[metrics]`
    Metrics {
        public: Toggle = Toggle(false),
    }
}

impl RawConfig {
    /// Adds loopback to `egress.allow` for `--dev`, regardless of the setting's origin.
    pub(super) fn reach_loopback(&mut self) {
        let allow = &mut self.egress.allow.0;
        for network in ["127.0.0.0/8", "::1/128"] {
            if !allow.iter().any(|known| known == network) {
                allow.push(network.to_owned());
            }
        }
    }
}

/// 5s, 1m, 5m, 15m, 1h, 2h, 6h, 12h, 24h.
fn default_schedule() -> CommaList<Delay> {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    let delays = [5, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR];
    CommaList(delays.into_iter().map(|seconds| Delay(SecondsValue::whole(seconds))).collect())
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn hidden<S: Serializer>(_: &Option<Secret>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(HIDDEN)
}

fn hidden_setting<S: Serializer>(setting: &SecretSetting, to: S) -> Result<S::Ok, S::Error> {
    match setting {
        SecretSetting::Text(secret) => hidden_unless_empty(secret, to),
        SecretSetting::Table(table) => table.serialize(to),
    }
}

fn hidden_unless_empty<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(if secret.reveal().is_empty() { "" } else { HIDDEN })
}
