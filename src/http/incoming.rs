//! Reads request bodies, within limits of size, time and rate for each body and a memory budget for all bodies.

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming};

use super::body_budget::{BodyBudget, BodyOwner, BodyReservation};
use super::connection::ConnectionMonitor;
use super::{Problem, ProblemCode};
use crate::limits::INCOMPLETE_BODY_BYTES_MIN;

/// A complete body and its reservation in the [`BodyBudget`].
#[derive(Debug)]
pub struct ReceivedBody<R: Deref<Target = BodyBudget>> {
    /// The complete body.
    pub bytes: Bytes,
    /// `None` for an empty body.
    reservation: Option<BodyReservation<R>>,
}

impl<R: Deref<Target = BodyBudget>> ReceivedBody<R> {
    /// Records that the signature of the body is valid: its bytes are no longer part of what strangers may use.
    pub fn verified(&mut self) {
        if let Some(reservation) = &mut self.reservation {
            reservation.verified();
        }
    }
}

/// The limits of a body's size in bytes.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// The limit for every body.
    pub max_bytes: usize,
    /// Called with the first bytes of the body. Returns the limit for a body that starts this way.
    pub limit_for_start: fn(&[u8], BodyLimits) -> Result<usize, Problem>,
    /// The limit for a single event, for use by `limit_for_start`.
    pub single_bytes: usize,
}

impl BodyLimits {
    /// The same limit for every body.
    pub fn fixed(max_bytes: usize) -> Self {
        Self { max_bytes, limit_for_start: |_, limits| Ok(limits.max_bytes), single_bytes: max_bytes }
    }
}

/// Reads a body to its end.
///
/// # Errors
/// 413 as soon as the body is known to be too large, 408 when it is too slow, 503 when there is no room for it or it has to
/// give way, 400 when it ends early, and the error of `limits.limit_for_start`.
pub async fn read<'a>(
    incoming: Incoming,
    limits: BodyLimits,
    (budget, owner): (&'a BodyBudget, BodyOwner<'_>),
    monitor: &ConnectionMonitor,
) -> Result<ReceivedBody<&'a BodyBudget>, Problem> {
    let declared = declared_length(&incoming, limits.max_bytes)?;
    collect_body((incoming, monitor), declared, limits, (budget, owner)).await
}

/// Reads and discards a body of at most `max_bytes` declared bytes, so that its connection can be used again. A longer body
/// stays unread.
pub async fn discard(mut incoming: Incoming, max_bytes: usize, monitor: &ConnectionMonitor) {
    if declared_length(&incoming, max_bytes).is_ok_and(|declared| declared.is_some()) {
        while let Ok(chunk) = next(&mut incoming, monitor).await {
            if chunk.is_none() {
                return monitor.body_finished();
            }
        }
        monitor.body_paused();
    }
}

/// The declared length of a body, if it declares one.
///
/// # Errors
/// 413 when the length exceeds `max_bytes`.
pub(super) fn declared_length(incoming: &Incoming, max_bytes: usize) -> Result<Option<usize>, Problem> {
    let declared = incoming.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if declared.is_some_and(|declared| declared > max_bytes) { Err(too_large(max_bytes)) } else { Ok(declared) }
}

/// A source of the chunks of a body.
pub(super) trait BodyChunks {
    /// The next chunk. `None` at the end of the body.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Problem>>;
}

impl BodyChunks for (Incoming, &ConnectionMonitor) {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        next(&mut self.0, self.1).await
    }
}

/// Collects the chunks of a body. Memory is reserved as the chunks arrive.
///
/// # Errors
/// As for [`read`].
pub(super) async fn collect_body<R: Deref<Target = BodyBudget>>(
    mut parts: impl BodyChunks,
    declared: Option<usize>,
    limits: BodyLimits,
    (budget, owner): (R, BodyOwner<'_>),
) -> Result<ReceivedBody<R>, Problem> {
    let Some(first) = parts.next().await? else { return Ok(ReceivedBody { bytes: Bytes::new(), reservation: None }) };
    let max_bytes = (limits.limit_for_start)(&first, limits)?;
    if declared.unwrap_or(first.len()) > max_bytes {
        return Err(too_large(max_bytes));
    }
    if declared == Some(first.len()) {
        let reservation = Some(BodyReservation::complete(budget, owner, first.len())?);
        return Ok(ReceivedBody { bytes: first, reservation });
    }
    let most = declared.unwrap_or(max_bytes);
    let capacity = (first.len() * 2).max(INCOMPLETE_BODY_BYTES_MIN).min(most);
    let reserved = capacity.max(INCOMPLETE_BODY_BYTES_MIN);
    let mut reservation = BodyReservation::incomplete(budget, owner, reserved, first.len())?;
    let mut body = Vec::with_capacity(capacity);
    body.extend_from_slice(&first);
    drop(first);
    while let Some(more) = unless_evicted(&reservation, parts.next()).await? {
        let length = body.len() + more.len();
        if length > max_bytes {
            return Err(too_large(max_bytes));
        }
        reservation.arrived(more.len());
        if length > body.capacity() {
            let capacity = (body.capacity() * 2).min(most).max(length);
            reservation.grow_to(capacity)?;
            body.reserve_exact(capacity - body.len());
        }
        body.extend_from_slice(&more);
    }
    reservation.completed()?;
    Ok(ReceivedBody { bytes: body.into(), reservation: Some(reservation) })
}

/// Waits for the next chunk while the body does not have to give way.
async fn unless_evicted<R: Deref<Target = BodyBudget>>(
    reservation: &BodyReservation<R>,
    next: impl Future<Output = Result<Option<Bytes>, Problem>>,
) -> Result<Option<Bytes>, Problem> {
    let mut next = pin!(next);
    poll_fn(|cx| match reservation.poll_evicted(cx) {
        Poll::Ready(problem) => Poll::Ready(Err(problem)),
        Poll::Pending => next.as_mut().poll(cx),
    })
    .await
}

/// The next chunk. `None` at the end of the body. The time limit of the body starts only if the chunk has not arrived yet.
pub(super) async fn next(incoming: &mut Incoming, monitor: &ConnectionMonitor) -> Result<Option<Bytes>, Problem> {
    let mut waits = false;
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Pending if monitor.is_body_too_slow() => Poll::Ready(Some(Err(too_slow()))),
            Poll::Pending => {
                if !waits {
                    waits = true;
                    monitor.body_awaited();
                }
                Poll::Pending
            }
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(|error| read_error(&error)))),
        })
        .await;
        match frame.transpose()?.map(Frame::into_data) {
            None => return Ok(None),
            Some(Ok(data)) => {
                monitor.body_received(data.len());
                return Ok(Some(data));
            }
            // Trailers are ignored.
            Some(Err(_)) => {}
        }
    }
}

fn too_large(max_bytes: usize) -> Problem {
    Problem::new(ProblemCode::TooLarge, format!("at most {max_bytes} bytes"))
}

fn too_slow() -> Problem {
    Problem::new(ProblemCode::RequestTimeout, "the body came too slowly")
}

fn read_error(error: &hyper::Error) -> Problem {
    tracing::debug!(%error, "body broken off");
    Problem::new(ProblemCode::InvalidRequest, "the body ended early or its chunks are malformed")
}
