//! Evaluates the conditions of the webhooks that the index found for an event, within the work that the event and its
//! tenant may cause.

use smallvec::SmallVec;

use crate::filter::{EventFields, FilterInput, TooCostly};
use crate::limits::{FILTER_EVENT_WORK_MAX, FILTER_FIRST_WORK, FILTER_UNCHARGED_WORK};
use crate::model::{MatchedWebhooks, Timestamp, WebhookNo, Webhooks};
use crate::runtime::WorkBudget;

/// Evaluates the conditions of webhooks. `found` has the webhooks in ascending order, each with whether it has
/// conditions, and `conditions` evaluates them.
///
/// Each webhook may use [`FILTER_FIRST_WORK`] first. The webhooks that need more are evaluated after all others, so the
/// costly filters of one webhook take nothing from the usual filters of another.
pub(super) fn evaluate(
    found: impl Iterator<Item = (WebhookNo, bool)>,
    conditions: impl Fn(WebhookNo, &mut FilterInput<'_>) -> Result<bool, TooCostly>,
    event_fields: &EventFields<'_>,
    mut work: EventWork<'_>,
) -> MatchedWebhooks {
    let mut input = FilterInput::new(event_fields);
    let (mut receivers, mut costly) = (Webhooks::new(), SmallVec::<[WebhookNo; 4]>::new());
    let mut wants = |no: WebhookNo, units: u64, work: &mut EventWork<'_>| {
        let granted = work.grant(units);
        input.set_work_left(granted);
        let matches = conditions(no, &mut input);
        work.done += granted - input.work_left();
        matches
    };
    for (no, is_conditional) in found {
        match if is_conditional { wants(no, FILTER_FIRST_WORK, &mut work) } else { Ok(true) } {
            Ok(true) => receivers.push(no),
            Ok(false) => {}
            Err(TooCostly) => costly.push(no),
        }
    }
    let mut too_costly = Vec::new();
    for (n, no) in costly.iter().enumerate() {
        // Half of what is left, or the share of each webhook if that is more.
        let share = (work.left() / 2).max(work.left() / (costly.len() - n) as u64);
        match wants(*no, share, &mut work) {
            Ok(true) => receivers.push(*no),
            Ok(false) => {}
            Err(TooCostly) => too_costly.push(*no),
        }
    }
    if !costly.is_empty() {
        receivers.sort_unstable();
    }
    work.charge();
    MatchedWebhooks { receivers, too_costly: too_costly.into() }
}

/// The work of the filters of one event.
pub(super) struct EventWork<'a> {
    done: u64,
    max: u64,
    /// Whether the tenant's budget limits `max`. An event without costly filters does not read it.
    is_limited: bool,
    tenant_work: &'a WorkBudget,
    now: Timestamp,
}

impl<'a> EventWork<'a> {
    /// The work of an event that is matched at the time `now` of the wall clock.
    pub(super) fn new(tenant_work: &'a WorkBudget, now: Timestamp) -> Self {
        Self { done: 0, max: FILTER_EVENT_WORK_MAX, is_limited: false, tenant_work, now }
    }

    fn left(&self) -> u64 {
        self.max.saturating_sub(self.done)
    }

    /// The part of `units` that may be done now.
    fn grant(&mut self, units: u64) -> u64 {
        if !self.is_limited && self.done.saturating_add(units) > FILTER_UNCHARGED_WORK {
            self.is_limited = true;
            self.max = self.max.min(self.tenant_work.available(self.now).max(FILTER_UNCHARGED_WORK));
        }
        units.min(self.left())
    }

    /// Charges the tenant for what was done.
    fn charge(self) {
        if self.done > FILTER_UNCHARGED_WORK {
            self.tenant_work.charge(self.now, self.done);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::limits::TENANT_WORK_BURST;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// Evaluates webhooks 0, 1, 2, … whose conditions need these units. Returns the receivers, the others, and the work.
    fn evaluated(needs: &[u64], budget: &WorkBudget) -> (Vec<u32>, Vec<u32>, u64) {
        let done = Cell::new(0);
        let conditions = |no: WebhookNo, input: &mut FilterInput<'_>| {
            let units = needs[no.0 as usize];
            input.spend(units)?;
            done.set(done.get() + units);
            Ok(true)
        };
        let found = (0..needs.len() as u32).map(|no| (WebhookNo(no), true));
        let matched = evaluate(found, conditions, &EventFields::default(), EventWork::new(budget, NOW));
        let nos = |nos: &[WebhookNo]| nos.iter().map(|no| no.0).collect();
        (nos(&matched.receivers), nos(&matched.too_costly), done.get())
    }

    #[test]
    fn usual_filters_are_not_charged_and_costly_ones_are() {
        let budget = WorkBudget::default();
        assert_eq!(evaluated(&[FILTER_UNCHARGED_WORK], &budget), (vec![0], vec![], FILTER_UNCHARGED_WORK));
        assert_eq!(budget.available(NOW), TENANT_WORK_BURST);
        assert_eq!(evaluated(&[3_000_000, 10], &budget).0, [0, 1]);
        assert_eq!(budget.available(NOW), TENANT_WORK_BURST - 3_000_050, "rounded up to a microsecond");
    }

    #[test]
    fn the_work_of_an_event_is_bounded_and_usual_filters_come_first() {
        let needs = [FILTER_EVENT_WORK_MAX, 2_000_000, 1_000_000, 1_000, FILTER_EVENT_WORK_MAX + 1, 2_000_000, 500];
        let (receivers, too_costly, work) = evaluated(&needs, &WorkBudget::default());
        assert_eq!((receivers, too_costly), (vec![1, 2, 3, 6], vec![0, 4, 5]));
        assert!(work <= FILTER_EVENT_WORK_MAX);
        assert_eq!(evaluated(&[4_900_000, 1_000], &WorkBudget::default()).0, [0, 1], "one may use nearly all");
        let many = vec![FILTER_FIRST_WORK; 10_000];
        let (receivers, too_costly, work) = evaluated(&many, &WorkBudget::default());
        assert_eq!(receivers.len() + too_costly.len(), many.len());
        assert!(work <= FILTER_EVENT_WORK_MAX);
    }

    #[test]
    fn a_tenant_that_used_up_its_second_still_has_usual_filters() {
        let budget = WorkBudget::default();
        let mut costly = 0;
        while evaluated(&[FILTER_EVENT_WORK_MAX], &budget).1.is_empty() {
            costly += 1;
        }
        assert_eq!(costly, TENANT_WORK_BURST / FILTER_EVENT_WORK_MAX);
        assert_eq!(evaluated(&[100_000, 1_000], &budget), (vec![1], vec![0], 1_000));
    }
}
