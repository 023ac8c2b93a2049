//! Dedup keys. Existing data folders have them in their log, so their bytes must not change.
//!
//! A key is the SHA-256 of five parts, cut to 128 bits. The length of each part precedes it (u64, little-endian):
//!
//! ```text
//! tenant, sender, kind, id, supplement
//! ```
//!
//! The sender is `api` for an application, the source's id (u128, little-endian) for a source, and empty for the
//! gateway. The supplement of an `idempotency-key` is the event's index in a request of many events, in decimal digits.
//! The supplement of `id+body` and `body` is the SHA-256 of the request's body. Any other kind has none.

use std::io::Write as _;

use bytes::Bytes;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};
use smallvec::SmallVec;

use super::draft::EventOrigin;
use crate::model::header::IDEMPOTENCY_KEY;
use crate::model::{DedupBy, DedupKey, DedupKind};

/// The buffer that events arrived in, and its SHA-256, which is computed on first use.
#[derive(Debug)]
pub(super) struct RequestBuffer<'a> {
    pub(super) bytes: &'a Bytes,
    digest: Option<[u8; SHA256_OUTPUT_LEN]>,
}

impl<'a> RequestBuffer<'a> {
    pub(super) fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, digest: None }
    }

    fn digest(&mut self) -> &[u8; SHA256_OUTPUT_LEN] {
        self.digest.get_or_insert_with(|| first_bytes(digest(&SHA256, self.bytes).as_ref()))
    }

    /// The first 64 bits of the SHA-256.
    fn fingerprint(&mut self) -> u64 {
        u64::from_le_bytes(first_bytes(self.digest()))
    }
}

/// The sender of an event and the event's tenant. Keys of two senders are always different.
#[derive(Debug, Clone, Copy)]
pub(super) struct DedupScope<'a> {
    pub(super) tenant: &'a str,
    pub(super) origin: EventOrigin<'a>,
}

impl DedupScope<'_> {
    /// The key, its kind, and the fingerprint of the body, which is 0 if the body is not compared.
    pub(super) fn dedup(self, by: DedupBy<'_>, request: &mut RequestBuffer<'_>) -> (DedupKey, DedupKind, u64) {
        let by_id = |key| (key, DedupKind::Id, 0);
        match by {
            // The ids of operational events have a kind of their own.
            DedupBy::Id(id) if self.origin == EventOrigin::Gateway => by_id(self.key("own", id, &[])),
            DedupBy::Id(id) => by_id(self.key("id", id, &[])),
            DedupBy::IdAndBody(id) => by_id(self.key("id+body", id, request.digest())),
            DedupBy::Body => by_id(self.key("body", "", request.digest())),
            DedupBy::IdempotencyKey { key, index } => {
                let mut digits = SmallVec::<[u8; 20]>::new();
                if let Some(index) = index {
                    // Writing to memory does not fail.
                    let _ = write!(digits, "{index}");
                }
                (self.key(IDEMPOTENCY_KEY, key, &digits), DedupKind::IdempotencyKey, request.fingerprint())
            }
        }
    }

    /// The key of the batch that the event is in, for an idempotency key. A single event with the same idempotency key
    /// has the same key.
    pub(super) fn batch_key(self, by: DedupBy<'_>) -> Option<DedupKey> {
        match by {
            DedupBy::IdempotencyKey { key, index: Some(_) } => Some(self.key(IDEMPOTENCY_KEY, key, &[])),
            _ => None,
        }
    }

    /// The key of a value that is accepted only once.
    pub(super) fn nonce(self, nonce: &str) -> DedupKey {
        self.key("once", nonce, &[])
    }

    fn key(self, kind: &str, id: &str, supplement: &[u8]) -> DedupKey {
        let source;
        let sender = match self.origin {
            EventOrigin::Application => self.origin.name().as_bytes(),
            EventOrigin::Source { id, .. } => {
                source = id.as_u128().to_le_bytes();
                &source
            }
            EventOrigin::Gateway => &[],
        };
        let mut context = Context::new(&SHA256);
        for part in [self.tenant.as_bytes(), sender, kind.as_bytes(), id.as_bytes(), supplement] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        first_bytes(context.finish().as_ref())
    }
}

fn first_bytes<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&digest[..N]);
    first
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::model::SourceId;

    const BODY: &[u8] = br#"{"a":1}"#;

    fn dedup(tenant: &str, origin: EventOrigin<'_>, by: DedupBy<'_>) -> (String, DedupKind, u64) {
        let (key, kind, fingerprint) =
            DedupScope { tenant, origin }.dedup(by, &mut RequestBuffer::new(&Bytes::from_static(BODY)));
        (HEXLOWER.encode(&key), kind, fingerprint)
    }

    #[test]
    fn the_bytes_of_a_key_are_those_in_existing_logs() {
        let application = |by| dedup("acme", EventOrigin::Application, by);
        let by_key = |key, index| DedupBy::IdempotencyKey { key, index };
        let fingerprint = 0x2d7a_c55c_7fbd_5a01;
        let of_body = |key: &str| (key.to_owned(), DedupKind::IdempotencyKey, fingerprint);
        let of_id = |key: &str| (key.to_owned(), DedupKind::Id, 0);
        assert_eq!(application(DedupBy::Id("ord-1")), of_id("1e0abf954cb6614016679f2f8525a3dc"));
        assert_eq!(application(by_key("k", None)), of_body("434217ea95d1b3991dca5671f60b4d71"));
        assert_eq!(application(by_key("k", Some(12))), of_body("4d79a39f8815409410f0950a6c7ca171"));

        let gateway = dedup("acme", EventOrigin::Gateway, DedupBy::Id("ord-1"));
        assert_eq!(gateway, of_id("0ab422bdb65f45360bd28aca6ad0f0ba"));

        let origin = EventOrigin::Source { id: SourceId::from_u128(7), name: "shop" };
        let source = |by| dedup("default", origin, by);
        assert_eq!(source(DedupBy::Id("ord-1")), of_id("b33cf3c6b6e4ce9661079987245d2463"));
        assert_eq!(source(DedupBy::IdAndBody("ord-1")), of_id("e364dae0d3e50cdd61b07510a611766c"));
        assert_eq!(source(DedupBy::Body), of_id("14e700f612fde41e1470853c96756c3c"));
        assert_eq!(source(by_key("k", None)), of_body("dd87007f709f5f921aae4c37491c1809"));
        let scope = DedupScope { tenant: "acme", origin: EventOrigin::Application };
        let batch_key = |by| scope.batch_key(by).map(|key| HEXLOWER.encode(&key));
        assert_eq!(batch_key(by_key("k", Some(12))).as_deref(), Some("434217ea95d1b3991dca5671f60b4d71"));
        assert_eq!((batch_key(by_key("k", None)), batch_key(DedupBy::Id("k"))), (None, None));
        let nonce = DedupScope { tenant: "default", origin }.nonce("tok");
        assert_eq!(HEXLOWER.encode(&nonce), "7fd29105caf975eb3b9e90b3b05d762a");
    }

    #[test]
    fn keys_of_two_senders_are_different() {
        let origins = [
            EventOrigin::Application,
            EventOrigin::Gateway,
            EventOrigin::Source { id: SourceId::from_u128(1), name: "api" },
            EventOrigin::Source { id: SourceId::from_u128(2), name: "api" },
        ];
        let by = [DedupBy::Id("1"), DedupBy::IdAndBody("1"), DedupBy::IdempotencyKey { key: "1", index: None }];
        let mut keys = Vec::new();
        for tenant in ["acme", "default"] {
            for origin in origins {
                keys.extend(by.map(|by| dedup(tenant, origin, by).0));
                keys.push(HEXLOWER.encode(&DedupScope { tenant, origin }.nonce("1")));
            }
        }
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }
}
