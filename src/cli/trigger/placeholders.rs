//! Replaces the placeholders of a sample with new values.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::model::Timestamp;
use crate::runtime::Random;
use crate::template::{Syntax, Template};

/// A placeholder of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SamplePlaceholder {
    /// `uuid`: a version 4 UUID.
    Uuid,
    /// `type`: the event's type.
    Type,
    /// `unix`, `unix+3600`, `unix-60`: the time in seconds, with an offset.
    Unix { offset_s: i64 },
    /// `unix-ms`: the time in milliseconds.
    UnixMillis,
    /// `rfc3339`, `rfc3339-ms`, `rfc3339-ns`: the time as text, with its `strftime` format.
    Rfc3339(&'static str),
    /// `digits:13`, `hex:40`, `caps:9`, `alnum:24`: random characters. With a name, as in `digits:13:order`, every
    /// occurrence has the same value.
    Letters { alphabet: &'static [u8], count: usize, name: Option<Box<str>> },
}

/// Generates the values of placeholders. Each value is new, except that placeholders with the same name have the same
/// value.
#[derive(Debug)]
pub(super) struct PlaceholderFiller<'r> {
    /// The event's type, for `%{type}`.
    pub(super) event_type: &'r str,
    pub(super) now: Timestamp,
    pub(super) random: &'r mut Random,
    named: HashMap<Box<str>, String>,
}

const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const CAPS: &[u8] = b"ABCDEFGHJKMNPQRSTVWXYZ0123456789";
pub(super) const ALNUM: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

impl SamplePlaceholder {
    pub(super) const RFC3339_MS: Self = Self::Rfc3339("%Y-%m-%dT%H:%M:%S.%3fZ");

    /// The placeholder of this name; `None` if the text is not a placeholder.
    fn parse(name: &str) -> Option<Self> {
        match name {
            "uuid" => return Some(Self::Uuid),
            "type" => return Some(Self::Type),
            "unix" => return Some(Self::Unix { offset_s: 0 }),
            "unix-ms" => return Some(Self::UnixMillis),
            "rfc3339" => return Some(Self::Rfc3339("%Y-%m-%dT%H:%M:%SZ")),
            "rfc3339-ms" => return Some(Self::RFC3339_MS),
            "rfc3339-ns" => return Some(Self::Rfc3339("%Y-%m-%dT%H:%M:%S.%9fZ")),
            _ => {}
        }
        if let Some(offset) = name.strip_prefix("unix") {
            return offset.parse().ok().map(|offset_s| Self::Unix { offset_s });
        }
        let mut parts = name.split(':');
        let alphabet = match parts.next()? {
            "digits" => DIGITS,
            "hex" => HEX,
            "caps" => CAPS,
            "alnum" => ALNUM,
            _ => return None,
        };
        let count = parts.next()?.parse().ok()?;
        Some(Self::Letters { alphabet, count, name: parts.next().map(|_| name.into()) })
    }
}

impl<'r> PlaceholderFiller<'r> {
    pub(super) fn new(event_type: &'r str, now: Timestamp, random: &'r mut Random) -> Self {
        Self { event_type, now, random, named: HashMap::new() }
    }

    /// Returns the text with every placeholder replaced. `%{name}` is replaced as it is; `"#{name}"` is replaced with
    /// its quotes, for a number.
    pub(super) fn text(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let template = Template::parse_as(Syntax::Marked, text, |name| SamplePlaceholder::parse(name).ok_or(()));
        // The built-in samples are far below the limits of templates; a test checks them.
        template.unwrap_or_default().write(&mut out, |fresh, out| out.push_str(&self.value(fresh)));
        out
    }

    /// Generates the value of a placeholder.
    pub(super) fn value(&mut self, fresh: &SamplePlaceholder) -> String {
        match fresh {
            SamplePlaceholder::Uuid => self.uuid(),
            SamplePlaceholder::Type => self.event_type.to_owned(),
            SamplePlaceholder::Unix { offset_s } => (self.now.as_secs() + offset_s).to_string(),
            SamplePlaceholder::UnixMillis => self.now.as_millis().to_string(),
            // Every time of the clock is a valid calendar time.
            SamplePlaceholder::Rfc3339(form) => jiff::Timestamp::from_millisecond(self.now.as_millis())
                .map(|at| at.strftime(form).to_string())
                .unwrap_or_default(),
            SamplePlaceholder::Letters { alphabet, count, name: None } => self.letters(alphabet, *count),
            SamplePlaceholder::Letters { alphabet, count, name: Some(name) } => {
                if let Some(known) = self.named.get(name) {
                    return known.clone();
                }
                let value = self.letters(alphabet, *count);
                self.named.insert(name.clone(), value.clone());
                value
            }
        }
    }

    /// Random characters of an alphabet. The first is never `0`, so digits form a number of that length.
    fn letters(&mut self, alphabet: &[u8], length: usize) -> String {
        let last = alphabet.len() as u64 - 1;
        let mut letter = |first| {
            let letters = if first && alphabet[0] == b'0' { &alphabet[1..] } else { alphabet };
            let last = last.min(letters.len() as u64 - 1);
            char::from(letters[self.random.between(0..=last) as usize])
        };
        (0..length).map(|n| letter(n == 0)).collect()
    }

    /// A version 4 UUID (RFC 9562).
    fn uuid(&mut self) -> String {
        let bits = self.random.bits() & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        let mut text = String::with_capacity(36);
        for range in [0..8, 8..12, 12..16, 16..20, 20..32] {
            let dash = if range.start == 0 { "" } else { "-" };
            let _ = write!(text, "{dash}{}", &hex[range]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::provider::{sample_headers, samples};

    fn fill(text: &str) -> String {
        let now = Timestamp::from_millis(1_711_015_200_120);
        PlaceholderFiller::new("orders/create", now, &mut Random::seeded(7)).text(text)
    }

    #[test]
    fn placeholders_are_replaced_and_other_text_stays() {
        assert_eq!(fill("%{type} %{unix} %{unix+10} %{unix-20}"), "orders/create 1711015200 1711015210 1711015180");
        assert_eq!(
            fill(r##"{"a":"#{unix-ms}","b":"#1 %{rfc3339}"}"##),
            r##"{"a":1711015200120,"b":"#1 2024-03-21T10:00:00Z"}"##
        );
        assert_eq!(fill("%{rfc3339-ms} %{rfc3339-ns}"), "2024-03-21T10:00:00.120Z 2024-03-21T10:00:00.120000000Z");
        for text in [
            "100 %{} {{amount}} %{nothing:3} \"#{",
            "%{type",
            "%%",
            "} {",
            "#{unix}",
            "\"#{unix}",
            "\"#{unix} \"",
            "%{unix+}",
            "%{digits}",
            "%{digits:x}",
            "%{ type}",
            r##"{"a":"#{uuid:1}","b":{"c":"%{}"}}"##,
        ] {
            assert_eq!(fill(text), text);
        }
        assert_eq!(fill("%{ %{type}} %%{type}%{{type}"), "%{ orders/create} %orders/create%{{type}");
    }

    #[test]
    fn named_placeholders_repeat_their_value_and_others_are_new() {
        let text = fill("%{digits:13:a} %{digits:13:a} %{digits:13} %{digits:13}");
        let words: Vec<_> = text.split(' ').collect();
        assert!(words[0] == words[1] && words[1] != words[2] && words[2] != words[3], "{text}");
        assert!(words.iter().all(|word| word.len() == 13 && !word.starts_with('0')), "{text}");
        let uuid = fill("%{uuid}");
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
    }

    #[test]
    fn every_sample_is_json_once_it_is_filled() {
        for kind in ["shopify", "stripe", "github", "slack"] {
            let headers = sample_headers(kind).unwrap();
            for text in samples(kind).iter().map(|sample| sample.body).chain([headers]) {
                let filled = fill(text);
                assert!(!filled.contains("%{") && !filled.contains("#{"), "{kind}: {filled}");
                serde_json::from_str::<serde_json::Value>(&filled).unwrap();
            }
        }
    }
}
