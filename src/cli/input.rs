//! What a command is given beside its arguments: bodies and JSON from files and standard input, and secrets.

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

/// What was given where only `-`, standard input, is taken. Anything else is likely a secret: it is forgotten at once, so
/// that no message repeats it, and refused when it is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputArg {
    /// `-`
    Standard,
    /// Something else.
    Exposed,
}

impl InputArg {
    /// Never fails: clap would quote the value in its message.
    #[expect(clippy::unnecessary_wraps, reason = "the signature that clap calls")]
    pub(super) fn parse(text: &str) -> Result<Self, std::convert::Infallible> {
        Ok(if text == "-" { Self::Standard } else { Self::Exposed })
    }

    /// The secret that standard input holds.
    pub(super) fn read(self, option: &'static str, input: &mut dyn Read) -> Result<Secret, CliError> {
        match self {
            Self::Standard => secret(input, "standard input"),
            Self::Exposed => Err(CliError::ExposedSecret { option }),
        }
    }
}

impl SecretArgs {
    /// Whether standard input is taken up by the secret.
    pub(super) fn reads_input(&self) -> bool {
        self.secret.is_some()
    }

    /// The secret, if there is to be one.
    pub(super) fn read(&self, environment: &Environment, input: &mut dyn Read) -> Result<Option<Secret>, CliError> {
        let (variable, file) = (self.secret_env.as_deref(), self.secret_file.as_deref());
        secret_of(("--secret", self.secret), variable, file, environment, input)
    }
}

/// The secret that an option has read from standard input, or that stands in a variable or a file; the first that is named.
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
    let value = environment.get(name).ok_or_else(|| CliError::NoSecretIn { from: format!("the variable {name}") })?;
    Ok(Some(Secret::new(value)))
}

/// The secret that a file holds.
pub(super) fn secret_in(path: &Path) -> Result<Secret, CliError> {
    let from = path.display().to_string();
    let mut file = std::fs::File::open(path).map_err(|source| CliError::Payload { from: from.clone(), source })?;
    secret(&mut file, &from)
}

/// The text of a stream without the line end after it.
pub(super) fn secret(input: &mut dyn Read, from: &str) -> Result<Secret, CliError> {
    let mut text = String::new();
    let read = input.take(CLI_SECRET_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|source| CliError::Payload { from: from.to_owned(), source })?;
    let line = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(CliError::NoSecretIn { from: from.to_owned() });
    }
    Ok(Secret::new(line))
}

/// The bytes that an argument stands for: `@FILE`, `-` for standard input, or itself.
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

/// The JSON that an argument stands for.
pub(super) fn json<T: DeserializeOwned>(argument: &str, input: &mut dyn Read) -> Result<T, CliError> {
    serde_json::from_slice(&bytes(argument, input)?).map_err(CliError::NotJson)
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
            assert!(matches!(read(words, "\n"), Err(CliError::NoSecretIn { .. })), "{words:?}");
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
