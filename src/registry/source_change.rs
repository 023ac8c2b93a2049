//! Changes of sources: made, replaced, deleted and restored; tokens rotated, secrets learned.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Registry;
use super::audit::{changed_settings, file_sources, note_file_sources};
use super::change::{Change, ChangeError, Reply};
use super::compile::source_record;
use super::source_setup::SourceSetup;
use super::writer::Writer;
use super::writer_state::{Batch, WriterState};
use crate::inbound::source::{Breach, Identity, ManagedBy, SecretSetting, Settings, Source, Token, TokenHash};
use crate::model::kind::PARTNER;
use crate::model::{Secret, SourceId};
use crate::storage::registry::Row;

/// Why a change of a source was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It is not there, or deleted.
    #[error("there is no such source")]
    NotFound,
    /// It is not of the version that the change was made from.
    #[error("the source was changed meanwhile")]
    Changed,
    /// The tenant has another source of this name, or a webhook with this uid.
    #[error("there is another source of this name, or a webhook with this uid")]
    NameTaken,
    /// Another source has this token.
    #[error("there is another source with this token")]
    TokenTaken,
    /// The configuration file names it; only there can it be changed.
    #[error("the source is managed by the configuration file")]
    ManagedByFile,
    /// A handshake brought a secret to a source that has one.
    #[error("the source has a secret already")]
    HasSecret,
    /// Its kind has no token.
    #[error("only a source of kind partner has a token")]
    NoToken,
    /// Everything that is wrong with its settings.
    #[error("the settings are not valid")]
    Invalid(Vec<Breach>),
    /// The registry cannot take it now.
    #[error(transparent)]
    Unavailable(#[from] ChangeError),
}

pub(super) type SourceAnswer = Result<Arc<Source>, SourceError>;

#[derive(Debug)]
pub(super) enum SourceChange {
    Create { tenant: Box<str>, settings: Box<Settings>, token: Option<TokenHash> },
    Replace { id: SourceId, version: Option<u64>, settings: Box<Settings> },
    Rotate { id: SourceId, version: Option<u64>, token: TokenHash },
    Delete { id: SourceId, version: Option<u64> },
    Restore { id: SourceId },
    Learn { id: SourceId, secret: Secret },
}

impl Writer {
    /// Makes a source of this tenant. One of kind `partner` needs a token, and no other has one.
    ///
    /// # Errors
    /// Among others everything that is wrong with the settings.
    pub async fn create_source(&self, tenant: &str, settings: Settings, token: Option<&Token>) -> SourceAnswer {
        let (settings, token) = (Box::new(settings), token.map(Token::hash));
        self.ask_source(SourceChange::Create { tenant: tenant.into(), settings, token }).await
    }

    /// Puts settings in place of those of a source: of this version only, if one is given. Tenant and token stay; a source
    /// that is no partner any more loses its token.
    ///
    /// # Errors
    /// Among others everything that is wrong with the settings.
    pub async fn replace_source(&self, id: SourceId, version: Option<u64>, settings: Settings) -> SourceAnswer {
        self.ask_source(SourceChange::Replace { id, version, settings: Box::new(settings) }).await
    }

    /// Gives a partner another token; the one before ends at once.
    ///
    /// # Errors
    /// For a source that is no partner, or a token that another has.
    pub async fn rotate_token(&self, id: SourceId, version: Option<u64>, token: &Token) -> SourceAnswer {
        self.ask_source(SourceChange::Rotate { id, version, token: token.hash() }).await
    }

    /// Deletes a source; it can be restored.
    ///
    /// # Errors
    /// If it is not there, not of this version, or of the file.
    pub async fn delete_source(&self, id: SourceId, version: Option<u64>) -> SourceAnswer {
        self.ask_source(SourceChange::Delete { id, version }).await
    }

    /// Restores a deleted source, with its token and secrets; one that is there stays as it is.
    ///
    /// # Errors
    /// If another has taken its name or token.
    pub async fn restore_source(&self, id: SourceId) -> SourceAnswer {
        self.ask_source(SourceChange::Restore { id }).await
    }

    /// Gives a source the secret that a handshake brought, of the file or not; only while it has none.
    ///
    /// # Errors
    /// If it has one.
    pub async fn learn_secret(&self, id: SourceId, secret: Secret) -> SourceAnswer {
        self.ask_source(SourceChange::Learn { id, secret }).await
    }

    /// Sources of the configuration in place of those before, and what all are built with (a reload).
    pub async fn set_sources(&self, sources: SourceSetup) -> Result<(), ChangeError> {
        self.ask(Change::Sources(Box::new(sources))).await.map(drop)
    }

    async fn ask_source(&self, change: SourceChange) -> SourceAnswer {
        let (reply, answer) = oneshot::channel();
        self.send(Change::Source(change), Reply::Source(reply))?;
        answer.await.unwrap_or(Err(SourceError::Unavailable(ChangeError::Stopped)))
    }
}

impl WriterState {
    /// Another configuration: its sources, and what those of registry.redb are built with.
    pub(super) fn apply_setup(&mut self, setup: SourceSetup, next: &mut Registry, batch: &mut Batch) {
        let files = file_sources(next);
        let before = std::mem::replace(&mut self.sources, setup);
        let setup = &self.sources;
        if before.public_url != setup.public_url || before.max_body_bytes != setup.max_body_bytes {
            next.rebuild_sources(setup);
        }
        next.set_sources(setup, self.now);
        note_file_sources(&files, next, batch);
    }

    pub(super) fn apply_source(
        &mut self,
        change: SourceChange,
        next: &mut Registry,
        batch: &mut Batch,
    ) -> SourceAnswer {
        let (action, id) = match &change {
            SourceChange::Create { .. } => ("source.created", None),
            SourceChange::Replace { id, .. } => ("source.updated", Some(*id)),
            SourceChange::Rotate { id, .. } => ("source.token_rotated", Some(*id)),
            SourceChange::Delete { id, .. } => ("source.deleted", Some(*id)),
            SourceChange::Restore { id } => ("source.restored", Some(*id)),
            SourceChange::Learn { id, .. } => ("source.secret_learned", Some(*id)),
        };
        let old = id.and_then(|id| next.known_source(id)).cloned();
        let source = self.apply_to_source(change, next, batch)?;
        if old.as_ref().is_none_or(|old| old.version != source.version) {
            let changed = old.map(|old| changed_settings(&old.settings, &source.settings)).unwrap_or_default();
            batch.note_source(action, &source, changed);
        }
        Ok(source)
    }

    fn apply_to_source(&mut self, change: SourceChange, next: &mut Registry, batch: &mut Batch) -> SourceAnswer {
        match change {
            SourceChange::Create { tenant, settings, token } => self.create(&tenant, *settings, token, next, batch),
            SourceChange::Replace { id, version, settings } => {
                let old = changeable(next, id, version)?;
                let mut identity = self.next_of(&old);
                identity.token = old.token.clone().filter(|_| settings.kind == PARTNER);
                self.put(*settings, identity, next, batch)
            }
            SourceChange::Rotate { id, version, token } => {
                let old = changeable(next, id, version)?;
                if old.settings.kind != PARTNER {
                    return Err(SourceError::NoToken);
                }
                let identity = Identity { token: Some(token), ..self.next_of(&old) };
                self.keep(&old, identity, next, batch)
            }
            SourceChange::Delete { id, version } => {
                let old = changeable(next, id, version)?;
                let identity = Identity { deleted_at: Some(self.now), ..self.next_of(&old) };
                self.keep(&old, identity, next, batch)
            }
            SourceChange::Restore { id } => {
                let old = Arc::clone(next.known_source(id).ok_or(SourceError::NotFound)?);
                if old.deleted_at.is_none() {
                    return Ok(old);
                }
                let identity = Identity { deleted_at: None, ..self.next_of(&old) };
                self.keep(&old, identity, next, batch)
            }
            SourceChange::Learn { id, secret } => self.learn(id, secret, next, batch),
        }
    }

    fn create(
        &mut self,
        tenant: &str,
        settings: Settings,
        token: Option<TokenHash>,
        next: &mut Registry,
        batch: &mut Batch,
    ) -> SourceAnswer {
        let now = self.now;
        let identity = Identity {
            id: SourceId::from_u128(self.random.ulid(now)),
            tenant: next.tenant(tenant).unwrap_or_else(|| tenant.into()),
            managed_by: ManagedBy::Api,
            token,
            created_at: now,
            modified_at: now,
            deleted_at: None,
            version: 1,
        };
        self.put(settings, identity, next, batch)
    }

    /// Settings that may be wrong.
    fn put(&self, settings: Settings, identity: Identity, next: &mut Registry, batch: &mut Batch) -> SourceAnswer {
        let settings = Settings { tenant: Some(identity.tenant.to_string()), ..settings };
        let mut breaches: Vec<_> = token_fits(&settings, &identity).err().into_iter().collect();
        let is_free = is_free(next, &settings.name, &identity);
        match self.sources.build(settings, identity) {
            Ok(source) if breaches.is_empty() => is_free.map(|()| batch.put_source(next, Arc::new(source))),
            built => {
                breaches.extend(built.err().unwrap_or_default());
                Err(SourceError::Invalid(breaches))
            }
        }
    }

    /// The settings as they are, whether or not they would still be taken.
    fn keep(&self, old: &Source, identity: Identity, next: &mut Registry, batch: &mut Batch) -> SourceAnswer {
        if identity.deleted_at.is_none() {
            is_free(next, &old.name, &identity)?;
        }
        let source = self.sources.rebuild(old.settings.clone(), identity).ok_or(SourceError::NotFound)?;
        Ok(batch.put_source(next, source))
    }

    fn learn(&self, id: SourceId, secret: Secret, next: &mut Registry, batch: &mut Batch) -> SourceAnswer {
        let old = Arc::clone(next.source_by_id(id).ok_or(SourceError::NotFound)?);
        if !old.settings.secrets.is_empty() {
            return Err(SourceError::HasSecret);
        }
        tracing::info!(target: "hooktide::registry", source_id = %id, source = %old.name, "a handshake brought the secret");
        let mut settings = old.settings.clone();
        settings.secrets.push(SecretSetting::Text(secret.clone()));
        // A secret that cannot be one is not learned.
        let identity = self.next_of(&old);
        let source = Arc::new(self.sources.build(settings, identity).map_err(SourceError::Invalid)?);
        if old.managed_by == ManagedBy::File {
            next.sources.learn(id, secret.clone());
            next.sources.replace_file(&source);
            batch.rows.push(Row::Learned(id, secret));
            return Ok(source);
        }
        Ok(batch.put_source(next, source))
    }

    /// Who a source is after its next change.
    fn next_of(&self, old: &Source) -> Identity {
        Identity { modified_at: self.now, version: old.version + 1, ..Identity::of(old) }
    }
}

impl Batch {
    fn put_source(&mut self, next: &mut Registry, source: Arc<Source>) -> Arc<Source> {
        next.make_tenant(&source.tenant);
        next.sources.put(Arc::clone(&source));
        self.rows.push(Row::Source(Box::new(source_record(&source))));
        source
    }
}

impl Identity {
    /// Who a source is.
    pub(super) fn of(source: &Source) -> Self {
        Self {
            id: source.id,
            tenant: Arc::clone(&source.tenant),
            managed_by: source.managed_by,
            token: source.token.clone(),
            created_at: source.created_at,
            modified_at: source.modified_at,
            deleted_at: source.deleted_at,
            version: source.version,
        }
    }
}

/// The source, if it is there, of this version, and not of the file.
fn changeable(next: &Registry, id: SourceId, version: Option<u64>) -> SourceAnswer {
    let old = next.source_by_id(id).ok_or(SourceError::NotFound)?;
    if old.managed_by == ManagedBy::File {
        return Err(SourceError::ManagedByFile);
    }
    if version.is_some_and(|version| version != old.version) {
        return Err(SourceError::Changed);
    }
    Ok(Arc::clone(old))
}

/// Whether no other source has the name or the token, and no webhook the name as its uid. A name that the source has already is its own, also while a source of
/// the file hides it.
fn is_free(next: &Registry, name: &str, identity: &Identity) -> Result<(), SourceError> {
    let is_other = |found: &Arc<Source>| found.id != identity.id;
    let is_kept = next.source_by_id(identity.id).is_some_and(|old| *old.name == *name);
    let is_taken = next.source(&identity.tenant, name).is_some_and(is_other)
        || next.webhook_by_uid(&identity.tenant, name).is_some();
    if !is_kept && is_taken {
        return Err(SourceError::NameTaken);
    }
    let token = identity.token.as_ref().and_then(|token| next.sources.by_token(&token.hash));
    if token.is_some_and(is_other) { Err(SourceError::TokenTaken) } else { Ok(()) }
}

fn token_fits(settings: &Settings, identity: &Identity) -> Result<(), Breach> {
    let wrong = |pointer: &str, detail: &str| Err(Breach { pointer: pointer.to_owned(), detail: detail.to_owned() });
    match (settings.kind == PARTNER, identity.token.is_some()) {
        (true, false) => wrong("/kind", "a partner has a token, which is given or made when it is created"),
        (false, true) => wrong("/token", "only a source of kind \"partner\" has a token"),
        _ => Ok(()),
    }
}
