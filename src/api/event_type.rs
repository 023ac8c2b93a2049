//! The event type catalogue. Every role but the publisher can read it, and an admin can change it. Event types of the
//! configuration file can be changed only there.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::ETAG;
use serde::Serialize;
use serde_json::Value;

use super::condition::expected_version;
use super::idempotency::encode;
use super::page::Query;
use super::webhook::is_dry_run;
use super::{Api, ClaimResult, ManagementRequest, body, reply};
use crate::http::{Problem, Response};
use crate::inbound::source::ManagedBy;
use crate::model::Timestamp;
use crate::model::path::EVENT_TYPES;
use crate::registry::catalogue::EventType;
use crate::service::event_type::{EventTypeFilter, EventTypeKey};
use crate::service::{ResponseRecorder, ResponseStore};

/// An event type as JSON.
#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    /// `null` for an event type of all tenants.
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
    pub(super) async fn create_event_type(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let query = Query::of(&request.parts.uri);
        let document = body::object(&request.parts.headers, &request.body, false)?;
        let draft = self.service.draft_event_type(&request.principal, query.tenant(), document)?;
        let service = Arc::clone(&self.service);
        let record =
            ResponseRecorder::new(claim.key(), |created: &Arc<EventType>| encode(view_response(created, true)));
        let work = async move { view_response(&*service.create_event_type(draft, record).await?, true) };
        self.complete(claim, work).await
    }

    /// Lists event types by name. Filters: `category`, `deprecated`, `q` (in name, category and description).
    pub(super) fn list_event_types(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let page = query.page()?;
        let filter = EventTypeFilter {
            tenant: query.tenant(),
            category: query.get("category"),
            deprecated: query.parse("deprecated", "expected true or false")?,
            text: query.get("q"),
        };
        let found = self.service.list_event_types(&request.principal, filter, page, query.get("cursor"))?;
        query.rows(&found, |event_type| View::of(event_type))
    }

    pub(super) fn read_event_type(&self, request: &ManagementRequest, name: &str) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let event_type = self.service.read_event_type(&request.principal, key(&query, name))?;
        let response = reply::json(StatusCode::OK, &View::of(&event_type))?;
        Ok(reply::with_etag(&request.parts.headers, &etag(&event_type), response))
    }

    /// Creates or replaces an event type. With `dry_run=true` the request is only validated.
    pub(super) async fn put_event_type(&self, request: &ManagementRequest, name: &str) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let (who, key) = (&request.principal, key(&query, name));
        let is_dry_run = is_dry_run(request)?;
        self.service.may_put_event_type(who, key)?;
        let document = body::object(&request.parts.headers, &request.body, false)?;
        let expected = expected_version(&request.parts.headers);
        if is_dry_run {
            let definition = self.service.preview_event_type(who, key, document, expected.as_ref())?;
            return reply::json(StatusCode::OK, &definition.settings);
        }
        let changed = self.service.put_event_type(who, key, document, expected.as_ref()).await?;
        view_response(&changed.event_type, changed.is_new)
    }

    pub(super) async fn delete_event_type(&self, request: &ManagementRequest, name: &str) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let expected = expected_version(&request.parts.headers);
        self.service.delete_event_type(&request.principal, key(&query, name), expected.as_ref()).await?;
        Ok(reply::no_content())
    }
}

fn key<'a>(query: &'a Query, name: &'a str) -> EventTypeKey<'a> {
    EventTypeKey { name, tenant: query.tenant() }
}

fn view_response(event_type: &EventType, is_new: bool) -> Result<Response, Problem> {
    let location = format!("{EVENT_TYPES}/{}", event_type.name());
    let mut response = if is_new {
        reply::created(StatusCode::CREATED, &location, &View::of(event_type))?
    } else {
        reply::json(StatusCode::OK, &View::of(event_type))?
    };
    reply::set_header(&mut response, ETAG, &etag(event_type));
    Ok(response)
}
