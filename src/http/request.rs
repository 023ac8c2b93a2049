//! The parts of a request head that handlers use, collected in one pass over its headers.

use hyper::Version;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;

use super::{Problem, ProblemCode};
use crate::limits::{CLIENT_ID_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, HOPS_MAX, URI_BYTES_MAX};
use crate::model::header;
use crate::runtime::Random;

/// The header `X-Request-ID`, which every response has.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static(header::X_REQUEST_ID);
static X_CORRELATION_ID: HeaderName = HeaderName::from_static(header::X_CORRELATION_ID);
static TRACEPARENT: HeaderName = HeaderName::from_static(header::TRACEPARENT);
static X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");
static X_ORG_ID: HeaderName = HeaderName::from_static("x-org-id");
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static(header::IDEMPOTENCY_KEY);

static HOPS: HeaderName = HeaderName::from_static(header::HOPS);

/// The maximum length of a request id or correlation id.
const TRACE_ID_CHARS_MAX: usize = 128;
const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";
/// The maximum length of an `Authorization` header. Longer ones are refused with 401.
const CREDENTIALS_BYTES_MAX: usize = 8 * 1024;

/// The headers of a request that the server uses.
#[derive(Debug, Default)]
pub struct RequestHead<'a> {
    host: Option<&'a HeaderValue>,
    hosts: usize,
    bytes: usize,
    authorization: Option<&'a HeaderValue>,
    authorizations: usize,
    /// `Transfer-Encoding`, and the number of headers with this name.
    transfer_coding: (Option<&'a HeaderValue>, usize),
    content_type: Option<&'a HeaderValue>,
    content_encoding: Option<&'a HeaderValue>,
    correlation_id: Option<&'a HeaderValue>,
    traceparent: Option<&'a HeaderValue>,
    idempotency_key: Option<&'a HeaderValue>,
    hops: Option<&'a HeaderValue>,
    /// `X-User-ID`, and the number of headers with this name. `org` is the same for `X-Org-ID`.
    user: (Option<&'a HeaderValue>, usize),
    org: (Option<&'a HeaderValue>, usize),
}

/// The user that a proxy names in `X-User-ID` and `X-Org-ID`. Whether the proxy is trusted is checked elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForwardedUser<'a> {
    /// `X-User-ID`.
    pub user: Option<&'a str>,
    /// `X-Org-ID`.
    pub org: Option<&'a str>,
}

/// The media type of a body, from its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// JSON.
    Json,
    /// NDJSON: one JSON value in each line.
    Ndjson,
    /// Any other type or no type. The body is read as JSON if it starts like an object or an array.
    Unspecified,
}

impl<'a> RequestHead<'a> {
    /// Collects the headers in one pass.
    pub fn of(parts: &'a Parts) -> Self {
        let mut head = Self::default();
        for (name, value) in &parts.headers {
            head.bytes += name.as_str().len() + value.len() + ": \r\n".len();
            if *name == HOST {
                head.host = Some(value);
                head.hosts += 1;
            } else if *name == AUTHORIZATION {
                head.authorization = Some(value);
                head.authorizations += 1;
            } else if *name == CONTENT_TYPE {
                head.content_type = Some(value);
            } else if *name == CONTENT_ENCODING {
                head.content_encoding = Some(value);
            } else if *name == IDEMPOTENCY_KEY {
                head.idempotency_key = Some(value);
            } else if *name == TRACEPARENT {
                head.traceparent = Some(value);
            } else if *name == X_CORRELATION_ID {
                head.correlation_id = Some(value);
            } else if *name == HOPS {
                head.hops = Some(value);
            } else if *name == TRANSFER_ENCODING {
                head.transfer_coding = (Some(value), head.transfer_coding.1 + 1);
            } else if *name == X_USER_ID {
                head.user = (Some(value), head.user.1 + 1);
            } else if *name == X_ORG_ID {
                head.org = (Some(value), head.org.1 + 1);
            }
        }
        head
    }

    /// Checks the rules that apply to every request.
    ///
    /// # Errors
    /// 400 without exactly one valid `Host` (RFC 9112 section 3.2) and for a transfer coding other than `chunked`, 414 for a long target, 431 for too many or too long
    /// headers.
    pub fn check(&self, parts: &Parts) -> Result<(), Problem> {
        let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target > URI_BYTES_MAX {
            let detail = format!("at most {URI_BYTES_MAX} bytes of request target");
            return Err(Problem::new(ProblemCode::UriTooLong, detail));
        }
        if parts.headers.len() > HEADERS_MAX || self.bytes > HEAD_BYTES_MAX {
            let detail = format!("at most {HEADERS_MAX} headers and {HEAD_BYTES_MAX} bytes");
            return Err(Problem::new(ProblemCode::HeadersTooLarge, detail));
        }
        // hyper decodes a list of codings whose last one is `chunked` as if it were `chunked` alone. Another server in front
        // of this one could decode it differently, and see other requests.
        let is_chunked = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        let (coding, lines) = self.transfer_coding;
        if lines > 1 || coding.is_some_and(|value| !is_chunked(value)) {
            return Err(invalid("Transfer-Encoding must be chunked, once and alone"));
        }
        let is_valid = match (self.hosts, self.host) {
            (1, Some(host)) => is_host(host.as_bytes()),
            // HTTP/1.0 does not require `Host`.
            (hosts, _) => hosts == 0 && parts.version == Version::HTTP_10,
        };
        if is_valid { Ok(()) } else { Err(invalid("exactly one valid Host header is needed")) }
    }

    /// The bearer token.
    ///
    /// # Errors
    /// 401 without a bearer token, or with more than one `Authorization` header.
    pub fn bearer(&self) -> Result<&'a str, Problem> {
        let credentials = match (self.authorizations, self.authorization) {
            (1, Some(value)) if value.len() <= CREDENTIALS_BYTES_MAX => value.to_str().ok(),
            _ => None,
        };
        credentials
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
            .map(|(_, token)| token.trim_matches(' '))
            .ok_or_else(unauthenticated)
    }

    /// Whether the request has an `Authorization` header.
    pub fn has_credentials(&self) -> bool {
        self.authorizations > 0
    }

    /// The user that a proxy names. `None` if `X-User-ID` or `X-Org-ID` occurs twice, because the proxy may have written
    /// only one of the two.
    pub fn forwarded(&self) -> Option<ForwardedUser<'a>> {
        let one = |(value, times): (Option<&'a HeaderValue>, usize)| match (value, times) {
            (None, _) => Some(None),
            (Some(value), 1) => value.to_str().ok().map(Some),
            _ => None,
        };
        Some(ForwardedUser { user: one(self.user)?, org: one(self.org)? })
    }

    /// The media type of the body.
    ///
    /// # Errors
    /// 415 for a compressed body or a charset other than UTF-8.
    pub fn media_type(&self) -> Result<MediaType, Problem> {
        if self.content_encoding.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(unsupported("the body must not be compressed"));
        }
        match self.content_type {
            None => Ok(MediaType::Unspecified),
            Some(value) if value == header::JSON => Ok(MediaType::Json),
            Some(value) => media_type(value),
        }
    }

    /// The `Content-Type` header, if it is valid ASCII.
    pub fn content_type(&self) -> Option<&'a str> {
        self.content_type.and_then(|value| value.to_str().ok())
    }

    /// The correlation id, if it is valid: `[A-Za-z0-9._:-]{1,128}`.
    pub fn correlation_id(&self) -> Option<&'a str> {
        self.correlation_id.and_then(|value| value.to_str().ok()).filter(|text| is_trace_id(text))
    }

    /// The W3C `traceparent` header, if it is valid.
    pub fn traceparent(&self) -> Option<&'a str> {
        self.traceparent.and_then(|value| value.to_str().ok()).filter(|text| is_traceparent(text))
    }

    /// The `Idempotency-Key`.
    ///
    /// # Errors
    /// 400 for a key that is empty, too long, or not printable.
    pub fn idempotency_key(&self) -> Result<Option<&'a str>, Problem> {
        let Some(value) = self.idempotency_key else { return Ok(None) };
        match value.to_str() {
            Ok(text) if (1..=CLIENT_ID_BYTES_MAX).contains(&text.len()) => Ok(Some(text)),
            _ => Err(invalid(format!("Idempotency-Key must have 1 to {CLIENT_ID_BYTES_MAX} printable characters"))),
        }
    }

    /// The number of gateways that the events of the request have passed.
    ///
    /// # Errors
    /// 400 for a value that is not a number, and for a number that is so high that it must be a loop.
    pub fn hops(&self) -> Result<u8, Problem> {
        let Some(value) = self.hops else { return Ok(0) };
        let digits = value.as_bytes();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(invalid(format!("{HOPS} must be a number")));
        }
        let hops = digits.iter().fold(0u8, |hops, digit| hops.saturating_mul(10).saturating_add(digit - b'0'));
        if hops > HOPS_MAX {
            return Err(invalid(format!("{HOPS} is above {HOPS_MAX}: the event goes round in a loop of gateways")));
        }
        Ok(hops)
    }
}

/// The `X-Request-ID` of the caller if it is valid, otherwise a new id.
pub fn request_id(headers: &HeaderMap, random: &mut Random) -> HeaderValue {
    if let Some(value) = headers.get(&X_REQUEST_ID)
        && value.to_str().is_ok_and(is_trace_id)
    {
        return value.clone();
    }
    let mut text = *b"req_00000000000000000000000000000000";
    let mut bits = random.bits();
    for slot in &mut text[4..] {
        *slot = HEX_DIGITS[(bits & 15) as usize];
        bits >>= 4;
    }
    // Hexadecimal digits are a valid header value.
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("req_"))
}

fn media_type(value: &HeaderValue) -> Result<MediaType, Problem> {
    let text = value.to_str().map_err(|_| unsupported("Content-Type must be ASCII"))?;
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    for parameter in parameters.split(';') {
        if let Some((name, charset)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("charset")
            && !charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        {
            return Err(unsupported("the charset must be utf-8"));
        }
    }
    let essence = essence.trim();
    let is = |one: &str| essence.eq_ignore_ascii_case(one);
    let is_structured = || {
        essence.len() > 17
            && essence.as_bytes()[..12].eq_ignore_ascii_case(b"application/")
            && essence.as_bytes()[essence.len() - 5..].eq_ignore_ascii_case(b"+json")
    };
    Ok(if is(header::JSON) || is_structured() {
        MediaType::Json
    } else if is("application/x-ndjson") || is("application/ndjson") {
        MediaType::Ndjson
    } else {
        MediaType::Unspecified
    })
}

/// `[A-Za-z0-9._:-]{1,128}`.
fn is_trace_id(text: &str) -> bool {
    (1..=TRACE_ID_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// `version-trace-parent-flags` (W3C Trace Context section 3.2).
fn is_traceparent(text: &str) -> bool {
    let lower_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let mut parts = text.split('-');
    let mut part = |len| parts.next().filter(|part| part.len() == len && lower_hex(part));
    let (Some(version), Some(trace), Some(parent), Some(_)) = (part(2), part(32), part(16), part(2)) else {
        return false;
    };
    let is_zero = |part: &str| part.bytes().all(|b| b == b'0');
    text.len() == 55 && version != "ff" && !is_zero(trace) && !is_zero(parent)
}

/// Whether a `Host` header is valid: a name, an IPv4 address, or an IPv6 address in brackets, with an optional port. This is
/// RFC 3986 section 3.2 without userinfo, percent-encoding and sub-delimiters, which the host of a gateway does not need.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = if let Some(rest) = host.strip_prefix(b"[") {
        let Some(end) = rest.iter().position(|&b| b == b']') else { return false };
        let (address, rest) = rest.split_at(end);
        if address.is_empty() || !address.iter().all(|b| b.is_ascii_hexdigit() || b":.".contains(b)) {
            return false;
        }
        (&b"v6"[..], &rest[1..])
    } else {
        host.split_at(host.iter().position(|&b| b == b':').unwrap_or(host.len()))
    };
    let is_port = || match port.split_first() {
        None => true,
        Some((b':', digits)) => {
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0')) < 1 << 16
        }
        Some(_) => false,
    };
    !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(b)) && is_port()
}

/// 400 for an invalid request.
pub fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(ProblemCode::InvalidRequest, detail)
}

/// 401 for a request without valid credentials.
pub fn unauthenticated() -> Problem {
    Problem::new(ProblemCode::Unauthenticated, "send Authorization: Bearer <API key or token>")
}

/// 415 for an unsupported body.
pub fn unsupported(detail: &'static str) -> Problem {
    Problem::new(ProblemCode::UnsupportedMediaType, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in
            ["a", "hooks.example.com", "a:1", "a:", "127.0.0.1:8080", "[::1]", "[::1]:65535", "a_b", "localhost"]
        {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in
            ["", ":80", "a, b", "a b", "a@b", "[::1", "[]", "[::1]x", "a:99999", "a:8o", "a:1:2", "a/b", "a%41", "a:+1"]
        {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn trace_contexts() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }

    #[test]
    fn media_types() {
        for (text, want) in [
            ("application/json", Some(MediaType::Json)),
            ("Application/JSON; charset=UTF-8", Some(MediaType::Json)),
            ("application/json;charset=\"utf-8\"", Some(MediaType::Json)),
            ("application/cloudevents+json", Some(MediaType::Json)),
            ("application/x-ndjson", Some(MediaType::Ndjson)),
            ("application/x-www-form-urlencoded", Some(MediaType::Unspecified)),
            ("text/plain", Some(MediaType::Unspecified)),
            ("", Some(MediaType::Unspecified)),
            ("+json", Some(MediaType::Unspecified)),
            ("application/json; charset=utf-7", None),
        ] {
            assert_eq!(media_type(&HeaderValue::from_static(text)).ok(), want, "{text}");
        }
    }

    #[test]
    fn hops_are_a_number_up_to_a_limit() {
        let hops =
            |text| RequestHead { hops: Some(&HeaderValue::from_static(text)), ..RequestHead::default() }.hops().ok();
        for (text, want) in [("0", 0), ("1", 1), ("08", HOPS_MAX)] {
            assert_eq!(hops(text), Some(want), "{text}");
        }
        for bad in ["", "9", "256", "99999999999999999999", "-1", "+1", "1.0", "1, 1", "one"] {
            assert_eq!(hops(bad), None, "{bad}");
        }
        assert_eq!(RequestHead::default().hops().ok(), Some(0));
    }

    #[test]
    fn a_valid_request_id_of_the_caller_is_kept() {
        let mut random = Random::seeded(1);
        let mut headers = HeaderMap::new();
        let made = request_id(&headers, &mut random);
        assert_eq!(made.len(), 36);
        assert_ne!(made, request_id(&headers, &mut random));
        headers.insert(X_REQUEST_ID.clone(), HeaderValue::from_static("abc.DEF:1-2_3"));
        assert_eq!(request_id(&headers, &mut random), "abc.DEF:1-2_3");
        headers.insert(X_REQUEST_ID.clone(), HeaderValue::from_static("a b"));
        assert_ne!(request_id(&headers, &mut random), "a b");
    }
}
