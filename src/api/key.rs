//! API keys: make, list, read, revoke. A key is shown by the answer that made it, and never again.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::page::Query;
use super::source_body::text;
use super::webhook::tenant_of;
use super::webhook_fields::{Fields, NAME_CHARS_MAX};
use super::{Api, Call, Made, body, reply, sees};
use crate::http::{Problem, ProblemCode, Response};
use crate::model::path::KEYS;
use crate::model::{DEFAULT_TENANT, KeyId, Principal, Role, TENANT_NAME_ALLOWED, Timestamp, is_tenant_name};
use crate::registry::{AccessError, Key, NewKey};

const ALLOWED: &str = "name, role, tenant, org_id, expires_at";

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
        let mut fields = Fields::new(body::object(&call.parts.headers, &call.body, false)?);
        let key = self.new_key(&mut fields, &call.principal);
        fields.finish(ALLOWED)?;
        let writer = self.writer.by(&call.principal);
        let make = async move {
            let (key, secret) = writer.create_key(key).await?;
            let place = format!("{KEYS}/{}", key.id);
            let answer =
                |shown| reply::made(StatusCode::CREATED, &place, &Created { view: View::of(&key), key: shown });
            Ok(Made { answer: answer(Some(secret.reveal()))?, remembered: answer(None)? })
        };
        self.make(call, make).await
    }

    /// Nobody grants more than is theirs: no role above their own, no tenant but their own.
    fn new_key(&self, fields: &mut Fields, principal: &Principal) -> NewKey {
        let name = text(fields, "name").map(String::into_boxed_str);
        if name.as_deref().is_some_and(|name| !(1..=NAME_CHARS_MAX).contains(&name.chars().count())) {
            fields.wrong("/name", format!("expected 1 to {NAME_CHARS_MAX} characters"));
        }
        let role = match fields.left.remove("role") {
            None | Some(Value::Null) => {
                fields.wrong("/role", format!("is required: {}", Role::WORDS));
                None
            }
            Some(value) => {
                let role = value.as_str().and_then(Role::from_word);
                if role.is_none() {
                    fields.wrong("/role", format!("expected {}", Role::WORDS));
                }
                role
            }
        };
        if role.is_some_and(|role| role > principal.role) {
            fields.wrong("/role", "nobody grants a role above their own");
        }
        let expires_at = text(fields, "expires_at").and_then(|text| {
            let at = text.parse::<Timestamp>().ok().filter(|at| *at > self.clock.now());
            if at.is_none() {
                fields.wrong("/expires_at", "expected an RFC 3339 time to come, such as 2030-01-31T12:00:00Z");
            }
            at
        });
        let tenant = tenant(fields, principal);
        NewKey { name, role: role.unwrap_or(Role::Viewer), tenant, expires_at }
    }

    /// Filters: `tenant`, for a key of tenant `*`; `role`.
    pub(super) fn list_keys(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let tenant = tenant_of(&call.principal, &query)?;
        let role = match query.get("role") {
            None => None,
            Some(word) => Some(Role::from_word(word).ok_or_else(|| {
                let detail = format!("query parameter role: expected {}", Role::WORDS);
                Problem::new(ProblemCode::InvalidRequest, detail)
            })?),
        };
        let before = query.cursor::<KeyId>()?.unwrap_or(KeyId::from_u128(u128::MAX));
        let registry = self.registry.load();
        let wanted = registry.keys(tenant, before).filter(|key| role.is_none_or(|role| key.role == role));
        let (rows, more) = page.cut(wanted.take(page.wanted()).collect::<Vec<_>>());
        let next = rows.last().filter(|_| more).map(|key| query.next(&key.id));
        let rows: Vec<_> = rows.into_iter().map(|key| View::of(key)).collect();
        reply::list(&rows, next.as_ref())
    }

    pub(super) fn read_key(&self, call: &Call, id: KeyId) -> Result<Response, Problem> {
        reply::read(&call.parts.headers, &View::of(&*self.key(&call.principal, id)?))
    }

    /// Takes a key out of force, at once.
    pub(super) async fn revoke_key(&self, call: &Call, id: KeyId) -> Result<Response, Problem> {
        self.key(&call.principal, id)?;
        self.writer.by(&call.principal).revoke_key(id).await?;
        Ok(reply::no_content())
    }

    /// The key, if it is there for the caller; one of tenant `*` is for its like alone.
    fn key(&self, principal: &Principal, id: KeyId) -> Result<Arc<Key>, Problem> {
        let key = self.registry.load().key(id).cloned();
        let is_seen =
            |key: &Arc<Key>| principal.tenant.is_none() || key.tenant.as_deref().is_some_and(|t| sees(principal, t));
        key.filter(is_seen).ok_or_else(|| Problem::not_found("key"))
    }
}

/// Whose the key is to be; `None`: everybody's.
fn tenant(fields: &mut Fields, principal: &Principal) -> Option<Arc<str>> {
    let mut named: Option<String> = None;
    for key in ["tenant", "org_id"] {
        let Some(name) = text(fields, key) else { continue };
        let pointer = body::pointer(key);
        if named.as_ref().is_some_and(|other| *other != name) {
            fields.wrong(pointer, "contradicts tenant");
        } else if name != "*" && !is_tenant_name(&name) {
            fields.wrong(pointer, format!("expected {TENANT_NAME_ALLOWED}; or * for all"));
        } else if principal.tenant.as_deref().is_some_and(|own| *own != name) {
            fields.wrong(pointer, "only a key of tenant * may name another tenant");
        } else {
            named = Some(name);
        }
    }
    match named.as_deref() {
        Some("*") => None,
        Some(name) => Some(name.into()),
        None => Some(principal.tenant.clone().unwrap_or_else(|| DEFAULT_TENANT.into())),
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        let code = match error {
            AccessError::NoKey => return Self::not_found("key"),
            AccessError::TooMany | AccessError::TenantExists => ProblemCode::Conflict,
            AccessError::ManagedByFile => ProblemCode::ManagedByFile,
            AccessError::Unavailable(error) => return error.into(),
        };
        Self::new(code, error.to_string())
    }
}
