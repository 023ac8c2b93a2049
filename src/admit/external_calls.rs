//! External calls that a request of a source may need.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use url::Url;

use crate::model::{Secret, SourceId};
use crate::signature::{Certificate, KeySet, KeySetRequest};

/// The future of an external call. It runs on the worker that waits for it.
pub type ExternalCall<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Calls to other systems. They are rare, and the request waits for each of them.
pub trait ExternalCalls: Debug + Send + Sync + 'static {
    /// Returns the certificate at this URL, usually from a cache. The signature scheme has already checked that the URL
    /// belongs to the provider.
    ///
    /// # Errors
    /// When the certificate cannot be fetched or is invalid.
    fn certificate<'a>(&'a self, url: &'a Url) -> ExternalCall<'a, Result<Arc<Certificate>, ExternalCallError>>;

    /// Returns the public keys of a token, usually from a cache. Keys without the wanted one are fetched again after a
    /// while.
    ///
    /// # Errors
    /// When the keys cannot be fetched or read.
    fn key_set<'a>(&'a self, wanted: &'a KeySetRequest) -> ExternalCall<'a, Result<Arc<KeySet>, ExternalCallError>>;

    /// Sends an HTTPS GET through the egress guard. The response body is ignored.
    ///
    /// # Errors
    /// When the request fails or its response is not a success.
    fn get_url<'a>(&'a self, url: &'a Url) -> ExternalCall<'a, Result<(), ExternalCallError>>;

    /// Stores the secret that a provider sent to a source without a secret. The secret is durable when the call succeeds.
    ///
    /// # Errors
    /// When the secret cannot be stored.
    fn store_secret(&self, source: SourceId, secret: Secret) -> ExternalCall<'_, Result<(), ExternalCallError>>;
}

/// Why an external call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExternalCallError {
    /// The call may succeed later.
    #[error("{0}")]
    Temporary(Box<str>),
    /// The call will not succeed.
    #[error("{0}")]
    Permanent(Box<str>),
}
