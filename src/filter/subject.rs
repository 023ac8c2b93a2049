//! An event under the eyes of filters.

use std::borrow::Cow;

use super::Facts;
use crate::json::{Document, Path};
use crate::model::Timestamp;

/// An event's facts with what of its payload was read so far, for all filters that look at it.
#[derive(Debug)]
pub struct Subject<'a> {
    facts: Facts<'a>,
    data: Document<'a>,
    metadata: Document<'a>,
}

/// A value of an event.
#[derive(Debug, Clone)]
pub(super) enum Found<'a> {
    /// As it stands in the payload or the metadata.
    Json(&'a [u8]),
    /// One of the event's own ids, which is text, also if it was sent as a number.
    Id(&'a str),
    /// Another text of the event's own.
    Text(&'a str),
    /// The event's time.
    Time(Timestamp),
}

/// Where a rule looks: below `data`, then below `data.fields`, then in the event itself.
#[derive(Debug, Clone)]
pub(super) struct Place {
    data: Path,
    fields: Path,
    own: Option<Own>,
}

/// A field of the event itself.
#[derive(Debug, Clone)]
enum Own {
    Type,
    Source,
    Tenant,
    Timestamp,
    ExternalId,
    Id(OwnId),
    Data(Option<Path>),
    Metadata(Option<Path>),
}

/// An id of the event that a filter may list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnId {
    User,
    Resource,
    Workspace,
}

impl OwnId {
    pub(super) const ALL: [Self; 3] = [Self::User, Self::Resource, Self::Workspace];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::User => "user_id",
            Self::Resource => "resource_id",
            Self::Workspace => "workspace_id",
        }
    }

    fn of<'a>(self, facts: &Facts<'a>) -> Option<&'a str> {
        match self {
            Self::User => facts.user_id,
            Self::Resource => facts.resource_id,
            Self::Workspace => facts.workspace_id,
        }
    }
}

impl Place {
    pub(super) fn new(path: Path) -> Self {
        let (first, rest) = path.split_first();
        let id = OwnId::ALL.into_iter().find(|id| id.name() == first);
        let own = match (first, rest) {
            ("data", rest) => Some(Own::Data(rest)),
            ("metadata", rest) => Some(Own::Metadata(rest)),
            (_, Some(_)) => None,
            ("type" | "event_type" | "event", None) => Some(Own::Type),
            ("source", None) => Some(Own::Source),
            ("tenant" | "org_id", None) => Some(Own::Tenant),
            ("timestamp", None) => Some(Own::Timestamp),
            ("external_id", None) => Some(Own::ExternalId),
            _ => id.map(Own::Id),
        };
        Self { fields: path.below("fields"), data: path, own }
    }
}

impl<'a> Subject<'a> {
    /// Nothing is read yet.
    pub fn new(facts: &Facts<'a>) -> Self {
        let metadata = facts.metadata.unwrap_or_default();
        Self { facts: *facts, data: Document::new(facts.data), metadata: Document::new(metadata.as_bytes()) }
    }

    /// The facts.
    pub fn facts(&self) -> &Facts<'a> {
        &self.facts
    }

    pub(super) fn find(&mut self, place: &Place) -> Option<Found<'a>> {
        let below = self.data.find(&place.data).or_else(|| self.data.find(&place.fields));
        below.map(Found::Json).or_else(|| self.own(place.own.as_ref()?))
    }

    /// An id of the event itself; where it has none, that of its payload.
    pub(super) fn id(&mut self, id: OwnId, place: &Place) -> Option<Found<'a>> {
        match id.of(&self.facts) {
            Some(own) => Some(Found::Id(own)),
            None => self.find(place),
        }
    }

    fn own(&mut self, own: &Own) -> Option<Found<'a>> {
        let facts = self.facts;
        match own {
            Own::Type => Some(Found::Text(facts.event_type)),
            Own::Source => Some(Found::Text(facts.source)),
            Own::Tenant => Some(Found::Id(facts.tenant)),
            Own::Timestamp => Some(Found::Time(facts.timestamp)),
            Own::ExternalId => facts.external_id.map(Found::Id),
            Own::Id(id) => id.of(&facts).map(Found::Id),
            Own::Data(None) => Some(Found::Json(facts.data.trim_ascii())),
            Own::Data(Some(path)) => self.data.find(path).map(Found::Json),
            Own::Metadata(None) => facts.metadata.map(|metadata| Found::Json(metadata.as_bytes())),
            Own::Metadata(Some(path)) => self.metadata.find(path).map(Found::Json),
        }
    }
}

impl<'a> Found<'a> {
    /// What it says, if it is text.
    pub(super) fn text(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(raw) => super::value::text(raw),
            Self::Id(text) | Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Time(at) => Some(Cow::Owned(at.to_string())),
        }
    }

    /// Its elements, if it is an array.
    pub(super) fn items(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let raw: &[u8] = if let Self::Json(raw) = self { raw } else { b"" };
        crate::json::items(raw)
    }
}
