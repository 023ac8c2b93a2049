//! A body that has not arrived completely: how fast it arrives, and whether it has to give way.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::OwnerCharge;
use crate::limits::{BODY_SLOW_RATE, BODY_SLOW_WINDOW};

const WINDOW_MILLIS: u64 = BODY_SLOW_WINDOW.as_millis() as u64;

/// A body that has not arrived completely.
#[derive(Debug)]
pub(super) struct IncompleteBody {
    pub(super) charge: OwnerCharge,
    /// The reserved bytes. Changed only under the lock of the table.
    pub(super) reserved: AtomicUsize,
    pub(super) rate: ArrivalRate,
    evicted: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// The rate at which a body arrives, measured over windows of at least [`BODY_SLOW_WINDOW`]. Times are milliseconds since
/// the start of the budget.
#[derive(Debug)]
pub(super) struct ArrivalRate {
    window_start: AtomicU64,
    window_bytes: AtomicU64,
    last_arrival: AtomicU64,
    was_slow: AtomicBool,
}

impl IncompleteBody {
    pub(super) fn new(charge: OwnerCharge, reserved: usize, rate: ArrivalRate) -> Self {
        Self {
            charge,
            reserved: AtomicUsize::new(reserved),
            rate,
            evicted: AtomicBool::new(false),
            waker: Mutex::default(),
        }
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Relaxed)
    }

    pub(super) fn evict(&self) {
        self.evicted.store(true, Relaxed);
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }

    /// Ready when the body has to give way.
    pub(super) fn poll_evicted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if self.evicted.load(Relaxed) {
            return Poll::Ready(());
        }
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl ArrivalRate {
    pub(super) fn new(now: u64) -> Self {
        Self {
            window_start: AtomicU64::new(now),
            window_bytes: AtomicU64::new(0),
            last_arrival: AtomicU64::new(now),
            was_slow: AtomicBool::new(false),
        }
    }

    pub(super) fn arrived(&self, now: u64, bytes: usize) {
        self.last_arrival.store(now, Relaxed);
        let bytes = self.window_bytes.load(Relaxed) + bytes as u64;
        let window = now.saturating_sub(self.window_start.load(Relaxed));
        if window < WINDOW_MILLIS {
            self.window_bytes.store(bytes, Relaxed);
        } else {
            self.was_slow.store(is_below_slow_rate(bytes, window), Relaxed);
            self.window_start.store(now, Relaxed);
            self.window_bytes.store(0, Relaxed);
        }
    }

    pub(super) fn is_slow(&self, now: u64) -> bool {
        let window = now.saturating_sub(self.window_start.load(Relaxed));
        let has_stopped = now.saturating_sub(self.last_arrival.load(Relaxed)) >= WINDOW_MILLIS;
        has_stopped
            || self.was_slow.load(Relaxed)
            || (window >= WINDOW_MILLIS && is_below_slow_rate(self.window_bytes.load(Relaxed), window))
    }
}

fn is_below_slow_rate(bytes: u64, millis: u64) -> bool {
    bytes * 1_000 < millis * BODY_SLOW_RATE
}
