//! The rules of an event that an application sends (API section 3): all breaches are found, each with its JSON pointer.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Directory;
use super::parse::{Field, Item};
use crate::http::FieldError;
use crate::json::is_deeper;
use crate::limits::{BREACHES_LISTED_MAX, CLIENT_ID_BYTES_MAX, JSON_DEPTH_MAX, METADATA_BYTES_MAX};
use crate::model::{DEFAULT_TENANT, RESERVED_TYPES, Timestamp, is_event_type};

/// An event that keeps the rules; its texts are those of the body.
#[derive(Debug)]
pub(super) struct Checked<'a> {
    pub(super) tenant: Cow<'a, str>,
    pub(super) event_type: Cow<'a, str>,
    pub(super) data: &'a str,
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) resource_id: Option<Cow<'a, str>>,
    pub(super) workspace_id: Option<Cow<'a, str>>,
    pub(super) user_id: Option<Cow<'a, str>>,
    pub(super) metadata: Option<&'a str>,
}

/// Checks an item; `place` is its index in an array or in lines, `own_tenant` that of the caller's key unless it acts for
/// all.
///
/// # Errors
/// Each breach, up to [`BREACHES_LISTED_MAX`] of them.
pub(super) fn validate<'a>(
    item: &Item<'a>,
    place: Option<usize>,
    own_tenant: Option<&'a str>,
    directory: &impl Directory,
) -> Result<Checked<'a>, Vec<FieldError>> {
    let mut breaches = Breaches { place, list: Vec::new() };
    if !item.is_object {
        breaches.add("", "must be an object");
        return Err(breaches.list);
    }
    for name in &item.unknown {
        breaches.add(&format!("/{}", name.replace('~', "~0").replace('/', "~1")), "no field of an event");
    }
    for field in &item.repeated {
        breaches.at(*field, "is there more than once");
    }
    let event = Checked {
        event_type: event_type(item, &mut breaches),
        data: data(item, &mut breaches),
        tenant: tenant(item, own_tenant, directory, &mut breaches),
        id: id(item, Field::Id, 1, &mut breaches),
        resource_id: id(item, Field::ResourceId, 0, &mut breaches),
        workspace_id: id(item, Field::WorkspaceId, 0, &mut breaches),
        user_id: id(item, Field::UserId, 0, &mut breaches),
        timestamp: timestamp(item, &mut breaches),
        metadata: metadata(item, &mut breaches),
    };
    if breaches.list.is_empty() { Ok(event) } else { Err(breaches.list) }
}

struct Breaches {
    place: Option<usize>,
    list: Vec<FieldError>,
}

impl Breaches {
    fn add(&mut self, pointer: &str, detail: impl Into<String>) {
        if self.list.len() < BREACHES_LISTED_MAX {
            let pointer = self.place.map_or_else(|| pointer.to_owned(), |place| format!("/{place}{pointer}"));
            self.list.push(FieldError::new(pointer, detail));
        }
    }

    fn at(&mut self, field: Field, detail: impl Into<String>) {
        self.add(&format!("/{}", field.name()), detail);
    }
}

fn event_type<'a>(item: &Item<'a>, breaches: &mut Breaches) -> Cow<'a, str> {
    let mut found: Option<Cow<'a, str>> = None;
    for field in [Field::Type, Field::Event, Field::EventType] {
        let Some(raw) = item.given(field) else { continue };
        match text(raw) {
            None => breaches.at(field, "must be text"),
            Some(name) if !is_event_type(&name) => {
                breaches.at(field, "must match [A-Za-z0-9][A-Za-z0-9._:-]{0,127}");
            }
            Some(name) if name.starts_with(RESERVED_TYPES) => {
                breaches.at(field, format!("types that begin with {RESERVED_TYPES:?} are the gateway's own"));
            }
            Some(name) if found.as_ref().is_some_and(|found| *found != name) => {
                breaches.at(field, "contradicts another name of the type");
            }
            Some(name) => found = Some(name),
        }
    }
    let is_given = || [Field::Type, Field::Event, Field::EventType].iter().any(|field| item.given(*field).is_some());
    found.unwrap_or_else(|| {
        if !is_given() {
            breaches.at(Field::Type, "is required");
        }
        Cow::Borrowed("")
    })
}

fn data<'a>(item: &Item<'a>, breaches: &mut Breaches) -> &'a str {
    let Some(raw) = item.raw(Field::Data) else {
        breaches.at(Field::Data, "is required");
        return "";
    };
    if is_deeper(raw.get(), JSON_DEPTH_MAX) {
        breaches.at(Field::Data, format!("is nested deeper than {JSON_DEPTH_MAX}"));
    }
    raw.get()
}

fn tenant<'a>(
    item: &Item<'a>,
    own: Option<&'a str>,
    directory: &impl Directory,
    breaches: &mut Breaches,
) -> Cow<'a, str> {
    let mut found: Option<Cow<'a, str>> = None;
    for field in [Field::Tenant, Field::OrgId] {
        let Some(raw) = item.given(field) else { continue };
        let Some(name) = id_text(raw) else {
            breaches.at(field, "must be text");
            continue;
        };
        match own {
            Some(own) if own == name => {}
            Some(_) => breaches.at(field, "only a key for all tenants may name another one"),
            None if found.as_ref().is_some_and(|found| *found != name) => {
                breaches.at(field, "contradicts another name of the tenant");
            }
            None if !directory.has_tenant(&name) => {
                let shown: String = name.chars().take(64).collect();
                breaches.at(field, format!("there is no tenant {shown:?}"));
            }
            None => found = Some(name),
        }
    }
    own.map(Cow::Borrowed).or(found).unwrap_or(Cow::Borrowed(DEFAULT_TENANT))
}

fn id<'a>(item: &Item<'a>, field: Field, least: usize, breaches: &mut Breaches) -> Option<Cow<'a, str>> {
    let id = id_text(item.given(field)?);
    match &id {
        None => breaches.at(field, "must be text or a number"),
        Some(id) if !(least..=CLIENT_ID_BYTES_MAX).contains(&id.len()) => {
            breaches.at(field, format!("must have {least} to {CLIENT_ID_BYTES_MAX} bytes"));
        }
        Some(_) => {}
    }
    id
}

fn timestamp(item: &Item<'_>, breaches: &mut Breaches) -> Option<Timestamp> {
    let at = text(item.given(Field::Timestamp)?).and_then(|text| text.parse().ok());
    if at.is_none() {
        breaches.at(Field::Timestamp, "must be an RFC 3339 time such as 2026-01-31T12:00:00.000Z");
    }
    at
}

fn metadata<'a>(item: &Item<'a>, breaches: &mut Breaches) -> Option<&'a str> {
    let raw = item.given(Field::Metadata)?.get();
    if !raw.starts_with('{') {
        breaches.at(Field::Metadata, "must be an object");
    } else if raw.len() > METADATA_BYTES_MAX {
        breaches.at(Field::Metadata, format!("must have at most {METADATA_BYTES_MAX} bytes"));
    } else if is_deeper(raw, JSON_DEPTH_MAX) {
        breaches.at(Field::Metadata, format!("is nested deeper than {JSON_DEPTH_MAX}"));
    }
    Some(raw)
}

/// A JSON string's text, borrowed if it has no escapes.
fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let json = raw.get();
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(json).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// Text, or a number as it is written: ids compare as text.
fn id_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let json = raw.get();
    if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Some(Cow::Borrowed(json));
    }
    text(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::parse::{Items, json};
    use crate::admit::tests::Fake;

    fn check(body: &str, own: Option<&'static str>) -> Result<(String, String), Vec<(String, String)>> {
        let Ok(Items::One(item)) = json(body.as_bytes()) else { panic!("an object: {body}") };
        match validate(&item, None, own, &Fake::default()) {
            Ok(event) => Ok((event.tenant.into_owned(), event.event_type.into_owned())),
            Err(breaches) => Err(breaches.into_iter().map(|b| (b.pointer, b.detail)).collect()),
        }
    }

    #[test]
    fn what_is_accepted() {
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
    fn each_breach_is_named() {
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
            (r#"{"type":"a","data":1,"user_id":"\ud800"}"#, &["/user_id"]),
            (&long, &["/id"]),
            (&deep, &["/data"]),
        ] {
            let found: Vec<_> = check(body, None).unwrap_err().into_iter().map(|(pointer, _)| pointer).collect();
            assert_eq!(found, pointers, "{body}");
        }
    }

    #[test]
    fn a_tenants_key_names_no_other_tenant() {
        assert_eq!(check(r#"{"type":"a","data":1}"#, Some("acme")).unwrap().0, "acme");
        assert_eq!(check(r#"{"type":"a","data":1,"tenant":"acme"}"#, Some("acme")).unwrap().0, "acme");
        assert!(check(r#"{"type":"a","data":1,"org_id":"default"}"#, Some("acme")).is_err());
        assert_eq!(check(r#"{"type":"a","data":1,"tenant":"acme"}"#, None).unwrap().0, "acme");
    }

    #[test]
    fn the_list_of_breaches_is_bounded() {
        let fields: Vec<_> = (0..10_000).map(|n| format!("\"f{n}\":0")).collect();
        assert_eq!(check(&format!("{{{}}}", fields.join(",")), None).unwrap_err().len(), BREACHES_LISTED_MAX);
    }
}
