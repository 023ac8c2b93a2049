//! The last requests that each source refused, for the person who sets it up.
//!
//! One lock over all of them, which is only ever tried on the way of a request: a flood of bad requests keeps what it can
//! and counts the rest, and no worker waits for another.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError, TryLockError};

use http::HeaderMap;
use http::HeaderName;

use crate::limits::{REJECTION_BODY_BYTES, REJECTIONS_BYTES_MAX, REJECTIONS_PER_SOURCE};
use crate::model::{HIDDEN, SourceId, Timestamp};

/// A request that was refused. Headers that hold secrets are hidden.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// When.
    pub at: Timestamp,
    /// Its request id.
    pub request_id: Box<str>,
    /// The status it was told.
    pub status: u16,
    /// Why, in words.
    pub reason: Box<str>,
    /// Method and path.
    pub request: Box<str>,
    /// Headers, secrets hidden.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The first 4 KiB of the body; nothing of one in which a secret may stand.
    pub body: Box<[u8]>,
    /// How long the body was.
    pub body_bytes: usize,
}

impl Rejection {
    /// Keeps the headers of a request, those hidden that `is_secret` names, and the beginning of its body.
    #[must_use]
    pub fn with(mut self, headers: &HeaderMap, is_secret: impl Fn(&HeaderName) -> bool, body: &[u8]) -> Self {
        self.headers = headers
            .iter()
            .map(|(name, value)| {
                let value = if is_secret(name) { HIDDEN.into() } else { String::from_utf8_lossy(value.as_bytes()) };
                (name.as_str().into(), value.into())
            })
            .collect();
        self.body = body[..body.len().min(REJECTION_BODY_BYTES)].into();
        self.body_bytes = body.len();
        self
    }

    /// Memory that it takes, roughly.
    fn bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| 2 * size_of::<Box<str>>() + name.len() + value.len()).sum();
        size_of::<Self>() + self.request_id.len() + self.reason.len() + self.request.len() + self.body.len() + headers
    }
}

/// Rejections by source, bounded in number and bytes; a restart forgets them.
#[derive(Debug, Default)]
pub struct Rejections {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    sources: HashMap<SourceId, Of>,
    /// Sources by their newest rejection.
    by_age: BTreeMap<u64, SourceId>,
    next: u64,
    bytes: usize,
}

/// Those of one source, oldest first.
#[derive(Debug, Default)]
struct Of {
    newest: u64,
    list: VecDeque<Rejection>,
}

impl Rejections {
    /// Keeps one; the oldest go. Without waiting: `false` if another one is just being kept, and this one is lost.
    pub fn push(&self, source: SourceId, rejection: Rejection) -> bool {
        let mut kept = match self.kept.try_lock() {
            Ok(kept) => kept,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        kept.push(source, rejection);
        true
    }

    /// Those of a source, newest first.
    pub fn of(&self, source: SourceId) -> Vec<Rejection> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.sources.get(&source).map_or_else(Vec::new, |of| of.list.iter().rev().cloned().collect())
    }
}

impl Kept {
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
        // The source that has been quiet longest gives its oldest.
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
    fn each_source_keeps_its_last() {
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
    fn all_together_are_bounded_and_those_of_quiet_sources_go_first() {
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
    fn nobody_waits_to_have_one_kept() {
        let all = Rejections::default();
        let held = all.kept.lock().unwrap();
        assert!(!all.push(SourceId::from_u128(1), rejection("no", b"")));
        drop(held);
    }
}
