//! Ingest permits: bound the number and the bytes of deliveries without a durable outcome or row.
//!
//! This is the only place with backpressure. A request acquires its permits before the commit. The permits are passed
//! with the announcement to settle, which drops them when each of the request's deliveries has a durable outcome or row.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{INGEST_PERMIT_WAIT, INGEST_PERMITS, INGEST_PERMITS_PER_REQUEST};

/// The unit in which bytes are counted, in bytes. A semaphore acquires a 32-bit number of permits.
const BYTES_UNIT: usize = 1024;

/// The ingest permits of the process.
#[derive(Debug)]
pub struct IngestPermits {
    deliveries: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    bytes_units: usize,
}

/// The permits of one request. Dropping the value releases them.
#[derive(Debug)]
pub struct IngestPermit {
    deliveries: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

impl IngestPermits {
    /// Creates permits for [`INGEST_PERMITS`] deliveries and this many bytes.
    pub fn new(bytes: usize) -> Self {
        let bytes_units = bytes.div_ceil(BYTES_UNIT).max(1);
        Self {
            deliveries: Arc::new(Semaphore::new(INGEST_PERMITS)),
            bytes: Arc::new(Semaphore::new(bytes_units)),
            bytes_units,
        }
    }

    /// Acquires permits for a request. A request acquires at most [`INGEST_PERMITS_PER_REQUEST`] deliveries and half of
    /// the bytes. Returns `None` if the permits are not available within [`INGEST_PERMIT_WAIT`]; the request then gets a
    /// 503 response.
    pub async fn acquire(&self, deliveries: usize, bytes: usize) -> Option<Arc<IngestPermit>> {
        let deliveries = deliveries.clamp(1, INGEST_PERMITS_PER_REQUEST) as u32;
        let bytes = bytes.div_ceil(BYTES_UNIT).clamp(1, self.bytes_units.div_ceil(2)) as u32;
        let one = Arc::clone(&self.deliveries).try_acquire_many_owned(deliveries);
        let two = Arc::clone(&self.bytes).try_acquire_many_owned(bytes);
        if let (Ok(one), Ok(two)) = (one, two) {
            return Some(Arc::new(IngestPermit { deliveries: one, bytes: two }));
        }
        let both = async {
            let one = Arc::clone(&self.deliveries).acquire_many_owned(deliveries).await.ok()?;
            let two = Arc::clone(&self.bytes).acquire_many_owned(bytes).await.ok()?;
            Some(Arc::new(IngestPermit { deliveries: one, bytes: two }))
        };
        tokio::time::timeout(INGEST_PERMIT_WAIT, both).await.ok().flatten()
    }

    /// Returns the number of delivery permits in use.
    pub fn deliveries(&self) -> usize {
        INGEST_PERMITS - self.deliveries.available_permits()
    }
}

impl IngestPermit {
    /// Releases many permits at once, so that the semaphores are locked once instead of once for each permit.
    pub fn release_all(permits: impl IntoIterator<Item = Arc<Self>>) {
        let mut sum: Option<Self> = None;
        // A permit that has other owners is released when the last owner drops it.
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
    async fn a_request_without_permits_fails_after_the_wait() {
        let ingest_permits = IngestPermits::new(4 * BYTES_UNIT);
        let first = ingest_permits.acquire(1, 2 * BYTES_UNIT).await.unwrap();
        let _second = ingest_permits.acquire(1, 2 * BYTES_UNIT).await.unwrap();
        assert!(ingest_permits.acquire(1, 1).await.is_none());
        drop(first);
        assert!(ingest_permits.acquire(1, 1).await.is_some());
    }

    #[tokio::test]
    async fn permits_released_together_are_available_again() {
        let (ingest_permits, other) = (IngestPermits::new(64 * BYTES_UNIT), IngestPermits::new(64 * BYTES_UNIT));
        let mut permits = Vec::new();
        for ingest_permits in [&ingest_permits, &ingest_permits, &other, &ingest_permits] {
            permits.push(ingest_permits.acquire(3, BYTES_UNIT).await.unwrap());
        }
        let held = Arc::clone(&permits[1]);
        IngestPermit::release_all(permits);
        assert_eq!((ingest_permits.deliveries(), other.deliveries()), (3, 0), "one permit has another owner");
        drop(held);
        assert_eq!(ingest_permits.deliveries(), 0);
        assert_eq!(ingest_permits.bytes.available_permits(), 64);
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_acquires_the_maximum() {
        let ingest_permits = IngestPermits::new(1024);
        let permit = ingest_permits.acquire(usize::MAX, usize::MAX).await.unwrap();
        assert_eq!(ingest_permits.deliveries(), INGEST_PERMITS_PER_REQUEST);
        drop(permit);
        assert_eq!(ingest_permits.deliveries(), 0);
    }
}
