//! What the way in asks of others on behalf of a source.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use url::Url;

use crate::model::{Secret, SourceId};
use crate::signature::Certificate;

/// An errand under way, on the worker that waits for it.
pub type ExternalCall<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Rare errands, each of which makes the request that asks for it wait.
pub trait ExternalCalls: Debug + Send + Sync + 'static {
    /// The certificate at this address, which the scheme has checked to be the provider's; from memory, as a rule.
    fn certificate<'a>(&'a self, url: &'a Url) -> ExternalCall<'a, Result<Arc<Certificate>, CallFailed>>;

    /// An HTTPS GET through the egress guard, of which only the success counts.
    fn visit<'a>(&'a self, url: &'a Url) -> ExternalCall<'a, Result<(), CallFailed>>;

    /// Gives a source that has no secret the one that its provider brought; durable when it says so.
    fn learn(&self, source: SourceId, secret: Secret) -> ExternalCall<'_, Result<(), CallFailed>>;
}

/// Why an errand failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFailed {
    /// It may go well later.
    #[error("{0}")]
    Later(Box<str>),
    /// It will not go well.
    #[error("{0}")]
    Never(Box<str>),
}
