//! The snapshot that readers see. A change makes another snapshot, which shares the unchanged parts with the previous
//! one.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cow::{CowMap, Postings};
use super::evaluation::{EventWork, evaluate};
use super::event_types::EventTypes;
use super::keys::ApiKeys;
use super::memory::DefinitionMemory;
use super::sources::Sources;
use super::tenants::TenantLayers;
use crate::filter::{EventFields, FilterInput};
use crate::model::{
    DEFAULT_TENANT, DeadReason, EventPattern, MatchedWebhooks, RESERVED_TYPE_PREFIX, Timestamp, WebhookId, WebhookNo,
    WebhookStatus, Webhooks,
};
use crate::outbound::Webhook;
use crate::outbound::profile::Profiles;
use crate::runtime::WorkBudget;
use crate::storage::registry::RemovedWebhook as Removed;

/// An immutable snapshot: webhooks by number and by id, an index from tenant and event type to webhooks, sources, event
/// types, profiles, and API keys by hash.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    slots: WebhookSlots,
    ids: CowMap<WebhookId, WebhookNo>,
    tenants: CowMap<Arc<str>, Arc<TenantIndex>>,
    pub(super) sources: Sources,
    pub(super) profiles: Profiles,
    pub(super) event_types: EventTypes,
    pub(super) keys: Arc<ApiKeys>,
    active: usize,
    pub(super) memory: DefinitionMemory,
    /// The work of tenants that are not in `tenants`.
    other_work: Arc<WorkBudget>,
}

/// A webhook that exists, or the tombstone of a removed one.
#[derive(Debug, Clone)]
pub enum WebhookEntry {
    /// The webhook exists.
    Live(Arc<Webhook>),
    /// The webhook was removed.
    Removed(Arc<Removed>),
}

impl WebhookEntry {
    /// The webhook's number.
    pub fn no(&self) -> WebhookNo {
        match self {
            Self::Live(webhook) => webhook.no,
            Self::Removed(removed) => removed.no,
        }
    }

    /// The webhook's public id.
    pub fn id(&self) -> WebhookId {
        match self {
            Self::Live(webhook) => webhook.id,
            Self::Removed(removed) => removed.id,
        }
    }

    /// The tenant that owns or owned the webhook.
    pub fn tenant(&self) -> &Arc<str> {
        match self {
            Self::Live(webhook) => &webhook.tenant,
            Self::Removed(removed) => &removed.tenant,
        }
    }
}

impl Registry {
    /// The webhooks of the tenant that receive this event: they subscribe to it, and their status allows matching. The
    /// numbers are ascending and unique.
    ///
    /// The index finds webhooks by event type. Only webhooks with conditions are examined further, and the payload is
    /// parsed once for all of them. Their work is bounded for each event, and charged to the tenant at the time `now` of
    /// the wall clock.
    pub fn matching(&self, event_fields: &EventFields<'_>, now: Timestamp) -> MatchedWebhooks {
        let EventFields { tenant, event_type, .. } = *event_fields;
        let mut found = SmallVec::<[Posting; 8]>::new();
        let Some(tenant) = self.tenants.get(tenant) else { return MatchedWebhooks::default() };
        let mut lists = 0;
        let mut add = |postings: Option<&Postings>| {
            if let Some(postings) = postings {
                found.extend(postings.iter().map(Posting));
                lists += 1;
            }
        };
        add(tenant.exact.get(event_type));
        for (dot, _) in event_type.match_indices('.') {
            // One or more segments must follow: `order.*` does not match "order.".
            if dot + 1 < event_type.len() {
                add(tenant.prefix.get(&event_type[..=dot]));
            }
        }
        if !event_type.starts_with(RESERVED_TYPE_PREFIX) {
            add(Some(&tenant.all));
        }
        if lists > 1 {
            found.sort_unstable();
            found.dedup();
        }
        if !found.iter().any(|posting| posting.is_conditional()) {
            return found.into_iter().map(Posting::no).collect::<Webhooks>().into();
        }
        let found = found.iter().map(|posting| (posting.no(), posting.is_conditional()));
        let conditions = |no, input: &mut FilterInput<'_>| {
            self.webhook(no).map_or(Ok(false), |webhook| webhook.matches_input(input))
        };
        evaluate(found, conditions, event_fields, EventWork::new(&tenant.work, now))
    }

    /// The work that a tenant may cause in each second. Tenants without webhooks and keys share one budget.
    pub fn tenant_work(&self, tenant: &str) -> &Arc<WorkBudget> {
        self.tenants.get(tenant).map_or(&self.other_work, |tenant| &tenant.work)
    }

    /// Whether any webhook of the tenant has a pattern that matches this event type. Filters are not evaluated.
    pub fn has_subscribers(&self, tenant: &str, event_type: &str) -> bool {
        let Some(tenant) = self.tenants.get(tenant) else { return false };
        let by_prefix = |dot: usize| dot + 1 < event_type.len() && tenant.prefix.get(&event_type[..=dot]).is_some();
        tenant.exact.get(event_type).is_some()
            || event_type.match_indices('.').any(|(dot, _)| by_prefix(dot))
            || (!event_type.starts_with(RESERVED_TYPE_PREFIX) && !tenant.all.is_empty())
    }

    /// The webhooks with the status failed.
    pub fn failed(&self) -> impl Iterator<Item = WebhookNo> {
        let all = (0..self.slots.end()).filter_map(|no| self.webhook(WebhookNo(no)));
        all.filter(|webhook| webhook.status == WebhookStatus::Failed).map(|webhook| webhook.no)
    }

    /// The webhook with this number, unless it was removed.
    pub fn webhook(&self, no: WebhookNo) -> Option<&Arc<Webhook>> {
        match self.webhook_entry(no)? {
            WebhookEntry::Live(webhook) => Some(webhook),
            WebhookEntry::Removed(_) => None,
        }
    }

    /// The webhook with this user-defined uid, unless it was removed.
    pub fn webhook_by_uid(&self, tenant: &str, uid: &str) -> Option<&Arc<Webhook>> {
        self.webhook(*self.tenants.get(tenant)?.uids.get(uid)?)
    }

    /// The webhook with this number, also if it was removed.
    pub fn webhook_entry(&self, no: WebhookNo) -> Option<&WebhookEntry> {
        self.slots.get(no)
    }

    /// The webhook with this public id, also if it was removed.
    pub fn webhook_entry_by_id(&self, id: WebhookId) -> Option<&WebhookEntry> {
        self.webhook_entry(*self.ids.get(&id)?)
    }

    /// All webhooks, existing and removed, in the order of their numbers.
    pub fn webhook_entries(&self) -> impl Iterator<Item = &WebhookEntry> {
        (0..self.slots.end()).filter_map(|no| self.webhook_entry(WebhookNo(no)))
    }

    /// Why the waiting deliveries of this webhook must be abandoned; `None`: they stay.
    pub fn abandon_reason(&self, no: WebhookNo) -> Option<DeadReason> {
        match self.webhook(no) {
            None => Some(DeadReason::Removed),
            Some(webhook) if webhook.status == WebhookStatus::Failed => Some(DeadReason::Disabled),
            Some(_) => None,
        }
    }

    /// The tenant's name as a shared string, if the tenant exists. `default` always exists.
    pub fn tenant(&self, name: &str) -> Option<Arc<str>> {
        self.tenants
            .get(name)
            .map(|tenant| Arc::clone(&tenant.name))
            .or_else(|| (name == DEFAULT_TENANT).then(|| DEFAULT_TENANT.into()))
    }

    /// Webhooks with numbers below `before`, newest first, of one tenant or of all tenants.
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

    /// The profiles that webhooks can name.
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

    /// The tenant's name as a shared string. Creates the tenant if it does not exist.
    pub(super) fn ensure_tenant(&mut self, name: &str) -> Arc<str> {
        Arc::clone(&self.tenant_mut(name).name)
    }

    /// Adds a webhook, or replaces the webhook or tombstone that has its number.
    pub(super) fn put(&mut self, webhook: Arc<Webhook>) {
        if let Some(old) = self.webhook(webhook.no).cloned() {
            self.unlink(&old);
        }
        self.ids.entry(&webhook.id, || (webhook.id, webhook.no));
        self.active += usize::from(webhook.status == WebhookStatus::Active);
        self.memory.replace(&webhook.tenant, 0, webhook.memory_bytes());
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
        self.slots.put(no, WebhookEntry::Live(webhook));
    }

    /// Replaces a webhook by its tombstone.
    pub(super) fn put_removed(&mut self, removed: Arc<Removed>) {
        if let Some(old) = self.webhook(removed.no).cloned() {
            self.unlink(&old);
        }
        self.ids.entry(&removed.id, || (removed.id, removed.no));
        self.slots.put(removed.no, WebhookEntry::Removed(removed));
    }

    /// The settings layers of a tenant, if the tenant exists.
    pub(super) fn tenant_layers(&self, tenant: &str) -> Option<&TenantLayers> {
        self.tenants.get(tenant).map(|tenant| &tenant.tenant_layers)
    }

    /// The settings layers of a tenant with its name, if the tenant exists.
    pub(super) fn named_tenant_layers(&self, tenant: &str) -> Option<(&Arc<str>, &TenantLayers)> {
        self.tenants.get(tenant).map(|tenant| (&tenant.name, &tenant.tenant_layers))
    }

    /// The settings layers of all tenants, with their names.
    pub(super) fn all_tenant_layers(&self) -> impl Iterator<Item = (&Arc<str>, &TenantLayers)> {
        self.tenants.values().into_iter().map(|tenant| (&tenant.name, &tenant.tenant_layers))
    }

    /// The settings layers of a tenant, to change them. Creates the tenant if it does not exist.
    pub(super) fn tenant_layers_mut(&mut self, tenant: &str) -> &mut TenantLayers {
        &mut self.tenant_mut(tenant).tenant_layers
    }

    fn unlink(&mut self, old: &Webhook) {
        self.active -= usize::from(old.status == WebhookStatus::Active);
        self.memory.replace(&old.tenant, old.memory_bytes(), 0);
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

    fn tenant_mut(&mut self, name: &str) -> &mut TenantIndex {
        let make = || {
            let name: Arc<str> = name.into();
            (Arc::clone(&name), Arc::new(TenantIndex { name, ..TenantIndex::default() }))
        };
        Arc::make_mut(self.tenants.entry(name, make))
    }
}

/// An entry of the index by type: the webhook's number, and in the lowest bit whether the webhook has further
/// conditions. So a match of webhooks without conditions reads no webhook. Numbers are given one by one and stay below
/// 2^31.
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

/// The patterns by which the index finds a webhook. The index keeps a duplicate pattern once.
fn patterns(webhook: &Webhook) -> impl Iterator<Item = &EventPattern> {
    let subscriptions = webhook.subscriptions.iter().filter(|subscription| subscription.is_active);
    webhook.events.iter().chain(subscriptions.map(|subscription| &subscription.event_type))
}

/// The index of one tenant. A webhook whose status does not allow matching is only in `webhooks`.
#[derive(Debug, Clone, Default)]
struct TenantIndex {
    name: Arc<str>,
    tenant_layers: TenantLayers,
    webhooks: Postings,
    /// All snapshots share the budget.
    work: Arc<WorkBudget>,
    uids: CowMap<Box<str>, WebhookNo>,
    exact: CowMap<Box<str>, Postings>,
    /// The key is the prefix with its trailing dot.
    prefix: CowMap<Box<str>, Postings>,
    all: Postings,
}

impl TenantIndex {
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
struct WebhookSlots {
    chunks: Vec<Arc<Vec<Option<WebhookEntry>>>>,
}

const SLOTS_PER_CHUNK: usize = 256;

impl WebhookSlots {
    fn get(&self, no: WebhookNo) -> Option<&WebhookEntry> {
        let no = no.0 as usize;
        self.chunks.get(no / SLOTS_PER_CHUNK)?.get(no % SLOTS_PER_CHUNK)?.as_ref()
    }

    fn put(&mut self, no: WebhookNo, known: WebhookEntry) {
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

    /// The number after the last one that was used.
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

    fn event_fields<'a>(tenant: &'a str, event_type: &'a str) -> EventFields<'a> {
        EventFields { tenant, event_type, data: b"{}", ..EventFields::default() }
    }

    /// A filter that requires this value of `n`; none for 0.
    fn filter(n: u8) -> Option<Arc<Filter>> {
        (n > 0).then(|| Arc::new(Filter::compile(&json!({"fields": {"n": n}})).unwrap()))
    }

    /// The conditions of a webhook in addition to its patterns.
    #[derive(Debug, Clone)]
    struct Conditions {
        filter: u8,
        workspace: usize,
        /// Pattern, filter, and whether the subscription is active.
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

        /// API section 4, written without filters and index.
        fn want(&self, patterns: &[EventPattern], event_fields: &EventFields<'_>) -> bool {
            let passes = |n: u8| n == 0 || event_fields.data == DATA[usize::from(n) - 1].as_bytes();
            let by_events = patterns.iter().any(|p| wants(&p.to_string(), event_fields.event_type));
            let mut subscriptions = self.subscriptions.iter();
            let subscribed = |(pattern, filter, is_active): &(usize, u8, bool)| {
                *is_active && wants(PATTERNS[*pattern], event_fields.event_type) && passes(*filter)
            };
            (by_events || subscriptions.any(subscribed))
                && passes(self.filter)
                && WORKSPACES[self.workspace].is_none_or(|own| event_fields.workspace_id == Some(own))
        }
    }

    /// Half of the webhooks have no conditions.
    fn conditions() -> impl Strategy<Value = Conditions> {
        let subscription = (0..PATTERNS.len(), 0_u8..3, any::<bool>());
        let some = (0_u8..3, 0_usize..3, proptest::collection::vec(subscription, 0..3))
            .prop_map(|(filter, workspace, subscriptions)| Conditions { filter, workspace, subscriptions });
        prop_oneof![Just(Conditions { filter: 0, workspace: 0, subscriptions: Vec::new() }), some]
    }

    /// The rule of API section 4, written without an index.
    fn wants(pattern: &str, event_type: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some("") => !event_type.starts_with("hooktide."),
            Some(prefix) => event_type.len() > prefix.len() && event_type.starts_with(prefix),
            None => event_type == pattern,
        }
    }

    #[derive(Debug, Clone)]
    enum RegistryOperation {
        Put { no: u32, tenant: usize, patterns: Vec<usize>, status: usize, conditions: Conditions },
        Remove { no: u32 },
    }

    fn operation() -> impl Strategy<Value = RegistryOperation> {
        let patterns = proptest::collection::vec(0..PATTERNS.len(), 0..4);
        let put = (0u32..600, 0usize..2, patterns, 0usize..4, conditions()).prop_map(
            |(no, tenant, patterns, status, conditions)| RegistryOperation::Put {
                no,
                tenant,
                patterns,
                status,
                conditions,
            },
        );
        prop_oneof![4 => put, 1 => (0u32..600).prop_map(|no| RegistryOperation::Remove { no })]
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
                    RegistryOperation::Put { no, tenant, patterns, status, conditions } => {
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
                    RegistryOperation::Remove { no } => {
                        if let Some((old, _)) = model[no as usize].take() {
                            registry.put_removed(Arc::new(Removed {
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
                let bytes: usize = live().map(|(w, _)| w).filter(|w| &*w.tenant == tenant).map(|w| w.memory_bytes()).sum();
                prop_assert_eq!(registry.memory.of_tenant(tenant), bytes);
            }
            for tenant in TENANTS {
                for (n, event_type) in TYPES.into_iter().enumerate() {
                    for (m, data) in DATA.into_iter().enumerate() {
                        let data = data.as_bytes();
                        let event_fields = EventFields { data, workspace_id: WORKSPACES[(n + m) % 3], ..event_fields(tenant, event_type) };
                        let expected: Vec<_> = live()
                            .filter(|(w, _)| &*w.tenant == tenant && w.status.is_matched())
                            .filter(|(w, conditions)| conditions.want(&w.events, &event_fields))
                            .map(|(w, _)| w.no)
                            .collect();
                        prop_assert_eq!(registry.matching(&event_fields, Timestamp::default()).receivers.to_vec(), expected, "{:?}", event_fields);
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
        assert_eq!(
            before.matching(&event_fields("default", "a"), Timestamp::default()).receivers.to_vec(),
            [WebhookNo(0)]
        );
        assert!(before.webhook(WebhookNo(1)).is_none());
        assert_eq!(
            registry.matching(&event_fields("default", "a"), Timestamp::default()).receivers.to_vec(),
            [WebhookNo(1)]
        );
        assert_eq!(
            registry.matching(&event_fields("default", "b"), Timestamp::default()).receivers.to_vec(),
            [WebhookNo(0)]
        );
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
        registry.put_removed(Arc::new(Removed {
            no: old.no,
            id: old.id,
            tenant: Arc::clone(&old.tenant),
            removed_at: Timestamp::default(),
        }));
        assert!(registry.webhook_by_id(old.id).is_none() && registry.webhook(old.no).is_none());
        assert_eq!(
            registry.webhook_entry_by_id(old.id).map(|known| known.tenant().to_string()).as_deref(),
            Some("acme")
        );
        assert_eq!(registry.abandon_reason(old.no), Some(DeadReason::Removed));
        assert_eq!(registry.next_no(), WebhookNo(1));
        assert!(registry.matching(&event_fields("acme", "a"), Timestamp::default()).is_empty());
    }
}
