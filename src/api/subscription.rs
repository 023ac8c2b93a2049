//! Subscriptions of a webhook: events of one type, or pattern, under conditions of their own. They are part of their webhook:
//! its version is theirs, and `ETag` and `If-Match` name it.

use hyper::StatusCode;
use hyper::header::{ETAG, IF_MATCH};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::body::{pointer, unknown};
use super::event_type::unknown_type;
use super::page::Query;
use super::route::WebhookRef;
use super::webhook_fields::{Fields, Given};
use super::webhook_list::event_type;
use super::webhook_view::etag;
use super::{Api, Call, Made, body, reply};
use crate::filter::Filter;
use crate::http::{FieldError, Problem, ProblemCode, Response};
use crate::model::path::WEBHOOKS;
use crate::model::{EventPattern, SubscriptionId, Timestamp, WebhookId};
use crate::outbound::{Subscription, Webhook};
use crate::registry::{ChangeError, SubscriptionSettings};

const ALLOWED: &str = "event_type, resource_id, is_active, filters";

impl Api {
    pub(super) async fn create_subscription(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.live(&call.principal, of)?;
        let fields = body::object(&call.parts.headers, &call.body, false)?;
        let settings = read(fields, None)?;
        self.known_type(&webhook, None, &settings)?;
        let version = guarded(call, &webhook)?;
        let writer = self.writer.by(&call.principal);
        let make = async move {
            let webhook = writer.add_subscription(webhook.no, version, settings).await.map_err(changed)?;
            let made = webhook.subscriptions.last().ok_or_else(|| Problem::not_found("subscription"))?;
            let place = format!("{WEBHOOKS}/{}/subscriptions/{}", webhook.id, made.id);
            let mut response = reply::made(StatusCode::CREATED, &place, &View::of(webhook.id, made))?;
            reply::set(&mut response, ETAG, &etag(&webhook));
            Ok(Made::from(response))
        };
        self.make(call, make).await
    }

    /// The newest first. Filters: `event_type` or `type` (those that name it), `resource_id`, `is_active`.
    pub(super) fn list_subscriptions(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.live(&call.principal, of)?;
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let event_type = event_type(&query)?;
        let resource_id = query.get("resource_id");
        let is_active = query.parse::<bool>("is_active", "expected true or false")?;
        let cursor = query.cursor::<SubscriptionId>()?;
        let all = &webhook.subscriptions;
        let end = match cursor {
            None => all.len(),
            Some(id) => {
                let gone = || {
                    let detail = "query parameter cursor: its subscription is not there any more; list anew";
                    Problem::new(ProblemCode::InvalidRequest, detail)
                };
                all.iter().position(|one| one.id == id).ok_or_else(gone)?
            }
        };
        let wanted = |one: &&Subscription| {
            event_type.is_none_or(|text| one.event_type.matches(text))
                && resource_id.is_none_or(|id| one.resource_id.as_deref() == Some(id))
                && is_active.is_none_or(|is_active| one.is_active == is_active)
        };
        let found: Vec<_> = all[..end].iter().rev().filter(wanted).take(page.wanted()).collect();
        let (rows, more) = page.cut(found);
        let next = rows.last().filter(|_| more).map(|last| query.next(&last.id));
        let rows: Vec<_> = rows.into_iter().map(|one| View::of(webhook.id, one)).collect();
        reply::list(&rows, next.as_ref())
    }

    pub(super) fn read_subscription(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        id: SubscriptionId,
    ) -> Result<Response, Problem> {
        let webhook = self.live(&call.principal, of)?;
        let response = reply::json(StatusCode::OK, &View::of(webhook.id, find(&webhook, id)?))?;
        Ok(reply::tagged(&call.parts.headers, &etag(&webhook), response))
    }

    /// What is absent goes back to its default.
    pub(super) async fn put_subscription(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        id: SubscriptionId,
    ) -> Result<Response, Problem> {
        let webhook = self.live(&call.principal, of)?;
        let current = find(&webhook, id)?;
        let fields = body::object(&call.parts.headers, &call.body, false)?;
        let settings = read(fields, Some((webhook.id, current)))?;
        self.known_type(&webhook, Some(current), &settings)?;
        let version = guarded(call, &webhook)?;
        let writer = self.writer.by(&call.principal);
        let webhook = writer.replace_subscription(webhook.no, version, id, settings).await.map_err(changed)?;
        let mut response = reply::json(StatusCode::OK, &View::of(webhook.id, find(&webhook, id)?))?;
        reply::set(&mut response, ETAG, &etag(&webhook));
        Ok(response)
    }

    pub(super) async fn delete_subscription(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        id: SubscriptionId,
    ) -> Result<Response, Problem> {
        let webhook = self.live(&call.principal, of)?;
        find(&webhook, id)?;
        let version = guarded(call, &webhook)?;
        let writer = self.writer.by(&call.principal);
        writer.remove_subscription(webhook.no, version, id).await.map_err(changed)?;
        Ok(reply::no_content())
    }

    /// Whether the catalogue takes the type that a subscription names, unless it names it already.
    fn known_type(
        &self,
        webhook: &Webhook,
        current: Option<&Subscription>,
        settings: &SubscriptionSettings,
    ) -> Result<(), Problem> {
        if current.is_some_and(|current| current.event_type == settings.event_type) {
            return Ok(());
        }
        match unknown_type(&self.registry.load(), &webhook.tenant, &settings.event_type) {
            Some(detail) => Err(Problem::unknown_types(vec![FieldError::new("/event_type", detail)])),
            None => Ok(()),
        }
    }
}

/// The version that a change is bound to: the present one if the caller named a state by `If-Match`, else none.
fn guarded(call: &Call, webhook: &Webhook) -> Result<Option<u64>, Problem> {
    reply::matches(&call.parts.headers, &etag(webhook))?;
    Ok(call.parts.headers.contains_key(IF_MATCH).then_some(webhook.version))
}

/// Only a change that was bound to a version can come too late.
fn changed(error: ChangeError) -> Problem {
    match error {
        ChangeError::Changed => Problem::new(ProblemCode::PreconditionFailed, "it was changed meanwhile"),
        error => error.into(),
    }
}

fn find(webhook: &Webhook, id: SubscriptionId) -> Result<&Subscription, Problem> {
    webhook.subscriptions.iter().find(|one| one.id == id).ok_or_else(|| Problem::not_found("subscription"))
}

/// Reads a body, which may be what was read of `current`. Each field that is wrong is named.
fn read(
    body: Map<String, Value>,
    current: Option<(WebhookId, &Subscription)>,
) -> Result<SubscriptionSettings, Problem> {
    let mut fields = Fields::new(body);
    if let Some((of, current)) = current {
        fields.left.remove("updated_at");
        let shown = serde_json::to_value(View::of(of, current)).unwrap_or_default();
        for key in ["id", "webhook_id", "created_at"] {
            if let Some(given) = fields.left.remove(key)
                && shown.get(key) != Some(&given)
            {
                fields.wrong(pointer(key), "is set by the server and cannot be changed");
            }
        }
    }
    let before = fields.errors.len();
    let event_type = fields
        .take("event_type", |value| {
            EventPattern::try_new(value.as_str().unwrap_or_default()).map_err(|error| error.to_string())
        })
        .value();
    if event_type.is_none() && fields.errors.len() == before {
        fields.wrong("/event_type", "is required: an event type or a pattern, such as record.updated or record.*");
    }
    let resource_id = fields.id("resource_id").value();
    let is_active = match fields.flag("is_active") {
        Given::Value(is_active) => is_active,
        Given::Null | Given::Absent => true,
    };
    let filters = fields.filters().value().flatten();
    let Fields { left, mut errors } = fields;
    errors.extend(unknown(&left, ALLOWED));
    match event_type {
        Some(event_type) if errors.is_empty() => {
            Ok(SubscriptionSettings { event_type, resource_id, is_active, filters })
        }
        _ => Err(Problem::invalid_body(errors)),
    }
}

/// A subscription as the interface shows it.
#[derive(Serialize)]
struct View<'a> {
    id: String,
    webhook_id: String,
    event_type: String,
    resource_id: Option<&'a str>,
    is_active: bool,
    filters: Filters<'a>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// An object also where there are none, as clients look into it.
#[derive(Serialize)]
#[serde(untagged)]
enum Filters<'a> {
    Some(&'a RawValue),
    None {},
}

impl<'a> View<'a> {
    fn of(webhook: WebhookId, subscription: &'a Subscription) -> Self {
        Self {
            id: subscription.id.to_string(),
            webhook_id: webhook.to_string(),
            event_type: subscription.event_type.to_string(),
            resource_id: subscription.resource_id.as_deref(),
            is_active: subscription.is_active,
            filters: subscription.filters.as_deref().map(Filter::as_json).map_or(Filters::None {}, Filters::Some),
            created_at: subscription.created_at,
            updated_at: subscription.updated_at,
        }
    }
}
