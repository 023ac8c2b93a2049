//! Event types: the catalogue. Everybody reads it, an admin changes it; what the configuration names is changed there alone.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{ETAG, IF_MATCH};
use serde::Serialize;
use serde_json::{Map, Value};

use super::page::Query;
use super::webhook::is_dry_run;
use super::{Api, Call, Made, body, reply};
use crate::http::{FieldError, Problem, ProblemCode, Response};
use crate::inbound::source::{Breach, ManagedBy};
use crate::model::path::EVENT_TYPES;
use crate::model::{DEFAULT_TENANT, Role, Timestamp, is_tenant_name};
use crate::registry::catalogue::{Definition, EventType, Settings};
use crate::registry::{EventTypeError, Replaces};
use crate::service::access::sees;

const ALLOWED: &str = "name, category, description, schema, example, deprecated, replaced_by, validate, tenant, org_id";
/// Fields that a client may send back as it read them.
const READ_ONLY: [&str; 3] = ["managed_by", "created_at", "updated_at"];

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
        admin(call)?;
        let fields = body::object(&call.parts.headers, &call.body, false)?;
        let (tenant, definition) = read(call, fields, None)?;
        let writer = self.service.writer.by(&call.principal);
        let make = async move {
            let made = writer.put_event_type(&tenant, definition, Replaces::Nothing).await?;
            shown(&made.event_type, true).map(Made::from)
        };
        self.make(call, make).await
    }

    /// Filters: `category`, `deprecated`, `q` (in name, category and description). By name.
    pub(super) fn list_event_types(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let tenant = tenant_of_catalogue(call, &query)?;
        let deprecated = query.parse::<bool>("deprecated", "expected true or false")?;
        let category = query.get("category");
        let needle = query.get("q").map(str::to_lowercase);
        let after = query.cursor::<String>()?;
        let registry = self.service.registry.load();
        let wanted = |event_type: &&Arc<EventType>| {
            let settings = &event_type.definition.settings;
            let texts = [Some(&settings.name), settings.category.as_ref(), settings.description.as_ref()];
            let has = |needle: &String| texts.iter().flatten().any(|text| text.to_lowercase().contains(needle));
            after.as_deref().is_none_or(|after| event_type.name() > after)
                && category.is_none_or(|category| settings.category.as_deref() == Some(category))
                && deprecated.is_none_or(|deprecated| deprecated == settings.deprecated)
                && needle.as_ref().is_none_or(has)
        };
        let found: Vec<_> = registry.event_types(&tenant).filter(wanted).take(page.wanted()).collect();
        let (rows, more) = page.cut(found);
        let next = rows.last().filter(|_| more).map(|event_type| query.next(&event_type.name()));
        let rows: Vec<_> = rows.into_iter().map(|event_type| View::of(event_type)).collect();
        reply::list(&rows, next.as_ref())
    }

    pub(super) fn read_event_type(&self, call: &Call, name: &str) -> Result<Response, Problem> {
        let event_type = self.event_type(call, name)?;
        let response = reply::json(StatusCode::OK, &View::of(&event_type))?;
        Ok(reply::tagged(&call.parts.headers, &etag(&event_type), response))
    }

    /// Makes the type, or replaces the one that is there. With `dry_run=true` it is only looked at.
    pub(super) async fn put_event_type(&self, call: &Call, name: &str) -> Result<Response, Problem> {
        admin(call)?;
        let dry_run = is_dry_run(call)?;
        let present = self.own(call, name)?;
        let fields = body::object(&call.parts.headers, &call.body, false)?;
        let (tenant, definition) = read(call, fields, Some(name))?;
        if let Some(present) = &present {
            reply::matches(&call.parts.headers, &etag(present))?;
        } else if call.parts.headers.contains_key(IF_MATCH) {
            return Err(Problem::new(ProblemCode::PreconditionFailed, "there is no such event type"));
        }
        if dry_run {
            return reply::json(StatusCode::OK, &definition.settings);
        }
        let named = call.parts.headers.contains_key(IF_MATCH);
        let replaces = Replaces::Any(present.filter(|_| named).map(|present| present.version));
        match self.service.writer.by(&call.principal).put_event_type(&tenant, definition, replaces).await {
            Err(EventTypeError::Changed) => Err(changed_meanwhile()),
            changed => {
                let changed = changed?;
                shown(&changed.event_type, changed.is_new)
            }
        }
    }

    pub(super) async fn delete_event_type(&self, call: &Call, name: &str) -> Result<Response, Problem> {
        admin(call)?;
        let present = self.own(call, name)?.ok_or_else(not_found)?;
        reply::matches(&call.parts.headers, &etag(&present))?;
        let version = call.parts.headers.contains_key(IF_MATCH).then_some(present.version);
        let tenant = tenant_of_catalogue(call, &Query::of(&call.parts.uri))?;
        match self.service.writer.by(&call.principal).remove_event_type(&tenant, name, version).await {
            Err(EventTypeError::Changed) => Err(changed_meanwhile()),
            removed => removed.map(|_| reply::no_content()).map_err(Problem::from),
        }
    }

    fn event_type(&self, call: &Call, name: &str) -> Result<Arc<EventType>, Problem> {
        let tenant = tenant_of_catalogue(call, &Query::of(&call.parts.uri))?;
        self.service.registry.load().event_type(&tenant, name).cloned().ok_or_else(not_found)
    }

    /// The type of this name, if there is one, which must not be the configuration's.
    fn own(&self, call: &Call, name: &str) -> Result<Option<Arc<EventType>>, Problem> {
        match self.event_type(call, name) {
            Ok(found) if found.managed_by == ManagedBy::File => Err(EventTypeError::ManagedByFile.into()),
            Ok(found) => Ok(Some(found)),
            Err(problem) if problem.code == ProblemCode::NotFound => {
                // Of a tenant that is not the caller's there is no more to say.
                tenant_of_catalogue(call, &Query::of(&call.parts.uri)).map(|_| None)
            }
            Err(problem) => Err(problem),
        }
    }
}

fn admin(call: &Call) -> Result<(), Problem> {
    match call.principal.role {
        Role::Admin => Ok(()),
        _ => Err(Problem::new(ProblemCode::Forbidden, "only an admin changes the catalogue")),
    }
}

/// Whose catalogue is meant: a key of tenant `*` says so, or means `default`.
fn tenant_of_catalogue(call: &Call, query: &Query) -> Result<String, Problem> {
    Ok(super::webhook::tenant_of(&call.principal, query)?.unwrap_or(DEFAULT_TENANT).to_owned())
}

/// The tenant and the definition that a body holds. `name` is the path's.
fn read(call: &Call, mut fields: Map<String, Value>, name: Option<&str>) -> Result<(String, Arc<Definition>), Problem> {
    let mut errors = Vec::new();
    let query = Query::of(&call.parts.uri);
    let named = ["tenant", "org_id"].map(|key| (key, fields.remove(key)));
    let mut tenant = query.get("tenant").or_else(|| query.get("org_id")).map(str::to_owned);
    for (key, value) in named {
        match value {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if !is_tenant_name(&text) => {
                errors.push(FieldError::new(body::pointer(key), "is no tenant"));
            }
            Some(Value::String(text)) if tenant.as_ref().is_some_and(|tenant| *tenant != text) => {
                errors.push(FieldError::new(body::pointer(key), "contradicts another name of the tenant"));
            }
            Some(Value::String(text)) if !sees(&call.principal, &text) => {
                errors.push(FieldError::new(body::pointer(key), "only a key of tenant * may name another tenant"));
            }
            Some(Value::String(text)) => tenant = Some(text),
            Some(_) => errors.push(FieldError::new(body::pointer(key), "expected text")),
        }
    }
    let own = call.principal.tenant.as_deref().map(str::to_owned);
    let tenant = tenant.or(own).unwrap_or_else(|| DEFAULT_TENANT.to_owned());
    if !sees(&call.principal, &tenant) {
        return Err(Problem::not_found("tenant"));
    }
    for key in READ_ONLY {
        fields.remove(key);
    }
    if let Some(name) = name {
        match fields.get("name") {
            Some(given) if given != name => errors.push(FieldError::new("/name", "cannot be changed")),
            _ => drop(fields.insert("name".to_owned(), name.into())),
        }
    }
    let settings = settings(fields, &mut errors);
    match Definition::try_new(settings) {
        Ok(definition) if errors.is_empty() => Ok((tenant, Arc::new(definition))),
        built => {
            let of = |Breach { pointer, detail }| FieldError { pointer, detail };
            let known = |error: &FieldError, errors: &[FieldError]| errors.iter().any(|e| e.pointer == error.pointer);
            for error in built.err().unwrap_or_default().into_iter().map(of) {
                if !known(&error, &errors) {
                    errors.push(error);
                }
            }
            Err(Problem::invalid_body(errors))
        }
    }
}

/// The fields by their kinds; what is not of its kind is named, and left out. `null` is as if it were not there.
fn settings(mut fields: Map<String, Value>, errors: &mut Vec<FieldError>) -> Settings {
    fields.retain(|key, value| !value.is_null() || key == "example");
    let mut text = |key: &str| {
        let value = fields.remove(key)?;
        if !value.is_string() {
            errors.push(FieldError::new(body::pointer(key), "expected text"));
        }
        value.as_str().map(str::to_owned)
    };
    let (name, category) = (text("name").unwrap_or_default(), text("category"));
    let (description, replaced_by) = (text("description"), text("replaced_by"));
    let mut flag = |key: &str| match fields.remove(key) {
        None => false,
        Some(Value::Bool(flag)) => flag,
        Some(_) => {
            errors.push(FieldError::new(body::pointer(key), "expected true or false"));
            false
        }
    };
    let (deprecated, validate) = (flag("deprecated"), flag("validate"));
    let (schema, example) = (fields.remove("schema"), fields.remove("example").filter(|example| !example.is_null()));
    errors.extend(body::unknown(&fields, ALLOWED));
    Settings { name, tenant: None, category, description, schema, example, deprecated, replaced_by, validate }
}

fn shown(event_type: &EventType, is_new: bool) -> Result<Response, Problem> {
    let place = format!("{EVENT_TYPES}/{}", event_type.name());
    let mut response = if is_new {
        reply::made(StatusCode::CREATED, &place, &View::of(event_type))?
    } else {
        reply::json(StatusCode::OK, &View::of(event_type))?
    };
    reply::set(&mut response, ETAG, &etag(event_type));
    Ok(response)
}

fn not_found() -> Problem {
    Problem::not_found("event type")
}

fn changed_meanwhile() -> Problem {
    Problem::new(ProblemCode::PreconditionFailed, "it was changed meanwhile")
}
