//! Subscriptions of a webhook.

use super::route::WebhookRef;
use super::{Api, Call, Problem, Response};
use crate::model::SubscriptionId;

impl Api {
    pub(super) async fn create_subscription(&self, _call: &Call, _of: WebhookRef<'_>) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) fn list_subscriptions(&self, _call: &Call, _of: WebhookRef<'_>) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) fn read_subscription(
        &self,
        _call: &Call,
        _of: WebhookRef<'_>,
        _id: SubscriptionId,
    ) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) async fn put_subscription(
        &self,
        _call: &Call,
        _of: WebhookRef<'_>,
        _id: SubscriptionId,
    ) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) async fn delete_subscription(
        &self,
        _call: &Call,
        _of: WebhookRef<'_>,
        _id: SubscriptionId,
    ) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }
}
