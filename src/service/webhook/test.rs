//! Test deliveries of a webhook.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::model::{EventPattern, Principal, is_event_type};
use crate::outbound::Webhook;
use crate::service::{Error, Operation, Service, TestDelivery, Tested, WebhookRef};

/// The type of a test delivery of a webhook that names none.
const TEST_TYPE: &str = "webhook.test";

/// What is sent as a test.
#[derive(Debug, Clone)]
pub struct TestRequest {
    /// The event's type; `None`: one that the webhook names.
    pub event_type: Option<Box<str>>,
    /// Its payload, JSON; `None`: the catalogue's example of the type, or one that says it is a test.
    pub data: Option<Bytes>,
    /// Goes with the event.
    pub correlation_id: Box<str>,
}

/// A test delivery that was made.
#[derive(Debug)]
pub struct TestedWebhook {
    /// What came of it.
    pub tested: Tested,
    /// The type of its event.
    pub event_type: Box<str>,
}

impl Service {
    /// Makes one attempt at once, by the webhook's own profile and client, counted by nobody.
    ///
    /// # Errors
    /// A webhook that is not there, or test deliveries that are under way already.
    pub async fn test_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        request: TestRequest,
    ) -> Result<TestedWebhook, Error> {
        Operation::TestWebhook.permit(principal.role)?;
        let webhook = self.live(principal, of)?;
        let event_type = request.event_type.unwrap_or_else(|| type_for(&webhook).into());
        let data = request.data.unwrap_or_else(|| self.sample(&webhook, &event_type).to_string().into());
        let test =
            TestDelivery { webhook, event_type: event_type.clone(), data, correlation_id: request.correlation_id };
        let tested = self.tester.test(test).await?;
        Ok(TestedWebhook { tested, event_type })
    }

    /// A payload where the caller gives none: the catalogue's example of the type, if it has one.
    fn sample(&self, webhook: &Webhook, event_type: &str) -> Value {
        let registry = self.registry.load();
        let known = registry.event_type(&webhook.tenant, event_type);
        known.and_then(|known| known.definition.settings.example.clone()).unwrap_or_else(
            || json!({ "test": true, "message": "A test delivery of Hooktide", "webhook_id": webhook.id.to_string() }),
        )
    }
}

/// The first type that the webhook names, or one of the first family that it names.
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
