//! Which events a replay takes, and to whom they go.

use super::job::{Ground, StepError};
use crate::filter::Facts;
use crate::handoff::ReplayFilter;
use crate::model::{EventHead, EventId, EventPattern, WebhookNo, Webhooks, data_of};

/// Whether a replay takes an event.
pub(super) fn takes(filter: &ReplayFilter, patterns: &[EventPattern], head: &EventHead<'_>) -> bool {
    let event = &head.event;
    *filter.tenant == *event.tenant
        && filter.since.is_none_or(|since| event.received_at >= since)
        && filter.until.is_none_or(|until| event.received_at < until)
        && (filter.types.is_empty() || patterns.iter().any(|pattern| pattern.matches(event.event_type)))
}

/// The webhooks that a replay delivers an event to, ascending.
pub(super) fn targets(
    filter: &ReplayFilter,
    event: EventId,
    bytes: &[u8],
    head: &EventHead<'_>,
    ground: &Ground<'_, '_>,
) -> Result<Webhooks, StepError> {
    let mut webhooks = head.webhooks();
    if filter.include_unmatched
        && let Some((_, body)) = ground.log.read(&[event])?.pop().flatten()
    {
        let data = data_of(bytes, &body);
        webhooks.extend(ground.targets.matching(&Facts::of(&head.event, &data)));
        webhooks.sort_unstable();
        webhooks.dedup();
    }
    match filter.webhook.map(WebhookNo) {
        // Who names one event and one webhook means just that.
        Some(no) if filter.event.is_some() => webhooks = [no].into_iter().collect(),
        Some(no) => webhooks.retain(|webhook| *webhook == no),
        None => {}
    }
    if !filter.include_paused {
        webhooks.retain(|webhook| !ground.targets.is_held(*webhook));
    }
    Ok(webhooks)
}
