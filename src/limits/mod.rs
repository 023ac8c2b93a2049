//! Every bound of the process that is not a configuration key, in one place, each with its reason.
//!
//! Here is what the process and those who talk to it may take; what a person may write is in `input`. The assertions at the
//! end relate them: a change that would let a queue block or a block outgrow its page does not compile.

use std::time::Duration;

mod input;

pub use input::*;

// --- admit: what a request may cost (RFC 9110 status codes for what is beyond) -------------------------------------

/// Time for a client to send its whole head; slow-loris connections end here.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a client to send its whole body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// After this grace a body must keep to [`BODY_RATE_MIN`].
pub const BODY_RATE_GRACE: Duration = Duration::from_secs(5);
/// Bytes a second below which a body is too slow to be honest.
pub const BODY_RATE_MIN: u64 = 1024;
/// A kept-alive connection without a request is closed after this.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Header lines in a request.
pub const HEADERS_MAX: usize = 64;
/// Bytes in a request's head.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Bytes in a request's target.
pub const URI_BYTES_MAX: usize = 8 * 1024;
/// All request bodies being read or waiting for their commit, together.
pub const BODIES_IN_FLIGHT_BYTES: usize = 64 << 20;
/// Events in one array or NDJSON request.
pub const BATCH_EVENTS_MAX: usize = 1_000;
/// Gateways that an event may have passed through: more are a loop, in which it would go round for ever.
pub const HOPS_MAX: u8 = 8;
/// Depth of JSON that is parsed.
pub const JSON_DEPTH_MAX: usize = 128;
/// Bytes in an event type (`[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`).
pub const EVENT_TYPE_BYTES_MAX: usize = 128;
/// Bytes in an id that a client gives (event id, `Idempotency-Key`, request and correlation ids).
pub const CLIENT_ID_BYTES_MAX: usize = 256;

/// How often a worker compares its connections with the timeouts above; they are exact to this.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// Time for a client to take an answer.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes in one part of a response that is streamed …
pub const STREAM_PART_BYTES_MAX: usize = 32 * 1024;
/// … and parts of it that wait for the connection: enough to keep a socket busy, small beside its send buffer.
pub const STREAM_PARTS_MAX: usize = 4;
/// Time for a client to close after our last word, while what it still sends is thrown away …
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// … up to so much of it.
pub const LINGER_BYTES_MAX: usize = 64 * 1024;
/// Connections waiting to be accepted.
pub const LISTEN_BACKLOG: i32 = 1024;
/// After the process ran out of files, the accept loop waits so long.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Bytes of an event's `metadata`, which is a part of its head in the log.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;
/// Breaches of its rules that are listed for one event.
pub const BREACHES_LISTED_MAX: usize = 32;
/// Bytes of a body whose sender is not known: what a source's may weigh when it does not say.
pub const STRANGER_BODY_BYTES_MAX: usize = 10 << 20;
/// Bytes of a provider's own type that are kept, and of the path that may name one.
pub const TOPIC_BYTES_MAX: usize = 256;
/// Refused requests that are kept for each source …
pub const REJECTIONS_PER_SOURCE: usize = 100;
/// … each with the beginning of its body …
pub const REJECTION_BODY_BYTES: usize = 4 * 1024;
/// … and all together: some hundred sources with a hundred requests of usual headers.
pub const REJECTIONS_BYTES_MAX: usize = 16 << 20;
/// Token buckets in one part of a limiter before those that are full, which say nothing, are taken out.
pub const LIMITER_BUCKETS: usize = 1_024;
/// Sources whose counters a worker keeps at hand; beyond that it looks them up again.
pub const USED_COUNTERS_MAX: usize = if cfg!(test) { 8 } else { 1_024 };

// --- the door: deliveries whose outcome is not yet durable ---------------------------------------------------------

/// Deliveries between the door and a durable outcome or row.
pub const INGEST_PERMITS: usize = 65_536;
/// The most that one request takes of [`INGEST_PERMITS`], however many it fans out to.
pub const INGEST_PERMITS_PER_REQUEST: usize = 16_384;
/// How long a request waits at the door before it is told 503.
pub const INGEST_PERMIT_WAIT: Duration = Duration::from_millis(250);

// --- commit --------------------------------------------------------------------------------------------------------

/// Requests waiting for the commit thread; who finds no room is told 503. An fsync that takes 200 ms fits.
pub const COMMIT_QUEUE: usize = 8_192;
/// Commits whose answers wait for a worker; what finds no room is given out by the commit thread itself.
pub const DESK_QUEUE: usize = 64;
/// Events in one commit; more only delay the first one's answer.
pub const COMMIT_BATCH_EVENTS: usize = 4_096;
/// Bytes in one commit, which the last request may exceed: a quarter of [`LOG_CACHE_BYTES`], because redb writes what outgrows
/// half of its cache twice (measured with a cache of 16 MiB and batches as large: 44 KiB written for each event of 16 KiB, not
/// 22).
pub const COMMIT_BATCH_BYTES: usize = 1 << 20;
/// After a commit of so many requests the next one is held back …
pub const GATHER_LOAD: usize = 8;
/// … a step at a time …
pub const GATHER_STEP: Duration = Duration::from_micros(200);
/// … as long as at least so many requests came in the last step …
pub const GATHER_ARRIVALS: usize = 4;
/// … until so many wait: beyond that a commit's own cost is small beside that of its events …
pub const GATHER_REQUESTS: usize = 128;
/// … or so long.
pub const GATHER_TIME: Duration = Duration::from_millis(4);
/// Bytes in a block of the log. With redb's own header such a value fits a page of 64 KiB; a larger one would take 128.
pub const BLOCK_BYTES_MAX: usize = 63 * 1024;
/// Sealed segments kept open for reading; few under test, so that they are closed and opened all the time.
pub const SEALED_OPEN_MAX: usize = if cfg!(test) { 2 } else { 16 };
/// redb's page cache of the open segment. Each page that is written goes through it, so one that is larger than it must be
/// turns the processor's caches over.
pub const LOG_CACHE_BYTES: usize = 4 << 20;
/// Cache of a sealed segment.
pub const SEALED_CACHE_BYTES: usize = 1 << 20;
/// Cache of state.redb.
pub const STATE_CACHE_BYTES: usize = 32 << 20;
/// Cache of a history file that is open for writing.
pub const HISTORY_CACHE_BYTES: usize = 16 << 20;
/// Free space below which new events are refused while deliveries go on.
pub const DISK_RESERVE_BYTES: u64 = 64 << 20;
/// The file that is given up when the disk is full, so that settle can still write.
pub const BALLAST_BYTES: u64 = 16 << 20;
/// A retired segment is truncated in steps of this size: unlinking it whole stalls commits for 0.4 s.
pub const TRUNCATE_STEP_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 4 << 20 };
/// … with this between them, in which the fsyncs of others go through.
pub const TRUNCATE_PAUSE: Duration = Duration::from_millis(20);
/// How often the log's limits are looked at.
pub const RETAIN_INTERVAL: Duration = Duration::from_secs(5);
/// Free space is asked for at most this often.
pub const ROOM_INTERVAL: Duration = Duration::from_millis(100);
/// Requests waiting for the recall thread: each webhook has at most one under way.
pub const RECALL_QUEUE: usize = 4_096;
/// Events copied to `carry/` in one transaction.
pub const CARRY_EVENTS: usize = 32;

// --- dispatch ------------------------------------------------------------------------------------------------------

/// Entries of one webhook held in memory; past it the webhook lags and what arrives is spilled to disk.
pub const WINDOW_ENTRIES: usize = 1_024;
/// Of a webhook in order by a field this part of the window must be free before rows are asked for: what waits behind a
/// failing event may take the rest, and a refill is still worth its flush.
pub const WINDOW_PART_REFILLED: usize = 8;
/// Bytes of one webhook's entries held in memory.
pub const WINDOW_BYTES: usize = 8 << 20;
/// New arrivals of a lagging webhook kept in memory, served 1 : 1 with its backlog.
pub const FRESH_ENTRIES: usize = 64;
/// Rows asked for by one refill.
pub const REFILL_ROWS: usize = 512;
/// Refills a shard may have under way.
pub const REFILLS_PER_SHARD: usize = 64;
/// Events asked of the recall thread at once by one webhook.
pub const RECALL_EVENTS: usize = 64;
/// Deliveries a shard may have under way at once, over all its webhooks.
pub const IN_FLIGHT_PER_SHARD: usize = 1_024;
/// Idle connections a shard keeps, over all origins.
pub const IDLE_CONNECTIONS_PER_SHARD: usize = 1_024;
/// An idle connection to a receiver is closed after this.
pub const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// A shard forgets a webhook that had nothing to do for this long, so that many webhooks cost little.
pub const WEBHOOK_IDLE: Duration = Duration::from_secs(2);
/// A webhook that answered 410 is left alone for this long, in which settle has it disabled; should that fail, it is asked again.
pub const DISABLE_GRACE: Duration = Duration::from_secs(60);
/// Bodies that could not be read are asked for again after this.
pub const RECALL_PAUSE: Duration = Duration::from_secs(1);
/// A shard that finds the queue before the recall thread full comes again after this.
pub const RECALL_FULL_PAUSE: Duration = Duration::from_millis(10);
/// Test deliveries that a shard has under way at once, beside all others …
pub const PROBES_PER_SHARD: usize = 32;
/// … and of one webhook, so that a slow one cannot take all of these places.
pub const PROBES_PER_WEBHOOK: usize = 2;
/// Messages that a shard takes at once before its deliveries go on.
pub const SHARD_MESSAGES: usize = 64;
/// Messages waiting for a shard.
pub const SHARD_QUEUE: usize = 16_384;

// --- send ----------------------------------------------------------------------------------------------------------

/// Time for a name to be resolved.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a connection to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a TLS handshake.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// TLS sessions remembered for one webhook with TLS settings of its own, which has one endpoint.
pub const TLS_SESSIONS_PER_WEBHOOK: usize = 32;
/// Bytes of a response's body that are read.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a response's body that are kept with the attempt.
pub const RESPONSE_BYTES_KEPT: usize = 1024;
/// Bytes of a response's head.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// The longest delay a `Retry-After` can ask for, and the longest a schedule can hold.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Time for a fetch as a whole (a certificate, a subscription's confirmation): a sender waits for its answer meanwhile, SNS
/// for 15 s.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(8);
/// Bytes of what is fetched: a chain of certificates has some 10 KiB.
pub const FETCH_BYTES_MAX: usize = 64 * 1024;
/// Certificates in a chain; those of the public authorities have up to 4.
pub const CERTIFICATE_CHAIN_MAX: usize = 8;
/// Fetched certificates that are kept: providers have one or two at a time in each region.
pub const CERTIFICATES_KEPT: usize = 64;
/// A fetched certificate is fetched again after this, so that one that its provider took back goes.
pub const CERTIFICATE_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// After a failure a certificate is not asked for again for this long, whoever names its address.
pub const CERTIFICATE_RETRY: Duration = Duration::from_secs(30);
/// Certificates being fetched at once.
pub const CERTIFICATE_FETCHES: usize = 4;
/// Fetches of certificates that may fail in a [`CERTIFICATE_RETRY`] before no other address is tried: whoever makes addresses
/// up does not make us a nuisance to providers.
pub const CERTIFICATE_FAILURES_MAX: usize = 16;

/// Attempts that a circuit breaker looks at or asks for: more say nothing about a receiver's present state.
pub const BREAKER_ATTEMPTS_MAX: u16 = 1_000;
/// Share of failures that opens it, at least: below, one in a hundred is an accident.
pub const BREAKER_RATIO_MIN: f64 = 0.01;
/// How long it stays open at first, at least: a shorter pause spares nobody anything.
pub const BREAKER_OPEN_MIN: Duration = Duration::from_millis(100);
/// … and at most: somebody looks after a receiver once a day.
pub const BREAKER_OPEN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Nothing but failure for this long may disable a webhook, at least: a restart of the receiver must not.
pub const BREAKER_DISABLE_MIN: Duration = Duration::from_secs(60);
/// … and at most: in effect never.
pub const BREAKER_DISABLE_MAX: Duration = SPAN_MAX;
/// Delays in a schedule: enough for a month of daily attempts and then some.
pub const SCHEDULE_DELAYS_MAX: usize = 64;
/// Retries that a backoff may ask for.
pub const RETRIES_MAX: u64 = 100;
/// The longest latency that the histograms tell apart.
pub const LATENCY_MAX: Duration = Duration::from_secs(120);

// --- settle --------------------------------------------------------------------------------------------------------

/// Messages waiting for the settle thread, which waits for nobody: who finds the queue full waits for one flush.
pub const SETTLE_QUEUE: usize = 16_384;
/// Settle takes in what it was told this often while something waits for a flush.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(5);
/// What has gathered is flushed after this time …
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// … but no sooner than this after the flush before, whoever rings for it …
pub const FLUSH_PAUSE: Duration = Duration::from_millis(5);
/// … or when this many items wait.
pub const FLUSH_ITEMS: usize = 8_192;
/// Deliveries in the checkpoint's list; beyond that the oldest get rows.
pub const CHECKPOINT_LIST_MAX: usize = 16_384;
/// An event that matches more webhooks than this is handled as a job with a cursor.
pub const WIDE_EVENT_WEBHOOKS: usize = 1_024;
/// Rows that a job writes in one transaction.
pub const JOB_ROWS: usize = 1_024;
/// History buckets: rows of one webhook are near each other, and a flush touches at most this many places.
pub const HISTORY_BUCKETS: u32 = 64;
/// A history file is followed by the next at this size.
pub const HISTORY_FILE_BYTES: u64 = 256 << 20;

/// Event types that are told apart in the figures of a webhook in an hour; the rest count together.
pub const FIGURES_WEBHOOK_TYPES_MAX: usize = 32;
/// Event types that are told apart in the figures of a tenant in an hour.
pub const FIGURES_TENANT_TYPES_MAX: usize = 256;
/// Full hours whose figures are kept beside the one that runs.
pub const FIGURES_HOURS: u32 = 24;
/// Event types in an answer with figures, over all hours and tenants; the rest count together.
pub const FIGURES_SHOWN_TYPES_MAX: usize = 250;
/// Rows of figures that are forgotten in one flush.
pub const FIGURES_FORGOTTEN: usize = 4_096;
/// Operational events that wait for their place in the log. Many deliveries may be given up at once; more are only counted.
pub const OUTBOX_ROWS_MAX: u64 = 10_000;
/// Operational events that are admitted together.
pub const OUTBOX_BATCH: usize = 64;
/// When an operational event that the log did not take is tried again.
pub const OUTBOX_PAUSE: Duration = Duration::from_secs(1);

// --- registry ------------------------------------------------------------------------------------------------------

/// Changes waiting for the registry's writer; a client beyond that is told 503.
pub const REGISTRY_QUEUE: usize = 4_096;
/// Changes in one transaction of registry.redb.
pub const REGISTRY_BATCH: usize = 1_024;
/// Subscriptions of one webhook: each change writes all of them, and an event that none of the webhook's patterns decides is
/// compared with each.
pub const SUBSCRIPTIONS_MAX: usize = 256;
/// Webhooks that are decoded together at start: what they take in memory beside the snapshot.
pub const LOAD_ROWS: usize = if cfg!(test) { 3 } else { 8_192 };
/// Threads that decode them at most: the rest of the work is one thread's, and more would wait for it.
pub const LOAD_THREADS_MAX: usize = 4;
/// Page cache of registry.redb, which is read whole at start and then only written.
pub const REGISTRY_CACHE_BYTES: usize = 4 << 20;
/// Keys that the interface has made for one tenant, `*` included; each change copies the table.
pub const KEYS_PER_TENANT_MAX: usize = 1_000;
/// … and for all: some megabytes.
pub const KEYS_MAX: usize = 20_000;
/// Entries of the audit log, some 300 bytes each; the oldest go first.
pub const AUDIT_ENTRIES_MAX: usize = if cfg!(test) { 40 } else { 100_000 };

// --- api -----------------------------------------------------------------------------------------------------------

/// Bytes of the filters of a webhook or of a subscription as JSON; they are in memory with it.
pub const FILTERS_BYTES_MAX: usize = 16 * 1024;
/// Rows of a list page when the client does not say.
pub const PAGE_ROWS_DEFAULT: usize = 50;
/// Rows of a list page at most.
pub const PAGE_ROWS_MAX: usize = 250;
/// Rows or heads that one list request looks at for those that its filters want; the page then ends early, with a cursor.
pub const PAGE_SCAN_MAX: usize = 10_000;
/// The same where each row needs a look at its event in the log, which costs ten times as much.
pub const PAGE_EVENTS_MAX: usize = 2_000;
/// Deliveries shown with an event; the rest are found by webhook.
pub const EVENT_DELIVERIES_SHOWN: usize = 250;
/// Dead letters that one bulk replay names, given or found by its filter.
pub const BULK_REPLAY_MAX: usize = 10_000;
/// `Idempotency-Key`s remembered by the management interface; the oldest go first.
pub const IDEMPOTENCY_KEYS_MAX: usize = 10_000;
/// How long they are remembered.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// When a client that was told 503 by the management interface should come back.
pub const RETRY_SOON: Duration = Duration::from_secs(1);
/// How long the secrets before stay valid beside a new one, unless the caller says: a day, in which every sender can change.
pub const SECRET_OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// … and at most: a secret that is replaced should end.
pub const SECRET_OVERLAP_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// A change that others overtake is tried so often.
pub const CHANGE_TRIES: usize = 8;
/// Threads on which handlers of the management run; what blocks has others.
pub const MANAGE_THREADS: usize = 2;
/// Threads for what blocks: the reads below, and some for figures and health beside them.
pub const MANAGE_BLOCKING_THREADS: usize = API_READS_AT_ONCE + 8;
/// How far the priority of these threads is below that of all others: a share of a tenth where they compete for a core.
pub const MANAGE_NICENESS: i32 = 10;
/// Management requests that wait for their response; more are told to come back.
pub const MANAGE_REQUESTS_MAX: usize = if cfg!(test) { 4 } else { 512 };
/// Parts of a request's body that wait for the management; each is at most what a connection reads at once.
pub const UPLOAD_PARTS_MAX: usize = 1;
/// Blocking reads of the stores that the management interface has under way; more wait their turn.
pub const API_READS_AT_ONCE: usize = 16;

/// Deliveries of one webhook that wait are counted up to this; a count of more would be a long read of the state.
pub const QUEUE_COUNTED_MAX: usize = 100_000;
/// Webhooks whose figures are added up for a caller who does not see all of the tenant's: the newest.
pub const STATS_WEBHOOKS_MAX: usize = 4_096;

// --- cli -----------------------------------------------------------------------------------------------------------

/// For a client command's whole call: longer than the slowest answer that a server that works gives.
pub const CLI_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// … and for a test delivery's, which lasts as long as a webhook's timeout may.
pub const CLI_TEST_TIMEOUT: Duration = Duration::from_secs(310);
/// Bytes of an answer that a client command reads: the largest page is far below.
pub const CLI_ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes of a secret that a command reads from a file or standard input; no key of any scheme comes near.
pub const CLI_SECRET_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a body that `hooktide listen` takes: the largest event that a server can be configured for, in its envelope.
pub const LISTEN_BODY_BYTES_MAX: usize = 32 << 20;
/// Requests that `hooktide listen` has answered and not printed; the next wait with their answer.
pub const LISTEN_QUEUE: usize = 64;

const _: () = assert!(FIGURES_WEBHOOK_TYPES_MAX <= FIGURES_TENANT_TYPES_MAX && OUTBOX_BATCH <= BATCH_EVENTS_MAX);
const _: () = assert!(BLOCK_BYTES_MAX < 64 * 1024);
const _: () = assert!(API_READS_AT_ONCE < MANAGE_BLOCKING_THREADS, "reads must leave a thread for figures and health");
const _: () = assert!(COMMIT_BATCH_BYTES * 4 <= LOG_CACHE_BYTES, "a batch must fit redb's write buffer");
const _: () = assert!(GATHER_LOAD <= GATHER_REQUESTS && GATHER_REQUESTS < COMMIT_QUEUE);
const _: () = assert!(INGEST_PERMITS_PER_REQUEST <= INGEST_PERMITS / 2);
const _: () = assert!(CHECKPOINT_LIST_MAX < INGEST_PERMITS, "the list must be able to give rows before the door shuts");
const _: () = assert!(SETTLE_QUEUE >= FLUSH_ITEMS + REFILLS_PER_SHARD, "the bell must ring before the queue is full");
const _: () = assert!(FRESH_ENTRIES < WINDOW_ENTRIES && REFILL_ROWS <= WINDOW_ENTRIES && RECALL_EVENTS <= REFILL_ROWS);
const _: () = assert!(FILTER_TEXT_BYTES_MAX <= FILTER_SEARCHED_BYTES_MAX && FILTER_DEPTH_MAX < JSON_DEPTH_MAX);
const _: () = assert!(REGISTRY_BATCH <= REGISTRY_QUEUE && PAGE_ROWS_MAX <= PAGE_SCAN_MAX);
const _: () = assert!(RESPONSE_BYTES_KEPT <= RESPONSE_BYTES_MAX);
const _: () = assert!(
    SOURCE_BODY_BYTES_DEFAULT <= SOURCE_BODY_BYTES_MAX && SOURCE_BODY_BYTES_MAX * 2 <= BODIES_IN_FLIGHT_BYTES,
    "one sender must not hold all the room for bodies"
);
