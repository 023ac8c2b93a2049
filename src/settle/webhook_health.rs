//! What settle tells of how webhooks stand: that one fails, was disabled, is well again, or that a delivery was given up.
//!
//! Each is told once: how far a webhook is on its way is a row of state.redb, in the transaction that also has the operational
//! event. Deliveries of operational events cause none, or a receiver of them that fails would hear of itself for ever.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::state::SettleState;
use super::stats::Stats;
use crate::handoff::{DisableReason, Noted, Settled};
use crate::limits::OUTBOX_ROWS_MAX;
use crate::model::{Attempt, DeadReason, Decision, EventHead, EventId, RESERVED_TYPES, Timestamp, WebhookNo};
use crate::storage::delivery::Standing;

/// Shares of the way to being disabled, in percent, at which it is told.
pub const FAILING_PERCENT: [u8; 3] = [50, 70, 90];

/// Something that whoever runs a webhook should know.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening<'a> {
    /// The webhook.
    pub webhook: WebhookNo,
    /// When, by the wall clock.
    pub at: Timestamp,
    /// What.
    pub what: Happened<'a>,
}

/// What happened to a webhook.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened<'a> {
    /// It does nothing but fail, and this much of the time is over after which it is disabled.
    Failing {
        /// One of [`FAILING_PERCENT`].
        percent: u8,
        /// Since when, by the wall clock.
        since: Timestamp,
        /// When it is disabled if that goes on.
        disabled_at: Timestamp,
        /// The attempt that failed just now.
        attempt: &'a Attempt,
    },
    /// Its status is failed.
    Disabled {
        /// Why; `None` if a crash came before that was known.
        reason: Option<DisableReason>,
    },
    /// It is well again.
    Recovered {
        /// Whether it had been disabled, and not only failed.
        was_disabled: bool,
    },
    /// A delivery was given up after an attempt.
    Exhausted {
        /// The event.
        event: EventId,
        /// Its type.
        event_type: &'a str,
        /// Its correlation id.
        correlation_id: &'a str,
        /// Why.
        reason: DeadReason,
        /// The last attempt.
        attempt: &'a Attempt,
    },
}

impl Happened<'_> {
    /// The type of the operational event that tells it.
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Failing { .. } => "hooktide.webhook.failing",
            Self::Disabled { .. } => "hooktide.webhook.disabled",
            Self::Recovered { .. } => "hooktide.webhook.recovered",
            Self::Exhausted { .. } => "hooktide.delivery.exhausted",
        }
    }
}

/// Of all webhooks that do not stand well.
#[derive(Debug, Default)]
pub(super) struct Watches {
    of: HashMap<WebhookNo, Standing>,
    dirty: BTreeSet<WebhookNo>,
}

impl Watches {
    /// Goes on from these.
    pub(super) fn new(standings: impl IntoIterator<Item = (WebhookNo, Standing)>) -> Self {
        Self { of: standings.into_iter().collect(), dirty: BTreeSet::new() }
    }

    /// Moves what changed into a flush.
    pub(super) fn take_changed(&mut self, standings: &mut Vec<(WebhookNo, Option<Standing>)>) {
        while let Some(webhook) = self.dirty.pop_first() {
            standings.push((webhook, self.of.get(&webhook).copied()));
        }
    }

    fn set(&mut self, webhook: WebhookNo, standing: Option<Standing>) -> Option<Standing> {
        let before = match standing {
            Some(standing) => self.of.insert(webhook, standing),
            None => self.of.remove(&webhook),
        };
        if before != standing {
            self.dirty.insert(webhook);
        }
        before
    }
}

impl SettleState {
    /// Looks at outcomes that were just counted.
    pub(super) fn watch(&mut self, outcomes: &[Settled], stats: &Stats) {
        for outcome in outcomes {
            match &outcome.attempt {
                Some(attempt) if attempt.error.is_some() => self.watch_failure(outcome, attempt, stats),
                Some(_) if !self.watches.of.is_empty() => self.watch_success(outcome),
                _ => {}
            }
        }
    }

    /// What the registry says.
    pub(super) fn note(&mut self, webhook: WebhookNo, noted: Noted, stats: &mut Stats) {
        match noted {
            Noted::Disabled(reason) => {
                if self.watches.set(webhook, Some(Standing::Disabled)) != Some(Standing::Disabled) {
                    self.tell(webhook, Happened::Disabled { reason });
                }
            }
            Noted::Resumed => {
                // It gets all of its time again.
                stats.begin_anew(webhook);
                if self.watches.set(webhook, None).is_some() {
                    self.tell(webhook, Happened::Recovered { was_disabled: true });
                }
            }
            Noted::Removed => _ = self.watches.set(webhook, None),
        }
        self.gathered.items += 1;
    }

    fn watch_success(&mut self, outcome: &Settled) {
        let webhook = outcome.webhook;
        // One that is disabled stays so, though a delivery that was under way succeeded.
        if !matches!(self.watches.of.get(&webhook), Some(Standing::Failing(_))) {
            return;
        }
        self.watches.set(webhook, None);
        self.gathered.items += 1;
        if !is_own(&outcome.head) {
            self.tell(webhook, Happened::Recovered { was_disabled: false });
        }
    }

    fn watch_failure(&mut self, outcome: &Settled, attempt: &Attempt, stats: &Stats) {
        let Ok((_, event_type)) = EventHead::labels(&outcome.head) else { return };
        if event_type.starts_with(RESERVED_TYPES) {
            return;
        }
        self.watch_failing(outcome.webhook, attempt, stats);
        if let Decision::Dead(reason @ (DeadReason::Exhausted | DeadReason::NotRetryable)) = outcome.decision {
            let correlation_id = EventHead::parse(&outcome.head).map_or("", |head| head.event.correlation_id);
            let event = outcome.event;
            self.tell(outcome.webhook, Happened::Exhausted { event, event_type, correlation_id, reason, attempt });
        }
    }

    fn watch_failing(&mut self, webhook: WebhookNo, attempt: &Attempt, stats: &Stats) {
        let Some(since) = stats.get(webhook).failing_since else { return };
        let after = (self.hooks.disable_after)(webhook).unwrap_or(self.options.disable_after);
        let failing_for = self.now.steady.since(since);
        let Some(percent) = percent_reached(failing_for, after) else { return };
        let standing = Standing::Failing(percent);
        if self.watches.of.get(&webhook).is_some_and(|before| *before >= standing) {
            return;
        }
        self.watches.set(webhook, Some(standing));
        self.gathered.items += 1;
        let now = self.now.wall;
        let ms = i64::try_from(failing_for.as_millis()).unwrap_or(i64::MAX);
        let since = Timestamp::from_millis(now.as_millis().saturating_sub(ms));
        let disabled_at = since.plus(after);
        self.tell(webhook, Happened::Failing { percent, since, disabled_at, attempt });
    }

    /// Counts and logs it, and makes an operational event of it if anybody listens.
    fn tell(&mut self, webhook: WebhookNo, what: Happened<'_>) {
        let event_type = what.event_type();
        self.metrics.operational.with_label_values(&[event_type]).inc();
        if let Happened::Exhausted { event, reason, .. } = what {
            tracing::debug!(webhook = webhook.0, %event, reason = reason.as_str(), "delivery given up");
        } else {
            tracing::info!(webhook = webhook.0, event_type, "how a webhook stands has changed");
        }
        let happening = Happening { webhook, at: self.now.wall, what };
        let Some(row) = (self.hooks.compose)(&happening) else { return };
        if self.outbox.rows + self.gathered.flush.outbox.len() as u64 >= OUTBOX_ROWS_MAX {
            self.metrics.operational_dropped.inc();
            return;
        }
        self.gathered.flush.outbox.push(row);
        self.gathered.items += 1;
    }
}

/// Whether an event is one of the gateway's own.
fn is_own(head: &[u8]) -> bool {
    EventHead::labels(head).is_ok_and(|(_, event_type)| event_type.starts_with(RESERVED_TYPES))
}

/// The last of [`FAILING_PERCENT`] that a time of nothing but failure has reached.
fn percent_reached(failing_for: Duration, disable_after: Duration) -> Option<u8> {
    let reached = |percent: &u8| failing_for.as_millis() * 100 >= disable_after.as_millis() * u128::from(*percent);
    FAILING_PERCENT.into_iter().rev().find(reached)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HOUR, World};
    use super::*;
    use crate::handoff::{Command, ToSettle};
    use crate::storage::delivery::testing::{attempt, failed};

    const FAILING: &str = "hooktide.webhook.failing";
    const DISABLED_TYPE: &str = "hooktide.webhook.disabled";
    const RECOVERED: &str = "hooktide.webhook.recovered";
    const EXHAUSTED: &str = "hooktide.delivery.exhausted";

    fn told(world: &World) -> Vec<&'static str> {
        world.told.lock().unwrap().drain(..).map(|(_, event_type)| event_type).collect()
    }

    fn fail(world: &mut World) {
        let event = world.announce(&[1]);
        world.retry(1, event, 1, HOUR);
    }

    fn succeed(world: &mut World) {
        let event = world.announce(&[1]);
        world.settle(1, event, Some(attempt(1)), Decision::Delivered);
    }

    fn note(world: &mut World, noted: Noted) {
        world.take_in(ToSettle::Command(Command::Note { webhook: WebhookNo(1), noted }));
        world.flush();
    }

    /// The rows of the outbox, as the test's own `compose` wrote them.
    fn outbox(world: &World) -> Vec<String> {
        let rows = world.records.outbox(None, 100).unwrap();
        rows.into_iter().map(|(_, row)| String::from_utf8(row).unwrap()).collect()
    }

    #[test]
    fn stages_by_table() {
        let after = Duration::from_secs(1_000);
        for (seconds, percent) in [
            (0, None),
            (499, None),
            (500, Some(50)),
            (699, Some(50)),
            (700, Some(70)),
            (900, Some(90)),
            (9_999, Some(90)),
        ] {
            assert_eq!(percent_reached(Duration::from_secs(seconds), after), percent, "{seconds}");
        }
    }

    /// The test's webhooks are disabled after 24 hours of failure.
    #[tokio::test(start_paused = true)]
    async fn each_stage_is_told_once_also_over_restarts_and_a_success_ends_it() {
        let mut world = World::new();
        fail(&mut world);
        assert!(told(&world).is_empty());
        tokio::time::advance(12 * HOUR).await;
        fail(&mut world);
        fail(&mut world);
        assert_eq!(told(&world), [FAILING]);
        world.flush();
        let rows = outbox(&world);
        assert!(rows[0].contains("percent: 50"), "{rows:?}");
        let mut world = world.reopen();
        fail(&mut world);
        assert!(told(&world).is_empty(), "a restart says nothing anew");
        tokio::time::advance(10 * HOUR).await;
        fail(&mut world);
        assert_eq!(told(&world), [FAILING], "70 and 90 at once are one");
        world.flush();
        let mut world = world.crash();
        fail(&mut world);
        assert!(told(&world).is_empty());
        succeed(&mut world);
        succeed(&mut world);
        assert_eq!(told(&world), [RECOVERED]);
        world.flush();
        let mut world = world.reopen();
        succeed(&mut world);
        assert!(told(&world).is_empty());
        tokio::time::advance(13 * HOUR).await;
        fail(&mut world);
        assert!(told(&world).is_empty(), "its time began anew");
    }

    #[tokio::test(start_paused = true)]
    async fn the_stages_are_of_the_webhooks_own_time() {
        let mut world = World::new();
        world.disable_after.lock().unwrap().insert(WebhookNo(1), 2 * HOUR);
        fail(&mut world);
        tokio::time::advance(HOUR).await;
        fail(&mut world);
        assert_eq!(told(&world), [FAILING]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_registry_says_twice_is_told_once() {
        let mut world = World::new();
        note(&mut world, Noted::Resumed);
        assert!(told(&world).is_empty(), "it was never disabled");
        note(&mut world, Noted::Disabled(Some(DisableReason::Gone)));
        note(&mut world, Noted::Disabled(None));
        assert_eq!(told(&world), [DISABLED_TYPE]);
        assert_eq!(world.records.told_disabled().unwrap(), [WebhookNo(1)]);
        let mut world = world.crash();
        note(&mut world, Noted::Disabled(None));
        succeed(&mut world);
        assert!(told(&world).is_empty(), "a delivery that was under way does not make it well");
        note(&mut world, Noted::Resumed);
        note(&mut world, Noted::Resumed);
        assert_eq!(told(&world), [RECOVERED]);
        note(&mut world, Noted::Disabled(None));
        note(&mut world, Noted::Removed);
        assert!(world.records.told_disabled().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_resumed_has_all_the_time_again() {
        let mut world = World::new();
        fail(&mut world);
        tokio::time::advance(23 * HOUR).await;
        note(&mut world, Noted::Disabled(Some(DisableReason::Gone)));
        note(&mut world, Noted::Resumed);
        tokio::time::advance(2 * HOUR).await;
        fail(&mut world);
        world.flush();
        assert!(world.disabled.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_given_up_is_told_and_an_operational_one_is_not() {
        let mut world = World::new();
        for (event_type, reason, is_told) in [
            ("order.created", DeadReason::Exhausted, true),
            ("order.created", DeadReason::NotRetryable, true),
            ("order.created", DeadReason::Gone, false),
            ("order.created", DeadReason::Expired, false),
            ("hooktide.webhook.failing", DeadReason::Exhausted, false),
        ] {
            let event = world.announce(&[1]);
            world.settle_of(event_type, 1, event, Some(failed(3, 500)), Decision::Dead(reason));
            let expected: &[&str] = if is_told { &[EXHAUSTED] } else { &[] };
            assert_eq!(told(&world), expected, "{event_type} {reason:?}");
        }
        // Nor does it say anything of how far a webhook is on its way.
        tokio::time::advance(13 * HOUR).await;
        let event = world.announce(&[1]);
        let decision = Decision::Retry { at: world.clock.steady().plus(HOUR) };
        world.settle_of("hooktide.webhook.failing", 1, event, Some(failed(1, 500)), decision);
        assert!(told(&world).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn rows_stay_until_the_log_has_them_and_their_number_is_bounded() {
        let mut world = World::new();
        let exhaust = |world: &mut World| {
            let event = world.announce(&[1]);
            world.settle(1, event, Some(failed(1, 500)), Decision::Dead(DeadReason::Exhausted));
        };
        exhaust(&mut world);
        exhaust(&mut world);
        assert!(outbox(&world).is_empty(), "not before the flush");
        world.flush();
        let mut world = world.crash();
        let rows = world.records.outbox(None, 1).unwrap();
        assert_eq!((rows.len(), outbox(&world).len()), (1, 2));
        world.take_in(ToSettle::Command(Command::Admitted { through: rows[0].0 }));
        world.flush();
        assert_eq!(world.records.outbox(None, 9).unwrap(), world.records.outbox(Some(rows[0].0), 9).unwrap());
        assert_eq!(outbox(&world).len(), 1);
        world.driver.keeper.outbox.rows = OUTBOX_ROWS_MAX - 1;
        exhaust(&mut world);
        exhaust(&mut world);
        assert_eq!(world.driver.keeper.gathered.flush.outbox.len(), 1);
        assert_eq!(world.driver.keeper.metrics.operational_dropped.get(), 1);
    }
}
