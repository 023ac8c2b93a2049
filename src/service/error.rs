//! Why an operation was refused or failed.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::{StoreFailed, TestRefused};
use crate::inbound::source::Breach;
use crate::limits::RETRY_SOON;
use crate::model::FieldError;
use crate::registry::{AccessError, ChangeError, EventTypeError, SourceError};
use crate::storage::ReadError;

/// What went wrong, as a front end tells it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// An argument beside the document cannot be understood. The detail begins with its name.
    InvalidArgument,
    /// The document breaks its rules; [`Error::errors`] names the fields.
    InvalidBody,
    /// An event type is not in the catalogue, which is strict.
    UnknownEventType,
    /// The egress rules forbid the address.
    EgressRefused,
    /// The caller's role does not allow the operation.
    Forbidden,
    /// There is nothing of this name that the caller may know of.
    NotFound,
    /// The state of the thing forbids the operation.
    Conflict,
    /// The configuration file manages the thing.
    ManagedByFile,
    /// The thing has another version than the caller expected.
    VersionMismatch,
    /// The caller asks too often.
    RateLimited,
    /// The server takes no more for the moment.
    Overloaded,
    /// The disk is full.
    DiskFull,
    /// The server is stopping.
    Stopping,
    /// Something failed on the server's side.
    Internal,
}

/// A refusal or a failure of an operation.
#[derive(Debug, Clone)]
pub struct Error {
    /// What went wrong.
    pub kind: ErrorKind,
    /// What went wrong in this case, in words; never a secret.
    pub detail: Cow<'static, str>,
    /// One for each field that is wrong.
    pub errors: Vec<FieldError>,
    /// When it is worth trying again.
    pub retry_after: Option<Duration>,
    /// The version that the thing has, where the caller expected another one.
    pub current_version: Option<u64>,
}

impl Error {
    /// An error with its explanation.
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), retry_after: None, current_version: None }
    }

    /// A document that breaks its rules, each breach named.
    pub fn invalid_body(errors: Vec<FieldError>) -> Self {
        let detail = FieldError::summary(&errors);
        Self { errors, ..Self::new(ErrorKind::InvalidBody, detail) }
    }

    /// Event types that are not in a strict catalogue, each named by its place.
    pub fn unknown_types(errors: Vec<FieldError>) -> Self {
        Self { kind: ErrorKind::UnknownEventType, ..Self::invalid_body(errors) }
    }

    /// There is no such thing that the caller may know of.
    pub fn not_found(what: &'static str) -> Self {
        Self::new(ErrorKind::NotFound, format!("there is no such {what}"))
    }

    /// The thing has another version than the caller expected.
    pub fn version_mismatch(current: u64) -> Self {
        let detail = format!("its version is {current}");
        Self { current_version: Some(current), ..Self::new(ErrorKind::VersionMismatch, detail) }
    }

    /// Another change came between the caller's look at the thing and the caller's change.
    pub fn changed_meanwhile() -> Self {
        Self::new(ErrorKind::VersionMismatch, "it was changed meanwhile")
    }

    /// The same error, with one field named as its cause.
    #[must_use]
    pub fn at_field(mut self, pointer: &str) -> Self {
        self.errors.push(FieldError::new(pointer, self.detail.clone()));
        self
    }

    /// The same error, worth another try after this long.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Error {}

impl From<ChangeError> for Error {
    fn from(error: ChangeError) -> Self {
        let unavailable = |kind| Self::new(kind, error.to_string()).retry_after(RETRY_SOON);
        match error {
            ChangeError::NotFound => Self::not_found("webhook"),
            ChangeError::SubscriptionNotFound => Self::not_found("subscription"),
            ChangeError::UidTaken => Self::new(ErrorKind::Conflict, error.to_string()).at_field("/uid"),
            ChangeError::Changed | ChangeError::TooManySubscriptions => {
                Self::new(ErrorKind::Conflict, error.to_string())
            }
            ChangeError::Overloaded => unavailable(ErrorKind::Overloaded),
            ChangeError::DiskFull => unavailable(ErrorKind::DiskFull),
            ChangeError::Stopped => unavailable(ErrorKind::Stopping),
        }
    }
}

impl From<EventTypeError> for Error {
    fn from(error: EventTypeError) -> Self {
        let kind = match error {
            EventTypeError::NotFound | EventTypeError::Unavailable(ChangeError::NotFound) => {
                return Self::not_found("event type");
            }
            EventTypeError::Unavailable(error) => return error.into(),
            EventTypeError::ManagedByFile => ErrorKind::ManagedByFile,
            EventTypeError::Changed | EventTypeError::NameTaken | EventTypeError::TooMany => ErrorKind::Conflict,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        let kind = match error {
            SourceError::NotFound | SourceError::Unavailable(ChangeError::NotFound) => {
                return Self::not_found("source");
            }
            SourceError::Invalid(breaches) => {
                let field = |Breach { pointer, detail }| FieldError { pointer, detail };
                return Self::invalid_body(breaches.into_iter().map(field).collect());
            }
            SourceError::Unavailable(error) => return error.into(),
            SourceError::NameTaken => return Self::new(ErrorKind::Conflict, error.to_string()).at_field("/name"),
            SourceError::TokenTaken => return Self::new(ErrorKind::Conflict, error.to_string()).at_field("/token"),
            SourceError::ManagedByFile => ErrorKind::ManagedByFile,
            SourceError::Changed | SourceError::HasSecret | SourceError::NoToken => ErrorKind::Conflict,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<AccessError> for Error {
    fn from(error: AccessError) -> Self {
        let kind = match error {
            AccessError::NoKey => return Self::not_found("key"),
            AccessError::TooMany | AccessError::TenantExists => ErrorKind::Conflict,
            AccessError::ManagedByFile => ErrorKind::ManagedByFile,
            AccessError::Unavailable(error) => return error.into(),
        };
        Self::new(kind, error.to_string())
    }
}

impl From<TestRefused> for Error {
    fn from(refused: TestRefused) -> Self {
        let (kind, detail) = match refused {
            TestRefused::WebhookBusy => (ErrorKind::RateLimited, "test deliveries of this webhook are under way"),
            TestRefused::Busy => (ErrorKind::Overloaded, "too many test deliveries are under way"),
            TestRefused::Stopping => (ErrorKind::Stopping, "the server is stopping"),
        };
        Self::new(kind, detail).retry_after(RETRY_SOON)
    }
}

impl From<StoreFailed> for Error {
    fn from(failed: StoreFailed) -> Self {
        Self::new(ErrorKind::Internal, failed.to_string())
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        // The details are for the log, not for the client.
        tracing::error!(target: "hooktide::api", %error, "the log could not be read");
        Self::new(ErrorKind::Internal, "the log could not be read")
    }
}
