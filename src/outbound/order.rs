//! In which order a webhook is sent to.

use std::sync::Arc;

use crate::filter::Field;

/// What waits for what among a webhook's deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Order {
    /// Nothing: a retry lets others pass.
    #[default]
    Any,
    /// Each for all that were accepted before it, one at a time, a retry holding back what follows.
    Acceptance,
    /// The same among events that have the same value here; others do not wait for each other. An event without the value
    /// waits for nothing and holds nothing back.
    By(Arc<Field>),
}

impl Order {
    /// The field that says which events keep order among themselves.
    pub fn field(&self) -> Option<&Field> {
        match self {
            Self::By(field) => Some(field),
            Self::Any | Self::Acceptance => None,
        }
    }
}
