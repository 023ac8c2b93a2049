//! Value parsers of the command line arguments. Each error is the text that clap shows.

use std::time::Duration;

use crate::config::parse_duration;
use crate::model::{EventPattern, Role, TENANT_NAME_ALLOWED, Timestamp, is_event_type, is_tenant_name};

/// An id, uid or cursor that needs no escaping in a URL.
pub(super) fn path_part(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.~=:@".contains(&b));
    if fits && !text.starts_with('.') {
        Ok(text.to_owned())
    } else {
        Err("expected letters, digits, and -_.~=:@".to_owned())
    }
}

/// An event type pattern: `order.created`, `order.*`, `*`.
pub(super) fn pattern(text: &str) -> Result<String, String> {
    EventPattern::try_new(text).map(|pattern| pattern.to_string()).map_err(|e| e.to_string())
}

/// An event type such as `order.created`.
pub(super) fn event_type(text: &str) -> Result<String, String> {
    if is_event_type(text) {
        Ok(text.to_owned())
    } else {
        Err("expected an event type: a letter or digit, then up to 127 of A-Z a-z 0-9 . _ : -".to_owned())
    }
}

/// A role such as `member`.
pub(super) fn role(text: &str) -> Result<Role, String> {
    Role::from_word(text).ok_or_else(|| format!("expected {}", Role::WORDS))
}

/// The name of one tenant.
pub(super) fn tenant(text: &str) -> Result<String, String> {
    if is_tenant_name(text) { Ok(text.to_owned()) } else { Err(format!("expected {TENANT_NAME_ALLOWED}")) }
}

/// The name of one tenant, or `*` for all tenants.
pub(super) fn tenant_or_all(text: &str) -> Result<String, String> {
    if text == "*" { Ok(text.to_owned()) } else { tenant(text) }
}

/// A duration above zero such as `15m`, or a number of seconds such as `90`.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text).filter(|span| !span.is_zero());
    span.ok_or_else(|| "expected a span of time such as 15m, 2h, 7d, or a number of seconds".to_owned())
}

/// A time in the future, absolute or relative to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FutureTime {
    At(Timestamp),
    In(Duration),
}

impl FutureTime {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let at = text.parse().map(Self::At).ok();
        at.or_else(|| span(text).ok().map(Self::In))
            .ok_or_else(|| "expected a time such as 2030-01-31T12:00:00Z, or how long from now, such as 90d".to_owned())
    }

    pub(super) fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::In(span) => now.plus(span),
        }
    }
}

/// A time, absolute or as a duration before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PastTime {
    At(Timestamp),
    Ago(Duration),
}

impl PastTime {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let at = text.parse().map(Self::At).ok();
        at.or_else(|| parse_duration(text).map(Self::Ago))
            .ok_or_else(|| "expected a time such as 2026-01-31T12:00:00Z, or how long ago, such as 2h".to_owned())
    }

    pub(super) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => {
                let ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
                Timestamp::from_millis(now.as_millis().saturating_sub(ms))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        let now = Timestamp::from_millis(10_000_000);
        for (text, ms) in [
            ("1970-01-01T00:00:01Z", Some(1_000)),
            ("1h", Some(6_400_000)),
            ("90", Some(9_910_000)),
            ("yesterday", None),
        ] {
            assert_eq!(PastTime::parse(text).ok().map(|when| when.before(now).as_millis()), ms, "{text}");
        }
    }

    #[test]
    fn ids_that_would_change_a_url_are_refused() {
        for (text, fits) in [
            ("wh_01ABC", true),
            ("webhook_123", true),
            ("shop:7@eu", true),
            ("a/b", false),
            ("..", false),
            ("a?b", false),
            ("", false),
            ("a%2f", false),
        ] {
            assert_eq!(path_part(text).is_ok(), fits, "{text}");
        }
    }
}
