//! The memory budget of event bodies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the bytes of bodies in memory. The limit is the setting `dispatch.memory_bytes`.
#[derive(Debug)]
pub struct MemoryBudget {
    used: AtomicUsize,
    limit: usize,
}

/// Bytes counted against the budget until the lease is dropped. All events of one request share the request's buffer and
/// its lease: the whole buffer stays in memory while one of the events does.
#[derive(Debug)]
pub struct BodyLease {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl MemoryBudget {
    /// Creates a budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Counts `bytes`, even beyond the limit. Code that keeps bodies must check [`Self::is_over`] and then keep only ids.
    pub fn lease(self: &Arc<Self>, bytes: usize) -> Arc<BodyLease> {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Arc::new(BodyLease { budget: Arc::clone(self), bytes })
    }

    /// Whether the limit is exceeded.
    pub fn is_over(&self) -> bool {
        self.used() > self.limit
    }

    /// Returns the number of counted bytes.
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
