//! Validates an event of an application (API section 3). Reports every error with its JSON pointer.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::RegistryReader;
use super::parse::{PublishField, RawEvent};
use crate::http::FieldError;
use crate::json::exceeds_depth;
use crate::limits::{CLIENT_ID_BYTES_MAX, JSON_DEPTH_MAX, METADATA_BYTES_MAX, VIOLATIONS_LISTED_MAX};
use crate::model::{DEFAULT_TENANT, NumericIds, RESERVED_TYPE_PREFIX, Timestamp, is_event_type};

/// A valid event. Its texts are borrowed from the body where possible.
#[derive(Debug)]
pub(super) struct ValidEvent<'a> {
    pub(super) tenant: Cow<'a, str>,
    pub(super) event_type: Cow<'a, str>,
    pub(super) data: &'a str,
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) resource_id: Option<Cow<'a, str>>,
    pub(super) workspace_id: Option<Cow<'a, str>>,
    pub(super) user_id: Option<Cow<'a, str>>,
    pub(super) numeric_ids: NumericIds,
    pub(super) metadata: Option<&'a str>,
}

/// Validates an event.
///
/// `index` is the index of the event in an array or in NDJSON. `own_tenant` is the tenant of the API key, or `None` for a
/// key of all tenants.
///
/// # Errors
/// Every violation, up to [`VIOLATIONS_LISTED_MAX`] of them.
pub(super) fn validate<'a>(
    item: &RawEvent<'a>,
    index: Option<usize>,
    own_tenant: Option<&'a str>,
    registry: &impl RegistryReader,
) -> Result<ValidEvent<'a>, Vec<FieldError>> {
    let mut errors = FieldErrors { index, list: Vec::new() };
    if !item.is_object {
        errors.add("", "must be an object");
        return Err(errors.list);
    }
    for name in &item.unknown {
        errors.add(&format!("/{}", name.replace('~', "~0").replace('/', "~1")), "no field of an event");
    }
    for field in &item.repeated {
        errors.at(*field, "is there more than once");
    }
    let event = ValidEvent {
        event_type: event_type(item, &mut errors),
        data: data(item, &mut errors),
        tenant: tenant(item, own_tenant, registry, &mut errors),
        id: id(item, PublishField::Id, 1, &mut errors),
        resource_id: id(item, PublishField::ResourceId, 0, &mut errors),
        workspace_id: id(item, PublishField::WorkspaceId, 0, &mut errors),
        user_id: id(item, PublishField::UserId, 0, &mut errors),
        numeric_ids: numeric_ids(item),
        timestamp: timestamp(item, &mut errors),
        metadata: metadata(item, &mut errors),
    };
    if errors.list.is_empty() { Ok(event) } else { Err(errors.list) }
}

struct FieldErrors {
    index: Option<usize>,
    list: Vec<FieldError>,
}

impl FieldErrors {
    fn add(&mut self, pointer: &str, detail: impl Into<String>) {
        if self.list.len() < VIOLATIONS_LISTED_MAX {
            let pointer = self.index.map_or_else(|| pointer.to_owned(), |index| format!("/{index}{pointer}"));
            self.list.push(FieldError::new(pointer, detail));
        }
    }

    fn at(&mut self, field: PublishField, detail: impl Into<String>) {
        self.add(&format!("/{}", field.name()), detail);
    }
}

fn event_type<'a>(item: &RawEvent<'a>, errors: &mut FieldErrors) -> Cow<'a, str> {
    let mut found: Option<Cow<'a, str>> = None;
    for field in [PublishField::Type, PublishField::Event, PublishField::EventType] {
        let Some(raw) = item.non_null(field) else { continue };
        match text(raw) {
            None => errors.at(field, "must be text"),
            Some(name) if !is_event_type(&name) => {
                errors.at(field, "must match [A-Za-z0-9][A-Za-z0-9._:-]{0,127}");
            }
            Some(name) if name.starts_with(RESERVED_TYPE_PREFIX) => {
                errors.at(field, format!("types that begin with {RESERVED_TYPE_PREFIX:?} are the gateway's own"));
            }
            Some(name) if found.as_ref().is_some_and(|found| *found != name) => {
                errors.at(field, "contradicts another name of the type");
            }
            Some(name) => found = Some(name),
        }
    }
    let is_given = || {
        [PublishField::Type, PublishField::Event, PublishField::EventType]
            .iter()
            .any(|field| item.non_null(*field).is_some())
    };
    found.unwrap_or_else(|| {
        if !is_given() {
            errors.at(PublishField::Type, "is required");
        }
        Cow::Borrowed("")
    })
}

fn data<'a>(item: &RawEvent<'a>, errors: &mut FieldErrors) -> &'a str {
    let Some(raw) = item.raw(PublishField::Data) else {
        errors.at(PublishField::Data, "is required");
        return "";
    };
    if exceeds_depth(raw.get(), JSON_DEPTH_MAX) {
        errors.at(PublishField::Data, format!("is nested deeper than {JSON_DEPTH_MAX}"));
    }
    raw.get()
}

fn tenant<'a>(
    item: &RawEvent<'a>,
    own: Option<&'a str>,
    registry: &impl RegistryReader,
    errors: &mut FieldErrors,
) -> Cow<'a, str> {
    let mut found: Option<Cow<'a, str>> = None;
    for field in [PublishField::Tenant, PublishField::OrgId] {
        let Some(raw) = item.non_null(field) else { continue };
        let Some(name) = id_text(raw) else {
            errors.at(field, "must be text");
            continue;
        };
        match own {
            Some(own) if own == name => {}
            Some(_) => errors.at(field, "only a key for all tenants may name another one"),
            None if found.as_ref().is_some_and(|found| *found != name) => {
                errors.at(field, "contradicts another name of the tenant");
            }
            None if !registry.has_tenant(&name) => {
                let shown: String = name.chars().take(64).collect();
                errors.at(field, format!("there is no tenant {shown:?}"));
            }
            None => found = Some(name),
        }
    }
    own.map(Cow::Borrowed).or(found).unwrap_or(Cow::Borrowed(DEFAULT_TENANT))
}

fn id<'a>(item: &RawEvent<'a>, field: PublishField, least: usize, errors: &mut FieldErrors) -> Option<Cow<'a, str>> {
    let id = id_text(item.non_null(field)?);
    match &id {
        None => errors.at(field, "must be text or a number"),
        Some(id) if !(least..=CLIENT_ID_BYTES_MAX).contains(&id.len()) => {
            errors.at(field, format!("must have {least} to {CLIENT_ID_BYTES_MAX} bytes"));
        }
        Some(_) => {}
    }
    id
}

fn numeric_ids(item: &RawEvent<'_>) -> NumericIds {
    let is_number = |field| item.non_null(field).is_some_and(is_number);
    NumericIds {
        resource: is_number(PublishField::ResourceId),
        workspace: is_number(PublishField::WorkspaceId),
        user: is_number(PublishField::UserId),
    }
}

fn timestamp(item: &RawEvent<'_>, errors: &mut FieldErrors) -> Option<Timestamp> {
    let at = text(item.non_null(PublishField::Timestamp)?).and_then(|text| text.parse().ok());
    if at.is_none() {
        errors.at(PublishField::Timestamp, "must be an RFC 3339 time such as 2026-01-31T12:00:00.000Z");
    }
    at
}

fn metadata<'a>(item: &RawEvent<'a>, errors: &mut FieldErrors) -> Option<&'a str> {
    let raw = item.non_null(PublishField::Metadata)?.get();
    if !raw.starts_with('{') {
        errors.at(PublishField::Metadata, "must be an object");
    } else if raw.len() > METADATA_BYTES_MAX {
        errors.at(PublishField::Metadata, format!("must have at most {METADATA_BYTES_MAX} bytes"));
    } else if exceeds_depth(raw, JSON_DEPTH_MAX) {
        errors.at(PublishField::Metadata, format!("is nested deeper than {JSON_DEPTH_MAX}"));
    }
    Some(raw)
}

/// The text of a JSON string, borrowed if it has no escapes. `None` for other JSON values.
fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let json = raw.get();
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    // Strict: with U+FFFD in place of half of a surrogate pair, two ids could become the same.
    if inner.contains('\\') { serde_json::from_str(json).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// The text of a JSON string, or a number as written. Ids are compared as text. `None` for other JSON values.
fn id_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    if is_number(raw) { Some(Cow::Borrowed(raw.get())) } else { text(raw) }
}

fn is_number(raw: &RawValue) -> bool {
    raw.get().starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::parse::{ParsedBody, json};
    use crate::admit::tests::Fake;

    fn check(body: &str, own: Option<&'static str>) -> Result<(String, String), Vec<(String, String)>> {
        let Ok(ParsedBody::Single(item)) = json(body.as_bytes()) else { panic!("an object: {body}") };
        match validate(&item, None, own, &Fake::default()) {
            Ok(event) => Ok((event.tenant.into_owned(), event.event_type.into_owned())),
            Err(errors) => Err(errors.into_iter().map(|b| (b.pointer, b.detail)).collect()),
        }
    }

    #[test]
    fn valid_events_are_accepted() {
        for (body, type_) in [
            (r#"{"type":"a.b","data":null}"#, "a.b"),
            (r#"{"event":"a","data":1}"#, "a"),
            (r#"{"event_type":"a","event":"a","type":"a","data":[]}"#, "a"),
            (r#"{"type":"\u0061","data":"x"}"#, "a"),
            (r#"{"type":"hooktide","data":{}}"#, "hooktide"),
            (r#"{"type":"a","data":{},"id":7,"user_id":18446744073709551616,"resource_id":""}"#, "a"),
            (r#"{"type":"a","data":{},"id":null,"timestamp":"2026-01-31T12:00:00+02:00","metadata":{"a":[1]}}"#, "a"),
        ] {
            assert_eq!(check(body, None), Ok(("default".into(), type_.into())), "{body}");
        }
    }

    #[test]
    fn each_violation_has_its_pointer() {
        let long = format!(r#"{{"type":"a","data":1,"id":"{}"}}"#, "x".repeat(CLIENT_ID_BYTES_MAX + 1));
        let deep = format!(r#"{{"type":"a","data":{}{}}}"#, "[".repeat(129), "]".repeat(129));
        for (body, pointers) in [
            ("{}", &["/type", "/data"][..]),
            (r#"{"type":7,"data":1}"#, &["/type"]),
            (r#"{"type":"-a","data":1}"#, &["/type"]),
            (r#"{"type":"hooktide.x","data":1}"#, &["/type"]),
            (r#"{"type":"a","event":"b","data":1}"#, &["/event"]),
            (r#"{"type":"a","data":1,"dat~a/":2}"#, &["/dat~0a~1"]),
            (r#"{"type":"a","type":"a","data":1}"#, &["/type"]),
            (
                r#"{"type":"a","data":1,"id":"","user_id":{},"timestamp":"now","metadata":[]}"#,
                &["/id", "/user_id", "/timestamp", "/metadata"],
            ),
            (r#"{"type":"a","data":1,"tenant":"nobody"}"#, &["/tenant"]),
            (r#"{"type":"a","data":1,"tenant":"acme","org_id":"default"}"#, &["/org_id"]),
            (r#"{"type":"a\ud800","data":1}"#, &["/type"]),
            (r#"{"type":"a","data":1,"user_id":"\ud800"}"#, &["/user_id"]),
            (&long, &["/id"]),
            (&deep, &["/data"]),
        ] {
            let found: Vec<_> = check(body, None).unwrap_err().into_iter().map(|(pointer, _)| pointer).collect();
            assert_eq!(found, pointers, "{body}");
        }
    }

    #[test]
    fn a_key_of_a_tenant_cannot_name_another_tenant() {
        assert_eq!(check(r#"{"type":"a","data":1}"#, Some("acme")).unwrap().0, "acme");
        assert_eq!(check(r#"{"type":"a","data":1,"tenant":"acme"}"#, Some("acme")).unwrap().0, "acme");
        assert!(check(r#"{"type":"a","data":1,"org_id":"default"}"#, Some("acme")).is_err());
        assert_eq!(check(r#"{"type":"a","data":1,"tenant":"acme"}"#, None).unwrap().0, "acme");
    }

    #[test]
    fn the_number_of_violations_is_limited() {
        let fields: Vec<_> = (0..10_000).map(|n| format!("\"f{n}\":0")).collect();
        assert_eq!(check(&format!("{{{}}}", fields.join(",")), None).unwrap_err().len(), VIOLATIONS_LISTED_MAX);
    }
}
