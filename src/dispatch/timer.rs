//! The timers of a shard: one ordered set. The shard's loop sleeps until the first one.
//!
//! Each webhook has at most one timer, for the earliest time it waits for. The set has one entry for each webhook that
//! waits; most webhooks never wait.

use std::collections::BTreeSet;

use crate::runtime::Instant;

/// The index of a webhook within its shard: the webhook's number divided by the number of shards.
pub(super) type WebhookKey = u32;

/// The timers of a shard's webhooks, ordered by time.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, WebhookKey)>);

impl Timers {
    /// Moves a webhook's timer from `armed` to `at`. The webhook stores `armed`. `None` means no timer.
    pub(super) fn arm(&mut self, key: WebhookKey, armed: &mut Option<Instant>, at: Option<Instant>) {
        if *armed == at {
            return;
        }
        if let Some(old) = armed.take() {
            self.0.remove(&(old, key));
        }
        if let Some(new) = at {
            self.0.insert((new, key));
        }
        *armed = at;
    }

    /// Returns the time of the first timer.
    pub(super) fn first(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Removes and returns the next timer that is due. The caller must clear the webhook's `armed`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<WebhookKey> {
        if self.first()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Timestamp;
    use crate::runtime::Clock;

    #[test]
    fn a_webhook_has_one_timer() {
        let now = Clock::test(Timestamp::from_millis(0)).instant();
        let at = |s| Some(now + Duration::from_secs(s));
        let (mut timers, mut one, mut two) = (Timers::default(), None, None);
        timers.arm(1, &mut one, at(10));
        timers.arm(2, &mut two, at(5));
        timers.arm(1, &mut one, at(3));
        assert_eq!((timers.first(), one), (at(3), at(3)));
        assert_eq!(timers.pop(now), None);
        timers.arm(2, &mut two, None);
        assert_eq!(timers.pop(now + Duration::from_secs(60)), Some(1));
        assert_eq!(timers.pop(now + Duration::from_secs(60)), None);
    }
}
