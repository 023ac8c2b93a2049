//! Sources in the snapshot: those of registry.redb, which share with the snapshot before whatever stayed the same, and
//! those of the configuration file, which come and go together.

use std::collections::HashMap;
use std::sync::Arc;

use super::Registry;
use super::cow::CowMap;
use crate::inbound::source::{Source, token_hash};
use crate::model::{Secret, SourceId};

/// Sources by id, by tenant and name, and by the hash of their token. One from the file hides one from the interface that
/// has its name.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    /// Those of registry.redb in chunks, in the order of their making. None ever goes: a deleted one can be restored.
    stored: Vec<Arc<Vec<Arc<Source>>>>,
    ids: CowMap<SourceId, usize>,
    /// By tenant, then by name: those that are not deleted.
    names: CowMap<Arc<str>, CowMap<Box<str>, usize>>,
    /// By the hash of the token: those that are not deleted.
    tokens: CowMap<[u8; 32], usize>,
    files: Arc<Files>,
    /// Secrets that handshakes brought to sources of the file.
    learned: CowMap<SourceId, Secret>,
}

/// Those of the configuration file.
#[derive(Debug, Default)]
struct Files {
    by_id: HashMap<SourceId, Arc<Source>>,
    by_name: HashMap<Arc<str>, HashMap<Box<str>, Arc<Source>>>,
    by_token: HashMap<[u8; 32], Arc<Source>>,
    /// As in the file.
    all: Vec<Arc<Source>>,
}

/// Sources that share a copy when one of them changes: 1 KiB of pointers.
const CHUNK: usize = if cfg!(test) { 8 } else { 128 };

impl Registry {
    /// The source of this name; a deleted one is none.
    pub fn source(&self, tenant: &str, name: &str) -> Option<&Arc<Source>> {
        self.sources.of_file(tenant, name).or_else(|| self.sources.of_store(tenant, name))
    }

    /// The source with this public id; a deleted one is none.
    pub fn source_by_id(&self, id: SourceId) -> Option<&Arc<Source>> {
        self.known_source(id).filter(|source| source.deleted_at.is_none())
    }

    /// The source with this public id, also after its deletion.
    pub fn known_source(&self, id: SourceId) -> Option<&Arc<Source>> {
        self.sources.files.by_id.get(&id).or_else(|| self.sources.at(*self.sources.ids.get(&id)?))
    }

    /// The source whose token this is; a deleted one is none. It is found by the token's SHA-256, so that the time tells
    /// nothing about it.
    pub fn source_by_token(&self, token: &str) -> Option<&Arc<Source>> {
        self.sources.by_token(&token_hash(token))
    }

    /// Sources, newest first: of one tenant or of all; with those that are deleted, or without.
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
    /// Puts a source in the place of the one with its id.
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

    /// The sources of the file, in place of those before.
    pub(super) fn set_files(&mut self, all: Vec<Arc<Source>>) {
        let by_id = all.iter().map(|source| (source.id, Arc::clone(source))).collect();
        let with_token = |source: &Arc<Source>| Some((source.token.as_ref()?.hash, Arc::clone(source)));
        let by_token = all.iter().filter_map(with_token).collect();
        let mut by_name: HashMap<_, HashMap<_, _>> = HashMap::new();
        for source in &all {
            by_name.entry(Arc::clone(&source.tenant)).or_default().insert(source.name.clone(), Arc::clone(source));
        }
        self.files = Arc::new(Files { by_id, by_name, by_token, all });
    }

    /// One of the sources of the file, changed.
    pub(super) fn replace_file(&mut self, source: &Arc<Source>) {
        let new = |old: &Arc<Source>| Arc::clone(if old.id == source.id { source } else { old });
        self.set_files(self.files.all.iter().map(new).collect());
    }

    /// The sources of the file as another snapshot has them.
    pub(super) fn take_files(&mut self, from: &Self) {
        self.files = Arc::clone(&from.files);
    }

    /// Notes the secret that a handshake brought to a source of the file.
    pub(super) fn learn(&mut self, id: SourceId, secret: Secret) {
        let place = self.learned.entry(&id, || (id, secret.clone()));
        *place = secret;
    }

    pub(super) fn learned(&self, id: SourceId) -> Option<&Secret> {
        self.learned.get(&id)
    }

    /// The source of the file with this name.
    pub(super) fn of_file(&self, tenant: &str, name: &str) -> Option<&Arc<Source>> {
        self.files.by_name.get(tenant)?.get(name)
    }

    /// The source of registry.redb with this name that is not deleted.
    pub(super) fn of_store(&self, tenant: &str, name: &str) -> Option<&Arc<Source>> {
        self.at(*self.names.get(tenant)?.get(name)?)
    }

    pub(super) fn by_token(&self, hash: &[u8; 32]) -> Option<&Arc<Source>> {
        let of_file = self.files.by_token.get(hash);
        let of_store = self.tokens.get(hash).and_then(|no| self.at(*no));
        of_file.or(of_store)
    }

    /// Those of registry.redb, in the order of their making.
    pub(super) fn stored(&self) -> impl DoubleEndedIterator<Item = &Arc<Source>> {
        self.stored.iter().flat_map(|chunk| chunk.iter())
    }

    fn at(&self, no: usize) -> Option<&Arc<Source>> {
        self.stored.get(no / CHUNK)?.get(no % CHUNK)
    }

    /// Takes out what leads to a source by its name and token, unless it leads to another one by now.
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
    use crate::inbound::source::{Identity, ManagedBy, Settings, Token};
    use crate::model::Timestamp;

    const TENANTS: [&str; 2] = ["default", "acme"];

    fn token(n: u8) -> Token {
        Token::try_new(&format!("a-token-of-a-partner-{n:02}")).unwrap()
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
        let settings = Settings::new(&format!("name{name}"), "partner");
        Arc::new(Source::build(settings, identity, "https://hooks.example.com").unwrap())
    }

    /// What the model says of each id: name, token, whether it is deleted.
    type Model = BTreeMap<u8, (u8, u8, bool)>;

    fn agrees(registry: &Registry, model: &Model, order: &[u8]) -> Result<(), TestCaseError> {
        let found = |source: Option<&Arc<Source>>| source.map(|source| source.id.as_u128() as u8);
        let live = |fits: &dyn Fn(u8, u8, u8) -> bool| {
            model.iter().find(|(id, (name, token, gone))| !gone && fits(**id, *name, *token)).map(|(id, _)| *id)
        };
        for n in 0..40u8 {
            let id = SourceId::from_u128(n.into());
            prop_assert_eq!(found(registry.known_source(id)), model.contains_key(&n).then_some(n));
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
        fn sources_are_found_as_a_search_of_all_finds_them_and_copies_do_not_change(
            operations in proptest::collection::vec((0u8..40, 0u8..40, 0u8..40, any::<bool>()), 1..150),
        ) {
            let (mut registry, mut model, mut order) = (Registry::default(), Model::new(), Vec::new());
            let mut copy = None;
            for (i, (id, name, token, is_deleted)) in operations.into_iter().enumerate() {
                // The writer sees to it that names and tokens are free.
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
