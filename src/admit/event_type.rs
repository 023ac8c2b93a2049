//! Checks events against the event type catalogue before they are accepted: the type must be known, and the data must match
//! the schema of the type.

use std::sync::Arc;

use bytes::Bytes;

use super::rule_check::part_of;
use super::validate::ValidEvent;
use super::{Admit, RegistryReader};
use crate::http::{FieldError, Problem};
use crate::inbound::source::{EventData, InboundEvent, Source};
use crate::registry::catalogue::{EventType, TypeRule};

/// Checks an event of an application. `pointer` is the JSON pointer of the event in the body. Returns a warning if the
/// type is deprecated.
///
/// # Errors
/// As for [`check`].
pub(super) async fn check_application_event<D: RegistryReader, S, M>(
    admit: &Admit<D, S, M>,
    event: &ValidEvent<'_>,
    pointer: &str,
    body: &Bytes,
) -> Result<Option<String>, Problem> {
    let of = (&*event.tenant, &*event.event_type);
    check(admit, of, &format!("{pointer}/type"), (body, event.data), Some(&format!("{pointer}/data"))).await
}

/// Checks an event of a partner. Events of a provider are not checked: the provider does not know the catalogue, and a
/// refused event would be lost.
///
/// # Errors
/// As for [`check`].
pub(super) async fn check_source_event<D: RegistryReader, S, M>(
    admit: &Admit<D, S, M>,
    source: &Source,
    intake: &InboundEvent<'_>,
    body: &Bytes,
) -> Result<(), Problem> {
    if !source.is_partner() {
        return Ok(());
    }
    let data_at = match &intake.data {
        EventData::Body(_) => Some(""),
        EventData::Part(_) => Some("/data"),
        EventData::Built(_) => None,
    };
    check(admit, (&source.tenant, &intake.event_type), "", (body, intake.data.text()), data_at).await.map(drop)
}

/// Checks an event. `type_at` and `data_at` are the JSON pointers of the type and the data in the body. `data_at` is
/// `None` if an event map produced the data; then the schema is not checked. Returns a warning if the type is deprecated.
///
/// # Errors
/// 422 for a type that is not in a strict catalogue, or for data that violate the schema of the type. The number of listed
/// violations is limited.
async fn check<D: RegistryReader, S, M>(
    admit: &Admit<D, S, M>,
    (tenant, event_type): (&str, &str),
    type_at: &str,
    (body, data): (&Bytes, &str),
    data_at: Option<&str>,
) -> Result<Option<String>, Problem> {
    match admit.registry.type_rule(tenant, event_type) {
        TypeRule::Free => Ok(None),
        TypeRule::Unknown => {
            let detail = format!("{event_type} is not in the catalogue (GET /api/v1/event-types), which is strict");
            Err(Problem::unknown_types(vec![FieldError::new(type_at, detail)]))
        }
        TypeRule::Known(known) => {
            if let Some(root) = data_at {
                check_data(admit, &known, tenant, (body, data), root).await?;
            }
            Ok(known.definition.deprecation())
        }
    }
}

async fn check_data<D: RegistryReader, S, M>(
    admit: &Admit<D, S, M>,
    known: &Arc<EventType>,
    tenant: &str,
    (body, data): (&Bytes, &str),
    root: &str,
) -> Result<(), Problem> {
    if !known.definition.checks() {
        return Ok(());
    }
    let work = known.definition.work(data, root).map_err(|violation| Problem::invalid_body(vec![violation]))?;
    let (definition, data, root) = (Arc::clone(&known.definition), part_of(body, data), root.to_owned());
    let errors = admit.run_check(tenant, work, move || definition.validate_text(&data, &root)).await?;
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid_body(errors)) }
}
