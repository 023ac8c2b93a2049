//! The memory budget for request bodies that are being read or wait for their commit.
//!
//! - Memory is reserved as bytes arrive. A declared length reserves nothing.
//! - Callers without credentials share a part of the budget, and each address of theirs has a part of that. A tenant
//!   with more than one body has at most a part of the budget.
//! - When there is no room, incomplete bodies give way: first those of the owner that uses most, and of these the slow
//!   ones. A complete body is never discarded.
//!
//! A body that arrives with its first chunk costs a few atomic operations. Only incomplete bodies are in a table behind a
//! lock, because only they can give way.

mod incomplete;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use incomplete::{ArrivalRate, IncompleteBody};

use super::{Problem, ProblemCode};
use crate::limits::{
    BODIES_IN_FLIGHT_BYTES, BODY_EVICTION_TRIES, BODY_OWNER_SLOTS, PEER_BODIES_BYTES, PUBLIC_BODIES_BYTES,
    TENANT_BODIES_BYTES,
};
use crate::runtime::{Clock, Instant, Metrics};

/// The memory budget for bodies. Its size is [`BODIES_IN_FLIGHT_BYTES`].
#[derive(Debug)]
pub struct BodyBudget {
    clock: Clock,
    started: Instant,
    metrics: Arc<Metrics>,
    used: AtomicUsize,
    used_by_public: AtomicUsize,
    /// The bytes of each owner, by the hash of its name: first addresses, then tenants. The hash is seeded, so no sender
    /// can choose an address that shares its slot with another one.
    used_by_owner: Box<[AtomicUsize]>,
    hasher: RandomState,
    incomplete: Mutex<IncompleteBodies>,
}

/// Who sends a body.
#[derive(Debug, Clone, Copy)]
pub enum BodyOwner<'a> {
    /// A caller without credentials, by its address. A signature comes after the body, so it is not a credential yet.
    Peer(IpAddr),
    /// An authenticated caller, by its tenant. `None`: all tenants.
    Tenant(Option<&'a str>),
}

/// Which counters a reservation is part of, in addition to the whole budget.
#[derive(Debug, Clone, Copy, Default)]
struct OwnerCharge {
    is_public: bool,
    slot: Option<usize>,
}

/// The part of the budget that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BudgetPart {
    All,
    Public,
    Owner(usize),
}

/// The bodies that have not arrived completely.
#[derive(Debug, Default)]
struct IncompleteBodies {
    next: u64,
    bodies: HashMap<u64, Arc<IncompleteBody>>,
}

impl BodyBudget {
    /// Creates an unused budget.
    pub fn new(clock: Clock, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            started: clock.instant(),
            clock,
            metrics,
            used: AtomicUsize::new(0),
            used_by_public: AtomicUsize::new(0),
            used_by_owner: (0..2 * BODY_OWNER_SLOTS).map(|_| AtomicUsize::new(0)).collect(),
            hasher: RandomState::new(),
            incomplete: Mutex::default(),
        })
    }

    /// The bytes in use: by all bodies, and by those of callers without credentials.
    pub fn used(&self) -> (usize, usize) {
        (self.used.load(Relaxed), self.used_by_public.load(Relaxed))
    }

    /// Reserves memory for a body that is parsed, or for data that are built from a body.
    ///
    /// # Errors
    /// 503 when the budget is used up.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Result<BodyReservation<Arc<Self>>, Problem> {
        BodyReservation::complete(Arc::clone(self), BodyOwner::Tenant(None), bytes)
    }

    fn charge_of(&self, owner: BodyOwner<'_>) -> OwnerCharge {
        let slot = |hash: u64| (hash % BODY_OWNER_SLOTS as u64) as usize;
        match owner {
            BodyOwner::Peer(peer) => {
                OwnerCharge { is_public: true, slot: Some(slot(self.hasher.hash_one(network_of(peer)))) }
            }
            BodyOwner::Tenant(tenant) => {
                let slot = BODY_OWNER_SLOTS + slot(self.hasher.hash_one(tenant.unwrap_or("*")));
                OwnerCharge { is_public: false, slot: Some(slot) }
            }
        }
    }

    /// Reserves `more` bytes for a body that has `own` bytes already.
    fn take(&self, charge: OwnerCharge, own: usize, more: usize) -> Result<(), BudgetPart> {
        if self.used.fetch_add(more, Relaxed) + more > BODIES_IN_FLIGHT_BYTES {
            self.used.fetch_sub(more, Relaxed);
            return Err(BudgetPart::All);
        }
        if charge.is_public && self.used_by_public.fetch_add(more, Relaxed) + more > PUBLIC_BODIES_BYTES {
            self.used_by_public.fetch_sub(more, Relaxed);
            self.used.fetch_sub(more, Relaxed);
            return Err(BudgetPart::Public);
        }
        if let Some(slot) = charge.slot {
            let before = self.used_by_owner[slot].fetch_add(more, Relaxed);
            let limit = if charge.is_public { PEER_BODIES_BYTES } else { TENANT_BODIES_BYTES };
            // A single body is bounded by its own limit.
            if before > own && before + more > limit {
                self.release(charge, more);
                return Err(BudgetPart::Owner(slot));
            }
        }
        Ok(())
    }

    fn release(&self, charge: OwnerCharge, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
        self.release_owner(charge, bytes);
    }

    /// Releases the owner's part of a reservation. The bytes stay reserved in the whole budget.
    fn release_owner(&self, charge: OwnerCharge, bytes: usize) {
        if charge.is_public {
            self.used_by_public.fetch_sub(bytes, Relaxed);
        }
        if let Some(slot) = charge.slot {
            self.used_by_owner[slot].fetch_sub(bytes, Relaxed);
        }
    }

    fn incomplete(&self) -> MutexGuard<'_, IncompleteBodies> {
        self.incomplete.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owner_bytes(&self, charge: OwnerCharge) -> usize {
        charge.slot.map_or(0, |slot| self.used_by_owner[slot].load(Relaxed))
    }

    fn millis(&self) -> u64 {
        self.clock.instant().duration_since(self.started).as_millis() as u64
    }

    /// Reserves as [`Self::take`]. If there is no room, incomplete bodies give way. `claim` says which.
    fn take_or_evict(
        &self,
        all: &mut IncompleteBodies,
        claim: RoomClaim,
        own: usize,
        more: usize,
    ) -> Result<(), Problem> {
        for _ in 0..BODY_EVICTION_TRIES {
            match self.take(claim.charge, own, more) {
                Ok(()) => return Ok(()),
                Err(part) if self.evict(all, part, claim, more) > 0 => {}
                Err(_) => break,
            }
        }
        self.metrics.bodies_refused.with_label_values(&["no_room"]).inc();
        Err(Problem::new(ProblemCode::Overloaded, "too many bodies are being read").retry_after(Duration::from_secs(1)))
    }

    /// Lets incomplete bodies give way until `wanted` bytes of a part are free. Returns the bytes that became free.
    fn evict(&self, all: &mut IncompleteBodies, part: BudgetPart, claim: RoomClaim, wanted: usize) -> usize {
        let now = self.millis();
        let claimed = self.owner_bytes(claim.charge) + wanted;
        let mut candidates: Vec<_> = all
            .bodies
            .iter()
            .filter(|(id, body)| claim.body != Some(**id) && claim.reaches(part, body.charge))
            .filter_map(|(id, body)| {
                let used = self.owner_bytes(body.charge);
                let is_slow = body.rate.is_slow(now);
                let is_other = body.charge.slot != claim.charge.slot;
                (is_slow || claim.is_complete || (is_other && used > claimed)).then_some((used, is_slow, *id))
            })
            .collect();
        candidates.sort_unstable();
        let mut freed = 0;
        while freed < wanted
            && let Some((.., id)) = candidates.pop()
        {
            if let Some(body) = all.bodies.remove(&id) {
                let reserved = body.reserved.swap(0, Relaxed);
                self.release(body.charge, reserved);
                freed += reserved;
                body.evict();
                self.metrics.bodies_refused.with_label_values(&["gave_way"]).inc();
            }
        }
        freed
    }
}

/// Who needs room, for the choice of the bodies that give way.
#[derive(Debug, Clone, Copy)]
struct RoomClaim {
    charge: OwnerCharge,
    /// The body is complete, so it is in memory for a short time only.
    is_complete: bool,
    /// The id of the body, if it is in the table.
    body: Option<u64>,
}

impl RoomClaim {
    /// Whether a body with this charge can free a part. Callers without credentials cannot displace others.
    fn reaches(self, part: BudgetPart, other: OwnerCharge) -> bool {
        match part {
            BudgetPart::Owner(slot) => other.slot == Some(slot),
            BudgetPart::Public => other.is_public,
            BudgetPart::All => other.is_public || !self.charge.is_public,
        }
    }
}

/// The network that one sender controls: an IPv4 address, or the /64 of an IPv6 address.
pub(super) fn network_of(peer: IpAddr) -> u64 {
    match peer.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

/// Bytes reserved from a [`BodyBudget`]. They are released on drop.
#[derive(Debug)]
pub struct BodyReservation<R: Deref<Target = BodyBudget>> {
    budget: R,
    charge: OwnerCharge,
    /// The bytes of a complete body. The bytes of an incomplete body are in its entry.
    bytes: usize,
    incomplete: Option<(u64, Arc<IncompleteBody>)>,
}

impl<R: Deref<Target = BodyBudget>> BodyReservation<R> {
    /// A reservation for a body that arrived with its first chunk.
    ///
    /// # Errors
    /// 503 when the budget is used up.
    pub(super) fn complete(budget: R, owner: BodyOwner<'_>, bytes: usize) -> Result<Self, Problem> {
        let charge = match owner {
            BodyOwner::Peer(_) => budget.charge_of(owner),
            // The ingest permits and the permits of management requests bound how many of these there are.
            BodyOwner::Tenant(_) => OwnerCharge::default(),
        };
        if budget.take(charge, 0, bytes).is_err() {
            let claim = RoomClaim { charge, is_complete: true, body: None };
            budget.take_or_evict(&mut budget.incomplete(), claim, 0, bytes)?;
        }
        Ok(Self { budget, charge, bytes, incomplete: None })
    }

    /// A reservation of `bytes` for a body of which `arrived` bytes have arrived.
    ///
    /// # Errors
    /// 503 when the budget is used up.
    pub(super) fn incomplete(budget: R, owner: BodyOwner<'_>, bytes: usize, arrived: usize) -> Result<Self, Problem> {
        let (charge, now) = (budget.charge_of(owner), budget.millis());
        let rate = ArrivalRate::new(now);
        rate.arrived(now, arrived);
        let body = Arc::new(IncompleteBody::new(charge, bytes, rate));
        let mut all = budget.incomplete();
        budget.take_or_evict(&mut all, RoomClaim { charge, is_complete: false, body: None }, 0, bytes)?;
        let id = all.next;
        all.next += 1;
        all.bodies.insert(id, Arc::clone(&body));
        drop(all);
        Ok(Self { budget, charge, bytes: 0, incomplete: Some((id, body)) })
    }

    /// Reserves bytes until the reservation has `bytes`.
    ///
    /// # Errors
    /// 503 when the budget is used up or the body had to give way.
    pub(super) fn grow_to(&self, bytes: usize) -> Result<(), Problem> {
        let Some((id, body)) = &self.incomplete else { return Ok(()) };
        let mut all = self.budget.incomplete();
        if body.is_evicted() {
            return Err(gave_way());
        }
        let reserved = body.reserved.load(Relaxed);
        let more = bytes.saturating_sub(reserved);
        let claim = RoomClaim { charge: self.charge, is_complete: false, body: Some(*id) };
        self.budget.take_or_evict(&mut all, claim, reserved, more)?;
        body.reserved.store(reserved + more, Relaxed);
        Ok(())
    }

    /// Records that bytes arrived.
    pub(super) fn arrived(&self, bytes: usize) {
        if let Some((_, body)) = &self.incomplete {
            body.rate.arrived(self.budget.millis(), bytes);
        }
    }

    /// Records that the body is complete. From then on it does not give way.
    ///
    /// # Errors
    /// 503 when it had to give way.
    pub(super) fn completed(&mut self) -> Result<(), Problem> {
        if let Some((id, body)) = self.incomplete.take() {
            let mut all = self.budget.incomplete();
            if all.bodies.remove(&id).is_none() {
                return Err(gave_way());
            }
            self.bytes = body.reserved.load(Relaxed);
        }
        Ok(())
    }

    /// Records that the signature of a complete body is valid. It is not one of a stranger any more.
    pub(super) fn verified(&mut self) {
        self.budget.release_owner(self.charge, self.bytes);
        self.charge = OwnerCharge::default();
    }

    /// Ready with an error when the body has to give way.
    pub(super) fn poll_evicted(&self, cx: &Context<'_>) -> Poll<Problem> {
        match &self.incomplete {
            Some((_, body)) => body.poll_evicted(cx).map(|()| gave_way()),
            None => Poll::Pending,
        }
    }
}

impl<R: Deref<Target = BodyBudget>> Drop for BodyReservation<R> {
    fn drop(&mut self) {
        if let Some((id, body)) = self.incomplete.take() {
            // An evicted body is not in the table, and has no bytes.
            if self.budget.incomplete().bodies.remove(&id).is_some() {
                self.bytes = body.reserved.load(Relaxed);
            }
        }
        self.budget.release(self.charge, self.bytes);
    }
}

fn gave_way() -> Problem {
    let detail = "the server needs the memory of this body for others: send it again, faster";
    Problem::new(ProblemCode::Overloaded, detail).retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::limits::BODY_SLOW_RATE;
    use crate::model::Timestamp;

    const MIB: usize = 1 << 20;

    /// A budget on tokio's clock, which a paused test advances.
    fn budget() -> Arc<BodyBudget> {
        BodyBudget::new(Clock::test(Timestamp::default()), Metrics::new().unwrap())
    }

    fn peer(n: u8) -> BodyOwner<'static> {
        BodyOwner::Peer([10, 0, 0, n].into())
    }

    fn incomplete(
        budget: &Arc<BodyBudget>,
        owner: BodyOwner<'_>,
        bytes: usize,
    ) -> Result<BodyReservation<Arc<BodyBudget>>, Problem> {
        BodyReservation::incomplete(Arc::clone(budget), owner, bytes, bytes)
    }

    fn is_evicted<R: Deref<Target = BodyBudget>>(reservation: &BodyReservation<R>) -> bool {
        reservation.poll_evicted(&Context::from_waker(Waker::noop())).is_ready()
    }

    async fn pass(millis: u64) {
        tokio::time::advance(Duration::from_millis(millis)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_one_budget_and_release_it() {
        let budget = budget();
        let first = incomplete(&budget, BodyOwner::Tenant(Some("a")), BODIES_IN_FLIGHT_BYTES).unwrap();
        assert_eq!(
            incomplete(&budget, BodyOwner::Tenant(Some("a")), 1).unwrap_err().code,
            ProblemCode::Overloaded,
            "a single body may use everything, a second one of its tenant may not"
        );
        drop(first);
        let mut second = incomplete(&budget, peer(1), MIB).unwrap();
        second.grow_to(2 * MIB).unwrap();
        second.completed().unwrap();
        assert_eq!(budget.used(), (2 * MIB, 2 * MIB));
        second.verified();
        assert_eq!(budget.used(), (2 * MIB, 0));
        drop(second);
        assert_eq!(budget.used(), (0, 0));
        assert!(budget.used_by_owner.iter().all(|used| used.load(Relaxed) == 0));
        assert!(budget.incomplete().bodies.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_have_a_share_and_each_address_a_part_of_it() {
        let budget = budget();
        let one = incomplete(&budget, peer(1), PEER_BODIES_BYTES).unwrap();
        assert!(incomplete(&budget, peer(1), MIB).is_err());
        let two = incomplete(&budget, peer(2), PUBLIC_BODIES_BYTES - PEER_BODIES_BYTES).unwrap();
        // A third address has less than the first, which gives way although it is fast.
        let three = incomplete(&budget, peer(3), MIB).unwrap();
        assert_eq!((is_evicted(&one), is_evicted(&two), is_evicted(&three)), (true, false, false));
        assert_eq!(one.grow_to(PEER_BODIES_BYTES + 1).unwrap_err().code, ProblemCode::Overloaded);
        // All strangers together leave the rest to others.
        let rest = BODIES_IN_FLIGHT_BYTES - PUBLIC_BODIES_BYTES;
        assert!(incomplete(&budget, BodyOwner::Tenant(Some("a")), rest).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_gives_way_and_a_fast_one_does_not() {
        let budget = budget();
        let half = PEER_BODIES_BYTES / 2;
        let (slow, fast) = (incomplete(&budget, peer(1), half).unwrap(), incomplete(&budget, peer(1), half).unwrap());
        assert!(incomplete(&budget, peer(1), MIB).is_err(), "neither was measured yet");
        for _ in 0..3 {
            pass(1_000).await;
            slow.arrived(BODY_SLOW_RATE as usize - 1);
            fast.arrived(BODY_SLOW_RATE as usize);
        }
        let third = incomplete(&budget, peer(1), MIB).unwrap();
        assert_eq!((is_evicted(&slow), is_evicted(&fast)), (true, false));
        drop((slow, third));
        pass(2_000).await;
        assert!(incomplete(&budget, peer(1), half + MIB).is_ok(), "the other one stopped meanwhile");
        assert!(is_evicted(&fast));
    }

    #[tokio::test(start_paused = true)]
    async fn a_complete_body_takes_the_place_of_an_incomplete_one_but_not_of_an_authenticated_one() {
        let budget = budget();
        let tenants = ["a", "b"]
            .map(|tenant| incomplete(&budget, BodyOwner::Tenant(Some(tenant)), BODIES_IN_FLIGHT_BYTES / 2).unwrap());
        pass(10_000).await;
        assert!(BodyReservation::complete(&*budget, peer(1), 10).is_err());
        assert!(!tenants.iter().any(is_evicted));
        assert!(BodyReservation::complete(&*budget, BodyOwner::Tenant(Some("c")), 10).is_ok());
        assert_eq!(tenants.iter().filter(|body| is_evicted(body)).count(), 1);
        drop(tenants);
        let strangers = incomplete(&budget, peer(1), PEER_BODIES_BYTES).unwrap();
        assert!(BodyReservation::complete(&*budget, peer(1), 10).is_ok());
        assert!(is_evicted(&strangers));
        assert_eq!(budget.used(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_evicted_body_is_woken() {
        let budget = budget();
        let body = incomplete(&budget, peer(1), PEER_BODIES_BYTES).unwrap();
        let waits = std::future::poll_fn(|cx| body.poll_evicted(cx));
        let evicts = async {
            tokio::task::yield_now().await;
            drop(BodyReservation::complete(&*budget, peer(1), 1).unwrap());
        };
        assert_eq!(tokio::join!(waits, evicts).0.code, ProblemCode::Overloaded);
    }

    #[test]
    fn an_owner_of_ipv6_addresses_is_a_network() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.2"), network("10.0.0.1"));
    }
}
