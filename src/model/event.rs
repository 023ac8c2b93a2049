//! Events: the encoded head, as the log stores the head, and the data, byte for byte as received.
//!
//! The head is encoded once, at ingest. After that, every stage passes and writes the head as bytes. A stage that needs
//! a field reads the field in place. The layout is (integers are little-endian):
//!
//! ```text
//! u8 version, u8 flags, u8 dedup kind, u8 hops, i64 timestamp, i64 received_at, [u8; 16] dedup key, u64 fingerprint,
//! u32 data length, u32 raw length (flag 2), [u8; 16] nonce (flag 4), 9 × (u16 length, bytes): tenant, type, source,
//! external id, correlation id,
//! traceparent, resource id, workspace id, user id; u32 length, metadata; the inbound section (flag 8, see `inbound_info`);
//! webhooks whose filters were too costly (flag 16); all webhooks that matched
//! ```
//!
//! A list of webhooks is: varint count, count × varint webhook number less the one before.
//!
//! The module `wire` writes and reads texts and numbers. Flag 1 means that a signature was verified. Flag 2 means that
//! the raw body follows the data. A head with flag 16 has version 3, a head with one of the flags 2, 4 and 8 has version
//! 2, and a head without these flags has version 1. So a program that knows only lower versions never misreads a head.
//!
//! The body of an event is its data, as JSON. If the raw body differs from the data, the raw body follows the data.

use bytes::Bytes;
use smallvec::SmallVec;

use super::dedup::{DedupKey, DedupKind};
use super::inbound_info::InboundInfo;
use super::numeric_ids::NumericIds;
use super::wire::{HeadReader, put_long_text, put_text, put_varint};
use super::{Timestamp, WebhookNo};

/// The numbers of the webhooks that matched when the event was accepted, in ascending order.
pub type Webhooks = SmallVec<[WebhookNo; 4]>;

/// The webhooks that matched an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MatchedWebhooks {
    /// The webhooks that receive the event, in ascending order.
    pub receivers: Webhooks,
    /// The webhooks whose filters were too costly to evaluate, in ascending order. Their deliveries are dead letters from
    /// the start.
    pub too_costly: Box<[WebhookNo]>,
}

impl MatchedWebhooks {
    /// The number of webhooks that matched, with those whose filters were too costly.
    pub fn len(&self) -> usize {
        self.receivers.len() + self.too_costly.len()
    }

    /// Whether no webhook matched.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All webhooks, in ascending order.
    pub fn all(&self) -> Webhooks {
        let mut all = self.receivers.clone();
        all.extend_from_slice(&self.too_costly);
        all.sort_unstable();
        all
    }
}

impl From<Webhooks> for MatchedWebhooks {
    fn from(receivers: Webhooks) -> Self {
        Self { receivers, too_costly: Box::default() }
    }
}

/// Returns the data part of the body of an event. `head` is the encoded head.
pub fn data_of(head: &[u8], body: &Bytes) -> Bytes {
    raw_start(head, body).map_or_else(|| body.clone(), |start| body.slice(..start))
}

/// Returns the raw body of the request that the event came with. `head` is the encoded head.
pub fn raw_of(head: &[u8], body: &Bytes) -> Bytes {
    raw_start(head, body).map_or_else(|| body.clone(), |start| body.slice(start..))
}

/// The offset at which the raw body begins; `None` if the data is the raw body.
fn raw_start(head: &[u8], body: &Bytes) -> Option<usize> {
    if head.get(1)? & FLAG_RAW == 0 {
        return None;
    }
    let len = head.get(DATA_LEN_AT..)?.first_chunk::<4>()?;
    Some((u32::from_le_bytes(*len) as usize).min(body.len()))
}

/// All fields of an event head. This type is the input to [`NewEvent::encode`].
#[derive(Debug, Clone, Copy, Default)]
pub struct NewEvent<'a> {
    /// The tenant of the event.
    pub tenant: &'a str,
    /// The event type, `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`.
    pub event_type: &'a str,
    /// `api` for events that a client publishes, otherwise the name of the source.
    pub source: &'a str,
    /// The time at which the event happened, as the sender says.
    pub timestamp: Timestamp,
    /// When the request arrived.
    pub received_at: Timestamp,
    /// The id that the sender gave.
    pub external_id: Option<&'a str>,
    /// The `X-Correlation-ID` of the request, or the request id if the header is missing.
    pub correlation_id: &'a str,
    /// The W3C trace context. Deliveries carry the same value.
    pub traceparent: Option<&'a str>,
    /// The id of the resource that the event is about, as text.
    pub resource_id: Option<&'a str>,
    /// The id of the workspace of the event, as text.
    pub workspace_id: Option<&'a str>,
    /// The id of the user that the event is about, as text.
    pub user_id: Option<&'a str>,
    /// The ids that were numbers.
    pub numeric_ids: NumericIds,
    /// A raw JSON object.
    pub metadata: Option<&'a str>,
    /// Whether the signature of the request was verified.
    pub verified: bool,
    /// The deduplication key and its kind; `None` if the event is not deduplicated.
    pub dedup: Option<(DedupKey, DedupKind)>,
    /// The first 64 bits of the SHA-256 of the body, which are compared for [`DedupKind::IdempotencyKey`]. 0 without a
    /// deduplication key.
    pub fingerprint: u64,
    /// A signed value that is accepted only once, in addition to the deduplication key. Of an event in a batch with an
    /// idempotency key, the key of the whole batch.
    pub nonce: Option<DedupKey>,
    /// The length of the data in bytes.
    pub data_len: u32,
    /// The length in bytes of the raw body that follows the data; `None` if the data is the raw body.
    pub raw_len: Option<u32>,
    /// What is stored about the request of a source; `None` for events of the API.
    pub inbound: Option<InboundInfo<'a>>,
    /// The number of gateways that the event has passed through before this gateway.
    pub hops: u8,
}

/// A parsed event head. The texts borrow from the encoded bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventHead<'a> {
    /// The fields of the head.
    pub event: NewEvent<'a>,
    too_costly: WebhookList<'a>,
    webhooks: WebhookList<'a>,
}

/// An encoded list of webhooks.
#[derive(Debug, Clone, Copy, Default)]
struct WebhookList<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl WebhookList<'_> {
    fn encode(webhooks: &[WebhookNo], out: &mut Vec<u8>) {
        put_varint(webhooks.len() as u32, out);
        let mut last = 0;
        for no in webhooks {
            put_varint(no.0 - last, out);
            last = no.0;
        }
    }

    fn decode(self) -> impl Iterator<Item = WebhookNo> {
        let mut from = HeadReader::new(self.bytes);
        let mut last = 0u32;
        (0..self.count).map_while(move |_| {
            last = last.wrapping_add(from.varint().ok()?);
            Some(WebhookNo(last))
        })
    }
}

/// The fixed fields at the beginning of a head from which the deduplication table is rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupFields {
    /// When the request arrived.
    pub received_at: Timestamp,
    /// The deduplication key and its kind; `None` if the event is not deduplicated.
    pub dedup: Option<(DedupKey, DedupKind)>,
    /// A signed value that is accepted only once.
    pub nonce: Option<DedupKey>,
    /// The first 64 bits of the SHA-256 of the body.
    pub fingerprint: u64,
}

/// Why bytes cannot be read as an event head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// A newer program wrote the head.
    #[error("event head of version {0}; this program reads versions up to {VERSION_MAX}")]
    Version(u8),
    /// The head ends early, or a text is not UTF-8.
    #[error("damaged event head")]
    Damaged,
}

/// The version of a head without any of [`FLAGS_OF_2`].
const VERSION_PLAIN: u8 = 1;
const VERSION_OF_SOURCES: u8 = 2;
/// The version of a head with [`FLAG_TOO_COSTLY`].
const VERSION_TOO_COSTLY: u8 = 3;
const VERSION_MAX: u8 = VERSION_TOO_COSTLY;
const FLAG_VERIFIED: u8 = 1;
const FLAG_RAW: u8 = 2;
const FLAG_NONCE: u8 = 4;
const FLAG_INBOUND: u8 = 8;
const FLAG_TOO_COSTLY: u8 = 16;
const FLAGS_OF_2: u8 = FLAG_RAW | FLAG_NONCE | FLAG_INBOUND;
/// The offset of the length of the data.
const DATA_LEN_AT: usize = 4 + 8 + 8 + 16 + 8;

impl NewEvent<'_> {
    /// The length of the body in bytes: the data and the raw body after it.
    pub fn body_len(&self) -> usize {
        self.data_len as usize + self.raw_len.unwrap_or(0) as usize
    }

    /// Appends the encoded head of an event to `out`. Every webhook that matched receives the event.
    pub fn encode(&self, webhooks: &[WebhookNo], out: &mut Vec<u8>) {
        self.encode_lists(webhooks, &[], out);
    }

    /// Appends the encoded head to `out`.
    pub fn encode_matched(&self, matched: &MatchedWebhooks, out: &mut Vec<u8>) {
        if matched.too_costly.is_empty() {
            self.encode_lists(&matched.receivers, &[], out);
        } else {
            self.encode_lists(&matched.all(), &matched.too_costly, out);
        }
    }

    /// Appends the encoded head to `out`. Ingest ensures that no text is longer than 65,534 bytes.
    fn encode_lists(&self, webhooks: &[WebhookNo], too_costly: &[WebhookNo], out: &mut Vec<u8>) {
        let (key, kind) = match self.dedup {
            None => ([0; 16], 0),
            Some((key, DedupKind::Id)) => (key, 1),
            Some((key, DedupKind::IdempotencyKey)) => (key, 2),
        };
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(self.verified, FLAG_VERIFIED)
            | flag(self.raw_len.is_some(), FLAG_RAW)
            | flag(self.nonce.is_some(), FLAG_NONCE)
            | flag(self.inbound.is_some(), FLAG_INBOUND)
            | flag(!too_costly.is_empty(), FLAG_TOO_COSTLY)
            | self.numeric_ids.flags();
        let version = match flags {
            flags if flags & FLAG_TOO_COSTLY != 0 => VERSION_TOO_COSTLY,
            flags if flags & FLAGS_OF_2 != 0 => VERSION_OF_SOURCES,
            _ => VERSION_PLAIN,
        };
        out.extend_from_slice(&[version, flags, kind, self.hops]);
        out.extend_from_slice(&self.timestamp.as_millis().to_le_bytes());
        out.extend_from_slice(&self.received_at.as_millis().to_le_bytes());
        out.extend_from_slice(&key);
        out.extend_from_slice(&self.fingerprint.to_le_bytes());
        out.extend_from_slice(&self.data_len.to_le_bytes());
        if let Some(len) = self.raw_len {
            out.extend_from_slice(&len.to_le_bytes());
        }
        if let Some(nonce) = &self.nonce {
            out.extend_from_slice(nonce);
        }
        for text in
            [Some(self.tenant), Some(self.event_type), Some(self.source), self.external_id, Some(self.correlation_id)]
        {
            put_text(text, out);
        }
        for text in [self.traceparent, self.resource_id, self.workspace_id, self.user_id] {
            put_text(text, out);
        }
        put_long_text(self.metadata, out);
        if let Some(inbound) = &self.inbound {
            inbound.encode(out);
        }
        if !too_costly.is_empty() {
            WebhookList::encode(too_costly, out);
        }
        WebhookList::encode(webhooks, out);
    }
}

impl<'a> EventHead<'a> {
    /// Reads only the fixed fields at the beginning of the head, because each start of the server reads a million
    /// heads.
    ///
    /// # Errors
    /// [`HeadError`] if the bytes are not a head of a known version.
    pub fn dedup_fields(bytes: &[u8]) -> Result<DedupFields, HeadError> {
        let mut from = HeadReader::new(bytes);
        let [version, flags, kind, _] = from.array()?;
        if !(VERSION_PLAIN..=VERSION_MAX).contains(&version) {
            return Err(HeadError::Version(version));
        }
        let _timestamp: [u8; 8] = from.array()?;
        let received_at = Timestamp::from_millis(i64::from_le_bytes(from.array()?));
        let dedup = dedup_of(kind, from.array()?)?;
        let fingerprint = u64::from_le_bytes(from.array()?);
        let _data_len: [u8; 4] = from.array()?;
        if flags & FLAG_RAW != 0 {
            let _raw_len: [u8; 4] = from.array()?;
        }
        let nonce = if flags & FLAG_NONCE != 0 { Some(from.array()?) } else { None };
        Ok(DedupFields { received_at, dedup, nonce, fingerprint })
    }

    /// Reads only the tenant and the event type, because the metrics count each delivery by these labels.
    ///
    /// # Errors
    /// [`HeadError`] if the bytes are not a head of a known version.
    pub fn labels(bytes: &'a [u8]) -> Result<(&'a str, &'a str), HeadError> {
        let [version, flags, ..] = *bytes.first_chunk::<4>().ok_or(HeadError::Damaged)?;
        if !(VERSION_PLAIN..=VERSION_MAX).contains(&version) {
            return Err(HeadError::Version(version));
        }
        let raw = if flags & FLAG_RAW != 0 { 4 } else { 0 };
        let nonce = if flags & FLAG_NONCE != 0 { 16 } else { 0 };
        let mut from = HeadReader::new(bytes.get(DATA_LEN_AT + 4 + raw + nonce..).ok_or(HeadError::Damaged)?);
        let tenant = from.text()?.ok_or(HeadError::Damaged)?;
        Ok((tenant, from.text()?.ok_or(HeadError::Damaged)?))
    }

    /// Parses a head. The result borrows from `bytes`.
    ///
    /// # Errors
    /// [`HeadError`] if the bytes are not a head of a known version.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeadError> {
        let mut from = HeadReader::new(bytes);
        let [version, flags, kind, hops] = from.array()?;
        if !(VERSION_PLAIN..=VERSION_MAX).contains(&version) {
            return Err(HeadError::Version(version));
        }
        let timestamp = Timestamp::from_millis(i64::from_le_bytes(from.array()?));
        let received_at = Timestamp::from_millis(i64::from_le_bytes(from.array()?));
        let dedup = dedup_of(kind, from.array()?)?;
        let event = NewEvent {
            timestamp,
            received_at,
            dedup,
            fingerprint: u64::from_le_bytes(from.array()?),
            data_len: u32::from_le_bytes(from.array()?),
            raw_len: if flags & FLAG_RAW != 0 { Some(u32::from_le_bytes(from.array()?)) } else { None },
            nonce: if flags & FLAG_NONCE != 0 { Some(from.array()?) } else { None },
            verified: flags & FLAG_VERIFIED != 0,
            hops,
            tenant: from.text()?.ok_or(HeadError::Damaged)?,
            event_type: from.text()?.ok_or(HeadError::Damaged)?,
            source: from.text()?.ok_or(HeadError::Damaged)?,
            external_id: from.text()?,
            correlation_id: from.text()?.ok_or(HeadError::Damaged)?,
            traceparent: from.text()?,
            resource_id: from.text()?,
            workspace_id: from.text()?,
            user_id: from.text()?,
            numeric_ids: NumericIds::of_flags(flags),
            metadata: from.long_text()?,
            inbound: if flags & FLAG_INBOUND != 0 { Some(InboundInfo::parse(&mut from)?) } else { None },
        };
        let mut too_costly = WebhookList::default();
        if flags & FLAG_TOO_COSTLY != 0 {
            too_costly = WebhookList { count: from.varint()? as usize, bytes: from.rest() };
            for _ in 0..too_costly.count {
                from.varint()?;
            }
        }
        let count = from.varint()? as usize;
        Ok(Self { event, too_costly, webhooks: WebhookList { bytes: from.rest(), count } })
    }

    /// The numbers of the webhooks that matched, in ascending order, with those whose filters were too costly.
    pub fn webhooks(&self) -> Webhooks {
        self.webhooks.decode().collect()
    }

    /// The webhooks that matched, divided into those that receive the event and those whose filters were too costly.
    pub fn matched(&self) -> MatchedWebhooks {
        let too_costly: Box<[WebhookNo]> = self.too_costly.decode().collect();
        let receivers = self.webhooks.decode().filter(|no| too_costly.binary_search(no).is_err()).collect();
        MatchedWebhooks { receivers, too_costly }
    }

    /// The number of webhooks that matched.
    pub fn webhook_count(&self) -> usize {
        self.webhooks.count
    }
}

fn dedup_of(kind: u8, key: DedupKey) -> Result<Option<(DedupKey, DedupKind)>, HeadError> {
    match kind {
        0 => Ok(None),
        1 => Ok(Some((key, DedupKind::Id))),
        2 => Ok(Some((key, DedupKind::IdempotencyKey))),
        _ => Err(HeadError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Mapping;
    use proptest::prelude::*;

    fn sample() -> NewEvent<'static> {
        NewEvent {
            tenant: "default",
            event_type: "order.created",
            source: "api",
            timestamp: Timestamp::from_millis(1_711_015_200_120),
            received_at: Timestamp::from_millis(1_711_015_200_500),
            external_id: Some("ord-1"),
            correlation_id: "req_1",
            user_id: Some(""),
            workspace_id: Some("456"),
            numeric_ids: NumericIds { workspace: true, ..NumericIds::default() },
            metadata: Some(r#"{"source":"api"}"#),
            dedup: Some(([7; 16], DedupKind::IdempotencyKey)),
            fingerprint: 42,
            data_len: 9,
            hops: 3,
            ..NewEvent::default()
        }
    }

    fn from_a_source() -> NewEvent<'static> {
        NewEvent {
            source: "shopify",
            verified: true,
            nonce: Some([9; 16]),
            raw_len: Some(70_000),
            inbound: Some(InboundInfo {
                content_type: Some("application/x-www-form-urlencoded"),
                headers: r#"{"x-a":"b"}"#,
                topic: Some("orders/create"),
                mapping: Mapping::Failed,
                signed_id: true,
                signed_type: false,
            }),
            ..sample()
        }
    }

    #[test]
    fn a_head_reads_back_as_encoded() {
        for event in [sample(), from_a_source()] {
            let mut bytes = Vec::new();
            let webhooks: Vec<_> = [0, 1, 127, 128, 70_000, u32::MAX].map(WebhookNo).to_vec();
            event.encode(&webhooks, &mut bytes);
            assert_eq!(bytes[0], if event.inbound.is_some() { 2 } else { 1 });
            let head = EventHead::parse(&bytes).unwrap();
            assert_eq!(format!("{:?}", head.event), format!("{event:?}"));
            assert_eq!(head.webhooks().to_vec(), webhooks);
            assert_eq!(EventHead::labels(&bytes), Ok((event.tenant, event.event_type)));
            let fields = EventHead::dedup_fields(&bytes).unwrap();
            assert_eq!((fields.dedup, fields.nonce, fields.fingerprint), (event.dedup, event.nonce, 42));
            assert_eq!(fields.received_at, event.received_at);
        }
    }

    #[test]
    fn webhooks_with_too_costly_filters_are_kept_in_a_version_of_their_own() {
        for event in [sample(), from_a_source()] {
            let nos = |nos: &[u32]| nos.iter().map(|no| WebhookNo(*no)).collect::<Webhooks>();
            let matched =
                MatchedWebhooks { receivers: nos(&[3, 70_000]), too_costly: nos(&[0, 128, u32::MAX]).to_vec().into() };
            let mut bytes = Vec::new();
            event.encode_matched(&matched, &mut bytes);
            assert_eq!(bytes[0], VERSION_TOO_COSTLY);
            let head = EventHead::parse(&bytes).unwrap();
            assert_eq!(head.matched(), matched);
            assert_eq!((head.webhooks(), head.webhook_count()), (nos(&[0, 3, 128, 70_000, u32::MAX]), 5));
            assert_eq!(EventHead::labels(&bytes), Ok((event.tenant, event.event_type)));
            assert_eq!(EventHead::dedup_fields(&bytes).unwrap().fingerprint, 42);
            bytes.clear();
            event.encode(&matched.receivers, &mut bytes);
            assert_eq!(EventHead::parse(&bytes).unwrap().matched(), matched.receivers.clone().into());
        }
    }

    #[test]
    fn the_raw_body_follows_the_data_or_is_the_data() {
        let body = Bytes::from_static(b"{\"a\":1}\na=1");
        let parts = |event: NewEvent<'_>| {
            let mut head = Vec::new();
            event.encode(&[], &mut head);
            (data_of(&head, &body), raw_of(&head, &body))
        };
        let both = NewEvent { raw_len: Some(4), data_len: 7, ..sample() };
        assert_eq!(parts(both), (Bytes::from_static(b"{\"a\":1}"), Bytes::from_static(b"\na=1")));
        assert_eq!(parts(NewEvent { raw_len: Some(0), data_len: 11, ..sample() }), (body.clone(), Bytes::new()));
        assert_eq!(parts(sample()), (body.clone(), body.clone()));
    }

    #[test]
    fn a_cut_head_is_damaged_and_a_later_version_is_named() {
        let mut bytes = Vec::new();
        for event in [sample(), from_a_source()] {
            bytes.clear();
            event.encode(&[], &mut bytes);
            for len in 0..bytes.len() {
                assert_eq!(EventHead::parse(&bytes[..len]).err(), Some(HeadError::Damaged), "cut at {len}");
            }
        }
        bytes[0] = 9;
        assert_eq!(EventHead::parse(&bytes).err(), Some(HeadError::Version(9)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = EventHead::labels(&bytes);
            if let Ok(head) = EventHead::parse(&bytes) {
                let _ = head.webhooks();
            }
        }
    }
}
