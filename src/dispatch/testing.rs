//! Test fixtures of this folder: events, webhooks, a changeable directory, and settle's side of the channels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};

use super::{DispatchSetup, Ports, WebhookDirectory};
use crate::config;
use crate::filter::EventField;
use crate::handoff::{BodyRequest, RetryDecision, SettleHandle, ToSettle};
use crate::model::{
    AttemptError, DeadReason, Decision, EventId, RateLimit, RetryOn, RetryPolicy, Timestamp, WebhookId, WebhookNo,
    WebhookStatus,
};
use crate::outbound::{DeliveryOrder, Endpoint, Event, SigningKeys, Webhook, WebhookSettings};
use crate::runtime::{Clock, MemoryBudget, Metrics};
use crate::signature::SigningKey;

/// The time at which test clocks start.
pub(super) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// The payloads of the events, used in turn. Two fields can be used for ordering. They have few different values, and some
/// payloads have no value. All payloads have the same length.
const DATA: [&[u8]; 7] = [
    br#"{"k":1,"j":"a"}  "#,
    br#"{"k":"1","j":"b"}"#,
    br#"{"k":2,"j":"a"}  "#,
    br#"{"j":"b"}        "#,
    br#"{"k":2}          "#,
    br#"{"k":null,"j":1} "#,
    br#"{"k":"2","j":"a"}"#,
];

/// Returns the value of event `n` in a field of [`DATA`].
pub(super) fn value(path: &str, n: u128) -> Option<&'static str> {
    let values = match path {
        "k" => [Some("1"), Some("1"), Some("2"), None, Some("2"), None, Some("2")],
        _ => [Some("a"), Some("b"), Some("a"), Some("b"), None, Some("1"), Some("a")],
    };
    values[n as usize % values.len()]
}

/// Event `n`, with a body of a few bytes.
pub(super) fn event(n: u128) -> Arc<Event> {
    static BUDGET: OnceLock<Arc<MemoryBudget>> = OnceLock::new();
    let lease = BUDGET.get_or_init(|| MemoryBudget::new(usize::MAX)).lease(2);
    event_of(n, DATA[n as usize % DATA.len()], lease)
}

/// Event `n` with this body.
pub(super) fn event_of(n: u128, data: &'static [u8], lease: Arc<crate::runtime::BodyLease>) -> Arc<Event> {
    Arc::new(Event {
        id: EventId::from_u128(n),
        head: Bytes::new(),
        body: Bytes::from_static(data),
        committed_at: Clock::test(START).instant(),
        lease,
    })
}

/// The settings of a test's webhook.
#[derive(Debug, Clone, Copy)]
pub(super) struct WebhookSpec {
    /// The webhook's status.
    pub(super) status: WebhookStatus,
    /// The maximum number of deliveries in flight, if set.
    pub(super) max_in_flight: Option<u16>,
    /// The rate limit, if set.
    pub(super) rate_limit: Option<RateLimit>,
    /// The order of deliveries.
    pub(super) order: OrderSpec,
}

impl Default for WebhookSpec {
    fn default() -> Self {
        Self { status: WebhookStatus::Active, max_in_flight: None, rate_limit: None, order: OrderSpec::Any }
    }
}

/// The order of a test's webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderSpec {
    Any,
    Acceptance,
    By(&'static str),
}

impl From<OrderSpec> for DeliveryOrder {
    fn from(order: OrderSpec) -> Self {
        match order {
            OrderSpec::Any => Self::Any,
            OrderSpec::Acceptance => Self::Acceptance,
            OrderSpec::By(path) => Self::ByField(Arc::new(EventField::try_new(path).unwrap())),
        }
    }
}

/// Creates a webhook with this number.
pub(super) fn webhook(no: u32, spec: WebhookSpec) -> Arc<Webhook> {
    let endpoint = Endpoint {
        url: "http://127.0.0.1/".into(),
        tls: false,
        host: "127.0.0.1".into(),
        port: 80,
        authority: http::HeaderValue::from_static("127.0.0.1"),
        target: http::uri::PathAndQuery::from_static("/"),
        subject: None,
    };
    let keys = SigningKeys { current: Arc::new(SigningKey::generate()), previous: Vec::new() };
    Arc::new(Webhook {
        no: WebhookNo(no),
        id: WebhookId::from_u128(u128::from(no)),
        settings: WebhookSettings {
            status: spec.status,
            max_in_flight: spec.max_in_flight,
            rate_limit: spec.rate_limit,
            order: spec.order.into(),
            ..WebhookSettings::new("default".into(), endpoint, keys)
        },
        created_at: START,
        updated_at: START,
        version: 1,
        address_version: 1,
    })
}

/// A directory that a test can change.
#[derive(Debug, Default)]
pub(super) struct TestDirectory(Mutex<BTreeMap<u32, Arc<Webhook>>>);

impl TestDirectory {
    /// Creates or replaces a webhook.
    pub(super) fn put(&self, no: u32, spec: WebhookSpec) {
        self.0.lock().unwrap().insert(no, webhook(no, spec));
    }

    /// Deletes a webhook.
    pub(super) fn remove(&self, no: u32) {
        self.0.lock().unwrap().remove(&no);
    }
}

impl WebhookDirectory for TestDirectory {
    fn webhook(&self, no: WebhookNo) -> Option<Arc<Webhook>> {
        self.0.lock().unwrap().get(&no.0).cloned()
    }
}

/// Makes three attempts, one second apart. 503 pauses the webhook until the next attempt. 410 disables it.
pub(super) fn decide(
    result: &Result<(), AttemptError>,
    retry_after: Option<Duration>,
    attempts: u16,
    _policy: &RetryPolicy,
    _retry_on: RetryOn,
    now: Timestamp,
    _random: u64,
) -> RetryDecision {
    let at = now.plus(retry_after.unwrap_or(Duration::from_secs(1)));
    let decision = match result {
        Ok(()) => Decision::Delivered,
        Err(AttemptError::Status(410)) => Decision::Dead(DeadReason::Gone),
        Err(_) if attempts >= 3 => Decision::Dead(DeadReason::Exhausted),
        Err(_) => Decision::Retry { at },
    };
    RetryDecision {
        decision,
        pause_webhook_until: (*result == Err(AttemptError::Status(503))).then_some(at),
        disable: *result == Err(AttemptError::Status(410)),
    }
}

/// The environment of a shard: its setup and the other ends of its channels.
pub(super) struct ShardEnv {
    /// The webhooks.
    pub(super) directory: Arc<TestDirectory>,
    /// The setup of the shard.
    pub(super) setup: DispatchSetup,
    /// The channels to which the shard's outputs are sent.
    pub(super) ports: Ports,
    /// Messages to settle.
    pub(super) settle_messages: Receiver<ToSettle>,
    /// Requests to the body reader.
    pub(super) body_requests: Receiver<BodyRequest>,
    /// Keeps the receiver of settle's wakeups alive.
    _wakeup: Receiver<()>,
}

impl ShardEnv {
    /// Creates an environment without webhooks.
    pub(super) fn new() -> Self {
        let directory = Arc::new(TestDirectory::default());
        let (settle, settle_messages, wakeup) = SettleHandle::channel();
        let (request_bodies, body_requests) = bounded(16);
        let setup = DispatchSetup {
            webhooks: Arc::clone(&directory) as _,
            decide,
            delivery: config::DeliveryDefaults {
                retry_policy: RetryPolicy::Schedule(Arc::new([])),
                timeout: Duration::from_secs(30),
                max_in_flight: 8,
            },
            breaker: config::Breaker {
                window: 50,
                failure_ratio: 0.5,
                min_attempts: 10,
                open: Duration::from_secs(30),
                open_max: Duration::from_secs(600),
                close_after: 2,
                disable_after: Duration::from_secs(432_000),
            },
            clock: Clock::test(START),
            metrics: Metrics::new().unwrap(),
            memory: MemoryBudget::new(1 << 20),
            last_event: EventId::MIN,
            endpoint_states: Arc::default(),
        };
        Self {
            directory,
            setup,
            ports: Ports { settle, body_requests: request_bodies },
            settle_messages,
            body_requests,
            _wakeup: wakeup,
        }
    }
}
