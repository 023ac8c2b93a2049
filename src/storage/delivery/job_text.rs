//! The JSON encoding of a job's fields.

/// An event id as 32 hexadecimal digits.
pub(super) mod event_text {
    use crate::model::EventId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::storage) fn serialize<S: Serializer>(event: &EventId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{:032x}", event.as_u128()))
    }

    pub(in crate::storage) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<EventId, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map(EventId::from_u128).map_err(serde::de::Error::custom)
    }
}

/// A webhook as its number.
pub(super) mod webhook_number {
    use crate::model::WebhookNo;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(in crate::storage) fn serialize<S: Serializer>(webhook: &WebhookNo, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(webhook.0)
    }

    pub(in crate::storage) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<WebhookNo, D::Error> {
        u32::deserialize(from).map(WebhookNo)
    }
}

/// A dead letter's reason as its number.
pub(super) mod reason_number {
    use crate::model::DeadReason;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(in crate::storage) fn serialize<S: Serializer>(reason: &DeadReason, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(*reason as u8)
    }

    pub(in crate::storage) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DeadReason, D::Error> {
        let number = u8::deserialize(from)?;
        DeadReason::from_u8(number).ok_or_else(|| serde::de::Error::custom("no reason has this number"))
    }
}
