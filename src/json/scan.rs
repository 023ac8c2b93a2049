//! Where values begin and end in JSON that was checked before: bytes are skipped, not parsed.
//!
//! Nothing here fails on text that is not JSON; it says `None`, or something that is not there. Nothing recurses.

use super::brackets::container_end;

/// From here to before there, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// Only for places in a text that is shorter than 4 GiB.
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub(super) fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The name of a member, within its quotes, as it is written; of an element there is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) span: Span,
    /// Whether it has escapes, and means something else than it looks like.
    pub(super) is_escaped: bool,
}

/// The value that is a text, less the blanks around it; `None` in an empty text, and in one of 4 GiB. Nothing is read for it:
/// the text is one value.
pub(super) fn whole(text: &[u8]) -> Option<Span> {
    u32::try_from(text.len()).ok()?;
    let start = blanks_end(text, 0);
    let end = start + text[start..].trim_ascii_end().len();
    (start < end).then(|| Span::new(start, end))
}

/// Each member of an object, or each element of an array, in its order; `None` if the text ends early.
pub(super) fn each(text: &[u8], container: Span, mut visit: impl FnMut(Option<Name>, Span) -> bool) -> Option<()> {
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
            let name = Name { span: Span::new(at + 1, end - 1), is_escaped };
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
        if !visit(name, Span::new(at, end)) {
            return Some(());
        }
        at = blanks_end(text, end);
        if *text.get(at)? != b',' {
            return Some(());
        }
        at = blanks_end(text, at + 1);
    }
}

/// The elements of an array, each as it stands; none of anything else.
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

/// Past the value that begins here, which is at least a byte long.
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

/// The high bit of each byte of the word that is `byte`. Bytes above the first such one may be marked wrongly.
fn marks(word: u64, byte: u8) -> u64 {
    let differs = word ^ each_byte(byte);
    differs.wrapping_sub(each_byte(1)) & !differs & each_byte(0x80)
}

fn word(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Past the quote that ends a string, from behind the one that begins it, and whether there are escapes.
fn string_end(text: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut is_escaped = false;
    loop {
        // Eight bytes at a time: most of a payload is in its strings.
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
    fn strings_end_at_their_quote_wherever_it_stands() {
        for len in 0..40 {
            for escape in 0..len {
                let mut text = vec![b'a'; len];
                text[escape] = b'\\';
                // What follows an escape is passed over, a quote too.
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
    fn elements_stand_as_they_are() {
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
    fn depth_costs_no_stack() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(items(deep.as_bytes()).map(<[u8]>::len).collect::<Vec<_>>(), [deep.len() - 2]);
    }
}
