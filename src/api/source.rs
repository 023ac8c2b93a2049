//! Sources: make, list, read, change, delete, restore; what they refused; the guide for whoever sends.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH};

use super::page::Query;
use super::source_body::{NewSource, create, patch};
use super::source_rotate::{chosen_secret, effective_scheme};
use super::source_view::{RejectionView, Told, View, etag};
use super::webhook::tenant_of;
use super::{Api, Call, Made, body, reply};
use crate::http::{Problem, ProblemCode, Response};
use crate::inbound::source::{ManagedBy, SecretSetting, Settings, Source, SourceStatus, Token};
use crate::limits::{CHANGE_TRIES, PAGE_SCAN_MAX, REJECTIONS_PER_SOURCE};
use crate::model::kind::PARTNER;
use crate::model::path::SOURCES;
use crate::model::{DEFAULT_TENANT, Secret, SourceId};
use crate::registry::SourceError;
use crate::service::SourceRef;
use crate::service::access::sees;

impl Api {
    /// Makes a source; a partner's token and a secret that is made here are in this answer and in no other.
    pub(super) async fn create_source(&self, call: &Call) -> Result<Response, Problem> {
        let fields = body::object(&call.parts.headers, &call.body, false)?;
        let NewSource { tenant, mut settings, token } = create(fields, &call.principal)?;
        let is_partner = settings.kind == PARTNER;
        let token = token.or_else(|| is_partner.then(Token::generate));
        let secret = if settings.secrets.is_empty() { made_secret(&mut settings) } else { None };
        let writer = self.service.writer.by(&call.principal);
        let make = async move {
            let source = writer.create_source(&tenant, settings, token.as_ref()).await?;
            let place = format!("{SOURCES}/{}", source.id);
            told(&source, token.as_ref(), secret.as_ref(), |told| reply::made(StatusCode::CREATED, &place, told))
        };
        self.make(call, make).await
    }

    /// Filters: `status`, `kind`, `q` (in name and description), `deleted=true` (only those that are).
    pub(super) fn list_sources(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let tenant = tenant_of(&call.principal, &query)?;
        let deleted = deleted(&query)?;
        let wanted = filter(&query)?;
        let cursor = query.cursor::<SourceId>()?;
        let registry = self.service.registry.load();
        let mut found: Vec<&Arc<Source>> = Vec::new();
        let (mut looked_at, mut last) = (0, None);
        let all = registry.sources(tenant, deleted).filter(|source| source.deleted_at.is_some() == deleted);
        let from = all.skip_while(|source| cursor.is_some_and(|cursor| source.id != cursor));
        for source in from.skip(usize::from(cursor.is_some())).take(PAGE_SCAN_MAX) {
            looked_at += 1;
            last = Some(source);
            if wanted(source) {
                found.push(source);
                if found.len() == page.wanted() {
                    break;
                }
            }
        }
        let (rows, more) = page.cut(found);
        let cursor = if more { rows.last().copied() } else { last.filter(|_| looked_at == PAGE_SCAN_MAX) };
        let next = cursor.map(|source| query.next(&source.id));
        let rows: Vec<_> = rows.into_iter().map(|source| View::of(source, None)).collect();
        reply::list(&rows, next.as_ref())
    }

    /// One that is deleted is shown with `deleted=true`.
    pub(super) fn read_source(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let source = if deleted(&query)? { self.deleted_source(call, of)? } else { self.source(call, of)? };
        let response = reply::json(StatusCode::OK, &View::of(&source, None))?;
        Ok(reply::tagged(&call.parts.headers, &etag(&source), response))
    }

    pub(super) async fn patch_source(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        self.source(call, of).and_then(|source| changeable(&source))?;
        let fields = body::object(&call.parts.headers, &call.body, false)?;
        for _ in 0..CHANGE_TRIES {
            let source = self.source(call, of)?;
            let settings = patch(fields.clone(), &source)?;
            reply::matches(&call.parts.headers, &etag(&source))?;
            match self
                .service
                .writer
                .by(&call.principal)
                .replace_source(source.id, Some(source.version), settings)
                .await
            {
                Err(SourceError::Changed) => {}
                changed => return shown(&*changed?),
            }
        }
        Err(SourceError::Changed.into())
    }

    pub(super) async fn delete_source(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let source = self.source(call, of)?;
        changeable(&source)?;
        reply::matches(&call.parts.headers, &etag(&source))?;
        match self.service.writer.by(&call.principal).delete_source(source.id, named_version(call, &source)).await {
            Err(SourceError::Changed) => return Err(changed_meanwhile()),
            deleted => deleted?,
        };
        Ok(reply::no_content())
    }

    /// Brings a deleted source back, with its token and secrets; one that is there is answered as it is.
    pub(super) async fn restore_source(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let source = self.source(call, of).or_else(|_| self.deleted_source(call, of))?;
        changeable(&source)?;
        reply::matches(&call.parts.headers, &etag(&source))?;
        shown(&*self.service.writer.by(&call.principal).restore_source(source.id).await?)
    }

    pub(super) fn guide(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let source = self.source(call, of)?;
        let mut response = Response::new(Full::new(Bytes::from(source.guide(None))));
        let markdown = HeaderValue::from_static("text/markdown; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, markdown);
        Ok(response)
    }

    /// What the source refused since the server's start, newest first.
    pub(super) fn list_rejections(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let limit = Query::of(&call.parts.uri).parse::<NonZeroUsize>("limit", "expected a number from 1")?;
        let source = self.source(call, of)?;
        let kept = self
            .service
            .rejections
            .of(source.id)
            .into_iter()
            .take(limit.map_or(REJECTIONS_PER_SOURCE, NonZeroUsize::get));
        let rows: Vec<_> = kept.map(RejectionView::from).collect();
        reply::list(&rows, None)
    }

    /// The source, if it is there for the caller and not deleted.
    pub(super) fn source(&self, call: &Call, of: SourceRef<'_>) -> Result<Arc<Source>, Problem> {
        let registry = self.service.registry.load();
        let found = match of {
            SourceRef::Id(id) => registry.source_by_id(id),
            SourceRef::Name(name) => registry.source(&tenant_of_name(call)?, name),
        };
        found.filter(|source| sees(&call.principal, &source.tenant)).cloned().ok_or_else(not_found)
    }

    /// The source that was deleted; of several that had the name, the newest.
    fn deleted_source(&self, call: &Call, of: SourceRef<'_>) -> Result<Arc<Source>, Problem> {
        let registry = self.service.registry.load();
        let found = match of {
            SourceRef::Id(id) => registry.known_source(id),
            SourceRef::Name(name) => {
                let tenant = tenant_of_name(call)?;
                let mut all = registry.sources(Some(&tenant), true);
                let found = all.find(|source| source.deleted_at.is_some() && *source.name == *name).cloned();
                return found.ok_or_else(not_found);
            }
        };
        let found = found.filter(|source| source.deleted_at.is_some() && sees(&call.principal, &source.tenant));
        found.cloned().ok_or_else(not_found)
    }
}

/// Within which tenant a name is looked for: a key of tenant `*` says so, or means `default`.
fn tenant_of_name(call: &Call) -> Result<String, Problem> {
    let query = Query::of(&call.parts.uri);
    Ok(tenant_of(&call.principal, &query)?.unwrap_or(DEFAULT_TENANT).to_owned())
}

fn not_found() -> Problem {
    Problem::not_found("source")
}

/// What the configuration file names is changed there alone.
pub(super) fn changeable(source: &Source) -> Result<(), Problem> {
    match source.managed_by {
        ManagedBy::Api => Ok(()),
        ManagedBy::File => Err(SourceError::ManagedByFile.into()),
    }
}

/// The version that the change must find, if the caller named a state.
pub(super) fn named_version(call: &Call, source: &Source) -> Option<u64> {
    call.parts.headers.contains_key(IF_MATCH).then_some(source.version)
}

pub(super) fn changed_meanwhile() -> Problem {
    Problem::new(ProblemCode::PreconditionFailed, "it was changed meanwhile")
}

fn shown(source: &Source) -> Result<Response, Problem> {
    let mut response = reply::json(StatusCode::OK, &View::of(source, None))?;
    reply::set(&mut response, ETAG, &etag(source));
    Ok(response)
}

/// The answer with what is told once, and the one without it.
pub(super) fn told(
    source: &Source,
    token: Option<&Token>,
    secret: Option<&Secret>,
    answer: impl Fn(&Told) -> Result<Response, Problem>,
) -> Result<Made, Problem> {
    let answer = |token: Option<&Token>, secret: Option<&Secret>| {
        let told = Told {
            source: View::of(source, token),
            token: token.map(|token| token.reveal().to_owned()),
            secret: secret.map(|secret| secret.reveal().to_owned()),
            guide: token.map(|token| source.guide(Some(token))),
        };
        let mut response = answer(&told)?;
        reply::set(&mut response, ETAG, &etag(source));
        Ok::<_, Problem>(response)
    };
    Ok(Made { answer: answer(token, secret)?, remembered: answer(None, None)? })
}

/// A secret of ours, where the sender has none of its own.
fn made_secret(settings: &mut Settings) -> Option<Secret> {
    let secret = chosen_secret(&settings.kind, &effective_scheme(settings)?)?;
    settings.secrets.push(SecretSetting::Text(secret.clone()));
    Some(secret)
}

fn deleted(query: &Query) -> Result<bool, Problem> {
    query.parse("deleted", "expected true or false").map(Option::unwrap_or_default)
}

fn filter(query: &Query) -> Result<impl Fn(&Source) -> bool, Problem> {
    let status = match query.get("status").map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("active") => Some(SourceStatus::Active),
        Some("inactive") => Some(SourceStatus::Inactive),
        Some("suspended") => Some(SourceStatus::Suspended),
        Some(_) => {
            let detail = "query parameter status: expected active, inactive or suspended";
            return Err(Problem::new(ProblemCode::InvalidRequest, detail));
        }
    };
    let kind = query.get("kind").map(str::to_owned);
    let needle = query.get("q").map(str::to_lowercase);
    Ok(move |source: &Source| {
        let texts = [Some(&*source.name), source.settings.description.as_deref()];
        status.is_none_or(|status| status == source.status)
            && kind.as_deref().is_none_or(|kind| kind == source.settings.kind)
            && needle
                .as_deref()
                .is_none_or(|needle| texts.iter().flatten().any(|text| text.to_lowercase().contains(needle)))
    })
}
