//! The errors of commands, and their exit codes.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::client::ClientError;
use crate::config::ConfigErrors;
use crate::filter::FilterError;
use crate::service::apply::{ApplyError, DeclarationError};
use crate::signature::SignError;
use crate::signature::standard::SecretError;

/// The failure of a command. The text is a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The configuration is invalid; one line per error.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The file that declares webhooks and event types is invalid; one line per error.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    InvalidDeclarations(Vec<DeclarationError>),
    /// The declared objects could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The server's URL is invalid.
    #[error("{url:?} is not the URL of a server, such as http://127.0.0.1:8080")]
    Url { url: String },
    /// No API key is given, and the key file cannot be read.
    #[error(
        "an API key is needed: --key, HOOKTIDE_KEY, or --data-dir with the folder of a server on this machine ({}: {source})",
        path.display()
    )]
    Key { path: PathBuf, source: io::Error },
    /// The payload file or standard input cannot be read.
    #[error("{from} cannot be read: {source}")]
    Payload { from: String, source: io::Error },
    /// A secret is given as an argument, where other users of the machine can read it.
    #[error(
        "{option} takes only -, for standard input: what stands on a command line is seen by others and kept in histories"
    )]
    ExposedSecret { option: &'static str },
    /// The secret is empty, or its environment variable is not set.
    #[error("{from} holds no secret")]
    EmptySecret { from: String },
    /// The filter needs more work on the event than a server allows.
    #[error("{0}: a server would make the delivery a dead letter (filter_too_costly)")]
    FilterTooCostly(crate::filter::TooCostly),
    /// Two values should be read from standard input.
    #[error("only one of {0} can come from standard input")]
    StdinUsedTwice(&'static str),
    /// The provider kind is unknown.
    #[error("{kind:?} is no kind of provider; known are {known}")]
    UnknownKind { kind: String, known: String },
    /// The signature scheme or its key is invalid.
    #[error("the scheme cannot be used: {0}")]
    Scheme(String),
    /// The scheme needs a secret, and none is given.
    #[error("{of} needs a secret: --secret - (standard input), --secret-env or --secret-file")]
    SecretRequired { of: String },
    /// The scheme signs the URL, and none is given.
    #[error("this scheme signs the URL: --url says which is called")]
    UrlRequired,
    /// The request cannot be signed.
    #[error("this cannot be signed: {0}")]
    Sign(#[from] SignError),
    /// The body is not UTF-8 and cannot be part of a shell command.
    #[error("the body is not UTF-8 text: give it as @FILE")]
    NotText,
    /// `trigger` cannot find out how the source signs or which URL it uses.
    #[error("{source_name}: {problem}")]
    Trigger { source_name: String, problem: &'static str },
    /// The payload is not JSON.
    #[error("the payload is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// A filter or its test event is invalid; one line per error.
    #[error("{what} cannot be used:\n{}", wrong.iter().map(|e| format!("  {}: {}", shown(&e.pointer), e.detail)).collect::<Vec<_>>().join("\n"))]
    Filter { what: &'static str, wrong: Vec<FilterError> },
    /// The secret for verification is invalid.
    #[error("this secret cannot be used: {0}")]
    Secret(SecretError),
    /// No secret for signing tokens is configured.
    #[error(
        "a token needs auth.jwt_secret (--config, HOOKTIDE_AUTH__JWT_SECRET or JWT_SECRET): what the server reads it with"
    )]
    NoTokenSecret,
    /// The call to the server failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The replay ended with a status other than `done`.
    #[error("the replay {id} ended as {status}")]
    Replay { id: String, status: String },
    /// The endpoint of `webhook test` did not respond with 200 to 299. The response has been printed.
    #[error("the endpoint did not take the test delivery")]
    TestFailed,
    /// `log stat` or `log verify` found damage and has printed it.
    #[error("the log is damaged")]
    Damaged,
    /// `log verify` could not verify everything, because a running server has the folder open.
    #[error("not everything was verified: stop the server first, or verify a backup of the folder")]
    InUse,
    /// The data folder does not exist.
    #[error("there is no data folder {} (--data-dir names another one)", path.display())]
    NoFolder { path: PathBuf },
    /// `listen` cannot bind its address.
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    /// The logger could not be started.
    #[error("logging cannot start: {0}")]
    Logging(#[from] tracing_subscriber::util::TryInitError),
    /// I/O error of standard output or of a local socket.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CliError {
    /// 2 if the user can correct the command line or the file, else 1.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::InvalidDeclarations(_)
            | Self::Url { .. }
            | Self::Key { .. }
            | Self::Payload { .. }
            | Self::ExposedSecret { .. }
            | Self::EmptySecret { .. }
            | Self::StdinUsedTwice(_)
            | Self::UnknownKind { .. }
            | Self::Scheme(_)
            | Self::SecretRequired { .. }
            | Self::UrlRequired
            | Self::Sign(_)
            | Self::NotText
            | Self::NoTokenSecret
            | Self::Trigger { .. }
            | Self::NotJson(_)
            | Self::Filter { .. }
            | Self::Secret(_)
            | Self::NoFolder { .. } => ExitCode::from(2),
            Self::Client(_)
            | Self::Apply(_)
            | Self::Replay { .. }
            | Self::TestFailed
            | Self::Damaged
            | Self::InUse
            | Self::Listen { .. }
            | Self::Logging(_)
            | Self::FilterTooCostly(_)
            | Self::Io(_) => ExitCode::FAILURE,
        }
    }
}

/// The text for a JSON pointer. The pointer of the whole document is empty and would be invisible.
fn shown(pointer: &str) -> &str {
    if pointer.is_empty() { "as a whole" } else { pointer }
}
