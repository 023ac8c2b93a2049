//! The HTTP client of a shard, which makes delivery attempts.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::Write;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use rustls::ClientConfig;
use tokio::time::{Sleep, sleep_until};

use super::connect::Connector;
use super::connection::Connection;
use super::dns::DnsResolver;
use super::pool::ConnectionPool;
use super::resolve::Resolve;
use super::response::PartialResponse;
use crate::handoff::{AttemptOutcome, AttemptRequest, TestAttempt, Transport};
use crate::limits::IN_FLIGHT_PER_SHARD;
use crate::model::AttemptError;
use crate::outbound::{DeliverySigner, EgressGuard, SentRequest, SharedEgressGuard, SignedDelivery, Webhook};
use crate::runtime::{Clock, Instant};

/// What a [`DeliveryClient`] needs.
#[derive(Debug, Clone)]
pub struct ClientSetup {
    /// The egress rules.
    pub guard: SharedEgressGuard,
    /// The TLS configuration, from [`super::tls_config`].
    pub tls: Arc<ClientConfig>,
    /// Both clocks. Signatures contain the wall clock's time.
    pub clock: Clock,
}

/// Delivers webhooks by HTTP/1.1 over connections that are kept alive. It is made in the thread of the shard and used
/// within its `LocalSet`, where the sweep of the connection pool runs.
pub struct DeliveryClient<R = DnsResolver> {
    connector: Connector<R>,
    pool: ConnectionPool,
    /// The egress rules under which the connections of the pool were made.
    rules: RefCell<Arc<EgressGuard>>,
    signer: RefCell<DeliverySigner>,
    timers: RefCell<Vec<Pin<Box<Sleep>>>>,
    clock: Clock,
}

/// A failed exchange.
struct ExchangeError {
    error: AttemptError,
    /// The receiver had closed the reused connection. The attempt continues on a new one.
    is_stale: bool,
}

impl<R: Resolve> DeliveryClient<R> {
    /// A client that resolves names with `resolver`.
    pub fn new(setup: ClientSetup, resolver: R) -> Self {
        Self {
            rules: RefCell::new(setup.guard.load_full()),
            connector: Connector::new(setup.guard, setup.tls, resolver),
            pool: ConnectionPool::new(setup.clock.clone()),
            signer: RefCell::default(),
            timers: RefCell::default(),
            clock: setup.clock,
        }
    }

    async fn attempt(&self, delivery: AttemptRequest<'_>, response: &mut PartialResponse) -> Result<(), AttemptError> {
        let signed = self.sign(delivery)?;
        self.send(delivery, &signed, response).await
    }

    fn sign(&self, delivery: AttemptRequest<'_>) -> Result<SignedDelivery, AttemptError> {
        self.signer
            .borrow_mut()
            .sign(delivery.webhook, delivery.event, delivery.attempt, delivery.began.wall)
            .map_err(|why| AttemptError::Unsigned(why.to_string().into()))
    }

    async fn send(
        &self,
        delivery: AttemptRequest<'_>,
        signed: &SignedDelivery,
        response: &mut PartialResponse,
    ) -> Result<(), AttemptError> {
        self.clear_pool_if_guard_changed();
        let webhook = delivery.webhook;
        if let Some(connection) = self.pool.take(&webhook.endpoint, webhook.tls.as_ref(), delivery.began.instant) {
            match self.exchange(connection, webhook, signed, response).await {
                Err(failure) if failure.is_stale => response.reset(),
                other => return other.map_err(|failure| failure.error),
            }
        }
        // Boxed: a new connection is rare and must not make every delivery's future as large as a TLS handshake.
        let connect = self.connector.connect(&webhook.endpoint, webhook.tls.as_deref(), &webhook.tenant);
        let connection = Box::pin(connect).await?;
        self.exchange(connection, webhook, signed, response).await.map_err(|failure| failure.error)
    }

    /// Closes the idle connections if the egress rules have changed since they were made.
    fn clear_pool_if_guard_changed(&self) {
        let now = self.connector.guard();
        let mut rules = self.rules.borrow_mut();
        if !Arc::ptr_eq(&now, &rules) {
            *rules = Arc::clone(&now);
            self.pool.clear();
        }
    }

    async fn exchange(
        &self,
        mut connection: Box<Connection>,
        webhook: &Webhook,
        signed: &SignedDelivery,
        response: &mut PartialResponse,
    ) -> Result<(), ExchangeError> {
        response.progress = Some(connection.progress());
        let request = signed.request(webhook, connection.take_headers());
        let sent = || response.sent_at = Some(self.clock.instant());
        let received = match connection.request(request, sent).await {
            Ok(received) => received,
            Err(why) => return Err(ExchangeError { error: hyper_error(&why), is_stale: connection.was_stale() }),
        };
        let kept = response.read(connection, received, &self.clock).await;
        let now = self.clock.instant();
        response.ended_at = Some(now);
        match kept {
            Ok(Some(connection)) => self.pool.put(&webhook.endpoint, webhook.tls.as_ref(), connection, now),
            Ok(None) => {}
            Err(why) => return Err(ExchangeError { error: hyper_error(&why), is_stale: false }),
        }
        Ok(())
    }

    /// Runs `work` until `deadline`. `None` if the deadline came first. Timers are reused: moving a running timer to a
    /// later time costs only a store of the time.
    async fn until<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
        let taken = self.timers.borrow_mut().pop();
        let mut timer = match taken {
            Some(mut timer) => {
                timer.as_mut().reset(deadline);
                timer
            }
            None => Box::pin(sleep_until(deadline)),
        };
        let mut work = pin!(work);
        let done = poll_fn(|cx| {
            // The timer is polled first: work that is always ready uses up tokio's budget for the poll, and then no
            // timer expires.
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await;
        let mut timers = self.timers.borrow_mut();
        if timers.len() < IN_FLIGHT_PER_SHARD {
            timers.push(timer);
        }
        done
    }
}

impl<R: Resolve> Transport for DeliveryClient<R> {
    async fn deliver(&self, delivery: AttemptRequest<'_>) -> AttemptOutcome {
        let mut response = PartialResponse::default();
        let deadline = delivery.began.instant + delivery.timeout;
        let done = self.until(deadline, self.attempt(delivery, &mut response)).await;
        self.outcome(delivery, done, response)
    }

    async fn deliver_test(&self, delivery: AttemptRequest<'_>) -> TestAttempt {
        let mut response = PartialResponse::keeping_all();
        let signed = self.sign(delivery);
        let request = signed.as_ref().ok().map(|signed| SentRequest::of(delivery.webhook, signed));
        let done = match signed {
            Ok(signed) => {
                let send = self.send(delivery, &signed, &mut response);
                self.until(delivery.began.instant + delivery.timeout, send).await
            }
            Err(why) => Some(Err(why)),
        };
        let (headers, body, is_cut) = response.take_all();
        TestAttempt { outcome: self.outcome(delivery, done, response), request, headers, body, is_cut }
    }
}

impl<R: Resolve> DeliveryClient<R> {
    /// The outcome of an attempt. `done` is `None` if the attempt timed out.
    fn outcome(
        &self,
        delivery: AttemptRequest<'_>,
        done: Option<Result<(), AttemptError>>,
        response: PartialResponse,
    ) -> AttemptOutcome {
        let ended_at = response.ended_at.unwrap_or_else(|| self.clock.instant());
        let result = match (done, response.status) {
            // The status decides, whatever becomes of the body.
            (_, Some(status)) if !status.is_success() => Err(AttemptError::Status(status.as_u16())),
            (None, _) => Err(AttemptError::Timeout),
            (Some(Err(why)), _) => Err(why),
            (Some(Ok(())), _) => Ok(()),
        };
        let status_received = response.progress.as_ref().and_then(|progress| progress.status());
        AttemptOutcome {
            result,
            http_status: response.status.map(|status| status.as_u16()).or(status_received),
            retry_after: response.retry_after,
            sent_at: response.sent_at,
            response: response.into_text(),
            latency: ended_at.saturating_duration_since(delivery.began.instant),
        }
    }
}

/// An [`AttemptError::Connect`] with the text of a hyper error and of its causes.
pub(super) fn hyper_error(why: &hyper::Error) -> AttemptError {
    let mut text = why.to_string();
    let mut cause = why.source();
    while let Some(why) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {why}");
        cause = why.source();
    }
    AttemptError::Connect(text.into())
}
