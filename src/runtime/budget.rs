//! The memory that bodies may take, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of bodies in memory against their limit (`dispatch.memory_bytes`).
#[derive(Debug)]
pub struct MemoryBudget {
    used: AtomicUsize,
    limit: usize,
}

/// Bytes counted against the budget until it is dropped. All events of one request share the request's buffer and so its
/// lease: as long as one of them is held, the whole buffer is.
#[derive(Debug)]
pub struct BodyLease {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Counts `bytes`, over the limit as well: whoever holds a body asks [`Self::is_over`] and keeps only its id then.
    pub fn lease(self: &Arc<Self>, bytes: usize) -> Arc<BodyLease> {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Arc::new(BodyLease { budget: Arc::clone(self), bytes })
    }

    /// Whether more is held than may be.
    pub fn is_over(&self) -> bool {
        self.used() > self.limit
    }

    /// Bytes held.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for BodyLease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_until_it_is_dropped() {
        let budget = MemoryBudget::new(100);
        let lease = budget.lease(101);
        assert!(budget.is_over());
        drop(lease);
        assert_eq!(budget.used(), 0);
    }
}
