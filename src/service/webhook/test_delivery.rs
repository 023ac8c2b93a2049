//! Test deliveries of a webhook.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::model::{EventPattern, Principal, is_event_type};
use crate::outbound::Webhook;
use crate::service::{Error, Operation, Service, TestDelivery, TestDeliveryResult, WebhookRef};

/// The event type of a test delivery if the webhook names no event type.
const TEST_TYPE: &str = "webhook.test";

/// A request for a test delivery.
#[derive(Debug, Clone)]
pub struct TestRequest {
    /// The event type; `None`: one that the webhook names.
    pub event_type: Option<Box<str>>,
    /// The payload, JSON; `None`: the example of the type in the catalogue, or a payload that says that it is a test.
    pub data: Option<Bytes>,
    /// The correlation id of the event.
    pub correlation_id: Box<str>,
}

/// The result of a test delivery of a webhook.
#[derive(Debug)]
pub struct WebhookTestResult {
    /// The result of the delivery.
    pub result: TestDeliveryResult,
    /// The type of its event.
    pub event_type: Box<str>,
}

impl Service {
    /// Makes one attempt at once, with the webhook's own profile and HTTP client. The attempt is not counted in
    /// statistics.
    ///
    /// # Errors
    /// If the role is too low, the webhook does not exist, or test deliveries are already in progress.
    pub async fn test_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        request: TestRequest,
    ) -> Result<WebhookTestResult, Error> {
        Operation::TestWebhook.permit(principal.role)?;
        let webhook = self.live_webhook(principal, of)?;
        let event_type = request.event_type.unwrap_or_else(|| type_for(&webhook).into());
        let data = request.data.unwrap_or_else(|| self.sample(&webhook, &event_type).to_string().into());
        let test =
            TestDelivery { webhook, event_type: event_type.clone(), data, correlation_id: request.correlation_id };
        let result = self.test_sender.test(test).await?;
        Ok(WebhookTestResult { result, event_type })
    }

    /// The payload if the caller gives none: the example of the type in the catalogue, or a default payload.
    fn sample(&self, webhook: &Webhook, event_type: &str) -> Value {
        let registry = self.registry.load();
        let known = registry.event_type(&webhook.tenant, event_type);
        known.and_then(|known| known.definition.settings.example.clone()).unwrap_or_else(
            || json!({ "test": true, "message": "A test delivery of Hooktide", "webhook_id": webhook.id.to_string() }),
        )
    }
}

/// The first event type that the webhook names, or a type that matches its first pattern.
fn type_for(webhook: &Webhook) -> String {
    let active = webhook.subscriptions.iter().filter(|subscription| subscription.is_active);
    let patterns = || webhook.events.iter().chain(active.clone().map(|subscription| &subscription.event_type));
    let named = patterns().find_map(|pattern| match pattern {
        EventPattern::Exact(name) => Some(name.to_string()),
        EventPattern::Prefix(_) | EventPattern::All => None,
    });
    let of_family = || {
        let family = patterns().find_map(|pattern| match pattern {
            EventPattern::Prefix(prefix) => Some(format!("{prefix}test")),
            EventPattern::Exact(_) | EventPattern::All => None,
        });
        family.filter(|name| is_event_type(name))
    };
    named.or_else(of_family).unwrap_or_else(|| TEST_TYPE.to_owned())
}
