//! What the way in asks of others: certificates and confirmations over the network, secrets for the registry.

use std::sync::Arc;

use rustls::ClientConfig;
use url::Url;

use crate::admit::{CallFailed, ExternalCall, ExternalCalls};
use crate::model::{Secret, SourceId};
use crate::outbound::SharedGuard;
use crate::registry::{SourceError, Writer};
use crate::runtime::Clock;
use crate::send::{Certificates, Fetcher};
use crate::signature::Certificate;

/// See the module.
pub(super) struct NetworkCalls {
    certificates: Certificates,
    writer: Writer,
}

impl NetworkCalls {
    /// Reaches out by the guard's rules, and changes the registry by its writer.
    pub(super) fn new(guard: &SharedGuard, tls: Arc<ClientConfig>, writer: Writer, clock: Clock) -> Self {
        Self { certificates: Certificates::new(Fetcher::new(Arc::clone(guard), tls), clock), writer }
    }
}

impl std::fmt::Debug for NetworkCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

fn failed(is_temporary: bool, why: &impl ToString) -> CallFailed {
    let why = why.to_string().into();
    if is_temporary { CallFailed::Later(why) } else { CallFailed::Never(why) }
}

impl ExternalCalls for NetworkCalls {
    fn certificate<'a>(&'a self, url: &'a Url) -> ExternalCall<'a, Result<Arc<Certificate>, CallFailed>> {
        Box::pin(async { self.certificates.get(url).await.map_err(|why| failed(why.is_temporary(), &why)) })
    }

    fn visit<'a>(&'a self, url: &'a Url) -> ExternalCall<'a, Result<(), CallFailed>> {
        Box::pin(async {
            let fetched = self.certificates.fetcher().get(url).await;
            fetched.map(drop).map_err(|why| failed(why.is_temporary(), &why))
        })
    }

    fn learn(&self, source: SourceId, secret: Secret) -> ExternalCall<'_, Result<(), CallFailed>> {
        Box::pin(async move {
            let learned = self.writer.learn_secret(source, secret).await;
            learned.map(drop).map_err(|why| failed(matches!(why, SourceError::Unavailable(_)), &why))
        })
    }
}
