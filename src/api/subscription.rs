//! Subscriptions of a webhook. They are part of the webhook: `ETag` and `If-Match` contain the version of the webhook.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::ETAG;

use super::condition::expected_version;
use super::idempotency::encode;
use super::page::Query;
use super::webhook::etag;
use super::webhook_list::event_type;
use super::{Api, ClaimResult, ManagementRequest, body, reply};
use crate::http::{Problem, Response};
use crate::model::SubscriptionId;
use crate::model::path::WEBHOOKS;
use crate::service::webhook::subscription::{SubscriptionDocument, SubscriptionFilter, WebhookSubscription};
use crate::service::{ResponseRecorder, ResponseStore, WebhookRef};

impl Api {
    pub(super) async fn create_subscription(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
    ) -> Result<Response, Problem> {
        self.service.read_webhook(&request.principal, of)?;
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let document = body::object(&request.parts.headers, &request.body, false)?;
        let expected = expected_version(&request.parts.headers);
        let draft = self.service.draft_subscription(&request.principal, of, document, expected.as_ref())?;
        let service = Arc::clone(&self.service);
        let record = ResponseRecorder::new(claim.key(), |made| encode(created(made)));
        let work = async move { created(&service.create_subscription(draft, record).await?) };
        self.complete(claim, work).await
    }

    /// Lists subscriptions, newest first. Filters: `event_type` or `type` (subscriptions that name it), `resource_id`,
    /// `is_active`.
    pub(super) fn list_subscriptions(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
    ) -> Result<Response, Problem> {
        self.service.read_webhook(&request.principal, of)?;
        let query = Query::of(&request.parts.uri);
        let page = query.page()?;
        let filter = SubscriptionFilter {
            event_type: event_type(&query)?,
            resource_id: query.get("resource_id"),
            is_active: query.parse("is_active", "expected true or false")?,
        };
        let found = self.service.list_subscriptions(&request.principal, of, filter, page, query.cursor()?)?;
        query.rows(&found, view)
    }

    pub(super) fn read_subscription(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
        id: SubscriptionId,
    ) -> Result<Response, Problem> {
        let found = self.service.read_subscription(&request.principal, of, id)?;
        let response = reply::json(StatusCode::OK, &view(&found))?;
        Ok(reply::with_etag(&request.parts.headers, &etag(&found.webhook), response))
    }

    pub(super) async fn put_subscription(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
        id: SubscriptionId,
    ) -> Result<Response, Problem> {
        self.service.read_subscription(&request.principal, of, id)?;
        let document = body::object(&request.parts.headers, &request.body, false)?;
        let expected = expected_version(&request.parts.headers);
        let changed =
            self.service.replace_subscription(&request.principal, of, id, document, expected.as_ref()).await?;
        let mut response = reply::json(StatusCode::OK, &view(&changed))?;
        reply::set_header(&mut response, ETAG, &etag(&changed.webhook));
        Ok(response)
    }

    pub(super) async fn delete_subscription(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
        id: SubscriptionId,
    ) -> Result<Response, Problem> {
        let expected = expected_version(&request.parts.headers);
        self.service.delete_subscription(&request.principal, of, id, expected.as_ref()).await?;
        Ok(reply::no_content())
    }
}

fn created(made: &WebhookSubscription) -> Result<Response, Problem> {
    let location = format!("{WEBHOOKS}/{}/subscriptions/{}", made.webhook.id, made.subscription.id);
    let mut response = reply::created(StatusCode::CREATED, &location, &view(made))?;
    reply::set_header(&mut response, ETAG, &etag(&made.webhook));
    Ok(response)
}

fn view(of: &WebhookSubscription) -> SubscriptionDocument<'_> {
    SubscriptionDocument::of(of.webhook.id, &of.subscription)
}
