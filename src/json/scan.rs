//! Finds where values begin and end in validated JSON. Bytes are skipped, not parsed.
//!
//! On text that is not JSON, these functions return `None` or a wrong range of bytes; they never panic. They do not recurse.

use super::brackets::container_end;

/// A half-open range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ByteSpan {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl ByteSpan {
    /// The positions must be below 4 GiB.
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub(super) fn len(self) -> u64 {
        u64::from(self.end.saturating_sub(self.start))
    }

    pub(super) fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The name of an object member, as written between its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemberName {
    pub(super) span: ByteSpan,
    /// Whether the name contains escapes and must be unescaped before a comparison.
    pub(super) is_escaped: bool,
}

/// The whole text without surrounding whitespace. Returns `None` if the text is empty or has 4 GiB or more. The text is not
/// read: it is one value.
pub(super) fn root_span(text: &[u8]) -> Option<ByteSpan> {
    u32::try_from(text.len()).ok()?;
    let start = blanks_end(text, 0);
    let end = start + text[start..].trim_ascii_end().len();
    (start < end).then(|| ByteSpan::new(start, end))
}

/// Calls `visit` for each member of an object or element of an array, in order, until it returns `false`. Elements have no
/// name. Returns `None` if the text ends early.
pub(super) fn visit_children(
    text: &[u8],
    container: ByteSpan,
    mut visit: impl FnMut(Option<MemberName>, ByteSpan) -> bool,
) -> Option<()> {
    let mut at = container.start as usize;
    let is_object = *text.get(at)? == b'{';
    at = blanks_end(text, at + 1);
    if matches!(text.get(at)?, b'}' | b']') {
        return Some(());
    }
    loop {
        let name = if is_object {
            if *text.get(at)? != b'"' {
                return None;
            }
            let (end, is_escaped) = string_end(text, at + 1)?;
            let name = MemberName { span: ByteSpan::new(at + 1, end - 1), is_escaped };
            at = blanks_end(text, end);
            if *text.get(at)? != b':' {
                return None;
            }
            at = blanks_end(text, at + 1);
            Some(name)
        } else {
            None
        };
        let end = value_end(text, at)?;
        if !visit(name, ByteSpan::new(at, end)) {
            return Some(());
        }
        at = blanks_end(text, end);
        if *text.get(at)? != b',' {
            return Some(());
        }
        at = blanks_end(text, at + 1);
    }
}

/// The elements of an array, each as written. Yields nothing if the value is not an array.
pub fn items(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_array = array.first() == Some(&b'[');
    let mut at = blanks_end(array, 1);
    std::iter::from_fn(move || {
        if !is_array || matches!(array.get(at)?, b']') {
            return None;
        }
        let start = at;
        let end = value_end(array, start)?;
        at = blanks_end(array, end);
        if array.get(at) == Some(&b',') {
            at = blanks_end(array, at + 1);
        }
        array.get(start..end)
    })
}

fn blanks_end(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
        at += 1;
    }
    at
}

/// The position after the value that begins at `at`. A value has at least one byte.
fn value_end(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => string_end(text, at + 1).map(|(end, _)| end),
        b'{' | b'[' => container_end(text, at),
        b',' | b':' | b'}' | b']' => None,
        _ => {
            let rest = &text[at..];
            let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\t' | b'\r');
            Some(at + rest.iter().position(is_end).unwrap_or(rest.len()))
        }
    }
}

const fn each_byte(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Sets the high bit of each byte of the word that equals `byte`. Bytes above the first match may be marked wrongly.
fn marks(word: u64, byte: u8) -> u64 {
    let differs = word ^ each_byte(byte);
    differs.wrapping_sub(each_byte(1)) & !differs & each_byte(0x80)
}

fn word(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The position after the closing quote of a string, and whether the string contains escapes. `at` is the position after
/// the opening quote.
fn string_end(text: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut is_escaped = false;
    loop {
        // Reads eight bytes at a time: strings are the largest part of most payloads.
        if let Some(word) = word(text, at) {
            let found = marks(word, b'"') | marks(word, b'\\');
            if found == 0 {
                at += 8;
                continue;
            }
            at += found.trailing_zeros() as usize / 8;
        }
        match text.get(at)? {
            b'"' => return Some((at + 1, is_escaped)),
            b'\\' => {
                is_escaped = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_ends_at_its_closing_quote_at_any_offset() {
        for len in 0..40 {
            for escape in 0..len {
                let mut text = vec![b'a'; len];
                text[escape] = b'\\';
                // The byte after a backslash is skipped, even if it is a quote.
                if escape + 1 < len {
                    text[escape + 1] = b'"';
                    text.extend_from_slice(b"\", \"b\"");
                    assert_eq!(string_end(&text, 0), Some((len + 1, true)), "{len} {escape}");
                }
            }
            let mut text = vec![0xFF; len];
            assert_eq!(string_end(&text, 0), None);
            text.extend_from_slice(b"\"x");
            assert_eq!(string_end(&text, 0), Some((len + 1, false)), "{len}");
        }
        assert_eq!(string_end(b"\\", 0), None);
    }

    #[test]
    fn items_yields_the_elements_as_written() {
        for (array, wanted) in [
            ("[]", &[][..]),
            (" []", &[]),
            ("[ ]", &[]),
            ("[1]", &["1"]),
            ("[ 1 , \"a,]\" , [2,[3]] , {\"b\":[4]} , null ]", &["1", "\"a,]\"", "[2,[3]]", "{\"b\":[4]}", "null"]),
            ("{\"a\":1}", &[]),
            ("7", &[]),
            ("", &[]),
            ("[1", &["1"]),
            ("[,1]", &[]),
        ] {
            let found: Vec<_> = items(array.as_bytes()).map(|item| std::str::from_utf8(item).unwrap()).collect();
            assert_eq!(found, wanted, "{array}");
        }
    }

    #[test]
    fn deep_nesting_uses_no_stack() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(items(deep.as_bytes()).map(<[u8]>::len).collect::<Vec<_>>(), [deep.len() - 2]);
    }
}
