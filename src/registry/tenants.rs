//! Tenants: those of the configuration, those that the interface made, and those that came into being because something is
//! theirs.

use std::sync::Arc;

use super::access::AccessError;
use super::snapshot::Registry;
use crate::config::FileTenant;
use crate::model::{DEFAULT_TENANT, TenantSettings, Timestamp, Visibility};
use crate::storage::registry::TenantRecord;

/// Where a tenant's settings come from; those of the file hide those of the interface.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins {
    file: Option<Arc<TenantSettings>>,
    stored: Option<Arc<TenantRecord>>,
}

/// A tenant as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantInfo {
    /// Its name.
    pub name: Arc<str>,
    /// What is in force.
    pub settings: TenantSettings,
    /// Whether the configuration file has it.
    pub is_of_file: bool,
    /// When the interface made it, if it did.
    pub created_at: Option<Timestamp>,
}

impl Origins {
    pub(super) fn settings(&self) -> TenantSettings {
        let file = self.file.as_deref();
        file.or_else(|| self.stored.as_ref().map(|stored| &stored.settings)).cloned().unwrap_or_default()
    }

    fn visibility(&self) -> Visibility {
        let file = self.file.as_deref();
        let settings = file.or_else(|| self.stored.as_ref().map(|stored| &stored.settings));
        settings.map(|settings| settings.visibility).unwrap_or_default()
    }

    fn info(&self, name: &Arc<str>) -> TenantInfo {
        TenantInfo {
            name: Arc::clone(name),
            settings: self.settings(),
            is_of_file: self.file.is_some(),
            created_at: self.stored.as_ref().map(|stored| stored.created_at),
        }
    }
}

impl Registry {
    /// What holds for the tenant's webhooks by default.
    pub fn tenant_settings(&self, name: &str) -> TenantSettings {
        self.origins(name).map(Origins::settings).unwrap_or_default()
    }

    /// What a member of the tenant sees.
    pub fn visibility(&self, name: &str) -> Visibility {
        self.origins(name).map(Origins::visibility).unwrap_or_default()
    }

    /// Tenants in the order of their names: one, or all.
    pub fn tenants(&self, only: Option<&str>) -> Vec<TenantInfo> {
        let mut found: Vec<_> = match only {
            Some(name) => self.origins_of(name).map(|(name, origins)| origins.info(name)).into_iter().collect(),
            None => self.all_origins().map(|(name, origins)| origins.info(name)).collect(),
        };
        let is_wanted = only.is_none_or(|only| only == DEFAULT_TENANT);
        if is_wanted && self.origins(DEFAULT_TENANT).is_none() {
            found.push(Origins::default().info(&DEFAULT_TENANT.into()));
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// Makes a tenant of the interface, or gives one that merely came into being its settings.
    pub(super) fn store_tenant(&mut self, name: &str, stored: Arc<TenantRecord>) -> Result<TenantInfo, AccessError> {
        if let Some(there) = self.origins(name) {
            if there.file.is_some() {
                return Err(AccessError::ManagedByFile);
            }
            if there.stored.is_some() {
                return Err(AccessError::TenantExists);
            }
        }
        Ok(self.put_stored_tenant(name, stored))
    }

    pub(super) fn put_stored_tenant(&mut self, name: &str, stored: Arc<TenantRecord>) -> TenantInfo {
        let name = self.make_tenant(name);
        let origins = self.origins_mut(&name);
        origins.stored = Some(stored);
        origins.info(&name)
    }

    /// Tenants of the configuration, in place of those before.
    pub(super) fn set_file_tenants(&mut self, files: &[FileTenant]) {
        let before: Vec<_> = self
            .all_origins()
            .filter(|(_, origins)| origins.file.is_some())
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in before {
            self.origins_mut(&name).file = None;
        }
        for FileTenant { name, settings } in files {
            self.origins_mut(name).file = Some(Arc::new(settings.clone()));
        }
    }
}
