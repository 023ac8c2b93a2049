//! Sources: make, list, read, change, delete, restore, rotate; what they refused; the guide for whoever sends.

use std::num::NonZeroUsize;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};

use super::condition::expected_version;
use super::page::Query;
use super::source_view::{RejectionView, Told, View, etag};
use super::{Api, Call, Made, body, reply};
use crate::http::{Body, Problem, ProblemCode, Response};
use crate::inbound::source::{Source, SourceStatus};
use crate::limits::REJECTIONS_PER_SOURCE;
use crate::model::path::SOURCES;
use crate::service::SourceRef;
use crate::service::source::{SourceFilter, SourceKey, ToldSource};

impl Api {
    /// A partner's token and a secret that is made here are in this answer and in no other.
    pub(super) async fn create_source(&self, call: &Call) -> Result<Response, Problem> {
        let document = body::object(&call.parts.headers, &call.body, false)?;
        let draft = self.service.draft_source(&call.principal, document)?;
        let service = Arc::clone(&self.service);
        let make = async move {
            let made = service.create_source(draft).await?;
            let place = format!("{SOURCES}/{}", made.source.id);
            told(&made, |told| reply::made(StatusCode::CREATED, &place, told))
        };
        self.make(call, make).await
    }

    /// Filters: `status`, `kind`, `q` (in name and description), `deleted=true` (only those that are).
    pub(super) fn list_sources(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let filter = filter(&query)?;
        let found = self.service.list_sources(&call.principal, filter, page, query.cursor()?)?;
        query.rows(&found, |source| View::of(source, None))
    }

    /// One that is deleted is shown with `deleted=true`.
    pub(super) fn read_source(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let (who, key) = (&call.principal, key(&query, of));
        let source = if deleted(&query)? {
            self.service.read_deleted_source(who, key)?
        } else {
            self.service.read_source(who, key)?
        };
        let response = reply::json(StatusCode::OK, &View::of(&source, None))?;
        Ok(reply::tagged(&call.parts.headers, &etag(&source), response))
    }

    pub(super) async fn patch_source(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let (who, key) = (&call.principal, key(&query, of));
        self.service.may_change_source(who, key)?;
        let document = body::object(&call.parts.headers, &call.body, false)?;
        let expected = expected_version(&call.parts.headers);
        shown(&*self.service.patch_source(who, key, document, expected.as_ref()).await?)
    }

    pub(super) async fn delete_source(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let expected = expected_version(&call.parts.headers);
        self.service.delete_source(&call.principal, key(&query, of), expected.as_ref()).await?;
        Ok(reply::no_content())
    }

    /// Brings a deleted source back, with its token and secrets; one that is there is answered as it is.
    pub(super) async fn restore_source(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let expected = expected_version(&call.parts.headers);
        shown(&*self.service.restore_source(&call.principal, key(&query, of), expected.as_ref()).await?)
    }

    /// `{"overlap_seconds"?, "secret"?, "when"?}`: adds a secret; those before end after the overlap. With `when`, of the
    /// secrets for such requests.
    pub(super) async fn rotate_secret(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let (who, key) = (&call.principal, key(&query, of));
        self.service.may_change_source(who, key)?;
        let document = body::object(&call.parts.headers, &call.body, true)?;
        let expected = expected_version(&call.parts.headers);
        let draft = self.service.draft_source_secret(who, key, document, expected.as_ref())?;
        let service = Arc::clone(&self.service);
        let make = async move {
            let rotated = service.rotate_source_secret(draft).await?;
            told(&rotated, |told| reply::json(StatusCode::OK, told))
        };
        self.make(call, make).await
    }

    /// `{"token"?}`: another token for a partner; the one before ends at once.
    pub(super) async fn rotate_token(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let (who, key) = (&call.principal, key(&query, of));
        self.service.may_change_source(who, key)?;
        let document = body::object(&call.parts.headers, &call.body, true)?;
        let expected = expected_version(&call.parts.headers);
        let draft = self.service.draft_source_token(who, key, document, expected.as_ref())?;
        let service = Arc::clone(&self.service);
        let make = async move {
            let rotated = service.rotate_source_token(draft).await?;
            told(&rotated, |told| reply::json(StatusCode::OK, told))
        };
        self.make(call, make).await
    }

    pub(super) fn guide(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let source = self.service.read_source(&call.principal, key(&query, of))?;
        let mut response = Response::new(Body::from(source.guide(None)));
        let markdown = HeaderValue::from_static("text/markdown; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, markdown);
        Ok(response)
    }

    /// What the source refused since the server's start, newest first.
    pub(super) fn list_rejections(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let limit = query.parse::<NonZeroUsize>("limit", "expected a number from 1")?;
        let limit = limit.map_or(REJECTIONS_PER_SOURCE, NonZeroUsize::get);
        let rejections = self.service.source_rejections(&call.principal, key(&query, of), limit)?;
        let rows: Vec<_> = rejections.into_iter().map(RejectionView::from).collect();
        reply::list(&rows, None)
    }
}

fn key<'a>(query: &'a Query, of: SourceRef<'a>) -> SourceKey<'a> {
    SourceKey { of, tenant: query.tenant() }
}

fn shown(source: &Source) -> Result<Response, Problem> {
    let mut response = reply::json(StatusCode::OK, &View::of(source, None))?;
    reply::set(&mut response, ETAG, &etag(source));
    Ok(response)
}

/// The answer with what is told once, and the one without it.
fn told(
    ToldSource { source, token, secret }: &ToldSource,
    answer: impl Fn(&Told) -> Result<Response, Problem>,
) -> Result<Made, Problem> {
    let answer = |is_first: bool| {
        let (token, secret) = (token.as_ref().filter(|_| is_first), secret.as_ref().filter(|_| is_first));
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
    Ok(Made { answer: answer(true)?, remembered: Some(answer(false)?) })
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
