//! Reads bodies, JSON and secrets from arguments, files, environment variables and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::error::CliError;
use crate::config::Environment;
use crate::limits::CLI_SECRET_BYTES_MAX;
use crate::model::Secret;

/// Where a secret comes from. Never from the argument itself: other users of the machine see a command's arguments while it
/// runs, and the shell keeps them in its history.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(multiple = false)]
pub(super) struct SecretArgs {
    /// Read the secret from standard input
    #[arg(long, value_name = "-", value_parser = InputArg::parse)]
    secret: Option<InputArg>,
    /// Environment variable that holds the secret
    #[arg(long, value_name = "VAR")]
    secret_env: Option<String>,
    /// File that holds the secret; a line end after it does not count
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// The value of an option that takes only `-` (standard input). Any other value is probably a secret. It is dropped at
/// once, so that no message repeats it, and refused when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputArg {
    /// The value is `-`.
    Stdin,
    /// Any other value.
    Literal,
}

impl InputArg {
    /// Never fails, because clap would quote the value in its error message.
    #[expect(clippy::unnecessary_wraps, reason = "the signature that clap calls")]
    pub(super) fn parse(text: &str) -> Result<Self, std::convert::Infallible> {
        Ok(if text == "-" { Self::Stdin } else { Self::Literal })
    }

    /// Reads the secret from standard input. A literal value is an error.
    pub(super) fn read(self, option: &'static str, input: &mut dyn Read) -> Result<Secret, CliError> {
        match self {
            Self::Stdin => secret(input, "standard input"),
            Self::Literal => Err(CliError::ExposedSecret { option }),
        }
    }
}

impl SecretArgs {
    /// Whether the secret is read from standard input.
    pub(super) fn reads_input(&self) -> bool {
        self.secret.is_some()
    }

    /// Reads the secret; `None` if no option names one.
    pub(super) fn read(&self, environment: &Environment, input: &mut dyn Read) -> Result<Option<Secret>, CliError> {
        let (variable, file) = (self.secret_env.as_deref(), self.secret_file.as_deref());
        secret_of(("--secret", self.secret), variable, file, environment, input)
    }
}

/// Reads the secret from the first of these: standard input, the file, the environment variable. `None` if none is
/// given.
pub(super) fn secret_of(
    (option, given): (&'static str, Option<InputArg>),
    variable: Option<&str>,
    file: Option<&Path>,
    environment: &Environment,
    input: &mut dyn Read,
) -> Result<Option<Secret>, CliError> {
    if let Some(given) = given {
        return given.read(option, input).map(Some);
    }
    if let Some(path) = file {
        return secret_in(path).map(Some);
    }
    let Some(name) = variable else { return Ok(None) };
    let value = environment.get(name).ok_or_else(|| CliError::EmptySecret { from: format!("the variable {name}") })?;
    Ok(Some(Secret::new(value)))
}

/// Reads a secret from a file.
pub(super) fn secret_in(path: &Path) -> Result<Secret, CliError> {
    let from = path.display().to_string();
    let mut file = std::fs::File::open(path).map_err(|source| CliError::Payload { from: from.clone(), source })?;
    secret(&mut file, &from)
}

/// Reads the text of a stream without its final line end. Empty text is an error.
pub(super) fn secret(input: &mut dyn Read, from: &str) -> Result<Secret, CliError> {
    let mut text = String::new();
    let read = input.take(CLI_SECRET_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|source| CliError::Payload { from: from.to_owned(), source })?;
    let line = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(CliError::EmptySecret { from: from.to_owned() });
    }
    Ok(Secret::new(line))
}

/// Reads the bytes of an argument: `@FILE`, `-` for standard input, or the text itself.
pub(super) fn bytes(argument: &str, input: &mut dyn Read) -> Result<Vec<u8>, CliError> {
    let read = match argument.strip_prefix('@') {
        Some(path) => std::fs::read(path),
        None if argument == "-" => {
            let mut bytes = Vec::new();
            input.read_to_end(&mut bytes).map(|_| bytes)
        }
        None => Ok(argument.as_bytes().to_vec()),
    };
    read.map_err(|source| {
        let from = argument.strip_prefix('@').unwrap_or("standard input").to_owned();
        CliError::Payload { from, source }
    })
}

/// Reads the JSON of an argument; see [`bytes`] for its forms.
pub(super) fn json<T: DeserializeOwned>(argument: &str, input: &mut dyn Read) -> Result<T, CliError> {
    crate::json::from_slice(&bytes(argument, input)?).map_err(CliError::NotJson)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        secret: SecretArgs,
    }

    fn read(words: &[&str], input: &str) -> Result<Option<Secret>, CliError> {
        let args = Command::try_parse_from(std::iter::once(&"x").chain(words)).unwrap().secret;
        let environment = Environment::new([("TOKEN".into(), "abc".into()), ("EMPTY".into(), "".into())]);
        args.read(&environment, &mut input.as_bytes())
    }

    #[test]
    fn a_secret_comes_from_input_variable_or_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "from a file\r\n").unwrap();
        let path = file.display().to_string();
        for (words, input, wanted) in [
            (&["--secret", "-"][..], "whsec_x\n", Some("whsec_x")),
            (&["--secret", "-"], "ends with a space \n", Some("ends with a space ")),
            (&["--secret-env", "TOKEN"], "", Some("abc")),
            (&["--secret-file", &path], "", Some("from a file")),
            (&[], "not read", None),
        ] {
            let secret = read(words, input).unwrap();
            assert_eq!(secret.as_ref().map(Secret::reveal), wanted, "{words:?}");
        }
        for words in [&["--secret", "-"][..], &["--secret-env", "EMPTY"], &["--secret-env", "ABSENT"]] {
            assert!(matches!(read(words, "\n"), Err(CliError::EmptySecret { .. })), "{words:?}");
        }
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
        let e = read(&["--secret", "whsec_hunter2"], "").unwrap_err();
        assert!(e.to_string().starts_with("--secret takes only -"), "{e}");
        assert!(!e.to_string().contains("hunter2"), "{e}");
        assert!(Command::try_parse_from(["x", "--secret", "-", "--secret-env", "A"]).is_err());
    }

    #[test]
    fn bytes_are_kept_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("body");
        std::fs::write(&file, b"\xff\r\n").unwrap();
        assert_eq!(bytes(&format!("@{}", file.display()), &mut &b""[..]).unwrap(), b"\xff\r\n");
        assert_eq!(bytes("-", &mut &b"in\n"[..]).unwrap(), b"in\n");
        assert_eq!(bytes("{ }", &mut &b""[..]).unwrap(), b"{ }");
        assert!(matches!(bytes("@/nowhere/at/all", &mut &b""[..]), Err(CliError::Payload { .. })));
    }
}
