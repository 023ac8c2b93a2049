//! A cache of the certificates that verify inbound requests. A request names the URL of its certificate.
//!
//! The caller checks that a URL belongs to the provider, but an unauthenticated client may have sent the request.
//! Therefore a URL is fetched only once at a time, failures are cached for a while, and after many failures nothing is
//! fetched. Cached certificates stay in use.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use url::Url;

use super::dns::DnsResolver;
use super::fetch::{FetchError, Fetcher};
use super::resolve::Resolve;
use crate::limits::{
    CERTIFICATE_FAILURES_MAX, CERTIFICATE_FETCHES, CERTIFICATE_RETRY, CERTIFICATE_TTL, CERTIFICATES_KEPT,
};
use crate::runtime::{Clock, Instant};
use crate::signature::{Certificate, CertificateError};

/// Fetches and caches certificates. All worker threads share it.
pub struct CertificateCache<R = DnsResolver> {
    fetcher: Fetcher<R>,
    clock: Clock,
    fetches: Semaphore,
    /// The contents of the slots, for readers without a lock.
    ready: ArcSwap<HashMap<Box<str>, Arc<CachedCertificate>>>,
    slots: Mutex<CertificateSlots>,
}

/// Why a certificate is not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateUnavailable {
    /// The certificate could not be fetched.
    #[error("it could not be fetched: {0}")]
    Fetch(#[from] FetchError),
    /// The fetched or configured text is not a usable certificate.
    #[error("not usable: {0}")]
    Form(#[from] CertificateError),
    /// Too many certificates are being fetched, or too many fetches failed.
    #[error("too many certificates are being fetched, or could not be")]
    Busy,
}

impl CertificateUnavailable {
    /// Whether the failure is temporary. The request could not be verified, and the sender should get a 503 and retry.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Fetch(why) => why.is_temporary(),
            Self::Form(_) => false,
            Self::Busy => true,
        }
    }
}

#[derive(Default)]
struct CertificateSlots {
    by_url: HashMap<Box<str>, Arc<CertificateSlot>>,
    /// The times of failed fetches, in order.
    failures: VecDeque<Instant>,
}

/// The cached result for a URL. Locked during a fetch, so that other requests for the same URL wait for it.
type CertificateSlot = tokio::sync::Mutex<Option<Arc<CachedCertificate>>>;

struct CachedCertificate {
    result: Result<Arc<Certificate>, CertificateUnavailable>,
    /// The result expires at this time.
    until: Instant,
}

impl<R: Resolve> CertificateCache<R> {
    /// An empty cache over this fetcher.
    pub fn new(fetcher: Fetcher<R>, clock: Clock) -> Self {
        let at_once = Semaphore::new(CERTIFICATE_FETCHES);
        Self { fetcher, clock, fetches: at_once, ready: ArcSwap::default(), slots: Mutex::default() }
    }

    /// The fetcher, for other downloads.
    pub fn fetcher(&self) -> &Fetcher<R> {
        &self.fetcher
    }

    /// The certificate at a URL. The caller must have checked that the URL belongs to the provider.
    ///
    /// # Errors
    /// If the certificate is not available. The request can then be neither accepted nor rejected.
    pub async fn get(&self, url: &Url) -> Result<Arc<Certificate>, CertificateUnavailable> {
        if let Some(ready) = self.ready.load().get(url.as_str())
            && self.clock.instant() < ready.until
        {
            return ready.result.clone();
        }
        let slot = self.slot(url)?;
        let mut known = slot.lock().await;
        if let Some(known) = &*known
            && self.clock.instant() < known.until
        {
            return known.result.clone();
        }
        let now = match self.fetch(url).await {
            Ok(certificate) => {
                let left = certificate.not_after().since(self.clock.now());
                let until = self.clock.instant() + left.clamp(CERTIFICATE_RETRY, CERTIFICATE_TTL);
                CachedCertificate { result: Ok(Arc::new(certificate)), until }
            }
            Err(why) => {
                let before = known.take().and_then(|known| known.result.clone().ok());
                // After a temporary failure the previous certificate is still valid until its own expiry date.
                let result = before.filter(|_| why.is_temporary()).ok_or(why);
                // `Busy` is caused by other certificates and is not cached.
                if matches!(result, Err(CertificateUnavailable::Busy)) {
                    return result;
                }
                CachedCertificate { result, until: self.clock.instant() + CERTIFICATE_RETRY }
            }
        };
        let latest = known.insert(Arc::new(now));
        self.publish(url, &slot, latest);
        latest.result.clone()
    }

    /// Publishes the content of a slot to readers, unless the slot was evicted meanwhile.
    fn publish(&self, url: &Url, slot: &Arc<CertificateSlot>, known: &Arc<CachedCertificate>) {
        let slots = &self.slots().by_url;
        if slots.get(url.as_str()).is_some_and(|present| Arc::ptr_eq(present, slot)) {
            let mut ready = HashMap::clone(&self.ready.load());
            ready.insert(url.as_str().into(), Arc::clone(known));
            self.ready.store(Arc::new(ready));
        }
    }

    async fn fetch(&self, url: &Url) -> Result<Certificate, CertificateUnavailable> {
        let _permit = self.fetches.try_acquire().map_err(|_| CertificateUnavailable::Busy)?;
        if self.have_many_failed() {
            return Err(CertificateUnavailable::Busy);
        }
        let fetched = match self.fetcher.get(url).await {
            Ok(pem) => Certificate::fetched(&pem).map_err(CertificateUnavailable::from),
            Err(why) => Err(why.into()),
        };
        match &fetched {
            Ok(certificate) => tracing::info!(%url, until = %certificate.not_after(), "fetched a certificate"),
            Err(why) => {
                tracing::warn!(%url, %why, "a certificate cannot be had");
                self.slots().failures.push_back(self.clock.instant());
            }
        }
        fetched
    }

    fn have_many_failed(&self) -> bool {
        let now = self.clock.instant();
        let failures = &mut self.slots().failures;
        while failures.front().is_some_and(|at| now.duration_since(*at) >= CERTIFICATE_RETRY) {
            failures.pop_front();
        }
        failures.len() >= CERTIFICATE_FAILURES_MAX
    }

    /// The slot of a URL. If the cache is full, the least useful slot is evicted.
    fn slot(&self, url: &Url) -> Result<Arc<CertificateSlot>, CertificateUnavailable> {
        let slots = &mut self.slots().by_url;
        if let Some(slot) = slots.get(url.as_str()) {
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= CERTIFICATES_KEPT {
            // Failures are evicted first, then the slot that expires first. A slot that is being fetched stays.
            let worth = |slot: &CertificateSlot| {
                let known = slot.try_lock().ok()?;
                Some(known.as_ref().map(|known| (known.result.is_ok(), known.until)))
            };
            let least =
                slots.iter().filter_map(|(url, slot)| Some((worth(slot)?, url))).min_by_key(|(worth, _)| *worth);
            let least = least.map(|(_, url)| url.clone()).ok_or(CertificateUnavailable::Busy)?;
            slots.remove(&least);
            let mut ready = HashMap::clone(&self.ready.load());
            ready.remove(&least);
            self.ready.store(Arc::new(ready));
        }
        Ok(Arc::clone(slots.entry(url.as_str().into()).or_default()))
    }

    /// Locks the slots. Poisoning is ignored: no code panics with the lock, and the content is consistent at every
    /// step.
    fn slots(&self) -> std::sync::MutexGuard<'_, CertificateSlots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
