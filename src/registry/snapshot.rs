//! The snapshot: what readers see. A change makes another one that shares with it whatever stayed the same.

use std::sync::Arc;

use super::cow::{CowMap, Postings};
use super::keys::Keys;
use super::sources::Sources;
use super::tenants::Origins;
use crate::filter::Facts;
use crate::model::{
    DeadReason, EventPattern, RESERVED_TYPES, Timestamp, Webhook, WebhookId, WebhookNo, WebhookStatus, Webhooks,
};

/// The tenant that is always there, and the one meant when none is named.
pub const DEFAULT_TENANT: &str = "default";

/// An immutable snapshot: webhooks by number and by id, an index from tenant and type to webhooks, sources,
/// keys by hash.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    slots: Slots,
    ids: CowMap<WebhookId, WebhookNo>,
    tenants: CowMap<Arc<str>, Arc<Tenant>>,
    pub(super) sources: Sources,
    pub(super) keys: Arc<Keys>,
    active: usize,
}

/// A webhook that was removed: its number and id are never used again, and what history holds of it stays its tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Its number.
    pub no: WebhookNo,
    /// Its public id.
    pub id: WebhookId,
    /// The tenant it belonged to.
    pub tenant: Arc<str>,
    /// When it was removed.
    pub removed_at: Timestamp,
}

/// A webhook that is or was.
#[derive(Debug, Clone)]
pub enum Known {
    /// It is there.
    Live(Arc<Webhook>),
    /// It was removed.
    Removed(Arc<Removed>),
}

impl Known {
    /// Its number.
    pub fn no(&self) -> WebhookNo {
        match self {
            Self::Live(webhook) => webhook.no,
            Self::Removed(removed) => removed.no,
        }
    }

    /// Its public id.
    pub fn id(&self) -> WebhookId {
        match self {
            Self::Live(webhook) => webhook.id,
            Self::Removed(removed) => removed.id,
        }
    }

    /// The tenant whose it is or was.
    pub fn tenant(&self) -> &Arc<str> {
        match self {
            Self::Live(webhook) => &webhook.tenant,
            Self::Removed(removed) => &removed.tenant,
        }
    }
}

impl Registry {
    /// The webhooks of the tenant that want this event and are matched in their status, ascending, each once.
    pub fn matching(&self, facts: &Facts<'_>) -> Webhooks {
        let Facts { tenant, event_type, .. } = *facts;
        let mut found = Webhooks::new();
        let Some(tenant) = self.tenants.get(tenant) else { return found };
        let mut lists = 0;
        let mut add = |postings: Option<&Postings>| {
            if let Some(postings) = postings {
                found.extend(postings.iter().map(WebhookNo));
                lists += 1;
            }
        };
        add(tenant.exact.get(event_type));
        for (dot, _) in event_type.match_indices('.') {
            // One or more segments must follow: `order.*` does not want "order.".
            if dot + 1 < event_type.len() {
                add(tenant.prefix.get(&event_type[..=dot]));
            }
        }
        if !event_type.starts_with(RESERVED_TYPES) {
            add(Some(&tenant.all));
        }
        if lists > 1 {
            found.sort_unstable();
            found.dedup();
        }
        found
    }

    /// The webhook with this number, unless it was removed.
    pub fn webhook(&self, no: WebhookNo) -> Option<&Arc<Webhook>> {
        match self.known(no)? {
            Known::Live(webhook) => Some(webhook),
            Known::Removed(_) => None,
        }
    }

    /// The webhook with this public id, unless it was removed.
    pub fn webhook_by_id(&self, id: WebhookId) -> Option<&Arc<Webhook>> {
        self.webhook(*self.ids.get(&id)?)
    }

    /// The webhook with this id of the user's own, unless it was removed.
    pub fn webhook_by_uid(&self, tenant: &str, uid: &str) -> Option<&Arc<Webhook>> {
        self.webhook(*self.tenants.get(tenant)?.uids.get(uid)?)
    }

    /// The webhook with this number, also after its removal.
    pub fn known(&self, no: WebhookNo) -> Option<&Known> {
        self.slots.get(no)
    }

    /// The webhook with this public id, also after its removal.
    pub fn known_by_id(&self, id: WebhookId) -> Option<&Known> {
        self.known(*self.ids.get(&id)?)
    }

    /// Why whatever waits for this webhook must be abandoned, if it must.
    pub fn abandons(&self, no: WebhookNo) -> Option<DeadReason> {
        match self.webhook(no) {
            None => Some(DeadReason::Removed),
            Some(webhook) if webhook.status == WebhookStatus::Failed => Some(DeadReason::Disabled),
            Some(_) => None,
        }
    }

    /// The tenant's name as a shared string, if there is such a tenant (`default` always is).
    pub fn tenant(&self, name: &str) -> Option<Arc<str>> {
        self.tenants
            .get(name)
            .map(|tenant| Arc::clone(&tenant.name))
            .or_else(|| (name == DEFAULT_TENANT).then(|| DEFAULT_TENANT.into()))
    }

    /// Webhooks with numbers below `before`, newest first: of one tenant, or of all.
    pub fn newest<'a>(
        &'a self,
        tenant: Option<&str>,
        before: WebhookNo,
    ) -> Box<dyn Iterator<Item = &'a Arc<Webhook>> + 'a> {
        match tenant {
            None => Box::new((0..before.0.min(self.slots.end())).rev().filter_map(|no| self.webhook(WebhookNo(no)))),
            Some(name) => match self.tenants.get(name) {
                None => Box::new(std::iter::empty()),
                Some(tenant) => {
                    Box::new(tenant.webhooks.descending(before.0).filter_map(|no| self.webhook(WebhookNo(no))))
                }
            },
        }
    }

    /// How many webhooks are active.
    pub fn active(&self) -> usize {
        self.active
    }

    /// The number for the next webhook.
    pub(super) fn next_no(&self) -> WebhookNo {
        WebhookNo(self.slots.end())
    }

    /// The tenant's name, made a tenant if it is new.
    pub(super) fn make_tenant(&mut self, name: &str) -> Arc<str> {
        Arc::clone(&self.tenant_mut(name).name)
    }

    /// Puts a webhook in the place of whatever had its number.
    pub(super) fn put(&mut self, webhook: Arc<Webhook>) {
        if let Some(old) = self.webhook(webhook.no).cloned() {
            self.unlink(&old);
        }
        self.ids.entry(&webhook.id, || (webhook.id, webhook.no));
        self.active += usize::from(webhook.status == WebhookStatus::Active);
        let no = webhook.no;
        let tenant = self.tenant_mut(&webhook.tenant);
        tenant.webhooks.insert(no.0);
        if let Some(uid) = &webhook.uid {
            *tenant.uids.entry(&**uid, || (uid.clone(), no)) = no;
        }
        if webhook.status.is_matched() {
            for pattern in &webhook.events {
                tenant.postings(pattern).insert(no.0);
            }
        }
        self.slots.put(no, Known::Live(webhook));
    }

    /// Leaves a tombstone where a webhook was.
    pub(super) fn bury(&mut self, removed: Arc<Removed>) {
        if let Some(old) = self.webhook(removed.no).cloned() {
            self.unlink(&old);
        }
        self.ids.entry(&removed.id, || (removed.id, removed.no));
        self.slots.put(removed.no, Known::Removed(removed));
    }

    /// Where the settings of a tenant that is there come from.
    pub(super) fn origins(&self, tenant: &str) -> Option<&Origins> {
        self.tenants.get(tenant).map(|tenant| &tenant.origins)
    }

    /// The same with its name.
    pub(super) fn origins_of(&self, tenant: &str) -> Option<(&Arc<str>, &Origins)> {
        self.tenants.get(tenant).map(|tenant| (&tenant.name, &tenant.origins))
    }

    /// The same of all.
    pub(super) fn all_origins(&self) -> impl Iterator<Item = (&Arc<str>, &Origins)> {
        self.tenants.values().into_iter().map(|tenant| (&tenant.name, &tenant.origins))
    }

    /// The same to be changed; the tenant is made if it is new.
    pub(super) fn origins_mut(&mut self, tenant: &str) -> &mut Origins {
        &mut self.tenant_mut(tenant).origins
    }

    fn unlink(&mut self, old: &Webhook) {
        self.active -= usize::from(old.status == WebhookStatus::Active);
        let tenant = self.tenant_mut(&old.tenant);
        tenant.webhooks.remove(old.no.0);
        if let Some(uid) = &old.uid {
            tenant.uids.remove(&**uid);
        }
        if old.status.is_matched() {
            for pattern in &old.events {
                tenant.withdraw(pattern, old.no.0);
            }
        }
    }

    fn tenant_mut(&mut self, name: &str) -> &mut Tenant {
        let make = || {
            let name: Arc<str> = name.into();
            (Arc::clone(&name), Arc::new(Tenant { name, ..Tenant::default() }))
        };
        Arc::make_mut(self.tenants.entry(name, make))
    }
}

/// A tenant's part of the index. A webhook that is not matched in its status is in `webhooks` alone.
#[derive(Debug, Clone, Default)]
struct Tenant {
    name: Arc<str>,
    origins: Origins,
    webhooks: Postings,
    uids: CowMap<Box<str>, WebhookNo>,
    exact: CowMap<Box<str>, Postings>,
    /// By the prefix with its dot.
    prefix: CowMap<Box<str>, Postings>,
    all: Postings,
}

impl Tenant {
    fn postings(&mut self, pattern: &EventPattern) -> &mut Postings {
        match pattern {
            EventPattern::Exact(text) => self.exact.entry(&**text, || (text.clone(), Postings::default())),
            EventPattern::Prefix(text) => self.prefix.entry(&**text, || (text.clone(), Postings::default())),
            EventPattern::All => &mut self.all,
        }
    }

    fn withdraw(&mut self, pattern: &EventPattern, no: u32) {
        let postings = self.postings(pattern);
        postings.remove(no);
        if postings.is_empty() {
            match pattern {
                EventPattern::Exact(text) => drop(self.exact.remove(&**text)),
                EventPattern::Prefix(text) => drop(self.prefix.remove(&**text)),
                EventPattern::All => {}
            }
        }
    }
}

/// Webhooks by number, in chunks.
#[derive(Debug, Clone, Default)]
struct Slots {
    chunks: Vec<Arc<Vec<Option<Known>>>>,
}

const SLOTS_PER_CHUNK: usize = 256;

impl Slots {
    fn get(&self, no: WebhookNo) -> Option<&Known> {
        let no = no.0 as usize;
        self.chunks.get(no / SLOTS_PER_CHUNK)?.get(no % SLOTS_PER_CHUNK)?.as_ref()
    }

    fn put(&mut self, no: WebhookNo, known: Known) {
        let no = no.0 as usize;
        if self.chunks.len() <= no / SLOTS_PER_CHUNK {
            self.chunks.resize_with(no / SLOTS_PER_CHUNK + 1, Arc::default);
        }
        let chunk = Arc::make_mut(&mut self.chunks[no / SLOTS_PER_CHUNK]);
        if chunk.len() <= no % SLOTS_PER_CHUNK {
            chunk.resize(no % SLOTS_PER_CHUNK + 1, None);
        }
        chunk[no % SLOTS_PER_CHUNK] = Some(known);
    }

    /// One past the last number ever used.
    fn end(&self) -> u32 {
        self.chunks.last().map_or(0, |last| ((self.chunks.len() - 1) * SLOTS_PER_CHUNK + last.len()) as u32)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::registry::tests::webhook;

    const TENANTS: [&str; 2] = ["default", "acme"];
    const TYPES: [&str; 9] =
        ["a", "a.b", "a.b.c", "a.", "ab", "order.created", "hooktide.webhook.disabled", "hooktide.x", "hooktide"];
    const PATTERNS: [&str; 9] =
        ["*", "a.*", "a.b.*", "a", "a.b", "order.created", "hooktide.*", "hooktide.webhook.*", "hooktide.x"];
    const STATUSES: [WebhookStatus; 4] =
        [WebhookStatus::Active, WebhookStatus::Paused, WebhookStatus::Inactive, WebhookStatus::Failed];

    fn facts<'a>(tenant: &'a str, event_type: &'a str) -> Facts<'a> {
        Facts { tenant, event_type, data: b"{}", ..Facts::default() }
    }

    /// The rule of API section 4, said without an index.
    fn wants(pattern: &str, event_type: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some("") => !event_type.starts_with("hooktide."),
            Some(prefix) => event_type.len() > prefix.len() && event_type.starts_with(prefix),
            None => event_type == pattern,
        }
    }

    #[derive(Debug, Clone)]
    enum Operation {
        Put { no: u32, tenant: usize, patterns: Vec<usize>, status: usize },
        Remove { no: u32 },
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let put = (0u32..600, 0usize..2, proptest::collection::vec(0..PATTERNS.len(), 0..4), 0usize..4)
            .prop_map(|(no, tenant, patterns, status)| Operation::Put { no, tenant, patterns, status });
        prop_oneof![4 => put, 1 => (0u32..600).prop_map(|no| Operation::Remove { no })]
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_search_of_all_webhooks_finds(
            operations in proptest::collection::vec(operation(), 1..200),
        ) {
            let mut registry = Registry::default();
            let mut model: Vec<Option<Arc<Webhook>>> = vec![None; 600];
            for operation in operations {
                match operation {
                    Operation::Put { no, tenant, patterns, status } => {
                        // A webhook keeps its tenant.
                        let tenant = model[no as usize].as_ref().map_or(TENANTS[tenant], |old| {
                            TENANTS[usize::from(&*old.tenant == TENANTS[1])]
                        });
                        let patterns: Vec<_> = patterns.iter().map(|n| PATTERNS[*n]).collect();
                        let new = Arc::new(webhook(no, tenant, &patterns, STATUSES[status]));
                        model[no as usize] = Some(Arc::clone(&new));
                        registry.put(new);
                    }
                    Operation::Remove { no } => {
                        if let Some(old) = model[no as usize].take() {
                            registry.bury(Arc::new(Removed {
                                no: old.no,
                                id: old.id,
                                tenant: Arc::clone(&old.tenant),
                                removed_at: Timestamp::default(),
                            }));
                        }
                    }
                }
            }
            let live = || model.iter().flatten();
            prop_assert_eq!(registry.active(), live().filter(|w| w.status == WebhookStatus::Active).count());
            for tenant in TENANTS {
                for event_type in TYPES {
                    let expected: Vec<_> = live()
                        .filter(|w| &*w.tenant == tenant && w.status.is_matched())
                        .filter(|w| w.events.iter().any(|p| wants(&p.to_string(), event_type)))
                        .map(|w| w.no)
                        .collect();
                    prop_assert_eq!(registry.matching(&facts(tenant, event_type)).to_vec(), expected, "{}", event_type);
                }
                let newest: Vec<_> = registry.newest(Some(tenant), WebhookNo(u32::MAX)).map(|w| w.no).collect();
                let expected: Vec<_> = live().filter(|w| &*w.tenant == tenant).map(|w| w.no).rev().collect();
                prop_assert_eq!(newest, expected);
            }
        }
    }

    #[test]
    fn a_snapshot_does_not_change_under_its_reader() {
        let mut registry = Registry::default();
        registry.put(Arc::new(webhook(0, "default", &["a"], WebhookStatus::Active)));
        let before = registry.clone();
        registry.put(Arc::new(webhook(0, "default", &["b"], WebhookStatus::Active)));
        registry.put(Arc::new(webhook(1, "default", &["a"], WebhookStatus::Active)));
        assert_eq!(before.matching(&facts("default", "a")).to_vec(), [WebhookNo(0)]);
        assert!(before.webhook(WebhookNo(1)).is_none());
        assert_eq!(registry.matching(&facts("default", "a")).to_vec(), [WebhookNo(1)]);
        assert_eq!(registry.matching(&facts("default", "b")).to_vec(), [WebhookNo(0)]);
    }

    #[test]
    fn a_removed_webhook_keeps_its_number_and_its_tenant() {
        let mut registry = Registry::default();
        let old = Arc::new(webhook(0, "acme", &["a"], WebhookStatus::Active));
        registry.put(Arc::clone(&old));
        registry.bury(Arc::new(Removed {
            no: old.no,
            id: old.id,
            tenant: Arc::clone(&old.tenant),
            removed_at: Timestamp::default(),
        }));
        assert!(registry.webhook_by_id(old.id).is_none() && registry.webhook(old.no).is_none());
        assert_eq!(registry.known_by_id(old.id).map(|known| known.tenant().to_string()).as_deref(), Some("acme"));
        assert_eq!(registry.abandons(old.no), Some(DeadReason::Removed));
        assert_eq!(registry.next_no(), WebhookNo(1));
        assert!(registry.matching(&facts("acme", "a")).is_empty());
    }
}
