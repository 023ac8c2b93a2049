//! Public ids: a prefix and a sortable ULID in Crockford's base 32 (<https://github.com/ulid/spec>).

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

/// The id of an event: a ULID that the commit thread assigns. Ids rise in the order of acceptance. The position in the
/// log, the storage key and the public id are the same number. No time is read from an id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId(u128);

impl EventId {
    /// The smallest id, before every event.
    pub const MIN: Self = Self(0);
    /// The largest id, after every event.
    pub const MAX: Self = Self(u128::MAX);

    /// Creates an id from its number.
    pub const fn from_u128(n: u128) -> Self {
        Self(n)
    }

    /// The number of the id. Numbers sort in the same order as ids.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The next id. The result for [`EventId::MAX`] is [`EventId::MAX`].
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The previous id. The result for [`EventId::MIN`] is [`EventId::MIN`].
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Defines the types of public ids that consist of a prefix and a ULID.
macro_rules! ids {
    ($($(#[doc = $doc:literal])* $name:ident = $prefix:literal;)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The prefix of the text form.
            pub const PREFIX: &str = concat!($prefix, "_");

            /// Creates an id from its number.
            pub const fn from_u128(n: u128) -> Self {
                Self(n)
            }

            /// The number of the id. Numbers sort in the same order as ids.
            pub const fn as_u128(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Self::PREFIX)?;
                f.write_str(ulid_text(self.0, &mut [0; ULID_CHARS]))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                parse_ulid(s, $prefix).map(Self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

ids! {
    /// The public id of a webhook.
    WebhookId = "wh";
    /// The public id of a source.
    SourceId = "src";
    /// The public id of a subscription.
    SubscriptionId = "sub";
    /// The public id of an API key.
    KeyId = "key";
    /// The id of an entry of the audit log.
    AuditId = "aud";
}

/// The number of a webhook within this data folder. Numbers are dense and never reused. Everything stored per webhook
/// has this number as its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WebhookNo(pub u32);

/// The id of a delivery, which is one event for one webhook. The text form is the ULID of the event and seven
/// characters for the number of the webhook.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The event that is delivered.
    pub event: EventId,
    /// The webhook that the event is delivered to.
    pub webhook: WebhookNo,
}

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {prefix}_ and {chars} characters of Crockford's base 32")]
pub struct IdError {
    prefix: &'static str,
    chars: usize,
}

const ULID_CHARS: usize = 26;
const WEBHOOK_NO_CHARS: usize = 7;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn ulid_text(n: u128, buf: &mut [u8; ULID_CHARS]) -> &str {
    let mut rest = n;
    for slot in buf.iter_mut().rev() {
        *slot = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    // The alphabet is ASCII.
    std::str::from_utf8(buf).unwrap_or_default()
}

fn parse_ulid(text: &str, prefix: &'static str) -> Result<u128, IdError> {
    let bad = IdError { prefix, chars: ULID_CHARS };
    let rest = text.strip_prefix(prefix).and_then(|t| t.strip_prefix('_')).ok_or_else(|| bad.clone())?;
    if rest.len() != ULID_CHARS || rest.as_bytes()[0] > b'7' {
        return Err(bad);
    }
    Ulid::from_string(rest).map(|u| u.0).map_err(|_| bad)
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("evt_")?;
        f.write_str(ulid_text(self.0, &mut [0; ULID_CHARS]))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dlv_")?;
        f.write_str(ulid_text(self.event.0, &mut [0; ULID_CHARS]))?;
        let mut no = [0u8; ULID_CHARS];
        let text = ulid_text(u128::from(self.webhook.0), &mut no);
        f.write_str(&text[ULID_CHARS - WEBHOOK_NO_CHARS..])
    }
}

impl FromStr for EventId {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        parse_ulid(s, "evt").map(Self)
    }
}

impl FromStr for DeliveryId {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        let bad = IdError { prefix: "dlv", chars: ULID_CHARS + WEBHOOK_NO_CHARS };
        let cut = "dlv_".len() + ULID_CHARS;
        if s.len() != cut + WEBHOOK_NO_CHARS || !s.is_ascii() {
            return Err(bad);
        }
        let event = parse_ulid(&s[..cut], "dlv").map_err(|_| bad.clone())?;
        let mut padded = "0".repeat(ULID_CHARS - WEBHOOK_NO_CHARS);
        padded.push_str(&s[cut..]);
        let no = Ulid::from_string(&padded).map_err(|_| bad.clone())?.0;
        Ok(Self { event: EventId(event), webhook: WebhookNo(u32::try_from(no).map_err(|_| bad)?) })
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_as_written() {
        for n in [0, 1, 31, 32, u128::from(u64::MAX), u128::MAX] {
            let id = EventId::from_u128(n);
            assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
            for no in [0, 1, 12_345, u32::MAX] {
                let delivery = DeliveryId { event: id, webhook: WebhookNo(no) };
                assert_eq!(delivery.to_string().len(), 4 + 26 + 7);
                assert_eq!(delivery.to_string().parse::<DeliveryId>(), Ok(delivery));
            }
        }
    }

    #[test]
    fn ids_sort_as_their_text_does() {
        let (low, high) = (EventId::from_u128(999), EventId::from_u128(1 << 90));
        assert!(low < high && low.to_string() < high.to_string());
    }

    #[test]
    fn text_that_is_not_an_id_is_refused() {
        for text in [
            "",
            "evt_",
            "evt_8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "wh_00000000000000000000000000",
            "evt_0000000000000000000000000U",
        ] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
        assert!("dlv_00000000000000000000000000ZZZZZZZ".parse::<DeliveryId>().is_err(), "a number past u32");
    }
}
