use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::Role;
use crate::model::WebhookNo;

/// A small world: keys named after their roles, tenants `default` and `acme`, and one webhook for each event.
#[derive(Debug, Default, Clone)]
pub(super) struct Fake;

impl Directory for Fake {
    fn authenticate(&self, key: &str) -> Option<Principal> {
        let (role, tenant) = match key {
            "viewer" => (Role::Viewer, Some("default".into())),
            "publisher" => (Role::Publisher, Some("default".into())),
            "admin" => (Role::Admin, None),
            _ => return None,
        };
        Some(Principal { tenant, role })
    }

    fn has_tenant(&self, name: &str) -> bool {
        matches!(name, "default" | "acme")
    }

    fn matching(&self, _tenant: &str, _event_type: &str) -> Webhooks {
        Webhooks::from_slice(&[WebhookNo(1)])
    }
}
