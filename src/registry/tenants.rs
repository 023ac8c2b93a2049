//! Tenants: those of the configuration, those that the API created, and those that exist because they own something.

use std::sync::Arc;

use super::access::AccessError;
use super::snapshot::Registry;
use crate::config::FileTenant;
use crate::model::{DEFAULT_TENANT, TenantSettings, Timestamp, Visibility};
use crate::storage::registry::TenantRecord;

/// The layers of a tenant's settings. The settings of the configuration file hide those of registry.redb.
#[derive(Debug, Clone, Default)]
pub(super) struct TenantLayers {
    file: Option<Arc<TenantSettings>>,
    stored: Option<Arc<TenantRecord>>,
}

/// A tenant as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantInfo {
    /// The tenant's name.
    pub name: Arc<str>,
    /// The settings in force.
    pub settings: TenantSettings,
    /// Whether the configuration file declares the tenant.
    pub is_of_file: bool,
    /// When the API created the tenant; `None` if it did not.
    pub created_at: Option<Timestamp>,
}

impl TenantLayers {
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
    /// The defaults for the tenant's webhooks.
    pub fn tenant_settings(&self, name: &str) -> TenantSettings {
        self.tenant_layers(name).map(TenantLayers::settings).unwrap_or_default()
    }

    /// What a member of the tenant can see.
    pub fn visibility(&self, name: &str) -> Visibility {
        self.tenant_layers(name).map(TenantLayers::visibility).unwrap_or_default()
    }

    /// One tenant or all tenants, in the order of their names.
    pub fn tenants(&self, only: Option<&str>) -> Vec<TenantInfo> {
        let mut found: Vec<_> = match only {
            Some(name) => self
                .named_tenant_layers(name)
                .map(|(name, tenant_layers)| tenant_layers.info(name))
                .into_iter()
                .collect(),
            None => self.all_tenant_layers().map(|(name, tenant_layers)| tenant_layers.info(name)).collect(),
        };
        let is_wanted = only.is_none_or(|only| only == DEFAULT_TENANT);
        if is_wanted && self.tenant_layers(DEFAULT_TENANT).is_none() {
            found.push(TenantLayers::default().info(&DEFAULT_TENANT.into()));
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// Stores a tenant that the API creates. A tenant that exists only because it owns something gets these settings.
    ///
    /// # Errors
    /// If the configuration file declares the tenant, or the API created it before.
    pub(super) fn store_tenant(&mut self, name: &str, stored: Arc<TenantRecord>) -> Result<TenantInfo, AccessError> {
        if let Some(there) = self.tenant_layers(name) {
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
        let name = self.ensure_tenant(name);
        let tenant_layers = self.tenant_layers_mut(&name);
        tenant_layers.stored = Some(stored);
        tenant_layers.info(&name)
    }

    /// Replaces the tenants of the configuration.
    pub(super) fn set_file_tenants(&mut self, files: &[FileTenant]) {
        let before: Vec<_> = self
            .all_tenant_layers()
            .filter(|(_, tenant_layers)| tenant_layers.file.is_some())
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in before {
            self.tenant_layers_mut(&name).file = None;
        }
        for FileTenant { name, settings } in files {
            self.tenant_layers_mut(name).file = Some(Arc::new(settings.clone()));
        }
    }
}
