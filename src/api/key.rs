//! API keys: create, list, read, revoke. The text of a key is shown only in the response to its creation.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::idempotency::encode;
use super::page::Query;
use super::{Api, ClaimResult, ManagementRequest, body, reply};
use crate::http::{Problem, ProblemCode, Response};
use crate::model::path::KEYS;
use crate::model::{KeyId, Role, Timestamp};
use crate::registry::Key;
use crate::service::key::{CreatedKey, KeyFilter};
use crate::service::{ResponseRecorder, ResponseStore};

/// An API key as JSON, without its text.
#[derive(Serialize)]
struct View<'a> {
    id: String,
    name: Option<&'a str>,
    prefix: &'a str,
    role: Role,
    /// `*` for a key of all tenants.
    tenant: &'a str,
    created_at: Timestamp,
    created_by: &'a str,
    expires_at: Option<Timestamp>,
}

/// The response to the creation of a key.
#[derive(Serialize)]
struct CreatedKeyView<'a> {
    #[serde(flatten)]
    view: View<'a>,
    /// The text of the key, shown only once.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

impl<'a> View<'a> {
    fn of(key: &'a Key) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name.as_deref(),
            prefix: &key.prefix,
            role: key.role,
            tenant: key.tenant.as_deref().unwrap_or("*"),
            created_at: key.created_at,
            created_by: &key.created_by,
            expires_at: key.expires_at,
        }
    }
}

/// The response to the creation of a key. `shown` is the text of the key.
fn created(key: &Key, shown: Option<&str>) -> Result<Response, Problem> {
    let location = format!("{KEYS}/{}", key.id);
    reply::created(StatusCode::CREATED, &location, &CreatedKeyView { view: View::of(key), key: shown })
}

impl Api {
    pub(super) async fn create_key(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let document = body::object(&request.parts.headers, &request.body, false)?;
        let draft = self.service.draft_key(&request.principal, document)?;
        let service = Arc::clone(&self.service);
        let record = ResponseRecorder::new(claim.key(), |key: &Arc<Key>| encode(created(key, None)));
        let work = async move {
            let CreatedKey { key, secret } = service.create_key(draft, record).await?;
            created(&key, Some(secret.reveal()))
        };
        self.complete(claim, work).await
    }

    /// Lists keys. Filters: `tenant`, for a key of tenant `*`; `role`.
    pub(super) fn list_keys(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let page = query.page()?;
        let role = match query.get("role") {
            None => None,
            Some(word) => Some(Role::from_word(word).ok_or_else(|| {
                let detail = format!("query parameter role: expected {}", Role::WORDS);
                Problem::new(ProblemCode::InvalidRequest, detail)
            })?),
        };
        let filter = KeyFilter { tenant: query.tenant(), role };
        let found = self.service.list_keys(&request.principal, filter, page, query.cursor()?)?;
        query.rows(&found, |key| View::of(key))
    }

    pub(super) fn read_key(&self, request: &ManagementRequest, id: KeyId) -> Result<Response, Problem> {
        let key = self.service.read_key(&request.principal, id)?;
        reply::json_with_etag(&request.parts.headers, &View::of(&key))
    }

    /// Revokes a key. It takes effect immediately.
    pub(super) async fn revoke_key(&self, request: &ManagementRequest, id: KeyId) -> Result<Response, Problem> {
        self.service.revoke_key(&request.principal, id).await?;
        Ok(reply::no_content())
    }
}
