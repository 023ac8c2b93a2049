//! `Idempotency-Key` of the management API: a repeated request gets the response of the first one.
//!
//! Responses are stored in memory, without secrets, for 24 hours on the scheduling clock. At most
//! `limits::IDEMPOTENCY_KEYS_MAX` keys are stored, and a restart deletes them. Idempotency keys of events are separate: they
//! are durable in the log.

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

/// The idempotency keys of the management API.
#[derive(Debug)]
pub(super) struct Idempotency {
    clock: Clock,
    keys: Mutex<KeyStore>,
}

#[derive(Debug, Default)]
struct KeyStore {
    entries: HashMap<Hash, KeyEntry>,
    /// The finished requests, oldest first. A request in flight has no entry here, so its key is never evicted.
    order: VecDeque<(Timestamp, Hash)>,
}

#[derive(Debug)]
struct KeyEntry {
    body: Hash,
    /// `None` while the first request is in flight.
    answer: Option<Response>,
}

/// The result of claiming a key.
#[derive(Debug)]
pub(super) enum ClaimResult {
    /// The request is the first with this key, or it has no key. It must be executed.
    First(KeyClaim),
    /// The key has a stored response.
    Replay(Response),
}

/// The exclusive claim to a key. If it is dropped without [`KeyClaim::store`], the key is released.
#[derive(Debug)]
pub(super) struct KeyClaim {
    of: Option<(Arc<Idempotency>, Hash)>,
}

impl Idempotency {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, keys: Mutex::default() })
    }

    /// Claims the key of a request. A key is unique within its `scope`: the tenant and the path.
    ///
    /// # Errors
    /// 400 for an invalid key, 422 for a key that was used with another body, 409 while the first request is in flight or if
    /// its response cannot be repeated.
    pub(super) fn claim(
        self: &Arc<Self>,
        headers: &HeaderMap,
        scope: [&str; 2],
        body: &[u8],
    ) -> Result<ClaimResult, Problem> {
        let Some(key) = key_of(headers)? else { return Ok(ClaimResult::First(KeyClaim { of: None })) };
        let key_hash = hash([scope[0].as_bytes(), scope[1].as_bytes(), key]);
        let body = hash([body]);
        let mut keys = self.lock();
        keys.evict(self.clock.steady());
        match keys.entries.get(&key_hash) {
            None => {
                keys.entries.insert(key_hash, KeyEntry { body, answer: None });
                Ok(ClaimResult::First(KeyClaim { of: Some((Arc::clone(self), key_hash)) }))
            }
            Some(entry) if entry.body != body => {
                Err(Problem::new(ProblemCode::IdempotencyKeyReused, "this Idempotency-Key came with another body"))
            }
            Some(KeyEntry { answer: Some(answer), .. }) => reply::clone_response(answer)
                .map(ClaimResult::Replay)
                .ok_or_else(|| Problem::new(ProblemCode::Conflict, "the first answer cannot be given again")),
            Some(_) => {
                Err(Problem::new(ProblemCode::Conflict, "the first request with this Idempotency-Key is in flight"))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, KeyStore> {
        // Each change under the lock is complete, so the state is consistent even if another thread panicked.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyStore {
    fn evict(&mut self, now: Timestamp) {
        while let Some((at, key_hash)) = self.order.front()
            && (self.order.len() > IDEMPOTENCY_KEYS_MAX || now.since(*at) >= IDEMPOTENCY_TTL)
        {
            self.entries.remove(key_hash);
            self.order.pop_front();
        }
    }
}

impl KeyClaim {
    /// Stores the response, which must not contain secrets.
    pub(super) fn store(mut self, answer: Response) {
        let Some((all, key_hash)) = self.of.take() else { return };
        let now = all.clock.steady();
        let mut keys = all.lock();
        if let Some(entry) = keys.entries.get_mut(&key_hash) {
            entry.answer = Some(answer);
            keys.order.push_back((now, key_hash));
            keys.evict(now);
        }
    }
}

impl Drop for KeyClaim {
    fn drop(&mut self) {
        if let Some((all, key_hash)) = self.of.take() {
            all.lock().entries.remove(&key_hash);
        }
    }
}

/// The idempotency key of a request. `None` without the header.
///
/// # Errors
/// 400 for a key that is empty, too long, or not printable ASCII.
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
    async fn a_key_replays_its_response_for_a_day() {
        let all = Idempotency::new(Clock::test(Timestamp::default()));
        let scope = ["default", "/a"];
        let Ok(ClaimResult::First(claim)) = all.claim(&key("k"), scope, b"body") else { panic!("first") };
        assert_eq!(all.claim(&key("k"), scope, b"body").unwrap_err().code, ProblemCode::Conflict);
        drop(claim);
        let Ok(ClaimResult::First(claim)) = all.claim(&key("k"), scope, b"body") else { panic!("free again") };
        claim.store(Response::default());
        assert!(matches!(all.claim(&key("k"), scope, b"body"), Ok(ClaimResult::Replay(_))));
        assert_eq!(all.claim(&key("k"), scope, b"other").unwrap_err().code, ProblemCode::IdempotencyKeyReused);
        for scope in [["default", "/b"], ["acme", "/a"]] {
            assert!(matches!(all.claim(&key("k"), scope, b"other"), Ok(ClaimResult::First(_))));
        }
        tokio::time::advance(IDEMPOTENCY_TTL.saturating_sub(Duration::from_millis(1))).await;
        assert!(matches!(all.claim(&key("k"), scope, b"body"), Ok(ClaimResult::Replay(_))));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(matches!(all.claim(&key("k"), scope, b"body"), Ok(ClaimResult::First(_))));
    }

    #[tokio::test]
    async fn the_oldest_keys_are_evicted() {
        let all = Idempotency::new(Clock::test(Timestamp::default()));
        let scope = ["default", "/a"];
        for n in 0..=IDEMPOTENCY_KEYS_MAX {
            let Ok(ClaimResult::First(claim)) = all.claim(&key(&n.to_string()), scope, b"") else { panic!("{n}") };
            claim.store(Response::default());
        }
        assert_eq!(all.lock().entries.len(), IDEMPOTENCY_KEYS_MAX);
        assert!(matches!(all.claim(&key("5"), scope, b""), Ok(ClaimResult::Replay(_))));
        assert!(matches!(all.claim(&key("0"), scope, b""), Ok(ClaimResult::First(_))));
    }

    #[test]
    fn an_empty_or_long_key_is_refused() {
        let all = Idempotency::new(Clock::test(Timestamp::default()));
        for bad in ["", &"x".repeat(CLIENT_ID_BYTES_MAX + 1)] {
            assert_eq!(all.claim(&key(bad), ["", ""], b"").unwrap_err().code, ProblemCode::InvalidRequest);
        }
    }
}
