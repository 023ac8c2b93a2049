//! The filter of replays.

use crate::handoff::ReplayFilter;
use crate::model::{EventHead, EventPattern};

/// Whether a replay includes an event. `patterns` are the parsed types of the filter; an empty list matches every type.
pub(super) fn takes(filter: &ReplayFilter, patterns: &[EventPattern], head: &EventHead<'_>) -> bool {
    let event = &head.event;
    *filter.tenant == *event.tenant
        && filter.since.is_none_or(|since| event.received_at >= since)
        && filter.until.is_none_or(|until| event.received_at < until)
        && (filter.types.is_empty() || patterns.iter().any(|pattern| pattern.matches(event.event_type)))
}
