//! Who may do what: the role that each operation requires, and what a caller may see.

use std::sync::Arc;

use super::{Error, ErrorKind, Service, WebhookRef};
use crate::model::{DEFAULT_TENANT, Principal, Role};
use crate::outbound::Webhook;
use crate::registry::Lookup;

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

            /// The least role that may call the operation.
            pub fn required_role(self) -> Role {
                match self { $(Self::$name => Role::$role,)* }
            }
        }
    };
}

operations! {
    /// Make a webhook, or preview one.
    CreateWebhook: Member,
    /// Read one webhook.
    ReadWebhook: Viewer,
    /// List webhooks.
    ListWebhooks: Viewer,
    /// Replace, patch, pause or resume a webhook, or preview a replacement.
    ChangeWebhook: Member,
    /// Delete a webhook.
    DeleteWebhook: Member,
    /// Give a webhook another secret.
    RegenerateSecret: Member,
    /// Send a test delivery.
    TestWebhook: Member,
    /// Read or list subscriptions.
    ReadSubscriptions: Viewer,
    /// Make, replace or delete a subscription.
    ChangeSubscriptions: Member,
    /// Read the figures of webhooks and tenants.
    ReadFigures: Viewer,
    /// Try a filter on an event. Nothing changes, so whoever reads may do it.
    TestFilter: Viewer,

    /// Read or list deliveries and their attempts.
    ReadDeliveries: Viewer,
    /// Try a delivery again, or recover a webhook's deliveries.
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

    /// Read or list sources, their guides and their rejections.
    ReadSources: Viewer,
    /// Make, change, delete or restore a source, or rotate its secret or token.
    ChangeSources: Member,

    /// Read or list event types.
    ReadEventTypes: Viewer,
    /// Make, replace or delete an event type, which holds for the whole tenant.
    ChangeEventTypes: Admin,
    /// List tenants.
    ReadTenants: Viewer,
    /// Make a tenant. Only a key of tenant `*` may; that is not a matter of roles.
    CreateTenant: Admin,
    /// Read or list keys: who else may come in.
    ReadKeys: Admin,
    /// Make or revoke a key.
    ChangeKeys: Admin,
    /// Read the audit log: who did what.
    ReadAudit: Admin,
}

impl Operation {
    /// Refuses a role that is less than the required one.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`].
    pub fn permit(self, role: Role) -> Result<(), Error> {
        authorise(role, self.required_role())
    }
}

/// Refuses a role that is less than `least`.
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

/// Whether the caller may know of what belongs to `tenant`.
pub fn sees(principal: &Principal, tenant: &str) -> bool {
    principal.tenant.as_deref().is_none_or(|own| own == tenant)
}

/// Whether the caller may know of a webhook, removed or not: the one rule for reads, lists, counts and figures.
pub fn may_see(principal: &Principal, webhook: &Lookup) -> bool {
    match webhook {
        Lookup::Live(webhook) => may_see_live(principal, webhook),
        // The owner of a removed webhook is not known.
        Lookup::Removed(removed) => sees(principal, &removed.tenant) && principal.sees_user(None),
    }
}

/// Whether the caller may know of a webhook that is there.
pub fn may_see_live(principal: &Principal, webhook: &Webhook) -> bool {
    sees(principal, &webhook.tenant) && principal.sees_user(webhook.user_id.as_deref())
}

/// The tenant that a caller means who names `named` or none; `None`: every tenant, for a caller of tenant `*`.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a tenant that the caller may not know of.
pub fn tenant_of<'a>(principal: &'a Principal, named: Option<&'a str>) -> Result<Option<&'a str>, Error> {
    match named {
        Some(named) if sees(principal, named) => Ok(Some(named)),
        Some(_) => Err(Error::not_found("tenant")),
        None => Ok(principal.tenant.as_deref()),
    }
}

impl Service {
    /// The webhook that the caller names, removed or not, if the caller may know of it. A uid leads only to one that is
    /// there.
    pub(crate) fn known(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<Lookup, Error> {
        let registry = self.registry.load();
        let known = match of {
            WebhookRef::Id(id) => registry.known_by_id(id),
            WebhookRef::Uid(uid) => {
                let tenant = principal.tenant.as_deref().unwrap_or(DEFAULT_TENANT);
                registry.webhook_by_uid(tenant, uid).and_then(|webhook| registry.known(webhook.no))
            }
        };
        known.filter(|known| may_see(principal, known)).cloned().ok_or_else(|| Error::not_found("webhook"))
    }

    /// The webhook that the caller names, if it is there and the caller may know of it.
    pub(crate) fn live(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<Arc<Webhook>, Error> {
        match self.known(principal, of)? {
            Lookup::Live(webhook) => Ok(webhook),
            Lookup::Removed(_) => Err(Error::not_found("webhook")),
        }
    }

    /// The same webhook by its id, where a caller of tenant `*` names a uid within `tenant`.
    ///
    /// # Errors
    /// If there is no webhook of this uid.
    pub fn within<'p>(
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
