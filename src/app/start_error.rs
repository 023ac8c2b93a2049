//! Errors of the start.

use std::io;
use std::path::Path;

use crate::storage::delivery;
use crate::{commit, http, registry, send, settle};

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// An error of the operating system.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The data folder cannot be created.
    #[error("the data folder {path}: {source}")]
    DataDir {
        /// The data folder.
        path: std::path::PathBuf,
        /// The error.
        source: io::Error,
    },
    /// Another server uses the data folder.
    #[error("another server has the data folder {path} open")]
    InUse {
        /// The data folder.
        path: std::path::PathBuf,
    },
    /// state.redb or the history cannot be opened.
    #[error(transparent)]
    State(#[from] settle::OpenSettleError),
    /// The log cannot be opened.
    #[error("the log: {0}")]
    Log(#[from] commit::OpenCommitError),
    /// registry.redb or a key file cannot be opened.
    #[error("the registry: {0}")]
    Registry(#[from] registry::RegistryStoreError),
    /// admin.key cannot be read or written.
    #[error("the admin key: {0}")]
    AdminKey(#[from] registry::KeyFileError),
    /// `egress.ca_file` cannot be used.
    #[error("egress.ca_file: {0}")]
    Tls(#[from] send::TlsError),
    /// The server cannot listen on an address.
    #[error(transparent)]
    Bind(#[from] http::BindError),
    /// The table of routes has an error.
    #[error("the routes: {0}")]
    Routes(#[from] http::router::RouteError),
    /// Two metrics have the same name.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl StartError {
    /// state.redb is the first file that the server opens and locks, so this error can mean that another server runs.
    pub(super) fn of_state(error: delivery::OpenStoreError, dir: &Path) -> Self {
        if error.is_in_use() { Self::InUse { path: dir.to_owned() } } else { Self::State(error.into()) }
    }
}
