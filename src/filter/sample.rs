//! An event that somebody writes down to try a filter on it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Facts, FilterError};
use crate::json::is_deeper;
use crate::limits::JSON_DEPTH_MAX;
use crate::model::{API_SOURCE, Timestamp};

/// Fields of an event as the interface shows it that no filter looks at.
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

/// An event as an application sends it, or as the interface shows it, less what filters do not look at. Only what is there
/// counts: a type may be missing, and then no rule finds one.
#[derive(Debug, Clone)]
pub struct Sample<'a> {
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

impl<'a> Sample<'a> {
    /// Reads an event; it is of `tenant` and happens `now` unless it says otherwise.
    ///
    /// # Errors
    /// Everything that is wrong, by JSON pointer into the event.
    pub fn read(event: &'a RawValue, tenant: &'a str, now: Timestamp) -> Result<Self, Vec<FilterError>> {
        let Ok(fields) = serde_json::from_str::<BTreeMap<String, &'a RawValue>>(event.get()) else {
            let detail = format!("expected an object; allowed: {ALLOWED}");
            return Err(vec![FilterError { pointer: String::new(), detail }]);
        };
        let mut fields = Fields { left: fields, wrong: Vec::new() };
        let event_type = fields.first(&["type", "event_type", "event"], Fields::text);
        let source = fields.first(&["source"], Fields::text);
        let own_tenant = fields.first(&["tenant", "org_id"], Fields::id);
        let timestamp = fields.first(&["timestamp"], Fields::time);
        let sample = Self {
            event_type: event_type.unwrap_or_default(),
            source: source.unwrap_or(Cow::Borrowed(API_SOURCE)),
            tenant: own_tenant.unwrap_or(Cow::Borrowed(tenant)),
            timestamp: timestamp.unwrap_or(now),
            // As the interface shows it, an event has its own id beside the sender's.
            external_id: fields.first(&["external_id", "id"], Fields::id),
            resource_id: fields.first(&["resource_id"], Fields::id),
            workspace_id: fields.first(&["workspace_id"], Fields::id),
            user_id: fields.first(&["user_id"], Fields::id),
            metadata: fields.first(&["metadata"], Fields::object),
            data: fields.first(&["data"], Fields::json).unwrap_or(NULL),
        };
        fields.finish().map(|()| sample)
    }

    /// What a filter looks at.
    pub fn facts(&self) -> Facts<'_> {
        Facts {
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

struct Fields<'a> {
    left: BTreeMap<String, &'a RawValue>,
    wrong: Vec<FilterError>,
}

impl<'a> Fields<'a> {
    /// Takes all of these names out; the first one that is given counts.
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
                    self.wrong.push(FilterError { pointer: format!("/{name}"), detail: detail.to_owned() });
                }
            }
        }
        first
    }

    fn finish(mut self) -> Result<(), Vec<FilterError>> {
        for name in self.left.keys().filter(|name| !IGNORED.contains(&name.as_str())) {
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            self.wrong.push(FilterError { pointer, detail: format!("unknown field; allowed: {ALLOWED}") });
        }
        if self.wrong.is_empty() { Ok(()) } else { Err(self.wrong) }
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
        if is_deeper(raw.get(), JSON_DEPTH_MAX) { Err("is nested too deep") } else { Ok(raw.get()) }
    }
}
