//! `Idempotency-Key` of the management interface: the same request again gets the first answer.
//!
//! Remembered in memory, 24 hours on the scheduling clock and at most `limits::IDEMPOTENCY_KEYS_MAX`; a restart forgets.
//! Answers are kept without secrets. (Events have their own, durable, in the log.)

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::{HeaderMap, HeaderValue};
use ring::digest::{Context, SHA256};

use crate::http::{Problem, ProblemCode, Response, reply};
use crate::limits::{CLIENT_ID_BYTES_MAX, IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_TTL};
use crate::model::Timestamp;
use crate::model::header::IDEMPOTENCY_KEY;
use crate::runtime::Clock;

type Hash = [u8; 32];

#[derive(Debug)]
pub(super) struct Idempotency {
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    entries: HashMap<Hash, Entry>,
    /// In the order of their coming; what is in flight may not be forgotten and comes in at its end.
    order: VecDeque<(Timestamp, Hash)>,
}

#[derive(Debug)]
struct Entry {
    body: Hash,
    /// Absent while the first request is in flight.
    answer: Option<Response>,
}

/// What a request with a key may do.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is the first, or has no key: go on.
    First(Claim),
    /// It was answered before.
    Again(Response),
}

/// The right to answer for a key. Dropped without [`Claim::keep`], the key is free again.
#[derive(Debug)]
pub(super) struct Claim {
    of: Option<(Arc<Idempotency>, Hash)>,
}

impl Idempotency {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, known: Mutex::default() })
    }

    /// `scope` is whatever a key is unique within: the tenant and the route.
    pub(super) fn claim(self: &Arc<Self>, headers: &HeaderMap, scope: [&str; 2], body: &[u8]) -> Result<Turn, Problem> {
        let Some(key) = key_of(headers)? else { return Ok(Turn::First(Claim { of: None })) };
        let place = hash([scope[0].as_bytes(), scope[1].as_bytes(), key]);
        let body = hash([body]);
        let mut known = self.lock();
        known.forget(self.clock.steady());
        match known.entries.get(&place) {
            None => {
                known.entries.insert(place, Entry { body, answer: None });
                Ok(Turn::First(Claim { of: Some((Arc::clone(self), place)) }))
            }
            Some(entry) if entry.body != body => {
                Err(Problem::new(ProblemCode::IdempotencyKeyReused, "this Idempotency-Key came with another body"))
            }
            Some(Entry { answer: Some(answer), .. }) => reply::copy(answer)
                .map(Turn::Again)
                .ok_or_else(|| Problem::new(ProblemCode::Conflict, "the first answer cannot be given again")),
            Some(_) => {
                Err(Problem::new(ProblemCode::Conflict, "the first request with this Idempotency-Key is in flight"))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Each change under the lock is whole, so a panic elsewhere leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget(&mut self, now: Timestamp) {
        while let Some((at, place)) = self.order.front()
            && (self.order.len() > IDEMPOTENCY_KEYS_MAX || now.since(*at) >= IDEMPOTENCY_TTL)
        {
            self.entries.remove(place);
            self.order.pop_front();
        }
    }
}

impl Claim {
    /// Remembers the answer, which must hold no secret.
    pub(super) fn keep(mut self, answer: Response) {
        let Some((all, place)) = self.of.take() else { return };
        let now = all.clock.steady();
        let mut known = all.lock();
        if let Some(entry) = known.entries.get_mut(&place) {
            entry.answer = Some(answer);
            known.order.push_back((now, place));
            known.forget(now);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((all, place)) = self.of.take() {
            all.lock().entries.remove(&place);
        }
    }
}

/// The key of a request, which must be short text.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY).map(HeaderValue::as_bytes) else { return Ok(None) };
    if (1..=CLIENT_ID_BYTES_MAX).contains(&key.len()) && key.iter().all(|b| (0x20..0x7F).contains(b)) {
        return Ok(Some(key));
    }
    let detail = format!("Idempotency-Key: expected 1 to {CLIENT_ID_BYTES_MAX} characters of ASCII");
    Err(Problem::new(ProblemCode::InvalidRequest, detail))
}

fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(text: &str) -> HeaderMap {
        [("idempotency-key".parse().unwrap(), text.parse().unwrap())].into_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_answered_once_for_a_day() {
        let all = Idempotency::new(Clock::test(Timestamp::default()));
        let scope = ["default", "/a"];
        let Ok(Turn::First(claim)) = all.claim(&key("k"), scope, b"body") else { panic!("first") };
        assert_eq!(all.claim(&key("k"), scope, b"body").unwrap_err().code, ProblemCode::Conflict);
        drop(claim);
        let Ok(Turn::First(claim)) = all.claim(&key("k"), scope, b"body") else { panic!("free again") };
        claim.keep(Response::default());
        assert!(matches!(all.claim(&key("k"), scope, b"body"), Ok(Turn::Again(_))));
        assert_eq!(all.claim(&key("k"), scope, b"other").unwrap_err().code, ProblemCode::IdempotencyKeyReused);
        for scope in [["default", "/b"], ["acme", "/a"]] {
            assert!(matches!(all.claim(&key("k"), scope, b"other"), Ok(Turn::First(_))));
        }
        tokio::time::advance(IDEMPOTENCY_TTL.saturating_sub(Duration::from_millis(1))).await;
        assert!(matches!(all.claim(&key("k"), scope, b"body"), Ok(Turn::Again(_))));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(matches!(all.claim(&key("k"), scope, b"body"), Ok(Turn::First(_))));
    }

    #[tokio::test]
    async fn the_oldest_keys_make_room() {
        let all = Idempotency::new(Clock::test(Timestamp::default()));
        let scope = ["default", "/a"];
        for n in 0..=IDEMPOTENCY_KEYS_MAX {
            let Ok(Turn::First(claim)) = all.claim(&key(&n.to_string()), scope, b"") else { panic!("{n}") };
            claim.keep(Response::default());
        }
        assert_eq!(all.lock().entries.len(), IDEMPOTENCY_KEYS_MAX);
        assert!(matches!(all.claim(&key("5"), scope, b""), Ok(Turn::Again(_))));
        assert!(matches!(all.claim(&key("0"), scope, b""), Ok(Turn::First(_))));
    }

    #[test]
    fn a_key_is_short_text() {
        let all = Idempotency::new(Clock::test(Timestamp::default()));
        for bad in ["", &"x".repeat(CLIENT_ID_BYTES_MAX + 1)] {
            assert_eq!(all.claim(&key(bad), ["", ""], b"").unwrap_err().code, ProblemCode::InvalidRequest);
        }
    }
}
