//! Sources that consume from the event bus: one durable pull consumer for each.
//!
//! A message is acknowledged after the fsync of its event. A message that cannot be accepted now is delivered again
//! later, and a message that can never be accepted is terminated. Up to [`BUS_MESSAGES_IN_FLIGHT`] messages of a source
//! are in progress, and they are submitted in the order of the stream.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, AckKind};
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::connection::BusState;
use crate::inbound::source::{BusSubscription, Source, SourceStatus};
use crate::limits::{
    BUS_ACK_WAIT, BUS_CHECK_INTERVAL, BUS_HEARTBEAT, BUS_MESSAGES_IN_FLIGHT, BUS_PULL_EXPIRES, BUS_RETRY_DELAY_MAX,
    BUS_RETRY_DELAY_MIN, BUS_SOURCES_INTERVAL,
};
use crate::model::{SourceId, kind};
use crate::registry::{Registry, Shared};

/// The header with the subject of a message, from which the type of its event is read.
const SUBJECT: HeaderName = HeaderName::from_static("nats-subject");
/// The header with the id of a message, which identifies a duplicate.
const MESSAGE_ID: HeaderName = HeaderName::from_static("nats-msg-id");

/// A message of a source.
#[derive(Debug)]
pub struct InboundMessage {
    /// The subject.
    pub subject: String,
    /// The stream and the sequence number, for logs and rejections.
    pub id: String,
    /// The headers, with `nats-subject` and `nats-msg-id`. A message without an id gets the one of its place in the
    /// stream, which is the same at each delivery.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// The result of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusReceipt {
    /// The event is on the disk, now or since an earlier delivery.
    Accepted,
    /// The message cannot be accepted now. It is delivered again after this time.
    Retry(Duration),
    /// The message can never be accepted, and is listed in the rejections of its source.
    Refused,
}

/// The future of [`MessageReceiver::receive`].
pub type MessageFuture<'a> = Pin<Box<dyn Future<Output = BusReceipt> + Send + 'a>>;

/// Turns messages into events.
pub trait MessageReceiver: Send + Sync + 'static {
    /// Accepts a message, and returns when its event is on the disk or refused.
    fn receive<'a>(&'a self, source: &'a Source, message: &'a InboundMessage) -> MessageFuture<'a>;
}

/// A task that ends when this value is dropped.
struct Consumer {
    source: Arc<Source>,
    task: JoinHandle<()>,
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Consumes for all active sources of kind `nats` in the registry.
pub(super) async fn run_consumers(state: Arc<BusState>, registry: Shared, receiver: Arc<dyn MessageReceiver>) {
    let mut consumers: HashMap<SourceId, Consumer> = HashMap::new();
    let mut known: Option<Arc<Registry>> = None;
    loop {
        let now = registry.load_full();
        if known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &now)) {
            update(&mut consumers, &now, &state, &receiver);
            known = Some(now);
        }
        tokio::time::sleep(BUS_SOURCES_INTERVAL).await;
    }
}

/// Starts the consumers of new sources, and ends those of sources that changed or are no longer active.
fn update(
    consumers: &mut HashMap<SourceId, Consumer>,
    registry: &Registry,
    state: &Arc<BusState>,
    receiver: &Arc<dyn MessageReceiver>,
) {
    let is_consuming =
        |source: &&Arc<Source>| source.settings.kind == kind::NATS && source.status == SourceStatus::Active;
    let wanted: HashMap<_, _> =
        registry.sources(None, false).filter(is_consuming).map(|source| (source.id, source)).collect();
    consumers.retain(|id, consumer| {
        let stays = wanted.get(id).is_some_and(|source| Arc::ptr_eq(source, &consumer.source));
        if !stays {
            state.set_problem(&name_of(&consumer.source), None);
        }
        stays
    });
    for (id, source) in wanted {
        consumers.entry(id).or_insert_with(|| {
            let task = tokio::spawn(consume(Arc::clone(state), Arc::clone(source), Arc::clone(receiver)));
            Consumer { source: Arc::clone(source), task }
        });
    }
}

fn name_of(source: &Source) -> String {
    format!("source {}", source.name)
}

/// Consumes for one source. A pull that ends or stalls is renewed.
async fn consume(state: Arc<BusState>, source: Arc<Source>, receiver: Arc<dyn MessageReceiver>) {
    let Some(subscription) = &source.bus else { return };
    loop {
        let Err(why) = pull(&state, &source, subscription, &receiver).await;
        // Without a connection, the health says so already.
        let problem = state.is_connected().then_some(why);
        if problem.is_some() {
            state.set_problem(&name_of(&source), problem);
        }
        tokio::time::sleep(BUS_CHECK_INTERVAL).await;
    }
}

/// Pulls messages until an error.
async fn pull(
    state: &Arc<BusState>,
    source: &Arc<Source>,
    subscription: &BusSubscription,
    receiver: &Arc<dyn MessageReceiver>,
) -> Result<std::convert::Infallible, String> {
    let mut link = state.link();
    while !state.is_connected() {
        let changed = tokio::time::timeout(BUS_CHECK_INTERVAL, link.changed()).await;
        if changed.is_ok_and(|changed| changed.is_err()) {
            return Err("the connection has ended".to_owned());
        }
    }
    let consumer = open(state, subscription).await?;
    let messages = consumer.stream().max_messages_per_batch(BUS_MESSAGES_IN_FLIGHT);
    let messages = messages.heartbeat(BUS_HEARTBEAT).expires(BUS_PULL_EXPIRES).messages().await;
    let mut messages = messages.map_err(|error| format!("messages cannot be pulled: {error}"))?;
    state.set_problem(&name_of(source), None);
    let turns = Arc::new(Semaphore::new(BUS_MESSAGES_IN_FLIGHT));
    let mut tasks = JoinSet::new();
    loop {
        // Finished tasks are removed.
        while tasks.try_join_next().is_some() {}
        let turn = Arc::clone(&turns).acquire_owned().await.map_err(|error| error.to_string())?;
        match poll_fn(|cx| Pin::new(&mut messages).poll_next(cx)).await {
            Some(Ok(message)) => {
                let (source, receiver) = (Arc::clone(source), Arc::clone(receiver));
                tasks.spawn(async move {
                    handle(&source, &*receiver, &message).await;
                    drop(turn);
                });
            }
            // This includes a missing heartbeat, so a stalled pull is renewed.
            Some(Err(error)) => return Err(format!("the pull ended: {error}")),
            None => return Err("the pull ended".to_owned()),
        }
    }
}

/// Creates the durable consumer, or updates one that has other subjects.
async fn open(
    state: &BusState,
    subscription: &BusSubscription,
) -> Result<jetstream::consumer::Consumer<pull::Config>, String> {
    let name = match (&subscription.stream, subscription.subjects.first()) {
        (Some(name), _) => name.to_string(),
        (None, Some(subject)) => {
            let found = state.manager.stream_by_subject(subject.as_str()).await;
            found.map_err(|error| format!("no stream has the subject {subject}: {error}"))?
        }
        (None, None) => return Err("there is no subject".to_owned()),
    };
    let stream = state.manager.get_stream(&name).await.map_err(|error| format!("the stream {name}: {error}"))?;
    let subjects = subscription.subjects.iter().map(|subject| subject.as_str().to_owned());
    let config = pull::Config {
        durable_name: Some(subscription.durable.to_string()),
        filter_subjects: subjects.collect(),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: BUS_ACK_WAIT,
        max_ack_pending: BUS_MESSAGES_IN_FLIGHT as i64,
        ..pull::Config::default()
    };
    let opened = stream.create_consumer(config).await;
    opened.map_err(|error| format!("the consumer {} of the stream {name}: {error}", subscription.durable))
}

/// Accepts a message, and tells the broker the result.
async fn handle(source: &Source, receiver: &dyn MessageReceiver, message: &jetstream::Message) {
    let receipt = match inbound(message) {
        Ok(inbound) => receiver.receive(source, &inbound).await,
        Err(error) => {
            tracing::error!(target: "hooktide::bus", source = &*source.name, %error, "a message has no place in a stream");
            BusReceipt::Refused
        }
    };
    let kind = match receipt {
        BusReceipt::Accepted => AckKind::Ack,
        BusReceipt::Retry(after) => AckKind::Nak(Some(after.clamp(BUS_RETRY_DELAY_MIN, BUS_RETRY_DELAY_MAX))),
        BusReceipt::Refused => AckKind::Term,
    };
    if let Err(error) = message.ack_with(kind).await {
        // The message is delivered again, and is a duplicate then.
        tracing::warn!(target: "hooktide::bus", source = &*source.name, %error, "a message could not be acknowledged");
    }
}

fn inbound(message: &jetstream::Message) -> Result<InboundMessage, String> {
    let info = message.info().map_err(|error| error.to_string())?;
    let id = format!("{}:{}", info.stream, info.stream_sequence);
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.iter().flat_map(async_nats::HeaderMap::iter) {
        // Only what is valid in a request too can be stored with the event.
        let Ok(name) = HeaderName::try_from(name.to_string()) else { continue };
        for value in values.iter().filter_map(|value| HeaderValue::from_str(value.as_str()).ok()) {
            headers.append(name.clone(), value);
        }
    }
    if !headers.contains_key(&MESSAGE_ID) {
        // The time distinguishes a stream from a later one with its name.
        let published = info.published.unix_timestamp_nanos();
        headers.extend(HeaderValue::from_str(&format!("{id}:{published}")).map(|value| (MESSAGE_ID, value)));
    }
    headers.remove(&SUBJECT);
    headers.extend(HeaderValue::from_str(&message.subject).map(|value| (SUBJECT, value)));
    Ok(InboundMessage { subject: message.subject.to_string(), id, headers, body: message.payload.clone() })
}
