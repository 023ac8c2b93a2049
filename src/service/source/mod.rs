//! Sources: create, list, read, change, delete, restore, rotate secrets and tokens, and list rejected requests.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::access::{sees, tenant_of};
use super::stored_response::changed_source;
use super::{
    Error, ErrorKind, ExpectedVersion, ListPage, Operation, PageRequest, ResponseRecorder, Service, SourceRef,
};
use crate::inbound::source::{ManagedBy, PartnerToken, Rejection, SecretSetting, Source, SourceSettings, SourceStatus};
use crate::limits::PAGE_SCAN_MAX;
use crate::model::kind::NATS;
use crate::model::{DEFAULT_TENANT, FieldError, Principal, Secret, SourceId};
use crate::registry::SourceError;

mod document;
mod rotation;

pub use rotation::{SourceSecretDraft, SourceTokenDraft};

/// The kind of source whose URL contains a token.
const PARTNER: &str = "partner";
/// How often a change is retried after a concurrent change, before the caller gets an error.
const TRIES: usize = 8;

/// A reference to a source and the tenant in which a name is looked up.
#[derive(Debug, Clone, Copy)]
pub struct SourceKey<'a> {
    /// The id or the name of the source.
    pub of: SourceRef<'a>,
    /// The tenant in which a name is looked up; `None`: the caller's own tenant, or `default` for a caller of tenant
    /// `*`.
    pub tenant: Option<&'a str>,
}

/// A validated source, ready to be created.
#[derive(Debug)]
pub struct SourceDraft {
    tenant: Box<str>,
    settings: SourceSettings,
    token: Option<PartnerToken>,
    /// A secret that the server generated for the sender. The response must contain it.
    secret: Option<Secret>,
    by: Principal,
}

/// A source with its new token and secret, which are returned only once.
#[derive(Debug)]
pub struct SourceWithSecrets {
    /// The current source.
    pub source: Arc<Source>,
    /// The new token, if there is one.
    pub token: Option<PartnerToken>,
    /// The new secret, if the server generated one.
    pub secret: Option<Secret>,
}

/// A filter for sources. A field that is `None` matches everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct SourceFilter<'a> {
    /// Sources of this tenant.
    pub tenant: Option<&'a str>,
    /// Sources with this status.
    pub status: Option<SourceStatus>,
    /// Sources of this kind.
    pub kind: Option<&'a str>,
    /// Sources with this text in name or description, ignoring case.
    pub text: Option<&'a str>,
    /// Deleted sources instead of existing ones.
    pub is_deleted: bool,
}

impl Service {
    /// Validates the document of a new source. The server generates a token for a partner, and a secret for a sender
    /// that has none of its own.
    ///
    /// # Errors
    /// If the role is too low. Invalid fields are listed by JSON pointer.
    pub fn draft_source(&self, principal: &Principal, document: Map<String, Value>) -> Result<SourceDraft, Error> {
        Operation::ChangeSources.permit(principal.role)?;
        let document::NewSource { tenant, mut settings, token } = document::create(document, principal)?;
        self.check_bus_kind(principal, &settings.kind, None)?;
        let is_partner = settings.kind == PARTNER;
        let token = token.or_else(|| is_partner.then(PartnerToken::generate));
        let secret = if settings.secrets.is_empty() { add_generated_secret(&mut settings) } else { None };
        Ok(SourceDraft { tenant, settings, token, secret, by: principal.clone() })
    }

    /// Creates a source.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If a setting is invalid, or the name or the token is taken.
    pub async fn create_source(
        &self,
        draft: SourceDraft,
        record: Option<ResponseRecorder<Arc<Source>>>,
    ) -> Result<SourceWithSecrets, Error> {
        let SourceDraft { tenant, settings, token, secret, by } = draft;
        let answer = record.map(|record| record.of_change(changed_source));
        let writer = self.writer.on_behalf_of(&by).recording(answer);
        let source = writer.create_source(&tenant, settings, token.as_ref()).await?;
        Ok(SourceWithSecrets { source, token, secret })
    }

    /// Lists the sources that match the filter, newest first, starting after the source `after`.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not see the tenant.
    pub fn list_sources(
        &self,
        principal: &Principal,
        filter: SourceFilter<'_>,
        page: PageRequest,
        after: Option<SourceId>,
    ) -> Result<ListPage<Arc<Source>, SourceId>, Error> {
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
                if found.len() == page.fetch_limit() {
                    break;
                }
            }
        }
        Ok(page.rows(found, last.filter(|_| looked_at == PAGE_SCAN_MAX), |source| source.id))
    }

    /// Reads a source that is not deleted.
    ///
    /// # Errors
    /// If the role is too low, or the source does not exist for the caller.
    pub fn read_source(&self, principal: &Principal, key: SourceKey<'_>) -> Result<Arc<Source>, Error> {
        Operation::ReadSources.permit(principal.role)?;
        let registry = self.registry.load();
        let found = match key.of {
            SourceRef::Id(id) => registry.source_by_id(id),
            SourceRef::Name(name) => registry.source(tenant_of_name(principal, key)?, name),
        };
        found.filter(|source| sees(principal, &source.tenant)).cloned().ok_or_else(not_found)
    }

    /// The secret of a source that a person must paste at the provider, for callers who may change the source.
    pub fn secret_to_paste<'s>(&self, principal: &Principal, source: &'s Source) -> Option<&'s Secret> {
        Operation::ChangeSources.permit(principal.role).ok().and_then(|()| source.secret_to_paste())
    }

    /// Reads a deleted source. If several deleted sources had the name, the newest is returned.
    ///
    /// # Errors
    /// If the role is too low, or the deleted source does not exist for the caller.
    pub fn read_deleted_source(&self, principal: &Principal, key: SourceKey<'_>) -> Result<Arc<Source>, Error> {
        Operation::ReadSources.permit(principal.role)?;
        let registry = self.registry.load();
        let found = match key.of {
            SourceRef::Id(id) => registry.source_including_deleted(id).cloned(),
            SourceRef::Name(name) => {
                let mut all = registry.sources(Some(tenant_of_name(principal, key)?), true);
                all.find(|source| source.deleted_at.is_some() && *source.name == *name).cloned()
            }
        };
        let found = found.filter(|source| source.deleted_at.is_some() && sees(principal, &source.tenant));
        found.ok_or_else(not_found)
    }

    /// Checks whether a source exists and can be changed through the API.
    ///
    /// # Errors
    /// If the role is too low, the source does not exist for the caller, or the configuration file manages the source.
    pub fn may_change_source(&self, principal: &Principal, key: SourceKey<'_>) -> Result<(), Error> {
        self.changeable_source(principal, key).map(drop)
    }

    /// Changes the fields that the document names (RFC 7396).
    ///
    /// # Errors
    /// If the role is too low, a field is invalid, the source does not exist, the configuration file manages it, or its
    /// version is not the expected one.
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
            self.check_bus_kind(principal, &settings.kind, Some(&source))?;
            ExpectedVersion::bind(expected, source.version)?;
            match self.writer.on_behalf_of(principal).replace_source(source.id, Some(source.version), settings).await {
                Err(SourceError::Changed) => {}
                changed => return Ok(changed?),
            }
        }
        Err(SourceError::Changed.into())
    }

    /// Deletes a source. It can be restored.
    ///
    /// # Errors
    /// If the role is too low, the source does not exist, the configuration file manages it, or its version is not the
    /// expected one.
    pub async fn delete_source(
        &self,
        principal: &Principal,
        key: SourceKey<'_>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<(), Error> {
        let source = self.changeable_source(principal, key)?;
        let version = ExpectedVersion::bind(expected, source.version)?;
        match self.writer.on_behalf_of(principal).delete_source(source.id, version).await {
            Err(SourceError::Changed) => Err(Error::changed_meanwhile()),
            deleted => Ok(deleted.map(drop)?),
        }
    }

    /// Restores a deleted source with its token and secrets. A source that is not deleted is not changed.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the role is too low, the source does not exist, the configuration file manages it, or its version is not the
    /// expected one.
    pub async fn restore_source(
        &self,
        principal: &Principal,
        key: SourceKey<'_>,
        expected: Option<&ExpectedVersion>,
        record: Option<ResponseRecorder<Arc<Source>>>,
    ) -> Result<Arc<Source>, Error> {
        let source = self.restorable_source(principal, key)?;
        ExpectedVersion::bind(expected, source.version)?;
        let answer = record.map(|record| record.of_change(changed_source));
        Ok(self.writer.on_behalf_of(principal).recording(answer).restore_source(source.id).await?)
    }

    /// Finds a source, deleted or not, that the caller may restore.
    ///
    /// # Errors
    /// If the role is too low, the source does not exist, or the configuration file manages it.
    pub fn restorable_source(&self, principal: &Principal, key: SourceKey<'_>) -> Result<Arc<Source>, Error> {
        Operation::ChangeSources.permit(principal.role)?;
        let source = self.read_source(principal, key).or_else(|_| self.read_deleted_source(principal, key))?;
        changeable(&source)?;
        Ok(source)
    }

    /// Lists the requests that a source rejected since the start of the server, newest first, at most `limit`.
    ///
    /// # Errors
    /// If the role is too low, or the source does not exist for the caller.
    pub fn source_rejections(
        &self,
        principal: &Principal,
        key: SourceKey<'_>,
        limit: usize,
    ) -> Result<Vec<Rejection>, Error> {
        let source = self.read_source(principal, key)?;
        Ok(self.rejections.of(source.id).into_iter().take(limit).collect())
    }

    /// Only a caller of tenant `*` may create or change a source that consumes from the event bus: the messages belong
    /// to the operator.
    fn check_bus_kind(&self, caller: &Principal, kind: &str, before: Option<&Source>) -> Result<(), Error> {
        let is_bus = kind == NATS;
        if !is_bus && before.is_none_or(|source| source.settings.kind != NATS) {
            return Ok(());
        }
        if caller.tenant.is_some() {
            let detail = "only a key of tenant * may create or change a source of kind nats";
            return Err(Error::new(ErrorKind::Forbidden, detail));
        }
        if is_bus && !self.has_bus {
            let detail = "kind nats needs an event bus, and the configuration has none: set nats.url";
            return Err(Error::invalid_body(vec![FieldError::new("/kind", detail)]));
        }
        Ok(())
    }

    /// Finds a source that the caller may change and that the configuration file does not manage.
    fn changeable_source(&self, principal: &Principal, key: SourceKey<'_>) -> Result<Arc<Source>, Error> {
        Operation::ChangeSources.permit(principal.role)?;
        let source = self.read_source(principal, key)?;
        changeable(&source)?;
        Ok(source)
    }
}

impl SourceFilter<'_> {
    /// Whether the source matches the filter. `needle` is the filter's text in lower case.
    fn takes(&self, source: &Source, needle: Option<&str>) -> bool {
        let texts = [Some(&*source.name), source.settings.description.as_deref()];
        self.status.is_none_or(|status| status == source.status)
            && self.kind.is_none_or(|kind| kind == source.settings.kind)
            && needle.is_none_or(|needle| texts.iter().flatten().any(|text| text.to_lowercase().contains(needle)))
    }
}

/// Rejects a source of the configuration file. It can be changed only in the file.
fn changeable(source: &Source) -> Result<(), Error> {
    match source.managed_by {
        ManagedBy::Api => Ok(()),
        ManagedBy::File => Err(SourceError::ManagedByFile.into()),
    }
}

/// The tenant in which a name is looked up.
fn tenant_of_name<'a>(principal: &'a Principal, key: SourceKey<'a>) -> Result<&'a str, Error> {
    Ok(tenant_of(principal, key.tenant)?.unwrap_or(DEFAULT_TENANT))
}

fn not_found() -> Error {
    Error::not_found("source")
}

/// Generates a secret and adds it to the settings. Returns `None` if the sender generates its secret itself.
fn add_generated_secret(settings: &mut SourceSettings) -> Option<Secret> {
    let secret = rotation::generate_secret(&settings.kind, &rotation::effective_scheme(settings)?)?;
    settings.secrets.push(SecretSetting::Text(secret.clone()));
    Some(secret)
}
