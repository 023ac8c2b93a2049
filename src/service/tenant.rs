//! Tenants: list, make.

use serde_json::{Map, Value};

use super::access::tenant_of;
use super::fields::Fields;
use super::{Error, ErrorKind, Operation, Page, Rows, Service};
use crate::model::{Principal, TENANT_NAME_ALLOWED, TenantSettings, Visibility, is_tenant_name};
use crate::outbound::profile::Profiles;
use crate::registry::TenantInfo;

const ALLOWED: &str = "name, profile, retry_policy, visibility";

/// A tenant that was checked and can be made.
#[derive(Debug)]
pub struct TenantDraft {
    name: String,
    settings: TenantSettings,
    by: Principal,
}

impl Service {
    /// Refuses a caller who may not make tenants. An admin of tenant `*` may.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`].
    pub fn may_create_tenant(principal: &Principal) -> Result<(), Error> {
        Operation::CreateTenant.permit(principal.role)?;
        match principal.tenant {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::Forbidden, "only a key of tenant * may make tenants")),
        }
    }

    /// Checks the document of a new tenant.
    ///
    /// # Errors
    /// If the caller may not make tenants; each field that is wrong, by its JSON pointer.
    pub fn draft_tenant(&self, principal: &Principal, document: Map<String, Value>) -> Result<TenantDraft, Error> {
        Self::may_create_tenant(principal)?;
        let mut fields = Fields::new(document);
        let (name, settings) = new_tenant(&mut fields, self.registry.load().profiles());
        fields.finish(ALLOWED)?;
        Ok(TenantDraft { name, settings, by: principal.clone() })
    }

    /// Makes a tenant.
    ///
    /// # Errors
    /// If there is a tenant of this name, or the registry takes no change.
    pub async fn create_tenant(&self, draft: TenantDraft) -> Result<TenantInfo, Error> {
        Ok(self.writer.by(&draft.by).create_tenant(&draft.name, draft.settings).await?)
    }

    /// Lists tenants by name, from the first name after `after`: all of them for a caller of tenant `*`, else the
    /// caller's own. `named` narrows the list to one tenant.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not know of the named tenant.
    pub fn list_tenants(
        &self,
        principal: &Principal,
        named: Option<&str>,
        page: Page,
        after: Option<&str>,
    ) -> Result<Rows<TenantInfo, Box<str>>, Error> {
        Operation::ReadTenants.permit(principal.role)?;
        let tenants = self.registry.load().tenants(tenant_of(principal, named)?);
        let wanted = tenants.into_iter().filter(|tenant| after.is_none_or(|after| &*tenant.name > after));
        Ok(page.rows(wanted.take(page.wanted()).collect(), None, |tenant| (*tenant.name).into()))
    }
}

fn new_tenant(fields: &mut Fields, profiles: &Profiles) -> (String, TenantSettings) {
    let name = fields.plain_text("name").unwrap_or_default();
    if !is_tenant_name(&name) {
        fields.wrong("/name", format!("expected {TENANT_NAME_ALLOWED}"));
    }
    let profile = fields.plain_text("profile").map(String::into_boxed_str);
    if profile.as_deref().is_some_and(|name| profiles.get(name).is_none()) {
        let names = profiles.names().collect::<Vec<_>>().join(", ");
        fields.wrong("/profile", format!("is no profile; there are: {names}"));
    }
    let visibility = match fields.left.remove("visibility") {
        None | Some(Value::Null) => Visibility::default(),
        Some(value) => serde_json::from_value(value).unwrap_or_else(|_| {
            fields.wrong("/visibility", "expected tenant or owner");
            Visibility::default()
        }),
    };
    let retry_policy = fields.retry_policy(None).value().and_then(|retry| retry.policy);
    (name, TenantSettings { profile, retry_policy, visibility })
}
