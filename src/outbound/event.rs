//! An event in memory, on its way to its endpoints.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::{EventHead, EventId, data_of, raw_of};
use crate::runtime::{BodyLease, Instant};

/// An event in memory, as dispatch, send and the interface see it.
#[derive(Debug)]
pub struct Event {
    /// Given by the commit thread.
    pub id: EventId,
    /// The encoded head; see [`Event::head`].
    pub head: Bytes,
    /// The data, and the raw body behind it where that is another; see [`Event::data`].
    pub body: Bytes,
    /// When its commit was durable; of a recalled event, when it was recalled.
    pub committed_at: Instant,
    /// Counts the memory that `body` pins.
    pub lease: Arc<BodyLease>,
}

impl Event {
    /// The fields of the head. A head that came from the log was checked when it was read.
    pub fn head(&self) -> EventHead<'_> {
        EventHead::parse(&self.head).unwrap_or_default()
    }

    /// The payload: JSON, as it is delivered.
    pub fn data(&self) -> Bytes {
        data_of(&self.head, &self.body)
    }

    /// The body of the request that the event came with, byte for byte; of an application's event, its data.
    pub fn raw(&self) -> Bytes {
        raw_of(&self.head, &self.body)
    }
}
