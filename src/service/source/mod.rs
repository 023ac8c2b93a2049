//! Sources: make, list, read, change, delete, restore; what they refused; the guide for whoever sends.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::access::{sees, tenant_of};
use super::{Error, ExpectedVersion, Operation, Page, Rows, Service, SourceRef};
use crate::inbound::source::{ManagedBy, Rejection, SecretSetting, Settings, Source, SourceStatus, Token};
use crate::limits::PAGE_SCAN_MAX;
use crate::model::{DEFAULT_TENANT, Principal, Secret, SourceId};
use crate::registry::SourceError;

mod document;
mod rotation;

pub use rotation::{SourceSecretDraft, SourceTokenDraft};

/// The kind whose URL holds a token.
const PARTNER: &str = "partner";
/// How often a change is made anew because another change came between, before the caller is told.
const TRIES: usize = 8;

/// How a caller names a source, and the tenant within which a name is looked for.
#[derive(Debug, Clone, Copy)]
pub struct SourceKey<'a> {
    /// Its id or its name.
    pub of: SourceRef<'a>,
    /// The tenant that the caller names for a name; `None`: the caller's own, or `default` for a caller of tenant `*`.
    pub tenant: Option<&'a str>,
}

/// A source that was checked and can be made.
#[derive(Debug)]
pub struct SourceDraft {
    tenant: Box<str>,
    settings: Settings,
    token: Option<Token>,
    /// A secret that was made for the sender, and so has to be told.
    secret: Option<Secret>,
    by: Principal,
}

/// A source with what is told of it only once.
#[derive(Debug)]
pub struct ToldSource {
    /// The source as it is now.
    pub source: Arc<Source>,
    /// Its new token.
    pub token: Option<Token>,
    /// Its new secret, if the server made the secret.
    pub secret: Option<Secret>,
}

/// Which sources are listed; an absent field takes all.
#[derive(Debug, Clone, Copy, Default)]
pub struct SourceFilter<'a> {
    /// Of this tenant.
    pub tenant: Option<&'a str>,
    /// With this status.
    pub status: Option<SourceStatus>,
    /// Of this kind.
    pub kind: Option<&'a str>,
    /// With this text in name or description, whatever its case.
    pub text: Option<&'a str>,
    /// Those that are deleted, in place of those that are there.
    pub is_deleted: bool,
}

impl Service {
    /// Checks the document of a new source. A partner gets a token, and a sender that has no secret of its own gets one.
    ///
    /// # Errors
    /// If the role is too low; each field that is wrong, by its JSON pointer.
    pub fn draft_source(&self, principal: &Principal, document: Map<String, Value>) -> Result<SourceDraft, Error> {
        Operation::ChangeSources.permit(principal.role)?;
        let document::Created { tenant, mut settings, token } = document::create(document, principal)?;
        let is_partner = settings.kind == PARTNER;
        let token = token.or_else(|| is_partner.then(Token::generate));
        let secret = if settings.secrets.is_empty() { made_secret(&mut settings) } else { None };
        Ok(SourceDraft { tenant, settings, token, secret, by: principal.clone() })
    }

    /// Makes a source.
    ///
    /// # Errors
    /// Each setting that is wrong; a name or a token that is taken.
    pub async fn create_source(&self, draft: SourceDraft) -> Result<ToldSource, Error> {
        let SourceDraft { tenant, settings, token, secret, by } = draft;
        let source = self.writer.by(&by).create_source(&tenant, settings, token.as_ref()).await?;
        Ok(ToldSource { source, token, secret })
    }

    /// A page of the sources that the filter takes, newest first, from the one that follows the source `after`.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not know of the tenant.
    pub fn list_sources(
        &self,
        principal: &Principal,
        filter: SourceFilter<'_>,
        page: Page,
        after: Option<SourceId>,
    ) -> Result<Rows<Arc<Source>, SourceId>, Error> {
        Operation::ReadSources.permit(principal.role)?;
        let tenant = tenant_of(principal, filter.tenant)?;
        let needle = filter.text.map(str::to_lowercase);
        let registry = self.registry.load();
        let mut found: Vec<Arc<Source>> = Vec::new();
        let (mut looked_at, mut last) = (0, None);
        let all = registry.sources(tenant, filter.is_deleted);
        let all = all.filter(|source| source.deleted_at.is_some() == filter.is_deleted);
        let from = all.skip_while(|source| after.is_some_and(|after| source.id != after));
        for source in from.skip(usize::from(after.is_some())).take(PAGE_SCAN_MAX) {
            looked_at += 1;
            last = Some(source.id);
            if filter.takes(source, needle.as_deref()) {
                found.push(Arc::clone(source));
                if found.len() == page.wanted() {
                    break;
                }
            }
        }
        Ok(page.rows(found, last.filter(|_| looked_at == PAGE_SCAN_MAX), |source| source.id))
    }

    /// Reads a source that is not deleted.
    ///
    /// # Errors
    /// If the role is too low, or the source is not there for the caller.
    pub fn read_source(&self, principal: &Principal, key: SourceKey<'_>) -> Result<Arc<Source>, Error> {
        Operation::ReadSources.permit(principal.role)?;
        let registry = self.registry.load();
        let found = match key.of {
            SourceRef::Id(id) => registry.source_by_id(id),
            SourceRef::Name(name) => registry.source(tenant_of_name(principal, key)?, name),
        };
        found.filter(|source| sees(principal, &source.tenant)).cloned().ok_or_else(not_found)
    }

    /// Reads a source that was deleted; of several that had the name, the newest.
    ///
    /// # Errors
    /// If the role is too low, or no deleted source is there for the caller.
    pub fn read_deleted_source(&self, principal: &Principal, key: SourceKey<'_>) -> Result<Arc<Source>, Error> {
        Operation::ReadSources.permit(principal.role)?;
        let registry = self.registry.load();
        let found = match key.of {
            SourceRef::Id(id) => registry.known_source(id).cloned(),
            SourceRef::Name(name) => {
                let mut all = registry.sources(Some(tenant_of_name(principal, key)?), true);
                all.find(|source| source.deleted_at.is_some() && *source.name == *name).cloned()
            }
        };
        let found = found.filter(|source| source.deleted_at.is_some() && sees(principal, &source.tenant));
        found.ok_or_else(not_found)
    }

    /// Looks whether a source is there and can be changed by the API.
    ///
    /// # Errors
    /// If the role is too low, the source is not there for the caller, or the configuration file manages the source.
    pub fn may_change_source(&self, principal: &Principal, key: SourceKey<'_>) -> Result<(), Error> {
        self.changeable_source(principal, key).map(drop)
    }

    /// Changes the fields that the document names (RFC 7396).
    ///
    /// # Errors
    /// If the role is too low; each field that is wrong; a source that is not there, of the configuration file, or not of
    /// the expected version.
    pub async fn patch_source(
        &self,
        principal: &Principal,
        key: SourceKey<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<Arc<Source>, Error> {
        for _ in 0..TRIES {
            let source = self.changeable_source(principal, key)?;
            let settings = document::patch(document.clone(), &source)?;
            ExpectedVersion::bind(expected, source.version)?;
            match self.writer.by(principal).replace_source(source.id, Some(source.version), settings).await {
                Err(SourceError::Changed) => {}
                changed => return Ok(changed?),
            }
        }
        Err(SourceError::Changed.into())
    }

    /// Deletes a source, which can be restored.
    ///
    /// # Errors
    /// If the role is too low; a source that is not there, of the configuration file, or not of the expected version.
    pub async fn delete_source(
        &self,
        principal: &Principal,
        key: SourceKey<'_>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<(), Error> {
        let source = self.changeable_source(principal, key)?;
        let version = ExpectedVersion::bind(expected, source.version)?;
        match self.writer.by(principal).delete_source(source.id, version).await {
            Err(SourceError::Changed) => Err(Error::changed_meanwhile()),
            deleted => Ok(deleted.map(drop)?),
        }
    }

    /// Restores a deleted source, with its token and secrets. A source that is there stays as it is.
    ///
    /// # Errors
    /// If the role is too low; a source that is not there, of the configuration file, or not of the expected version.
    pub async fn restore_source(
        &self,
        principal: &Principal,
        key: SourceKey<'_>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<Arc<Source>, Error> {
        Operation::ChangeSources.permit(principal.role)?;
        let source = self.read_source(principal, key).or_else(|_| self.read_deleted_source(principal, key))?;
        changeable(&source)?;
        ExpectedVersion::bind(expected, source.version)?;
        Ok(self.writer.by(principal).restore_source(source.id).await?)
    }

    /// What a source refused since the server's start, newest first, at most `limit`.
    ///
    /// # Errors
    /// If the role is too low, or the source is not there for the caller.
    pub fn source_rejections(
        &self,
        principal: &Principal,
        key: SourceKey<'_>,
        limit: usize,
    ) -> Result<Vec<Rejection>, Error> {
        let source = self.read_source(principal, key)?;
        Ok(self.rejections.of(source.id).into_iter().take(limit).collect())
    }

    /// The source, if the caller may change it and it is not the configuration file's.
    fn changeable_source(&self, principal: &Principal, key: SourceKey<'_>) -> Result<Arc<Source>, Error> {
        Operation::ChangeSources.permit(principal.role)?;
        let source = self.read_source(principal, key)?;
        changeable(&source)?;
        Ok(source)
    }
}

impl SourceFilter<'_> {
    /// `needle` is the text in lower case.
    fn takes(&self, source: &Source, needle: Option<&str>) -> bool {
        let texts = [Some(&*source.name), source.settings.description.as_deref()];
        self.status.is_none_or(|status| status == source.status)
            && self.kind.is_none_or(|kind| kind == source.settings.kind)
            && needle.is_none_or(|needle| texts.iter().flatten().any(|text| text.to_lowercase().contains(needle)))
    }
}

/// A source of the configuration file is changed only there.
fn changeable(source: &Source) -> Result<(), Error> {
    match source.managed_by {
        ManagedBy::Api => Ok(()),
        ManagedBy::File => Err(SourceError::ManagedByFile.into()),
    }
}

/// The tenant within which a name is looked for.
fn tenant_of_name<'a>(principal: &'a Principal, key: SourceKey<'a>) -> Result<&'a str, Error> {
    Ok(tenant_of(principal, key.tenant)?.unwrap_or(DEFAULT_TENANT))
}

fn not_found() -> Error {
    Error::not_found("source")
}

/// A secret that is made here, where the sender has none of its own.
fn made_secret(settings: &mut Settings) -> Option<Secret> {
    let secret = rotation::chosen_secret(&settings.kind, &rotation::effective_scheme(settings)?)?;
    settings.secrets.push(SecretSetting::Text(secret.clone()));
    Some(secret)
}
