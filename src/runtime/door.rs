//! The door: how many deliveries, and how many bytes of them, may be on their way to a durable outcome.
//!
//! Backpressure is here and nowhere else. A permit is taken before the commit and travels with the announcement to
//! settle, which drops it when each of the request's deliveries has a durable outcome or row.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{DOOR_DELIVERIES, DOOR_DELIVERIES_PER_REQUEST, DOOR_WAIT};

/// Bytes are counted in units of this, as a semaphore's count is 32 bits wide where it is acquired.
const BYTES_UNIT: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Door {
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

impl Door {
    /// A door for this many bytes (and [`DOOR_DELIVERIES`]).
    pub fn new(bytes: usize) -> Self {
        let bytes_units = bytes.div_ceil(BYTES_UNIT).max(1);
        Self {
            deliveries: Arc::new(Semaphore::new(DOOR_DELIVERIES)),
            bytes: Arc::new(Semaphore::new(bytes_units)),
            bytes_units,
        }
    }

    /// Waits at most [`DOOR_WAIT`] for a place; `None`: answer 503.
    pub async fn enter(&self, deliveries: usize, bytes: usize) -> Option<Arc<Permit>> {
        let deliveries = deliveries.clamp(1, DOOR_DELIVERIES_PER_REQUEST) as u32;
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
        tokio::time::timeout(DOOR_WAIT, both).await.ok().flatten()
    }

    /// Deliveries on their way.
    pub fn deliveries(&self) -> usize {
        DOOR_DELIVERIES - self.deliveries.available_permits()
    }
}

impl Permit {
    /// Gives many places back at once: the door then takes its locks once, not once for each place.
    pub fn give_back(permits: impl IntoIterator<Item = Arc<Self>>) {
        let mut sum: Option<Self> = None;
        // A place that others hold too is given back by the last of them.
        for permit in permits.into_iter().filter_map(Arc::into_inner) {
            match &mut sum {
                Some(sum) if sum.is_of_door(&permit) => {
                    sum.deliveries.merge(permit.deliveries);
                    sum.bytes.merge(permit.bytes);
                }
                _ => sum = Some(permit),
            }
        }
    }

    fn is_of_door(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.deliveries.semaphore(), other.deliveries.semaphore())
            && Arc::ptr_eq(self.bytes.semaphore(), other.bytes.semaphore())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_is_told_after_the_wait() {
        let door = Door::new(4 * BYTES_UNIT);
        let first = door.enter(1, 2 * BYTES_UNIT).await.unwrap();
        let _second = door.enter(1, 2 * BYTES_UNIT).await.unwrap();
        assert!(door.enter(1, 1).await.is_none());
        drop(first);
        assert!(door.enter(1, 1).await.is_some());
    }

    #[tokio::test]
    async fn places_given_back_together_are_free_again() {
        let (door, other) = (Door::new(64 * BYTES_UNIT), Door::new(64 * BYTES_UNIT));
        let mut permits = Vec::new();
        for door in [&door, &door, &other, &door] {
            permits.push(door.enter(3, BYTES_UNIT).await.unwrap());
        }
        let held = Arc::clone(&permits[1]);
        Permit::give_back(permits);
        assert_eq!((door.deliveries(), other.deliveries()), (3, 0), "one is held by somebody else");
        drop(held);
        assert_eq!(door.deliveries(), 0);
        assert_eq!(door.bytes.available_permits(), 64);
    }

    #[tokio::test]
    async fn a_request_larger_than_the_door_takes_half_of_it() {
        let door = Door::new(1024);
        let permit = door.enter(usize::MAX, usize::MAX).await.unwrap();
        assert_eq!(door.deliveries(), DOOR_DELIVERIES_PER_REQUEST);
        drop(permit);
        assert_eq!(door.deliveries(), 0);
    }
}
