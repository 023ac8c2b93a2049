//! The sources in the snapshot: those of registry.redb, whose unchanged parts are shared with the previous snapshot,
//! and those of the configuration file, which are replaced together.

use std::collections::HashMap;
use std::sync::Arc;

use super::Registry;
use super::cow::CowMap;
use crate::inbound::source::{Source, token_hash};
use crate::model::{Secret, SourceId};

/// Sources by id, by tenant and name, and by the hash of their token. A source of the file hides a source of
/// registry.redb that has its name.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    /// The sources of registry.redb in chunks, in the order of their creation. No source is ever taken out, because a
    /// deleted source can be restored.
    stored: Vec<Arc<Vec<Arc<Source>>>>,
    ids: CowMap<SourceId, usize>,
    /// By tenant, then by name. Deleted sources are not in it.
    names: CowMap<Arc<str>, CowMap<Box<str>, usize>>,
    /// By the hash of the token. Deleted sources are not in it.
    tokens: CowMap<[u8; 32], usize>,
    files: Arc<FileSources>,
    /// Secrets that handshakes brought to sources of the file.
    learned: CowMap<SourceId, Secret>,
}

/// The sources of the configuration file.
#[derive(Debug, Default)]
struct FileSources {
    by_id: HashMap<SourceId, Arc<Source>>,
    by_name: HashMap<Arc<str>, HashMap<Box<str>, Arc<Source>>>,
    by_token: HashMap<[u8; 32], Arc<Source>>,
    /// In the order of the file.
    all: Vec<Arc<Source>>,
}

/// Sources in a chunk, which is copied when one of them changes: 1 KiB of pointers.
const CHUNK: usize = if cfg!(test) { 8 } else { 128 };

impl Registry {
    /// The source of this name, unless it is deleted.
    pub fn source(&self, tenant: &str, name: &str) -> Option<&Arc<Source>> {
        self.sources.of_file(tenant, name).or_else(|| self.sources.of_store(tenant, name))
    }

    /// The source with this public id, unless it is deleted.
    pub fn source_by_id(&self, id: SourceId) -> Option<&Arc<Source>> {
        self.source_including_deleted(id).filter(|source| source.deleted_at.is_none())
    }

    /// The source with this public id, also if it is deleted.
    pub fn source_including_deleted(&self, id: SourceId) -> Option<&Arc<Source>> {
        self.sources.files.by_id.get(&id).or_else(|| self.sources.at(*self.sources.ids.get(&id)?))
    }

    /// The source with this token, unless it is deleted. The lookup uses the token's SHA-256, so that its duration
    /// reveals nothing about the token.
    pub fn source_by_token(&self, token: &str) -> Option<&Arc<Source>> {
        self.sources.by_token(&token_hash(token))
    }

    /// Sources, newest first, of one tenant or of all tenants, with or without the deleted ones.
    pub fn sources<'a>(
        &'a self,
        tenant: Option<&'a str>,
        with_deleted: bool,
    ) -> impl Iterator<Item = &'a Arc<Source>> + 'a {
        let stored = self.sources.stored();
        self.sources.files.all.iter().rev().chain(stored.rev()).filter(move |source| {
            tenant.is_none_or(|tenant| *source.tenant == *tenant) && (with_deleted || source.deleted_at.is_none())
        })
    }
}

impl Sources {
    /// Adds a source, or replaces the source that has its id.
    pub(super) fn put(&mut self, source: Arc<Source>) {
        let no = match self.ids.get(&source.id).copied() {
            Some(no) => {
                if let Some(old) = self.at(no).cloned() {
                    self.unlink(&old, no);
                }
                no
            }
            None => self.stored.last().map_or(0, |last| (self.stored.len() - 1) * CHUNK + last.len()),
        };
        self.ids.entry(&source.id, || (source.id, no));
        if source.deleted_at.is_none() {
            let tenant = &source.tenant;
            let names = self.names.entry(&**tenant, || (Arc::clone(tenant), CowMap::default()));
            *names.entry(&*source.name, || (source.name.clone(), no)) = no;
            if let Some(token) = &source.token {
                *self.tokens.entry(&token.hash, || (token.hash, no)) = no;
            }
        }
        if self.stored.len() <= no / CHUNK {
            self.stored.push(Arc::default());
        }
        let chunk = Arc::make_mut(&mut self.stored[no / CHUNK]);
        match chunk.get_mut(no % CHUNK) {
            Some(place) => *place = source,
            None => chunk.push(source),
        }
    }

    /// The source of registry.redb with this id, also if it is deleted.
    pub(super) fn of_id(&self, id: SourceId) -> Option<&Arc<Source>> {
        self.at(*self.ids.get(&id)?)
    }

    /// Replaces all sources of the file.
    pub(super) fn set_files(&mut self, all: Vec<Arc<Source>>) {
        let by_id = all.iter().map(|source| (source.id, Arc::clone(source))).collect();
        let with_token = |source: &Arc<Source>| Some((source.token.as_ref()?.hash, Arc::clone(source)));
        let by_token = all.iter().filter_map(with_token).collect();
        let mut by_name: HashMap<_, HashMap<_, _>> = HashMap::new();
        for source in &all {
            by_name.entry(Arc::clone(&source.tenant)).or_default().insert(source.name.clone(), Arc::clone(source));
        }
        self.files = Arc::new(FileSources { by_id, by_name, by_token, all });
    }

    /// Replaces one source of the file.
    pub(super) fn replace_file(&mut self, source: &Arc<Source>) {
        let new = |old: &Arc<Source>| Arc::clone(if old.id == source.id { source } else { old });
        self.set_files(self.files.all.iter().map(new).collect());
    }

    /// Takes over the sources of the file from another snapshot.
    pub(super) fn copy_files(&mut self, from: &Self) {
        self.files = Arc::clone(&from.files);
    }

    /// Stores the secret that a handshake brought to a source of the file.
    pub(super) fn learn(&mut self, id: SourceId, secret: Secret) {
        let place = self.learned.entry(&id, || (id, secret.clone()));
        *place = secret;
    }

    /// Removes the secret that a handshake brought to a source of the file. Returns `None` if there is none.
    pub(super) fn forget(&mut self, id: SourceId) -> Option<()> {
        self.learned.remove(&id).map(drop)
    }

    pub(super) fn learned(&self, id: SourceId) -> Option<&Secret> {
        self.learned.get(&id)
    }

    /// The source of the file with this name.
    pub(super) fn of_file(&self, tenant: &str, name: &str) -> Option<&Arc<Source>> {
        self.files.by_name.get(tenant)?.get(name)
    }

    /// The source of registry.redb with this name, unless it is deleted.
    pub(super) fn of_store(&self, tenant: &str, name: &str) -> Option<&Arc<Source>> {
        self.at(*self.names.get(tenant)?.get(name)?)
    }

    pub(super) fn by_token(&self, hash: &[u8; 32]) -> Option<&Arc<Source>> {
        let of_file = self.files.by_token.get(hash);
        let of_store = self.tokens.get(hash).and_then(|no| self.at(*no));
        of_file.or(of_store)
    }

    /// The sources of registry.redb, in the order of their creation.
    pub(super) fn stored(&self) -> impl DoubleEndedIterator<Item = &Arc<Source>> {
        self.stored.iter().flat_map(|chunk| chunk.iter())
    }

    fn at(&self, no: usize) -> Option<&Arc<Source>> {
        self.stored.get(no / CHUNK)?.get(no % CHUNK)
    }

    /// Removes the index entries of a source for its name and token, unless they belong to another source by now.
    fn unlink(&mut self, old: &Source, no: usize) {
        let names = self.names.get(&*old.tenant);
        if names.and_then(|names| names.get(&*old.name)) == Some(&no) {
            let tenant = &old.tenant;
            self.names.entry(&**tenant, || (Arc::clone(tenant), CowMap::default())).remove(&*old.name);
        }
        if let Some(token) = &old.token
            && self.tokens.get(&token.hash) == Some(&no)
        {
            self.tokens.remove(&token.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::inbound::source::{Identity, ManagedBy, PartnerToken, SourceSettings};
    use crate::model::Timestamp;

    const TENANTS: [&str; 2] = ["default", "acme"];

    fn token(n: u8) -> PartnerToken {
        PartnerToken::try_new(&format!("a-token-of-a-partner-{n:02}")).unwrap()
    }

    fn source(id: u8, name: u8, token_of: u8, is_deleted: bool) -> Arc<Source> {
        let identity = Identity {
            id: SourceId::from_u128(id.into()),
            tenant: TENANTS[usize::from(id) % 2].into(),
            managed_by: ManagedBy::Api,
            token: Some(token(token_of).hash()),
            created_at: Timestamp::default(),
            modified_at: Timestamp::default(),
            deleted_at: is_deleted.then(Timestamp::default),
            version: 1,
        };
        let settings = SourceSettings::new(&format!("name{name}"), "partner");
        Arc::new(Source::build(settings, identity, "https://hooks.example.com").unwrap())
    }

    /// The name and token of each id, and whether the source is deleted.
    type Model = BTreeMap<u8, (u8, u8, bool)>;

    fn agrees(registry: &Registry, model: &Model, order: &[u8]) -> Result<(), TestCaseError> {
        let found = |source: Option<&Arc<Source>>| source.map(|source| source.id.as_u128() as u8);
        let live = |fits: &dyn Fn(u8, u8, u8) -> bool| {
            model.iter().find(|(id, (name, token, gone))| !gone && fits(**id, *name, *token)).map(|(id, _)| *id)
        };
        for n in 0..40u8 {
            let id = SourceId::from_u128(n.into());
            prop_assert_eq!(found(registry.source_including_deleted(id)), model.contains_key(&n).then_some(n));
            prop_assert_eq!(found(registry.source_by_id(id)), live(&|of, _, _| of == n));
            prop_assert_eq!(found(registry.source_by_token(token(n).reveal())), live(&|_, _, token| token == n));
            for (at, tenant) in TENANTS.into_iter().enumerate() {
                let expected = live(&|of, name, _| name == n && usize::from(of) % 2 == at);
                prop_assert_eq!(found(registry.source(tenant, &format!("name{n}"))), expected);
            }
        }
        let newest: Vec<_> = registry.sources(None, true).filter_map(|source| found(Some(source))).collect();
        prop_assert!(newest.iter().eq(order.iter().rev()));
        let of_one = registry.sources(Some("acme"), false).filter_map(|source| found(Some(source)));
        let expected = order.iter().rev().filter(|id| **id % 2 == 1 && !model[*id].2);
        prop_assert!(of_one.eq(expected.copied()));
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_index_finds_what_a_search_of_all_sources_finds_and_copies_do_not_change(
            operations in proptest::collection::vec((0u8..40, 0u8..40, 0u8..40, any::<bool>()), 1..150),
        ) {
            let (mut registry, mut model, mut order) = (Registry::default(), Model::new(), Vec::new());
            let mut copy = None;
            for (i, (id, name, token, is_deleted)) in operations.into_iter().enumerate() {
                // The writer makes sure that names and tokens are free.
                let is_taken = model.iter().any(|(other, (n, t, gone))| {
                    *other != id && !gone && (*t == token || (*n == name && other % 2 == id % 2))
                });
                if is_taken && !is_deleted {
                    continue;
                }
                if model.insert(id, (name, token, is_deleted)).is_none() {
                    order.push(id);
                }
                registry.sources.put(source(id, name, token, is_deleted));
                if i == 60 {
                    copy = Some((registry.clone(), model.clone(), order.clone()));
                }
            }
            for (registry, model, order) in copy.into_iter().chain([(registry, model, order)]) {
                agrees(&registry, &model, &order)?;
            }
        }
    }
}
