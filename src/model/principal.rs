//! Who is asking.

use std::sync::Arc;

use super::{Role, Visibility};

/// Who asks.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The tenant; `None`: any (`*`).
    pub tenant: Option<Arc<str>>,
    /// What it may do.
    pub role: Role,
    /// The user on whose behalf it acts: `sub` of a JWT, or what a trusted proxy says; `None` for a key.
    pub user: Option<Arc<str>>,
    /// Who it is in the audit log: `key_…`, `user 42`, `the first key`; never a secret.
    pub name: Arc<str>,
    /// What it sees of its tenant, if it is not an admin.
    pub visibility: Visibility,
    /// The request that it asks in, for the audit log.
    pub request_id: Option<Arc<str>>,
}

impl Principal {
    /// Somebody who is nobody in particular.
    pub fn new(tenant: Option<Arc<str>>, role: Role) -> Self {
        Self { tenant, role, user: None, name: "".into(), visibility: Visibility::default(), request_id: None }
    }

    /// Whether it sees a webhook of its tenant whose user this is.
    pub fn sees_user(&self, user_id: Option<&str>) -> bool {
        let is_own = || self.user.is_some() && self.user.as_deref() == user_id;
        self.visibility == Visibility::Tenant || self.role == Role::Admin || is_own()
    }
}
