//! All bounds of the process that are not configuration keys, with their reasons.
//!
//! This file has the bounds of the process and of its clients. `bus.rs` has the bounds of the event bus, `input.rs` the bounds of what users configure,
//! `send.rs` the bounds of attempts, `share.rs` the parts that one client or tenant can use. The assertions at the end check relations between bounds: a
//! change that could make a queue block, or make a block larger than its page, does not compile.

use std::time::Duration;

mod bus;
mod idempotency;
mod input;
mod send;
mod share;

pub use bus::*;
pub use idempotency::*;
pub use input::*;
pub use send::*;
pub use share::*;

// --- admit: what a request may use; beyond a bound the response has a status code of RFC 9110 -----------------------

/// Time that a client has to send a complete request head. Ends slow-loris connections.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a client has to send a complete request body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Time after which a request body must arrive at [`BODY_RATE_MIN`] at least.
pub const BODY_RATE_GRACE: Duration = Duration::from_secs(5);
/// Minimum bytes per second of a request body. A slower body is treated as an attack.
pub const BODY_RATE_MIN: u64 = 1024;
/// Time without a request after which a kept-alive connection is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Header lines of a request.
pub const HEADERS_MAX: usize = 64;
/// Bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a request's target.
pub const URI_BYTES_MAX: usize = 8 * 1024;
/// Bytes of all request bodies together that are being read or wait for their commit.
pub const BODIES_IN_FLIGHT_BYTES: usize = 64 << 20;
/// Events in one JSON array or NDJSON request.
pub const BATCH_EVENTS_MAX: usize = 1_000;
/// Gateways that an event may have passed through. An event with more hops is in a loop of gateways, where it would
/// circulate forever.
pub const HOPS_MAX: u8 = 8;
/// Nesting depth of parsed JSON.
pub const JSON_DEPTH_MAX: usize = 128;
/// Bytes of an event type (`[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`).
pub const EVENT_TYPE_BYTES_MAX: usize = 128;
/// Bytes of an id that a client chooses (event id, `Idempotency-Key`, request id, correlation id).
pub const CLIENT_ID_BYTES_MAX: usize = 256;

/// Interval at which a worker compares its connections with the timeouts above, and their precision.
pub const TIMEOUT_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Time that a client has to receive a response.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of one part of a streamed response.
pub const STREAM_PART_BYTES_MAX: usize = 32 * 1024;
/// Parts of a streamed response that wait for the connection. Enough to keep a socket busy, and small compared with its
/// send buffer.
pub const STREAM_PARTS_MAX: usize = 4;
/// Time that a client has to close its connection after the server has closed its side. Data that the client still
/// sends is discarded. Many clients read a response only after they have sent their whole body.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time without a byte after which the server closes the connection earlier, and the whole time while the server stops.
pub const LINGER_IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that are discarded in this way before the server closes the connection: more than twice the largest body that
/// a source can allow. They use no memory.
pub const LINGER_BYTES_MAX: usize = 64 << 20;
/// Declared bytes of a refused body that is read to its end, so that the connection can be used again.
pub const DISCARDED_BODY_BYTES_MAX: usize = 64 * 1024;
/// Connections that wait to be accepted.
pub const LISTEN_BACKLOG: i32 = 1024;
/// Pause of the accept loop after the process ran out of file descriptors.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Bytes of an event's `metadata`, which is part of the event's head in the log.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;
/// Rule violations that are listed for one event.
pub const VIOLATIONS_LISTED_MAX: usize = 32;
/// Bytes that are kept of a provider's own event type, and bytes of a path that may contain one.
pub const TOPIC_BYTES_MAX: usize = 256;
/// Rejected requests that are kept for each source.
pub const REJECTIONS_PER_SOURCE: usize = 100;
/// Bytes of the body that are kept of a rejected request.
pub const REJECTION_BODY_BYTES: usize = 4 * 1024;
/// Bytes of the headers that are kept of a rejected request. Later headers are left out.
pub const REJECTION_HEADERS_BYTES: usize = 16 * 1024;
/// Bytes that are kept of the method and path of a rejected request.
pub const REJECTION_REQUEST_BYTES: usize = 1024;
/// Bytes of all kept rejected requests together. Enough for a few hundred sources, each with a hundred requests with
/// typical headers.
pub const REJECTIONS_BYTES_MAX: usize = 16 << 20;
/// Token buckets in one part of a rate limiter, after which full buckets are removed. A full bucket has no information.
pub const LIMITER_BUCKETS: usize = 1_024;
/// Sources whose metric counters a worker caches. When there are more, the worker looks the counters up again.
pub const CACHED_COUNTERS_MAX: usize = if cfg!(test) { 8 } else { 1_024 };

// --- watchdog -------------------------------------------------------------------------------------------------------

/// Interval at which the heartbeats of the stages are compared.
pub const STALL_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Checks in a row that find work and no progress, after which a stage is stalled.
pub const STALL_CHECKS: u32 = 10;
/// Time after the end of the drain at which the process ends, even if a part of it has not stopped.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// Time without a sign of life of the commit thread after which systemd's watchdog is no longer fed. An fsync may take
/// almost as long.
pub const COMMIT_SILENCE_MAX: Duration = Duration::from_secs(60);
/// Time that the last line of the log may take. Standard error may be blocked.
pub const LAST_LOG_WAIT: Duration = Duration::from_millis(500);

// --- ingest permits: deliveries whose outcome is not yet durable ----------------------------------------------------

/// Deliveries between the acquisition of their ingest permits and a durable outcome or row.
pub const INGEST_PERMITS: usize = 65_536;
/// Ingest permits that one request acquires at most, however many deliveries it creates.
pub const INGEST_PERMITS_PER_REQUEST: usize = 16_384;
/// Time that a request waits for its ingest permits before it gets a 503 response.
pub const INGEST_PERMIT_WAIT: Duration = Duration::from_millis(250);

// --- commit ---------------------------------------------------------------------------------------------------------

/// Requests in the queue of the commit thread. A request that finds the queue full gets a 503 response. The queue is
/// large enough for an fsync that takes 200 ms.
pub const COMMIT_QUEUE: usize = 8_192;
/// Pause before the commit thread sends again what settle or a shard had no room for.
pub const HANDOVER_RETRY_PAUSE: Duration = Duration::from_millis(5);
/// Commits whose results wait for a worker. If the queue is full, the commit thread passes the results to the requests
/// itself.
pub const REPLY_QUEUE: usize = 64;
/// Events in one commit. More events would only delay the response to the first one.
pub const COMMIT_BATCH_EVENTS: usize = 4_096;
/// Bytes in one commit. The last request of the commit may exceed the bound. It is a quarter of [`LOG_CACHE_BYTES`],
/// because redb writes everything twice that exceeds half of its cache. (Measured with a cache of 16 MiB and batches of
/// the same size: redb wrote 44 KiB for each event of 16 KiB, instead of 22 KiB.)
pub const COMMIT_BATCH_BYTES: usize = 1 << 20;
/// Requests in a commit from which on the next commit waits for more requests. Below, the next commit starts
/// immediately.
pub const BATCH_WAIT_LOAD: usize = 8;
/// Duration of one step of this wait.
pub const BATCH_WAIT_STEP: Duration = Duration::from_micros(200);
/// Requests that must arrive in a step for the wait to go on.
pub const BATCH_WAIT_STEP_REQUESTS_MIN: usize = 4;
/// Requests in the queue at which the wait ends. With more requests, the fixed cost of a commit is small compared with
/// the cost of its events.
pub const BATCH_WAIT_REQUESTS_MAX: usize = 128;
/// Maximum duration of the whole wait.
pub const BATCH_WAIT_MAX: Duration = Duration::from_millis(4);
/// Bytes in a block of the log. Together with redb's header such a value fits into a page of 64 KiB. A larger value
/// would use 128 KiB.
pub const BLOCK_BYTES_MAX: usize = 63 * 1024;
/// Sealed segments that are kept open for reading. Small in tests, so that segments are closed and opened often.
pub const SEALED_OPEN_MAX: usize = if cfg!(test) { 2 } else { 16 };
/// Bytes of redb's page cache of the open segment. Every written page goes through this cache. A larger cache than
/// necessary displaces the content of the processor's caches.
pub const LOG_CACHE_BYTES: usize = 4 << 20;
/// Bytes of the page cache of a sealed segment.
pub const SEALED_CACHE_BYTES: usize = 1 << 20;
/// Bytes of the page cache of state.redb.
pub const STATE_CACHE_BYTES: usize = 32 << 20;
/// Bytes of the page cache of a history file that is open for writing.
pub const HISTORY_CACHE_BYTES: usize = 16 << 20;
/// Bytes of free disk space below which new events are refused. Deliveries continue.
pub const DISK_RESERVE_BYTES: u64 = 64 << 20;
/// Bytes of the ballast file. It is deleted when the disk is full, so that settle can still write.
pub const BALLAST_BYTES: u64 = 16 << 20;
/// Bytes by which a retired segment is truncated in one step. Unlinking the whole file would stall commits for 0.4 s.
pub const TRUNCATE_STEP_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 4 << 20 };
/// Pause between two truncation steps, in which other fsyncs can complete.
pub const TRUNCATE_PAUSE: Duration = Duration::from_millis(20);
/// Interval at which the log's retention limits are checked.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(5);
/// Minimum time between two checks of the free disk space.
pub const DISK_SPACE_INTERVAL: Duration = Duration::from_millis(100);
/// Requests in the queue of the body reader thread. Each webhook has at most one request without a reply.
pub const BODY_READ_QUEUE: usize = 4_096;
/// Events that are copied to `carry/` in one transaction.
pub const CARRY_BATCH_EVENTS: usize = 32;

// --- dispatch -------------------------------------------------------------------------------------------------------

/// Entries of one webhook in memory. When there are more, the webhook is spilled: new deliveries go to disk.
pub const WINDOW_ENTRIES: usize = 1_024;
/// Divisor of [`WINDOW_ENTRIES`]: this part of the window must be free before a webhook ordered by a field requests
/// rows. Deliveries behind a failing event may use the rest, and a refill still returns enough rows to justify its
/// flush.
pub const ORDERED_REFILL_WINDOW_PART: usize = 8;
/// Bytes of one webhook's entries in memory.
pub const WINDOW_BYTES: usize = 8 << 20;
/// New arrivals of a spilled webhook that are kept in memory. They alternate with the backlog.
pub const FRESH_ENTRIES: usize = 64;
/// Rows in one refill request.
pub const REFILL_ROWS: usize = 512;
/// Refill requests of a shard without a reply.
pub const REFILLS_PER_SHARD: usize = 64;
/// Events in one request of a webhook to the body reader thread.
pub const BODY_READ_EVENTS: usize = 64;
/// Deliveries of a shard in flight, over all its webhooks.
pub const IN_FLIGHT_PER_SHARD: usize = 1_024;
/// Idle connections that a shard keeps, over all origins.
pub const IDLE_CONNECTIONS_PER_SHARD: usize = 1_024;
/// Time after which an idle connection to a receiver is closed.
pub const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Time without work after which a shard evicts a webhook from memory, so that many webhooks cost little.
pub const WEBHOOK_IDLE_EVICTION: Duration = Duration::from_secs(2);
/// Time that a webhook is paused after its receiver responded with 410. Meanwhile settle asks the registry to disable
/// the webhook. If that fails, deliveries resume.
pub const DISABLE_GRACE: Duration = Duration::from_secs(60);
/// Pause before bodies that could not be read are requested again.
pub const BODY_READ_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Pause of a shard after it found the queue of the body reader thread full.
pub const BODY_READ_QUEUE_FULL_PAUSE: Duration = Duration::from_millis(10);
/// Test deliveries of a shard in flight, in addition to all other deliveries. One tenant has half of them at most.
pub const TEST_DELIVERIES_PER_SHARD: usize = 32;
/// Test deliveries of one webhook in flight, so that a slow webhook cannot use all of [`TEST_DELIVERIES_PER_SHARD`].
pub const TEST_DELIVERIES_PER_WEBHOOK: usize = 2;
/// Messages that a shard handles at once before its deliveries continue.
pub const SHARD_MESSAGES: usize = 64;
/// Messages in the queue of a shard.
pub const SHARD_QUEUE: usize = 16_384;

// --- settle ---------------------------------------------------------------------------------------------------------

/// Messages in the queue of the settle thread, which waits for no other thread. If the queue is full, the commit thread
/// keeps its announcements, a management request gets a 503 response, and all other threads wait.
pub const SETTLE_QUEUE: usize = 16_384;
/// Interval at which settle reads its messages while something waits for a flush.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(5);
/// Time after which settle flushes what has accumulated.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// Minimum time between two flushes, even if settle is woken early.
pub const FLUSH_INTERVAL_MIN: Duration = Duration::from_millis(5);
/// Number of accumulated items that starts a flush early.
pub const FLUSH_ITEMS: usize = 8_192;
/// Deliveries in the list of the checkpoint. When there are more, settle writes rows for the oldest.
pub const CHECKPOINT_LIST_MAX: usize = 16_384;
/// Webhooks of an event above which a job with a cursor writes its deliveries.
pub const WIDE_EVENT_WEBHOOKS: usize = 1_024;
/// Event heads that one step of a replay reads.
pub const REPLAY_STEP_HEADS: usize = 1_024;
/// Events whose body one step of a replay reads to match them again.
pub const REPLAY_STEP_MATCHES: usize = 128;
/// Bytes of bodies after which a step of a replay ends. The last body may exceed this.
pub const REPLAY_STEP_BYTES: usize = 4 << 20;
/// Time that a management request waits for settle before it gets a 503 response.
pub const SETTLE_REPLY_WAIT: Duration = Duration::from_secs(10);
/// Rows that a job writes in one transaction.
pub const JOB_ROWS: usize = 1_024;
/// Buckets of the history. Rows of one webhook are stored close together, and a flush writes at most this many places.
pub const HISTORY_BUCKETS: u32 = 64;
/// Bytes of a history file at which the next file is started.
pub const HISTORY_FILE_BYTES: u64 = 256 << 20;

/// Event types that are counted separately in the statistics of a webhook and hour. All others are counted together.
pub const STATS_WEBHOOK_TYPES_MAX: usize = 32;
/// Event types that are counted separately in the statistics of a tenant and hour.
pub const STATS_TENANT_TYPES_MAX: usize = 256;
/// Complete hours whose statistics are kept, in addition to the current hour.
pub const STATS_HOURS: u32 = 24;
/// Event types in a response with statistics, over all hours and tenants. All others are counted together.
pub const STATS_SHOWN_TYPES_MAX: usize = 250;
/// Rows of statistics that one flush deletes.
pub const STATS_ROWS_DELETED_PER_FLUSH: usize = 4_096;
/// Operational events that wait to be written to the log. Many deliveries may fail finally at the same time; further
/// events are only counted.
pub const OUTBOX_ROWS_MAX: u64 = 10_000;
/// Operational events that are written to the log together.
pub const OUTBOX_BATCH: usize = 64;
/// Pause before an operational event that the log refused is tried again.
pub const OUTBOX_RETRY_PAUSE: Duration = Duration::from_secs(1);

// --- registry -------------------------------------------------------------------------------------------------------

/// Changes in the queue of the registry's writer. A client that finds the queue full gets a 503 response.
pub const REGISTRY_QUEUE: usize = 4_096;
/// Changes in one transaction of registry.redb.
pub const REGISTRY_BATCH: usize = 1_024;
/// Subscriptions of one webhook. Each change writes all of them, and an event that no exact pattern of the webhook
/// decides is compared with each.
pub const SUBSCRIPTIONS_MAX: usize = 256;
/// Webhooks that are decoded together at startup. They use memory in addition to the snapshot.
pub const LOAD_BATCH_ROWS: usize = if cfg!(test) { 3 } else { 8_192 };
/// Threads that decode webhooks at startup. One thread does the rest of the work, and more threads would only wait for
/// it.
pub const LOAD_THREADS_MAX: usize = 4;
/// Bytes of the page cache of registry.redb. The file is read completely at startup and only written after that.
pub const REGISTRY_CACHE_BYTES: usize = 4 << 20;
/// API keys of one tenant that were created by the API, `*` included. Each change copies the table.
pub const KEYS_PER_TENANT_MAX: usize = 1_000;
/// API keys of all tenants that were created by the API: some megabytes of memory.
pub const KEYS_MAX: usize = 20_000;
/// Entries of the audit log, about 300 bytes each. The oldest entries are deleted first.
pub const AUDIT_ENTRIES_MAX: usize = if cfg!(test) { 40 } else { 100_000 };

// --- api ------------------------------------------------------------------------------------------------------------

/// Bytes of the filters of a webhook or a subscription as JSON. They are kept in memory with the webhook.
pub const FILTERS_BYTES_MAX: usize = 16 * 1024;
/// Rows of a list page if the client does not set a limit.
pub const PAGE_ROWS_DEFAULT: usize = 50;
/// Rows of a list page at most.
pub const PAGE_ROWS_MAX: usize = 250;
/// Rows or event heads that one list request reads to find those that match its filters. After that the page ends
/// early, with a cursor.
pub const PAGE_SCAN_MAX: usize = 10_000;
/// The same bound for lists that read the event of each row from the log, which costs ten times as much.
pub const PAGE_EVENTS_MAX: usize = 2_000;
/// Deliveries that are shown with an event. The others are found by webhook.
pub const EVENT_DELIVERIES_SHOWN: usize = 250;
/// Dead letters of one bulk replay, whether listed by the client or found by its filter.
pub const BULK_REPLAY_MAX: usize = 10_000;
/// `Retry-After` of a 503 response of the management API.
pub const MANAGE_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Default time that the previous secrets stay valid after a rotation: a day, in which every sender can change.
pub const SECRET_OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum time that the previous secrets stay valid after a rotation. A replaced secret should end.
pub const SECRET_OVERLAP_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Previous secrets of a webhook that sign beside the present one. Svix keeps as many.
pub const PREVIOUS_SECRETS_MAX: usize = 10;
/// Attempts at a change that fails because of concurrent changes.
pub const CHANGE_ATTEMPTS_MAX: usize = 8;
/// Threads that run the handlers of the management API. Blocking work has other threads.
pub const MANAGE_THREADS: usize = 2;
/// Threads for blocking work: the reads of [`API_READS_AT_ONCE`], and some in addition for statistics and health.
pub const MANAGE_BLOCKING_THREADS: usize = API_READS_AT_ONCE + 8;
/// Niceness of these threads, which lowers their priority below all others: a tenth of a core when they compete for it.
pub const MANAGE_NICENESS: i32 = 10;
/// Management requests that wait for their response. Further requests get a 503 response.
pub const MANAGE_REQUESTS_MAX: usize = if cfg!(test) { 4 } else { 512 };
/// Parts of a request body that wait for the management API. Each part is at most what a connection reads at once.
pub const UPLOAD_PARTS_MAX: usize = 1;
/// Blocking reads of the stores that the management API makes at the same time. Further reads wait.
pub const API_READS_AT_ONCE: usize = 16;

/// The most periods in which the server was off that are remembered for the failure time of webhooks.
pub const DOWNTIMES_MAX: usize = 128;

/// Highest count of a webhook's waiting deliveries. Counting more would be a long read of the state.
pub const QUEUE_COUNT_MAX: usize = 100_000;
/// Webhooks whose statistics are added up for a caller that may not see all of the tenant's webhooks. The newest are
/// used.
pub const STATS_WEBHOOKS_MAX: usize = 4_096;

// --- cli ------------------------------------------------------------------------------------------------------------

/// Time for a whole client command. Longer than the slowest response of a working server.
pub const CLI_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for a client command that makes a test delivery, which takes up to the webhook's timeout.
pub const CLI_TEST_TIMEOUT: Duration = Duration::from_secs(310);
/// Bytes of a response that a client command reads. The largest page is much smaller.
pub const CLI_ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes of a secret that a command reads from a file or standard input. Keys of all schemes are much smaller.
pub const CLI_SECRET_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a request body that `hooktide listen` accepts: the largest event that a server can be configured for, in
/// its envelope.
pub const LISTEN_BODY_BYTES_MAX: usize = 32 << 20;
/// Requests that `hooktide listen` has answered but not printed. Responses to further requests wait.
pub const LISTEN_QUEUE: usize = 64;

const _: () = assert!(STATS_WEBHOOK_TYPES_MAX <= STATS_TENANT_TYPES_MAX && OUTBOX_BATCH <= BATCH_EVENTS_MAX);
const _: () = assert!(BLOCK_BYTES_MAX < 64 * 1024);
const _: () =
    assert!(API_READS_AT_ONCE < MANAGE_BLOCKING_THREADS, "reads must leave a thread for statistics and health");
const _: () = assert!(COMMIT_BATCH_BYTES * 4 <= LOG_CACHE_BYTES, "a batch must fit redb's write buffer");
const _: () = assert!(BATCH_WAIT_LOAD <= BATCH_WAIT_REQUESTS_MAX && BATCH_WAIT_REQUESTS_MAX < COMMIT_QUEUE);
const _: () = assert!(INGEST_PERMITS_PER_REQUEST <= INGEST_PERMITS / 2);
const _: () = assert!(
    CHECKPOINT_LIST_MAX < INGEST_PERMITS,
    "the list must overflow to rows before the ingest permits are used up"
);
const _: () = assert!(SETTLE_QUEUE >= FLUSH_ITEMS + REFILLS_PER_SHARD, "settle must be woken before its queue is full");
const _: () =
    assert!(FRESH_ENTRIES < WINDOW_ENTRIES && REFILL_ROWS <= WINDOW_ENTRIES && BODY_READ_EVENTS <= REFILL_ROWS);
const _: () = assert!(FILTER_TEXT_BYTES_MAX <= FILTER_SEARCHED_BYTES_MAX && FILTER_DEPTH_MAX < JSON_DEPTH_MAX);
const _: () = assert!(REGISTRY_BATCH <= REGISTRY_QUEUE && PAGE_ROWS_MAX <= PAGE_SCAN_MAX);
const _: () = assert!(RESPONSE_BYTES_KEPT <= RESPONSE_BYTES_MAX);
const _: () = assert!(
    SOURCE_BODY_BYTES_DEFAULT <= SOURCE_BODY_BYTES_MAX && SOURCE_BODY_BYTES_MAX * 2 <= BODIES_IN_FLIGHT_BYTES,
    "one sender must not use all of the memory for bodies"
);
