//! Health of webhooks: a webhook is failing, was disabled, has recovered, or a delivery is exhausted. Each makes an
//! operational event.
//!
//! Each change makes one event: the failure state of a webhook is a row of state.redb, written in the transaction that
//! also writes the operational event. Deliveries of operational events make no events. Otherwise a failing receiver of
//! operational events would get events about itself without end.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::state::SettleState;
use super::webhook_stats::StatsTable;
use crate::handoff::{DisableReason, SettledDelivery, StatusChange};
use crate::limits::OUTBOX_ROWS_MAX;
use crate::model::{Attempt, DeadReason, Decision, EventHead, EventId, RESERVED_TYPE_PREFIX, Timestamp, WebhookNo};
use crate::storage::delivery::WebhookFailureState;

/// A failing webhook makes an event when this percentage of its `disable_after` time is over.
pub const FAILING_PERCENT: [u8; 3] = [50, 70, 90];

/// A change that the owner of a webhook should know of.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthEvent<'a> {
    /// The webhook.
    pub webhook: WebhookNo,
    /// The wall clock's time of the change.
    pub at: Timestamp,
    /// The kind of the change.
    pub kind: HealthEventKind<'a>,
}

/// The kind of a [`HealthEvent`].
#[derive(Debug, Clone, PartialEq)]
pub enum HealthEventKind<'a> {
    /// All attempts fail, and a part of the time after which the webhook is disabled is over.
    Failing {
        /// One of [`FAILING_PERCENT`].
        percent: u8,
        /// The wall clock's time of the first failure.
        since: Timestamp,
        /// When the webhook is disabled if no attempt succeeds.
        disabled_at: Timestamp,
        /// The attempt that has just failed.
        attempt: &'a Attempt,
    },
    /// The webhook was disabled: its status is `failed`.
    Disabled {
        /// The reason. `None` if it was lost in a crash.
        reason: Option<DisableReason>,
    },
    /// The webhook has recovered.
    Recovered {
        /// Whether it was disabled before. `false`: it was only failing.
        was_disabled: bool,
    },
    /// A delivery failed and is not retried.
    Exhausted {
        /// The event.
        event: EventId,
        /// The type of the event.
        event_type: &'a str,
        /// The correlation id of the event.
        correlation_id: &'a str,
        /// The reason.
        reason: DeadReason,
        /// The last attempt. `None` if the delivery was not attempted.
        attempt: Option<&'a Attempt>,
    },
}

impl HealthEventKind<'_> {
    /// The type of the operational event.
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Failing { .. } => "hooktide.webhook.failing",
            Self::Disabled { .. } => "hooktide.webhook.disabled",
            Self::Recovered { .. } => "hooktide.webhook.recovered",
            Self::Exhausted { .. } => "hooktide.delivery.exhausted",
        }
    }
}

/// The failure states of all webhooks that are failing or disabled.
#[derive(Debug, Default)]
pub(super) struct HealthTable {
    states: HashMap<WebhookNo, WebhookFailureState>,
    dirty: BTreeSet<WebhookNo>,
}

impl HealthTable {
    /// Starts with the rows of the store.
    pub(super) fn new(changed: impl IntoIterator<Item = (WebhookNo, WebhookFailureState)>) -> Self {
        Self { states: changed.into_iter().collect(), dirty: BTreeSet::new() }
    }

    /// Moves the changed states into a flush. `None` deletes a row.
    pub(super) fn take_changed(&mut self, changed: &mut Vec<(WebhookNo, Option<WebhookFailureState>)>) {
        while let Some(webhook) = self.dirty.pop_first() {
            changed.push((webhook, self.states.get(&webhook).copied()));
        }
    }

    fn set(&mut self, webhook: WebhookNo, health_state: Option<WebhookFailureState>) -> Option<WebhookFailureState> {
        let before = match health_state {
            Some(health_state) => self.states.insert(webhook, health_state),
            None => self.states.remove(&webhook),
        };
        if before != health_state {
            self.dirty.insert(webhook);
        }
        before
    }
}

impl SettleState {
    /// Updates the failure states from outcomes that `stats` already counts.
    pub(super) fn update_health(&mut self, outcomes: &[SettledDelivery], stats: &StatsTable) {
        for outcome in outcomes {
            match &outcome.attempt {
                Some(attempt) if attempt.error.is_some() => self.update_health_on_failure(outcome, attempt, stats),
                Some(_) if !self.health.states.is_empty() => self.update_health_on_success(outcome),
                _ => {}
            }
        }
    }

    /// Applies a status change that the registry reports.
    pub(super) fn registry_changed(&mut self, webhook: WebhookNo, change: StatusChange, stats: &mut StatsTable) {
        match change {
            StatusChange::Disabled(reason) => {
                if self.health.set(webhook, Some(WebhookFailureState::Disabled)) != Some(WebhookFailureState::Disabled)
                {
                    self.emit(webhook, HealthEventKind::Disabled { reason });
                }
            }
            StatusChange::Resumed => {
                // The `disable_after` time starts again.
                stats.reset_failing(webhook);
                if self.health.set(webhook, None).is_some() {
                    self.emit(webhook, HealthEventKind::Recovered { was_disabled: true });
                }
            }
            StatusChange::Restarted => {
                // No attempt was possible before, so the time of earlier failures does not count.
                stats.reset_failing(webhook);
                self.endpoint_states.remove(webhook);
            }
            StatusChange::Removed => {
                self.endpoint_states.remove(webhook);
                self.health.set(webhook, None);
            }
        }
        self.pending.items += 1;
    }

    fn update_health_on_success(&mut self, outcome: &SettledDelivery) {
        let webhook = outcome.webhook;
        // A disabled webhook stays disabled even if a delivery that was in flight succeeds.
        if !matches!(self.health.states.get(&webhook), Some(WebhookFailureState::Failing(_))) {
            return;
        }
        self.health.set(webhook, None);
        self.pending.items += 1;
        if !is_own(&outcome.head) {
            self.emit(webhook, HealthEventKind::Recovered { was_disabled: false });
        }
    }

    fn update_health_on_failure(&mut self, outcome: &SettledDelivery, attempt: &Attempt, stats: &StatsTable) {
        let Ok((_, event_type)) = EventHead::labels(&outcome.head) else { return };
        if event_type.starts_with(RESERVED_TYPE_PREFIX) {
            return;
        }
        self.check_failing(outcome.webhook, attempt, stats);
        if let Decision::Dead(DeadReason::Exhausted | DeadReason::NotRetryable) = outcome.decision {
            self.emit_exhausted(outcome);
        }
    }

    /// Counts and reports deliveries whose filters were too costly.
    pub(super) fn report_too_costly(&mut self, outcomes: &[SettledDelivery]) {
        self.metrics.filters_too_costly.inc_by(outcomes.len() as u64);
        for outcome in outcomes {
            self.emit_exhausted(outcome);
        }
    }

    /// Reports a dead letter.
    fn emit_exhausted(&mut self, outcome: &SettledDelivery) {
        let (Decision::Dead(reason), Ok(head)) = (outcome.decision, EventHead::parse(&outcome.head)) else { return };
        let (event_type, correlation_id) = (head.event.event_type, head.event.correlation_id);
        if event_type.starts_with(RESERVED_TYPE_PREFIX) {
            return;
        }
        let (event, attempt) = (outcome.event, outcome.attempt.as_ref());
        self.emit(outcome.webhook, HealthEventKind::Exhausted { event, event_type, correlation_id, reason, attempt });
    }

    fn check_failing(&mut self, webhook: WebhookNo, attempt: &Attempt, stats: &StatsTable) {
        let Some(since) = stats.get(webhook).failing_since else { return };
        let after = (self.callbacks.disable_after)(webhook).unwrap_or(self.options.disable_after);
        let failing_for = stats.uptime_since(since, self.now.steady);
        let Some(percent) = percent_reached(failing_for, after) else { return };
        let health_state = WebhookFailureState::Failing(percent);
        if self.health.states.get(&webhook).is_some_and(|before| *before >= health_state) {
            return;
        }
        self.health.set(webhook, Some(health_state));
        self.pending.items += 1;
        let now = self.now.wall;
        let ms = i64::try_from(self.now.steady.since(since).as_millis()).unwrap_or(i64::MAX);
        let since = Timestamp::from_millis(now.as_millis().saturating_sub(ms));
        let disabled_at = now.plus(after.saturating_sub(failing_for));
        self.emit(webhook, HealthEventKind::Failing { percent, since, disabled_at, attempt });
    }

    /// Counts and logs a change, and writes an operational event to the outbox if a webhook subscribes to it.
    fn emit(&mut self, webhook: WebhookNo, kind: HealthEventKind<'_>) {
        let event_type = kind.event_type();
        self.metrics.operational.with_label_values(&[event_type]).inc();
        if let HealthEventKind::Exhausted { event, reason, .. } = kind {
            tracing::debug!(webhook = webhook.0, %event, reason = reason.as_str(), "delivery given up");
        } else {
            tracing::info!(webhook = webhook.0, event_type, "how a webhook stands has changed");
        }
        let health_event = HealthEvent { webhook, at: self.now.wall, kind };
        let Some(row) = (self.callbacks.compose_event)(&health_event) else { return };
        if self.outbox.rows + self.pending.flush.outbox.len() as u64 >= OUTBOX_ROWS_MAX {
            self.metrics.operational_dropped.inc();
            return;
        }
        self.pending.flush.outbox.push(row);
        self.pending.items += 1;
    }
}

/// Whether an event is an operational event.
fn is_own(head: &[u8]) -> bool {
    EventHead::labels(head).is_ok_and(|(_, event_type)| event_type.starts_with(RESERVED_TYPE_PREFIX))
}

/// The highest of [`FAILING_PERCENT`] that the failing time has reached.
fn percent_reached(failing_for: Duration, disable_after: Duration) -> Option<u8> {
    let reached = |percent: &u8| failing_for.as_millis() * 100 >= disable_after.as_millis() * u128::from(*percent);
    FAILING_PERCENT.into_iter().rev().find(reached)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HOUR, World};
    use super::*;
    use crate::handoff::{SettleCommand, ToSettle};
    use crate::storage::delivery::testing::{attempt, failed};

    const FAILING: &str = "hooktide.webhook.failing";
    const DISABLED_TYPE: &str = "hooktide.webhook.disabled";
    const RECOVERED: &str = "hooktide.webhook.recovered";
    const EXHAUSTED: &str = "hooktide.delivery.exhausted";

    fn emitted(world: &World) -> Vec<&'static str> {
        world.emitted.lock().unwrap().drain(..).map(|(_, event_type)| event_type).collect()
    }

    fn fail(world: &mut World) {
        let event = world.announce(&[1]);
        world.retry(1, event, 1, HOUR);
    }

    fn succeed(world: &mut World) {
        let event = world.announce(&[1]);
        world.settle(1, event, Some(attempt(1)), Decision::Delivered);
    }

    fn registry_changed(world: &mut World, change: StatusChange) {
        world.take_in(ToSettle::Command(SettleCommand::StatusChanged { webhook: WebhookNo(1), change }));
        world.flush();
    }

    /// The rows of the outbox, as the test's own `compose_event` wrote them.
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
    async fn each_failing_stage_makes_one_event_even_over_restarts_and_a_success_resets_it() {
        let mut world = World::new();
        fail(&mut world);
        assert!(emitted(&world).is_empty());
        tokio::time::advance(12 * HOUR).await;
        fail(&mut world);
        fail(&mut world);
        assert_eq!(emitted(&world), [FAILING]);
        world.flush();
        let rows = outbox(&world);
        assert!(rows[0].contains("percent: 50"), "{rows:?}");
        let mut world = world.reopen();
        fail(&mut world);
        assert!(emitted(&world).is_empty(), "a restart says nothing anew");
        tokio::time::advance(10 * HOUR).await;
        fail(&mut world);
        assert_eq!(emitted(&world), [FAILING], "70 and 90 at once are one");
        world.flush();
        let mut world = world.crash();
        fail(&mut world);
        assert!(emitted(&world).is_empty());
        succeed(&mut world);
        succeed(&mut world);
        assert_eq!(emitted(&world), [RECOVERED]);
        world.flush();
        let mut world = world.reopen();
        succeed(&mut world);
        assert!(emitted(&world).is_empty());
        tokio::time::advance(13 * HOUR).await;
        fail(&mut world);
        assert!(emitted(&world).is_empty(), "its time began anew");
    }

    #[tokio::test(start_paused = true)]
    async fn the_failing_stages_use_the_webhooks_own_disable_after() {
        let mut world = World::new();
        world.disable_after.lock().unwrap().insert(WebhookNo(1), 2 * HOUR);
        fail(&mut world);
        tokio::time::advance(HOUR).await;
        fail(&mut world);
        assert_eq!(emitted(&world), [FAILING]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_change_reported_twice_makes_one_event() {
        let mut world = World::new();
        registry_changed(&mut world, StatusChange::Resumed);
        assert!(emitted(&world).is_empty(), "it was never disabled");
        registry_changed(&mut world, StatusChange::Disabled(Some(DisableReason::Gone)));
        registry_changed(&mut world, StatusChange::Disabled(None));
        assert_eq!(emitted(&world), [DISABLED_TYPE]);
        assert_eq!(world.records.notified_disabled().unwrap(), [WebhookNo(1)]);
        let mut world = world.crash();
        registry_changed(&mut world, StatusChange::Disabled(None));
        succeed(&mut world);
        assert!(emitted(&world).is_empty(), "a delivery that was under way does not make it well");
        registry_changed(&mut world, StatusChange::Resumed);
        registry_changed(&mut world, StatusChange::Resumed);
        assert_eq!(emitted(&world), [RECOVERED]);
        registry_changed(&mut world, StatusChange::Disabled(None));
        registry_changed(&mut world, StatusChange::Removed);
        assert!(world.records.notified_disabled().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_resumed_webhook_gets_the_full_disable_after_again() {
        let mut world = World::new();
        fail(&mut world);
        tokio::time::advance(23 * HOUR).await;
        registry_changed(&mut world, StatusChange::Disabled(Some(DisableReason::Gone)));
        registry_changed(&mut world, StatusChange::Resumed);
        tokio::time::advance(2 * HOUR).await;
        fail(&mut world);
        world.flush();
        assert!(world.disabled.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_before_a_restart_of_attempts_is_no_failure() {
        let mut world = World::new();
        fail(&mut world);
        tokio::time::advance(23 * HOUR).await;
        registry_changed(&mut world, StatusChange::Restarted);
        assert!(emitted(&world).is_empty());
        fail(&mut world);
        tokio::time::advance(2 * HOUR).await;
        fail(&mut world);
        world.flush();
        assert!(world.disabled.lock().unwrap().is_empty());
    }

    /// The test's webhooks are disabled after 24 hours of failure.
    #[tokio::test(start_paused = true)]
    async fn the_time_that_the_server_was_off_does_not_disable_over_any_number_of_restarts() {
        let mut world = World::new();
        fail(&mut world);
        world.flush();
        for _ in 0..3 {
            world = world.off_for(6 * 24 * HOUR).await;
            fail(&mut world);
            world.flush();
            assert!(emitted(&world).is_empty() && world.disabled.lock().unwrap().is_empty());
            // A crash loses nothing of the periods before.
            world = world.crash();
        }
        tokio::time::advance(23 * HOUR).await;
        fail(&mut world);
        world.flush();
        assert_eq!(emitted(&world), [FAILING]);
        let rows = outbox(&world);
        assert!(rows[0].contains("percent: 90"), "{rows:?}");
        assert!(world.disabled.lock().unwrap().is_empty());
        tokio::time::advance(2 * HOUR).await;
        fail(&mut world);
        world.flush();
        assert_eq!(*world.disabled.lock().unwrap(), [(WebhookNo(1), DisableReason::Failing)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_exhausted_delivery_makes_an_event_unless_it_is_operational() {
        let mut world = World::new();
        for (event_type, reason, is_notified) in [
            ("order.created", DeadReason::Exhausted, true),
            ("order.created", DeadReason::NotRetryable, true),
            ("order.created", DeadReason::Gone, false),
            ("order.created", DeadReason::Expired, false),
            ("hooktide.webhook.failing", DeadReason::Exhausted, false),
        ] {
            let event = world.announce(&[1]);
            world.settle_of(event_type, 1, event, Some(failed(3, 500)), Decision::Dead(reason));
            let expected: &[&str] = if is_notified { &[EXHAUSTED] } else { &[] };
            assert_eq!(emitted(&world), expected, "{event_type} {reason:?}");
        }
        // The percentage of the failure time is unchanged as well.
        tokio::time::advance(13 * HOUR).await;
        let event = world.announce(&[1]);
        let decision = Decision::Retry { at: world.clock.steady().plus(HOUR) };
        world.settle_of("hooktide.webhook.failing", 1, event, Some(failed(1, 500)), decision);
        assert!(emitted(&world).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn outbox_rows_stay_until_the_log_has_them_and_are_limited() {
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
        world.take_in(ToSettle::Command(SettleCommand::Admitted { through: rows[0].0 }));
        world.flush();
        assert_eq!(world.records.outbox(None, 9).unwrap(), world.records.outbox(Some(rows[0].0), 9).unwrap());
        assert_eq!(outbox(&world).len(), 1);
        world.driver.state.outbox.rows = OUTBOX_ROWS_MAX - 1;
        exhaust(&mut world);
        exhaust(&mut world);
        assert_eq!(world.driver.state.pending.flush.outbox.len(), 1);
        assert_eq!(world.driver.state.metrics.operational_dropped.get(), 1);
    }
}
