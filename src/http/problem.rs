//! Errors as `application/problem+json` (RFC 9457).

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use super::route::Verbs;
use super::{Body, Response};
use crate::model::FieldError;

macro_rules! codes {
    ($($variant:ident => $status:ident, $code:literal, $title:literal;)*) => {
        /// What went wrong, as a client tells it apart. The table of API section 2.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ProblemCode {
            $(#[doc = $title] $variant,)*
        }

        impl ProblemCode {
            /// Every code, for documentation and its tests.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The status it is answered with.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// The word in `code` and at the end of `type`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The title for people.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

codes! {
    InvalidJson => BAD_REQUEST, "invalid_json", "The body is not JSON";
    InvalidRequest => BAD_REQUEST, "invalid_request", "The request cannot be understood";
    Unauthenticated => UNAUTHORIZED, "unauthenticated", "A valid bearer token is needed";
    UnknownToken => UNAUTHORIZED, "unknown_token", "The token is not known";
    BadSignature => UNAUTHORIZED, "bad_signature", "The signature is missing or wrong";
    Forbidden => FORBIDDEN, "forbidden", "The caller's role does not allow this";
    Suspended => FORBIDDEN, "suspended", "The source is suspended";
    NotFound => NOT_FOUND, "not_found", "There is no such thing";
    SourceNotFound => NOT_FOUND, "source_not_found", "There is no such source";
    MethodNotAllowed => METHOD_NOT_ALLOWED, "method_not_allowed", "The method is not allowed here";
    Conflict => CONFLICT, "conflict", "The state of the thing forbids this";
    ManagedByFile => CONFLICT, "managed_by_file", "The configuration file manages this";
    PreconditionFailed => PRECONDITION_FAILED, "precondition_failed", "It was changed meanwhile";
    TooLarge => PAYLOAD_TOO_LARGE, "too_large", "The body is too large";
    UriTooLong => URI_TOO_LONG, "uri_too_long", "The URI is too long";
    UnsupportedMediaType => UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The media type is not supported";
    InvalidBody => UNPROCESSABLE_ENTITY, "invalid_body", "The body breaks its rules";
    UnknownEventType => UNPROCESSABLE_ENTITY, "unknown_event_type", "The event type is not in the catalogue";
    EgressRefused => UNPROCESSABLE_ENTITY, "egress_refused", "The egress rules forbid this address";
    IdempotencyKeyReused => UNPROCESSABLE_ENTITY, "idempotency_key_reused", "The idempotency key was used with another body";
    HeadersTooLarge => REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", "The headers are too large";
    RateLimited => TOO_MANY_REQUESTS, "rate_limited", "Too many requests";
    Overloaded => SERVICE_UNAVAILABLE, "overloaded", "The server takes no more for the moment";
    DiskFull => SERVICE_UNAVAILABLE, "disk_full", "The disk is full";
    Starting => SERVICE_UNAVAILABLE, "starting", "The server is starting";
    Draining => SERVICE_UNAVAILABLE, "draining", "The server is stopping";
    Internal => INTERNAL_SERVER_ERROR, "internal", "Something failed on our side";
    RequestTimeout => REQUEST_TIMEOUT, "request_timeout", "The request took too long to arrive";
}

/// A refusal on its way to the client.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What went wrong.
    pub code: ProblemCode,
    /// In words, for this case; never a secret.
    pub detail: Cow<'static, str>,
    /// One for each field that is wrong.
    pub errors: Vec<FieldError>,
    header: Header,
}

/// The one header that a problem may bring along.
#[derive(Debug, Clone, Copy)]
enum Header {
    None,
    Bearer,
    Allow(Verbs),
    RetryAfter { secs: u64 },
}

#[derive(serde::Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// A problem with its explanation.
    pub fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        let header = match code {
            ProblemCode::Unauthenticated | ProblemCode::UnknownToken | ProblemCode::BadSignature => Header::Bearer,
            _ => Header::None,
        };
        Self { code, detail: detail.into(), errors: Vec::new(), header }
    }

    /// A body that breaks its rules, each breach named.
    pub fn invalid_body(errors: Vec<FieldError>) -> Self {
        let detail = FieldError::summary(&errors);
        Self { errors, ..Self::new(ProblemCode::InvalidBody, detail) }
    }

    /// Types that are not in a catalogue that is strict, each named by its place.
    pub fn unknown_types(errors: Vec<FieldError>) -> Self {
        Self { code: ProblemCode::UnknownEventType, ..Self::invalid_body(errors) }
    }

    /// Nothing there that this caller may know of.
    pub fn not_found(what: &'static str) -> Self {
        Self::new(ProblemCode::NotFound, format!("there is no such {what}"))
    }

    /// A method that the path does not have, with those that it has.
    pub fn method_not_allowed(allow: Verbs) -> Self {
        Self {
            header: Header::Allow(allow),
            ..Self::new(ProblemCode::MethodNotAllowed, format!("allowed here: {allow}"))
        }
    }

    /// Come back after this long.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.header = Header::RetryAfter { secs: after.as_secs().max(1) };
        self
    }

    /// The answer.
    pub fn into_response(self, request_id: &str) -> Response {
        let status = self.code.status();
        let document = Document {
            r#type: format!("/docs/errors#{}", self.code.as_str()),
            title: self.code.title(),
            status: status.as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            request_id,
            errors: &self.errors,
        };
        // A struct of strings always serialises.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.header {
            Header::None => {}
            Header::Bearer => _ = headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Header::Allow(methods) => {
                // Names of methods and commas are a header value.
                if let Ok(methods) = HeaderValue::try_from(methods.to_string()) {
                    headers.insert(ALLOW, methods);
                }
            }
            Header::RetryAfter { secs } => _ = headers.insert(RETRY_AFTER, HeaderValue::from(secs)),
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_entry_and_no_other_is_there() {
        let text = include_str!("../../docs/errors.md");
        let there: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        for code in ProblemCode::ALL {
            let entry = format!("\n## {}\n\n{}. ", code.as_str(), code.status().as_u16());
            assert!(text.contains(&entry), "docs/errors.md lacks{entry}");
        }
        assert_eq!(there.len(), ProblemCode::ALL.len(), "{there:?}");
    }

    #[test]
    fn a_breach_is_named_with_its_place_unless_it_is_the_whole_body() {
        let detail = |pointer| Problem::invalid_body(vec![FieldError::new(pointer, "expected an object")]).detail;
        assert_eq!((&*detail("/a"), &*detail("")), ("/a: expected an object", "expected an object"));
    }
}
