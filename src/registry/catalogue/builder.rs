//! Builds the event types of a configuration.

use std::collections::HashSet;
use std::sync::Arc;

use super::{CatalogueSetup, EventTypeDefinition, Settings};
use crate::model::{FieldError, TENANT_NAME_ALLOWED, is_tenant_name};

/// Collects the event types of a configuration, one by one.
#[derive(Debug, Default)]
pub struct CatalogueBuilder {
    files: Vec<Arc<EventTypeDefinition>>,
    /// Pairs of tenant and name.
    known: HashSet<(Option<String>, String)>,
}

impl CatalogueBuilder {
    /// Builds an event type and adds it. Returns all errors, by JSON pointer.
    pub fn add(&mut self, settings: Settings) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(tenant) = settings.tenant.as_deref().filter(|tenant| !is_tenant_name(tenant)) {
            errors.push(FieldError::new("/tenant", format!("{tenant:?} is not a tenant: {TENANT_NAME_ALLOWED}")));
        }
        if !self.known.insert((settings.tenant.clone(), settings.name.clone())) {
            errors.push(FieldError::new("/name", format!("{:?} is there twice", settings.name)));
        }
        match EventTypeDefinition::try_new(settings) {
            Ok(definition) => self.files.push(Arc::new(definition)),
            Err(found) => errors.extend(found),
        }
        errors
    }

    /// The event types that were added. With `strict`, events of types that are in no catalogue are refused.
    pub fn finish(self, strict: bool) -> CatalogueSetup {
        CatalogueSetup { strict, files: self.files }
    }
}
