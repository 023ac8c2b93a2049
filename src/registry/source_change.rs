//! Changes of sources: creates, replaces, deletes and restores them, rotates tokens, and stores secrets from
//! handshakes.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Registry;
use super::audit::{audit_file_sources, changed_settings, file_sources};
use super::change::{ChangeError, ChangeReply, RegistryChange};
use super::compile::source_record;
use super::source_setup::SourceSetup;
use super::versions::version_of_file;
use super::writer::Writer;
use super::writer_state::{ChangeBatch, WriterState};
use crate::inbound::provider::Handshake;
use crate::inbound::source::{Identity, ManagedBy, PartnerToken, SecretSetting, Source, SourceSettings, TokenHash};
use crate::model::kind::PARTNER;
use crate::model::{FieldError, Secret, SourceId};
use crate::storage::registry::RegistryRow;

/// Why a change of a source was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The source does not exist, or is deleted.
    #[error("there is no such source")]
    NotFound,
    /// The source has another version than the change expects.
    #[error("the source was changed meanwhile")]
    Changed,
    /// The tenant has another source of this name, or a webhook with this uid.
    #[error("there is another source of this name, or a webhook with this uid")]
    NameTaken,
    /// Another source has this token.
    #[error("there is another source with this token")]
    TokenTaken,
    /// The source is declared in the configuration file and can be changed only there.
    #[error("the source is managed by the configuration file")]
    ManagedByFile,
    /// A handshake brought a secret to a source that has one.
    #[error("the source has a secret already")]
    HasSecret,
    /// The kind of the source does not get its secret from a handshake.
    #[error(
        "only a source whose secret comes with a handshake can forget it; the operation rotate-secret replaces others"
    )]
    NoHandshakeSecret,
    /// A source of this kind has no token.
    #[error("only a source of kind partner has a token")]
    NoToken,
    /// The settings are not valid; all errors are listed.
    #[error("the settings are not valid")]
    Invalid(Vec<FieldError>),
    /// The registry cannot take changes now.
    #[error(transparent)]
    Unavailable(#[from] ChangeError),
}

pub(super) type SourceResult = Result<Arc<Source>, SourceError>;

#[derive(Debug)]
pub(super) enum SourceChange {
    Create { tenant: Box<str>, settings: Box<SourceSettings>, token: Option<TokenHash> },
    Replace { id: SourceId, version: Option<u64>, settings: Box<SourceSettings> },
    Rotate { id: SourceId, version: Option<u64>, token: TokenHash },
    Delete { id: SourceId, version: Option<u64> },
    Restore { id: SourceId },
    Learn { id: SourceId, secret: Secret },
    Forget { id: SourceId, version: Option<u64> },
}

impl Writer {
    /// Creates a source of this tenant. A source of kind `partner` needs a token; a source of another kind must have
    /// none.
    ///
    /// # Errors
    /// If the name or the token is taken, or with all errors in the settings.
    pub async fn create_source(
        &self,
        tenant: &str,
        settings: SourceSettings,
        token: Option<&PartnerToken>,
    ) -> SourceResult {
        let (settings, token) = (Box::new(settings), token.map(PartnerToken::hash));
        self.request_source(SourceChange::Create { tenant: tenant.into(), settings, token }).await
    }

    /// Replaces the settings of a source, if it has this version or no version is given. Tenant and token stay. A
    /// source whose kind is no longer `partner` loses its token.
    ///
    /// # Errors
    /// If the source cannot be changed, the name is taken, or with all errors in the settings.
    pub async fn replace_source(&self, id: SourceId, version: Option<u64>, settings: SourceSettings) -> SourceResult {
        self.request_source(SourceChange::Replace { id, version, settings: Box::new(settings) }).await
    }

    /// Gives a source of kind `partner` another token. The previous token is invalid at once.
    ///
    /// # Errors
    /// For a source of another kind, or a token of another source.
    pub async fn rotate_token(&self, id: SourceId, version: Option<u64>, token: &PartnerToken) -> SourceResult {
        self.request_source(SourceChange::Rotate { id, version, token: token.hash() }).await
    }

    /// Deletes a source. It can be restored.
    ///
    /// # Errors
    /// If the source does not exist, has another version, or is declared in the configuration file.
    pub async fn delete_source(&self, id: SourceId, version: Option<u64>) -> SourceResult {
        self.request_source(SourceChange::Delete { id, version }).await
    }

    /// Restores a deleted source with its token and secrets. A source that is not deleted stays as it is.
    ///
    /// # Errors
    /// If another source has its name or token now.
    pub async fn restore_source(&self, id: SourceId) -> SourceResult {
        self.request_source(SourceChange::Restore { id }).await
    }

    /// Stores the secret that a handshake brought to a source, which may be declared in the configuration file.
    ///
    /// # Errors
    /// If the source has a secret already.
    pub async fn learn_secret(&self, id: SourceId, secret: Secret) -> SourceResult {
        self.request_source(SourceChange::Learn { id, secret }).await
    }

    /// Removes the secret that a handshake brought, so that the next handshake can bring another one. A source without
    /// a secret stays as it is.
    ///
    /// # Errors
    /// If the kind of the source does not get its secret from a handshake, or the configuration file has the secret.
    pub async fn forget_secret(&self, id: SourceId, version: Option<u64>) -> SourceResult {
        self.request_source(SourceChange::Forget { id, version }).await
    }

    /// Replaces the sources of the configuration and the defaults for all sources, at a reload.
    pub async fn set_sources(&self, sources: SourceSetup) -> Result<(), ChangeError> {
        self.request_webhook(RegistryChange::Sources(Box::new(sources))).await.map(drop)
    }

    async fn request_source(&self, change: SourceChange) -> SourceResult {
        let (reply, answer) = oneshot::channel();
        self.send(RegistryChange::Source(change), ChangeReply::Source(reply))?;
        answer.await.unwrap_or(Err(SourceError::Unavailable(ChangeError::Stopped)))
    }
}

impl WriterState {
    /// Replaces the sources of the configuration. Builds the sources of registry.redb again if the defaults changed.
    pub(super) fn apply_setup(&mut self, setup: SourceSetup, next: &mut Registry, batch: &mut ChangeBatch) {
        let files = file_sources(next);
        let before = std::mem::replace(&mut self.sources, setup);
        let setup = &self.sources;
        if before.public_url != setup.public_url || before.max_body_bytes != setup.max_body_bytes {
            next.rebuild_sources(setup);
        }
        next.set_sources(setup, self.now);
        audit_file_sources(&files, next, batch);
    }

    pub(super) fn apply_source(
        &mut self,
        change: SourceChange,
        next: &mut Registry,
        batch: &mut ChangeBatch,
    ) -> SourceResult {
        let (action, id) = match &change {
            SourceChange::Create { .. } => ("source.created", None),
            SourceChange::Replace { id, .. } => ("source.updated", Some(*id)),
            SourceChange::Rotate { id, .. } => ("source.token_rotated", Some(*id)),
            SourceChange::Delete { id, .. } => ("source.deleted", Some(*id)),
            SourceChange::Restore { id } => ("source.restored", Some(*id)),
            SourceChange::Learn { id, .. } => ("source.secret_learned", Some(*id)),
            SourceChange::Forget { id, .. } => ("source.secret_forgotten", Some(*id)),
        };
        let old = id.and_then(|id| next.source_including_deleted(id)).cloned();
        let source = self.apply_to_source(change, next, batch)?;
        if old.as_ref().is_none_or(|old| old.version != source.version) {
            let changed = old.map(|old| changed_settings(&old.settings, &source.settings)).unwrap_or_default();
            batch.audit_source(action, &source, changed);
        }
        Ok(source)
    }

    fn apply_to_source(&mut self, change: SourceChange, next: &mut Registry, batch: &mut ChangeBatch) -> SourceResult {
        match change {
            SourceChange::Create { tenant, settings, token } => self.create(&tenant, *settings, token, next, batch),
            SourceChange::Replace { id, version, settings } => {
                let old = changeable(next, id, version)?;
                let mut identity = self.next_identity(&old);
                identity.token = old.token.clone().filter(|_| settings.kind == PARTNER);
                self.put(*settings, identity, next, batch)
            }
            SourceChange::Rotate { id, version, token } => {
                let old = changeable(next, id, version)?;
                if old.settings.kind != PARTNER {
                    return Err(SourceError::NoToken);
                }
                let identity = Identity { token: Some(token), ..self.next_identity(&old) };
                self.keep(&old, identity, next, batch)
            }
            SourceChange::Delete { id, version } => {
                let old = changeable(next, id, version)?;
                let identity = Identity { deleted_at: Some(self.now), ..self.next_identity(&old) };
                self.keep(&old, identity, next, batch)
            }
            SourceChange::Restore { id } => {
                let old = Arc::clone(next.source_including_deleted(id).ok_or(SourceError::NotFound)?);
                if old.deleted_at.is_none() {
                    return Ok(old);
                }
                let identity = Identity { deleted_at: None, ..self.next_identity(&old) };
                self.keep(&old, identity, next, batch)
            }
            SourceChange::Learn { id, secret } => self.learn(id, secret, next, batch),
            SourceChange::Forget { id, version } => self.forget(id, version, next, batch),
        }
    }

    fn create(
        &mut self,
        tenant: &str,
        settings: SourceSettings,
        token: Option<TokenHash>,
        next: &mut Registry,
        batch: &mut ChangeBatch,
    ) -> SourceResult {
        let now = self.now;
        let identity = Identity {
            id: SourceId::from_u128(self.random.ulid(now)),
            tenant: next.tenant(tenant).unwrap_or_else(|| tenant.into()),
            managed_by: ManagedBy::Api,
            token,
            created_at: now,
            modified_at: now,
            deleted_at: None,
            version: self.versions.next(),
        };
        self.put(settings, identity, next, batch)
    }

    /// Builds a source from settings that may be invalid, and stores it.
    fn put(
        &self,
        settings: SourceSettings,
        identity: Identity,
        next: &mut Registry,
        batch: &mut ChangeBatch,
    ) -> SourceResult {
        let settings = SourceSettings { tenant: Some(identity.tenant.to_string()), ..settings };
        let mut errors: Vec<_> = token_fits(&settings, &identity).err().into_iter().collect();
        let is_free = is_free(next, &settings.name, &identity);
        match self.sources.build(settings, identity) {
            Ok(source) if errors.is_empty() && source.costly_rules().is_empty() => {
                is_free?;
                next.check_memory(&source.tenant, next.stored_source_bytes(&source), source.memory_bytes())?;
                Ok(batch.put_source(next, Arc::new(source)))
            }
            built => {
                match built {
                    Ok(source) => errors.extend(source.costly_rules().iter().cloned()),
                    Err(found) => errors.extend(found),
                }
                Err(SourceError::Invalid(errors))
            }
        }
    }

    /// Stores a source with its old settings, even if they would be refused today.
    fn keep(&self, old: &Source, identity: Identity, next: &mut Registry, batch: &mut ChangeBatch) -> SourceResult {
        if identity.deleted_at.is_none() {
            is_free(next, &old.name, &identity)?;
        }
        let source = self.sources.rebuild(old.settings.clone(), identity).ok_or(SourceError::NotFound)?;
        Ok(batch.put_source(next, source))
    }

    fn learn(&mut self, id: SourceId, secret: Secret, next: &mut Registry, batch: &mut ChangeBatch) -> SourceResult {
        let old = Arc::clone(next.source_by_id(id).ok_or(SourceError::NotFound)?);
        if !old.settings.secrets.is_empty() {
            return Err(SourceError::HasSecret);
        }
        tracing::info!(target: "hooktide::registry", source_id = %id, source = %old.name, "a handshake brought the secret");
        let mut settings = old.settings.clone();
        settings.secrets.push(SecretSetting::Text(secret.clone()));
        // An invalid secret is an error here, and is not stored.
        let identity = self.next_identity(&old);
        let source = Arc::new(self.sources.build(settings, identity).map_err(SourceError::Invalid)?);
        if old.managed_by == ManagedBy::File {
            next.sources.learn(id, secret.clone());
            next.sources.replace_file(&source);
            batch.rows.push(RegistryRow::LearnedSecret(id, secret));
            return Ok(source);
        }
        Ok(batch.put_source(next, source))
    }

    fn forget(
        &mut self,
        id: SourceId,
        version: Option<u64>,
        next: &mut Registry,
        batch: &mut ChangeBatch,
    ) -> SourceResult {
        let old = Arc::clone(next.source_by_id(id).ok_or(SourceError::NotFound)?);
        if version.is_some_and(|version| version != old.version) {
            return Err(SourceError::Changed);
        }
        if !old.recipe.handshake.is_some_and(Handshake::provides_secret) {
            return Err(SourceError::NoHandshakeSecret);
        }
        if old.settings.secrets.is_empty() {
            return Ok(old);
        }
        if old.managed_by == ManagedBy::File {
            next.sources.forget(id).ok_or(SourceError::ManagedByFile)?;
            batch.rows.push(RegistryRow::ForgottenSecret(id));
            next.set_sources(&self.sources, self.now);
            return next.source_by_id(id).cloned().ok_or(SourceError::NotFound);
        }
        let settings = SourceSettings { secrets: Vec::new(), ..old.settings.clone() };
        let identity = self.next_identity(&old);
        self.put(settings, identity, next, batch)
    }

    /// The identity of a source after its next change.
    fn next_identity(&mut self, old: &Source) -> Identity {
        let version = match old.managed_by {
            ManagedBy::Api => self.versions.next(),
            ManagedBy::File => version_of_file(Some(old.version), self.now),
        };
        Identity { modified_at: self.now, version, ..Identity::of(old) }
    }
}

impl ChangeBatch {
    fn put_source(&mut self, next: &mut Registry, source: Arc<Source>) -> Arc<Source> {
        next.ensure_tenant(&source.tenant);
        next.put_source(Arc::clone(&source));
        self.rows.push(RegistryRow::Source(Box::new(source_record(&source))));
        source
    }
}

impl Identity {
    /// The identity of an existing source.
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

/// The source, if it exists, has this version, and is not declared in the configuration file.
fn changeable(next: &Registry, id: SourceId, version: Option<u64>) -> SourceResult {
    let old = next.source_by_id(id).ok_or(SourceError::NotFound)?;
    if old.managed_by == ManagedBy::File {
        return Err(SourceError::ManagedByFile);
    }
    if version.is_some_and(|version| version != old.version) {
        return Err(SourceError::Changed);
    }
    Ok(Arc::clone(old))
}

/// Checks that no other source has the name or the token, and that no webhook has the name as its uid. A source may
/// keep its name, also while a source of the file with this name hides it.
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

fn token_fits(settings: &SourceSettings, identity: &Identity) -> Result<(), FieldError> {
    let wrong =
        |pointer: &str, detail: &str| Err(FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() });
    match (settings.kind == PARTNER, identity.token.is_some()) {
        (true, false) => wrong("/kind", "a partner has a token, which is given or made when it is created"),
        (false, true) => wrong("/token", "only a source of kind \"partner\" has a token"),
        _ => Ok(()),
    }
}
