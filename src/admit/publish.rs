//! `POST /api/v1/events`: an application's own events, one or many.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::event_type::fits_catalogue;
use super::parse::{self, Item, Items, SyntaxError};
use super::reply::{self, Verdict};
use super::validate::{Checked, validate};
use super::{Admit, Directory, Limits};
use crate::handoff::{Refused, ReplyRouter};
use crate::http::incoming::Bounds;
use crate::http::request::{Head, MediaType, unsupported};
use crate::http::{FieldError, Problem, ProblemCode, Response};
use crate::ingest::{self, EventDraft, EventOrigin, Submit};
use crate::limits::{BATCH_EVENTS_MAX, RETRY_SOON};
use crate::model::{DedupBy, Principal, Timestamp};

/// When the disk is full, an operator has to come first.
const RETRY_AFTER_DISK_FULL: Duration = Duration::from_secs(30);

/// What a request says beside its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct PublishContext<'a> {
    pub(super) principal: &'a Principal,
    pub(super) media_type: MediaType,
    pub(super) idempotency_key: Option<&'a str>,
    pub(super) correlation_id: &'a str,
    pub(super) traceparent: Option<&'a str>,
    pub(super) hops: u8,
    pub(super) received_at: Timestamp,
    /// Of the thread that waits for the answer, if it has one.
    pub(super) desk: Option<&'a ReplyRouter>,
}

impl<'a> PublishContext<'a> {
    /// # Errors
    /// 400 and 415 for headers that cannot be taken.
    pub(super) fn of(
        head: &Head<'a>,
        principal: &'a Principal,
        request_id: &'a HeaderValue,
        received_at: Timestamp,
        desk: &'a ReplyRouter,
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

    /// A checked event as ingest takes it. `index` is its place in a request of many events.
    fn draft<'b>(&self, event: &'b Checked<'_>, index: Option<usize>) -> EventDraft<'b>
    where
        'a: 'b,
    {
        let by_key = self.idempotency_key.map(|key| DedupBy::IdempotencyKey { key, index });
        let of = (&*event.tenant, &*event.event_type);
        EventDraft {
            timestamp: event.timestamp,
            external_id: event.id.as_deref(),
            dedup_by: event.id.as_deref().map(DedupBy::Id).or(by_key),
            correlation_id: self.correlation_id,
            traceparent: self.traceparent,
            resource_id: event.resource_id.as_deref(),
            workspace_id: event.workspace_id.as_deref(),
            user_id: event.user_id.as_deref(),
            metadata: event.metadata,
            hops: self.hops,
            ..EventDraft::new(of, EventOrigin::Application, self.received_at, event.data.as_bytes())
        }
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
        let envelope = PublishContext {
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
    pub(super) async fn publish(&self, envelope: PublishContext<'_>, body: &Bytes) -> Result<Response, Problem> {
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

    async fn publish_one(
        &self,
        envelope: PublishContext<'_>,
        body: &Bytes,
        item: &Item<'_>,
    ) -> Result<Response, Problem> {
        if body.len() > self.limits.body_bytes {
            let detail = format!("at most {} bytes for one event", self.limits.body_bytes);
            return Err(Problem::new(ProblemCode::TooLarge, detail));
        }
        let event = validate(item, None, envelope.principal.tenant.as_deref(), &self.directory)
            .map_err(Problem::invalid_body)?;
        let warning = fits_catalogue(&event, "", &self.directory)?;
        let taking = self.ingest.take(&envelope.draft(&event, None), body, envelope.desk);
        match taking.await {
            ingest::Verdict::Taken { committed, webhooks } => {
                Ok(reply::single(committed, webhooks, warning.as_deref()))
            }
            ingest::Verdict::Refused(why) => Err(refused(why)),
        }
    }

    async fn publish_many(
        &self,
        envelope: PublishContext<'_>,
        body: &Bytes,
        items: &[Result<Item<'_>, SyntaxError>],
    ) -> Result<Response, Problem> {
        let mut builder = self.ingest.builder(body, items.len());
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
                builder.add(&envelope.draft(&event, Some(place)));
                Ok(())
            });
            places.push(checked.err());
        }
        for problem in places.iter().flatten() {
            self.metrics.refused.with_label_values(&[problem.code.as_str()]).inc();
        }
        let taken = self.ingest.submit(builder.finish(), envelope.desk).await.map_err(refused)?;
        if let Some(why) = nothing_fits(&taken) {
            return Err(refused(why));
        }
        let mut taken = taken.into_iter().map(|verdict| match verdict {
            ingest::Verdict::Taken { committed, webhooks } => Verdict::Taken(committed, webhooks),
            ingest::Verdict::Refused(why) => Verdict::Refused(refused(why)),
        });
        let verdicts: Option<Vec<_>> =
            places.into_iter().map(|refused| refused.map(Verdict::Refused).or_else(|| taken.next())).collect();
        // There is a verdict for each event that was submitted.
        Ok(reply::batch(&verdicts.ok_or_else(|| refused(Refused::Poisoned))?, &warnings))
    }
}

/// Why the request as a whole found no room, if nothing of it was taken and room is what an event of it missed.
fn nothing_fits(verdicts: &[ingest::Verdict]) -> Option<Refused> {
    let mut no_room = None;
    for verdict in verdicts {
        match verdict {
            ingest::Verdict::Taken { .. } => return None,
            ingest::Verdict::Refused(Refused::KeyReused) => {}
            ingest::Verdict::Refused(why) => no_room = Some(*why),
        }
    }
    no_room
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
