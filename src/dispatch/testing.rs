//! What the tests of this stage are made of: events, webhooks, a directory that can be changed, and settle's side of the
//! channels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};

use super::{Directory, Ports, Setup};
use crate::config;
use crate::filter::Field;
use crate::handoff::{RecallRequest, SettleHandle, ToSettle, Verdict};
use crate::model::{
    AttemptError, DeadReason, Decision, EventId, RateLimit, RetryOn, RetryPolicy, Timestamp, WebhookId, WebhookNo,
    WebhookStatus,
};
use crate::outbound::{Endpoint, Event, Order, SigningKeys, Webhook, WebhookSettings};
use crate::runtime::{Clock, MemoryBudget, Metrics};
use crate::signature::SigningKey;

pub(super) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// What events say in turn, with two fields to keep order by: the values are few, and some have none. All of one length.
const DATA: [&[u8]; 7] = [
    br#"{"k":1,"j":"a"}  "#,
    br#"{"k":"1","j":"b"}"#,
    br#"{"k":2,"j":"a"}  "#,
    br#"{"j":"b"}        "#,
    br#"{"k":2}          "#,
    br#"{"k":null,"j":1} "#,
    br#"{"k":"2","j":"a"}"#,
];

/// What event `n` says in a field, as [`DATA`] has it.
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

/// What a test says of a webhook.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub(super) status: WebhookStatus,
    pub(super) max_in_flight: Option<u16>,
    pub(super) rate_limit: Option<RateLimit>,
    pub(super) order: Kept,
}

impl Default for Made {
    fn default() -> Self {
        Self { status: WebhookStatus::Active, max_in_flight: None, rate_limit: None, order: Kept::Any }
    }
}

/// An order that a test asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Any,
    Acceptance,
    By(&'static str),
}

impl From<Kept> for Order {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Any => Self::Any,
            Kept::Acceptance => Self::Acceptance,
            Kept::By(path) => Self::By(Arc::new(Field::try_new(path).unwrap())),
        }
    }
}

pub(super) fn webhook(no: u32, made: Made) -> Arc<Webhook> {
    let endpoint = Endpoint {
        url: "http://127.0.0.1/".into(),
        tls: false,
        host: "127.0.0.1".into(),
        port: 80,
        authority: http::HeaderValue::from_static("127.0.0.1"),
        target: http::uri::PathAndQuery::from_static("/"),
    };
    let keys = SigningKeys { current: Arc::new(SigningKey::generate()), previous: None };
    Arc::new(Webhook {
        no: WebhookNo(no),
        id: WebhookId::from_u128(u128::from(no)),
        settings: WebhookSettings {
            status: made.status,
            max_in_flight: made.max_in_flight,
            rate_limit: made.rate_limit,
            order: made.order.into(),
            ..WebhookSettings::new("default".into(), endpoint, keys)
        },
        created_at: START,
        updated_at: START,
        version: 1,
    })
}

/// A directory that a test changes.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<BTreeMap<u32, Arc<Webhook>>>);

impl Book {
    pub(super) fn put(&self, no: u32, made: Made) {
        self.0.lock().unwrap().insert(no, webhook(no, made));
    }

    pub(super) fn remove(&self, no: u32) {
        self.0.lock().unwrap().remove(&no);
    }
}

impl Directory for Book {
    fn webhook(&self, no: WebhookNo) -> Option<Arc<Webhook>> {
        self.0.lock().unwrap().get(&no.0).cloned()
    }
}

/// Three attempts a second apart; 503 pauses the webhook until the next, 410 disables it.
pub(super) fn decide(
    result: &Result<(), AttemptError>,
    retry_after: Option<Duration>,
    attempts: u16,
    _policy: &RetryPolicy,
    _retry_on: RetryOn,
    now: Timestamp,
    _random: u64,
) -> Verdict {
    let at = now.plus(retry_after.unwrap_or(Duration::from_secs(1)));
    let decision = match result {
        Ok(()) => Decision::Delivered,
        Err(AttemptError::Status(410)) => Decision::Dead(DeadReason::Gone),
        Err(_) if attempts >= 3 => Decision::Dead(DeadReason::Exhausted),
        Err(_) => Decision::Retry { at },
    };
    Verdict {
        decision,
        pause_webhook_until: (*result == Err(AttemptError::Status(503))).then_some(at),
        disable: *result == Err(AttemptError::Status(410)),
    }
}

/// A shard's surroundings.
pub(super) struct World {
    pub(super) book: Arc<Book>,
    pub(super) setup: Setup,
    pub(super) ports: Ports,
    pub(super) told: Receiver<ToSettle>,
    pub(super) recalls: Receiver<RecallRequest>,
    /// Held so that settle's bell has somebody to hear it.
    _bell: Receiver<()>,
}

impl World {
    pub(super) fn new() -> Self {
        let book = Arc::new(Book::default());
        let (settle, told, bell) = SettleHandle::channel();
        let (recall, recalls) = bounded(16);
        let setup = Setup {
            webhooks: Arc::clone(&book) as _,
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
        };
        Self { book, setup, ports: Ports { settle, recall }, told, recalls, _bell: bell }
    }
}
