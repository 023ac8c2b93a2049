//! A sample event, on which a user tests a filter.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{EventFields, FilterError};
use crate::json::exceeds_depth;
use crate::limits::JSON_DEPTH_MAX;
use crate::model::{API_SOURCE, Timestamp};

/// Fields of the API form of an event that no filter can test.
const IGNORED: [&str; 13] = [
    "received_at",
    "correlation_id",
    "verified",
    "webhooks",
    "deliveries",
    "topic",
    "mapping",
    "external_id_signed",
    "type_signed",
    "content_type",
    "headers",
    "raw",
    "raw_base64",
];
const ALLOWED: &str =
    "type, data, id, external_id, timestamp, resource_id, workspace_id, user_id, metadata, source, tenant";
const NULL: &str = "null";

/// A sample event, in the form that an application sends or that the API shows. Only the given fields count: without a
/// type, no rule finds a type.
#[derive(Debug, Clone)]
pub struct SampleEvent<'a> {
    event_type: Cow<'a, str>,
    source: Cow<'a, str>,
    tenant: Cow<'a, str>,
    timestamp: Timestamp,
    external_id: Option<Cow<'a, str>>,
    resource_id: Option<Cow<'a, str>>,
    workspace_id: Option<Cow<'a, str>>,
    user_id: Option<Cow<'a, str>>,
    metadata: Option<&'a str>,
    data: &'a str,
}

impl<'a> SampleEvent<'a> {
    /// Parses a sample event. `tenant` and `now` are the defaults for the tenant and the timestamp.
    ///
    /// # Errors
    /// All errors, each with a JSON pointer into the event.
    pub fn read(event: &'a RawValue, tenant: &'a str, now: Timestamp) -> Result<Self, Vec<FilterError>> {
        let Ok(fields) = serde_json::from_str::<BTreeMap<String, &'a RawValue>>(event.get()) else {
            // A name with half of a surrogate pair is no text, and no field of an event.
            let what = if event.get().starts_with('{') { "unknown field" } else { "expected an object" };
            let detail = format!("{what}; allowed: {ALLOWED}");
            return Err(vec![FilterError { pointer: String::new(), detail }]);
        };
        let mut fields = SampleFields { left: fields, errors: Vec::new() };
        let event_type = fields.first(&["type", "event_type", "event"], SampleFields::text);
        let source = fields.first(&["source"], SampleFields::text);
        let own_tenant = fields.first(&["tenant", "org_id"], SampleFields::id);
        let timestamp = fields.first(&["timestamp"], SampleFields::time);
        let sample = Self {
            event_type: event_type.unwrap_or_default(),
            source: source.unwrap_or(Cow::Borrowed(API_SOURCE)),
            tenant: own_tenant.unwrap_or(Cow::Borrowed(tenant)),
            timestamp: timestamp.unwrap_or(now),
            // The API form of an event has its own id in addition to the id of the sender.
            external_id: fields.first(&["external_id", "id"], SampleFields::id),
            resource_id: fields.first(&["resource_id"], SampleFields::id),
            workspace_id: fields.first(&["workspace_id"], SampleFields::id),
            user_id: fields.first(&["user_id"], SampleFields::id),
            metadata: fields.first(&["metadata"], SampleFields::object),
            data: fields.first(&["data"], SampleFields::json).unwrap_or(NULL),
        };
        fields.into_result().map(|()| sample)
    }

    /// The fields that a filter can test.
    pub fn event_fields(&self) -> EventFields<'_> {
        EventFields {
            tenant: &self.tenant,
            event_type: &self.event_type,
            source: &self.source,
            timestamp: self.timestamp,
            external_id: self.external_id.as_deref(),
            resource_id: self.resource_id.as_deref(),
            workspace_id: self.workspace_id.as_deref(),
            user_id: self.user_id.as_deref(),
            metadata: self.metadata,
            data: self.data.as_bytes(),
        }
    }
}

/// The fields of a sample event that are not parsed yet, and the errors found so far.
struct SampleFields<'a> {
    left: BTreeMap<String, &'a RawValue>,
    errors: Vec<FilterError>,
}

impl<'a> SampleFields<'a> {
    /// Removes the fields with these names and returns the first value that is given.
    fn first<T>(&mut self, names: &[&str], read: impl Fn(&'a RawValue) -> Result<T, &'static str>) -> Option<T> {
        let mut first = None;
        for name in names {
            let Some(raw) = self.left.remove(*name) else { continue };
            if raw.get() == NULL && *name != "data" {
                continue;
            }
            match read(raw) {
                Ok(value) => first = first.or(Some(value)),
                Err(detail) => {
                    self.errors.push(FilterError { pointer: format!("/{name}"), detail: detail.to_owned() });
                }
            }
        }
        first
    }

    fn into_result(mut self) -> Result<(), Vec<FilterError>> {
        for name in self.left.keys().filter(|name| !IGNORED.contains(&name.as_str())) {
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            self.errors.push(FilterError { pointer, detail: format!("unknown field; allowed: {ALLOWED}") });
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }

    fn text(raw: &'a RawValue) -> Result<Cow<'a, str>, &'static str> {
        let text = raw.get().starts_with('"').then(|| crate::json::text(raw)).flatten();
        text.ok_or("expected text")
    }

    fn id(raw: &'a RawValue) -> Result<Cow<'a, str>, &'static str> {
        let fits = raw.get().starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit());
        fits.then(|| crate::json::text(raw)).flatten().ok_or("expected text or a number")
    }

    fn time(raw: &'a RawValue) -> Result<Timestamp, &'static str> {
        let time = Self::text(raw).ok().and_then(|text| text.parse().ok());
        time.ok_or("expected an RFC 3339 time such as 2026-01-31T12:00:00.000Z")
    }

    fn object(raw: &'a RawValue) -> Result<&'a str, &'static str> {
        if raw.get().starts_with('{') { Self::json(raw) } else { Err("expected an object") }
    }

    fn json(raw: &'a RawValue) -> Result<&'a str, &'static str> {
        if exceeds_depth(raw.get(), JSON_DEPTH_MAX) { Err("is nested too deep") } else { Ok(raw.get()) }
    }
}
