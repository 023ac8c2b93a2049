//! Subscriptions of a webhook. They are part of their webhook: its version is theirs, and `ETag` and `If-Match` name it.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::ETAG;

use super::condition::expected_version;
use super::page::Query;
use super::webhook::etag;
use super::webhook_list::event_type;
use super::{Api, Call, Made, body, reply};
use crate::http::{Problem, Response};
use crate::model::SubscriptionId;
use crate::model::path::WEBHOOKS;
use crate::service::WebhookRef;
use crate::service::webhook::subscription::{Document, OfWebhook, SubscriptionFilter};

impl Api {
    pub(super) async fn create_subscription(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.service.read_webhook(&call.principal, of)?;
        let document = body::object(&call.parts.headers, &call.body, false)?;
        let expected = expected_version(&call.parts.headers);
        let draft = self.service.draft_subscription(&call.principal, of, document, expected.as_ref())?;
        let service = Arc::clone(&self.service);
        let make = async move {
            let made = service.create_subscription(draft).await?;
            let place = format!("{WEBHOOKS}/{}/subscriptions/{}", made.webhook.id, made.subscription.id);
            let mut response = reply::made(StatusCode::CREATED, &place, &view(&made))?;
            reply::set(&mut response, ETAG, &etag(&made.webhook));
            Ok(Made::from(response))
        };
        self.make(call, make).await
    }

    /// The newest first. Filters: `event_type` or `type` (those that name it), `resource_id`, `is_active`.
    pub(super) fn list_subscriptions(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.service.read_webhook(&call.principal, of)?;
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let filter = SubscriptionFilter {
            event_type: event_type(&query)?,
            resource_id: query.get("resource_id"),
            is_active: query.parse("is_active", "expected true or false")?,
        };
        let found = self.service.list_subscriptions(&call.principal, of, filter, page, query.cursor()?)?;
        query.rows(&found, view)
    }

    pub(super) fn read_subscription(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        id: SubscriptionId,
    ) -> Result<Response, Problem> {
        let found = self.service.read_subscription(&call.principal, of, id)?;
        let response = reply::json(StatusCode::OK, &view(&found))?;
        Ok(reply::tagged(&call.parts.headers, &etag(&found.webhook), response))
    }

    pub(super) async fn put_subscription(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        id: SubscriptionId,
    ) -> Result<Response, Problem> {
        self.service.read_subscription(&call.principal, of, id)?;
        let document = body::object(&call.parts.headers, &call.body, false)?;
        let expected = expected_version(&call.parts.headers);
        let changed = self.service.replace_subscription(&call.principal, of, id, document, expected.as_ref()).await?;
        let mut response = reply::json(StatusCode::OK, &view(&changed))?;
        reply::set(&mut response, ETAG, &etag(&changed.webhook));
        Ok(response)
    }

    pub(super) async fn delete_subscription(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        id: SubscriptionId,
    ) -> Result<Response, Problem> {
        let expected = expected_version(&call.parts.headers);
        self.service.delete_subscription(&call.principal, of, id, expected.as_ref()).await?;
        Ok(reply::no_content())
    }
}

fn view(of: &OfWebhook) -> Document<'_> {
    Document::of(of.webhook.id, &of.subscription)
}
