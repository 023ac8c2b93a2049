//! Sources: create, list, read, change, delete, restore, rotate secret and token, rejections, and the guide for the sender.

use std::num::NonZeroUsize;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};

use super::condition::expected_version;
use super::idempotency::encode;
use super::page::Query;
use super::source_view::{CreatedSourceView, RejectionView, View, etag};
use super::{Api, ClaimResult, ManagementRequest, body, reply};
use crate::http::{Body, Problem, ProblemCode, Response};
use crate::inbound::source::{Source, SourceStatus};
use crate::limits::REJECTIONS_PER_SOURCE;
use crate::model::path::SOURCES;
use crate::service::source::{SourceFilter, SourceKey, SourceWithSecrets};
use crate::service::{ResponseRecorder, ResponseStore, SourceRef};

impl Api {
    /// Creates a source. Only this response contains the token of a partner and a generated secret.
    pub(super) async fn create_source(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let document = body::object(&request.parts.headers, &request.body, false)?;
        let draft = self.service.draft_source(&request.principal, document)?;
        let service = Arc::clone(&self.service);
        let record = ResponseRecorder::new(claim.key(), |source| encode(created(&without_secrets(source))));
        let work = async move { created(&service.create_source(draft, record).await?) };
        self.complete(claim, work).await
    }

    /// Lists sources. Filters: `status`, `kind`, `q` (in name and description), `deleted=true` (only deleted sources).
    pub(super) fn list_sources(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let page = query.page()?;
        let filter = filter(&query)?;
        let found = self.service.list_sources(&request.principal, filter, page, query.cursor()?)?;
        query.rows(&found, |source| View::of(source, None))
    }

    /// Reads a source. With `deleted=true`, reads a deleted source.
    pub(super) fn read_source(&self, request: &ManagementRequest, of: SourceRef<'_>) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let (who, key) = (&request.principal, key(&query, of));
        let source = if deleted(&query)? {
            self.service.read_deleted_source(who, key)?
        } else {
            self.service.read_source(who, key)?
        };
        let view = View::of(&source, None).with_verification_token(self.service.secret_to_paste(who, &source));
        let response = reply::json(StatusCode::OK, &view)?;
        Ok(reply::with_etag(&request.parts.headers, &etag(&source), response))
    }

    pub(super) async fn patch_source(
        &self,
        request: &ManagementRequest,
        of: SourceRef<'_>,
    ) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let (who, key) = (&request.principal, key(&query, of));
        self.service.may_change_source(who, key)?;
        let document = body::object(&request.parts.headers, &request.body, false)?;
        let expected = expected_version(&request.parts.headers);
        view_response(&*self.service.patch_source(who, key, document, expected.as_ref()).await?)
    }

    pub(super) async fn delete_source(
        &self,
        request: &ManagementRequest,
        of: SourceRef<'_>,
    ) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let expected = expected_version(&request.parts.headers);
        self.service.delete_source(&request.principal, key(&query, of), expected.as_ref()).await?;
        Ok(reply::no_content())
    }

    /// Restores a deleted source with its token and secrets. A source that is not deleted is returned unchanged.
    pub(super) async fn restore_source(
        &self,
        request: &ManagementRequest,
        of: SourceRef<'_>,
    ) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let (who, key) = (&request.principal, key(&query, of));
        self.service.restorable_source(who, key)?;
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let expected = expected_version(&request.parts.headers);
        let record = ResponseRecorder::new(claim.key(), |source: &Arc<Source>| encode(view_response(source)));
        view_response(&*self.service.restore_source(who, key, expected.as_ref(), record).await?)
    }

    /// Adds a secret. Body: `{"overlap_seconds"?, "secret"?, "when"?}`. Older secrets expire after the overlap. With
    /// `when`, only the secrets for such requests are rotated.
    pub(super) async fn rotate_secret(
        &self,
        request: &ManagementRequest,
        of: SourceRef<'_>,
    ) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let (who, key) = (&request.principal, key(&query, of));
        self.service.may_change_source(who, key)?;
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let document = body::object(&request.parts.headers, &request.body, true)?;
        let expected = expected_version(&request.parts.headers);
        let draft = self.service.draft_source_secret(who, key, document, expected.as_ref())?;
        let service = Arc::clone(&self.service);
        let record = ResponseRecorder::new(claim.key(), |source| encode(rotated(&without_secrets(source))));
        let work = async move { rotated(&service.rotate_source_secret(draft, record).await?) };
        self.complete(claim, work).await
    }

    /// Removes the secret that a handshake brought. The next handshake brings another one.
    pub(super) async fn forget_secret(
        &self,
        request: &ManagementRequest,
        of: SourceRef<'_>,
    ) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let (who, key) = (&request.principal, key(&query, of));
        self.service.source_with_secret(who, key)?;
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let expected = expected_version(&request.parts.headers);
        let record = ResponseRecorder::new(claim.key(), |source: &Arc<Source>| encode(view_response(source)));
        view_response(&*self.service.forget_source_secret(who, key, expected.as_ref(), record).await?)
    }

    /// Replaces the token of a partner. Body: `{"token"?}`. The old token expires immediately.
    pub(super) async fn rotate_token(
        &self,
        request: &ManagementRequest,
        of: SourceRef<'_>,
    ) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let (who, key) = (&request.principal, key(&query, of));
        self.service.may_change_source(who, key)?;
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let document = body::object(&request.parts.headers, &request.body, true)?;
        let expected = expected_version(&request.parts.headers);
        let draft = self.service.draft_source_token(who, key, document, expected.as_ref())?;
        let service = Arc::clone(&self.service);
        let record = ResponseRecorder::new(claim.key(), |source| encode(rotated(&without_secrets(source))));
        let work = async move { rotated(&service.rotate_source_token(draft, record).await?) };
        self.complete(claim, work).await
    }

    pub(super) fn guide(&self, request: &ManagementRequest, of: SourceRef<'_>) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let source = self.service.read_source(&request.principal, key(&query, of))?;
        let mut response = Response::new(Body::from(source.guide(None)));
        let markdown = HeaderValue::from_static("text/markdown; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, markdown);
        Ok(response)
    }

    /// Lists the refused requests of a source since the start of the server, newest first.
    pub(super) fn list_rejections(&self, request: &ManagementRequest, of: SourceRef<'_>) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let limit = query.parse::<NonZeroUsize>("limit", "expected a number from 1")?;
        let limit = limit.map_or(REJECTIONS_PER_SOURCE, NonZeroUsize::get);
        let rejections = self.service.source_rejections(&request.principal, key(&query, of), limit)?;
        let rows: Vec<_> = rejections.into_iter().map(RejectionView::from).collect();
        reply::list(&rows, None)
    }
}

fn key<'a>(query: &'a Query, of: SourceRef<'a>) -> SourceKey<'a> {
    SourceKey { of, tenant: query.tenant() }
}

fn view_response(source: &Source) -> Result<Response, Problem> {
    let mut response = reply::json(StatusCode::OK, &View::of(source, None))?;
    reply::set_header(&mut response, ETAG, &etag(source));
    Ok(response)
}

/// The response to a creation.
fn created(of: &SourceWithSecrets) -> Result<Response, Problem> {
    let location = format!("{SOURCES}/{}", of.source.id);
    with_secrets(of, |view| reply::created(StatusCode::CREATED, &location, view))
}

/// The response to a rotation.
fn rotated(of: &SourceWithSecrets) -> Result<Response, Problem> {
    with_secrets(of, |view| reply::json(StatusCode::OK, view))
}

/// What the stored response shows: the source without its new token and secret.
fn without_secrets(source: &Arc<Source>) -> SourceWithSecrets {
    SourceWithSecrets { source: Arc::clone(source), token: None, secret: None }
}

fn with_secrets(
    SourceWithSecrets { source, token, secret }: &SourceWithSecrets,
    answer: impl Fn(&CreatedSourceView) -> Result<Response, Problem>,
) -> Result<Response, Problem> {
    let token = token.as_ref();
    let mut response = answer(&CreatedSourceView {
        source: View::of(source, token),
        token: token.map(|token| token.reveal().to_owned()),
        secret: secret.as_ref().map(|secret| secret.reveal().to_owned()),
        guide: token.map(|token| source.guide(Some(token))),
    })?;
    reply::set_header(&mut response, ETAG, &etag(source));
    Ok(response)
}

fn deleted(query: &Query) -> Result<bool, Problem> {
    query.parse("deleted", "expected true or false").map(Option::unwrap_or_default)
}

fn filter(query: &Query) -> Result<SourceFilter<'_>, Problem> {
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
    Ok(SourceFilter {
        tenant: query.tenant(),
        status,
        kind: query.get("kind"),
        text: query.get("q"),
        is_deleted: deleted(query)?,
    })
}
