//! What the catalogue says of an event before it is taken: whether its type is known, and whether its data are what they
//! must be.

use serde_json::Value;

use super::Directory;
use super::validate::Checked;
use crate::http::{FieldError, Problem};
use crate::inbound::source::{Breach, Data, Intake, Source};
use crate::registry::catalogue::{EventType, TypeRule};

/// What the catalogue says of an application's event, which stands at `place` in the body.
///
/// # Errors
/// As [`check`].
pub(super) fn fits_catalogue(
    event: &Checked<'_>,
    place: &str,
    directory: &impl Directory,
) -> Result<Option<String>, Problem> {
    let of = (&*event.tenant, &*event.event_type);
    check(directory, of, &format!("{place}/type"), event.data, Some(&format!("{place}/data")))
}

/// Holds a partner's events to the catalogue. A provider's are taken whatever they are: it knows nothing of our types, and
/// what it is refused is lost.
///
/// # Errors
/// As [`check`].
pub(super) fn of_source(directory: &impl Directory, source: &Source, intake: &Intake<'_>) -> Result<(), Problem> {
    if !source.is_partner() {
        return Ok(());
    }
    let data_at = match &intake.data {
        Data::Body(_) => Some(""),
        Data::Part(_) => Some("/data"),
        Data::Made(_) => None,
    };
    check(directory, (&source.tenant, &intake.event_type), "", intake.data.text(), data_at).map(drop)
}

/// Checks an event; `data_at` is where its data stand in the body, `None` where they are not the sender's.
///
/// # Errors
/// A type that a strict catalogue does not have, at `type_at`; or every breach of the type's schema, up to a bound.
pub(super) fn check(
    directory: &impl Directory,
    (tenant, event_type): (&str, &str),
    type_at: &str,
    data: &str,
    data_at: Option<&str>,
) -> Result<Option<String>, Problem> {
    match directory.type_rule(tenant, event_type) {
        TypeRule::Free => Ok(None),
        TypeRule::Unknown => {
            let detail = format!("{event_type} is not in the catalogue (GET /api/v1/event-types), which is strict");
            Err(Problem::unknown_types(vec![FieldError::new(type_at, detail)]))
        }
        TypeRule::Known(known) => {
            if let Some(root) = data_at {
                data_fit(&known, data, root)?;
            }
            Ok(known.definition.deprecation())
        }
    }
}

fn data_fit(known: &EventType, data: &str, root: &str) -> Result<(), Problem> {
    if !known.definition.checks() {
        return Ok(());
    }
    // It was read once already, so that it is JSON.
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    let field = |Breach { pointer, detail }| FieldError { pointer, detail };
    let errors: Vec<_> = known.definition.breaches(&data, root).into_iter().map(field).collect();
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid_body(errors)) }
}
