//! Event types: the catalogue. Everybody reads it, an admin changes it; what the configuration names is changed there alone.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::ETAG;
use serde::Serialize;
use serde_json::Value;

use super::page::Query;
use super::webhook_preview::is_dry_run;
use super::{Api, Call, Made, body, reply};
use crate::http::{FieldError, Problem, Response};
use crate::inbound::source::ManagedBy;
use crate::model::{EventPattern, Timestamp};
use crate::outbound::WebhookSettings;
use crate::registry::Registry;
use crate::registry::catalogue::EventType;
use crate::service::event_type::{EventTypeFilter, EventTypeKey};

/// An event type as the interface shows it.
#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    /// `null`: every tenant's.
    tenant: Option<&'a str>,
    category: Option<&'a str>,
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<&'a Value>,
    deprecated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_by: Option<&'a str>,
    validate: bool,
    managed_by: ManagedBy,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> View<'a> {
    fn of(event_type: &'a EventType) -> Self {
        let settings = &event_type.definition.settings;
        Self {
            name: &settings.name,
            tenant: event_type.tenant.as_deref(),
            category: settings.category.as_deref(),
            description: settings.description.as_deref(),
            schema: settings.schema.as_ref(),
            example: settings.example.as_ref(),
            deprecated: settings.deprecated,
            replaced_by: settings.replaced_by.as_deref(),
            validate: settings.validate,
            managed_by: event_type.managed_by,
            created_at: event_type.created_at,
            updated_at: event_type.updated_at,
        }
    }
}

fn etag(event_type: &EventType) -> String {
    format!("\"{}\"", event_type.version)
}

impl Api {
    pub(super) async fn create_event_type(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let document = body::object(&call.parts.headers, &call.body, false)?;
        let new = self.service.check_new_event_type(&call.principal, query.tenant(), document)?;
        let service = Arc::clone(&self.service);
        let make = async move {
            let event_type = service.create_event_type(new).await?;
            shown(&event_type, true).map(Made::from)
        };
        self.make(call, make).await
    }

    /// Filters: `category`, `deprecated`, `q` (in name, category and description). By name.
    pub(super) fn list_event_types(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let filter = EventTypeFilter {
            tenant: query.tenant().map(str::to_owned),
            category: query.get("category").map(str::to_owned),
            deprecated: query.parse("deprecated", "expected true or false")?,
            text: query.get("q").map(str::to_owned),
        };
        let found = self.service.list_event_types(&call.principal, &filter, query.get("cursor"), page)?;
        reply::rows(&query, &found, |event_type| View::of(event_type))
    }

    pub(super) fn read_event_type(&self, call: &Call, name: &str) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let event_type = self.service.read_event_type(&call.principal, key(&query, name))?;
        let response = reply::json(StatusCode::OK, &View::of(&event_type))?;
        Ok(reply::tagged(&call.parts.headers, &etag(&event_type), response))
    }

    /// Makes the type, or replaces the one that is there. With `dry_run=true` it is only looked at.
    pub(super) async fn put_event_type(&self, call: &Call, name: &str) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let (who, key) = (&call.principal, key(&query, name));
        let is_dry_run = is_dry_run(call)?;
        self.service.may_put_event_type(who, key)?;
        let document = body::object(&call.parts.headers, &call.body, false)?;
        let expected = reply::expected_version(&call.parts.headers);
        if is_dry_run {
            let definition = self.service.preview_event_type(who, key, document, expected.as_ref())?;
            return reply::json(StatusCode::OK, &definition.settings);
        }
        let changed = self.service.put_event_type(who, key, document, expected.as_ref()).await?;
        shown(&changed.event_type, changed.is_new)
    }

    pub(super) async fn delete_event_type(&self, call: &Call, name: &str) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let expected = reply::expected_version(&call.parts.headers);
        self.service.delete_event_type(&call.principal, key(&query, name), expected.as_ref()).await?;
        Ok(reply::no_content())
    }
}

/// In strict mode a webhook names only types and patterns that some known type fits; the pointers lead into its body. What it
/// names already stays, so that a type can leave the catalogue.
pub(super) fn unknown_types(
    registry: &Registry,
    old: Option<&WebhookSettings>,
    settings: &WebhookSettings,
) -> Result<(), Problem> {
    let is_new = |pattern: &EventPattern| !old.is_some_and(|old| old.events.contains(pattern));
    let unknown = |(n, pattern): (usize, &EventPattern)| {
        let detail = unknown_type(registry, &settings.tenant, pattern)?;
        is_new(pattern).then(|| FieldError::new(format!("/events/{n}"), detail))
    };
    let errors: Vec<_> = settings.events.iter().enumerate().filter_map(unknown).collect();
    if errors.is_empty() { Ok(()) } else { Err(Problem::unknown_types(errors)) }
}

/// Why a pattern is not taken in strict mode, if it is not.
pub(super) fn unknown_type(registry: &Registry, tenant: &str, pattern: &EventPattern) -> Option<String> {
    (registry.is_strict() && !registry.knows(tenant, pattern))
        .then(|| format!("no event type of the catalogue fits {pattern}, and the catalogue is strict"))
}

/// What a person should know of the types that a webhook names: those that no known type fits, and those that will go.
pub(super) fn type_warnings(registry: &Registry, settings: &WebhookSettings) -> Vec<String> {
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

fn key<'a>(query: &'a Query, name: &'a str) -> EventTypeKey<'a> {
    EventTypeKey { name, tenant: query.tenant() }
}

fn shown(event_type: &EventType, is_new: bool) -> Result<Response, Problem> {
    let place = format!("/api/v1/event-types/{}", event_type.name());
    let mut response = if is_new {
        reply::made(StatusCode::CREATED, &place, &View::of(event_type))?
    } else {
        reply::json(StatusCode::OK, &View::of(event_type))?
    };
    reply::set(&mut response, ETAG, &etag(event_type));
    Ok(response)
}
