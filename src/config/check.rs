//! Checks the raw configuration: bounds, relations between values, and meaning. The check continues after an error, so
//! that all errors are reported together.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use ipnet::IpNet;

use super::error::ConfigError;
use super::origins::Origins;
use super::raw::{self, RawConfig};
use super::value::{
    AutoCount, CommaList, Count, Delay, Fraction, GIB, HoursValue, KIB, MIB, SecondsValue, Size, TIB, UnitDuration,
};
use super::{
    Breaker, Config, DeadLetters, Dedup, DeliveryDefaults, Dispatch, Egress, EventTypesConfig, History, Log, Logging,
    MetricsAccess, ProfilesConfig, Server,
};
use crate::limits::{
    BODIES_IN_FLIGHT_BYTES, BREAKER_ATTEMPTS_MAX, BREAKER_DISABLE_MAX, BREAKER_DISABLE_MIN, BREAKER_OPEN_MAX,
    BREAKER_OPEN_MIN, BREAKER_RATIO_MIN, DNS_SERVERS_MAX, IN_FLIGHT_PER_SHARD, RETRY_DELAY_MAX, SCHEDULE_DELAYS_MAX,
    SETTING_DURATION_MAX,
};
use crate::model::RetryPolicy;
use crate::runtime::logging::LogFilter;

pub(super) const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The allowed number of threads of one kind.
const THREADS: RangeInclusive<u64> = 1..=256;

/// Checks the values. The result must not be used if `errors` is not empty.
pub(super) fn check(raw: &RawConfig, dev: bool, origins: &Origins, errors: &mut Vec<ConfigError>) -> Config {
    let mut check = ConfigChecker { origins, unread: errors.len(), errors };
    let config = Config {
        server: check.server(&raw.server, dev),
        auth: check.auth(&raw.auth),
        logging: check.logging(&raw.logging),
        log: check.log(&raw.log),
        history: History {
            retention: check.hours(
                "history.retention_hours",
                raw.history.retention_hours,
                MINUTE..=SETTING_DURATION_MAX,
            ),
        },
        dead_letters: DeadLetters {
            retention: check.hours(
                "dead_letters.retention_hours",
                raw.dead_letters.retention_hours,
                MINUTE..=SETTING_DURATION_MAX,
            ),
        },
        dedup: Dedup {
            ttl: check.hours("dedup.ttl_hours", raw.dedup.ttl_hours, SECOND..=SETTING_DURATION_MAX),
            max_keys: check.count("dedup.max_keys", raw.dedup.max_keys, 1_000..=100_000_000) as usize,
        },
        delivery: check.delivery(&raw.delivery),
        breaker: check.breaker(&raw.delivery.breaker),
        dispatch: Dispatch {
            shards: check.threads("dispatch.shards", raw.dispatch.shards),
            memory_bytes: check.size("dispatch.memory_bytes", raw.dispatch.memory_bytes, 16 * MIB..=TIB) as usize,
        },
        egress: check.egress(&raw.egress),
        metrics: MetricsAccess { public: raw.metrics.public.0 },
        nats: check.nats(&raw.nats),
        sources: raw.sources.clone(),
        profiles: ProfilesConfig { written: raw.profiles.clone(), homechef_signature: None },
        tenants: check.tenants(&raw.tenants),
        source_body_bytes: None,
        event_types: EventTypesConfig {
            strict: raw.events.strict.0,
            types: raw.event_types.clone(),
            catalogues: raw.events.catalogues.0.iter().map(Into::into).collect(),
        },
        apply: (!raw.apply.is_empty()).then(|| PathBuf::from(&raw.apply)),
    };
    check.check_order(
        ("server.max_body_bytes", raw.server.max_body_bytes),
        ("server.max_batch_bytes", raw.server.max_batch_bytes),
    );
    check.check_order(("log.segment_bytes", raw.log.segment_bytes), ("log.retention_bytes", raw.log.retention_bytes));
    check.check_order(("log.segment_hours", raw.log.segment_hours), ("log.retention_hours", raw.log.retention_hours));
    let breaker = &raw.delivery.breaker;
    check.check_order(
        ("delivery.breaker.min_attempts", breaker.min_attempts),
        ("delivery.breaker.window", breaker.window),
    );
    check.check_order(
        ("delivery.breaker.open_seconds", breaker.open_seconds),
        ("delivery.breaker.open_seconds_max", breaker.open_seconds_max),
    );
    config
}

/// The number of threads for `"auto"`: half the cores, and at least two. The system divides the cores among threads:
/// with one thread, two busy cores left deliveries behind the incoming events (docs/BENCHMARKS.md).
pub(super) fn threads_of(written: AutoCount) -> u64 {
    written.0.unwrap_or_else(|| available_parallelism().map_or(2, |cores| (cores.get() as u64 / 2).max(2)))
}

pub(super) struct ConfigChecker<'a> {
    origins: &'a Origins,
    /// How many of the errors concern values that could not be read. They are the first ones.
    unread: usize,
    errors: &'a mut Vec<ConfigError>,
}

impl ConfigChecker<'_> {
    fn server(&mut self, raw: &raw::Server, dev: bool) -> Server {
        let listen: Vec<SocketAddr> =
            raw.listen.0.iter().filter_map(|text| self.address("server.listen", text)).collect();
        if raw.listen.0.is_empty() {
            self.wrong("server.listen", "at least one address is needed, such as \"127.0.0.1:8080\"");
        }
        let admin_listen = match &*raw.admin_listen {
            "" => None,
            text => self.address("server.admin_listen", text),
        };
        for (n, address) in listen.iter().enumerate() {
            if address.port() != 0 && listen[..n].contains(address) {
                self.wrong("server.listen", format!("{address} is there twice"));
            }
            if admin_listen == Some(*address) && address.port() != 0 {
                self.wrong("server.admin_listen", format!("{address} is an address of server.listen as well"));
            }
            self.loopback_if(dev, "server.listen", *address);
        }
        if let Some(address) = admin_listen {
            self.loopback_if(dev, "server.admin_listen", address);
        }
        if raw.data_dir.is_empty() {
            self.wrong("server.data_dir", "a folder is needed, such as \"hooktide-data\"");
        }
        let bodies = BODIES_IN_FLIGHT_BYTES as u64;
        Server {
            listen,
            admin_listen,
            data_dir: PathBuf::from(&raw.data_dir),
            max_body_bytes: self.size("server.max_body_bytes", raw.max_body_bytes, KIB..=25 * MIB) as usize,
            max_batch_bytes: self.size("server.max_batch_bytes", raw.max_batch_bytes, KIB..=bodies) as usize,
            workers: self.threads("server.workers", raw.workers),
            drain: self.seconds("server.drain_seconds", raw.drain_seconds, SECOND..=HOUR),
            public_url: self.public_url(&raw.public_url),
            cors_origins: self.origins(&raw.cors_origins),
        }
    }

    fn address(&mut self, key: &str, text: &str) -> Option<SocketAddr> {
        let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let address = numeric.as_deref().unwrap_or(text).parse();
        if address.is_err() {
            self.wrong(
                key,
                format!("{text:?} is not an address with a port such as \"127.0.0.1:8080\" or \"[::]:8080\""),
            );
        }
        address.ok()
    }

    fn public_url(&mut self, text: &str) -> Option<Box<str>> {
        if text.is_empty() {
            return None;
        }
        let url = url::Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.host().is_some()
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        });
        if url.is_none() {
            self.wrong(
                "server.public_url",
                format!("{text:?} is not an http or https URL without a query, such as \"https://hooks.example.com\""),
            );
        }
        // As written, because providers sign the text of the URL that they were given.
        Some(text.trim_end_matches('/').into())
    }

    fn loopback_if(&mut self, dev: bool, key: &str, address: SocketAddr) {
        if dev && !address.ip().is_loopback() {
            self.wrong(key, format!("--dev listens on loopback only, not on {address}"));
        }
    }

    fn logging(&mut self, raw: &raw::Logging) -> Logging {
        if !matches!(&*raw.format, "text" | "json") {
            self.wrong("logging.format", format!("{:?} is neither \"text\" nor \"json\"", raw.format));
        }
        if let Err(e) = raw.level.parse::<LogFilter>() {
            self.wrong("logging.level", e);
        }
        Logging { json: raw.format == "json", level: raw.level.as_str().into() }
    }

    fn log(&mut self, raw: &raw::Log) -> Log {
        Log {
            segment_bytes: self.size("log.segment_bytes", raw.segment_bytes, MIB..=16 * GIB),
            segment_age: self.hours("log.segment_hours", raw.segment_hours, MINUTE..=SETTING_DURATION_MAX),
            retention: self.hours("log.retention_hours", raw.retention_hours, MINUTE..=SETTING_DURATION_MAX),
            retention_bytes: self.size("log.retention_bytes", raw.retention_bytes, 16 * MIB..=1024 * TIB),
            carry_bytes: self.size("log.carry_bytes", raw.carry_bytes, 0..=1024 * TIB),
            two_phase_commit: raw.two_phase_commit.0,
        }
    }

    fn delivery(&mut self, raw: &raw::Delivery) -> DeliveryDefaults {
        const KEY: &str = "delivery.schedule";
        let delays = &raw.schedule.0;
        if delays.len() > SCHEDULE_DELAYS_MAX {
            self.wrong(KEY, format!("{} delays; allowed is at most {SCHEDULE_DELAYS_MAX}", delays.len()));
        }
        let shortest = Duration::from_millis(1);
        let delays = delays.iter().map(|Delay(delay)| self.seconds(KEY, *delay, shortest..=RETRY_DELAY_MAX)).collect();
        DeliveryDefaults {
            retry_policy: RetryPolicy::Schedule(delays),
            timeout: self.seconds(
                "delivery.timeout_seconds",
                raw.timeout_seconds,
                Duration::from_millis(100)..=Duration::from_secs(600),
            ),
            max_in_flight: self.count("delivery.max_in_flight", raw.max_in_flight, 1..=IN_FLIGHT_PER_SHARD as u64)
                as u16,
        }
    }

    fn breaker(&mut self, raw: &raw::Breaker) -> Breaker {
        let Fraction(failure_ratio) = raw.failure_ratio;
        if !(BREAKER_RATIO_MIN..=1.0).contains(&failure_ratio) {
            let detail = format!("{failure_ratio}; allowed is {BREAKER_RATIO_MIN} to 1");
            self.wrong("delivery.breaker.failure_ratio", detail);
        }
        let (attempts, open) = (1..=u64::from(BREAKER_ATTEMPTS_MAX), BREAKER_OPEN_MIN..=BREAKER_OPEN_MAX);
        Breaker {
            window: self.count("delivery.breaker.window", raw.window, attempts.clone()) as u16,
            failure_ratio,
            min_attempts: self.count("delivery.breaker.min_attempts", raw.min_attempts, attempts.clone()) as u16,
            open: self.seconds("delivery.breaker.open_seconds", raw.open_seconds, open.clone()),
            open_max: self.seconds("delivery.breaker.open_seconds_max", raw.open_seconds_max, open),
            close_after: self.count("delivery.breaker.close_after", raw.close_after, attempts) as u16,
            disable_after: self.hours(
                "delivery.breaker.disable_after_hours",
                raw.disable_after_hours,
                BREAKER_DISABLE_MIN..=BREAKER_DISABLE_MAX,
            ),
        }
    }

    fn egress(&mut self, raw: &raw::Egress) -> Egress {
        Egress {
            allow: self.networks("egress.allow", &raw.allow),
            deny: self.networks("egress.deny", &raw.deny),
            require_https: raw.require_https.0,
            ca_file: (!raw.ca_file.is_empty()).then(|| PathBuf::from(&raw.ca_file)),
            dns_servers: self.dns_servers(&raw.dns_servers),
        }
    }

    fn dns_servers(&mut self, raw: &CommaList<String>) -> Vec<SocketAddr> {
        let address = |text: &str| text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
        let mut servers = Vec::with_capacity(raw.0.len());
        for text in &raw.0 {
            match address(text) {
                Ok(at) if !at.ip().is_unspecified() && at.port() > 0 => servers.push(at),
                _ => self.wrong(
                    "egress.dns_servers",
                    format!(
                        "{text:?} is not the address of a server such as \"192.0.2.53\" or \"[2001:db8::53]:5353\""
                    ),
                ),
            }
        }
        if servers.len() > DNS_SERVERS_MAX {
            self.wrong(
                "egress.dns_servers",
                format!("{} servers, where at most {DNS_SERVERS_MAX} are allowed", servers.len()),
            );
        }
        servers
    }

    pub(super) fn networks(&mut self, key: &str, raw: &CommaList<String>) -> Vec<IpNet> {
        let mut networks = Vec::with_capacity(raw.0.len());
        for text in &raw.0 {
            match text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
                Ok(network) => networks.push(network.trunc()),
                Err(_) => {
                    self.wrong(key, format!("{text:?} is not a network such as \"10.0.0.0/8\" or \"fd00::/8\""));
                }
            }
        }
        networks
    }

    fn threads(&mut self, key: &str, written: AutoCount) -> usize {
        self.count(key, Count(threads_of(written)), THREADS) as usize
    }

    pub(super) fn count(&mut self, key: &str, Count(value): Count, allowed: RangeInclusive<u64>) -> u64 {
        self.within(key, Count(value), Count(*allowed.start())..=Count(*allowed.end())).0
    }

    fn size(&mut self, key: &str, value: Size, allowed: RangeInclusive<u64>) -> u64 {
        self.within(key, value, Size(*allowed.start())..=Size(*allowed.end())).0
    }

    pub(super) fn seconds(&mut self, key: &str, value: SecondsValue, allowed: RangeInclusive<Duration>) -> Duration {
        self.within(key, value, UnitDuration(*allowed.start())..=UnitDuration(*allowed.end())).0
    }

    fn hours(&mut self, key: &str, value: HoursValue, allowed: RangeInclusive<Duration>) -> Duration {
        self.within(key, value, UnitDuration(*allowed.start())..=UnitDuration(*allowed.end())).0
    }

    fn within<T: PartialOrd + Display>(&mut self, key: &str, value: T, allowed: RangeInclusive<T>) -> T {
        if !allowed.contains(&value) {
            self.wrong(key, format!("{value}; allowed is {} to {}", allowed.start(), allowed.end()));
        }
        value
    }

    /// The first value must not exceed the second. Reports nothing if one of them has another error.
    fn check_order<T: PartialOrd + Display>(&mut self, (low, value): (&str, T), (high, limit): (&str, T)) {
        let failed = |key: &str| self.errors.iter().any(|e| e.key == key);
        if value > limit && !failed(low) && !failed(high) {
            self.wrong(low, format!("{value} is more than {high}, which is {limit}"));
        }
    }

    pub(super) fn wrong(&mut self, key: &str, problem: impl Display) {
        let path: Vec<String> = key.split(['.', '[', ']']).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let origin = self.origins.of(&path);
        // A value that could not be read is already reported. That it or a part of it is missing is no further error.
        let unread =
            |e: &ConfigError| key.strip_prefix(&*e.key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let error = ConfigError { key: key.to_owned(), origin, problem: problem.to_string() };
        // The values of a list are checked one by one, and can have the same error.
        if !self.errors[..self.unread].iter().any(unread) && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}
