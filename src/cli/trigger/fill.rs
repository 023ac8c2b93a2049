//! Fresh values in a sample's places.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::model::Timestamp;
use crate::runtime::Random;

/// Makes values: each new, but those with the same name.
#[derive(Debug)]
pub(super) struct Fill<'r> {
    /// The event's type, for `%{type}`.
    pub(super) event_type: &'r str,
    pub(super) now: Timestamp,
    pub(super) random: &'r mut Random,
    named: HashMap<String, String>,
}

const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const CAPS: &[u8] = b"ABCDEFGHJKMNPQRSTVWXYZ0123456789";
const ALNUM: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

impl<'r> Fill<'r> {
    pub(super) fn new(event_type: &'r str, now: Timestamp, random: &'r mut Random) -> Self {
        Self { event_type, now, random, named: HashMap::new() }
    }

    /// The text with every place filled: `%{place}` as it is, `"#{place}"` without its quotes, for a number. What is no
    /// place stays.
    pub(super) fn text(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("%{").into_iter().chain(rest.find("\"#{")).min() {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            let (open, close) = if from.starts_with('%') { ("%{", "}") } else { ("\"#{", "}\"") };
            let place = from.split_once(close).map(|(place, after)| (&place[open.len()..], after));
            let Some((value, after)) = place.and_then(|(place, after)| Some((self.value(place)?, after))) else {
                out.push_str(open);
                rest = &from[open.len()..];
                continue;
            };
            out.push_str(&value);
            rest = after;
        }
        out.push_str(rest);
        out
    }

    /// A place: `uuid`, `unix`, `unix+3600`, `unix-ms`, `rfc3339`, `rfc3339-ms`, `rfc3339-ns`, `type`, or `digits`, `hex`,
    /// `caps`, `alnum` with a length, `digits:13`, and a name if it is to be the same in several places, `digits:13:order`.
    pub(super) fn value(&mut self, place: &str) -> Option<String> {
        let secs = self.now.as_secs();
        let at =
            |form| jiff::Timestamp::from_millisecond(self.now.as_millis()).ok().map(|at| at.strftime(form).to_string());
        match place {
            "uuid" => return Some(self.uuid()),
            "type" => return Some(self.event_type.to_owned()),
            "unix" => return Some(secs.to_string()),
            "unix-ms" => return Some(self.now.as_millis().to_string()),
            "rfc3339" => return at("%Y-%m-%dT%H:%M:%SZ"),
            "rfc3339-ms" => return at("%Y-%m-%dT%H:%M:%S.%3fZ"),
            "rfc3339-ns" => return at("%Y-%m-%dT%H:%M:%S.%9fZ"),
            _ => {}
        }
        if let Some(offset) = place.strip_prefix("unix") {
            return Some((secs + offset.parse::<i64>().ok()?).to_string());
        }
        if let Some(known) = self.named.get(place) {
            return Some(known.clone());
        }
        let mut parts = place.split(':');
        let alphabet = match parts.next()? {
            "digits" => DIGITS,
            "hex" => HEX,
            "caps" => CAPS,
            "alnum" => ALNUM,
            _ => return None,
        };
        let length: usize = parts.next()?.parse().ok()?;
        let value = self.letters(alphabet, length);
        if parts.next().is_some() {
            self.named.insert(place.to_owned(), value.clone());
        }
        Some(value)
    }

    /// Letters of an alphabet; the first is never `0`, so that digits are a number of that length.
    fn letters(&mut self, alphabet: &[u8], length: usize) -> String {
        let last = alphabet.len() as u64 - 1;
        let mut letter = |first| {
            let letters = if first && alphabet[0] == b'0' { &alphabet[1..] } else { alphabet };
            let last = last.min(letters.len() as u64 - 1);
            char::from(letters[self.random.between(0..=last) as usize])
        };
        (0..length).map(|n| letter(n == 0)).collect()
    }

    /// RFC 9562, version 4.
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
    use crate::provider::{sample_headers, samples};

    fn fill(text: &str) -> String {
        let now = Timestamp::from_millis(1_711_015_200_120);
        Fill::new("orders/create", now, &mut Random::seeded(7)).text(text)
    }

    #[test]
    fn places_are_filled_and_the_rest_stays() {
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
    fn a_name_keeps_its_value_and_all_else_is_fresh() {
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
