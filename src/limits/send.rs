//! Bounds of attempts: connections, responses and the resolution of host names.

use std::time::Duration;

use super::SETTING_DURATION_MAX;

/// Time to resolve a host name.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that one DNS server has to answer one query, so that [`DNS_TIMEOUT`] suffices for two servers.
pub const DNS_QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// Time after which the lookup of a name is slow. A lookup over several servers rarely takes longer.
pub const DNS_SLOW_AFTER: Duration = Duration::from_millis(500);
/// Lookups that are not slow at the same time. Each has a few sockets.
pub const DNS_FAST_LOOKUPS: usize = 32;
/// Slow lookups at the same time.
pub const DNS_SLOW_LOOKUPS: usize = 16;
/// Requests for lookups that wait for the DNS thread, which answers within microseconds. A shard that finds the queue
/// full waits.
pub const DNS_QUESTIONS_MAX: usize = 1_024;
/// Host names whose addresses, or failures, are remembered.
pub const DNS_NAMES_MAX: usize = 4_096;
/// Addresses of a name that are kept. Only the first few are tried.
pub const DNS_ADDRESSES_MAX: usize = 32;
/// Minimum time for which addresses are used, even if their TTL is shorter.
pub const DNS_TTL_MIN: Duration = Duration::from_secs(1);
/// Maximum time for which addresses are used without a new lookup.
pub const DNS_TTL_MAX: Duration = Duration::from_secs(60 * 60);
/// Maximum time for which a name is believed not to exist.
pub const DNS_NOT_FOUND_TTL_MAX: Duration = Duration::from_secs(30);
/// Time after a failed lookup in which the same name is not looked up again.
pub const DNS_FAILURE_TTL: Duration = Duration::from_secs(2);
/// Time for which expired addresses are used if no lookup succeeds. The recommendation of RFC 8767.
pub const DNS_STALE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Time after a failed lookup in which expired addresses are used without another lookup (RFC 8767).
pub const DNS_STALE_RETRY: Duration = Duration::from_secs(30);
/// Servers that `egress.dns_servers` may list.
pub const DNS_SERVERS_MAX: usize = 8;
/// Domains of a search list that are tried.
pub const DNS_SEARCH_MAX: usize = 6;
/// Bytes that are read of `resolv.conf` and of the hosts file.
pub const DNS_FILE_BYTES_MAX: u64 = 1 << 20;
/// Interval at which `resolv.conf` and the hosts file are checked for changes.
pub const DNS_FILES_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes of a subject of the event bus.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// Time to establish a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a TLS handshake.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// TLS sessions that are remembered for a webhook with its own TLS settings. Such a webhook has one endpoint.
pub const TLS_SESSIONS_PER_WEBHOOK: usize = 32;
/// Bytes that are read of a response body.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a response body that are stored with the attempt.
pub const RESPONSE_BYTES_KEPT: usize = 1024;
/// Bytes of a response's head.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Informational responses (1xx) before a response. Receivers send one or two, if any.
pub const INFORMATIONAL_RESPONSES_MAX: usize = 8;
/// Bytes of these informational responses together.
pub const INFORMATIONAL_BYTES_MAX: usize = RESPONSE_HEAD_BYTES_MAX;
/// Bytes of everything that belongs to a response: informational responses, head, framing and body. The framing of a
/// body in chunks of one byte has five bytes for each of them.
pub const RESPONSE_WIRE_BYTES_MAX: usize = INFORMATIONAL_BYTES_MAX + RESPONSE_HEAD_BYTES_MAX + 6 * RESPONSE_BYTES_MAX;
/// Bytes over TLS for a handshake or a response. TLS adds some 30 bytes to each write of a receiver.
pub const TLS_RECEIVED_BYTES_MAX: usize = 4 << 20;
/// Longest delay that a `Retry-After` header can request and that a retry schedule can contain.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Time for a whole fetch (a certificate, the confirmation of a subscription). The sender waits for its response
/// meanwhile; SNS waits 15 s.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(8);
/// Bytes of a fetched document. A chain of certificates has about 10 KiB.
pub const FETCH_BYTES_MAX: usize = 64 * 1024;
/// Certificates in a chain. Chains of public certificate authorities have up to 4.
pub const CERTIFICATE_CHAIN_MAX: usize = 8;
/// Fetched certificates that are kept. Providers use one or two at a time in each region.
pub const CERTIFICATES_KEPT: usize = 64;
/// Time after which a fetched certificate is fetched again, so that a certificate that its provider withdrew is not
/// used any longer.
pub const CERTIFICATE_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Time after which a fetched set of public keys is fetched again. Providers announce a new key hours before its use, and
/// withdraw a key that was stolen at once.
pub const KEY_SET_TTL: Duration = Duration::from_secs(60 * 60);
/// Time after a fetch in which a set of public keys is not fetched again because a token names a key that is not in it.
pub const KEY_SET_REFRESH: Duration = Duration::from_secs(30);
/// Time after a failed fetch in which the same certificate is not fetched again, even if another request asks for it.
pub const CERTIFICATE_RETRY: Duration = Duration::from_secs(30);
/// Certificates that are fetched at the same time.
pub const CERTIFICATE_FETCHES: usize = 4;
/// Failed certificate fetches within [`CERTIFICATE_RETRY`] after which no other address is tried. A sender of invented
/// addresses therefore cannot make this server bother providers.
pub const CERTIFICATE_FAILURES_MAX: usize = 16;

/// Attempts that the settings of a circuit breaker may refer to. More attempts say nothing about the current state of a
/// receiver.
pub const BREAKER_ATTEMPTS_MAX: u16 = 1_000;
/// Minimum failure ratio that opens a circuit breaker. With a smaller ratio, single random failures would open it.
pub const BREAKER_RATIO_MIN: f64 = 0.01;
/// Minimum setting of the time that a circuit breaker first stays open. A shorter pause relieves no receiver.
pub const BREAKER_OPEN_MIN: Duration = Duration::from_millis(100);
/// Maximum setting of the time that a circuit breaker stays open. Operators look after a receiver once a day.
pub const BREAKER_OPEN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Minimum setting of the time with failures only after which a webhook is disabled. A restart of the receiver must not
/// disable the webhook.
pub const BREAKER_DISABLE_MIN: Duration = Duration::from_secs(60);
/// Maximum setting of that time: effectively never.
pub const BREAKER_DISABLE_MAX: Duration = SETTING_DURATION_MAX;
/// Delays in a retry schedule. Enough for more than a month of daily attempts.
pub const SCHEDULE_DELAYS_MAX: usize = 64;
/// Retries that a backoff policy may have.
pub const RETRIES_MAX: u64 = 100;
/// Longest latency that the histograms distinguish.
pub const LATENCY_MAX: Duration = Duration::from_secs(120);
