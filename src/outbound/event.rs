//! A committed event in memory.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::{EventHead, EventId, data_of, raw_of};
use crate::runtime::{BodyLease, Instant};

/// A committed event in memory, as dispatch, send and the API use it.
#[derive(Debug)]
pub struct Event {
    /// The id that the commit thread assigned.
    pub id: EventId,
    /// The encoded head. [`Event::head`] parses it.
    pub head: Bytes,
    /// The data, followed by the raw body if the raw body differs. [`Event::data`] and [`Event::raw`] return the parts.
    pub body: Bytes,
    /// When the commit became durable. For an event that was read back from the log, when the event was read.
    pub committed_at: Instant,
    /// Accounts for the memory that `body` keeps allocated.
    pub lease: Arc<BodyLease>,
}

impl Event {
    /// The fields of the head. A head from the log was already checked when it was read.
    pub fn head(&self) -> EventHead<'_> {
        EventHead::parse(&self.head).unwrap_or_default()
    }

    /// The payload: the JSON data of the event.
    pub fn data(&self) -> Bytes {
        data_of(&self.head, &self.body)
    }

    /// The body of the request that the event came with, byte for byte. For an event of the API, this is the data.
    pub fn raw(&self) -> Bytes {
        raw_of(&self.head, &self.body)
    }
}
