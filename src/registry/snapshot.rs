//! The snapshot: what readers see. A change makes another one that shares with it whatever stayed the same.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cow::{CowMap, Postings};
use super::event_types::EventTypes;
use super::keys::Keys;
use super::sources::Sources;
use super::tenants::Origins;
use crate::filter::{Facts, Subject};
use crate::model::{
    DEFAULT_TENANT, DeadReason, EventPattern, RESERVED_TYPES, WebhookId, WebhookNo, WebhookStatus, Webhooks,
};
use crate::outbound::Webhook;
use crate::outbound::profile::Profiles;
use crate::storage::registry::RemovedWebhook as Removed;

/// An immutable snapshot: webhooks by number and by id, an index from tenant and type to webhooks, sources,
/// keys by hash.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    slots: Slots,
    ids: CowMap<WebhookId, WebhookNo>,
    tenants: CowMap<Arc<str>, Arc<Tenant>>,
    pub(super) sources: Sources,
    pub(super) profiles: Profiles,
    pub(super) event_types: EventTypes,
    pub(super) keys: Arc<Keys>,
    active: usize,
}

/// A webhook that is or was.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// It is there.
    Live(Arc<Webhook>),
    /// It was removed.
    Removed(Arc<Removed>),
}

impl Lookup {
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
    ///
    /// Found by type first; only those with conditions are looked at, and the payload is read once for all of these.
    pub fn matching(&self, facts: &Facts<'_>) -> Webhooks {
        let Facts { tenant, event_type, .. } = *facts;
        let mut found = SmallVec::<[Posting; 8]>::new();
        let Some(tenant) = self.tenants.get(tenant) else { return Webhooks::new() };
        let mut lists = 0;
        let mut add = |postings: Option<&Postings>| {
            if let Some(postings) = postings {
                found.extend(postings.iter().map(Posting));
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
        let mut subject = None;
        let mut wants = |posting: &Posting| {
            !posting.is_conditional()
                || self
                    .webhook(posting.no())
                    .is_some_and(|webhook| webhook.wants_also(subject.get_or_insert_with(|| Subject::new(facts))))
        };
        found.into_iter().filter(|posting| wants(posting)).map(Posting::no).collect()
    }

    /// Whether any webhook of the tenant has a pattern for this type; filters are not asked.
    pub fn listens(&self, tenant: &str, event_type: &str) -> bool {
        let Some(tenant) = self.tenants.get(tenant) else { return false };
        let by_prefix = |dot: usize| dot + 1 < event_type.len() && tenant.prefix.get(&event_type[..=dot]).is_some();
        tenant.exact.get(event_type).is_some()
            || event_type.match_indices('.').any(|(dot, _)| by_prefix(dot))
            || (!event_type.starts_with(RESERVED_TYPES) && !tenant.all.is_empty())
    }

    /// The webhooks whose status is failed.
    pub fn failed(&self) -> impl Iterator<Item = WebhookNo> {
        let all = (0..self.slots.end()).filter_map(|no| self.webhook(WebhookNo(no)));
        all.filter(|webhook| webhook.status == WebhookStatus::Failed).map(|webhook| webhook.no)
    }

    /// The webhook with this number, unless it was removed.
    pub fn webhook(&self, no: WebhookNo) -> Option<&Arc<Webhook>> {
        match self.known(no)? {
            Lookup::Live(webhook) => Some(webhook),
            Lookup::Removed(_) => None,
        }
    }

    /// The webhook with this id of the user's own, unless it was removed.
    pub fn webhook_by_uid(&self, tenant: &str, uid: &str) -> Option<&Arc<Webhook>> {
        self.webhook(*self.tenants.get(tenant)?.uids.get(uid)?)
    }

    /// The webhook with this number, also after its removal.
    pub fn known(&self, no: WebhookNo) -> Option<&Lookup> {
        self.slots.get(no)
    }

    /// The webhook with this public id, also after its removal.
    pub fn known_by_id(&self, id: WebhookId) -> Option<&Lookup> {
        self.known(*self.ids.get(&id)?)
    }

    /// All webhooks, there and removed, in order of their numbers.
    pub fn all(&self) -> impl Iterator<Item = &Lookup> {
        (0..self.slots.end()).filter_map(|no| self.known(WebhookNo(no)))
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

    /// The forms that deliveries can have.
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
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
            for pattern in patterns(&webhook) {
                tenant.postings(pattern).insert(Posting::of(&webhook).0);
            }
        }
        self.slots.put(no, Lookup::Live(webhook));
    }

    /// Leaves a tombstone where a webhook was.
    pub(super) fn bury(&mut self, removed: Arc<Removed>) {
        if let Some(old) = self.webhook(removed.no).cloned() {
            self.unlink(&old);
        }
        self.ids.entry(&removed.id, || (removed.id, removed.no));
        self.slots.put(removed.no, Lookup::Removed(removed));
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
        if let Some(uid) = old.uid.as_deref().filter(|uid| tenant.uids.get(*uid) == Some(&old.no)) {
            tenant.uids.remove(uid);
        }
        if old.status.is_matched() {
            for pattern in patterns(old) {
                tenant.withdraw(pattern, Posting::of(old));
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

/// A webhook in the index by type: its number, and in the lowest bit whether the type is not all that it asks for, so that a
/// match of those that have no conditions looks at no webhook. Numbers are given one by one and stay below 2^31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Posting(u32);

impl Posting {
    fn of(webhook: &Webhook) -> Self {
        Self(webhook.no.0 << 1 | u32::from(!webhook.is_unconditional()))
    }

    fn no(self) -> WebhookNo {
        WebhookNo(self.0 >> 1)
    }

    fn is_conditional(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Under which a webhook is found by type; one that is there twice is one in the index.
fn patterns(webhook: &Webhook) -> impl Iterator<Item = &EventPattern> {
    let subscriptions = webhook.subscriptions.iter().filter(|subscription| subscription.is_active);
    webhook.events.iter().chain(subscriptions.map(|subscription| &subscription.event_type))
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

    fn withdraw(&mut self, pattern: &EventPattern, posting: Posting) {
        let postings = self.postings(pattern);
        postings.remove(posting.0);
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
    chunks: Vec<Arc<Vec<Option<Lookup>>>>,
}

const SLOTS_PER_CHUNK: usize = 256;

impl Slots {
    fn get(&self, no: WebhookNo) -> Option<&Lookup> {
        let no = no.0 as usize;
        self.chunks.get(no / SLOTS_PER_CHUNK)?.get(no % SLOTS_PER_CHUNK)?.as_ref()
    }

    fn put(&mut self, no: WebhookNo, known: Lookup) {
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
impl Registry {
    /// The webhook with this public id, unless it was removed.
    pub(crate) fn webhook_by_id(&self, id: WebhookId) -> Option<&Arc<Webhook>> {
        self.webhook(*self.ids.get(&id)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::filter::Filter;
    use crate::model::{SubscriptionId, Timestamp};
    use crate::outbound::{Subscription, WebhookSettings};
    use crate::registry::tests::webhook;

    const TENANTS: [&str; 2] = ["default", "acme"];
    const TYPES: [&str; 9] =
        ["a", "a.b", "a.b.c", "a.", "ab", "order.created", "hooktide.webhook.disabled", "hooktide.x", "hooktide"];
    const PATTERNS: [&str; 9] =
        ["*", "a.*", "a.b.*", "a", "a.b", "order.created", "hooktide.*", "hooktide.webhook.*", "hooktide.x"];
    const STATUSES: [WebhookStatus; 4] =
        [WebhookStatus::Active, WebhookStatus::Paused, WebhookStatus::Inactive, WebhookStatus::Failed];

    const DATA: [&str; 3] = [r#"{"n":1}"#, r#"{"n":2}"#, "null"];
    const WORKSPACES: [Option<&str>; 3] = [None, Some("w1"), Some("w2")];

    fn facts<'a>(tenant: &'a str, event_type: &'a str) -> Facts<'a> {
        Facts { tenant, event_type, data: b"{}", ..Facts::default() }
    }

    /// A filter that wants `n` to be this; 0 is none.
    fn filter(n: u8) -> Option<Arc<Filter>> {
        (n > 0).then(|| Arc::new(Filter::compile(&json!({"fields": {"n": n}})).unwrap()))
    }

    /// What a webhook asks for beside its patterns.
    #[derive(Debug, Clone)]
    struct Conditions {
        filter: u8,
        workspace: usize,
        /// Pattern, filter, whether it is active.
        subscriptions: Vec<(usize, u8, bool)>,
    }

    impl Conditions {
        fn set(&self, settings: &mut WebhookSettings) {
            settings.filters = filter(self.filter);
            settings.workspace_id = WORKSPACES[self.workspace].map(Box::from);
            let subscription = |(n, (pattern, filters, is_active)): (usize, &(usize, u8, bool))| Subscription {
                id: SubscriptionId::from_u128(n as u128),
                event_type: EventPattern::try_new(PATTERNS[*pattern]).unwrap(),
                resource_id: None,
                is_active: *is_active,
                filters: filter(*filters),
                created_at: Timestamp::default(),
                updated_at: Timestamp::default(),
            };
            settings.subscriptions = self.subscriptions.iter().enumerate().map(subscription).collect();
        }

        /// API section 4, said without filters or an index.
        fn want(&self, patterns: &[EventPattern], facts: &Facts<'_>) -> bool {
            let passes = |n: u8| n == 0 || facts.data == DATA[usize::from(n) - 1].as_bytes();
            let by_events = patterns.iter().any(|p| wants(&p.to_string(), facts.event_type));
            let mut subscriptions = self.subscriptions.iter();
            let subscribed = |(pattern, filter, is_active): &(usize, u8, bool)| {
                *is_active && wants(PATTERNS[*pattern], facts.event_type) && passes(*filter)
            };
            (by_events || subscriptions.any(subscribed))
                && passes(self.filter)
                && WORKSPACES[self.workspace].is_none_or(|own| facts.workspace_id == Some(own))
        }
    }

    /// Half of the webhooks ask for nothing beside their types.
    fn conditions() -> impl Strategy<Value = Conditions> {
        let subscription = (0..PATTERNS.len(), 0_u8..3, any::<bool>());
        let some = (0_u8..3, 0_usize..3, proptest::collection::vec(subscription, 0..3))
            .prop_map(|(filter, workspace, subscriptions)| Conditions { filter, workspace, subscriptions });
        prop_oneof![Just(Conditions { filter: 0, workspace: 0, subscriptions: Vec::new() }), some]
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
        Put { no: u32, tenant: usize, patterns: Vec<usize>, status: usize, conditions: Conditions },
        Remove { no: u32 },
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let patterns = proptest::collection::vec(0..PATTERNS.len(), 0..4);
        let put = (0u32..600, 0usize..2, patterns, 0usize..4, conditions()).prop_map(
            |(no, tenant, patterns, status, conditions)| Operation::Put { no, tenant, patterns, status, conditions },
        );
        prop_oneof![4 => put, 1 => (0u32..600).prop_map(|no| Operation::Remove { no })]
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_search_of_all_webhooks_finds(
            operations in proptest::collection::vec(operation(), 1..200),
        ) {
            let mut registry = Registry::default();
            let mut model: Vec<Option<(Arc<Webhook>, Conditions)>> = vec![None; 600];
            for operation in operations {
                match operation {
                    Operation::Put { no, tenant, patterns, status, conditions } => {
                        // A webhook keeps its tenant.
                        let tenant = model[no as usize].as_ref().map_or(TENANTS[tenant], |(old, _)| {
                            TENANTS[usize::from(&*old.tenant == TENANTS[1])]
                        });
                        let patterns: Vec<_> = patterns.iter().map(|n| PATTERNS[*n]).collect();
                        let mut new = webhook(no, tenant, &patterns, STATUSES[status]);
                        conditions.set(&mut new.settings);
                        let new = Arc::new(new);
                        model[no as usize] = Some((Arc::clone(&new), conditions));
                        registry.put(new);
                    }
                    Operation::Remove { no } => {
                        if let Some((old, _)) = model[no as usize].take() {
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
            prop_assert_eq!(registry.active(), live().filter(|(w, _)| w.status == WebhookStatus::Active).count());
            for tenant in TENANTS {
                for (n, event_type) in TYPES.into_iter().enumerate() {
                    for (m, data) in DATA.into_iter().enumerate() {
                        let data = data.as_bytes();
                        let facts = Facts { data, workspace_id: WORKSPACES[(n + m) % 3], ..facts(tenant, event_type) };
                        let expected: Vec<_> = live()
                            .filter(|(w, _)| &*w.tenant == tenant && w.status.is_matched())
                            .filter(|(w, conditions)| conditions.want(&w.events, &facts))
                            .map(|(w, _)| w.no)
                            .collect();
                        prop_assert_eq!(registry.matching(&facts).to_vec(), expected, "{:?}", facts);
                    }
                }
                let newest: Vec<_> = registry.newest(Some(tenant), WebhookNo(u32::MAX)).map(|w| w.no).collect();
                let expected: Vec<_> = live().map(|(w, _)| w).filter(|w| &*w.tenant == tenant).map(|w| w.no).rev().collect();
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
    fn a_changed_webhook_leaves_nothing_behind_in_the_index() {
        let mut registry = Registry::default();
        let subscribed = Conditions { filter: 0, workspace: 0, subscriptions: vec![(0, 0, true), (3, 0, true)] };
        for filter in [0, 1, 0] {
            let mut new = webhook(0, "default", &["a", "a.*", "*"], WebhookStatus::Active);
            Conditions { filter, ..subscribed.clone() }.set(&mut new.settings);
            registry.put(Arc::new(new));
        }
        registry.put(Arc::new(webhook(0, "default", &[], WebhookStatus::Active)));
        let tenant = registry.tenants.get("default").unwrap();
        assert!(tenant.all.is_empty() && tenant.exact.len() == 0 && tenant.prefix.len() == 0);
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
