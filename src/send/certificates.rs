//! A cache of the certificates and sets of public keys that verify inbound requests. A request names the URL of its
//! certificate, or the id of its key.
//!
//! The caller checks that a URL belongs to the provider, but an unauthenticated client may have sent the request.
//! Therefore a URL is fetched only once at a time, failures are cached for a while, and after many failures nothing is
//! fetched. Cached certificates stay in use.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use url::Url;

use super::dns::DnsResolver;
use super::fetch::{FetchError, Fetcher};
use super::resolve::Resolve;
use crate::limits::{
    CERTIFICATE_FAILURES_MAX, CERTIFICATE_FETCHES, CERTIFICATE_RETRY, CERTIFICATE_TTL, CERTIFICATES_KEPT,
    KEY_SET_REFRESH, KEY_SET_TTL,
};
use crate::model::{Secret, Timestamp};
use crate::runtime::{Clock, Instant};
use crate::signature::{Certificate, KeySet};

/// What the cache holds: a document with keys.
pub trait KeyDocument: Sized {
    /// What the document is, for the log.
    const NAME: &str;

    /// Reads the document.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn read(bytes: &[u8]) -> Result<Self, Box<str>>;

    /// The time after which the document is fetched again.
    fn lifetime(&self, now: Timestamp) -> Duration;
}

impl KeyDocument for Certificate {
    const NAME: &str = "certificate";

    fn read(bytes: &[u8]) -> Result<Self, Box<str>> {
        Self::fetched(bytes).map_err(|why| why.to_string().into())
    }

    fn lifetime(&self, now: Timestamp) -> Duration {
        self.not_after().since(now).clamp(CERTIFICATE_RETRY, CERTIFICATE_TTL)
    }
}

impl KeyDocument for KeySet {
    const NAME: &str = "set of keys";

    fn read(bytes: &[u8]) -> Result<Self, Box<str>> {
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8")?;
        Self::parse_published(text).map_err(|why| why.to_string().into())
    }

    fn lifetime(&self, _now: Timestamp) -> Duration {
        KEY_SET_TTL
    }
}

/// Fetches and caches documents with keys. All worker threads share it.
pub struct KeyDocumentCache<T, R = DnsResolver> {
    fetcher: Arc<Fetcher<R>>,
    clock: Clock,
    fetches: Semaphore,
    /// The contents of the slots, for readers without a lock.
    ready: ArcSwap<HashMap<Box<str>, Arc<CachedDocument<T>>>>,
    slots: Mutex<DocumentSlots<T>>,
}

/// The cache of certificates.
pub type CertificateCache<R = DnsResolver> = KeyDocumentCache<Certificate, R>;

/// Why a certificate is not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysUnavailable {
    /// The certificate could not be fetched.
    #[error("it could not be fetched: {0}")]
    Fetch(#[from] FetchError),
    /// The fetched or configured text is not a usable certificate.
    #[error("not usable: {0}")]
    Form(Box<str>),
    /// Too many documents are being fetched, or too many fetches failed.
    #[error("too many of them are being fetched, or could not be")]
    Busy,
}

impl KeysUnavailable {
    /// Whether the failure is temporary. The request could not be verified, and the sender should get a 503 and retry.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Fetch(why) => why.is_temporary(),
            Self::Form(_) => false,
            Self::Busy => true,
        }
    }
}

struct DocumentSlots<T> {
    by_name: HashMap<Box<str>, Arc<DocumentSlot<T>>>,
    /// The times of failed fetches, in order.
    failures: VecDeque<Instant>,
}

/// The cached result of a fetch. Locked during the fetch, so that other requests for the same document wait for it.
type DocumentSlot<T> = tokio::sync::Mutex<Option<Arc<CachedDocument<T>>>>;

struct CachedDocument<T> {
    result: Result<Arc<T>, KeysUnavailable>,
    /// The time of the fetch.
    since: Instant,
    /// The result expires at this time.
    until: Instant,
}

impl<T> CachedDocument<T> {
    /// Whether the document need not be fetched again: it has not expired, and has the wanted key or was fetched just now.
    fn is_current(&self, now: Instant, is_wanted: &impl Fn(&T) -> bool) -> bool {
        let is_recent = || now.duration_since(self.since) < KEY_SET_REFRESH;
        now < self.until && (is_recent() || self.result.as_ref().map_or(true, |document| is_wanted(document)))
    }
}

impl<T: KeyDocument, R: Resolve> KeyDocumentCache<T, R> {
    /// An empty cache over this fetcher.
    pub fn new(fetcher: Arc<Fetcher<R>>, clock: Clock) -> Self {
        let at_once = Semaphore::new(CERTIFICATE_FETCHES);
        let slots = Mutex::new(DocumentSlots { by_name: HashMap::new(), failures: VecDeque::new() });
        Self { fetcher, clock, fetches: at_once, ready: ArcSwap::default(), slots }
    }

    /// The document at a URL. The caller must have checked that the URL belongs to the provider.
    ///
    /// # Errors
    /// If the document is not available. The request can then be neither accepted nor rejected.
    pub async fn get(&self, url: &Url) -> Result<Arc<T>, KeysUnavailable> {
        self.get_with(url.as_str(), (url, None), |_| true).await
    }

    /// The document at a URL, or what a POST of this JSON returns. It is cached under `name`. A cached document that is not wanted is fetched again,
    /// at most once in [`KEY_SET_REFRESH`]. The returned document may still not be the wanted one.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub async fn get_with(
        &self,
        name: &str,
        (url, body): (&Url, Option<&Secret>),
        is_wanted: impl Fn(&T) -> bool,
    ) -> Result<Arc<T>, KeysUnavailable> {
        if let Some(ready) = self.ready.load().get(name)
            && ready.is_current(self.clock.instant(), &is_wanted)
        {
            return ready.result.clone();
        }
        let slot = self.slot(name)?;
        let mut known = slot.lock().await;
        if let Some(known) = &*known
            && known.is_current(self.clock.instant(), &is_wanted)
        {
            return known.result.clone();
        }
        let since = self.clock.instant();
        let now = match self.fetch(url, body).await {
            Ok(document) => {
                let until = self.clock.instant() + document.lifetime(self.clock.now());
                CachedDocument { result: Ok(Arc::new(document)), since, until }
            }
            Err(why) => {
                let before = known.take().and_then(|known| known.result.clone().ok());
                // After a temporary failure the previous document is still valid until its own expiry date.
                let result = before.filter(|_| why.is_temporary()).ok_or(why);
                // `Busy` is caused by other documents and is not cached.
                if matches!(result, Err(KeysUnavailable::Busy)) {
                    return result;
                }
                CachedDocument { result, since, until: self.clock.instant() + CERTIFICATE_RETRY }
            }
        };
        let latest = known.insert(Arc::new(now));
        self.publish(name, &slot, latest);
        latest.result.clone()
    }

    /// Publishes the content of a slot to readers, unless the slot was evicted meanwhile.
    fn publish(&self, name: &str, slot: &Arc<DocumentSlot<T>>, known: &Arc<CachedDocument<T>>) {
        let slots = &self.slots().by_name;
        if slots.get(name).is_some_and(|present| Arc::ptr_eq(present, slot)) {
            let mut ready = HashMap::clone(&self.ready.load());
            ready.insert(name.into(), Arc::clone(known));
            self.ready.store(Arc::new(ready));
        }
    }

    async fn fetch(&self, url: &Url, body: Option<&Secret>) -> Result<T, KeysUnavailable> {
        let _permit = self.fetches.try_acquire().map_err(|_| KeysUnavailable::Busy)?;
        if self.have_many_failed() {
            return Err(KeysUnavailable::Busy);
        }
        let answered = match body {
            None => self.fetcher.get(url).await,
            Some(json) => self.fetcher.post_json(url, json.reveal().to_owned()).await,
        };
        let fetched = match answered {
            Ok(bytes) => T::read(&bytes).map_err(KeysUnavailable::Form),
            Err(why) => Err(why.into()),
        };
        match &fetched {
            Ok(document) => {
                let seconds = document.lifetime(self.clock.now()).as_secs();
                tracing::info!(%url, seconds, "fetched a {}", T::NAME);
            }
            Err(why) => {
                tracing::warn!(%url, %why, "a {} cannot be had", T::NAME);
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

    /// The slot of a document. If the cache is full, the least useful slot is evicted.
    fn slot(&self, name: &str) -> Result<Arc<DocumentSlot<T>>, KeysUnavailable> {
        let slots = &mut self.slots().by_name;
        if let Some(slot) = slots.get(name) {
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= CERTIFICATES_KEPT {
            // Failures are evicted first, then the slot that expires first. A slot that is being fetched stays.
            let worth = |slot: &DocumentSlot<T>| {
                let known = slot.try_lock().ok()?;
                Some(known.as_ref().map(|known| (known.result.is_ok(), known.until)))
            };
            let least =
                slots.iter().filter_map(|(url, slot)| Some((worth(slot)?, url))).min_by_key(|(worth, _)| *worth);
            let least = least.map(|(_, url)| url.clone()).ok_or(KeysUnavailable::Busy)?;
            slots.remove(&least);
            let mut ready = HashMap::clone(&self.ready.load());
            ready.remove(&least);
            self.ready.store(Arc::new(ready));
        }
        Ok(Arc::clone(slots.entry(name.into()).or_default()))
    }

    /// Locks the slots. Poisoning is ignored: no code panics with the lock, and the content is consistent at every
    /// step.
    fn slots(&self) -> std::sync::MutexGuard<'_, DocumentSlots<T>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
