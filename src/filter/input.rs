//! The input of filters: an event whose payload is parsed on demand.

use std::borrow::Cow;

use super::{EventFields, TooCostly};
use crate::json::{Document, Path};
use crate::limits::FILTER_EVENT_WORK_MAX;
use crate::model::Timestamp;

/// The input of filters: the fields of an event, and the parts of its payload that were parsed so far. All filters that
/// check the event share the input.
#[derive(Debug)]
pub struct FilterInput<'a> {
    event_fields: EventFields<'a>,
    data: Document<'a>,
    metadata: Document<'a>,
    /// The units of work that filters may still do.
    left: u64,
}

/// A value of an event that a rule tests.
#[derive(Debug, Clone)]
pub(super) enum FieldValue<'a> {
    /// The raw JSON of a value in the payload or the metadata.
    Json(&'a [u8]),
    /// An id of the event. Ids are text, even if the sender sent a number.
    Id(&'a str),
    /// Another text of the event.
    Text(&'a str),
    /// The timestamp of the event.
    Time(Timestamp),
}

/// The locations that a rule searches, in this order: under `data`, under `data.fields`, in the event itself.
#[derive(Debug, Clone)]
pub(super) struct FieldLocation {
    data: Path,
    fields: Path,
    own: Option<HeadField>,
}

/// A field of the event itself.
#[derive(Debug, Clone)]
enum HeadField {
    Type,
    Source,
    Tenant,
    Timestamp,
    ExternalId,
    Id(IdField),
    Data(Option<Path>),
    Metadata(Option<Path>),
}

/// An id of the event for which a filter can list values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdField {
    User,
    Resource,
    Workspace,
}

impl IdField {
    /// All ids.
    pub(super) const ALL: [Self; 3] = [Self::User, Self::Resource, Self::Workspace];

    /// The name of the id in filters and events.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::User => "user_id",
            Self::Resource => "resource_id",
            Self::Workspace => "workspace_id",
        }
    }

    fn of<'a>(self, event_fields: &EventFields<'a>) -> Option<&'a str> {
        match self {
            Self::User => event_fields.user_id,
            Self::Resource => event_fields.resource_id,
            Self::Workspace => event_fields.workspace_id,
        }
    }
}

impl FieldLocation {
    /// The locations that a path in a filter means.
    pub(super) fn new(path: Path) -> Self {
        let (first, rest) = path.split_first();
        let id = IdField::ALL.into_iter().find(|id| id.name() == first);
        let own = match (first, rest) {
            ("data", rest) => Some(HeadField::Data(rest)),
            ("metadata", rest) => Some(HeadField::Metadata(rest)),
            (_, Some(_)) => None,
            ("type" | "event_type" | "event", None) => Some(HeadField::Type),
            ("source", None) => Some(HeadField::Source),
            ("tenant" | "org_id", None) => Some(HeadField::Tenant),
            ("timestamp", None) => Some(HeadField::Timestamp),
            ("external_id", None) => Some(HeadField::ExternalId),
            _ => id.map(HeadField::Id),
        };
        Self { fields: path.prefixed_with("fields"), data: path, own }
    }
}

impl<'a> FilterInput<'a> {
    /// Creates the input. Nothing is parsed yet. Filters may do the work of one event ([`FILTER_EVENT_WORK_MAX`]).
    pub fn new(event_fields: &EventFields<'a>) -> Self {
        let metadata = event_fields.metadata.unwrap_or_default();
        Self {
            event_fields: *event_fields,
            data: Document::new(event_fields.data),
            metadata: Document::new(metadata.as_bytes()),
            left: FILTER_EVENT_WORK_MAX,
        }
    }

    /// Sets the units of work that filters may do from now on.
    pub fn set_work_left(&mut self, units: u64) {
        self.left = units;
    }

    /// The units of work that filters may still do.
    pub fn work_left(&self) -> u64 {
        self.left
    }

    /// Counts work before it is done.
    ///
    /// # Errors
    /// [`TooCostly`] if less work is left. The work must not be done then.
    pub fn spend(&mut self, units: u64) -> Result<(), TooCostly> {
        self.left = self.left.checked_sub(units).ok_or(TooCostly)?;
        Ok(())
    }

    /// The fields of the event.
    pub fn event_fields(&self) -> &EventFields<'a> {
        &self.event_fields
    }

    /// The value at a location; `None` if the event has no such value.
    ///
    /// # Errors
    /// [`TooCostly`] if the lookup needs more work than is left.
    pub(super) fn find(&mut self, location: &FieldLocation) -> Result<Option<FieldValue<'a>>, TooCostly> {
        for path in [&location.data, &location.fields] {
            if let Some(raw) = self.data.find_within(path, &mut self.left)? {
                return Ok(Some(FieldValue::Json(raw)));
            }
        }
        location.own.as_ref().map_or(Ok(None), |own| self.own(own))
    }

    /// An id of the event; if the event has no such id, the value at `location`.
    ///
    /// # Errors
    /// As for [`Self::find`].
    pub(super) fn id(&mut self, id: IdField, location: &FieldLocation) -> Result<Option<FieldValue<'a>>, TooCostly> {
        match id.of(&self.event_fields) {
            Some(own) => Ok(Some(FieldValue::Id(own))),
            None => self.find(location),
        }
    }

    fn own(&mut self, own: &HeadField) -> Result<Option<FieldValue<'a>>, TooCostly> {
        let event_fields = self.event_fields;
        Ok(match own {
            HeadField::Type => Some(FieldValue::Text(event_fields.event_type)),
            HeadField::Source => Some(FieldValue::Text(event_fields.source)),
            HeadField::Tenant => Some(FieldValue::Id(event_fields.tenant)),
            HeadField::Timestamp => Some(FieldValue::Time(event_fields.timestamp)),
            HeadField::ExternalId => event_fields.external_id.map(FieldValue::Id),
            HeadField::Id(id) => id.of(&event_fields).map(FieldValue::Id),
            HeadField::Data(None) => Some(FieldValue::Json(event_fields.data.trim_ascii())),
            HeadField::Data(Some(path)) => self.data.find_within(path, &mut self.left)?.map(FieldValue::Json),
            HeadField::Metadata(None) => event_fields.metadata.map(|metadata| FieldValue::Json(metadata.as_bytes())),
            HeadField::Metadata(Some(path)) => self.metadata.find_within(path, &mut self.left)?.map(FieldValue::Json),
        })
    }
}

impl<'a> FieldValue<'a> {
    /// The value as text; `None` if the value is not text.
    pub(super) fn text(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(raw) => super::value::text(raw),
            Self::Id(text) | Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Time(at) => Some(Cow::Owned(at.to_string())),
        }
    }

    /// The elements of an array. Other values have none.
    pub(super) fn items(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let raw: &[u8] = if let Self::Json(raw) = self { raw } else { b"" };
        crate::json::items(raw)
    }
}
