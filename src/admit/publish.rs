//! `POST /api/v1/events`: an application's own events, one or many.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use smallvec::SmallVec;

use super::batch::Batch;
use super::body::Bounds;
use super::event_type::fits_catalogue;
use super::parse::{self, Item, Items, SyntaxError};
use super::reply::{self, Verdict, Verdicts};
use super::request::{Head, MediaType, unsupported};
use super::validate::validate;
use super::{Admit, Directory, Limits, Submit};
use crate::handoff::{Admitted, Desk, Refused, Reply, Submission};
use crate::http::{FieldError, Problem, ProblemCode, Response};
use crate::limits::{BATCH_EVENTS_MAX, RETRY_SOON};
use crate::model::{Principal, Timestamp};

/// When the disk is full, an operator has to come first.
const RETRY_AFTER_DISK_FULL: Duration = Duration::from_secs(30);

/// What a request says beside its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope<'a> {
    pub(super) principal: &'a Principal,
    pub(super) media_type: MediaType,
    pub(super) idempotency_key: Option<&'a str>,
    pub(super) correlation_id: &'a str,
    pub(super) traceparent: Option<&'a str>,
    pub(super) hops: u8,
    pub(super) received_at: Timestamp,
    /// Of the thread that waits for the answer, if it has one.
    pub(super) desk: Option<&'a Desk>,
}

impl<'a> Envelope<'a> {
    /// # Errors
    /// 400 and 415 for headers that cannot be taken.
    pub(super) fn of(
        head: &Head<'a>,
        principal: &'a Principal,
        request_id: &'a HeaderValue,
        received_at: Timestamp,
        desk: &'a Desk,
    ) -> Result<Self, Problem> {
        Ok(Self {
            principal,
            media_type: head.media_type()?,
            idempotency_key: head.idempotency_key()?,
            correlation_id: head.correlation_id().unwrap_or_else(|| request_id.to_str().unwrap_or_default()),
            traceparent: head.traceparent(),
            hops: head.hops()?,
            received_at,
            desk: Some(desk),
        })
    }
}

/// What the body of a request may weigh: an object less than an array or lines.
pub(super) fn bounds(media_type: MediaType, limits: Limits) -> Bounds {
    let by_start = match media_type {
        MediaType::Ndjson => |_: &[u8], bounds: Bounds| Ok(bounds.most),
        MediaType::Json => |start: &[u8], bounds: Bounds| match first_character(start) {
            Some(b'[') | None => Ok(bounds.most),
            Some(_) => Ok(bounds.single),
        },
        MediaType::Unsaid => |start: &[u8], bounds: Bounds| match first_character(start) {
            Some(b'[') | None => Ok(bounds.most),
            Some(b'{') => Ok(bounds.single),
            Some(_) => Err(not_json()),
        },
    };
    Bounds { most: limits.batch_bytes, by_start, single: limits.body_bytes }
}

fn first_character(start: &[u8]) -> Option<u8> {
    start.iter().copied().find(|b| !b.is_ascii_whitespace())
}

fn not_json() -> Problem {
    unsupported("send application/json or application/x-ndjson")
}

impl<D: Directory, S: Submit, M> Admit<D, S, M> {
    /// Takes events that did not come over HTTP, as JSON: an object or an array.
    ///
    /// # Errors
    /// As for a request.
    pub async fn take(&self, principal: Principal, body: &Bytes) -> Result<Response, Problem> {
        let envelope = Envelope {
            principal: &principal,
            media_type: MediaType::Json,
            idempotency_key: None,
            correlation_id: "",
            traceparent: None,
            hops: 0,
            received_at: self.clock.now(),
            desk: None,
        };
        self.publish(envelope, body).await
    }

    /// Takes a body's events, and answers when they are on the disk.
    ///
    /// # Errors
    /// Whatever refuses the request as a whole.
    pub(super) async fn publish(&self, envelope: Envelope<'_>, body: &Bytes) -> Result<Response, Problem> {
        let items = match envelope.media_type {
            MediaType::Ndjson => parse::ndjson(body),
            MediaType::Json => parse::json(body),
            MediaType::Unsaid if matches!(first_character(body), Some(b'{' | b'[')) => parse::json(body),
            MediaType::Unsaid => return Err(not_json()),
        };
        let (items, count) = match items.map_err(|error| bad_json(&error))? {
            Items::One(item) => return self.publish_one(envelope, body, &item).await,
            Items::Many(items, count) => (items.into_iter().map(Ok).collect(), count),
            Items::Lines(items, count) => (items, count),
            Items::Neither => {
                return Err(Problem::invalid_body(vec![FieldError::new(
                    "",
                    "must be an object or an array of objects",
                )]));
            }
        };
        if !(1..=BATCH_EVENTS_MAX).contains(&count) {
            let detail = format!("must have 1 to {BATCH_EVENTS_MAX} events, has {count}");
            return Err(Problem::invalid_body(vec![FieldError::new("", detail)]));
        }
        self.publish_many(envelope, body, &items).await
    }

    async fn publish_one(&self, envelope: Envelope<'_>, body: &Bytes, item: &Item<'_>) -> Result<Response, Problem> {
        if body.len() > self.limits.body_bytes {
            let detail = format!("at most {} bytes for one event", self.limits.body_bytes);
            return Err(Problem::new(ProblemCode::TooLarge, detail));
        }
        let event = validate(item, None, envelope.principal.tenant.as_deref(), &self.directory)
            .map_err(Problem::invalid_body)?;
        let warning = fits_catalogue(&event, "", &self.directory)?;
        let mut batch = Batch::new(envelope, body, 1);
        batch.add(&event, None, &self.directory);
        match self.commit(batch, body).await?.pop() {
            Some(Verdict::Taken(taken, webhooks)) => Ok(reply::single(taken, webhooks, warning.as_deref())),
            Some(Verdict::Refused(problem)) => Err(problem),
            None => Err(lost()),
        }
    }

    async fn publish_many(
        &self,
        envelope: Envelope<'_>,
        body: &Bytes,
        items: &[Result<Item<'_>, SyntaxError>],
    ) -> Result<Response, Problem> {
        let mut batch = Batch::new(envelope, body, items.len());
        // In the order sent: a refusal, or a place in the batch.
        let mut places = Vec::with_capacity(items.len());
        let mut warnings = Vec::new();
        for (place, item) in items.iter().enumerate() {
            let own = envelope.principal.tenant.as_deref();
            let checked = match item {
                Ok(item) => validate(item, Some(place), own, &self.directory).map_err(Problem::invalid_body),
                Err(error) => Err(bad_json(error)),
            };
            let checked = checked.and_then(|event| {
                let warning = fits_catalogue(&event, &format!("/{place}"), &self.directory)?;
                warnings.extend(warning.map(|warning| (place, warning)));
                batch.add(&event, Some(place), &self.directory);
                Ok(())
            });
            places.push(checked.err());
        }
        for problem in places.iter().flatten() {
            self.metrics.refused.with_label_values(&[problem.code.as_str()]).inc();
        }
        let taken = if batch.is_empty() { Verdicts::new() } else { self.commit(batch, body).await? };
        if let Some(problem) = nothing_fits(&taken) {
            return Err(problem);
        }
        let mut taken = taken.into_iter();
        let verdicts: Option<Vec<_>> =
            places.into_iter().map(|refused| refused.map(Verdict::Refused).or_else(|| taken.next())).collect();
        Ok(reply::batch(&verdicts.ok_or_else(lost)?, &warnings))
    }

    async fn commit(&self, batch: Batch<'_>, body: &Bytes) -> Result<Verdicts, Problem> {
        let desk = batch.desk();
        let (events, counts) = batch.finish();
        self.hand_in(events, counts, body.len(), desk).await
    }

    /// Through the door and onto the disk; one verdict for each event. `counts` are the webhooks of each, `bytes` what the
    /// request's buffer takes.
    ///
    /// # Errors
    /// If the request as a whole finds no room, or the log is gone.
    pub(super) async fn hand_in(
        &self,
        events: SmallVec<[Admitted; 1]>,
        counts: SmallVec<[usize; 1]>,
        bytes: usize,
        desk: Option<&Desk>,
    ) -> Result<Verdicts, Problem> {
        let deliveries = counts.iter().sum();
        let permit = self.door.enter(deliveries, bytes).await.ok_or_else(|| refused(Refused::Overloaded))?;
        let (reply, verdicts) = desk.map_or_else(Reply::direct, Desk::reply);
        let submission = Submission { events, permit, lease: self.memory.lease(bytes), reply };
        self.submit.submit(submission).map_err(|(why, _)| refused(why))?;
        let verdicts = verdicts.await.map_err(|_| lost())?;
        if verdicts.len() != counts.len() {
            return Err(lost());
        }
        let told = verdicts.into_iter().zip(counts).map(|(verdict, webhooks)| match verdict {
            Ok(taken) => Verdict::Taken(taken, webhooks),
            Err(why) => Verdict::Refused(refused(why)),
        });
        Ok(told.collect())
    }
}

/// Whether the request as a whole found no room: nothing of it was taken, and something only for that.
fn nothing_fits(verdicts: &[Verdict]) -> Option<Problem> {
    let mut no_room = None;
    for verdict in verdicts {
        match verdict {
            Verdict::Taken(..) => return None,
            Verdict::Refused(problem) if problem.code.status().is_server_error() => no_room = Some(problem),
            Verdict::Refused(_) => {}
        }
    }
    no_room.cloned()
}

fn bad_json(error: &SyntaxError) -> Problem {
    Problem::new(ProblemCode::InvalidJson, error.to_string())
}

pub(super) fn refused(why: Refused) -> Problem {
    match why {
        Refused::KeyReused => Problem::new(ProblemCode::IdempotencyKeyReused, why.to_string()),
        Refused::Overloaded | Refused::Poisoned => {
            Problem::new(ProblemCode::Overloaded, why.to_string()).retry_after(RETRY_SOON)
        }
        Refused::DiskFull => Problem::new(ProblemCode::DiskFull, why.to_string()).retry_after(RETRY_AFTER_DISK_FULL),
    }
}

/// The commit thread went without a verdict: whether the event is on the disk shows at the next start, so the sender is to
/// try again, which its id makes harmless.
pub(super) fn lost() -> Problem {
    refused(Refused::Poisoned)
}

/// 503 in the phases of the process in which nothing new is taken.
pub(super) fn closed(health: &super::Health) -> Option<Problem> {
    if health.is_starting() {
        Some(Problem::new(ProblemCode::Starting, "the server is starting").retry_after(RETRY_SOON))
    } else if health.is_draining() {
        Some(Problem::new(ProblemCode::Draining, "the server is stopping").retry_after(RETRY_SOON))
    } else {
        None
    }
}

/// Whether the caller may publish.
///
/// # Errors
/// 403 for those who only read.
pub(super) fn may_publish(principal: &Principal) -> Result<(), Problem> {
    match principal.role {
        crate::model::Role::Viewer => Err(Problem::new(ProblemCode::Forbidden, "a viewer cannot publish")),
        _ => Ok(()),
    }
}
