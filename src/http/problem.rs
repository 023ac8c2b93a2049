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
        /// The error code of a problem. The codes are the table of API section 2.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ProblemCode {
            $(#[doc = $title] $variant,)*
        }

        impl ProblemCode {
            /// All codes, for the documentation and its tests.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The HTTP status of the response.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// The value of the member `code`, which is also the end of `type`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The value of the member `title`.
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

/// An error response, as `application/problem+json`.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The error code.
    pub code: ProblemCode,
    /// The explanation of this occurrence. It never contains a secret.
    pub detail: Cow<'static, str>,
    /// One entry for each invalid field.
    pub errors: Vec<FieldError>,
    header: ExtraHeader,
}

/// The additional header of the response. A problem has at most one.
#[derive(Debug, Clone, Copy)]
enum ExtraHeader {
    None,
    Bearer,
    Allow(Verbs),
    RetryAfter { secs: u64 },
}

#[derive(serde::Serialize)]
struct ProblemDocument<'a> {
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
    /// Creates a problem. A 401 gets the header `WWW-Authenticate: Bearer`.
    pub fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        let header = match code {
            ProblemCode::Unauthenticated | ProblemCode::UnknownToken | ProblemCode::BadSignature => ExtraHeader::Bearer,
            _ => ExtraHeader::None,
        };
        Self { code, detail: detail.into(), errors: Vec::new(), header }
    }

    /// 422 for an invalid body, with one error for each invalid field.
    pub fn invalid_body(errors: Vec<FieldError>) -> Self {
        let detail = FieldError::summary(&errors);
        Self { errors, ..Self::new(ProblemCode::InvalidBody, detail) }
    }

    /// 422 for event types that are not in a strict catalogue, with one error for each place in the body.
    pub fn unknown_types(errors: Vec<FieldError>) -> Self {
        Self { code: ProblemCode::UnknownEventType, ..Self::invalid_body(errors) }
    }

    /// 404: the resource does not exist, or the caller may not see it. `what` names the kind of resource.
    pub fn not_found(what: &'static str) -> Self {
        Self::new(ProblemCode::NotFound, format!("there is no such {what}"))
    }

    /// 405 with the header `Allow`, which lists the methods of the path.
    pub fn method_not_allowed(allow: Verbs) -> Self {
        Self {
            header: ExtraHeader::Allow(allow),
            ..Self::new(ProblemCode::MethodNotAllowed, format!("allowed here: {allow}"))
        }
    }

    /// Adds the header `Retry-After`, in whole seconds and at least 1.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.header = ExtraHeader::RetryAfter { secs: after.as_secs().max(1) };
        self
    }

    /// The time in the header `Retry-After`.
    pub fn wait(&self) -> Option<Duration> {
        match self.header {
            ExtraHeader::RetryAfter { secs } => Some(Duration::from_secs(secs)),
            ExtraHeader::None | ExtraHeader::Bearer | ExtraHeader::Allow(_) => None,
        }
    }

    /// The response. `request_id` becomes its member `request_id`.
    pub fn into_response(self, request_id: &str) -> Response {
        let status = self.code.status();
        let document = ProblemDocument {
            r#type: format!("/docs/errors#{}", self.code.as_str()),
            title: self.code.title(),
            status: status.as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            request_id,
            errors: &self.errors,
        };
        // A struct of strings always serializes.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.header {
            ExtraHeader::None => {}
            ExtraHeader::Bearer => _ = headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            ExtraHeader::Allow(methods) => {
                // Method names and commas are a valid header value.
                if let Ok(methods) = HeaderValue::try_from(methods.to_string()) {
                    headers.insert(ALLOW, methods);
                }
            }
            ExtraHeader::RetryAfter { secs } => _ = headers.insert(RETRY_AFTER, HeaderValue::from(secs)),
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_an_entry_for_every_code_and_no_other() {
        let text = include_str!("../../docs/errors.md");
        let there: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        for code in ProblemCode::ALL {
            let entry = format!("\n## {}\n\n{}. ", code.as_str(), code.status().as_u16());
            assert!(text.contains(&entry), "docs/errors.md lacks{entry}");
        }
        assert_eq!(there.len(), ProblemCode::ALL.len(), "{there:?}");
    }

    #[test]
    fn the_detail_names_the_pointer_of_the_error_unless_it_is_the_whole_body() {
        let detail = |pointer| Problem::invalid_body(vec![FieldError::new(pointer, "expected an object")]).detail;
        assert_eq!((&*detail("/a"), &*detail("")), ("/a: expected an object", "expected an object"));
    }
}
