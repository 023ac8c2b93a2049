//! What goes into a commit: whatever is queued, and under load what comes in the next moment too.
//!
//! A commit costs some 200 µs of CPU whatever is in it, so under load fewer and larger ones leave more for everything else.
//! But time that nobody uses is lost as well: senders that wait for their answers send nothing. So a batch is held back only
//! as long as requests keep coming in. With light load nothing is held back, and an answer takes one fsync.

use std::time::Duration;

use crossbeam_channel::{Receiver, never};

use crate::handoff::Submission;
use crate::limits::{
    COMMIT_BATCH_BYTES, COMMIT_BATCH_EVENTS, GATHER_ARRIVALS, GATHER_LOAD, GATHER_REQUESTS, GATHER_STEP, GATHER_TIME,
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    /// Requests in the last batch.
    last: usize,
}

impl Gatherer {
    /// The next batch, up to its bounds.
    pub(super) fn gather(&mut self, first: Box<Submission>, queue: &Receiver<Box<Submission>>) -> Vec<Submission> {
        let sleep = |step| {
            let _ = never::<()>().recv_timeout(step);
        };
        self.linger(|| queue.len() + 1, sleep);
        let batch = take(first, queue);
        self.last = batch.len();
        batch
    }

    /// Waits for more, where it is worth that. `waiting` says how many requests there are, `sleep` does not look at them: a
    /// thread that waits at the queue would be woken by each.
    fn linger(&self, waiting: impl Fn() -> usize, sleep: impl Fn(Duration)) {
        if self.last < GATHER_LOAD {
            return;
        }
        let (mut seen, mut waited) = (waiting(), Duration::ZERO);
        while seen < GATHER_REQUESTS && waited < GATHER_TIME {
            sleep(GATHER_STEP);
            waited += GATHER_STEP;
            let now = waiting();
            if now < seen + GATHER_ARRIVALS {
                return;
            }
            seen = now;
        }
    }
}

fn take(first: Box<Submission>, queue: &Receiver<Box<Submission>>) -> Vec<Submission> {
    let weight = |submission: &Submission| -> (usize, usize) {
        (submission.events.len(), submission.events.iter().map(|event| event.head.len() + event.body.len()).sum())
    };
    let (mut events, mut bytes) = weight(&first);
    let mut batch = Vec::with_capacity(queue.len().min(COMMIT_BATCH_EVENTS) + 1);
    batch.push(*first);
    while events < COMMIT_BATCH_EVENTS && bytes < COMMIT_BATCH_BYTES {
        let Ok(next) = queue.try_recv() else { break };
        let more = weight(&next);
        events += more.0;
        bytes += more.1;
        batch.push(*next);
    }
    batch
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How long a batch is held back after one of `last` requests, with so many coming in each step, `at_first` there.
    fn held_back(last: usize, at_first: usize, arrivals: usize) -> Duration {
        let (waiting, waited) = (Cell::new(at_first), Cell::new(Duration::ZERO));
        let sleep = |step| {
            waited.set(waited.get() + step);
            waiting.set(waiting.get() + arrivals);
        };
        Gatherer { last }.linger(|| waiting.get(), sleep);
        waited.get()
    }

    #[test]
    fn under_light_load_nothing_is_held_back() {
        assert_eq!(held_back(0, 1, 1_000), Duration::ZERO);
        assert_eq!(held_back(GATHER_LOAD - 1, 1, 1_000), Duration::ZERO);
    }

    #[test]
    fn a_batch_that_grows_is_held_back_until_it_is_large_or_old() {
        let steps = |n: usize| GATHER_STEP * n as u32;
        assert_eq!(held_back(GATHER_LOAD, 1, 0), steps(1), "nobody comes: everybody may be waiting for an answer");
        assert_eq!(held_back(GATHER_LOAD, 1, GATHER_ARRIVALS - 1), steps(1), "too few to wait for");
        let slowly = held_back(GATHER_LOAD, 1, GATHER_ARRIVALS);
        assert_eq!(slowly, GATHER_TIME.min(steps((GATHER_REQUESTS - 1).div_ceil(GATHER_ARRIVALS))));
        assert_eq!(held_back(GATHER_LOAD, 1, GATHER_REQUESTS), steps(1), "large enough");
        assert_eq!(held_back(GATHER_LOAD, GATHER_REQUESTS, 1_000), Duration::ZERO, "the disk was slow: all is here");
    }
}
