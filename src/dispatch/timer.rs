//! The timers of a shard: one ordered set, and one `Sleep` on its first. Each webhook has one timer at most, for the
//! earliest thing it waits for, so the set is as long as the number of webhooks that wait; most never do.

use std::collections::BTreeSet;

use crate::runtime::Instant;

/// Which webhook of its shard: the webhook's number divided by the number of shards.
pub(super) type Key = u32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, Key)>);

impl Timers {
    /// Moves a webhook's timer from `armed`, which the webhook keeps, to `at`.
    pub(super) fn arm(&mut self, key: Key, armed: &mut Option<Instant>, at: Option<Instant>) {
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

    /// When the first goes off.
    pub(super) fn first(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// The next that has gone off; the webhook's `armed` is to be cleared.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Key> {
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
