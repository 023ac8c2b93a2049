//! The last rejected requests of each source, for the user who configures it.
//!
//! One lock guards all of them. Requests only try to take it: in a flood of bad requests, the rejections that find the lock
//! taken are only counted, and no worker waits for another.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError, TryLockError};

use http::HeaderMap;
use http::HeaderName;

use super::extraction::truncate_utf8;
use crate::limits::{
    REJECTION_BODY_BYTES, REJECTION_HEADERS_BYTES, REJECTION_REQUEST_BYTES, REJECTIONS_BYTES_MAX, REJECTIONS_PER_SOURCE,
};
use crate::model::{HIDDEN, SourceId, Timestamp};

/// A rejected request. Headers that contain secrets are hidden.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// The time of the rejection.
    pub at: Timestamp,
    /// The request id.
    pub request_id: Box<str>,
    /// The status of the response.
    pub status: u16,
    /// The reason, as text.
    pub reason: Box<str>,
    /// The method and path.
    pub request: Box<str>,
    /// The headers, with hidden secrets.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The first 4 KiB of the body. Empty if the body may contain a secret.
    pub body: Box<[u8]>,
    /// The length of the body in bytes.
    pub body_bytes: usize,
}

impl Rejection {
    /// Adds the headers of the request, with the values hidden for which `is_secret` is true, and the beginning of its body.
    /// A request may be rejected because its head is too long, so the head is bounded too.
    #[must_use]
    pub fn with(mut self, headers: &HeaderMap, is_secret: impl Fn(&HeaderName) -> bool, body: &[u8]) -> Self {
        let mut head_bytes = 0;
        self.request = truncate_utf8(Cow::Owned(self.request.into()), REJECTION_REQUEST_BYTES).into();
        self.headers = headers
            .iter()
            .take_while(|(name, value)| {
                head_bytes += name.as_str().len() + value.len();
                head_bytes <= REJECTION_HEADERS_BYTES
            })
            .map(|(name, value)| {
                let value = if is_secret(name) { HIDDEN.into() } else { String::from_utf8_lossy(value.as_bytes()) };
                (name.as_str().into(), value.into())
            })
            .collect();
        self.body = body[..body.len().min(REJECTION_BODY_BYTES)].into();
        self.body_bytes = body.len();
        self
    }

    /// The approximate memory use in bytes.
    fn bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| 2 * size_of::<Box<str>>() + name.len() + value.len()).sum();
        size_of::<Self>() + self.request_id.len() + self.reason.len() + self.request.len() + self.body.len() + headers
    }
}

/// The rejections of all sources, bounded in number and bytes. They are lost at a restart.
#[derive(Debug, Default)]
pub struct Rejections {
    kept: Mutex<RejectionStore>,
}

#[derive(Debug, Default)]
struct RejectionStore {
    sources: HashMap<SourceId, SourceRejections>,
    /// The sources, ordered by their newest rejection.
    by_age: BTreeMap<u64, SourceId>,
    next: u64,
    bytes: usize,
}

/// The rejections of one source, oldest first.
#[derive(Debug, Default)]
struct SourceRejections {
    newest: u64,
    list: VecDeque<Rejection>,
}

impl Rejections {
    /// Adds a rejection and drops the oldest ones beyond the bounds. Does not wait: returns `false` and drops the rejection
    /// if the lock is taken.
    pub fn push(&self, source: SourceId, rejection: Rejection) -> bool {
        let mut kept = match self.kept.try_lock() {
            Ok(kept) => kept,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        kept.push(source, rejection);
        true
    }

    /// The rejections of a source, newest first.
    pub fn of(&self, source: SourceId) -> Vec<Rejection> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.sources.get(&source).map_or_else(Vec::new, |of| of.list.iter().rev().cloned().collect())
    }
}

impl RejectionStore {
    fn push(&mut self, source: SourceId, rejection: Rejection) {
        self.bytes += rejection.bytes();
        self.next += 1;
        let of = self.sources.entry(source).or_default();
        self.by_age.remove(&of.newest);
        self.by_age.insert(self.next, source);
        of.newest = self.next;
        of.list.push_back(rejection);
        if of.list.len() > REJECTIONS_PER_SOURCE {
            self.drop_oldest_of(source);
        }
        // The source without rejections for the longest time loses its oldest rejection.
        while self.bytes > REJECTIONS_BYTES_MAX
            && let Some((_, &quiet)) = self.by_age.first_key_value()
        {
            self.drop_oldest_of(quiet);
        }
    }

    fn drop_oldest_of(&mut self, source: SourceId) {
        let Some(of) = self.sources.get_mut(&source) else { return };
        if let Some(gone) = of.list.pop_front() {
            self.bytes -= gone.bytes();
        }
        if of.list.is_empty() {
            let newest = of.newest;
            self.by_age.remove(&newest);
            self.sources.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderValue, USER_AGENT};

    use super::*;

    fn rejection(reason: &str, body: &[u8]) -> Rejection {
        let headers = HeaderMap::from_iter([
            (HeaderName::from_static("x-signature"), HeaderValue::from_static("sha256=abc")),
            (USER_AGENT, HeaderValue::from_bytes(b"a\xff").unwrap()),
        ]);
        let rejection = Rejection {
            at: Timestamp::from_millis(1),
            request_id: "req_1".into(),
            status: 401,
            reason: reason.into(),
            request: "POST /api/v1/webhooks/a".into(),
            headers: Vec::new(),
            body: Box::default(),
            body_bytes: 0,
        };
        rejection.with(&headers, |name| name == "x-signature", body)
    }

    #[test]
    fn secrets_are_hidden_and_only_the_beginning_of_a_body_is_kept() {
        let kept = rejection("no", &vec![b'x'; 100_000]);
        assert_eq!((kept.body.len(), kept.body_bytes), (REJECTION_BODY_BYTES, 100_000));
        let headers: Vec<_> = kept.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(headers, [("x-signature", "***"), ("user-agent", "a\u{fffd}")]);
    }

    #[test]
    fn a_long_head_is_cut() {
        let long = HeaderValue::from_bytes(&[b'a'; REJECTION_HEADERS_BYTES - 100]).unwrap();
        let mut headers = HeaderMap::from_iter([(USER_AGENT, long)]);
        for _ in 0..200 {
            headers.append(HeaderName::from_static("x-more"), HeaderValue::from_static("b"));
        }
        let mut kept = rejection("no", b"");
        kept.request = format!("POST /{}", "é".repeat(REJECTION_REQUEST_BYTES)).into();
        let kept = kept.with(&headers, |_| false, b"");
        assert!((REJECTION_REQUEST_BYTES - 1..=REJECTION_REQUEST_BYTES).contains(&kept.request.len()));
        assert!((2..20).contains(&kept.headers.len()), "{}", kept.headers.len());
    }

    #[test]
    fn each_source_keeps_its_last_rejections() {
        let (all, [one, other]) = (Rejections::default(), [1, 2].map(SourceId::from_u128));
        for n in 0..REJECTIONS_PER_SOURCE + 5 {
            assert!(all.push(one, rejection(&n.to_string(), b"")));
        }
        assert!(all.push(other, rejection("other", b"")));
        let kept = all.of(one);
        assert_eq!(kept.len(), REJECTIONS_PER_SOURCE);
        assert_eq!((&*kept[0].reason, &*kept[99].reason), ("104", "5"));
        assert_eq!(all.of(other).len(), 1);
        assert!(all.of(SourceId::from_u128(3)).is_empty());
    }

    #[test]
    fn total_memory_is_bounded_and_idle_sources_lose_rejections_first() {
        let all = Rejections::default();
        let body = vec![b'x'; REJECTION_BODY_BYTES];
        for n in 0..100 {
            for _ in 0..REJECTIONS_PER_SOURCE {
                all.push(SourceId::from_u128(n), rejection("no", &body));
            }
        }
        let kept = all.kept.lock().unwrap();
        assert!(kept.bytes <= REJECTIONS_BYTES_MAX && kept.bytes > REJECTIONS_BYTES_MAX / 2, "{}", kept.bytes);
        let counted: usize = kept.sources.values().flat_map(|of| &of.list).map(Rejection::bytes).sum();
        assert_eq!((kept.bytes, kept.sources.len()), (counted, kept.by_age.len()));
        drop(kept);
        assert!(all.of(SourceId::from_u128(0)).is_empty());
        assert_eq!(all.of(SourceId::from_u128(99)).len(), REJECTIONS_PER_SOURCE);
    }

    #[test]
    fn push_does_not_wait_for_the_lock() {
        let all = Rejections::default();
        let held = all.kept.lock().unwrap();
        assert!(!all.push(SourceId::from_u128(1), rejection("no", b"")));
        drop(held);
    }
}
