//! The external calls of admit: downloads certificates and visits confirmation URLs, and stores secrets in the
//! registry.

use std::sync::Arc;

use rustls::ClientConfig;
use url::Url;

use crate::admit::{ExternalCall, ExternalCallError, ExternalCalls};
use crate::model::{Secret, SourceId};
use crate::outbound::SharedEgressGuard;
use crate::registry::{SourceError, Writer};
use crate::runtime::Clock;
use crate::send::{CertificateCache, DnsResolver, Fetcher, KeyDocumentCache};
use crate::signature::{Certificate, KeySet, KeySetRequest};

/// Makes the calls over the network and through the registry's writer.
pub(super) struct NetworkCalls {
    fetcher: Arc<Fetcher>,
    certificates: CertificateCache,
    key_sets: KeyDocumentCache<KeySet>,
    writer: Writer,
}

impl NetworkCalls {
    /// Creates the calls. They obey the rules of the egress guard.
    pub(super) fn new(
        guard: &SharedEgressGuard,
        tls: Arc<ClientConfig>,
        dns: DnsResolver,
        writer: Writer,
        clock: Clock,
    ) -> Self {
        let fetcher = Arc::new(Fetcher::new(Arc::clone(guard), tls, dns));
        let certificates = CertificateCache::new(Arc::clone(&fetcher), clock.clone());
        Self { certificates, key_sets: KeyDocumentCache::new(Arc::clone(&fetcher), clock), fetcher, writer }
    }
}

impl std::fmt::Debug for NetworkCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NetworkCalls")
    }
}

fn failed(is_temporary: bool, why: &impl ToString) -> ExternalCallError {
    let why = why.to_string().into();
    if is_temporary { ExternalCallError::Temporary(why) } else { ExternalCallError::Permanent(why) }
}

impl ExternalCalls for NetworkCalls {
    fn certificate<'a>(&'a self, url: &'a Url) -> ExternalCall<'a, Result<Arc<Certificate>, ExternalCallError>> {
        Box::pin(async { self.certificates.get(url).await.map_err(|why| failed(why.is_temporary(), &why)) })
    }

    fn key_set<'a>(&'a self, wanted: &'a KeySetRequest) -> ExternalCall<'a, Result<Arc<KeySet>, ExternalCallError>> {
        Box::pin(async {
            let has_key = |set: &KeySet| set.has_key(&wanted.alg, wanted.key_id.as_deref());
            let found = self.key_sets.get_with(&wanted.name(), (&wanted.url, wanted.body.as_ref()), has_key).await;
            found.map_err(|why| failed(why.is_temporary(), &why))
        })
    }

    fn get_url<'a>(&'a self, url: &'a Url) -> ExternalCall<'a, Result<(), ExternalCallError>> {
        Box::pin(async {
            let fetched = self.fetcher.get(url).await;
            fetched.map(drop).map_err(|why| failed(why.is_temporary(), &why))
        })
    }

    fn store_secret(&self, source: SourceId, secret: Secret) -> ExternalCall<'_, Result<(), ExternalCallError>> {
        Box::pin(async move {
            let learned = self.writer.learn_secret(source, secret).await;
            learned.map(drop).map_err(|why| failed(matches!(why, SourceError::Unavailable(_)), &why))
        })
    }
}
