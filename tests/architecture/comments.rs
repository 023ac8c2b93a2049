//! Finds the comments of a Rust file.

/// A comment, or neighbouring line comments joined to one text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    /// The line of its first character, from 1.
    pub(crate) line: usize,
    /// The text without the slashes.
    pub(crate) text: String,
}

/// The comments of `source` in their order. Slashes in strings and character literals are not comments.
pub(crate) fn comments(source: &str) -> Vec<Comment> {
    let bytes = source.as_bytes();
    let mut found: Vec<Comment> = Vec::new();
    let (mut at, mut line) = (0, 1);
    // The line after which a line comment continues the comment before.
    let mut continues = None;
    while at < bytes.len() {
        let mut end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => find(source, at + 2, "*/"),
            b'"' => string_end(bytes, at),
            b'r' if !is_word(bytes, at) => raw_string_end(source, at).unwrap_or(at + 1),
            b'\'' => literal_end(bytes, at),
            _ => at + 1,
        };
        while !source.is_char_boundary(end) {
            end += 1;
        }
        let text = &source[at..end];
        if text.starts_with("//") {
            let text = text.trim_start_matches(['/', '!']).trim();
            match found.last_mut().filter(|_| continues == Some(line) && begins_line(source, at) && !text.is_empty()) {
                Some(before) => {
                    before.text.push(' ');
                    before.text.push_str(text);
                }
                None if !text.is_empty() => found.push(Comment { line, text: text.to_owned() }),
                None => (),
            }
            continues = (!text.is_empty()).then_some(line + 1);
        } else if text.starts_with("/*") {
            found.push(Comment { line, text: text.trim_matches(['/', '*', '!']).trim().to_owned() });
        }
        line += text.matches('\n').count();
        at = end;
    }
    found
}

/// Whether only blanks are before `at` in its line.
fn begins_line(source: &str, at: usize) -> bool {
    source[..at].rsplit('\n').next().is_some_and(|before| before.trim().is_empty())
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |len| at + len)
}

fn find(source: &str, from: usize, end: &str) -> usize {
    source[from..].find(end).map_or(source.len(), |len| from + len + end.len())
}

/// Whether the byte before `at` belongs to a word.
fn is_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') && bytes[at - 1] != b'b'
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    while next < bytes.len() && bytes[next] != b'"' {
        next += if bytes[next] == b'\\' { 2 } else { 1 };
    }
    (next + 1).min(bytes.len())
}

/// The end of the raw string that begins at `at`, if one does.
fn raw_string_end(source: &str, at: usize) -> Option<usize> {
    let hashes = source[at + 1..].bytes().take_while(|byte| *byte == b'#').count();
    let quote = at + 1 + hashes;
    (source.as_bytes().get(quote) == Some(&b'"')).then(|| find(source, quote + 1, &format!("\"{}", "#".repeat(hashes))))
}

/// The end of a character literal, or of the `'` of a lifetime.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => {
            let close = bytes.get(at + 3..).and_then(|rest| rest.iter().position(|byte| *byte == b'\''));
            close.map_or(bytes.len(), |len| at + 4 + len)
        }
        _ if bytes.get(at + 2) == Some(&b'\'') => at + 3,
        _ => at + 1,
    }
}

#[test]
fn comments_are_found_and_strings_are_not() {
    let source = r##"//! One
//! text.
use a; // after code

/// Another
fn f<'a>() { let _ = ("// no", '"', '\'', r#"// "no" either"#, b"\"//"); } /* a
block */
// last
"##;
    let expected = [(1, "One text."), (3, "after code"), (5, "Another"), (6, "a\nblock"), (8, "last")];
    let found: Vec<_> = comments(source).into_iter().map(|comment| (comment.line, comment.text)).collect();
    assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
}
