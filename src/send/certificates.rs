//! The certificates that senders sign with, fetched from where they say, and remembered.
//!
//! Whoever calls has checked that an address is its provider's; who names it may still be a stranger. So each address is
//! asked for once at a time, failures are remembered for a while, and when many fail no others are tried: what is known
//! goes on being used.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use url::Url;

use super::fetch::{FetchError, Fetcher};
use super::resolve::{Resolve, SystemResolver};
use crate::limits::{
    CERTIFICATE_FAILURES_MAX, CERTIFICATE_FETCHES, CERTIFICATE_RETRY, CERTIFICATE_TTL, CERTIFICATES_KEPT,
};
use crate::runtime::{Clock, Instant};
use crate::signature::{Certificate, CertificateError};

/// See the module. Shared by every worker.
pub struct Certificates<R = SystemResolver> {
    fetcher: Fetcher<R>,
    clock: Clock,
    fetches: Semaphore,
    /// What the slots of the shelf know, for readers, who take no lock.
    ready: ArcSwap<HashMap<Box<str>, Arc<Known>>>,
    shelf: Mutex<Shelf>,
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// It could not be fetched.
    #[error("it could not be fetched: {0}")]
    Fetch(#[from] FetchError),
    /// What was fetched, or is in the settings, is none.
    #[error("not usable: {0}")]
    Form(#[from] CertificateError),
    /// Others are being fetched, or many could not be.
    #[error("too many certificates are being fetched, or could not be")]
    Busy,
}

impl Unavailable {
    /// Whether the sender should be asked to come again (503), as nothing is known of its request.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Fetch(why) => why.is_temporary(),
            Self::Form(_) => false,
            Self::Busy => true,
        }
    }
}

#[derive(Default)]
struct Shelf {
    by_url: HashMap<Box<str>, Arc<Slot>>,
    /// When fetches failed, in order.
    failures: VecDeque<Instant>,
}

/// Held by who fetches: the others wait for the same.
type Slot = tokio::sync::Mutex<Option<Arc<Known>>>;

struct Known {
    result: Result<Arc<Certificate>, Unavailable>,
    /// Good until then.
    until: Instant,
}

impl<R: Resolve> Certificates<R> {
    /// An empty cache over this fetcher.
    pub fn new(fetcher: Fetcher<R>, clock: Clock) -> Self {
        let at_once = Semaphore::new(CERTIFICATE_FETCHES);
        Self { fetcher, clock, fetches: at_once, ready: ArcSwap::default(), shelf: Mutex::default() }
    }

    /// What fetches, for whoever has something else to get.
    pub fn fetcher(&self) -> &Fetcher<R> {
        &self.fetcher
    }

    /// The certificate at this address, which must have been checked to be a provider's.
    ///
    /// # Errors
    /// If there is none to be had; nothing is then known of what it was to verify.
    pub async fn get(&self, url: &Url) -> Result<Arc<Certificate>, Unavailable> {
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
                Known { result: Ok(Arc::new(certificate)), until }
            }
            Err(why) => {
                let before = known.take().and_then(|known| known.result.clone().ok());
                // One that cannot be asked for is no worse than before; its own dates end it.
                let result = before.filter(|_| why.is_temporary()).ok_or(why);
                // That others are being fetched says nothing of this one.
                if matches!(result, Err(Unavailable::Busy)) {
                    return result;
                }
                Known { result, until: self.clock.instant() + CERTIFICATE_RETRY }
            }
        };
        let latest = known.insert(Arc::new(now));
        self.publish(url, &slot, latest);
        latest.result.clone()
    }

    /// Shows readers what a slot knows from now on, unless the slot had to make room for another one meanwhile.
    fn publish(&self, url: &Url, slot: &Arc<Slot>, known: &Arc<Known>) {
        let slots = &self.shelf().by_url;
        if slots.get(url.as_str()).is_some_and(|present| Arc::ptr_eq(present, slot)) {
            let mut ready = HashMap::clone(&self.ready.load());
            ready.insert(url.as_str().into(), Arc::clone(known));
            self.ready.store(Arc::new(ready));
        }
    }

    async fn fetch(&self, url: &Url) -> Result<Certificate, Unavailable> {
        let _permit = self.fetches.try_acquire().map_err(|_| Unavailable::Busy)?;
        if self.have_many_failed() {
            return Err(Unavailable::Busy);
        }
        let fetched = match self.fetcher.get(url).await {
            Ok(pem) => Certificate::fetched(&pem).map_err(Unavailable::from),
            Err(why) => Err(why.into()),
        };
        match &fetched {
            Ok(certificate) => tracing::info!(%url, until = %certificate.not_after(), "fetched a certificate"),
            Err(why) => {
                tracing::warn!(%url, %why, "a certificate cannot be had");
                self.shelf().failures.push_back(self.clock.instant());
            }
        }
        fetched
    }

    fn have_many_failed(&self) -> bool {
        let now = self.clock.instant();
        let failures = &mut self.shelf().failures;
        while failures.front().is_some_and(|at| now.duration_since(*at) >= CERTIFICATE_RETRY) {
            failures.pop_front();
        }
        failures.len() >= CERTIFICATE_FAILURES_MAX
    }

    /// The place for this address; one that is of less use makes room for it.
    fn slot(&self, url: &Url) -> Result<Arc<Slot>, Unavailable> {
        let slots = &mut self.shelf().by_url;
        if let Some(slot) = slots.get(url.as_str()) {
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= CERTIFICATES_KEPT {
            // Failures go first, then what ends soonest; what is being fetched stays.
            let worth = |slot: &Slot| {
                let known = slot.try_lock().ok()?;
                Some(known.as_ref().map(|known| (known.result.is_ok(), known.until)))
            };
            let least =
                slots.iter().filter_map(|(url, slot)| Some((worth(slot)?, url))).min_by_key(|(worth, _)| *worth);
            let least = least.map(|(_, url)| url.clone()).ok_or(Unavailable::Busy)?;
            slots.remove(&least);
            let mut ready = HashMap::clone(&self.ready.load());
            ready.remove(&least);
            self.ready.store(Arc::new(ready));
        }
        Ok(Arc::clone(slots.entry(url.as_str().into()).or_default()))
    }

    /// Nothing panics while it is held, and what it holds is whole at every step.
    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
