//! Reading a body, within its bounds of size, time and rate, and all bodies together within theirs.

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Frame, Incoming};

use super::connection::Watch;
use super::{Problem, ProblemCode};
use crate::limits::BODIES_IN_FLIGHT_BYTES;

/// The most that a declared length makes us allocate before a byte of it has come.
const ALLOCATED_AHEAD_MAX: usize = 64 * 1024;

/// Counts the bodies that are being read or wait for their commit against [`BODIES_IN_FLIGHT_BYTES`].
#[derive(Debug, Default)]
pub struct BodyRoom {
    used: AtomicUsize,
}

impl BodyRoom {
    /// Nothing counted yet.
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

/// A share of the [`BodyRoom`], given back on drop.
#[derive(Debug)]
pub(super) struct Share<R: Deref<Target = BodyRoom>> {
    room: R,
    bytes: usize,
}

impl<R: Deref<Target = BodyRoom>> Share<R> {
    /// The length that a body declares, and a share of that size.
    pub(super) fn for_declared(incoming: &Incoming, most: usize, room: R) -> Result<(Option<usize>, Self), Problem> {
        let mut share = Self { room, bytes: 0 };
        let declared = incoming.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if let Some(declared) = declared {
            if declared > most {
                return Err(too_large(most));
            }
            share.grow_to(declared)?;
        }
        Ok((declared, share))
    }

    fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.room.take(more) {
            return Err(Problem::new(ProblemCode::Overloaded, "too many bodies are being read")
                .retry_after(std::time::Duration::from_secs(1)));
        }
        self.bytes += more;
        Ok(())
    }
}

impl<R: Deref<Target = BodyRoom>> Drop for Share<R> {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A complete body, with its share of the [`BodyRoom`].
#[derive(Debug)]
pub struct Complete<R: Deref<Target = BodyRoom>> {
    /// All of it.
    pub bytes: Bytes,
    _share: Share<R>,
}

/// What a body may weigh.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// At the most, whatever it holds.
    pub most: usize,
    /// Called with the body's first bytes: what they allow.
    pub by_start: fn(&[u8], Bounds) -> Result<usize, Problem>,
    /// For `by_start`: what anything but a batch may weigh.
    pub single: usize,
}

impl Bounds {
    /// One bound for whatever comes.
    pub fn flat(most: usize) -> Self {
        Self { most, by_start: |_, bounds| Ok(bounds.most), single: most }
    }
}

/// Reads a body to its end.
///
/// # Errors
/// 413 as soon as it is known to be too large, 408 when it is too slow, 503 when too many are being read, 400 when it ends
/// early, and what `bounds.by_start` says.
pub async fn read<'a>(
    incoming: Incoming,
    bounds: Bounds,
    room: &'a BodyRoom,
    watch: &Watch,
) -> Result<Complete<&'a BodyRoom>, Problem> {
    let (declared, share) = Share::for_declared(&incoming, bounds.most, room)?;
    gather((incoming, watch), declared, bounds, share).await
}

/// Where the parts of a body come from.
pub(super) trait Parts {
    /// The next bytes; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Problem>>;
}

impl Parts for (Incoming, &Watch) {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        next(&mut self.0, self.1).await
    }
}

/// Puts a body together.
pub(super) async fn gather<R: Deref<Target = BodyRoom>>(
    mut parts: impl Parts,
    declared: Option<usize>,
    bounds: Bounds,
    mut share: Share<R>,
) -> Result<Complete<R>, Problem> {
    let Some(first) = parts.next().await? else {
        return Ok(Complete { bytes: Bytes::new(), _share: share });
    };
    let most = (bounds.by_start)(&first, bounds)?;
    if declared.unwrap_or(first.len()) > most {
        return Err(too_large(most));
    }
    share.grow_to(first.len())?;
    if declared == Some(first.len()) {
        return Ok(Complete { bytes: first, _share: share });
    }
    let mut whole = BytesMut::with_capacity(declared.unwrap_or(first.len() * 2).min(ALLOCATED_AHEAD_MAX));
    whole.extend_from_slice(&first);
    drop(first);
    while let Some(more) = parts.next().await? {
        if whole.len() + more.len() > most {
            return Err(too_large(most));
        }
        share.grow_to(whole.len() + more.len())?;
        whole.extend_from_slice(&more);
    }
    Ok(Complete { bytes: whole.freeze(), _share: share })
}

/// The next bytes; `None` at the end. The watch is told to look at the time only if they are not here yet.
pub(super) async fn next(incoming: &mut Incoming, watch: &Watch) -> Result<Option<Bytes>, Problem> {
    let mut waits = false;
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Pending if watch.is_body_late() => Poll::Ready(Some(Err(too_slow()))),
            Poll::Pending => {
                if !waits {
                    waits = true;
                    watch.body_waits();
                }
                Poll::Pending
            }
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(|error| broken(&error)))),
        })
        .await;
        match frame.transpose()?.map(Frame::into_data) {
            None => return Ok(None),
            Some(Ok(data)) => {
                watch.body_grows(data.len());
                return Ok(Some(data));
            }
            // Trailers are of no use here.
            Some(Err(_)) => {}
        }
    }
}

fn too_large(most: usize) -> Problem {
    Problem::new(ProblemCode::TooLarge, format!("at most {most} bytes"))
}

fn too_slow() -> Problem {
    Problem::new(ProblemCode::RequestTimeout, "the body came too slowly")
}

fn broken(error: &hyper::Error) -> Problem {
    tracing::debug!(%error, "body broken off");
    Problem::new(ProblemCode::InvalidRequest, "the body ended early or its chunks are malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_one_room_and_give_it_back() {
        let room = BodyRoom::new();
        let mut first = Share { room: &*room, bytes: 0 };
        first.grow_to(BODIES_IN_FLIGHT_BYTES).unwrap();
        let mut second = Share { room: Arc::clone(&room), bytes: 0 };
        assert_eq!(second.grow_to(1).unwrap_err().code, ProblemCode::Overloaded);
        drop(first);
        second.grow_to(1).unwrap();
        drop(second);
        assert_eq!(room.used.load(Ordering::Relaxed), 0);
    }
}
