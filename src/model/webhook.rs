//! Plain parts of a webhook: the status and the patterns of event types.

use std::fmt;

use crate::limits::EVENT_TYPE_BYTES_MAX;

/// The status of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookStatus {
    /// New events are matched and waiting deliveries are sent.
    Active,
    /// New events are matched and waiting deliveries are held.
    Paused,
    /// New events are not matched and waiting deliveries are held.
    Inactive,
    /// New events are not matched and waiting deliveries are abandoned.
    Failed,
}

impl WebhookStatus {
    /// Whether new events are matched.
    pub fn is_matched(self) -> bool {
        matches!(self, Self::Active | Self::Paused)
    }
}

/// The prefix of the types of operational events. Ingest refuses events with this prefix. Only a pattern that contains
/// the prefix matches them.
pub const RESERVED_TYPE_PREFIX: &str = "hooktide.";

/// Which event types a webhook receives: an exact type, a prefix of whole segments, or all types.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EventPattern {
    /// An exact type, such as `order.created`.
    Exact(Box<str>),
    /// A prefix, such as `order.*`, followed by one or more segments. The prefix is stored with its dot.
    Prefix(Box<str>),
    /// The pattern `*`: every type except `hooktide.*`.
    All,
}

/// The text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an event type such as \"order.created\", a prefix such as \"order.*\", or \"*\"")]
pub struct PatternError;

impl EventPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`PatternError`] if the text is not a pattern.
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

    /// Whether the pattern matches this event type. Types of operational events match only if the pattern contains
    /// their prefix.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Exact(text) => **text == *event_type,
            Self::Prefix(prefix) => event_type.len() > prefix.len() && event_type.starts_with(&**prefix),
            Self::All => !event_type.starts_with(RESERVED_TYPE_PREFIX),
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
    fn patterns_are_parsed_and_printed() {
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
