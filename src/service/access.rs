//! Authorization: the role that each operation requires, and the resources that a caller may see.

use std::sync::Arc;

use super::{Error, ErrorKind, Service, WebhookRef};
use crate::model::{DEFAULT_TENANT, Principal, Role};
use crate::outbound::Webhook;
use crate::registry::WebhookEntry;

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident: $role:ident,)*) => {
        /// An operation of the service.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Operation {
            $($(#[$doc])* $name,)*
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The lowest role that may call the operation.
            pub fn required_role(self) -> Role {
                match self { $(Self::$name => Role::$role,)* }
            }
        }
    };
}

operations! {
    /// Create a webhook, or preview a new one.
    CreateWebhook: Member,
    /// Read one webhook.
    ReadWebhook: Viewer,
    /// List webhooks.
    ListWebhooks: Viewer,
    /// Replace, patch, pause or resume a webhook, or preview a replacement.
    ChangeWebhook: Member,
    /// Delete a webhook.
    DeleteWebhook: Member,
    /// Replace the secret of a webhook.
    RegenerateSecret: Member,
    /// Send a test delivery.
    TestWebhook: Member,
    /// Read or list subscriptions.
    ReadSubscriptions: Viewer,
    /// Create, replace or delete a subscription.
    ChangeSubscriptions: Member,
    /// Read the statistics of webhooks and tenants.
    ReadStatistics: Viewer,
    /// Test a filter against an event. Nothing changes, so every role that may read may do so.
    TestFilter: Viewer,

    /// Read or list deliveries and their attempts.
    ReadDeliveries: Viewer,
    /// Retry a delivery, or recover the deliveries of a webhook.
    RetryDeliveries: Member,
    /// Read or list dead letters.
    ReadDeadLetters: Viewer,
    /// Replay or discard dead letters.
    ChangeDeadLetters: Member,
    /// Read or list events.
    ReadEvents: Viewer,
    /// Read or list replays.
    ReadReplays: Viewer,
    /// Start or cancel a replay, or replay one event.
    ChangeReplays: Member,

    /// Read or list sources, their setup guides and their rejections.
    ReadSources: Viewer,
    /// Create, change, delete or restore a source, or rotate its secret or token.
    ChangeSources: Member,

    /// Read or list event types.
    ReadEventTypes: Viewer,
    /// Create, replace or delete an event type. The change affects the whole tenant.
    ChangeEventTypes: Admin,
    /// List tenants.
    ReadTenants: Viewer,
    /// Create a tenant. Only a key of tenant `*` may do so, in addition to the role.
    CreateTenant: Admin,
    /// Read or list API keys. Keys show who has access.
    ReadKeys: Admin,
    /// Create or revoke an API key.
    ChangeKeys: Admin,
    /// Read the audit log.
    ReadAudit: Admin,
}

impl Operation {
    /// Rejects a role below the required role.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`].
    pub fn permit(self, role: Role) -> Result<(), Error> {
        authorise(role, self.required_role())
    }
}

/// Rejects a role below `least`.
///
/// # Errors
/// [`ErrorKind::Forbidden`].
pub fn authorise(role: Role, least: Role) -> Result<(), Error> {
    if role >= least {
        return Ok(());
    }
    let detail = match (role, least) {
        (Role::Publisher, _) => "a publisher may only publish events",
        (_, Role::Admin) => "only an admin may do this",
        _ => "a viewer may only read",
    };
    Err(Error::new(ErrorKind::Forbidden, detail))
}

/// Whether the caller may see resources of `tenant`.
pub fn sees(principal: &Principal, tenant: &str) -> bool {
    principal.tenant.as_deref().is_none_or(|own| own == tenant)
}

/// Whether the caller may see a webhook, deleted or not. Reads, lists, counts and statistics all use this rule.
pub fn may_see(principal: &Principal, webhook: &WebhookEntry) -> bool {
    match webhook {
        WebhookEntry::Live(webhook) => may_see_live(principal, webhook),
        // The owner of a removed webhook is unknown.
        WebhookEntry::Removed(removed) => sees(principal, &removed.tenant) && principal.sees_user(None),
    }
}

/// Whether the caller may see a webhook that is not deleted.
pub fn may_see_live(principal: &Principal, webhook: &Webhook) -> bool {
    sees(principal, &webhook.tenant) && principal.sees_user(webhook.user_id.as_deref())
}

/// The tenant that a call is about: `named`, or the caller's own if `named` is `None`. `None` means every tenant, which
/// only a caller of tenant `*` gets.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a tenant that the caller may not see.
pub fn tenant_of<'a>(principal: &'a Principal, named: Option<&'a str>) -> Result<Option<&'a str>, Error> {
    match named {
        Some(named) if sees(principal, named) => Ok(Some(named)),
        Some(_) => Err(Error::not_found("tenant")),
        None => Ok(principal.tenant.as_deref()),
    }
}

impl Service {
    /// Finds a webhook that the caller may see, deleted or not. A uid finds only webhooks that are not deleted.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub(crate) fn find_webhook(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<WebhookEntry, Error> {
        let registry = self.registry.load();
        let known = match of {
            WebhookRef::Id(id) => registry.webhook_entry_by_id(id),
            WebhookRef::Uid(uid) => {
                let tenant = principal.tenant.as_deref().unwrap_or(DEFAULT_TENANT);
                registry.webhook_by_uid(tenant, uid).and_then(|webhook| registry.webhook_entry(webhook.no))
            }
        };
        known.filter(|known| may_see(principal, known)).cloned().ok_or_else(|| Error::not_found("webhook"))
    }

    /// Finds a webhook that is not deleted and that the caller may see.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub(crate) fn live_webhook(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<Arc<Webhook>, Error> {
        match self.find_webhook(principal, of)? {
            WebhookEntry::Live(webhook) => Ok(webhook),
            WebhookEntry::Removed(_) => Err(Error::not_found("webhook")),
        }
    }

    /// Resolves a uid within `tenant` to the webhook's id, if the caller is of tenant `*`. Any other reference is
    /// returned unchanged.
    ///
    /// # Errors
    /// If the tenant has no webhook with this uid.
    pub fn resolve_in_tenant<'p>(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        of: WebhookRef<'p>,
    ) -> Result<WebhookRef<'p>, Error> {
        match (of, tenant) {
            (WebhookRef::Uid(uid), Some(tenant)) if principal.tenant.is_none() => {
                let registry = self.registry.load();
                let webhook = registry.webhook_by_uid(tenant, uid).ok_or_else(|| Error::not_found("webhook"))?;
                Ok(WebhookRef::Id(webhook.id))
            }
            (of, _) => Ok(of),
        }
    }
}
