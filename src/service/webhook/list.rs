//! Lists webhooks.

use std::sync::Arc;

use crate::limits::PAGE_SCAN_MAX;
use crate::model::{Principal, WebhookId, WebhookNo, WebhookStatus};
use crate::outbound::Webhook;
use crate::registry::WebhookEntry;
use crate::service::access::{may_see_live, tenant_of};
use crate::service::{Error, ListPage, Operation, PageRequest, Service};

/// A filter for webhooks. A field that is `None` matches everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct WebhookFilter<'a> {
    /// Webhooks of this tenant; `None`: of the caller's own tenant, or of every tenant for a caller of tenant `*`.
    pub tenant: Option<&'a str>,
    /// Webhooks with this status.
    pub status: Option<WebhookStatus>,
    /// Webhooks with a pattern or an active subscription that matches this event type. Filters are not evaluated.
    pub event_type: Option<&'a str>,
    /// Webhooks with this text in name, description, uid or URL, ignoring case.
    pub text: Option<&'a str>,
    /// Webhooks with this uid.
    pub uid: Option<&'a str>,
    /// Webhooks of this user.
    pub user_id: Option<&'a str>,
    /// Webhooks of this workspace.
    pub workspace_id: Option<&'a str>,
}

impl Service {
    /// Lists the webhooks that the caller may see and that match the filter, newest first, starting before the webhook
    /// `before`.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not see the tenant.
    pub fn list_webhooks(
        &self,
        principal: &Principal,
        filter: WebhookFilter<'_>,
        page: PageRequest,
        before: Option<WebhookId>,
    ) -> Result<ListPage<Arc<Webhook>, WebhookId>, Error> {
        Operation::ListWebhooks.permit(principal.role)?;
        let tenant = tenant_of(principal, filter.tenant)?;
        let needle = filter.text.map(str::to_lowercase);
        let registry = self.registry.load();
        let before = match before {
            None => WebhookNo(u32::MAX),
            Some(id) => registry.webhook_entry_by_id(id).map_or(WebhookNo(0), WebhookEntry::no),
        };
        let all: Box<dyn Iterator<Item = &Arc<Webhook>>> = match (tenant, filter.uid) {
            // A uid matches at most one webhook of a tenant.
            (Some(tenant), Some(uid)) => {
                Box::new(registry.webhook_by_uid(tenant, uid).into_iter().filter(|webhook| webhook.no < before))
            }
            _ => registry.newest(tenant, before),
        };
        let mut found: Vec<Arc<Webhook>> = Vec::new();
        let (mut looked_at, mut last) = (0, None);
        for webhook in all.take(PAGE_SCAN_MAX) {
            looked_at += 1;
            last = Some(webhook);
            if filter.takes(webhook, needle.as_deref()) && may_see_live(principal, webhook) {
                found.push(Arc::clone(webhook));
                if found.len() == page.fetch_limit() {
                    break;
                }
            }
        }
        // A page that reached the scan limit continues where the scan stopped.
        let stopped_at = last.filter(|_| looked_at == PAGE_SCAN_MAX).map(|webhook| webhook.id);
        Ok(page.rows(found, stopped_at, |webhook| webhook.id))
    }
}

impl WebhookFilter<'_> {
    /// Whether the webhook matches the filter. `needle` is the filter's text in lower case.
    fn takes(&self, webhook: &Webhook, needle: Option<&str>) -> bool {
        let texts = [&webhook.name, &webhook.description, &webhook.uid];
        let texts = texts.into_iter().flatten().map(|text| &**text).chain([&*webhook.endpoint.url]);
        let is_of = |wanted: Option<&str>, own: &Option<Box<str>>| wanted.is_none() || wanted == own.as_deref();
        self.status.is_none_or(|status| status == webhook.status)
            && is_of(self.uid, &webhook.uid)
            && is_of(self.user_id, &webhook.user_id)
            && is_of(self.workspace_id, &webhook.workspace_id)
            && self.event_type.is_none_or(|text| names(webhook, text))
            && needle.is_none_or(|needle| texts.into_iter().any(|text| text.to_lowercase().contains(needle)))
    }
}

/// Whether a pattern or an active subscription matches this event type.
fn names(webhook: &Webhook, event_type: &str) -> bool {
    let subscriptions = webhook.subscriptions.iter().filter(|subscription| subscription.is_active);
    let mut patterns = webhook.events.iter().chain(subscriptions.map(|subscription| &subscription.event_type));
    patterns.any(|pattern| pattern.matches(event_type))
}
