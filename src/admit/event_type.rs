//! Checks events against the event type catalogue before they are accepted: the type must be known, and the data must match
//! the schema of the type.

use serde_json::Value;

use super::RegistryReader;
use super::validate::ValidEvent;
use crate::http::{FieldError, Problem};
use crate::inbound::source::{EventData, InboundEvent, Source};
use crate::registry::catalogue::{EventType, TypeRule};

/// Checks an event of an application. `pointer` is the JSON pointer of the event in the body. Returns a warning if the
/// type is deprecated.
///
/// # Errors
/// As for [`check`].
pub(super) fn check_application_event(
    event: &ValidEvent<'_>,
    pointer: &str,
    registry: &impl RegistryReader,
) -> Result<Option<String>, Problem> {
    let of = (&*event.tenant, &*event.event_type);
    check(registry, of, &format!("{pointer}/type"), event.data, Some(&format!("{pointer}/data")))
}

/// Checks an event of a partner. Events of a provider are not checked: the provider does not know the catalogue, and a
/// refused event would be lost.
///
/// # Errors
/// As for [`check`].
pub(super) fn check_source_event(
    registry: &impl RegistryReader,
    source: &Source,
    intake: &InboundEvent<'_>,
) -> Result<(), Problem> {
    if !source.is_partner() {
        return Ok(());
    }
    let data_at = match &intake.data {
        EventData::Body(_) => Some(""),
        EventData::Part(_) => Some("/data"),
        EventData::Built(_) => None,
    };
    check(registry, (&source.tenant, &intake.event_type), "", intake.data.text(), data_at).map(drop)
}

/// Checks an event. `type_at` and `data_at` are the JSON pointers of the type and the data in the body. `data_at` is
/// `None` if an event map produced the data; then the schema is not checked. Returns a warning if the type is deprecated.
///
/// # Errors
/// 422 for a type that is not in a strict catalogue, or for data that violate the schema of the type. The number of listed
/// violations is limited.
pub(super) fn check(
    registry: &impl RegistryReader,
    (tenant, event_type): (&str, &str),
    type_at: &str,
    data: &str,
    data_at: Option<&str>,
) -> Result<Option<String>, Problem> {
    match registry.type_rule(tenant, event_type) {
        TypeRule::Free => Ok(None),
        TypeRule::Unknown => {
            let detail = format!("{event_type} is not in the catalogue (GET /api/v1/event-types), which is strict");
            Err(Problem::unknown_types(vec![FieldError::new(type_at, detail)]))
        }
        TypeRule::Known(known) => {
            if let Some(root) = data_at {
                check_data(&known, data, root)?;
            }
            Ok(known.definition.deprecation())
        }
    }
}

fn check_data(known: &EventType, data: &str, root: &str) -> Result<(), Problem> {
    if !known.definition.checks() {
        return Ok(());
    }
    // The data were parsed before, so they are valid JSON.
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    let errors = known.definition.validate(&data, root);
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid_body(errors)) }
}
