//! Brings the bytes of a response into a form that hyper reads.
//!
//! A usual response passes unchanged: its head is looked at once, and nothing is copied. An odd head is replaced
//! ([`super::response_head`]). Informational responses and trailers are left out. Line ends in the framing of a body may
//! lack their CR.

use super::response_head::{HeadEnd, end_of, normalize, plain, status_of};
use crate::limits::RESPONSE_HEAD_BYTES_MAX;

/// What became of received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// They are read as they are.
    Unchanged,
    /// What [`ResponseNormalizer::output`] returns is read in their place. It may be nothing.
    Replaced,
}

/// The state of a response that is being received.
#[derive(Debug, Default)]
pub(super) struct ResponseNormalizer {
    part: ReadPart,
    /// The received part of a head that is not complete.
    head: Vec<u8>,
    output: Vec<u8>,
    /// The bytes of `output` that were taken.
    taken: usize,
    status: Option<u16>,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ReadPart {
    #[default]
    Head,
    /// The line before a chunk. `has_cr`: the last byte was a CR. `is_extension`: the size is complete.
    ChunkLine { size: u64, has_cr: bool, is_extension: bool },
    /// The data of a chunk, of which this many bytes are missing.
    ChunkData(u64),
    /// The end of the line after the data of a chunk.
    ChunkEnd { has_cr: bool },
    /// Trailers. `is_line_empty`: only the end of the line may be missing.
    Trailers { is_line_empty: bool },
    /// Bytes that pass unchanged: a body that is not in chunks, or what hyper refuses.
    Rest,
}

const CHUNK_LINE: ReadPart = ReadPart::ChunkLine { size: 0, has_cr: false, is_extension: false };

impl ResponseNormalizer {
    /// Begins the next response.
    pub(super) fn begin(&mut self) {
        self.part = ReadPart::Head;
        self.status = None;
        self.head.clear();
        self.output.clear();
        self.taken = 0;
    }

    /// The status of the final response, as soon as it was received.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Takes the next bytes that are read in place of received ones, at most `most`.
    pub(super) fn output(&mut self, most: usize) -> &[u8] {
        if self.taken == self.output.len() {
            self.output.clear();
            self.taken = 0;
        }
        let from = self.taken;
        self.taken = self.output.len().min(from + most);
        &self.output[from..self.taken]
    }

    /// Whether [`Self::output`] has bytes.
    pub(super) fn has_output(&self) -> bool {
        self.taken < self.output.len()
    }

    /// Takes received bytes in.
    pub(super) fn received(&mut self, bytes: &[u8]) -> Received {
        match self.part {
            ReadPart::Rest => Received::Unchanged,
            ReadPart::Head => self.receive_head(bytes),
            _ => self.receive_chunks(bytes),
        }
    }

    /// Handles the end of the stream.
    pub(super) fn ended(&mut self) {
        match self.part {
            ReadPart::Head => self.output.append(&mut self.head),
            ReadPart::Trailers { .. } => self.output.extend_from_slice(b"\r\n"),
            _ => {}
        }
        self.part = ReadPart::Rest;
    }

    fn receive_head(&mut self, bytes: &[u8]) -> Received {
        if self.head.is_empty()
            && let Some((end, at)) = plain(bytes)
            && !is_informational(end.status)
        {
            self.begin_body(end);
            return match self.received(&bytes[at..]) {
                Received::Unchanged => Received::Unchanged,
                Received::Replaced => {
                    self.output.splice(..0, bytes[..at].iter().copied());
                    Received::Replaced
                }
            };
        }
        let mut looked_at = self.head.len();
        self.head.extend_from_slice(bytes);
        while let Some(at) = end_of(&self.head, looked_at) {
            looked_at = 0;
            let status = status_of(&self.head[..at]);
            if status.is_some_and(is_informational) {
                self.head.drain(..at);
                continue;
            }
            let end = if at <= RESPONSE_HEAD_BYTES_MAX { normalize(&self.head[..at], &mut self.output) } else { None };
            let received = std::mem::take(&mut self.head);
            let Some(end) = end else { return self.give_up(&received) };
            self.begin_body(end);
            if self.received(&received[at..]) == Received::Unchanged {
                self.output.extend_from_slice(&received[at..]);
            }
            return Received::Replaced;
        }
        if self.status.is_none() {
            self.status = status_of(&self.head).filter(|status| !is_informational(*status));
        }
        if self.head.len() > RESPONSE_HEAD_BYTES_MAX {
            let received = std::mem::take(&mut self.head);
            return self.give_up(&received);
        }
        Received::Replaced
    }

    fn begin_body(&mut self, end: HeadEnd) {
        self.status = Some(end.status);
        self.part = if end.is_chunked { CHUNK_LINE } else { ReadPart::Rest };
    }

    /// Passes on what hyper refuses.
    fn give_up(&mut self, received: &[u8]) -> Received {
        self.part = ReadPart::Rest;
        self.output.extend_from_slice(received);
        Received::Replaced
    }

    /// Reads the framing of a body in chunks.
    fn receive_chunks(&mut self, bytes: &[u8]) -> Received {
        // The bytes before this place are in the output.
        let (mut from, mut at) = (0, 0);
        let mut is_in_trailers = matches!(self.part, ReadPart::Trailers { .. });
        let mut is_replaced = is_in_trailers;
        while at < bytes.len() && self.part != ReadPart::Rest {
            let byte = bytes[at];
            match self.part {
                ReadPart::ChunkData(missing) => {
                    let data = (bytes.len() - at).min(usize::try_from(missing).unwrap_or(usize::MAX));
                    at += data;
                    self.part = match missing - data as u64 {
                        0 => ReadPart::ChunkEnd { has_cr: false },
                        missing => ReadPart::ChunkData(missing),
                    };
                    continue;
                }
                ReadPart::Trailers { is_line_empty: true } if byte == b'\n' => {
                    self.part = ReadPart::Rest;
                    self.output.extend_from_slice(b"\r\n");
                    from = at + 1;
                }
                ReadPart::Trailers { is_line_empty } => {
                    let is_line_empty = byte == b'\n' || (is_line_empty && byte == b'\r');
                    self.part = ReadPart::Trailers { is_line_empty };
                    from = at + 1;
                }
                ReadPart::ChunkLine { has_cr: false, .. } | ReadPart::ChunkEnd { has_cr: false } if byte == b'\n' => {
                    is_replaced = true;
                    self.output.extend_from_slice(&bytes[from..at]);
                    self.output.extend_from_slice(b"\r\n");
                    from = at + 1;
                    self.end_line();
                }
                ReadPart::ChunkLine { .. } | ReadPart::ChunkEnd { .. } if byte == b'\n' => self.end_line(),
                _ => self.part = next_in_line(self.part, byte),
            }
            at += 1;
            let has_trailers_begun = matches!(self.part, ReadPart::Trailers { .. });
            if has_trailers_begun && !is_in_trailers {
                is_in_trailers = true;
                if !is_replaced && bytes[at..] == *b"\r\n" {
                    // The body has no trailers, as usual.
                    self.part = ReadPart::Rest;
                    return Received::Unchanged;
                }
                is_replaced = true;
                self.output.extend_from_slice(&bytes[from..at]);
                from = at;
            }
        }
        if !is_replaced {
            return Received::Unchanged;
        }
        self.output.extend_from_slice(&bytes[from..]);
        Received::Replaced
    }

    /// Handles the end of a line of the framing.
    fn end_line(&mut self) {
        self.part = match self.part {
            ReadPart::ChunkLine { size: 0, .. } => ReadPart::Trailers { is_line_empty: true },
            ReadPart::ChunkLine { size, .. } => ReadPart::ChunkData(size),
            _ => CHUNK_LINE,
        };
    }
}

/// The part after a byte of a line of the framing that does not end the line.
fn next_in_line(part: ReadPart, byte: u8) -> ReadPart {
    match (part, byte) {
        (ReadPart::ChunkLine { size, is_extension, .. }, b'\r') => {
            ReadPart::ChunkLine { size, has_cr: true, is_extension }
        }
        (ReadPart::ChunkLine { size, is_extension: true, .. }, _)
        | (ReadPart::ChunkLine { size, .. }, b';' | b' ' | b'\t') => {
            ReadPart::ChunkLine { size, has_cr: false, is_extension: true }
        }
        (ReadPart::ChunkLine { size, .. }, digit) if digit.is_ascii_hexdigit() && size >> 60 == 0 => {
            let digit = char::from(digit).to_digit(16).unwrap_or_default();
            ReadPart::ChunkLine { size: size << 4 | u64::from(digit), has_cr: false, is_extension: false }
        }
        (ReadPart::ChunkEnd { .. }, b'\r') => ReadPart::ChunkEnd { has_cr: true },
        // hyper refuses it.
        _ => ReadPart::Rest,
    }
}

fn is_informational(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a response that arrives in pieces of this size.
    fn read(response: &[u8], size: usize) -> (Vec<u8>, Option<u16>) {
        let mut normalizer = ResponseNormalizer::default();
        let mut all = Vec::new();
        for piece in response.chunks(size) {
            match normalizer.received(piece) {
                Received::Unchanged => all.extend_from_slice(piece),
                Received::Replaced => take(&mut normalizer, &mut all),
            }
            assert!(!normalizer.has_output());
        }
        normalizer.ended();
        take(&mut normalizer, &mut all);
        (all, normalizer.status())
    }

    fn take(normalizer: &mut ResponseNormalizer, all: &mut Vec<u8>) {
        while normalizer.has_output() {
            all.extend_from_slice(normalizer.output(7));
        }
    }

    #[test]
    fn a_usual_response_passes_unchanged() {
        for response in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nuntil the end\n\n",
        ] {
            let mut normalizer = ResponseNormalizer::default();
            assert_eq!(normalizer.received(response.as_bytes()), Received::Unchanged, "{response:?}");
            assert!(!normalizer.has_output());
        }
    }

    #[test]
    fn the_pieces_of_a_response_make_no_difference() {
        for (response, body) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "content-length: 2\r\n\r\nok"),
            ("HTTP/1.1 103 Hints\r\na: b\r\n c\r\n\r\nHTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\nrest", "a: b c\r\n\r\nrest"),
            ("HTTP/1.1 200 OK\n\n", "\r\n"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=\"y\"\r\nok\r\n0\r\nodd trailer\r\n a: b\r\n\r\n",
                "transfer-encoding: chunked\r\n\r\n2;x=\"y\"\r\nok\r\n0\r\n\r\n",
            ),
            (
                "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nok\nA\n0\r\n123456\n\n0\n\n",
                "transfer-encoding: chunked\r\n\r\n2\r\nok\r\nA\r\n0\r\n123456\n\r\n0\r\n\r\n",
            ),
            // The connection ends within the trailers.
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b",
                "transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
        ] {
            for size in [1, 2, 3, 7, 19, response.len()] {
                let (all, status) = read(response.as_bytes(), size);
                let text = String::from_utf8(all).unwrap();
                assert_eq!(status, Some(200), "{response:?} {size}");
                assert!(text.starts_with("HTTP/1.1 200 "), "{text:?}");
                let behind = text.split_once('\n').unwrap().1.replace("\r\n", "\n");
                assert_eq!(behind, body.replace("\r\n", "\n"), "{response:?} {size}");
                assert!(!text.contains("ok\n") && !text.contains("456\n\n"), "hyper needs a CR: {text:?}");
            }
        }
    }

    #[test]
    fn the_status_is_known_before_the_end_of_a_head() {
        for (response, status) in [
            ("HTTP/1.1 503 Busy\r\nretry", Some(503)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 ", Some(429)),
            ("HTTP/1.1 100 Cont", None),
            ("HTTP/1.1 20", None),
        ] {
            for size in [1, 5, response.len()] {
                assert_eq!(read(response.as_bytes(), size).1, status, "{response:?}");
            }
        }
        let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(RESPONSE_HEAD_BYTES_MAX));
        let (all, status) = read(long.as_bytes(), 1_000);
        assert_eq!((all.len(), status), (long.len(), Some(200)), "hyper refuses it");
    }

    #[test]
    fn nothing_received_makes_it_panic() {
        let parts = [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 100 \n",
            "transfer-encoding: chunked\r\n",
            "\r\n",
            "\n",
            "0",
            "f",
            " a",
            ";",
            "\r",
            "ffffffffffffffffff",
            "z",
        ];
        let mut random = crate::runtime::Random::seeded(7);
        for _ in 0..20_000 {
            let count = random.between(1..=12);
            let pick = |random: &mut crate::runtime::Random| parts[random.between(0..=parts.len() as u64 - 1) as usize];
            let response: String = (0..count).map(|_| pick(&mut random)).collect();
            let size = random.between(1..=20) as usize;
            read(response.as_bytes(), size);
        }
    }
}
