//! `POST /api/v1/events`: accepts one or several events of an application.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::event_type::check_application_event;
use super::parse::{self, ParsedBody, RawEvent, SyntaxError};
use super::reply::{self, EventResult};
use super::validate::{ValidEvent, validate};
use super::{Admit, RegistryReader, RequestLimits};
use crate::handoff::{CommitError, ReplyRouter};
use crate::http::incoming::BodyLimits;
use crate::http::request::{MediaType, RequestHead, unsupported};
use crate::http::{FieldError, Problem, ProblemCode, Response};
use crate::ingest::{self, EventDraft, EventOrigin, Submit};
use crate::limits::{BATCH_EVENTS_MAX, MANAGE_RETRY_AFTER};
use crate::model::{DedupBy, Principal, Timestamp};

/// The `Retry-After` of a full disk, which an operator must resolve.
const RETRY_AFTER_DISK_FULL: Duration = Duration::from_secs(30);

/// The properties of a publish request other than its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct PublishContext<'a> {
    pub(super) principal: &'a Principal,
    pub(super) media_type: MediaType,
    pub(super) idempotency_key: Option<&'a str>,
    pub(super) correlation_id: &'a str,
    pub(super) traceparent: Option<&'a str>,
    pub(super) hops: u8,
    pub(super) received_at: Timestamp,
    /// The reply router of the thread that waits for the commit, if it has one.
    pub(super) reply_router: Option<&'a ReplyRouter>,
}

impl<'a> PublishContext<'a> {
    /// Reads the headers of a request.
    ///
    /// # Errors
    /// 400 and 415 for invalid headers.
    pub(super) fn of(
        head: &RequestHead<'a>,
        principal: &'a Principal,
        request_id: &'a HeaderValue,
        received_at: Timestamp,
        reply_router: &'a ReplyRouter,
    ) -> Result<Self, Problem> {
        Ok(Self {
            principal,
            media_type: head.media_type()?,
            idempotency_key: head.idempotency_key()?,
            correlation_id: head.correlation_id().unwrap_or_else(|| request_id.to_str().unwrap_or_default()),
            traceparent: head.traceparent(),
            hops: head.hops()?,
            received_at,
            reply_router: Some(reply_router),
        })
    }

    /// The draft of a valid event for ingest. `index` is the index of the event in a batch.
    fn draft<'b>(&self, event: &'b ValidEvent<'_>, index: Option<usize>) -> EventDraft<'b>
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
            numeric_ids: event.numeric_ids,
            metadata: event.metadata,
            hops: self.hops,
            ..EventDraft::new(of, EventOrigin::Application, self.received_at, event.data.as_bytes())
        }
    }
}

/// The size limits of a body: a single object has a lower limit than an array or NDJSON.
pub(super) fn body_limits(media_type: MediaType, limits: RequestLimits) -> BodyLimits {
    let limit_for_start = match media_type {
        MediaType::Ndjson => |_: &[u8], limits: BodyLimits| Ok(limits.max_bytes),
        MediaType::Json => |start: &[u8], limits: BodyLimits| match first_character(start) {
            Some(b'[') | None => Ok(limits.max_bytes),
            Some(_) => Ok(limits.single_bytes),
        },
        MediaType::Unspecified => |start: &[u8], limits: BodyLimits| match first_character(start) {
            Some(b'[') | None => Ok(limits.max_bytes),
            Some(b'{') => Ok(limits.single_bytes),
            Some(_) => Err(not_json()),
        },
    };
    BodyLimits { max_bytes: limits.batch_bytes, limit_for_start, single_bytes: limits.body_bytes }
}

fn first_character(start: &[u8]) -> Option<u8> {
    start.iter().copied().find(|b| !b.is_ascii_whitespace())
}

fn not_json() -> Problem {
    unsupported("send application/json or application/x-ndjson")
}

impl<D: RegistryReader, S: Submit, M> Admit<D, S, M> {
    /// Publishes events that were not received over HTTP, as a JSON object or array.
    ///
    /// # Errors
    /// As for an HTTP request.
    pub async fn take(&self, principal: Principal, body: &Bytes) -> Result<Response, Problem> {
        let context = PublishContext {
            principal: &principal,
            media_type: MediaType::Json,
            idempotency_key: None,
            correlation_id: "",
            traceparent: None,
            hops: 0,
            received_at: self.clock.now(),
            reply_router: None,
        };
        self.publish(context, body).await
    }

    /// Publishes the events of a body. Returns the response after the events are durable.
    ///
    /// # Errors
    /// A problem that applies to the request as a whole.
    pub(super) async fn publish(&self, context: PublishContext<'_>, body: &Bytes) -> Result<Response, Problem> {
        let items = match context.media_type {
            MediaType::Ndjson => Ok(parse::ndjson(body)),
            MediaType::Json => parse::json(body),
            MediaType::Unspecified if matches!(first_character(body), Some(b'{' | b'[')) => parse::json(body),
            MediaType::Unspecified => return Err(not_json()),
        };
        let (items, count) = match items.map_err(|error| bad_json(&error))? {
            ParsedBody::Single(item) => return self.publish_one(context, body, &item).await,
            ParsedBody::Array(items, count) => (items.into_iter().map(Ok).collect(), count),
            ParsedBody::Lines(items, count) => (items, count),
            ParsedBody::Other => {
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
        self.publish_many(context, body, &items).await
    }

    async fn publish_one(
        &self,
        context: PublishContext<'_>,
        body: &Bytes,
        item: &RawEvent<'_>,
    ) -> Result<Response, Problem> {
        if body.len() > self.limits.body_bytes {
            let detail = format!("at most {} bytes for one event", self.limits.body_bytes);
            return Err(Problem::new(ProblemCode::TooLarge, detail));
        }
        let event =
            validate(item, None, context.principal.tenant.as_deref(), &self.registry).map_err(Problem::invalid_body)?;
        let warning = check_application_event(self, &event, "", body).await?;
        let taking = self.ingest.submit_event(&context.draft(&event, None), body, context.reply_router);
        match taking.await {
            ingest::IngestResult::Accepted { committed, webhooks } => {
                Ok(reply::accepted_response(committed, webhooks, warning.as_deref()))
            }
            ingest::IngestResult::Refused(why) => Err(refused(why)),
        }
    }

    async fn publish_many(
        &self,
        context: PublishContext<'_>,
        body: &Bytes,
        items: &[Result<RawEvent<'_>, SyntaxError>],
    ) -> Result<Response, Problem> {
        let mut builder = self.ingest.builder(body, items.len());
        // One entry for each event, in the order of the body: the refusal, or `None` for an event in the batch.
        let mut refusals = Vec::with_capacity(items.len());
        let mut warnings = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let own = context.principal.tenant.as_deref();
            let checked = match item {
                Ok(item) => validate(item, Some(index), own, &self.registry).map_err(Problem::invalid_body),
                Err(error) => Err(bad_json(error)),
            };
            let checked = match checked {
                Ok(event) => {
                    let warning = check_application_event(self, &event, &format!("/{index}"), body).await;
                    warning.map(|warning| (event, warning))
                }
                Err(problem) => Err(problem),
            };
            refusals.push(match checked {
                Ok((event, warning)) => {
                    warnings.extend(warning.map(|warning| (index, warning)));
                    builder.add(&context.draft(&event, Some(index)));
                    None
                }
                Err(problem) => Some(problem),
            });
        }
        for problem in refusals.iter().flatten() {
            self.metrics.refused.with_label_values(&[problem.code.as_str()]).inc();
        }
        let taken = self.ingest.submit(builder.finish(), context.reply_router).await.map_err(refused)?;
        if let Some(why) = refusal_of_all(&taken) {
            return Err(refused(why));
        }
        let mut taken = taken.into_iter().map(|verdict| match verdict {
            ingest::IngestResult::Accepted { committed, webhooks } => EventResult::Accepted(committed, webhooks),
            ingest::IngestResult::Refused(why) => EventResult::Rejected(refused(why)),
        });
        let verdicts: Option<Vec<_>> =
            refusals.into_iter().map(|refused| refused.map(EventResult::Rejected).or_else(|| taken.next())).collect();
        // Commit returns one verdict for each submitted event.
        Ok(reply::batch(&verdicts.ok_or_else(|| refused(CommitError::Poisoned))?, &warnings))
    }
}

/// The refusal of the request as a whole: `Some` if no event was accepted, because the idempotency key was used with
/// another body, or for lack of capacity.
fn refusal_of_all(verdicts: &[ingest::IngestResult]) -> Option<CommitError> {
    let mut refusal = None;
    for verdict in verdicts {
        match verdict {
            ingest::IngestResult::Accepted { .. } => return None,
            ingest::IngestResult::Refused(CommitError::KeyReused) => {
                refusal = refusal.or(Some(CommitError::KeyReused));
            }
            ingest::IngestResult::Refused(why) => refusal = Some(*why),
        }
    }
    refusal
}

fn bad_json(error: &SyntaxError) -> Problem {
    Problem::new(ProblemCode::InvalidJson, error.to_string())
}

pub(super) fn refused(why: CommitError) -> Problem {
    match why {
        CommitError::KeyReused => Problem::new(ProblemCode::IdempotencyKeyReused, why.to_string()),
        CommitError::Overloaded | CommitError::Poisoned => {
            Problem::new(ProblemCode::Overloaded, why.to_string()).retry_after(MANAGE_RETRY_AFTER)
        }
        CommitError::DiskFull => {
            Problem::new(ProblemCode::DiskFull, why.to_string()).retry_after(RETRY_AFTER_DISK_FULL)
        }
    }
}

/// 503 while the process is starting or draining. `None` while it accepts requests.
pub(super) fn unavailable(health: &super::ProcessHealth) -> Option<Problem> {
    if health.is_starting() {
        Some(Problem::new(ProblemCode::Starting, "the server is starting").retry_after(MANAGE_RETRY_AFTER))
    } else if health.is_draining() {
        Some(Problem::new(ProblemCode::Draining, "the server is stopping").retry_after(MANAGE_RETRY_AFTER))
    } else {
        None
    }
}

/// Whether the caller may publish.
///
/// # Errors
/// 403 for a viewer.
pub(super) fn may_publish(principal: &Principal) -> Result<(), Problem> {
    match principal.role {
        crate::model::Role::Viewer => Err(Problem::new(ProblemCode::Forbidden, "a viewer cannot publish")),
        _ => Ok(()),
    }
}
