//! API keys: create, list, read, revoke. Only the result of [`Service::create_key`] contains the text of a key.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::access::{sees, tenant_of};
use super::fields::{DocumentFields, NAME_CHARS_MAX, pointer};
use super::{Error, ListPage, Operation, PageRequest, ResponseRecorder, Service};
use crate::model::{DEFAULT_TENANT, KeyId, Principal, Role, Secret, TENANT_NAME_ALLOWED, Timestamp, is_tenant_name};
use crate::registry::{ChangedResource, Key, NewKey};

const ALLOWED: &str = "name, role, tenant, org_id, expires_at";

/// A validated API key, ready to be created.
#[derive(Debug)]
pub struct KeyDraft {
    key: NewKey,
    by: Principal,
}

/// A new API key with its text.
#[derive(Debug)]
pub struct CreatedKey {
    /// The key.
    pub key: Arc<Key>,
    /// The text of the key. The server does not store the text.
    pub secret: Secret,
}

/// A filter for API keys. A field that is `None` matches everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyFilter<'a> {
    /// Keys of this tenant.
    pub tenant: Option<&'a str>,
    /// Keys with this role.
    pub role: Option<Role>,
}

impl Service {
    /// Validates the document of a new API key. Callers cannot grant a role above their own or access to another tenant
    /// than their own.
    ///
    /// # Errors
    /// If the role is too low. Invalid fields are listed by JSON pointer.
    pub fn draft_key(&self, principal: &Principal, document: Map<String, Value>) -> Result<KeyDraft, Error> {
        Operation::ChangeKeys.permit(principal.role)?;
        let mut fields = DocumentFields::new(document);
        let key = new_key(&mut fields, principal, self.clock.now());
        fields.finish(ALLOWED)?;
        Ok(KeyDraft { key, by: principal.clone() })
    }

    /// Creates an API key.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If there are too many keys, or the registry accepts no changes.
    pub async fn create_key(
        &self,
        draft: KeyDraft,
        record: Option<ResponseRecorder<Arc<Key>>>,
    ) -> Result<CreatedKey, Error> {
        let answer = record.map(|record| {
            record.of_change(|changed| match changed {
                ChangedResource::Key(key) => Some(Arc::clone(key)),
                _ => None,
            })
        });
        let (key, secret) = self.writer.on_behalf_of(&draft.by).recording(answer).create_key(draft.key).await?;
        Ok(CreatedKey { key, secret })
    }

    /// Lists the API keys that match the filter, newest first, starting before the key `before`.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not see the tenant.
    pub fn list_keys(
        &self,
        principal: &Principal,
        filter: KeyFilter<'_>,
        page: PageRequest,
        before: Option<KeyId>,
    ) -> Result<ListPage<Arc<Key>, KeyId>, Error> {
        Operation::ReadKeys.permit(principal.role)?;
        let tenant = tenant_of(principal, filter.tenant)?;
        let before = before.unwrap_or(KeyId::from_u128(u128::MAX));
        let registry = self.registry.load();
        let wanted = registry.keys(tenant, before).filter(|key| filter.role.is_none_or(|role| key.role == role));
        Ok(page.rows(wanted.take(page.fetch_limit()).cloned().collect(), None, |key| key.id))
    }

    /// Reads an API key. Only callers of tenant `*` see keys of tenant `*`.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not see the key.
    pub fn read_key(&self, principal: &Principal, id: KeyId) -> Result<Arc<Key>, Error> {
        Operation::ReadKeys.permit(principal.role)?;
        let key = self.registry.load().key(id).cloned();
        let is_seen =
            |key: &Arc<Key>| principal.tenant.is_none() || key.tenant.as_deref().is_some_and(|t| sees(principal, t));
        key.filter(is_seen).ok_or_else(|| Error::not_found("key"))
    }

    /// Revokes an API key. The key is invalid at once.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not see the key.
    pub async fn revoke_key(&self, principal: &Principal, id: KeyId) -> Result<(), Error> {
        Operation::ChangeKeys.permit(principal.role)?;
        self.read_key(principal, id)?;
        Ok(self.writer.on_behalf_of(principal).revoke_key(id).await?)
    }
}

fn new_key(fields: &mut DocumentFields, principal: &Principal, now: Timestamp) -> NewKey {
    let name = fields.plain_text("name").map(String::into_boxed_str);
    if name.as_deref().is_some_and(|name| !(1..=NAME_CHARS_MAX).contains(&name.chars().count())) {
        fields.wrong("/name", format!("expected 1 to {NAME_CHARS_MAX} characters"));
    }
    let role = match fields.unread.remove("role") {
        None | Some(Value::Null) => {
            fields.wrong("/role", "is required: publisher, viewer, member or admin");
            None
        }
        Some(value) => {
            let role = value.as_str().and_then(Role::from_word);
            if role.is_none() {
                fields.wrong("/role", "expected publisher, viewer, member or admin");
            }
            role
        }
    };
    if role.is_some_and(|role| role > principal.role) {
        fields.wrong("/role", "nobody grants a role above their own");
    }
    let expires_at = fields.plain_text("expires_at").and_then(|text| {
        let at = text.parse::<Timestamp>().ok().filter(|at| *at > now);
        if at.is_none() {
            fields.wrong("/expires_at", "expected an RFC 3339 time to come, such as 2030-01-31T12:00:00Z");
        }
        at
    });
    let tenant = tenant(fields, principal);
    NewKey { name, role: role.unwrap_or(Role::Viewer), tenant, expires_at }
}

/// The tenant of the new key; `None`: every tenant.
fn tenant(fields: &mut DocumentFields, principal: &Principal) -> Option<Arc<str>> {
    let mut named: Option<String> = None;
    for key in ["tenant", "org_id"] {
        let Some(name) = fields.plain_text(key) else { continue };
        let pointer = pointer(key);
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
