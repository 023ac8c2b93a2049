//! The keys in force: those that are configured, and the admin key of the data folder.

use crate::config::{ApiKey, Config, Role};
use crate::model::Secret;
use crate::registry::{self, KeyFileError};

/// The key of the first start.
pub(super) struct AdminKey {
    secret: Secret,
    is_new: bool,
}

impl AdminKey {
    /// The key, if this start made it.
    pub(super) fn first_shown(&self) -> Option<&str> {
        self.is_new.then(|| self.secret.reveal())
    }

    /// The key as one of those in force.
    pub(super) fn as_api_key(&self) -> ApiKey {
        ApiKey { key: self.secret.clone(), tenant: None, role: Role::Admin }
    }
}

/// The configured keys, and the admin key: made at the first start of a folder for which none is configured.
pub(super) fn keys(config: &Config) -> Result<(Option<AdminKey>, Vec<ApiKey>), KeyFileError> {
    let mut keys = config.auth.api_keys.clone();
    let dir = &config.server.data_dir;
    if !keys.is_empty() && !dir.join("admin.key").exists() {
        return Ok((None, keys));
    }
    let (secret, is_new) = registry::admin_key(dir)?;
    let admin = AdminKey { secret, is_new };
    keys.push(admin.as_api_key());
    Ok((Some(admin), keys))
}
