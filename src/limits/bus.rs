//! Bounds of the event bus.

use std::time::Duration;

/// Servers that `nats.url` may list.
pub const BUS_SERVERS_MAX: usize = 32;
/// Subjects that `nats.subjects` and a source may list.
pub const BUS_SUBJECTS_MAX: usize = 64;
/// Bytes of the name of a stream or a consumer. The broker makes names of files of them.
pub const BUS_NAME_BYTES_MAX: usize = 64;
/// Time to connect to one server, with TLS and authentication.
pub const BUS_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval of pings. A connection without two answers is lost.
pub const BUS_PING_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest and the longest pause before the next connection.
pub const BUS_RECONNECT_DELAY_MIN: Duration = Duration::from_millis(100);
/// See [`BUS_RECONNECT_DELAY_MIN`].
pub const BUS_RECONNECT_DELAY_MAX: Duration = Duration::from_secs(2);
/// Time for a request that manages streams and consumers, and for one of a monitoring port.
pub const BUS_API_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval at which a stream is checked that cannot be used.
pub const BUS_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Messages that wait for the connection. An attempt that finds no room waits.
pub const BUS_COMMANDS_MAX: usize = 4_096;
/// Messages that wait for their acks. An attempt that finds no room waits.
pub const BUS_ACKS_MAX: usize = 16_384;
/// Time for which an attempt that timed out still counts among those that wait for their acks.
pub const BUS_LOST_ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum time for an ack. The timeout of the webhook, which is not longer, ends an attempt.
pub const BUS_ACK_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Bytes that are read of the answer of a monitoring port.
pub const BUS_MONITOR_BYTES_MAX: usize = 1 << 20;
