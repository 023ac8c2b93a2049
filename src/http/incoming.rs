//! Reads request bodies, within limits of size, time and rate for each body and a memory budget for all bodies.

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Frame, Incoming};

use super::connection::ConnectionMonitor;
use super::{Problem, ProblemCode};
use crate::limits::BODIES_IN_FLIGHT_BYTES;

/// The largest buffer that is allocated for a declared length before the bytes arrive.
const ALLOCATED_AHEAD_MAX: usize = 64 * 1024;

/// The memory budget for bodies that are being read or wait for their commit. Its size is [`BODIES_IN_FLIGHT_BYTES`].
#[derive(Debug, Default)]
pub struct BodyBudget {
    used: AtomicUsize,
}

impl BodyBudget {
    /// An unused budget.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn take(&self, bytes: usize) -> bool {
        let free = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes <= BODIES_IN_FLIGHT_BYTES;
        if !free {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        free
    }
}

/// Bytes reserved from a [`BodyBudget`]. They are released on drop.
#[derive(Debug)]
pub(super) struct BodyReservation<R: Deref<Target = BodyBudget>> {
    budget: R,
    bytes: usize,
}

impl<R: Deref<Target = BodyBudget>> BodyReservation<R> {
    /// The declared length of a body, if it declares one, and a reservation of this size.
    ///
    /// # Errors
    /// 413 when the declared length exceeds `max_bytes`, 503 when the budget is used up.
    pub(super) fn for_declared_length(
        incoming: &Incoming,
        max_bytes: usize,
        budget: R,
    ) -> Result<(Option<usize>, Self), Problem> {
        let mut reservation = Self { budget, bytes: 0 };
        let declared = incoming.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if let Some(declared) = declared {
            if declared > max_bytes {
                return Err(too_large(max_bytes));
            }
            reservation.grow_to(declared)?;
        }
        Ok((declared, reservation))
    }

    fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.budget.take(more) {
            return Err(Problem::new(ProblemCode::Overloaded, "too many bodies are being read")
                .retry_after(std::time::Duration::from_secs(1)));
        }
        self.bytes += more;
        Ok(())
    }
}

impl<R: Deref<Target = BodyBudget>> Drop for BodyReservation<R> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A complete body and its reservation in the [`BodyBudget`].
#[derive(Debug)]
pub struct ReceivedBody<R: Deref<Target = BodyBudget>> {
    /// The complete body.
    pub bytes: Bytes,
    _reservation: BodyReservation<R>,
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
/// 413 as soon as the body is known to be too large, 408 when it is too slow, 503 when the budget is used up, 400 when it
/// ends early, and the error of `limits.limit_for_start`.
pub async fn read<'a>(
    incoming: Incoming,
    limits: BodyLimits,
    budget: &'a BodyBudget,
    monitor: &ConnectionMonitor,
) -> Result<ReceivedBody<&'a BodyBudget>, Problem> {
    let (declared, reservation) = BodyReservation::for_declared_length(&incoming, limits.max_bytes, budget)?;
    collect_body((incoming, monitor), declared, limits, reservation).await
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

/// Collects the chunks of a body.
///
/// # Errors
/// As for [`read`].
pub(super) async fn collect_body<R: Deref<Target = BodyBudget>>(
    mut parts: impl BodyChunks,
    declared: Option<usize>,
    limits: BodyLimits,
    mut reservation: BodyReservation<R>,
) -> Result<ReceivedBody<R>, Problem> {
    let Some(first) = parts.next().await? else {
        return Ok(ReceivedBody { bytes: Bytes::new(), _reservation: reservation });
    };
    let max_bytes = (limits.limit_for_start)(&first, limits)?;
    if declared.unwrap_or(first.len()) > max_bytes {
        return Err(too_large(max_bytes));
    }
    reservation.grow_to(first.len())?;
    if declared == Some(first.len()) {
        return Ok(ReceivedBody { bytes: first, _reservation: reservation });
    }
    let mut body = BytesMut::with_capacity(declared.unwrap_or(first.len() * 2).min(ALLOCATED_AHEAD_MAX));
    body.extend_from_slice(&first);
    drop(first);
    while let Some(more) = parts.next().await? {
        if body.len() + more.len() > max_bytes {
            return Err(too_large(max_bytes));
        }
        reservation.grow_to(body.len() + more.len())?;
        body.extend_from_slice(&more);
    }
    Ok(ReceivedBody { bytes: body.freeze(), _reservation: reservation })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_one_budget_and_release_it() {
        let budget = BodyBudget::new();
        let mut first = BodyReservation { budget: &*budget, bytes: 0 };
        first.grow_to(BODIES_IN_FLIGHT_BYTES).unwrap();
        let mut second = BodyReservation { budget: Arc::clone(&budget), bytes: 0 };
        assert_eq!(second.grow_to(1).unwrap_err().code, ProblemCode::Overloaded);
        drop(first);
        second.grow_to(1).unwrap();
        drop(second);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
