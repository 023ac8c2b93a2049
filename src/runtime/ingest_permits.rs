//! The door: how many deliveries, and how many bytes of them, may be on their way to a durable outcome.
//!
//! Backpressure is here and nowhere else. A permit is taken before the commit and travels with the announcement to
//! settle, which drops it when each of the request's deliveries has a durable outcome or row.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{INGEST_PERMIT_WAIT, INGEST_PERMITS, INGEST_PERMITS_PER_REQUEST};

/// Bytes are counted in units of this, as a semaphore's count is 32 bits wide where it is acquired.
const BYTES_UNIT: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct IngestPermits {
    deliveries: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    bytes_units: usize,
}

/// A place on the way, given back on drop.
#[derive(Debug)]
pub struct Permit {
    deliveries: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

impl IngestPermits {
    /// A door for this many bytes (and [`INGEST_PERMITS`]).
    pub fn new(bytes: usize) -> Self {
        let bytes_units = bytes.div_ceil(BYTES_UNIT).max(1);
        Self {
            deliveries: Arc::new(Semaphore::new(INGEST_PERMITS)),
            bytes: Arc::new(Semaphore::new(bytes_units)),
            bytes_units,
        }
    }

    /// Waits at most [`INGEST_PERMIT_WAIT`] for a place; `None`: answer 503.
    pub async fn acquire(&self, deliveries: usize, bytes: usize) -> Option<Arc<Permit>> {
        let deliveries = deliveries.clamp(1, INGEST_PERMITS_PER_REQUEST) as u32;
        let bytes = bytes.div_ceil(BYTES_UNIT).clamp(1, self.bytes_units.div_ceil(2)) as u32;
        let one = Arc::clone(&self.deliveries).try_acquire_many_owned(deliveries);
        let two = Arc::clone(&self.bytes).try_acquire_many_owned(bytes);
        if let (Ok(one), Ok(two)) = (one, two) {
            return Some(Arc::new(Permit { deliveries: one, bytes: two }));
        }
        let both = async {
            let one = Arc::clone(&self.deliveries).acquire_many_owned(deliveries).await.ok()?;
            let two = Arc::clone(&self.bytes).acquire_many_owned(bytes).await.ok()?;
            Some(Arc::new(Permit { deliveries: one, bytes: two }))
        };
        tokio::time::timeout(INGEST_PERMIT_WAIT, both).await.ok().flatten()
    }

    /// Deliveries on their way.
    pub fn deliveries(&self) -> usize {
        INGEST_PERMITS - self.deliveries.available_permits()
    }
}

impl Permit {
    /// Gives many places back at once: the door then takes its locks once, not once for each place.
    pub fn give_back(permits: impl IntoIterator<Item = Arc<Self>>) {
        let mut sum: Option<Self> = None;
        // A place that others hold too is given back by the last of them.
        for permit in permits.into_iter().filter_map(Arc::into_inner) {
            match &mut sum {
                Some(sum) if sum.shares_semaphore_with(&permit) => {
                    sum.deliveries.merge(permit.deliveries);
                    sum.bytes.merge(permit.bytes);
                }
                _ => sum = Some(permit),
            }
        }
    }

    fn shares_semaphore_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.deliveries.semaphore(), other.deliveries.semaphore())
            && Arc::ptr_eq(self.bytes.semaphore(), other.bytes.semaphore())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_is_told_after_the_wait() {
        let ingest_permits = IngestPermits::new(4 * BYTES_UNIT);
        let first = ingest_permits.acquire(1, 2 * BYTES_UNIT).await.unwrap();
        let _second = ingest_permits.acquire(1, 2 * BYTES_UNIT).await.unwrap();
        assert!(ingest_permits.acquire(1, 1).await.is_none());
        drop(first);
        assert!(ingest_permits.acquire(1, 1).await.is_some());
    }

    #[tokio::test]
    async fn places_given_back_together_are_free_again() {
        let (ingest_permits, other) = (IngestPermits::new(64 * BYTES_UNIT), IngestPermits::new(64 * BYTES_UNIT));
        let mut permits = Vec::new();
        for ingest_permits in [&ingest_permits, &ingest_permits, &other, &ingest_permits] {
            permits.push(ingest_permits.acquire(3, BYTES_UNIT).await.unwrap());
        }
        let held = Arc::clone(&permits[1]);
        Permit::give_back(permits);
        assert_eq!((ingest_permits.deliveries(), other.deliveries()), (3, 0), "one is held by somebody else");
        drop(held);
        assert_eq!(ingest_permits.deliveries(), 0);
        assert_eq!(ingest_permits.bytes.available_permits(), 64);
    }

    #[tokio::test]
    async fn a_request_larger_than_the_door_takes_half_of_it() {
        let ingest_permits = IngestPermits::new(1024);
        let permit = ingest_permits.acquire(usize::MAX, usize::MAX).await.unwrap();
        assert_eq!(ingest_permits.deliveries(), INGEST_PERMITS_PER_REQUEST);
        drop(permit);
        assert_eq!(ingest_permits.deliveries(), 0);
    }
}
