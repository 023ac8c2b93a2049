//! Why a command did not do what it was asked for.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::client::ClientError;
use crate::config::ConfigErrors;
use crate::filter::FilterError;
use crate::service::apply::{ApplyError, Fault};
use crate::signature::SignError;
use crate::signature::standard::SecretError;

/// A command's failure, in a sentence.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The configuration is wrong: a line for each thing.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A file that declares webhooks is wrong: a line for each thing.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Declared(Vec<Fault>),
    /// What it declares could not be made.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The address of the server is none.
    #[error("{url:?} is not the URL of a server, such as http://127.0.0.1:8080")]
    Url { url: String },
    /// Nobody said as whom to speak.
    #[error(
        "an API key is needed: --key, HOOKTIDE_KEY, or --data-dir with the folder of a server on this machine ({}: {source})",
        path.display()
    )]
    Key { path: PathBuf, source: io::Error },
    /// The payload cannot be read.
    #[error("{from} cannot be read: {source}")]
    Payload { from: String, source: io::Error },
    /// A secret stands where everybody can read it.
    #[error(
        "{option} takes only -, for standard input: what stands on a command line is seen by others and kept in histories"
    )]
    ExposedSecret { option: &'static str },
    /// There is no secret where one was to be.
    #[error("{from} holds no secret")]
    NoSecretIn { from: String },
    /// Two things are to come from standard input.
    #[error("only one of {0} can come from standard input")]
    InputTwice(&'static str),
    /// Nobody sends as this kind.
    #[error("{kind:?} is no kind of provider; known are {known}")]
    UnknownKind { kind: String, known: String },
    /// The scheme, or a key of it, is wrong.
    #[error("the scheme cannot be used: {0}")]
    Scheme(String),
    /// There is nothing to sign or verify with.
    #[error("{of} needs a secret: --secret - (standard input), --secret-env or --secret-file")]
    SecretWanted { of: String },
    /// The scheme signs what was not given.
    #[error("this scheme signs the URL: --url says which is called")]
    UrlWanted,
    /// The request cannot be signed.
    #[error("this cannot be signed: {0}")]
    Sign(#[from] SignError),
    /// A body of bytes in a line for a shell.
    #[error("the body is not UTF-8 text: give it as @FILE")]
    NotText,
    /// Nothing says how the source signs, or where it sends to.
    #[error("{source_name}: {problem}")]
    Trigger { source_name: String, problem: &'static str },
    /// The payload is not JSON.
    #[error("the payload is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// A filter, or the event to try it on, is wrong: a line for each thing.
    #[error("{what} cannot be used:\n{}", wrong.iter().map(|e| format!("  {}: {}", shown(&e.pointer), e.detail)).collect::<Vec<_>>().join("\n"))]
    Filter { what: &'static str, wrong: Vec<FilterError> },
    /// The secret to verify with is none.
    #[error("this secret cannot be used: {0}")]
    Secret(SecretError),
    /// There is nothing to sign a token with.
    #[error(
        "a token needs auth.jwt_secret (--config, HOOKTIDE_AUTH__JWT_SECRET or JWT_SECRET): what the server reads it with"
    )]
    NoTokenSecret,
    /// The server did not do it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The replay ended otherwise than by having delivered all.
    #[error("the replay {id} ended as {status}")]
    Replay { id: String, status: String },
    /// `webhook test` was not answered with 200 to 299, and has shown what came.
    #[error("the endpoint did not take the test delivery")]
    TestFailed,
    /// `log verify` found something, and has said what.
    #[error("the log is damaged")]
    Damaged,
    /// `log verify` beside a running server.
    #[error("not everything was verified: stop the server first, or verify a backup of the folder")]
    InUse,
    /// There is nothing to look at.
    #[error("there is no data folder {} (--data-dir names another one)", path.display())]
    NoFolder { path: PathBuf },
    /// The address to receive on cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    /// The logger could not be started.
    #[error("logging cannot start: {0}")]
    Logging(#[from] tracing_subscriber::util::TryInitError),
    /// Standard output, or a socket of our own.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CliError {
    /// 2 for what the caller can put right on the command line or in the file, else 1.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::Declared(_)
            | Self::Url { .. }
            | Self::Key { .. }
            | Self::Payload { .. }
            | Self::ExposedSecret { .. }
            | Self::NoSecretIn { .. }
            | Self::InputTwice(_)
            | Self::UnknownKind { .. }
            | Self::Scheme(_)
            | Self::SecretWanted { .. }
            | Self::UrlWanted
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
            | Self::Io(_) => ExitCode::FAILURE,
        }
    }
}

/// The whole has an empty pointer, which nobody sees.
fn shown(pointer: &str) -> &str {
    if pointer.is_empty() { "as a whole" } else { pointer }
}
