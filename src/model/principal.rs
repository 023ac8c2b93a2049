//! The authenticated caller of a request.

use std::sync::Arc;

use super::{Role, Visibility};

/// The authenticated caller of a request.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The tenant of the caller; `None` means any tenant (`*`).
    pub tenant: Option<Arc<str>>,
    /// The role, which decides what the caller may do.
    pub role: Role,
    /// The user that the caller acts for: the `sub` claim of a JWT, or the user that a trusted proxy names. `None` for
    /// an API key.
    pub user: Option<Arc<str>>,
    /// The name of the caller in the audit log, such as `key_…`, `user 42` or `the first key`. Never a secret.
    pub name: Arc<str>,
    /// Which webhooks of the tenant the caller sees. An admin sees all.
    pub visibility: Visibility,
    /// The id of the request, for the audit log.
    pub request_id: Option<Arc<str>>,
}

impl Principal {
    /// Creates a caller without a user, a name and a request id.
    pub fn new(tenant: Option<Arc<str>>, role: Role) -> Self {
        Self { tenant, role, user: None, name: "".into(), visibility: Visibility::default(), request_id: None }
    }

    /// Whether the caller sees a webhook of its tenant that belongs to this user.
    pub fn sees_user(&self, user_id: Option<&str>) -> bool {
        let is_own = || self.user.is_some() && self.user.as_deref() == user_id;
        self.visibility == Visibility::Tenant || self.role == Role::Admin || is_own()
    }
}
