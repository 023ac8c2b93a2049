//! The HTTP client of a shard.

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
use super::pool::Pool;
use super::resolve::{Resolve, SystemResolver};
use super::response::Answer;
use crate::handoff::{AttemptRequest, Outcome, Probed, Transport};
use crate::limits::IN_FLIGHT_PER_SHARD;
use crate::model::AttemptError;
use crate::outbound::{Guard, SentRequest, SharedGuard, Signed, Signer, Webhook};
use crate::runtime::{Clock, Instant};

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct ClientSetup {
    /// Where deliveries may go.
    pub guard: SharedGuard,
    /// From [`super::tls_config`].
    pub tls: Arc<ClientConfig>,
    /// The wall clock goes into signatures.
    pub clock: Clock,
}

/// Carries parcels by HTTP/1.1 over connections that are kept alive. Made in the shard's thread and used within its
/// `LocalSet`, where the pool's sweep runs.
pub struct Client<R = SystemResolver> {
    connector: Connector<R>,
    pool: Pool,
    /// The rules that the pool's connections were made under.
    rules: RefCell<Arc<Guard>>,
    signer: RefCell<Signer>,
    timers: RefCell<Vec<Pin<Box<Sleep>>>>,
    clock: Clock,
}

/// A failed exchange.
struct Failure {
    error: AttemptError,
    /// The connection was stale: try a new one.
    is_stale: bool,
}

impl Client {
    /// A client that asks the system for addresses.
    pub fn new(setup: ClientSetup) -> Self {
        Self::with_resolver(setup, SystemResolver)
    }
}

impl<R: Resolve> Client<R> {
    /// A client that asks `resolver` for addresses.
    pub fn with_resolver(setup: ClientSetup, resolver: R) -> Self {
        Self {
            rules: RefCell::new(setup.guard.load_full()),
            connector: Connector::new(setup.guard, setup.tls, resolver),
            pool: Pool::new(setup.clock.clone()),
            signer: RefCell::default(),
            timers: RefCell::default(),
            clock: setup.clock,
        }
    }

    async fn attempt(&self, parcel: AttemptRequest<'_>, answer: &mut Answer) -> Result<(), AttemptError> {
        let signed = self.sign(parcel)?;
        self.send(parcel, &signed, answer).await
    }

    fn sign(&self, parcel: AttemptRequest<'_>) -> Result<Signed, AttemptError> {
        self.signer
            .borrow_mut()
            .sign(parcel.webhook, parcel.event, parcel.attempt, parcel.began.wall)
            .map_err(|why| AttemptError::Unsigned(why.to_string().into()))
    }

    async fn send(&self, parcel: AttemptRequest<'_>, signed: &Signed, answer: &mut Answer) -> Result<(), AttemptError> {
        self.keep_to_rules();
        let webhook = parcel.webhook;
        if let Some(connection) = self.pool.take(&webhook.endpoint, webhook.tls.as_ref(), parcel.began.instant) {
            match self.exchange(connection, webhook, signed, answer).await {
                Err(failure) if failure.is_stale => answer.begin_again(),
                other => return other.map_err(|failure| failure.error),
            }
        }
        // Boxed: the rare case must not make the future of each delivery as large as a TLS handshake.
        let connection = Box::pin(self.connector.connect(&webhook.endpoint, webhook.tls.as_deref())).await?;
        self.exchange(connection, webhook, signed, answer).await.map_err(|failure| failure.error)
    }

    /// Connections that were made under other rules are not used again.
    fn keep_to_rules(&self) {
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
        signed: &Signed,
        answer: &mut Answer,
    ) -> Result<(), Failure> {
        let request = signed.request(webhook, connection.take_headers());
        let sent = || answer.sent_at = Some(self.clock.instant());
        let response = match connection.request(request, sent).await {
            Ok(response) => response,
            Err(why) => return Err(Failure { error: broken(&why), is_stale: connection.was_stale() }),
        };
        let kept = answer.read(connection, response, &self.clock).await;
        let now = self.clock.instant();
        answer.ended_at = Some(now);
        match kept {
            Ok(Some(connection)) => self.pool.put(&webhook.endpoint, webhook.tls.as_ref(), connection, now),
            Ok(None) => {}
            Err(why) => return Err(Failure { error: broken(&why), is_stale: false }),
        }
        Ok(())
    }

    /// Runs `work` until `deadline`. Timers are used again: to move one that is running to a later time costs no more
    /// than writing the time down.
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
            // The timer first: work that is always ready uses up tokio's budget for this poll, after which no timer
            // looks expired.
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

impl<R: Resolve> Transport for Client<R> {
    async fn carry(&self, parcel: AttemptRequest<'_>) -> Outcome {
        let mut answer = Answer::default();
        let deadline = parcel.began.instant + parcel.timeout;
        let done = self.until(deadline, self.attempt(parcel, &mut answer)).await;
        self.outcome(parcel, done, answer)
    }

    async fn probe(&self, parcel: AttemptRequest<'_>) -> Probed {
        let mut answer = Answer::whole();
        let signed = self.sign(parcel);
        let request = signed.as_ref().ok().map(|signed| SentRequest::of(parcel.webhook, signed));
        let done = match signed {
            Ok(signed) => {
                let send = self.send(parcel, &signed, &mut answer);
                self.until(parcel.began.instant + parcel.timeout, send).await
            }
            Err(why) => Some(Err(why)),
        };
        let (headers, body, is_cut) = answer.shown();
        Probed { outcome: self.outcome(parcel, done, answer), request, headers, body, is_cut }
    }
}

impl<R: Resolve> Client<R> {
    /// What came of an attempt; `done` is nothing where its time was over before.
    fn outcome(&self, parcel: AttemptRequest<'_>, done: Option<Result<(), AttemptError>>, answer: Answer) -> Outcome {
        let ended_at = answer.ended_at.unwrap_or_else(|| self.clock.instant());
        let result = match (done, answer.status) {
            (None, _) => Err(AttemptError::Timeout),
            (Some(Err(why)), _) => Err(why),
            (Some(Ok(())), Some(status)) if !status.is_success() => Err(AttemptError::Status(status.as_u16())),
            (Some(Ok(())), _) => Ok(()),
        };
        Outcome {
            result,
            http_status: answer.status.map(|status| status.as_u16()),
            retry_after: answer.retry_after,
            sent_at: answer.sent_at,
            response: answer.into_text(),
            latency: ended_at.saturating_duration_since(parcel.began.instant),
        }
    }
}

/// hyper's own words are few; the causes below say the rest.
pub(super) fn broken(why: &hyper::Error) -> AttemptError {
    let mut text = why.to_string();
    let mut cause = why.source();
    while let Some(why) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {why}");
        cause = why.source();
    }
    AttemptError::Connect(text.into())
}
