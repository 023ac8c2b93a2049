//! Which method answers which route.

use hyper::Method;

use super::docs::document;
use super::page::Query;
use super::route::{self, Route, WebhookRef};
use super::webhook_list::tenant_of;
use super::{Api, Call, idempotency, roles};
use crate::http::{Problem, Response};

impl Api {
    /// Checks a call in the order that the module names, as far as no route differs, and answers it.
    pub(super) async fn answer(&self, call: &Call) -> Result<Response, Problem> {
        let path = route::spelled(call.parts.uri.path());
        let mut route = Route::parse(&path).ok_or_else(|| Problem::not_found("path or id"))?;
        let method = if call.parts.method == Method::HEAD { &Method::GET } else { &call.parts.method };
        if !route.allows(method) {
            return Err(Problem::method_not_allowed(route.allow()));
        }
        if let Route::Document(format) = route {
            return Ok(document(format));
        }
        roles::authorise(call.principal.role, route, method)?;
        Query::of(&call.parts.uri).none_is_empty()?;
        idempotency::key_of(&call.parts.headers)?;
        self.look_up(call, &mut route)?;
        match route {
            Route::Sources
            | Route::Source(_)
            | Route::SourceRestore(_)
            | Route::RotateSecret(_)
            | Route::RotateToken(_)
            | Route::Guide(_)
            | Route::Rejections(_) => self.answer_source(call, route, method).await,
            Route::Deliveries
            | Route::DeliveriesOf(_)
            | Route::Delivery(_)
            | Route::RetryDelivery(_)
            | Route::Recover(_)
            | Route::DeadLetters
            | Route::DeadLettersOf(_)
            | Route::DeadLetterOf(..)
            | Route::ReplayDeadLetter(..)
            | Route::BulkReplay(_)
            | Route::Events
            | Route::Event(_)
            | Route::ReplayEvent(_)
            | Route::Replays
            | Route::Replay(_) => self.answer_delivery(call, route, method).await,
            Route::Keys
            | Route::Key(_)
            | Route::Tenants
            | Route::Audit
            | Route::EventTypes(_)
            | Route::EventType(_) => self.answer_admin(call, route, method).await,
            _ => self.answer_webhook(call, route, method).await,
        }
    }

    async fn answer_source(&self, call: &Call, route: Route<'_>, method: &Method) -> Result<Response, Problem> {
        match (route, method) {
            (Route::Sources, &Method::POST) => self.create_source(call).await,
            (Route::Sources, _) => self.list_sources(call),
            (Route::Source(of), &Method::PATCH) => self.patch_source(call, of).await,
            (Route::Source(of), &Method::DELETE) => self.delete_source(call, of).await,
            (Route::Source(of), _) => self.read_source(call, of),
            (Route::SourceRestore(of), _) => self.restore_source(call, of).await,
            (Route::RotateSecret(of), _) => self.rotate_secret(call, of).await,
            (Route::RotateToken(of), _) => self.rotate_token(call, of).await,
            (Route::Guide(of), _) => self.guide(call, of),
            (Route::Rejections(of), _) => self.list_rejections(call, of),
            _ => Err(Problem::not_found("path or id")),
        }
    }

    async fn answer_webhook(&self, call: &Call, route: Route<'_>, method: &Method) -> Result<Response, Problem> {
        match (route, method) {
            (Route::Webhooks, &Method::POST) => self.create_webhook(call).await,
            (Route::Webhooks, _) => self.list_webhooks(call),
            (Route::Webhook(of), &Method::PATCH) => self.patch_webhook(call, of).await,
            (Route::Webhook(of), &Method::PUT) => self.put_webhook(call, of).await,
            (Route::Webhook(of), &Method::DELETE) => self.delete_webhook(call, of).await,
            (Route::Webhook(of), _) => self.read_webhook(call, of),
            (Route::Pause(of), _) => self.pause_webhook(call, of).await,
            (Route::Resume(of), _) => self.resume_webhook(call, of).await,
            (Route::Test(of), _) => self.test_webhook(call, of).await,
            (Route::RegenerateSecret(of), _) => self.regenerate_secret(call, of).await,
            (Route::WebhookMetrics(of), _) => self.webhook_metrics(call, of).await,
            (Route::Stats, _) => self.stats(call).await,
            (Route::Subscriptions(of), &Method::POST) => self.create_subscription(call, of).await,
            (Route::Subscriptions(of), _) => self.list_subscriptions(call, of),
            (Route::Subscription(of, id), &Method::PUT) => self.put_subscription(call, of, id).await,
            (Route::Subscription(of, id), &Method::DELETE) => self.delete_subscription(call, of, id).await,
            (Route::Subscription(of, id), _) => self.read_subscription(call, of, id),
            (Route::FilterTest, _) => self.test_filter(call).await,
            (Route::Document(format), _) => Ok(document(format)),
            _ => Err(Problem::not_found("path or id")),
        }
    }

    async fn answer_delivery(&self, call: &Call, route: Route<'_>, method: &Method) -> Result<Response, Problem> {
        match (route, method) {
            (Route::Deliveries, _) => self.list_deliveries(call, None).await,
            (Route::DeliveriesOf(of), _) => self.list_deliveries(call, Some(of)).await,
            (Route::Delivery(id), _) => self.read_delivery(call, id).await,
            (Route::RetryDelivery(id), _) => self.retry_delivery(call, id).await,
            (Route::Recover(of), _) => self.recover(call, of).await,
            (Route::Events, _) => self.list_events(call).await,
            (Route::Event(id), _) => self.read_event(call, id).await,
            (Route::ReplayEvent(id), _) => self.replay_event(call, id).await,
            (Route::Replays, &Method::POST) => self.start_replay(call).await,
            (Route::Replays, _) => self.list_replays(call).await,
            (Route::Replay(no), &Method::DELETE) => self.cancel_replay(call, no).await,
            (Route::Replay(no), _) => self.read_replay(call, no).await,
            (Route::DeadLetters, _) => self.list_dead_letters(call, None).await,
            (Route::DeadLettersOf(of), _) => self.list_dead_letters(call, Some(of)).await,
            (Route::DeadLetterOf(of, letter), &Method::DELETE) => self.discard_dead_letter(call, of, letter).await,
            (Route::DeadLetterOf(of, letter), _) => self.read_dead_letter(call, of, letter).await,
            (Route::ReplayDeadLetter(of, letter), _) => self.replay_dead_letter(call, of, letter).await,
            (Route::BulkReplay(of), _) => self.bulk_replay(call, of).await,
            _ => Err(Problem::not_found("path or id")),
        }
    }

    async fn answer_admin(&self, call: &Call, route: Route<'_>, method: &Method) -> Result<Response, Problem> {
        match (route, method) {
            (Route::Keys, &Method::POST) => self.create_key(call).await,
            (Route::Keys, _) => self.list_keys(call),
            (Route::Key(id), &Method::DELETE) => self.revoke_key(call, id).await,
            (Route::Key(id), _) => self.read_key(call, id),
            (Route::Tenants, &Method::POST) => self.create_tenant(call).await,
            (Route::Tenants, _) => self.list_tenants(call),
            (Route::Audit, _) => self.list_audit(call).await,
            (Route::EventTypes(_), &Method::POST) => self.create_event_type(call).await,
            (Route::EventTypes(_), _) => self.list_event_types(call),
            (Route::EventType(name), &Method::PUT) => self.put_event_type(call, name).await,
            (Route::EventType(name), &Method::DELETE) => self.delete_event_type(call, name).await,
            (Route::EventType(name), _) => self.read_event_type(call, name),
            _ => Err(Problem::not_found("path or id")),
        }
    }

    /// For a key of tenant `*`, a uid is one of `?tenant=`, where that is given; from here on the webhook has its id.
    fn look_up(&self, call: &Call, route: &mut Route<'_>) -> Result<(), Problem> {
        if call.principal.tenant.is_some() {
            return Ok(());
        }
        if let Some(of) = route.webhook_mut()
            && let WebhookRef::Uid(uid) = *of
            && let Some(tenant) = tenant_of(&call.principal, &Query::of(&call.parts.uri))?
        {
            *of = self.service.within(&call.principal, Some(tenant), WebhookRef::Uid(uid))?;
        }
        Ok(())
    }
}
