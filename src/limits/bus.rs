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
/// The interval at which a stream or a consumer is checked that cannot be used.
pub const BUS_CHECK_INTERVAL: Duration = Duration::from_secs(1);
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
/// The interval at which changes of the sources are looked for.
pub const BUS_SOURCES_INTERVAL: Duration = Duration::from_millis(500);
/// Messages of a source that are in progress. They share commits.
pub const BUS_MESSAGES_IN_FLIGHT: usize = 256;
/// Time after which the broker delivers a message again that was not acknowledged.
pub const BUS_ACK_WAIT: Duration = Duration::from_secs(30);
/// The interval of the heartbeats of a pull without messages. A pull without two of them is renewed.
pub const BUS_HEARTBEAT: Duration = Duration::from_secs(5);
/// The duration of a pull.
pub const BUS_PULL_EXPIRES: Duration = Duration::from_secs(30);
/// The shortest and the longest time after which a message is delivered again that could not be accepted.
pub const BUS_RETRY_DELAY_MIN: Duration = Duration::from_secs(1);
/// See [`BUS_RETRY_DELAY_MIN`].
pub const BUS_RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

const _: () = assert!(BUS_HEARTBEAT.as_secs() * 2 < BUS_PULL_EXPIRES.as_secs());
