//! The table of all routes of the server: method, path, who may call it, the listener, the operation of
//! `docs/openapi.yaml`, and what answers it.
//!
//! A role is the least that suffices: `Viewer`, `Member` or `Admin`. `Open` is for everybody, `Source` for who shows a
//! source's token or signature, `Publish` for each role but the viewer. What a role sees of a tenant is
//! [`may_see`](crate::service::access::may_see)'s. The path of a webhook is a source's too: what is posted there is the source's.

use super::answer::Handle;
use super::route::{SourceRef, WebhookRef, number_of};
use crate::http::route::{Handler, IngestRoute, Listener, Needs, Route, Verb};
use crate::http::router::{Form, RouteError, Router};
use crate::model::{DeliveryId, EventId, KeyId, Role, SubscriptionId, is_event_type};

macro_rules! routes {
    ($($verb:ident $path:literal $needs:ident $on:ident $operation:ident => $handler:tt $body:tt;)*) => {
        &[$(Route {
            method: Verb::$verb,
            path: $path,
            needs: routes!(@needs $needs),
            on: Listener::$on,
            operation: stringify!($operation),
            handler: routes!(@handler $handler $body),
        },)*]
    };
    (@needs Open) => { Needs::Nothing };
    (@needs Source) => { Needs::Source };
    (@needs Publish) => { Needs::Publish };
    (@needs $role:ident) => { Needs::Role(Role::$role) };
    (@handler ingest $route:ident) => { Handler::Ingest(IngestRoute::$route) };
    (@handler ($api:ident, $call:ident, $at:ident) $body:block) => {
        Handler::Management(|$api, $call, $at| Box::pin(async move $body))
    };
}

/// Every route.
#[expect(unused_variables, reason = "not every handler reads a value of the path")]
pub(super) static ROUTES: &[Route<Handle>] = routes! {
    Post   "/api/v1/events"                           Publish Public publishEvents => ingest Publish;
    Get    "/api/v1/events"                           Viewer Admin listEvents => (api, call, at) { api.list_events(call).await };
    Get    "/api/v1/events/{event_id}"                Viewer Admin readEvent => (api, call, at) { api.read_event(call, at.id("event_id")?).await };
    Post   "/api/v1/events/{event_id}/replay"         Member Admin replayEvent => (api, call, at) { api.replay_event(call, at.id("event_id")?).await };

    Post   "/webhook/v1/{token}"                      Source Public receiveFromPartner => ingest Partner;
    Post   "/api/v1/webhooks/{webhook_id}"            Source Public receive => ingest Source;

    Post   "/api/v1/sources"                          Member Admin createSource => (api, call, at) { api.create_source(call).await };
    Get    "/api/v1/sources"                          Viewer Admin listSources => (api, call, at) { api.list_sources(call) };
    Get    "/api/v1/sources/{source_id}"              Viewer Admin readSource => (api, call, at) { api.read_source(call, at.source()?) };
    Patch  "/api/v1/sources/{source_id}"              Member Admin changeSource => (api, call, at) { api.patch_source(call, at.source()?).await };
    Delete "/api/v1/sources/{source_id}"              Member Admin deleteSource => (api, call, at) { api.delete_source(call, at.source()?).await };
    Post   "/api/v1/sources/{source_id}/restore"      Member Admin restoreSource => (api, call, at) { api.restore_source(call, at.source()?).await };
    Post   "/api/v1/sources/{source_id}/rotate-secret" Member Admin rotateSourceSecret => (api, call, at) { api.rotate_secret(call, at.source()?).await };
    Post   "/api/v1/sources/{source_id}/rotate-token" Member Admin rotateSourceToken => (api, call, at) { api.rotate_token(call, at.source()?).await };
    Get    "/api/v1/sources/{source_id}/guide"        Viewer Admin readGuide => (api, call, at) { api.guide(call, at.source()?) };
    Get    "/api/v1/sources/{source_id}/rejections"   Viewer Admin listRejections => (api, call, at) { api.list_rejections(call, at.source()?) };

    Post   "/api/v1/webhooks"                         Member Admin createWebhook => (api, call, at) { api.create_webhook(call).await };
    Get    "/api/v1/webhooks"                         Viewer Admin listWebhooks => (api, call, at) { api.list_webhooks(call) };
    Get    "/api/v1/webhooks/{webhook_id}"            Viewer Admin readWebhook => (api, call, at) { api.read_webhook(call, at.webhook()?) };
    Put    "/api/v1/webhooks/{webhook_id}"            Member Admin replaceWebhook => (api, call, at) { api.put_webhook(call, at.webhook()?).await };
    Patch  "/api/v1/webhooks/{webhook_id}"            Member Admin changeWebhook => (api, call, at) { api.patch_webhook(call, at.webhook()?).await };
    Delete "/api/v1/webhooks/{webhook_id}"            Member Admin removeWebhook => (api, call, at) { api.delete_webhook(call, at.webhook()?).await };
    Post   "/api/v1/webhooks/{webhook_id}/pause"      Member Admin pauseWebhook => (api, call, at) { api.pause_webhook(call, at.webhook()?).await };
    Post   "/api/v1/webhooks/{webhook_id}/resume"     Member Admin resumeWebhook => (api, call, at) { api.resume_webhook(call, at.webhook()?).await };
    Post   "/api/v1/webhooks/{webhook_id}/test"       Member Admin testWebhook => (api, call, at) { api.test_webhook(call, at.webhook()?).await };
    Post   "/api/v1/webhooks/{webhook_id}/regenerate-secret" Member Admin regenerateSecret => (api, call, at) { api.regenerate_secret(call, at.webhook()?).await };
    Post   "/api/v1/webhooks/{webhook_id}/recover"    Member Admin recoverWebhook => (api, call, at) { api.recover(call, at.webhook()?).await };
    Get    "/api/v1/webhooks/{webhook_id}/metrics"    Viewer Admin readWebhookMetrics => (api, call, at) { api.webhook_metrics(call, at.webhook()?).await };
    Get    "/api/v1/webhooks/{webhook_id}/stats"      Viewer Admin readWebhookMetrics => (api, call, at) { api.webhook_metrics(call, at.webhook()?).await };

    Post   "/api/v1/webhooks/{webhook_id}/subscriptions" Member Admin createSubscription => (api, call, at) { api.create_subscription(call, at.webhook()?).await };
    Get    "/api/v1/webhooks/{webhook_id}/subscriptions" Viewer Admin listSubscriptions => (api, call, at) { api.list_subscriptions(call, at.webhook()?) };
    Get    "/api/v1/webhooks/{webhook_id}/subscriptions/{subscription_id}" Viewer Admin readSubscription => (api, call, at) { api.read_subscription(call, at.webhook()?, at.id("subscription_id")?) };
    Put    "/api/v1/webhooks/{webhook_id}/subscriptions/{subscription_id}" Member Admin replaceSubscription => (api, call, at) { api.put_subscription(call, at.webhook()?, at.id("subscription_id")?).await };
    Delete "/api/v1/webhooks/{webhook_id}/subscriptions/{subscription_id}" Member Admin removeSubscription => (api, call, at) { api.delete_subscription(call, at.webhook()?, at.id("subscription_id")?).await };

    Get    "/api/v1/webhooks/{webhook_id}/deliveries" Viewer Admin listDeliveries => (api, call, at) { api.list_deliveries(call, Some(at.webhook()?)).await };
    Get    "/api/v1/webhooks/deliveries"              Viewer Admin listAllDeliveries => (api, call, at) { api.list_deliveries(call, None).await };
    Get    "/api/v1/deliveries"                       Viewer Admin listAllDeliveries => (api, call, at) { api.list_deliveries(call, None).await };
    Get    "/api/v1/deliveries/{delivery_id}"         Viewer Admin readDelivery => (api, call, at) { api.read_delivery(call, at.id("delivery_id")?).await };
    Get    "/api/v1/webhooks/deliveries/{delivery_id}" Viewer Admin readDelivery => (api, call, at) { api.read_delivery(call, at.id("delivery_id")?).await };
    Post   "/api/v1/deliveries/{delivery_id}/retry"   Member Admin retryDelivery => (api, call, at) { api.retry_delivery(call, at.id("delivery_id")?).await };
    Post   "/api/v1/webhooks/deliveries/{delivery_id}/retry" Member Admin retryDelivery => (api, call, at) { api.retry_delivery(call, at.id("delivery_id")?).await };

    Get    "/api/v1/dead-letters"                     Viewer Admin listAllDeadLetters => (api, call, at) { api.list_dead_letters(call, None).await };
    Get    "/api/v1/webhooks/{webhook_id}/dead-letters" Viewer Admin listDeadLetters => (api, call, at) { api.list_dead_letters(call, Some(at.webhook()?)).await };
    Get    "/api/v1/webhooks/{webhook_id}/dead-letters/{dead_letter_id}" Viewer Admin readDeadLetter => (api, call, at) { api.read_dead_letter(call, at.webhook()?, at.id("dead_letter_id")?).await };
    Delete "/api/v1/webhooks/{webhook_id}/dead-letters/{dead_letter_id}" Member Admin discardDeadLetter => (api, call, at) { api.discard_dead_letter(call, at.webhook()?, at.id("dead_letter_id")?).await };
    Post   "/api/v1/webhooks/{webhook_id}/dead-letters/{dead_letter_id}/replay" Member Admin replayDeadLetter => (api, call, at) { api.replay_dead_letter(call, at.webhook()?, at.id("dead_letter_id")?).await };
    Post   "/api/v1/webhooks/{webhook_id}/dead-letters/bulk-replay" Member Admin replayDeadLetters => (api, call, at) { api.bulk_replay(call, at.webhook()?).await };

    Post   "/api/v1/replays"                          Member Admin startReplay => (api, call, at) { api.start_replay(call).await };
    Get    "/api/v1/replays"                          Viewer Admin listReplays => (api, call, at) { api.list_replays(call).await };
    Post   "/api/v1/replay"                           Member Admin startReplay => (api, call, at) { api.start_replay(call).await };
    Get    "/api/v1/replay"                           Viewer Admin listReplays => (api, call, at) { api.list_replays(call).await };
    Get    "/api/v1/replays/{replay_id}"              Viewer Admin readReplay => (api, call, at) { api.read_replay(call, at.replay()?).await };
    Delete "/api/v1/replays/{replay_id}"              Member Admin cancelReplay => (api, call, at) { api.cancel_replay(call, at.replay()?).await };

    Get    "/api/v1/stats"                            Viewer Admin readStats => (api, call, at) { api.stats(call).await };
    Post   "/api/v1/filters/test"                     Viewer Admin testFilter => (api, call, at) { api.test_filter(call).await };

    Get    "/api/v1/event-types"                      Viewer Admin listEventTypes => (api, call, at) { api.list_event_types(call) };
    Post   "/api/v1/event-types"                      Admin Admin createEventType => (api, call, at) { api.create_event_type(call).await };
    Get    "/api/v1/webhooks/events"                  Viewer Admin listEventTypesAsEvents => (api, call, at) { api.list_event_types(call) };
    Get    "/api/v1/webhooks/events/available"        Viewer Admin listEventTypesAsEvents => (api, call, at) { api.list_event_types(call) };
    Get    "/api/v1/event-types/{event_type}"         Viewer Admin readEventType => (api, call, at) { api.read_event_type(call, at.event_type()?) };
    Put    "/api/v1/event-types/{event_type}"         Admin Admin putEventType => (api, call, at) { api.put_event_type(call, at.event_type()?).await };
    Delete "/api/v1/event-types/{event_type}"         Admin Admin removeEventType => (api, call, at) { api.delete_event_type(call, at.event_type()?).await };

    Get    "/api/v1/keys"                             Admin Admin listKeys => (api, call, at) { api.list_keys(call) };
    Post   "/api/v1/keys"                             Admin Admin createKey => (api, call, at) { api.create_key(call).await };
    Get    "/api/v1/keys/{key_id}"                    Admin Admin readKey => (api, call, at) { api.read_key(call, at.id("key_id")?) };
    Delete "/api/v1/keys/{key_id}"                    Admin Admin revokeKey => (api, call, at) { api.revoke_key(call, at.id("key_id")?).await };
    Get    "/api/v1/tenants"                          Viewer Admin listTenants => (api, call, at) { api.list_tenants(call) };
    Post   "/api/v1/tenants"                          Admin Admin createTenant => (api, call, at) { api.create_tenant(call).await };
    Get    "/api/v1/audit"                            Admin Admin listAudit => (api, call, at) { api.list_audit(call).await };

    Get    "/health"                                  Open Both health => ingest Health;
    Get    "/api/v1/health"                           Open Both healthV1 => ingest Health;
    Get    "/ready"                                   Open Both ready => ingest Ready;
    Get    "/api/v1/health/ready"                     Open Both readyV1 => ingest Ready;
    Get    "/api/v1/health/live"                      Open Both live => ingest Live;
    Get    "/metrics"                                 Viewer Admin metrics => ingest Metrics;
    Get    "/openapi.json"                            Open Admin openapiJson => ingest Document;
    Get    "/openapi.yaml"                            Open Admin openapiYaml => ingest Document;
    Get    "/docs"                                    Open Admin docs => ingest Document;
    Get    "/docs/errors"                             Open Admin docsErrors => ingest Document;
};

/// The form of each value in a path. Text that has it not names nothing.
const FORMS: &[(&str, Form)] = &[
    ("event_id", |text| text.parse::<EventId>().is_ok()),
    ("webhook_id", |text| WebhookRef::parse(text).is_some()),
    ("source_id", |text| SourceRef::parse(text).is_some()),
    ("subscription_id", |text| text.parse::<SubscriptionId>().is_ok()),
    ("delivery_id", |text| text.parse::<DeliveryId>().is_ok()),
    ("dead_letter_id", |text| text.parse::<DeliveryId>().is_ok()),
    ("replay_id", |text| number_of(text).is_some()),
    ("event_type", is_event_type),
    ("key_id", |text| text.parse::<KeyId>().is_ok()),
];

/// The table, compiled.
///
/// # Errors
/// When a row does not fit, which a test excludes.
pub fn router() -> Result<Router, RouteError> {
    Router::new(ROUTES, FORMS)
}

#[cfg(test)]
mod tests;
