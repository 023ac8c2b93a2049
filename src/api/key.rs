//! API keys: make, list, read, revoke. Only the answer to the making of a key shows the key's text.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::page::Query;
use super::{Api, Call, Made, body, reply};
use crate::http::{Problem, ProblemCode, Response};
use crate::model::path::KEYS;
use crate::model::{KeyId, Role, Timestamp};
use crate::registry::Key;
use crate::service::key::{CreatedKey, KeyFilter};

/// A key without its text.
#[derive(Serialize)]
struct View<'a> {
    id: String,
    name: Option<&'a str>,
    prefix: &'a str,
    role: Role,
    /// `*`: all.
    tenant: &'a str,
    created_at: Timestamp,
    created_by: &'a str,
    expires_at: Option<Timestamp>,
}

/// The answer to the making of a key.
#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    view: View<'a>,
    /// Shown this once.
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

impl Api {
    pub(super) async fn create_key(&self, call: &Call) -> Result<Response, Problem> {
        let document = body::object(&call.parts.headers, &call.body, false)?;
        let draft = self.service.draft_key(&call.principal, document)?;
        let service = Arc::clone(&self.service);
        let make = async move {
            let CreatedKey { key, secret } = service.create_key(draft).await?;
            let place = format!("{KEYS}/{}", key.id);
            let answer =
                |shown| reply::made(StatusCode::CREATED, &place, &Created { view: View::of(&key), key: shown });
            Ok(Made { answer: answer(Some(secret.reveal()))?, remembered: Some(answer(None)?) })
        };
        self.make(call, make).await
    }

    /// Filters: `tenant`, for a key of tenant `*`; `role`.
    pub(super) fn list_keys(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let role = match query.get("role") {
            None => None,
            Some(word) => Some(Role::from_word(word).ok_or_else(|| {
                let detail = format!("query parameter role: expected {}", Role::WORDS);
                Problem::new(ProblemCode::InvalidRequest, detail)
            })?),
        };
        let filter = KeyFilter { tenant: query.tenant(), role };
        let found = self.service.list_keys(&call.principal, filter, page, query.cursor()?)?;
        query.rows(&found, |key| View::of(key))
    }

    pub(super) fn read_key(&self, call: &Call, id: KeyId) -> Result<Response, Problem> {
        let key = self.service.read_key(&call.principal, id)?;
        reply::read(&call.parts.headers, &View::of(&key))
    }

    /// Takes a key out of force, at once.
    pub(super) async fn revoke_key(&self, call: &Call, id: KeyId) -> Result<Response, Problem> {
        self.service.revoke_key(&call.principal, id).await?;
        Ok(reply::no_content())
    }
}
