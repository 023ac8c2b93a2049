//! A minimal HTTP/1.1 parser for known servers and clients: a head, and a body with a `content-length`.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Initial buffer size. Two messages with a body of 1 KiB fit.
pub(super) const BUFFER_BYTES: usize = 4 * 1024;
/// Maximum length of a head; a longer one is an error.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The head of an HTTP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MessageHead {
    /// Length of the head in bytes, including the empty line.
    pub(super) len: usize,
    /// Length of the body in bytes.
    pub(super) body_len: usize,
}

impl MessageHead {
    /// Parses the head at the start of `buffer`; `None` if it is incomplete. A `transfer-encoding` or a head above the
    /// limit is an error.
    pub(super) fn parse(buffer: &[u8]) -> io::Result<Option<Self>> {
        let (mut at, mut body_len) = (0, 0);
        while let Some(end) = buffer[at..].iter().position(|byte| *byte == b'\n') {
            let line = buffer[at..at + end].trim_ascii_end();
            at += end + 1;
            if line.is_empty() {
                return Ok(Some(Self { len: at, body_len }));
            }
            if let Some(value) = value_of(line, b"content-length:") {
                let text = std::str::from_utf8(value).map_err(io::Error::other)?;
                body_len = text.parse().map_err(io::Error::other)?;
            } else if value_of(line, b"transfer-encoding:").is_some() {
                return Err(io::Error::other("a body without a length"));
            }
        }
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("a head without an end"));
        }
        Ok(None)
    }

    /// Length of the whole message in bytes.
    pub(super) fn message_len(self) -> usize {
        self.len + self.body_len
    }
}

/// The header's value if `line` is this header. `name` is lower case and ends with a colon.
fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    // The first letter already differs in most lines.
    let (front, value) = line.split_at_checked(name.len())?;
    front.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// A response in the buffer of a [`ResponseReader`].
#[derive(Debug, Clone, Copy)]
pub(super) struct HttpResponse<'b> {
    pub(super) status: u16,
    pub(super) body: &'b [u8],
}

/// Reads the responses of one connection into one buffer.
#[derive(Debug)]
pub(super) struct ResponseReader {
    buffer: Vec<u8>,
    /// Length of the last returned response in bytes.
    used: usize,
}

impl ResponseReader {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::with_capacity(BUFFER_BYTES), used: 0 }
    }

    /// Reads the next response.
    pub(super) async fn next(&mut self, stream: &mut TcpStream) -> io::Result<HttpResponse<'_>> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let head = loop {
            if let Some(head) = MessageHead::parse(&self.buffer)?
                && self.buffer.len() >= head.message_len()
            {
                break head;
            }
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        self.used = head.message_len();
        let status = status_of(&self.buffer).ok_or_else(|| io::Error::other("an answer without a status"))?;
        Ok(HttpResponse { status, body: &self.buffer[head.len..self.used] })
    }
}

fn status_of(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_the_empty_line() {
        let message = b"HTTP/1.1 202 Accepted\r\nContent-Length: 12\r\ndate: x\r\n\r\n{\"id\":\"evt\"}";
        for cut in 0..54 {
            assert_eq!(MessageHead::parse(&message[..cut]).unwrap(), None, "{cut}");
        }
        let head = MessageHead::parse(message).unwrap().unwrap();
        assert_eq!((head.body_len, head.message_len()), (12, message.len()));
        assert_eq!(status_of(message), Some(202));
        assert_eq!(
            MessageHead::parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(),
            Some(MessageHead { len: 27, body_len: 0 })
        );
    }

    #[test]
    fn messages_without_a_length_are_errors() {
        assert!(MessageHead::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(MessageHead::parse(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n").is_err());
        assert!(MessageHead::parse(&vec![b'x'; HEAD_BYTES_MAX + 1]).is_err());
        assert_eq!(status_of(b"SSH-2.0"), None);
    }
}
