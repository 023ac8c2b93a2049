//! Checks the event types of a webhook against the catalogue.

use crate::model::{EventPattern, FieldError};
use crate::outbound::WebhookSettings;
use crate::registry::Registry;
use crate::service::Error;

/// In strict mode, rejects event types and patterns that match no event type of the catalogue. Those that `old` already
/// has are accepted, so that a type can be deleted from the catalogue.
///
/// # Errors
/// [`Error::unknown_types`], with JSON pointers into the webhook's document.
pub(crate) fn unknown_types(
    registry: &Registry,
    old: Option<&WebhookSettings>,
    settings: &WebhookSettings,
) -> Result<(), Error> {
    let is_new = |pattern: &EventPattern| !old.is_some_and(|old| old.events.contains(pattern));
    let unknown = |(n, pattern): (usize, &EventPattern)| {
        let detail = unknown_type(registry, &settings.tenant, pattern)?;
        is_new(pattern).then(|| FieldError::new(format!("/events/{n}"), detail))
    };
    let errors: Vec<_> = settings.events.iter().enumerate().filter_map(unknown).collect();
    if errors.is_empty() { Ok(()) } else { Err(Error::unknown_types(errors)) }
}

/// Returns the reason if a strict catalogue rejects the pattern; `None` if the pattern is accepted.
pub(crate) fn unknown_type(registry: &Registry, tenant: &str, pattern: &EventPattern) -> Option<String> {
    (registry.is_strict() && !registry.knows(tenant, pattern))
        .then(|| format!("no event type of the catalogue fits {pattern}, and the catalogue is strict"))
}

/// Warnings about the event types of a webhook: those that match no type of the catalogue, and those that are
/// deprecated. A tenant without a catalogue gets no warnings.
pub(crate) fn type_warnings(registry: &Registry, settings: &WebhookSettings) -> Vec<String> {
    let tenant = &*settings.tenant;
    if !registry.has_catalogue(tenant) {
        return Vec::new();
    }
    let patterns = settings.events.iter().chain(settings.subscriptions.iter().map(|one| &one.event_type));
    let warning = |pattern: &EventPattern| match pattern {
        EventPattern::Exact(name) if registry.knows(tenant, pattern) => {
            registry.event_type(tenant, name)?.definition.deprecation()
        }
        _ if registry.knows(tenant, pattern) => None,
        _ => Some(format!("no event type of the catalogue fits {pattern}")),
    };
    patterns.filter_map(warning).collect()
}
