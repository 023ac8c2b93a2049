//! The event type catalogue in the snapshot: the event types of the configuration, which are replaced together, and
//! those of registry.redb.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::Registry;
use super::cow::CowMap;
use super::versions::version_of_file;
use crate::inbound::source::ManagedBy;
use crate::model::{EventPattern, RESERVED_TYPE_PREFIX, Timestamp};
use crate::registry::catalogue::{CatalogueSetup, EventType, TypeRule};

/// Event types by name. An event type of the configuration hides one of registry.redb that has its name.
type Types = BTreeMap<Box<str>, Arc<EventType>>;

/// The event types of a snapshot.
#[derive(Debug, Clone, Default)]
pub(super) struct EventTypes {
    strict: bool,
    files: Arc<FileEventTypes>,
    /// The event types of registry.redb, by tenant.
    stored: CowMap<Arc<str>, Arc<Types>>,
    stored_count: usize,
}

/// The event types of the configuration.
#[derive(Debug, Default)]
struct FileEventTypes {
    /// Event types for every tenant.
    shared: Types,
    /// Event types for one tenant.
    of_tenant: HashMap<Arc<str>, Types>,
}

impl Registry {
    /// The event type of this name that applies to a tenant.
    pub fn event_type(&self, tenant: &str, name: &str) -> Option<&Arc<EventType>> {
        self.event_types.layers(tenant).find_map(|types| types.get(name))
    }

    /// All event types that apply to a tenant, by name.
    pub fn event_types(&self, tenant: &str) -> impl Iterator<Item = &Arc<EventType>> {
        let mut all = BTreeMap::new();
        for types in self.event_types.layers(tenant) {
            for (name, event_type) in types {
                all.entry(&**name).or_insert(event_type);
            }
        }
        all.into_values()
    }

    /// The rule for a tenant's events of this type.
    pub fn type_rule(&self, tenant: &str, name: &str) -> TypeRule {
        let types = &self.event_types;
        if types.is_empty() && !types.strict {
            return TypeRule::Free;
        }
        match self.event_type(tenant, name) {
            Some(known) => TypeRule::Known(Arc::clone(known)),
            None if types.strict && !name.starts_with(RESERVED_TYPE_PREFIX) => TypeRule::Unknown,
            None => TypeRule::Free,
        }
    }

    /// Whether the catalogue is strict: events of unknown types are refused.
    pub fn is_strict(&self) -> bool {
        self.event_types.strict
    }

    /// Whether any event type applies to a tenant.
    pub fn has_catalogue(&self, tenant: &str) -> bool {
        self.event_types.layers(tenant).any(|types| !types.is_empty())
    }

    /// Whether an event type that applies to the tenant matches the pattern. The gateway's own types always count as
    /// known.
    pub fn knows(&self, tenant: &str, pattern: &EventPattern) -> bool {
        match pattern {
            EventPattern::All => true,
            EventPattern::Exact(name) => {
                name.starts_with(RESERVED_TYPE_PREFIX) || self.event_type(tenant, name).is_some()
            }
            EventPattern::Prefix(prefix) => {
                let from = (Bound::Excluded(&**prefix), Bound::Unbounded);
                let begins = |types: &Types| {
                    types.range::<str, _>(from).next().is_some_and(|(name, _)| name.starts_with(&**prefix))
                };
                prefix.starts_with(RESERVED_TYPE_PREFIX) || self.event_types.layers(tenant).any(begins)
            }
        }
    }

    /// Replaces the event types of the configuration. Returns whether they differ from the previous ones. An unchanged
    /// event type keeps its version and times.
    pub(super) fn set_event_types(&mut self, setup: &CatalogueSetup, now: Timestamp) -> bool {
        let mut files = FileEventTypes::default();
        let mut kept = 0;
        for definition in &setup.files {
            let tenant = definition.settings.tenant.as_deref().map(|name| self.ensure_tenant(name));
            let name: Box<str> = definition.settings.name.as_str().into();
            let old = self.event_types.files.types(tenant.as_deref()).and_then(|types| types.get(&name));
            let (mut created_at, mut updated_at, mut version) = (now, now, version_of_file(None, now));
            if let Some(old) = old {
                let is_same = old.definition.settings == definition.settings;
                created_at = old.created_at;
                updated_at = if is_same { old.updated_at } else { now };
                version = if is_same { old.version } else { version_of_file(Some(old.version), now) };
                kept += usize::from(is_same);
            }
            let (definition, managed_by) = (Arc::clone(definition), ManagedBy::File);
            let event_type =
                EventType { definition, tenant: tenant.clone(), managed_by, created_at, updated_at, version };
            let types = match tenant {
                None => &mut files.shared,
                Some(tenant) => files.of_tenant.entry(tenant).or_default(),
            };
            types.insert(name, Arc::new(event_type));
        }
        let is_same = self.event_types.strict == setup.strict
            && kept == setup.files.len()
            && kept == self.event_types.files.len();
        self.event_types.files = Arc::new(files);
        self.event_types.strict = setup.strict;
        !is_same
    }
}

impl EventTypes {
    /// The versions of all stored event types.
    pub(super) fn stored_versions(&self) -> impl Iterator<Item = u64> {
        self.stored.values().into_iter().flat_map(|types| types.values().map(|event_type| event_type.version))
    }

    /// The event types that apply to a tenant. Earlier layers hide later ones.
    fn layers(&self, tenant: &str) -> impl Iterator<Item = &Types> {
        let files = [Some(&self.files.shared), self.files.types(Some(tenant))];
        files.into_iter().flatten().chain(self.stored.get(tenant).map(|types| &**types))
    }

    fn is_empty(&self) -> bool {
        self.stored_count == 0 && self.files.shared.is_empty() && self.files.of_tenant.is_empty()
    }

    /// The event type of registry.redb with this name.
    pub(super) fn of_store(&self, tenant: &str, name: &str) -> Option<&Arc<EventType>> {
        self.stored.get(tenant)?.get(name)
    }

    /// How many event types a tenant has in registry.redb.
    pub(super) fn count(&self, tenant: &str) -> usize {
        self.stored.get(tenant).map_or(0, |types| types.len())
    }

    /// Adds an event type of registry.redb, or replaces the one that has its name.
    pub(super) fn put(&mut self, tenant: &Arc<str>, event_type: Arc<EventType>) {
        let types = Arc::make_mut(self.stored.entry(&**tenant, || (Arc::clone(tenant), Arc::default())));
        let is_new = types.insert(event_type.name().into(), event_type).is_none();
        self.stored_count += usize::from(is_new);
    }

    /// Removes an event type of registry.redb.
    pub(super) fn remove(&mut self, tenant: &Arc<str>, name: &str) {
        let types = Arc::make_mut(self.stored.entry(&**tenant, || (Arc::clone(tenant), Arc::default())));
        self.stored_count -= usize::from(types.remove(name).is_some());
    }

    /// Takes over the event types of the configuration from another snapshot.
    pub(super) fn copy_files(&mut self, from: &Self) {
        self.files = Arc::clone(&from.files);
        self.strict = from.strict;
    }
}

impl FileEventTypes {
    fn len(&self) -> usize {
        self.shared.len() + self.of_tenant.values().map(BTreeMap::len).sum::<usize>()
    }

    fn types(&self, tenant: Option<&str>) -> Option<&Types> {
        match tenant {
            None => Some(&self.shared),
            Some(tenant) => self.of_tenant.get(tenant),
        }
    }
}
