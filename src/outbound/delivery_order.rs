//! The order of the deliveries of a webhook.

use std::sync::Arc;

use crate::filter::EventField;

/// Which deliveries of a webhook wait for other deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeliveryOrder {
    /// No delivery waits for another. Other deliveries overtake a retry.
    #[default]
    Any,
    /// Each delivery waits for all events that were accepted before. One delivery is sent at a time, and a retry holds
    /// back the deliveries behind it.
    Acceptance,
    /// As [`Self::Acceptance`], but only among events with the same value of this field. Events with different values
    /// do not wait for each other. An event without the value waits for nothing and holds nothing back.
    ByField(Arc<EventField>),
}

impl DeliveryOrder {
    /// The field whose value decides which events keep their order; `None` unless this is [`Self::ByField`].
    pub fn field(&self) -> Option<&EventField> {
        match self {
            Self::ByField(field) => Some(field),
            Self::Any | Self::Acceptance => None,
        }
    }
}
