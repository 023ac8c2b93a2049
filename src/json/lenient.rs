//! Reads JSON that is valid by its grammar, but has a value that Rust cannot represent.
//!
//! The grammar of JSON allows half of a surrogate pair (`"\ud83d"`) and numbers beyond an `f64` (`1e400`). An event may
//! have them, because its data are stored and delivered as they came. All readers of this program read such an event in
//! the same way: half of a surrogate pair is U+FFFD, and a number beyond an `f64` is the largest one.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, IgnoredAny};

use super::exceeds_depth;
use crate::limits::JSON_DEPTH_MAX;

/// The escape of U+FFFD, which is as long as the escape of a surrogate.
const REPLACEMENT: &str = "\\ufffd";
/// The deepest nesting that is read: that of an event's data, inside a request that has two levels of its own.
pub const EVENT_DEPTH_MAX: usize = JSON_DEPTH_MAX + 2;
/// The deepest nesting that serde_json reads by itself. Settings are stored and read back within it.
pub const SETTINGS_DEPTH_MAX: usize = 127;

/// Parses JSON text.
///
/// # Errors
/// If the text does not follow the grammar, is nested too deeply, or does not fit `T`.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| read_again(text).ok_or(error))
}

/// Parses JSON text in UTF-8.
///
/// # Errors
/// As for [`from_str`], or if the bytes are not UTF-8.
pub fn from_slice<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(json).or_else(|error| std::str::from_utf8(json).ok().and_then(read_again).ok_or(error))
}

/// Reads text that serde_json refused, if the reason was a value that Rust cannot represent, or the depth.
fn read_again<T: DeserializeOwned>(text: &str) -> Option<T> {
    let is_deep = exceeds_depth(text, SETTINGS_DEPTH_MAX);
    let text = match representable(text) {
        Some(changed) => Cow::Owned(changed),
        None if is_deep => Cow::Borrowed(text),
        None => return None,
    };
    // Up to the first syntax error, the depth is counted as the parser counts it. So the recursion has a bound for every
    // text.
    if is_deep && exceeds_depth(&text, EVENT_DEPTH_MAX) {
        return None;
    }
    let mut from = serde_json::Deserializer::from_str(&text);
    from.disable_recursion_limit();
    let value = T::deserialize(&mut from).ok()?;
    from.end().ok().map(|()| value)
}

/// A name that serde_json returned as bytes. They are UTF-8, except that half of a surrogate pair has three bytes of its
/// own (WTF-8), which become U+FFFD.
pub fn name(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(name) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(name);
    }
    let mut name = String::new();
    for chunk in bytes.utf8_chunks() {
        name.push_str(chunk.valid());
        // Each of the three bytes is a chunk. Only the first one is 0xED.
        if chunk.invalid().first() == Some(&0xED) {
            name.push(char::REPLACEMENT_CHARACTER);
        }
    }
    Cow::Owned(name)
}

/// The text with other values in place of those that Rust cannot represent. `None` if there are none.
fn representable(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut changed = String::new();
    let (mut at, mut copied, mut is_string) = (0, 0, false);
    while let Some(&byte) = bytes.get(at) {
        let (len, replacement) = match byte {
            b'\\' if is_string => escape(bytes, at),
            b'"' => {
                is_string = !is_string;
                (1, None)
            }
            b'-' | b'0'..=b'9' if !is_string => number(&text[at..]),
            _ => (1, None),
        };
        if let Some(replacement) = replacement {
            changed.push_str(&text[copied..at]);
            changed.push_str(replacement);
            copied = at + len;
        }
        at += len;
    }
    if changed.is_empty() {
        return None;
    }
    changed.push_str(&text[copied..]);
    Some(changed)
}

/// The length of the escape at a place in a string, and what to write in its place.
fn escape(bytes: &[u8], at: usize) -> (usize, Option<&'static str>) {
    match unit(bytes, at) {
        Some(0xd800..=0xdbff) if matches!(unit(bytes, at + 6), Some(0xdc00..=0xdfff)) => (12, None),
        Some(0xd800..=0xdfff) => (6, Some(REPLACEMENT)),
        Some(_) => (6, None),
        None => (2, None),
    }
}

/// The UTF-16 unit of the escape `\uXXXX` at a place.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

/// The length of the number that a text begins with, and what to write in its place.
fn number(text: &str) -> (usize, Option<&'static str>) {
    let len = text.bytes().take_while(|b| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')).count();
    let largest = match text[..len].parse::<f64>() {
        Ok(f64::INFINITY) => Some("1.7976931348623157e308"),
        Ok(f64::NEG_INFINITY) => Some("-1.7976931348623157e308"),
        _ => None,
    };
    // Rust reads more forms than JSON has.
    (len, largest.filter(|_| serde_json::from_str::<IgnoredAny>(&text[..len]).is_ok()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_rust_cannot_represent_is_read_and_the_rest_is_unchanged() {
        for (text, expected) in [
            (r#""abc\ud83d""#, json!("abc\u{fffd}")),
            (r#""\udc00\ud83dx\ud83d\ude00\u0041\\ud83d\n""#, json!("\u{fffd}\u{fffd}x\u{1f600}A\\ud83d\n")),
            (r#""\ud83d\ud83d\ude00""#, json!("\u{fffd}\u{1f600}")),
            (r#"{"\ud83d":1,"a":"\uDFFFb"}"#, json!({ "\u{fffd}": 1, "a": "\u{fffd}b" })),
            ("[1e400,-1e400,1e-400,0]", json!([f64::MAX, f64::MIN, 0.0, 0])),
            (r#"{"a":1e999,"b":"1e999"}"#, json!({ "a": f64::MAX, "b": "1e999" })),
            ("12345678901234567890123", json!(1.234_567_890_123_456_8e22)),
        ] {
            assert_eq!(from_str::<Value>(text).unwrap(), expected, "{text}");
            assert_eq!(from_slice::<Value>(text.as_bytes()).unwrap(), expected, "{text}");
        }
        assert_eq!(from_str::<Value>(&"9".repeat(400)).unwrap(), json!(f64::MAX));
        for text in [r#""\ud83d"#, r#""\ud83g""#, r#"["\ud83d",]"#, "1e400e", "-", "[1e400", "01e400", "é", ""] {
            assert!(from_str::<Value>(text).is_err(), "{text}");
        }
        assert!(from_slice::<Value>(b"\"\\ud83d\xff\"").is_err());
    }

    /// A part of a document, often one that is hard to read.
    fn part() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            r#""a""#,
            r#""\ud83d""#,
            r#""x\ud83d\ude00y""#,
            r#""\udead\"""#,
            "1e400",
            "-1E+999",
            "1.5",
            "-0",
            "7",
            "null",
            "true",
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            " ",
            r#""\\""#,
            "\"",
            "\\",
        ])
    }

    proptest! {
        /// Whatever the grammar allows is read, and nothing else. The grammar is that of a raw value.
        #[test]
        fn the_grammar_alone_decides(parts in prop::collection::vec(part(), 0..12)) {
            let text = parts.concat();
            let is_json = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(from_str::<Value>(&text).is_ok(), is_json, "{}", text);
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(from_str::<Value>(&text).unwrap(), value);
            }
        }
    }
}
