//! The head of a response: whether hyper reads it as it is, and a form of it that hyper reads.
//!
//! The status line decides about a delivery. So a receiver may write odd header lines: folded lines are joined, lines that
//! are no headers are left out, and so are headers beyond [`HEADERS_KEPT`] (RFC 9112, sections 5.1 and 5.2).

/// The place of the status in `HTTP/1.1 200 OK`.
const STATUS_AT: usize = 9;
/// Headers of a response that are kept. hyper reads 100.
const HEADERS_KEPT: usize = 90;
/// These headers are kept before all others.
const KEPT_FIRST: [&[u8]; 3] = [b"connection", b"retry-after", b"content-type"];

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadEnd {
    /// The status.
    pub(super) status: u16,
    /// Whether the body comes in chunks.
    pub(super) is_chunked: bool,
}

/// The parts of a head that decide where the body ends.
#[derive(Debug, Default)]
struct BodyFraming<'a> {
    lengths: Vec<&'a [u8]>,
    codings: Vec<&'a [u8]>,
}

/// Returns where a head ends in `bytes`, without looking again at the first `from` bytes.
pub(super) fn end_of(bytes: &[u8], from: usize) -> Option<usize> {
    let begin = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let mut at = from.saturating_sub(2).max(begin);
    loop {
        at += bytes[at..].iter().position(|byte| *byte == b'\n')? + 1;
        match &bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
}

/// Reads the status of a status line of which at least the status is complete.
pub(super) fn status_of(bytes: &[u8]) -> Option<u16> {
    let begin = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let rest = bytes[begin..].strip_prefix(b"HTTP/")?;
    let rest = &rest[rest.iter().position(|byte| matches!(byte, b' ' | b'\t'))?..];
    let rest = rest.trim_ascii_start();
    let (digits, behind) = rest.split_at_checked(3)?;
    let is_status = digits.iter().all(u8::is_ascii_digit) && behind.first().is_some_and(|byte| !byte.is_ascii_digit());
    is_status.then(|| number(digits))
}

/// The number of three digits.
fn number(digits: &[u8]) -> u16 {
    digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'))
}

/// Returns what follows a head at the start of `bytes`, and where the head ends. `None` unless the head is complete and
/// hyper reads it as it is. Looks at each byte once.
pub(super) fn plain(bytes: &[u8]) -> Option<(HeadEnd, usize)> {
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), b' ', ..] = bytes else { return None };
    let digits = bytes.get(STATUS_AT..STATUS_AT + 3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let status = number(digits);
    let (reason, mut at) = text_line(bytes, STATUS_AT + 3)?;
    if reason.first().is_some_and(|byte| *byte != b' ') {
        return None;
    }
    let (mut headers, mut has_length, mut is_chunked) = (0, false, false);
    loop {
        match &bytes[at..] {
            [b'\n', ..] => at += 1,
            [b'\r', b'\n', ..] => at += 2,
            _ => {
                let begin = at;
                at += bytes[at..].iter().position(|byte| !is_token(*byte))?;
                let name = &bytes[begin..at];
                let value;
                (value, at) = if bytes[at] == b':' { text_line(bytes, at + 1)? } else { return None };
                headers += 1;
                if name.is_empty() || headers > HEADERS_KEPT {
                    return None;
                }
                if name.eq_ignore_ascii_case(b"content-length") {
                    if has_length || !is_length(value.trim_ascii()) {
                        return None;
                    }
                    has_length = true;
                } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                    if is_chunked || *minor == b'0' || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                        return None;
                    }
                    is_chunked = true;
                }
                continue;
            }
        }
        let is_ambiguous = has_length && is_chunked;
        let end = HeadEnd { status, is_chunked: is_chunked && has_body(status) };
        return (!is_ambiguous).then_some((end, at));
    }
}

/// The text from `at` to the end of its line, and where the next line begins. `None` if the line has no end, or a byte
/// that a header value cannot have.
fn text_line(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let end = at + bytes[at..].iter().position(|byte| !is_text_byte(*byte))?;
    match bytes[end..] {
        [b'\n', ..] => Some((&bytes[at..end], end + 1)),
        [b'\r', b'\n', ..] => Some((&bytes[at..end], end + 2)),
        _ => None,
    }
}

/// Writes a complete head in a form that hyper reads. Returns what follows it. `None` if it has no status line.
pub(super) fn normalize(head: &[u8], into: &mut Vec<u8>) -> Option<HeadEnd> {
    let status = status_of(head)?;
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.by_ref().find(|line| !line.is_empty())?;
    let headers = joined(lines);
    let mut framing = BodyFraming::default();
    for (name, value) in &headers {
        if name.eq_ignore_ascii_case(b"content-length") {
            framing.lengths.extend(value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            framing.codings.extend(value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
        }
    }
    let is_old = first.starts_with(b"HTTP/1.0") && framing.codings.is_empty();
    into.extend_from_slice(if is_old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    into.extend_from_slice(format!("{status} \r\n").as_bytes());
    let is_chunked = framing.write(status, into);
    if !is_old && !first.starts_with(b"HTTP/1.1") {
        into.extend_from_slice(b"connection: close\r\n");
    }
    let is_framing =
        |name: &[u8]| [&b"content-length"[..], b"transfer-encoding"].iter().any(|one| name.eq_ignore_ascii_case(one));
    let is_first = |name: &[u8]| KEPT_FIRST.iter().any(|first| name.eq_ignore_ascii_case(first));
    let before = headers.iter().filter(|(name, _)| is_first(name));
    let after = headers.iter().filter(|(name, _)| !is_first(name) && !is_framing(name));
    for (name, value) in before.chain(after).take(HEADERS_KEPT) {
        into.extend_from_slice(name);
        into.extend_from_slice(b": ");
        into.extend(value.iter().map(|byte| if is_text_byte(*byte) { *byte } else { b' ' }));
        into.extend_from_slice(b"\r\n");
    }
    into.extend_from_slice(b"\r\n");
    Some(HeadEnd { status, is_chunked })
}

/// The headers of these lines. Folded lines are joined with a space. Lines that are no headers are left out, with the
/// lines that continue them.
fn joined<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<(&'a [u8], Vec<u8>)> {
    let mut headers: Vec<(&[u8], Vec<u8>)> = Vec::new();
    let mut is_header = false;
    for line in lines {
        if line.is_empty() {
            break;
        }
        if matches!(line[0], b' ' | b'\t') {
            if let Some((_, value)) = headers.last_mut().filter(|_| is_header) {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let name = colon.map(|at| line[..at].trim_ascii_end());
        is_header = name.is_some_and(|name| !name.is_empty() && name.iter().all(|byte| is_token(*byte)));
        if let (Some(at), Some(name), true) = (colon, name, is_header) {
            headers.push((name, line[at + 1..].trim_ascii().to_vec()));
        }
    }
    headers
}

impl BodyFraming<'_> {
    /// Writes the header that says where the body ends. Returns whether the body comes in chunks.
    fn write(&self, status: u16, into: &mut Vec<u8>) -> bool {
        if !has_body(status) {
            return false;
        }
        if let Some(last) = self.codings.last() {
            // A body in any other coding ends with the connection.
            let is_chunked = last.eq_ignore_ascii_case(b"chunked");
            let line = if is_chunked { &b"transfer-encoding: chunked\r\n"[..] } else { b"connection: close\r\n" };
            into.extend_from_slice(line);
            return is_chunked;
        }
        match self.lengths.split_first() {
            None => {}
            Some((one, others)) if is_length(one) && others.iter().all(|other| other == one) => {
                into.extend_from_slice(b"content-length: ");
                into.extend_from_slice(one);
                into.extend_from_slice(b"\r\n");
            }
            // It is not known where such a body ends. It is not read.
            Some(_) => into.extend_from_slice(b"content-length: 0\r\nconnection: close\r\n"),
        }
        false
    }
}

/// Whether a response with this status has a body.
fn has_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

fn is_length(text: &[u8]) -> bool {
    (1..=19).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

/// Whether this byte can stand in a header value.
fn is_text_byte(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

/// Whether this byte can stand in a header name.
fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0u8;
        loop {
            table[byte as usize] = byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
            if byte == u8::MAX {
                break table;
            }
            byte += 1;
        }
    };
    TOKEN[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(head: &str) -> (String, HeadEnd) {
        let mut into = Vec::new();
        let end = normalize(head.as_bytes(), &mut into).unwrap();
        (String::from_utf8(into).unwrap(), end)
    }

    #[test]
    fn a_usual_head_is_plain() {
        for (head, status, is_chunked) in [
            ("HTTP/1.1 200 OK\r\n\r\n", 200, false),
            ("HTTP/1.1 200\r\ncontent-length: 5\r\nX-a:b\r\n\r\n", 200, false),
            ("HTTP/1.0 503 No\nRetry-After: 5\n\n", 503, false),
            ("HTTP/1.1 201 \r\nTransfer-Encoding: Chunked\r\n\r\n", 201, true),
            ("HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 204, false),
        ] {
            let body = format!("{head}a: b\n\n");
            assert_eq!(plain(body.as_bytes()), Some((HeadEnd { status, is_chunked }, head.len())), "{head}");
            for cut in 0..head.len() {
                assert_eq!(plain(&head.as_bytes()[..cut]), None, "{head} {cut}");
            }
        }
    }

    #[test]
    fn an_odd_head_keeps_its_status_and_what_can_be_read() {
        for (odd, expected) in [
            ("a: b\r\n c\r\n\td\r\nx: y\r\n", "a: b c d\r\nx: y\r\n"),
            (" folded first\r\na: b\r\n", "a: b\r\n"),
            ("no colon\r\n more\r\na: b\r\n", "a: b\r\n"),
            ("a : b\r\nc\t:d\r\n", "a: b\r\nc: d\r\n"),
            ("n\u{e4}me: b\r\n: c\r\na b: c\r\na: \u{e4}\r\n", "a: \u{e4}\r\n"),
            ("a: b\rc\u{7f}d\0e\r\n", "a: b c d e\r\n"),
            ("content-length: 5\r\ncontent-length: 5, 5\r\na: b\r\n", "content-length: 5\r\na: b\r\n"),
            ("content-length: 5\r\ncontent-length: 6\r\n", "content-length: 0\r\nconnection: close\r\n"),
            ("content-length: +5\r\n", "content-length: 0\r\nconnection: close\r\n"),
            ("content-length: 5\r\ntransfer-encoding: chunked\r\n", "transfer-encoding: chunked\r\n"),
            ("transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", "transfer-encoding: chunked\r\n"),
            ("transfer-encoding: gzip\r\n", "connection: close\r\n"),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{odd}\r\n");
            assert_eq!(plain(head.as_bytes()), None, "{odd:?}");
            let (text, end) = normalized(&head);
            assert_eq!(text, format!("HTTP/1.1 200 \r\n{expected}\r\n"), "{odd:?}");
            assert_eq!((end.status, end.is_chunked), (200, expected.starts_with("transfer-encoding")));
        }
        for first in
            ["HTTP/1.1  429  Slow", "HTTP/1.1\t429", "HTTP/1.1 429 a\0b", "\r\nHTTP/1.1 429 OK", "HTTP/1.2 429 OK"]
        {
            assert!(normalized(&format!("{first}\r\na: b\r\n\r\n")).0.starts_with("HTTP/1.1 429 \r\n"), "{first:?}");
        }
        for none in ["", "HTTP/1.1 20\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "ICY 200 OK\r\n\r\n", "{}\r\n\r\n"] {
            assert_eq!(normalize(none.as_bytes(), &mut Vec::new()), None, "{none:?}");
        }
    }

    #[test]
    fn what_counts_is_kept_of_many_headers() {
        let many: String = (0..5_000).map(|n| format!("a{n}: b\r\n")).collect();
        let head = format!("HTTP/1.1 503 No\r\n{many}Retry-After: 7\r\nContent-Length: 3\r\n\r\n");
        assert_eq!(plain(head.as_bytes()), None);
        let (text, _) = normalized(&head);
        assert!(text.starts_with("HTTP/1.1 503 \r\ncontent-length: 3\r\nRetry-After: 7\r\na0: b\r\n"), "{text}");
        assert!(text.lines().count() < 100);
    }

    #[test]
    fn the_end_of_a_head_is_found_in_pieces() {
        for head in
            ["HTTP/1.1 200 OK\r\n\r\n", "\r\n\nHTTP/1.1 200 OK\na: b\n\n", "HTTP/1.1 200 OK\r\na: b\r\n \r\n\r\n"]
        {
            let bytes = [head.as_bytes(), b"body\n\n"].concat();
            for from in 0..head.len() {
                assert_eq!(end_of(&bytes[..from], 0), None, "{head:?} {from}");
                assert_eq!(end_of(&bytes, from), Some(head.len()), "{head:?} {from}");
            }
        }
    }
}
