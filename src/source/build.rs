//! From settings to a source.

use std::sync::Arc;

use super::{Breach, ManagedBy, Settings, Source, TokenHash};
use crate::model::{SourceId, Timestamp};

/// What a source has that is not a setting.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its public id.
    pub id: SourceId,
    /// Its tenant.
    pub tenant: Arc<str>,
    /// Who may change it.
    pub managed_by: ManagedBy,
    /// Of a partner.
    pub token: Option<TokenHash>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub modified_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// Rises with each change.
    pub version: u64,
}

impl Source {
    /// A source of these settings; secrets that stand in the environment or a file have been read into `value` by now.
    /// `public_url` is `server.public_url`, or the first listener's address.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn build(_settings: Settings, _identity: Identity, _public_url: &str) -> Result<Self, Vec<Breach>> {
        Err(Vec::new())
    }
}
