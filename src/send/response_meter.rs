//! Bounds everything that an endpoint sends for one response: informational responses, head, framing and body.
//!
//! hyper bounds each head and drops informational responses (1xx), and the reader of the body bounds its data. Neither
//! bounds the number of informational responses or the framing of a body.

use std::io;

use crate::limits::{INFORMATIONAL_BYTES_MAX, INFORMATIONAL_RESPONSES_MAX, RESPONSE_WIRE_BYTES_MAX};

/// The place of the first digit of the status in `HTTP/1.1 200 OK`.
const STATUS_AT: u8 = 9;

/// Counts the bytes and the informational responses since a request began.
#[derive(Debug, Default)]
pub(super) struct ResponseMeter {
    bytes: usize,
    informational: usize,
    informational_bytes: usize,
    part: ResponsePart,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponsePart {
    /// A status line of which this many bytes have arrived.
    StatusLine(u8),
    /// The head of an informational response. `is_line_empty`: only the end of the line may be missing.
    Informational { is_line_empty: bool },
    /// The final response.
    Final,
}

impl Default for ResponsePart {
    fn default() -> Self {
        Self::StatusLine(0)
    }
}

impl ResponseMeter {
    /// Notes bytes that have arrived.
    ///
    /// # Errors
    /// If the response exceeds a bound.
    pub(super) fn note(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > RESPONSE_WIRE_BYTES_MAX {
            return Err(io::Error::other("the response has too many bytes"));
        }
        for byte in bytes {
            self.part = match self.part {
                ResponsePart::Final => break,
                // HTTP allows empty lines before a status line.
                ResponsePart::StatusLine(0) if matches!(byte, b'\r' | b'\n') => ResponsePart::StatusLine(0),
                ResponsePart::StatusLine(STATUS_AT) if *byte == b'1' => {
                    self.informational += 1;
                    ResponsePart::Informational { is_line_empty: false }
                }
                ResponsePart::StatusLine(STATUS_AT) => ResponsePart::Final,
                ResponsePart::StatusLine(at) => ResponsePart::StatusLine(at + 1),
                ResponsePart::Informational { is_line_empty: true } if *byte == b'\n' => ResponsePart::StatusLine(0),
                ResponsePart::Informational { is_line_empty } => {
                    let is_line_empty = *byte == b'\n' || (is_line_empty && *byte == b'\r');
                    ResponsePart::Informational { is_line_empty }
                }
            };
            self.informational_bytes += 1;
        }
        if self.informational > INFORMATIONAL_RESPONSES_MAX {
            return Err(io::Error::other("the endpoint sent too many informational responses (1xx)"));
        }
        if self.informational_bytes > INFORMATIONAL_BYTES_MAX {
            return Err(io::Error::other("the response has too many bytes before its final head"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes the text in pieces of each size, and returns whether all of it is within the bounds.
    fn is_within(text: &[u8]) -> bool {
        let fits = |size| {
            let mut meter = ResponseMeter::default();
            text.chunks(size).all(|piece| meter.note(piece).is_ok())
        };
        let all = [1, 2, 7, 1_000, text.len()].map(fits);
        assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
        all[0]
    }

    #[test]
    fn a_few_informational_responses_are_read() {
        for part in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n",
            "HTTP/1.0 100\n\n",
            "\r\nHTTP/1.1 199 \r\na: b\n\r\n",
        ] {
            let rest = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n1\n\n1";
            let response = |count| format!("{}{rest}", part.repeat(count)).into_bytes();
            assert!(is_within(&response(INFORMATIONAL_RESPONSES_MAX)), "{part:?}");
            assert!(!is_within(&response(INFORMATIONAL_RESPONSES_MAX + 1)), "{part:?}");
        }
    }

    #[test]
    fn the_bytes_of_informational_responses_and_of_all_are_bounded() {
        let long = format!("HTTP/1.1 103 X\r\na: {}\r\n\r\n", "b".repeat(INFORMATIONAL_BYTES_MAX / 2));
        assert!(is_within(long.as_bytes()));
        assert!(!is_within(long.repeat(2).as_bytes()));
        // A body may look like responses.
        let mut body = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        body.extend(b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000));
        assert!(is_within(&body));
        body.resize(RESPONSE_WIRE_BYTES_MAX, b'x');
        assert!(is_within(&body));
        body.push(b'x');
        assert!(!is_within(&body));
    }
}
