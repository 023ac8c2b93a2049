//! Reads a response: its status, `Retry-After`, and a bounded part of its body. Bodies are not decompressed, and
//! redirects are not followed.

use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use hyper::body::Incoming;
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::connection::{Connection, WireProgress};
use crate::limits::{RESPONSE_BYTES_KEPT, RESPONSE_BYTES_MAX, RETRY_DELAY_MAX};
use crate::model::Timestamp;
use crate::runtime::{Clock, Instant};

/// What has been read of a response so far. An attempt that times out leaves an incomplete one.
#[derive(Debug, Default)]
pub(super) struct PartialResponse {
    pub(super) sent_at: Option<Instant>,
    /// When the response was read.
    pub(super) ended_at: Option<Instant>,
    pub(super) status: Option<StatusCode>,
    pub(super) retry_after: Option<Duration>,
    /// What was received over the connection, also of a response that was not read to the end of its head.
    pub(super) progress: Option<Rc<WireProgress>>,
    body: Vec<u8>,
    /// The response headers. `None` if only the start of the body is kept.
    headers: Option<HeaderMap>,
    is_cut: bool,
}

impl PartialResponse {
    /// An empty response that keeps the headers and all of the body that is read.
    pub(super) fn keeping_all() -> Self {
        Self { headers: Some(HeaderMap::new()), ..Self::default() }
    }

    /// Forgets what was read, before the request is sent again on another connection.
    pub(super) fn reset(&mut self) {
        *self = if self.headers.is_some() { Self::keeping_all() } else { Self::default() };
    }

    /// The headers, the body, and whether the body was cut at the limit.
    pub(super) fn take_all(&mut self) -> (HeaderMap, Vec<u8>, bool) {
        (self.headers.take().unwrap_or_default(), self.body.clone(), self.is_cut)
    }

    /// Reads a response up to the limits. Returns the connection if it can take another request. `clock` converts a
    /// `Retry-After` date to a delay.
    pub(super) async fn read(
        &mut self,
        mut connection: Box<Connection>,
        response: Response<Incoming>,
        clock: &Clock,
    ) -> hyper::Result<Option<Box<Connection>>> {
        let (head, mut body) = response.into_parts();
        self.status = Some(head.status);
        if matches!(head.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            self.retry_after = retry_after(&head.headers, clock.now());
        }
        let mut kept_max = RESPONSE_BYTES_KEPT;
        if let Some(kept) = &mut self.headers {
            kept.clone_from(&head.headers);
            kept_max = RESPONSE_BYTES_MAX;
        }
        let mut read = 0;
        while let Some(frame) = connection.frame(&mut body).await {
            // Trailers are ignored.
            let Ok(data) = frame?.into_data() else { continue };
            let room = kept_max - self.body.len();
            self.body.extend_from_slice(&data[..data.len().min(room)]);
            read += data.len();
            if read > RESPONSE_BYTES_MAX {
                self.is_cut = true;
                return Ok(None);
            }
        }
        drop(body);
        Ok(connection.is_idle(head.headers).await.then_some(connection))
    }

    /// The kept part of the body, as text. Invalid UTF-8 is replaced.
    pub(super) fn into_text(self) -> Box<str> {
        if self.body.is_empty() {
            return Box::default();
        }
        let mut text = String::from_utf8_lossy(&self.body).into_owned();
        // An invalid byte becomes three, so the text is cut to the limit again.
        let end = (0..=RESPONSE_BYTES_KEPT.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
        text.into_boxed_str()
    }
}

/// The delay of `Retry-After`: seconds, or one of the three forms of an HTTP date (RFC 9110 sections 10.2.3 and 5.6.7).
/// `None` if the header is absent or invalid.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Only a number above `u64::MAX` does not parse, and it exceeds the longest delay.
        text.parse().map_or(Duration::MAX, Duration::from_secs)
    } else {
        let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Timestamp::from_millis(i64::try_from(at.as_millis()).ok()?).since(now)
    };
    Some(wait.min(RETRY_DELAY_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_millis(784_111_777_000);
        for (text, wait) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("99999999", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 2094 08:00:00 GMT", None),
            ("Sat, 06 Nov 2094 08:00:00 GMT", Some(86_400)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            assert_eq!(retry_after(&headers, now), wait.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn invalid_utf8_stays_within_the_limit() {
        let answer = PartialResponse { body: vec![0xff; RESPONSE_BYTES_KEPT], ..PartialResponse::default() };
        let text = answer.into_text();
        assert!(text.len() <= RESPONSE_BYTES_KEPT && text.chars().all(|c| c == char::REPLACEMENT_CHARACTER));
        assert_eq!(&*PartialResponse { body: b"ok".to_vec(), ..PartialResponse::default() }.into_text(), "ok");
    }
}
