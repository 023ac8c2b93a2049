//! The encoding of the checkpoint and the high-water marks in state.redb.
//!
//! The checkpoint is the last announced event (head) and the list of deliveries up to it that are neither settled nor
//! have a row. The checkpoint, the rows, and the log after the head together contain all unfinished work.

use crate::model::{EventId, Timestamp, WebhookNo, Webhooks};

use super::part;

/// A checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last announced event.
    pub head: EventId,
    /// Events up to the head with deliveries that are neither settled nor have a row, ascending, each with the webhooks
    /// of these deliveries.
    pub list: Vec<(EventId, Webhooks)>,
}

impl Checkpoint {
    /// Begins an encoded checkpoint in `out`. Replaces its content.
    pub(crate) fn begin(head: EventId, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&head.as_u128().to_le_bytes());
    }

    /// Appends an event of the list to an encoded checkpoint.
    pub(crate) fn append(event: EventId, webhooks: &[WebhookNo], out: &mut Vec<u8>) {
        out.extend_from_slice(&event.as_u128().to_le_bytes());
        encode_webhooks(webhooks, out);
    }

    /// Decodes a checkpoint. Returns `None` if it is damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let head = EventId::from_u128(u128::from_le_bytes(*bytes.first_chunk()?));
        let mut rest = bytes.get(16..)?;
        let mut list = Vec::new();
        while !rest.is_empty() {
            let event = EventId::from_u128(u128::from_le_bytes(part(rest, 0)));
            rest = rest.get(16..)?;
            let (webhooks, after) = decode_webhooks(rest)?;
            rest = after;
            list.push((event, webhooks));
        }
        Some(Self { head, list })
    }
}

/// The high-water marks. A start reads them first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HighWaterMarks {
    /// The scheduling clock at the last flush.
    pub steady: Timestamp,
    /// The number of the next job.
    pub next_job: u64,
    /// Whether the last flush was the final one of an orderly stop.
    pub clean: bool,
}

impl HighWaterMarks {
    pub(super) fn encode(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[..8].copy_from_slice(&self.steady.as_millis().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.next_job.to_le_bytes());
        bytes[16] = u8::from(self.clean);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self {
            steady: Timestamp::from_millis(i64::from_le_bytes(part(bytes, 0))),
            next_job: u64::from_le_bytes(part(bytes, 8)),
            clean: bytes.get(16) == Some(&1),
        }
    }
}

/// Appends a count and ascending webhook numbers, each as the difference to the previous one (LEB128).
pub(super) fn encode_webhooks(webhooks: &[WebhookNo], out: &mut Vec<u8>) {
    put_varint(webhooks.len() as u32, out);
    let mut last = 0;
    for no in webhooks {
        put_varint(no.0 - last, out);
        last = no.0;
    }
}

/// Decodes a list of webhook numbers, and returns the bytes after it. Returns `None` if the list is damaged.
pub(super) fn decode_webhooks(bytes: &[u8]) -> Option<(Webhooks, &[u8])> {
    let mut rest = bytes;
    let count = take_varint(&mut rest)?;
    let mut last = 0u32;
    let mut webhooks = Webhooks::new();
    for _ in 0..count {
        last = last.checked_add(take_varint(&mut rest)?)?;
        webhooks.push(WebhookNo(last));
    }
    Some((webhooks, rest))
}

fn put_varint(mut n: u32, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut n = 0u32;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u32::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_checkpoint_is_not_decoded() {
        let mut bytes = Vec::new();
        Checkpoint::begin(EventId::from_u128(7), &mut bytes);
        Checkpoint::append(EventId::from_u128(7), &[WebhookNo(1), WebhookNo(300)], &mut bytes);
        assert!(Checkpoint::decode(&bytes).is_some());
        assert_eq!(Checkpoint::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Checkpoint::decode(&bytes[..10]), None);
    }
}
