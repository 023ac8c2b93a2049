//! Decides which names are looked up, and answers from what is known: a value with the time as a parameter.
//!
//! - **One lookup for each name.** All who ask for a name wait for the same lookup. A lookup without a waiting
//!   request is cancelled, unless it refreshes addresses that are still in use.
//! - **Two lanes.** A lookup starts in the fast lane. After [`DNS_SLOW_AFTER`] it moves to the slow lane, where lookups
//!   of names start whose last lookup was slow and found nothing. So names whose servers do not answer never have all
//!   places. If the slow lane is full, a lookup in it is given up: the oldest of the tenant with the most.
//! - **Tenants share a lane** ([`LookupLane`]). A lookup is charged to the tenant that asked first.
//! - **Addresses are kept as long as their TTL says.** After that they are used while a refresh takes long or fails, for
//!   at most [`DNS_STALE_MAX`]. A failure is kept for a short time too.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;

use super::lane::LookupLane;
use crate::limits::{
    DNS_FAILURE_TTL, DNS_FAST_LOOKUPS, DNS_NAMES_MAX, DNS_NOT_FOUND_TTL_MAX, DNS_SLOW_AFTER, DNS_SLOW_LOOKUPS,
    DNS_STALE_MAX, DNS_STALE_RETRY, DNS_TIMEOUT, DNS_TTL_MAX, DNS_TTL_MIN,
};
use crate::runtime::{Instant, Metrics};

/// The addresses of a name, or why there are none.
pub(super) type Resolution = Result<Arc<[IpAddr]>, Arc<str>>;

/// A request for the addresses of a name.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) name: Arc<str>,
    /// The tenant for which the name is resolved.
    pub(super) tenant: Arc<str>,
    pub(super) reply: oneshot::Sender<Resolution>,
}

/// What a lookup ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LookupResult {
    /// The name has addresses.
    Found {
        /// The addresses in the order in which they are to be tried.
        addresses: Arc<[IpAddr]>,
        /// How long they may be used.
        ttl: Duration,
    },
    /// The name does not exist or has no address.
    NotFound {
        /// The reason.
        why: Arc<str>,
        /// How long this may be believed.
        ttl: Duration,
    },
    /// There was no answer, or none that says anything about the name.
    Failed(Arc<str>),
}

/// All names that are known or being looked up.
#[derive(Debug)]
pub(super) struct Lookups {
    names: HashMap<Arc<str>, KnownName>,
    fast: LookupLane,
    slow: LookupLane,
    /// The number of names with a lookup.
    active: usize,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct KnownName {
    addresses: Option<KnownAddresses>,
    failure: Option<Failure>,
    /// The last lookup was slow and found nothing.
    is_slow: bool,
    lookup: Option<Lookup>,
    last_used: Instant,
}

#[derive(Debug)]
struct KnownAddresses {
    addresses: Arc<[IpAddr]>,
    fresh_until: Instant,
    usable_until: Instant,
}

#[derive(Debug)]
struct Failure {
    why: Arc<str>,
    until: Instant,
}

#[derive(Debug)]
struct Lookup {
    state: LookupState,
    waiters: SmallVec<[Waiter; 1]>,
    /// The tenants in whose queues the name is.
    queued_by: SmallVec<[Arc<str>; 1]>,
}

#[derive(Debug)]
enum LookupState {
    Waiting { is_slow: bool },
    Running { is_slow: bool, tenant: Arc<str>, since: Instant },
}

#[derive(Debug)]
struct Waiter {
    reply: oneshot::Sender<Resolution>,
    /// When the waiter gets the expired addresses.
    stale_at: Option<Instant>,
}

impl Lookups {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let (fast, slow) = (LookupLane::new(DNS_FAST_LOOKUPS), LookupLane::new(DNS_SLOW_LOOKUPS));
        Self { names: HashMap::new(), fast, slow, active: 0, metrics }
    }

    /// Answers a question from what is known, or lets it wait for a lookup.
    pub(super) fn ask(&mut self, question: Question, now: Instant) {
        let Question { name, tenant, reply } = question;
        if !self.names.contains_key(&name) {
            self.forget_one_if_full();
        }
        let known = self.names.entry(Arc::clone(&name)).or_insert_with(|| KnownName::new(now));
        known.last_used = now;
        if let Some(resolution) = known.resolution(now, &self.metrics) {
            // The send fails if the caller has gone.
            let _ = reply.send(resolution);
            return;
        }
        let stale_at = known.usable(now).map(|_| now + DNS_SLOW_AFTER);
        let is_slow = known.is_slow;
        let lookup = known.lookup.get_or_insert_with(|| {
            self.active += 1;
            Lookup { state: LookupState::Waiting { is_slow }, waiters: smallvec![], queued_by: smallvec![] }
        });
        lookup.waiters.push(Waiter { reply, stale_at });
        if let LookupState::Waiting { is_slow } = lookup.state
            && !lookup.queued_by.contains(&tenant)
        {
            let lane = if is_slow { &mut self.slow } else { &mut self.fast };
            lane.queue(&tenant, &name);
            lookup.queued_by.push(tenant);
        }
    }

    /// The next name to look up. Call this after every other call, until it returns `None`.
    pub(super) fn start_next(&mut self, now: Instant) -> Option<Arc<str>> {
        for lane_is_slow in [false, true] {
            let lane = if lane_is_slow { &mut self.slow } else { &mut self.fast };
            while let Some((tenant, name)) = lane.pop() {
                let lookup = self.names.get_mut(&name).and_then(|known| known.lookup.as_mut());
                if let Some(lookup) = lookup
                    && matches!(lookup.state, LookupState::Waiting { is_slow } if is_slow == lane_is_slow)
                {
                    lane.take(&tenant);
                    lookup.state = LookupState::Running { is_slow: lane_is_slow, tenant, since: now };
                    if lookup.queued_by.len() > 1 {
                        lane.retain_waiting(|waiting| *waiting != *name);
                    }
                    return Some(name);
                }
            }
        }
        None
    }

    /// Notes the result of a lookup and answers everyone who waits for it.
    pub(super) fn finish(&mut self, name: &str, result: LookupResult, now: Instant) {
        let Some(known) = self.names.get_mut(name) else { return };
        let Some(lookup) = known.lookup.take() else { return };
        self.active -= 1;
        let was_slow = match &lookup.state {
            LookupState::Waiting { is_slow } => *is_slow,
            LookupState::Running { is_slow, tenant, .. } => {
                let lane = if *is_slow { &mut self.slow } else { &mut self.fast };
                lane.give_back(tenant);
                *is_slow
            }
        };
        let label = match &result {
            LookupResult::Found { .. } => "found",
            LookupResult::NotFound { .. } => "not_found",
            LookupResult::Failed(_) => "failed",
        };
        self.metrics.dns_lookups.with_label_values(&[label]).inc();
        known.is_slow = was_slow && !matches!(result, LookupResult::Found { .. });
        known.note(result, now);
        for waiter in lookup.waiters {
            if let Some(resolution) = known.resolution(now, &self.metrics) {
                // The send fails if the caller has gone.
                let _ = waiter.reply.send(resolution);
            }
        }
    }

    /// Does what is due: answers with expired addresses, moves slow lookups, ends lookups. Returns the names whose
    /// running lookups are over.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Arc<str>> {
        let (mut ended, mut timed_out, mut has_cancelled) = (Vec::new(), Vec::new(), false);
        for (name, known) in &mut self.names {
            let usable = known.usable(now).map(Arc::clone);
            let Some(lookup) = &mut known.lookup else { continue };
            lookup.serve_stale(usable.as_ref(), now, &self.metrics);
            if lookup.waiters.is_empty() && usable.is_none() {
                if let LookupState::Running { is_slow, tenant, .. } = &lookup.state {
                    let lane = if *is_slow { &mut self.slow } else { &mut self.fast };
                    lane.give_back(tenant);
                    known.is_slow |= *is_slow;
                    ended.push(Arc::clone(name));
                    self.metrics.dns_lookups.with_label_values(&["abandoned"]).inc();
                }
                known.lookup = None;
                self.active -= 1;
                has_cancelled = true;
                continue;
            }
            if let LookupState::Running { is_slow, tenant, since } = &mut lookup.state {
                let age = now.saturating_duration_since(*since);
                if age >= DNS_TIMEOUT {
                    timed_out.push(Arc::clone(name));
                } else if age >= DNS_SLOW_AFTER && !*is_slow {
                    *is_slow = true;
                    self.fast.give_back(tenant);
                    self.slow.take(tenant);
                }
            }
        }
        if has_cancelled {
            self.remove_cancelled();
        }
        for name in timed_out {
            let why = format!("no answer within {} s", DNS_TIMEOUT.as_secs());
            self.finish(&name, LookupResult::Failed(why.into()), now);
            ended.push(name);
        }
        while let Some(name) = self.slowest_over_the_bound() {
            let why = "no answer, and too many other names get none either";
            self.finish(&name, LookupResult::Failed(why.into()), now);
            ended.push(name);
        }
        self.metrics.dns_waiting.set((self.fast.waiting() + self.slow.waiting()) as i64);
        ended
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether [`Self::tick`] has anything to do.
    pub(super) fn is_active(&self) -> bool {
        self.active > 0
    }

    /// Lets every name be looked up again when it is used next, because the configuration of the system has changed.
    /// Known addresses remain in use while the lookup fails.
    pub(super) fn expire_all(&mut self, now: Instant) {
        for known in self.names.values_mut() {
            known.failure = None;
            known.is_slow = false;
            if let Some(addresses) = &mut known.addresses {
                addresses.fresh_until = now;
            }
        }
    }

    /// Removes names from the queues that are no longer waiting.
    fn remove_cancelled(&mut self) {
        let names = &self.names;
        let is_waiting = |name: &str| {
            let lookup = names.get(name).and_then(|known| known.lookup.as_ref());
            lookup.is_some_and(|lookup| matches!(lookup.state, LookupState::Waiting { .. }))
        };
        self.fast.retain_waiting(is_waiting);
        self.slow.retain_waiting(is_waiting);
    }

    /// If the slow lane has too many lookups: the oldest one of the tenant with the most.
    fn slowest_over_the_bound(&self) -> Option<Arc<str>> {
        let largest = self.slow.is_over().then(|| self.slow.largest_tenant())??;
        let ages = self.names.iter().filter_map(|(name, known)| match &known.lookup.as_ref()?.state {
            LookupState::Running { is_slow: true, tenant, since } if tenant == largest => Some((since, name)),
            _ => None,
        });
        ages.min_by_key(|(since, _)| **since).map(|(_, name)| Arc::clone(name))
    }

    /// Removes a name if there are too many: one without addresses first, then the one that was not used for longest.
    fn forget_one_if_full(&mut self) {
        if self.names.len() < DNS_NAMES_MAX {
            return;
        }
        let idle = self.names.iter().filter(|(_, known)| known.lookup.is_none());
        let least = idle.min_by_key(|(_, known)| (known.addresses.is_some(), known.last_used));
        if let Some(name) = least.map(|(name, _)| Arc::clone(name)) {
            self.names.remove(&name);
        }
    }
}

impl KnownName {
    fn new(now: Instant) -> Self {
        Self { addresses: None, failure: None, is_slow: false, lookup: None, last_used: now }
    }

    /// What can be answered without a lookup.
    fn resolution(&self, now: Instant, metrics: &Metrics) -> Option<Resolution> {
        if let Some(known) = &self.addresses
            && now < known.fresh_until
        {
            return Some(Ok(Arc::clone(&known.addresses)));
        }
        let failure = self.failure.as_ref().filter(|failure| now < failure.until)?;
        let Some(stale) = self.usable(now) else { return Some(Err(Arc::clone(&failure.why))) };
        metrics.dns_stale.inc();
        Some(Ok(Arc::clone(stale)))
    }

    /// Addresses that may be used although they have expired.
    fn usable(&self, now: Instant) -> Option<&Arc<[IpAddr]>> {
        self.addresses.as_ref().filter(|known| now < known.usable_until).map(|known| &known.addresses)
    }

    fn note(&mut self, result: LookupResult, now: Instant) {
        self.failure = None;
        match result {
            LookupResult::Found { addresses, ttl } => {
                let fresh_until = now + ttl.clamp(DNS_TTL_MIN, DNS_TTL_MAX);
                self.addresses =
                    Some(KnownAddresses { addresses, fresh_until, usable_until: fresh_until + DNS_STALE_MAX });
            }
            LookupResult::NotFound { why, ttl } => {
                self.addresses = None;
                self.failure = Some(Failure { why, until: now + ttl.clamp(DNS_TTL_MIN, DNS_NOT_FOUND_TTL_MAX) });
            }
            LookupResult::Failed(why) => {
                let pause = if self.usable(now).is_some() { DNS_STALE_RETRY } else { DNS_FAILURE_TTL };
                self.failure = Some(Failure { why, until: now + pause });
            }
        }
    }
}

impl Lookup {
    /// Removes waiters that have gone, and answers those that have waited long enough for fresh addresses.
    fn serve_stale(&mut self, usable: Option<&Arc<[IpAddr]>>, now: Instant, metrics: &Metrics) {
        let mut at = 0;
        while let Some(waiter) = self.waiters.get(at) {
            let stale = usable.filter(|_| waiter.stale_at.is_some_and(|at| at <= now));
            if waiter.reply.is_closed() {
                self.waiters.swap_remove(at);
            } else if let Some(stale) = stale {
                metrics.dns_stale.inc();
                // The send fails if the caller has gone.
                let _ = self.waiters.swap_remove(at).reply.send(Ok(Arc::clone(stale)));
            } else {
                at += 1;
            }
        }
    }
}
