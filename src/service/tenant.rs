//! Tenants: list and create.

use serde_json::{Map, Value};

use super::access::tenant_of;
use super::fields::DocumentFields;
use super::{Error, ErrorKind, ListPage, Operation, PageRequest, ResponseRecorder, Service};
use crate::model::{Principal, TENANT_NAME_ALLOWED, TenantSettings, Visibility, is_tenant_name};
use crate::outbound::profile::Profiles;
use crate::registry::{ChangedResource, TenantInfo};

const ALLOWED: &str = "name, profile, retry_policy, visibility";

/// A validated tenant, ready to be created.
#[derive(Debug)]
pub struct TenantDraft {
    name: String,
    settings: TenantSettings,
    by: Principal,
}

impl Service {
    /// Rejects a caller that may not create tenants. Only an admin of tenant `*` may.
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

    /// Validates the document of a new tenant.
    ///
    /// # Errors
    /// If the caller may not create tenants. Invalid fields are listed by JSON pointer.
    pub fn draft_tenant(&self, principal: &Principal, document: Map<String, Value>) -> Result<TenantDraft, Error> {
        Self::may_create_tenant(principal)?;
        let mut fields = DocumentFields::new(document);
        let (name, settings) = new_tenant(&mut fields, self.registry.load().profiles());
        fields.finish(ALLOWED)?;
        Ok(TenantDraft { name, settings, by: principal.clone() })
    }

    /// Creates a tenant.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If a tenant of this name exists, or the registry accepts no changes.
    pub async fn create_tenant(
        &self,
        draft: TenantDraft,
        record: Option<ResponseRecorder<TenantInfo>>,
    ) -> Result<TenantInfo, Error> {
        let answer = record.map(|record| {
            record.of_change(|changed| match changed {
                ChangedResource::Tenant(tenant) => Some(TenantInfo::clone(tenant)),
                _ => None,
            })
        });
        Ok(self.writer.on_behalf_of(&draft.by).recording(answer).create_tenant(&draft.name, draft.settings).await?)
    }

    /// Lists tenants by name, starting after the name `after`. A caller of tenant `*` gets all tenants, other callers
    /// get their own. `named` restricts the list to one tenant.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not see the named tenant.
    pub fn list_tenants(
        &self,
        principal: &Principal,
        named: Option<&str>,
        page: PageRequest,
        after: Option<&str>,
    ) -> Result<ListPage<TenantInfo, Box<str>>, Error> {
        Operation::ReadTenants.permit(principal.role)?;
        let tenants = self.registry.load().tenants(tenant_of(principal, named)?);
        let wanted = tenants.into_iter().filter(|tenant| after.is_none_or(|after| &*tenant.name > after));
        Ok(page.rows(wanted.take(page.fetch_limit()).collect(), None, |tenant| (*tenant.name).into()))
    }
}

fn new_tenant(fields: &mut DocumentFields, profiles: &Profiles) -> (String, TenantSettings) {
    let name = fields.plain_text("name").unwrap_or_default();
    if !is_tenant_name(&name) {
        fields.wrong("/name", format!("expected {TENANT_NAME_ALLOWED}"));
    }
    let profile = fields.plain_text("profile").map(String::into_boxed_str);
    if profile.as_deref().is_some_and(|name| profiles.get(name).is_none()) {
        let names = profiles.names().collect::<Vec<_>>().join(", ");
        fields.wrong("/profile", format!("is no profile; there are: {names}"));
    }
    let visibility = match fields.unread.remove("visibility") {
        None | Some(Value::Null) => Visibility::default(),
        Some(value) => serde_json::from_value(value).unwrap_or_else(|_| {
            fields.wrong("/visibility", "expected tenant or owner");
            Visibility::default()
        }),
    };
    let retry_policy = fields.retry_policy(None).value().and_then(|retry| retry.policy);
    (name, TenantSettings { profile, retry_policy, visibility })
}
