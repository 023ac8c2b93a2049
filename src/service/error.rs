//! The error type of the operations.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::{BackendFailed, TestRefused};
use crate::limits::MANAGE_RETRY_AFTER;
use crate::model::FieldError;
use crate::registry::{AccessError, ChangeError, EventTypeError, SourceError};
use crate::storage::ReadError;

/// The category of an error. A front end maps it to its own codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// An argument other than the document is invalid. The detail begins with the name of the argument.
    InvalidArgument,
    /// The document is invalid; [`Error::errors`] lists the invalid fields.
    InvalidBody,
    /// An event type is not in the catalogue, and the catalogue is strict.
    UnknownEventType,
    /// The egress rules forbid the address.
    EgressRefused,
    /// The caller's role does not allow the operation.
    Forbidden,
    /// The resource does not exist, or the caller may not see it.
    NotFound,
    /// The state of the resource forbids the operation.
    Conflict,
    /// The resource is managed by the configuration file.
    ManagedByFile,
    /// The resource has another version than the caller expected.
    VersionMismatch,
    /// The caller sends too many requests.
    RateLimited,
    /// The server accepts no more work at the moment.
    Overloaded,
    /// The disk is full.
    DiskFull,
    /// The server is stopping.
    Stopping,
    /// The server failed.
    Internal,
}

/// An error of an operation.
#[derive(Debug, Clone)]
pub struct Error {
    /// The category of the error.
    pub kind: ErrorKind,
    /// The explanation of this error as text. It never contains a secret.
    pub detail: Cow<'static, str>,
    /// One entry for each invalid field.
    pub errors: Vec<FieldError>,
    /// How long the caller should wait before it retries.
    pub retry_after: Option<Duration>,
    /// The version of the resource, if the caller expected another one.
    pub current_version: Option<u64>,
}

impl Error {
    /// Creates an error of a category with an explanation.
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), retry_after: None, current_version: None }
    }

    /// Creates an error for an invalid document from its invalid fields.
    pub fn invalid_body(errors: Vec<FieldError>) -> Self {
        let detail = FieldError::summary(&errors);
        Self { errors, ..Self::new(ErrorKind::InvalidBody, detail) }
    }

    /// Creates an error for event types that a strict catalogue does not contain, each located by its JSON pointer.
    pub fn unknown_types(errors: Vec<FieldError>) -> Self {
        Self { kind: ErrorKind::UnknownEventType, ..Self::invalid_body(errors) }
    }

    /// Creates an error for a resource that does not exist or that the caller may not see. `what` is the kind of
    /// resource.
    pub fn not_found(what: &'static str) -> Self {
        Self::new(ErrorKind::NotFound, format!("there is no such {what}"))
    }

    /// Creates an error for a resource whose version is `current` and not the expected one.
    pub fn version_mismatch(current: u64) -> Self {
        let detail = format!("its version is {current}");
        Self { current_version: Some(current), ..Self::new(ErrorKind::VersionMismatch, detail) }
    }

    /// Creates an error for a resource that was changed between the caller's read and the caller's change.
    pub fn changed_meanwhile() -> Self {
        Self::new(ErrorKind::VersionMismatch, "it was changed meanwhile")
    }

    /// Adds a field as the cause of the error.
    #[must_use]
    pub fn at_field(mut self, pointer: &str) -> Self {
        self.errors.push(FieldError::new(pointer, self.detail.clone()));
        self
    }

    /// Sets how long the caller should wait before it retries.
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
        let unavailable = |kind| Self::new(kind, error.to_string()).retry_after(MANAGE_RETRY_AFTER);
        match error {
            ChangeError::NotFound => Self::not_found("webhook"),
            ChangeError::SubscriptionNotFound => Self::not_found("subscription"),
            ChangeError::PatternsTooLarge => Self::invalid_body(vec![FieldError::new("/filters", error.to_string())]),
            ChangeError::UidTaken => Self::new(ErrorKind::Conflict, error.to_string()).at_field("/uid"),
            ChangeError::Changed
            | ChangeError::TooManySubscriptions
            | ChangeError::TenantTooLarge
            | ChangeError::RegistryTooLarge => Self::new(ErrorKind::Conflict, error.to_string()),
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
            SourceError::Invalid(errors) => return Self::invalid_body(errors),
            SourceError::Unavailable(error) => return error.into(),
            SourceError::NameTaken => return Self::new(ErrorKind::Conflict, error.to_string()).at_field("/name"),
            SourceError::TokenTaken => return Self::new(ErrorKind::Conflict, error.to_string()).at_field("/token"),
            SourceError::ManagedByFile => ErrorKind::ManagedByFile,
            SourceError::Changed | SourceError::HasSecret | SourceError::NoHandshakeSecret | SourceError::NoToken => {
                ErrorKind::Conflict
            }
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
            TestRefused::TenantBusy => {
                (ErrorKind::RateLimited, "too many test deliveries of this tenant are under way")
            }
            TestRefused::Busy => (ErrorKind::Overloaded, "too many test deliveries are under way"),
            TestRefused::Stopping => (ErrorKind::Stopping, "the server is stopping"),
        };
        Self::new(kind, detail).retry_after(MANAGE_RETRY_AFTER)
    }
}

impl From<BackendFailed> for Error {
    fn from(failed: BackendFailed) -> Self {
        match failed {
            BackendFailed::Unreadable => Self::new(ErrorKind::Internal, failed.to_string()),
            BackendFailed::Busy => {
                Self { retry_after: Some(MANAGE_RETRY_AFTER), ..Self::new(ErrorKind::Overloaded, failed.to_string()) }
            }
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        // The details go to the log and not to the client.
        tracing::error!(target: "hooktide::api", %error, "the log could not be read");
        Self::new(ErrorKind::Internal, "the log could not be read")
    }
}
