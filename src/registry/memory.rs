//! The memory that tenants use with their definitions: webhooks, sources and event types that the API made.
//!
//! Each definition has limits of its own. Without a limit for their sum, a tenant could use up the memory of the server
//! with many large filters or schemas. The numbers are estimates: the compiled forms are counted, and the text that a
//! definition was written in.

use std::sync::Arc;

use super::Registry;
use super::change::ChangeError;
use super::cow::CowMap;
use crate::inbound::source::Source;
use crate::limits::{DEFINITIONS_BYTES_MAX, TENANT_DEFINITIONS_BYTES_MAX};
use crate::registry::catalogue::EventType;

/// The bytes of all definitions, by tenant and in total.
#[derive(Debug, Clone, Default)]
pub(super) struct DefinitionMemory {
    of_tenant: CowMap<Arc<str>, usize>,
    total: usize,
}

impl DefinitionMemory {
    /// Counts a definition of `after` bytes in place of one of `before` bytes. 0 means that there is none.
    pub(super) fn replace(&mut self, tenant: &Arc<str>, before: usize, after: usize) {
        let bytes = self.of_tenant.entry(&**tenant, || (Arc::clone(tenant), 0));
        *bytes = *bytes - before + after;
        self.total = self.total - before + after;
    }

    pub(super) fn of_tenant(&self, tenant: &str) -> usize {
        self.of_tenant.get(tenant).copied().unwrap_or_default()
    }
}

impl Registry {
    /// Checks that a definition of `after` bytes may take the place of one of `before` bytes. A definition may always
    /// become smaller.
    pub(super) fn check_memory(&self, tenant: &str, before: usize, after: usize) -> Result<(), ChangeError> {
        let used = self.memory.of_tenant(tenant);
        if after <= before {
            Ok(())
        } else if used - before + after > TENANT_DEFINITIONS_BYTES_MAX {
            Err(ChangeError::TenantTooLarge)
        } else if self.memory.total - before + after > DEFINITIONS_BYTES_MAX {
            Err(ChangeError::RegistryTooLarge)
        } else {
            Ok(())
        }
    }

    /// Adds a source of registry.redb, or replaces the source that has its id.
    pub(super) fn put_source(&mut self, source: Arc<Source>) {
        self.memory.replace(&source.tenant, self.stored_source_bytes(&source), source.memory_bytes());
        self.sources.put(source);
    }

    /// The bytes of the stored source that has the id of `source`. A deleted source keeps its memory, because it can be
    /// restored.
    pub(super) fn stored_source_bytes(&self, source: &Source) -> usize {
        self.sources.of_id(source.id).map_or(0, |old| old.memory_bytes())
    }

    /// Adds an event type of registry.redb, or replaces the one that has its name.
    pub(super) fn put_event_type(&mut self, tenant: &Arc<str>, event_type: Arc<EventType>) {
        let before = self.stored_event_type_bytes(tenant, event_type.name());
        self.memory.replace(tenant, before, event_type.definition.memory_bytes());
        self.event_types.put(tenant, event_type);
    }

    /// Removes an event type of registry.redb.
    pub(super) fn remove_event_type(&mut self, tenant: &Arc<str>, name: &str) {
        self.memory.replace(tenant, self.stored_event_type_bytes(tenant, name), 0);
        self.event_types.remove(tenant, name);
    }

    /// The bytes of the stored event type that has this name.
    pub(super) fn stored_event_type_bytes(&self, tenant: &str, name: &str) -> usize {
        self.event_types.of_store(tenant, name).map_or(0, |old| old.definition.memory_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_and_the_whole_registry_have_limits_and_definitions_may_shrink() {
        let mut registry = Registry::default();
        let put = |registry: &mut Registry, tenant: &str, before, after| {
            registry
                .check_memory(tenant, before, after)
                .map(|()| registry.memory.replace(&tenant.into(), before, after))
        };
        put(&mut registry, "a", 0, TENANT_DEFINITIONS_BYTES_MAX - 10).unwrap();
        assert_eq!(put(&mut registry, "a", 0, 11), Err(ChangeError::TenantTooLarge));
        put(&mut registry, "a", 0, 10).unwrap();
        assert_eq!(put(&mut registry, "a", 10, 11), Err(ChangeError::TenantTooLarge));
        put(&mut registry, "a", 10, 9).unwrap();
        for n in 0..3 {
            put(&mut registry, &format!("b{n}"), 0, TENANT_DEFINITIONS_BYTES_MAX).unwrap();
        }
        put(&mut registry, "c", 0, 1).unwrap();
        assert_eq!(put(&mut registry, "c", 0, 1), Err(ChangeError::RegistryTooLarge));
        put(&mut registry, "a", TENANT_DEFINITIONS_BYTES_MAX - 10, 0).unwrap();
        put(&mut registry, "c", 0, 1).unwrap();
    }
}
