//! Collects the batch of a commit: the queued requests, and under load also those of the next moment.
//!
//! A commit costs about 200 µs of CPU whatever its size, so under load fewer and larger commits leave more CPU for
//! other work. Waiting too long also costs throughput: clients that wait for their responses send no requests. A batch
//! is therefore held back only while requests keep arriving. Under light load no batch is held back, and a response
//! takes one fsync.

use std::time::Duration;

use crossbeam_channel::{Receiver, never};

use crate::handoff::Submission;
use crate::limits::{
    BATCH_WAIT_LOAD, BATCH_WAIT_MAX, BATCH_WAIT_REQUESTS_MAX, BATCH_WAIT_STEP, BATCH_WAIT_STEP_REQUESTS_MIN,
    COMMIT_BATCH_BYTES, COMMIT_BATCH_EVENTS,
};

/// Collects batches.
#[derive(Debug, Default)]
pub(super) struct BatchCollector {
    /// The number of requests in the last batch.
    last: usize,
}

impl BatchCollector {
    /// Collects the next batch, which begins with `first`, up to the limits of a batch.
    pub(super) fn gather(&mut self, first: Box<Submission>, queue: &Receiver<Box<Submission>>) -> Vec<Submission> {
        let sleep = |step| {
            let _ = never::<()>().recv_timeout(step);
        };
        self.linger(|| queue.len() + 1, sleep);
        let batch = take(first, queue);
        self.last = batch.len();
        batch
    }

    /// Waits for more requests if the load is high enough. `waiting` returns the number of waiting requests. `sleep`
    /// does not watch the queue: a thread that waits at the queue is woken by each request.
    fn linger(&self, waiting: impl Fn() -> usize, sleep: impl Fn(Duration)) {
        if self.last < BATCH_WAIT_LOAD {
            return;
        }
        let (mut seen, mut waited) = (waiting(), Duration::ZERO);
        while seen < BATCH_WAIT_REQUESTS_MAX && waited < BATCH_WAIT_MAX {
            sleep(BATCH_WAIT_STEP);
            waited += BATCH_WAIT_STEP;
            let now = waiting();
            if now < seen + BATCH_WAIT_STEP_REQUESTS_MIN {
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

    /// How long a batch is held back after a batch of `last` requests, if `at_first` wait and `arrivals` come in each
    /// step.
    fn held_back(last: usize, at_first: usize, arrivals: usize) -> Duration {
        let (waiting, waited) = (Cell::new(at_first), Cell::new(Duration::ZERO));
        let sleep = |step| {
            waited.set(waited.get() + step);
            waiting.set(waiting.get() + arrivals);
        };
        BatchCollector { last }.linger(|| waiting.get(), sleep);
        waited.get()
    }

    #[test]
    fn a_batch_is_not_held_back_under_light_load() {
        assert_eq!(held_back(0, 1, 1_000), Duration::ZERO);
        assert_eq!(held_back(BATCH_WAIT_LOAD - 1, 1, 1_000), Duration::ZERO);
    }

    #[test]
    fn a_batch_that_grows_is_held_back_until_it_is_large_or_old() {
        let steps = |n: usize| BATCH_WAIT_STEP * n as u32;
        assert_eq!(held_back(BATCH_WAIT_LOAD, 1, 0), steps(1), "nobody comes: everybody may be waiting for an answer");
        assert_eq!(held_back(BATCH_WAIT_LOAD, 1, BATCH_WAIT_STEP_REQUESTS_MIN - 1), steps(1), "too few to wait for");
        let slowly = held_back(BATCH_WAIT_LOAD, 1, BATCH_WAIT_STEP_REQUESTS_MIN);
        assert_eq!(
            slowly,
            BATCH_WAIT_MAX.min(steps((BATCH_WAIT_REQUESTS_MAX - 1).div_ceil(BATCH_WAIT_STEP_REQUESTS_MIN)))
        );
        assert_eq!(held_back(BATCH_WAIT_LOAD, 1, BATCH_WAIT_REQUESTS_MAX), steps(1), "large enough");
        assert_eq!(
            held_back(BATCH_WAIT_LOAD, BATCH_WAIT_REQUESTS_MAX, 1_000),
            Duration::ZERO,
            "the disk was slow: all is here"
        );
    }
}
