//! Just enough of HTTP/1.1 to read the messages of servers and clients that are known: a head, and a body with a length.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A buffer's first size: a head and a body of 1 KiB fit twice.
pub(super) const BUFFER_BYTES: usize = 4 * 1024;
/// A head longer than this is not one.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A message's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the head, the empty line included.
    pub(super) len: usize,
    /// Bytes of the body.
    pub(super) body_len: usize,
}

impl Head {
    /// The head that stands at the front of `buffer`; `None`: it is not whole yet.
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

    /// Bytes of the whole message.
    pub(super) fn message_len(self) -> usize {
        self.len + self.body_len
    }
}

/// A header's value, if `line` is that header (`name` in lower case, with its colon).
fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    // The length is told first: most lines differ by their first letter.
    let (front, value) = line.split_at_checked(name.len())?;
    front.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// An answer in a [`Reader`]'s buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'b> {
    pub(super) status: u16,
    pub(super) body: &'b [u8],
}

/// Reads the answers of one connection into one buffer.
#[derive(Debug)]
pub(super) struct Reader {
    buffer: Vec<u8>,
    /// Bytes of the answer that was given out last.
    used: usize,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::with_capacity(BUFFER_BYTES), used: 0 }
    }

    /// The next answer.
    pub(super) async fn next(&mut self, stream: &mut TcpStream) -> io::Result<Answer<'_>> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let head = loop {
            if let Some(head) = Head::parse(&self.buffer)?
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
        Ok(Answer { status, body: &self.buffer[head.len..self.used] })
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
            assert_eq!(Head::parse(&message[..cut]).unwrap(), None, "{cut}");
        }
        let head = Head::parse(message).unwrap().unwrap();
        assert_eq!((head.body_len, head.message_len()), (12, message.len()));
        assert_eq!(status_of(message), Some(202));
        assert_eq!(Head::parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), Some(Head { len: 27, body_len: 0 }));
    }

    #[test]
    fn what_has_no_length_is_refused() {
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n").is_err());
        assert!(Head::parse(&vec![b'x'; HEAD_BYTES_MAX + 1]).is_err());
        assert_eq!(status_of(b"SSH-2.0"), None);
    }
}
