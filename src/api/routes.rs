//! The table of all routes of the server: method, path, required access, listener, `operationId` in `docs/openapi.yaml`, and
//! handler.
//!
//! - A role (`Viewer`, `Member` or `Admin`) is the lowest role that may call the route. `Open` routes are public, `Source`
//!   routes need a token or signature of a source, and `Publish` routes accept every role but the viewer.
//! - [`may_see`](crate::service::access::may_see) decides which resources of a tenant a role may see.
//! - Webhooks and sources share the path `/api/v1/webhooks/{id}`. A POST to this path is for a source.

use super::handler::HandlerFn;
use super::path_ids::{SourceRef, WebhookRef, replay_number};
use crate::http::route::{Handler, IngestRoute, Listener, RequiredAccess, Route, Verb};
use crate::http::router::{PathValueValidator, RouteError, Router};
use crate::model::{DeliveryId, EventId, KeyId, Role, SubscriptionId, is_event_type};

macro_rules! routes {
    ($($verb:ident $path:literal $required_access:ident $listener:ident $operation:ident => $handler:tt $body:tt;)*) => {
        &[$(Route {
            method: Verb::$verb,
            path: $path,
            required_access: routes!(@required_access $required_access),
            listener: Listener::$listener,
            operation: stringify!($operation),
            handler: routes!(@handler $handler $body),
        },)*]
    };
    (@required_access Open) => { RequiredAccess::Anyone };
    (@required_access Source) => { RequiredAccess::SourceCredentials };
    (@required_access Publish) => { RequiredAccess::Publish };
    (@required_access $role:ident) => { RequiredAccess::Role(Role::$role) };
    (@handler ingest $route:ident) => { Handler::Ingest(IngestRoute::$route) };
    (@handler ($api:ident, $request:ident, $at:ident) $body:block) => {
        Handler::Management(|$api, $request, $at| Box::pin(async move $body))
    };
}

/// All routes.
#[expect(unused_variables, reason = "not every handler reads a value of the path")]
pub(super) static ROUTES: &[Route<HandlerFn>] = routes! {
    Post   "/api/v1/events"                           Publish Public publishEvents => ingest Publish;
    Get    "/api/v1/events"                           Viewer Admin listEvents => (api, request, at) { api.list_events(request).await };
    Get    "/api/v1/events/{event_id}"                Viewer Admin readEvent => (api, request, at) { api.read_event(request, at.id("event_id")?).await };
    Post   "/api/v1/events/{event_id}/replay"         Member Admin replayEvent => (api, request, at) { api.replay_event(request, at.id("event_id")?).await };

    Post   "/webhook/v1/{token}"                      Source Public receiveFromPartner => ingest Partner;
    Post   "/api/v1/webhooks/{webhook_id}"            Source Public receive => ingest Source;

    Post   "/api/v1/sources"                          Member Admin createSource => (api, request, at) { api.create_source(request).await };
    Get    "/api/v1/sources"                          Viewer Admin listSources => (api, request, at) { api.list_sources(request) };
    Get    "/api/v1/sources/{source_id}"              Viewer Admin readSource => (api, request, at) { api.read_source(request, at.source()?) };
    Patch  "/api/v1/sources/{source_id}"              Member Admin changeSource => (api, request, at) { api.patch_source(request, at.source()?).await };
    Delete "/api/v1/sources/{source_id}"              Member Admin deleteSource => (api, request, at) { api.delete_source(request, at.source()?).await };
    Post   "/api/v1/sources/{source_id}/restore"      Member Admin restoreSource => (api, request, at) { api.restore_source(request, at.source()?).await };
    Post   "/api/v1/sources/{source_id}/rotate-secret" Member Admin rotateSourceSecret => (api, request, at) { api.rotate_secret(request, at.source()?).await };
    Post   "/api/v1/sources/{source_id}/forget-secret" Member Admin forgetSourceSecret => (api, request, at) { api.forget_secret(request, at.source()?).await };
    Post   "/api/v1/sources/{source_id}/rotate-token" Member Admin rotateSourceToken => (api, request, at) { api.rotate_token(request, at.source()?).await };
    Get    "/api/v1/sources/{source_id}/guide"        Viewer Admin readGuide => (api, request, at) { api.guide(request, at.source()?) };
    Get    "/api/v1/sources/{source_id}/rejections"   Viewer Admin listRejections => (api, request, at) { api.list_rejections(request, at.source()?) };

    Post   "/api/v1/webhooks"                         Member Admin createWebhook => (api, request, at) { api.create_webhook(request).await };
    Get    "/api/v1/webhooks"                         Viewer Admin listWebhooks => (api, request, at) { api.list_webhooks(request) };
    Get    "/api/v1/webhooks/{webhook_id}"            Viewer Admin readWebhook => (api, request, at) { api.read_webhook(request, at.webhook()?) };
    Put    "/api/v1/webhooks/{webhook_id}"            Member Admin replaceWebhook => (api, request, at) { api.put_webhook(request, at.webhook()?).await };
    Patch  "/api/v1/webhooks/{webhook_id}"            Member Admin changeWebhook => (api, request, at) { api.patch_webhook(request, at.webhook()?).await };
    Delete "/api/v1/webhooks/{webhook_id}"            Member Admin removeWebhook => (api, request, at) { api.delete_webhook(request, at.webhook()?).await };
    Post   "/api/v1/webhooks/{webhook_id}/pause"      Member Admin pauseWebhook => (api, request, at) { api.pause_webhook(request, at.webhook()?).await };
    Post   "/api/v1/webhooks/{webhook_id}/resume"     Member Admin resumeWebhook => (api, request, at) { api.resume_webhook(request, at.webhook()?).await };
    Post   "/api/v1/webhooks/{webhook_id}/test"       Member Admin testWebhook => (api, request, at) { api.test_webhook(request, at.webhook()?).await };
    Post   "/api/v1/webhooks/{webhook_id}/regenerate-secret" Member Admin regenerateSecret => (api, request, at) { api.regenerate_secret(request, at.webhook()?).await };
    Post   "/api/v1/webhooks/{webhook_id}/recover"    Member Admin recoverWebhook => (api, request, at) { api.recover(request, at.webhook()?).await };
    Get    "/api/v1/webhooks/{webhook_id}/metrics"    Viewer Admin readWebhookMetrics => (api, request, at) { api.webhook_metrics(request, at.webhook()?).await };
    Get    "/api/v1/webhooks/{webhook_id}/stats"      Viewer Admin readWebhookMetrics => (api, request, at) { api.webhook_metrics(request, at.webhook()?).await };

    Post   "/api/v1/webhooks/{webhook_id}/subscriptions" Member Admin createSubscription => (api, request, at) { api.create_subscription(request, at.webhook()?).await };
    Get    "/api/v1/webhooks/{webhook_id}/subscriptions" Viewer Admin listSubscriptions => (api, request, at) { api.list_subscriptions(request, at.webhook()?) };
    Get    "/api/v1/webhooks/{webhook_id}/subscriptions/{subscription_id}" Viewer Admin readSubscription => (api, request, at) { api.read_subscription(request, at.webhook()?, at.id("subscription_id")?) };
    Put    "/api/v1/webhooks/{webhook_id}/subscriptions/{subscription_id}" Member Admin replaceSubscription => (api, request, at) { api.put_subscription(request, at.webhook()?, at.id("subscription_id")?).await };
    Delete "/api/v1/webhooks/{webhook_id}/subscriptions/{subscription_id}" Member Admin removeSubscription => (api, request, at) { api.delete_subscription(request, at.webhook()?, at.id("subscription_id")?).await };

    Get    "/api/v1/webhooks/{webhook_id}/deliveries" Viewer Admin listDeliveries => (api, request, at) { api.list_deliveries(request, Some(at.webhook()?)).await };
    Get    "/api/v1/webhooks/deliveries"              Viewer Admin listAllDeliveries => (api, request, at) { api.list_deliveries(request, None).await };
    Get    "/api/v1/deliveries"                       Viewer Admin listAllDeliveries => (api, request, at) { api.list_deliveries(request, None).await };
    Get    "/api/v1/deliveries/{delivery_id}"         Viewer Admin readDelivery => (api, request, at) { api.read_delivery(request, at.id("delivery_id")?).await };
    Get    "/api/v1/webhooks/deliveries/{delivery_id}" Viewer Admin readDelivery => (api, request, at) { api.read_delivery(request, at.id("delivery_id")?).await };
    Post   "/api/v1/deliveries/{delivery_id}/retry"   Member Admin retryDelivery => (api, request, at) { api.retry_delivery(request, at.id("delivery_id")?).await };
    Post   "/api/v1/webhooks/deliveries/{delivery_id}/retry" Member Admin retryDelivery => (api, request, at) { api.retry_delivery(request, at.id("delivery_id")?).await };

    Get    "/api/v1/dead-letters"                     Viewer Admin listAllDeadLetters => (api, request, at) { api.list_dead_letters(request, None).await };
    Get    "/api/v1/webhooks/{webhook_id}/dead-letters" Viewer Admin listDeadLetters => (api, request, at) { api.list_dead_letters(request, Some(at.webhook()?)).await };
    Get    "/api/v1/webhooks/{webhook_id}/dead-letters/{dead_letter_id}" Viewer Admin readDeadLetter => (api, request, at) { api.read_dead_letter(request, at.webhook()?, at.id("dead_letter_id")?).await };
    Delete "/api/v1/webhooks/{webhook_id}/dead-letters/{dead_letter_id}" Member Admin discardDeadLetter => (api, request, at) { api.discard_dead_letter(request, at.webhook()?, at.id("dead_letter_id")?).await };
    Post   "/api/v1/webhooks/{webhook_id}/dead-letters/{dead_letter_id}/replay" Member Admin replayDeadLetter => (api, request, at) { api.replay_dead_letter(request, at.webhook()?, at.id("dead_letter_id")?).await };
    Post   "/api/v1/webhooks/{webhook_id}/dead-letters/bulk-replay" Member Admin replayDeadLetters => (api, request, at) { api.bulk_replay(request, at.webhook()?).await };

    Post   "/api/v1/replays"                          Member Admin startReplay => (api, request, at) { api.start_replay(request).await };
    Get    "/api/v1/replays"                          Viewer Admin listReplays => (api, request, at) { api.list_replays(request).await };
    Post   "/api/v1/replay"                           Member Admin startReplay => (api, request, at) { api.start_replay(request).await };
    Get    "/api/v1/replay"                           Viewer Admin listReplays => (api, request, at) { api.list_replays(request).await };
    Get    "/api/v1/replays/{replay_id}"              Viewer Admin readReplay => (api, request, at) { api.read_replay(request, at.replay()?).await };
    Delete "/api/v1/replays/{replay_id}"              Member Admin cancelReplay => (api, request, at) { api.cancel_replay(request, at.replay()?).await };

    Get    "/api/v1/stats"                            Viewer Admin readStats => (api, request, at) { api.stats(request).await };
    Post   "/api/v1/filters/test"                     Viewer Admin testFilter => (api, request, at) { api.test_filter(request).await };

    Get    "/api/v1/event-types"                      Viewer Admin listEventTypes => (api, request, at) { api.list_event_types(request) };
    Post   "/api/v1/event-types"                      Admin Admin createEventType => (api, request, at) { api.create_event_type(request).await };
    Get    "/api/v1/webhooks/events"                  Viewer Admin listEventTypesAsEvents => (api, request, at) { api.list_event_types(request) };
    Get    "/api/v1/webhooks/events/available"        Viewer Admin listEventTypesAsEvents => (api, request, at) { api.list_event_types(request) };
    Get    "/api/v1/event-types/{event_type}"         Viewer Admin readEventType => (api, request, at) { api.read_event_type(request, at.event_type()?) };
    Put    "/api/v1/event-types/{event_type}"         Admin Admin putEventType => (api, request, at) { api.put_event_type(request, at.event_type()?).await };
    Delete "/api/v1/event-types/{event_type}"         Admin Admin removeEventType => (api, request, at) { api.delete_event_type(request, at.event_type()?).await };

    Get    "/api/v1/keys"                             Admin Admin listKeys => (api, request, at) { api.list_keys(request) };
    Post   "/api/v1/keys"                             Admin Admin createKey => (api, request, at) { api.create_key(request).await };
    Get    "/api/v1/keys/{key_id}"                    Admin Admin readKey => (api, request, at) { api.read_key(request, at.id("key_id")?) };
    Delete "/api/v1/keys/{key_id}"                    Admin Admin revokeKey => (api, request, at) { api.revoke_key(request, at.id("key_id")?).await };
    Get    "/api/v1/tenants"                          Viewer Admin listTenants => (api, request, at) { api.list_tenants(request) };
    Post   "/api/v1/tenants"                          Admin Admin createTenant => (api, request, at) { api.create_tenant(request).await };
    Get    "/api/v1/audit"                            Admin Admin listAudit => (api, request, at) { api.list_audit(request).await };

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

/// The validator of each value in a path. A path with an invalid value matches no route.
const PATH_VALUE_VALIDATORS: &[(&str, PathValueValidator)] = &[
    ("event_id", |text| text.parse::<EventId>().is_ok()),
    ("webhook_id", |text| WebhookRef::parse(text).is_some()),
    ("source_id", |text| SourceRef::parse(text).is_some()),
    ("subscription_id", |text| text.parse::<SubscriptionId>().is_ok()),
    ("delivery_id", |text| text.parse::<DeliveryId>().is_ok()),
    ("dead_letter_id", |text| text.parse::<DeliveryId>().is_ok()),
    ("replay_id", |text| replay_number(text).is_some()),
    ("event_type", is_event_type),
    ("key_id", |text| text.parse::<KeyId>().is_ok()),
];

/// Compiles the route table.
///
/// # Errors
/// When a row is invalid. A test checks that all rows are valid.
pub fn router() -> Result<Router, RouteError> {
    Router::new(ROUTES, PATH_VALUE_VALIDATORS)
}

#[cfg(test)]
mod tests;
