//! The event types of a configuration.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Definition, Settings, Setup};
use crate::inbound::source::Breach;
use crate::model::{TENANT_NAME_ALLOWED, is_tenant_name};

/// Collects the event types of a configuration, one by one.
#[derive(Debug, Default)]
pub struct Collector {
    files: Vec<Arc<Definition>>,
    /// Tenants and names.
    known: HashSet<(Option<String>, String)>,
}

impl Collector {
    /// Builds an event type and adds it. Returns everything that is wrong with it, by JSON pointer.
    pub fn add(&mut self, settings: Settings) -> Vec<Breach> {
        let mut breaches = Vec::new();
        if let Some(tenant) = settings.tenant.as_deref().filter(|tenant| !is_tenant_name(tenant)) {
            breaches.push(Breach::new("/tenant", format!("{tenant:?} is not a tenant: {TENANT_NAME_ALLOWED}")));
        }
        if !self.known.insert((settings.tenant.clone(), settings.name.clone())) {
            breaches.push(Breach::new("/name", format!("{:?} is there twice", settings.name)));
        }
        match Definition::try_new(settings) {
            Ok(definition) => self.files.push(Arc::new(definition)),
            Err(found) => breaches.extend(found),
        }
        breaches
    }

    /// The event types that were added. `strict`: types that are in no catalogue are refused.
    pub fn finish(self, strict: bool) -> Setup {
        Setup { strict, files: self.files }
    }
}
