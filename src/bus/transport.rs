//! Makes attempts by publishing to the stream.

use std::cell::RefCell;
use std::error::Error;

use async_nats::HeaderMap as BusHeaders;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, ErrorCode};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::timeout_at;

use super::connection::EventBusHandle;
use crate::handoff::{AttemptOutcome, AttemptRequest, TestAttempt, Transport};
use crate::model::AttemptError;
use crate::outbound::{DeliverySigner, SentRequest, SignedDelivery};
use crate::runtime::{Clock, Instant};

/// Publishes the deliveries of a shard. An attempt succeeds with the ack of the stream.
#[derive(Debug)]
pub struct BusTransport {
    bus: EventBusHandle,
    signer: RefCell<DeliverySigner>,
    clock: Clock,
}

/// The header by which the stream recognises a repeated message.
const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The header that makes any other stream refuse the message.
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// A message, ready to be published.
struct BusMessage {
    subject: String,
    id: String,
    signed: SignedDelivery,
}

impl BusTransport {
    /// A transport for one shard.
    pub fn new(bus: EventBusHandle, clock: Clock) -> Self {
        Self { bus, signer: RefCell::default(), clock }
    }

    /// Renders the subject and signs the message.
    fn message(&self, delivery: AttemptRequest<'_>) -> Result<BusMessage, AttemptError> {
        let undeliverable = |why: String| AttemptError::Undeliverable(why.into());
        let Some(template) = &delivery.webhook.endpoint.subject else {
            return Err(undeliverable("the webhook has no subject".to_owned()));
        };
        let subject = template.render(delivery.event).map_err(|error| undeliverable(error.to_string()))?;
        // The configuration can have changed since the webhook was created.
        if !self.bus.0.settings.allows(&subject) {
            return Err(undeliverable(format!("nats.subjects does not allow the subject {subject}")));
        }
        let (webhook, event) = (delivery.webhook, delivery.event);
        let signed = self.signer.borrow_mut().sign(webhook, event, delivery.attempt, delivery.began.wall);
        let signed = signed.map_err(|why| AttemptError::Unsigned(why.to_string().into()))?;
        Ok(BusMessage { subject, id: format!("{}:{}", event.id, webhook.id), signed })
    }

    /// Publishes a message and waits for its ack. Sets `sent_at` when the message is on the connection.
    async fn publish(
        &self,
        delivery: AttemptRequest<'_>,
        message: &BusMessage,
        sent_at: &mut Option<Instant>,
    ) -> Result<PublishAck, AttemptError> {
        let state = &*self.bus.0;
        let mut link = state.link();
        let lost = link.borrow().lost;
        if !state.is_connected() {
            return Err(AttemptError::Connect("not connected to NATS".into()));
        }
        let payload = message.signed.body_bytes();
        let headers = self.headers(delivery, message);
        let publish = PublishMessage::build().payload(payload).headers(headers);
        let sent = state.publisher.send_publish(message.subject.clone(), publish).await;
        let ack: PublishAckFuture = sent.map_err(|error| self.explain(&error, message))?;
        *sent_at = Some(self.clock.instant());
        tokio::select! {
            biased;
            ack = ack.into_future() => ack.map_err(|error| self.explain(&error, message)),
            // No ack arrives after that. The stream recognises a repeated message by its id.
            _ = link.wait_for(|link| link.lost > lost) => {
                Err(AttemptError::Connect("the connection to NATS was lost before the ack".into()))
            }
        }
    }

    fn headers(&self, delivery: AttemptRequest<'_>, message: &BusMessage) -> BusHeaders {
        let signed = message.signed.headers(delivery.webhook, HeaderMap::new());
        let mut headers = BusHeaders::new();
        for (name, value) in &signed {
            // Only text can be a header of a message.
            if let Ok(value) = value.to_str() {
                headers.append(name.as_str(), value);
            }
        }
        headers.insert(MESSAGE_ID, message.id.as_str());
        headers.insert(EXPECTED_STREAM, &*self.bus.0.settings.stream);
        headers
    }

    /// The error of an attempt for an error of the client or the broker.
    fn explain(&self, error: &PublishError, message: &BusMessage) -> AttemptError {
        let stream = &self.bus.0.settings.stream;
        let broker = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
        let too_large = |limit: String| {
            let bytes = message.signed.body_len();
            AttemptError::Undeliverable(format!("the message with its body of {bytes} bytes is over {limit}").into())
        };
        match (error.kind(), broker.map(jetstream::Error::error_code)) {
            (PublishErrorKind::MaxPayloadExceeded, _) => {
                too_large(format!("the max_payload of the NATS server, {} bytes", self.bus.0.client.max_payload()))
            }
            (_, Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM)) => {
                too_large(format!("the limit of the stream {stream}"))
            }
            (PublishErrorKind::TimedOut, _) => AttemptError::Timeout,
            (PublishErrorKind::StreamNotFound, _) => {
                AttemptError::Connect(format!("no stream of NATS takes the subject {}", message.subject).into())
            }
            _ => AttemptError::Connect(match broker {
                Some(broker) => format!("NATS refused the message: {broker}").into(),
                None => error.to_string().into(),
            }),
        }
    }

    /// Makes an attempt whose message is `message`.
    async fn attempt(
        &self,
        delivery: AttemptRequest<'_>,
        message: Result<BusMessage, AttemptError>,
    ) -> (AttemptOutcome, Option<BusMessage>) {
        let mut sent_at = None;
        let (result, message) = match message {
            Ok(message) => {
                let deadline = delivery.began.instant + delivery.timeout;
                let published = timeout_at(deadline, self.publish(delivery, &message, &mut sent_at)).await;
                (published.unwrap_or(Err(AttemptError::Timeout)), Some(message))
            }
            Err(error) => (Err(error), None),
        };
        let response = result.as_ref().map(|ack| shown(ack, message.as_ref())).unwrap_or_default();
        let outcome = AttemptOutcome {
            result: result.map(drop),
            http_status: None,
            retry_after: None,
            response: response.into(),
            latency: self.clock.instant().saturating_duration_since(delivery.began.instant),
            sent_at,
        };
        (outcome, message)
    }
}

/// The ack as JSON, for the history.
fn shown(ack: &PublishAck, message: Option<&BusMessage>) -> String {
    let PublishAck { stream, sequence, duplicate, .. } = ack;
    let subject = message.map(|message| &*message.subject);
    serde_json::json!({ "stream": stream, "seq": sequence, "duplicate": duplicate, "subject": subject }).to_string()
}

impl Transport for BusTransport {
    async fn deliver(&self, delivery: AttemptRequest<'_>) -> AttemptOutcome {
        let message = self.message(delivery);
        self.attempt(delivery, message).await.0
    }

    async fn deliver_test(&self, delivery: AttemptRequest<'_>) -> TestAttempt {
        let message = self.message(delivery);
        let (outcome, message) = self.attempt(delivery, message).await;
        let request = message.map(|message| {
            let mut request = SentRequest::of(delivery.webhook, &message.signed);
            let id = HeaderName::try_from(MESSAGE_ID).ok().zip(HeaderValue::from_str(&message.id).ok());
            request.headers.extend(id);
            request
        });
        TestAttempt { request, ..TestAttempt::from(outcome) }
    }
}
