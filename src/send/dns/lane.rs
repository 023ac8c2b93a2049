//! A lane: a number of lookups at the same time, shared by the tenants, and the names that wait for a place in it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A lane of lookups. A tenant gets another place only while more places are free than it has itself. So one tenant has
/// half of the places at most, two have a third each, and a place is left for a tenant that has none.
#[derive(Debug)]
pub(super) struct LookupLane {
    places: usize,
    taken: usize,
    by_tenant: HashMap<Arc<str>, usize>,
    waiting: HashMap<Arc<str>, VecDeque<Arc<str>>>,
}

impl LookupLane {
    /// A lane with this number of places.
    pub(super) fn new(places: usize) -> Self {
        Self { places, taken: 0, by_tenant: HashMap::new(), waiting: HashMap::new() }
    }

    /// Adds a name to the names for which the tenant waits.
    pub(super) fn queue(&mut self, tenant: &Arc<str>, name: &Arc<str>) {
        self.waiting.entry(Arc::clone(tenant)).or_default().push_back(Arc::clone(name));
    }

    /// Removes the waiting names for which `keep` is false.
    pub(super) fn retain_waiting(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.waiting.retain(|_, names| {
            names.retain(|name| keep(name));
            !names.is_empty()
        });
    }

    /// The next name whose tenant may have a place, with its tenant: the tenant with the fewest places comes first.
    pub(super) fn pop(&mut self) -> Option<(Arc<str>, Arc<str>)> {
        let free = self.places.saturating_sub(self.taken);
        let tenant = self.waiting.keys().min_by_key(|tenant| self.taken_by(tenant)).map(Arc::clone)?;
        if self.taken_by(&tenant) >= free {
            return None;
        }
        let names = self.waiting.get_mut(&tenant)?;
        let name = names.pop_front();
        if names.is_empty() {
            self.waiting.remove(&tenant);
        }
        Some((tenant, name?))
    }

    /// Takes a place, even if none is free.
    pub(super) fn take(&mut self, tenant: &Arc<str>) {
        self.taken += 1;
        *self.by_tenant.entry(Arc::clone(tenant)).or_default() += 1;
    }

    /// Gives a place back.
    pub(super) fn give_back(&mut self, tenant: &str) {
        self.taken -= 1;
        if let Some(taken) = self.by_tenant.get_mut(tenant) {
            *taken -= 1;
            if *taken == 0 {
                self.by_tenant.remove(tenant);
            }
        }
    }

    /// Whether more places are taken than the lane has.
    pub(super) fn is_over(&self) -> bool {
        self.taken > self.places
    }

    /// The tenant with the most places.
    pub(super) fn largest_tenant(&self) -> Option<&Arc<str>> {
        self.by_tenant.iter().max_by_key(|(_, taken)| **taken).map(|(tenant, _)| tenant)
    }

    /// The number of waiting names.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    fn taken_by(&self, tenant: &str) -> usize {
        self.by_tenant.get(tenant).copied().unwrap_or_default()
    }
}
