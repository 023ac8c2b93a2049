//! A webhook: where events go, which, how they are signed, and at what pace.

use std::fmt;

use crate::limits::EVENT_TYPE_BYTES_MAX;

/// Status of a webhook, as API section 4 tables it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookStatus {
    /// New events are matched, what waits is sent.
    Active,
    /// New events are matched, what waits is held.
    Paused,
    /// New events are not matched, what waits is held.
    Inactive,
    /// New events are not matched, what waits is abandoned.
    Failed,
}

impl WebhookStatus {
    /// Whether new events are matched.
    pub fn is_matched(self) -> bool {
        matches!(self, Self::Active | Self::Paused)
    }
}

/// Types that begin so are Hooktide's own: refused on ingest, matched only by a pattern that spells the prefix.
pub const RESERVED_TYPES: &str = "hooktide.";

/// Which events a webhook wants: an exact type, a prefix of whole segments, or all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EventPattern {
    /// `order.created`.
    Exact(Box<str>),
    /// `order.*`: one or more segments after the prefix; the prefix is kept with its dot.
    Prefix(Box<str>),
    /// `*`: every type but `hooktide.*`.
    All,
}

/// Text that is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an event type such as \"order.created\", a prefix such as \"order.*\", or \"*\"")]
pub struct PatternError;

impl EventPattern {
    /// Parses a pattern.
    pub fn try_new(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self::All);
        }
        match text.strip_suffix(".*") {
            Some(prefix) if is_event_type(prefix) => Ok(Self::Prefix(text[..text.len() - 1].into())),
            None if is_event_type(text) => Ok(Self::Exact(text.into())),
            _ => Err(PatternError),
        }
    }

    /// Whether it wants events of this type; those of the gateway itself only if it spells their prefix.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Exact(text) => **text == *event_type,
            Self::Prefix(prefix) => event_type.len() > prefix.len() && event_type.starts_with(&**prefix),
            Self::All => !event_type.starts_with(RESERVED_TYPES),
        }
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::All => f.write_str("*"),
        }
    }
}

/// Whether `text` is an event type: `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`.
pub fn is_event_type(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=EVENT_TYPE_BYTES_MAX).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (text, parsed) in [
            ("*", Some(EventPattern::All)),
            ("order.created", Some(EventPattern::Exact("order.created".into()))),
            ("order.*", Some(EventPattern::Prefix("order.".into()))),
            ("a.b.*", Some(EventPattern::Prefix("a.b.".into()))),
            ("order*", None),
            ("*.created", None),
            ("order.*.x", None),
            ("", None),
            (".*", None),
            ("bestellung.größe", None),
        ] {
            assert_eq!(EventPattern::try_new(text).ok(), parsed, "{text}");
            if let Some(pattern) = parsed {
                assert_eq!(pattern.to_string(), text);
            }
        }
    }

    #[test]
    fn a_type_has_at_most_128_bytes() {
        assert!(is_event_type(&"a".repeat(128)));
        assert!(!is_event_type(&"a".repeat(129)));
        assert!(!is_event_type("-a"));
    }
}
