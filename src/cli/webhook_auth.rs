//! The flags for a webhook's `auth` and `tls`: how deliveries authenticate at the endpoint.

use std::io::Read;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::error::CliError;
use super::input::{InputArg, secret_in, secret_of};
use crate::config::Environment;

/// One way at a time; its secret comes from elsewhere, as a webhook's own does.
#[derive(Debug, Default, clap::Args)]
pub(super) struct AuthArgs {
    /// Deliveries carry Authorization: Basic, with this username; the password is --auth-secret
    #[arg(long, value_name = "USERNAME", group = "auth")]
    auth_basic: Option<String>,
    /// Deliveries carry Authorization: Bearer; the token is --auth-secret
    #[arg(long, group = "auth")]
    auth_bearer: bool,
    /// Deliveries carry this header, such as X-Api-Key; its value is --auth-secret
    #[arg(long, value_name = "NAME", group = "auth")]
    auth_header: Option<String>,
    /// Read that password, token or value from standard input
    #[arg(long, value_name = "-", value_parser = InputArg::parse, group = "auth_secret_from", requires = "auth")]
    auth_secret: Option<InputArg>,
    /// Environment variable that holds it
    #[arg(long, value_name = "VAR", group = "auth_secret_from", requires = "auth")]
    auth_secret_env: Option<String>,
    /// File that holds it; a line end after it does not count
    #[arg(long, value_name = "FILE", group = "auth_secret_from", requires = "auth")]
    auth_secret_file: Option<PathBuf>,
    /// File with the certificates, in PEM, that the endpoint's is checked by, in place of the public authorities
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// File with the certificate, in PEM, that the endpoint is shown, and those that lead to its authority
    #[arg(long, value_name = "FILE")]
    tls_client_certificate: Option<PathBuf>,
    /// File with its private key, in PEM
    #[arg(long, value_name = "FILE")]
    tls_client_key: Option<PathBuf>,
}

impl AuthArgs {
    /// Whether the secret is read from standard input.
    pub(super) fn reads_input(&self) -> bool {
        self.auth_secret.is_some()
    }

    /// The `auth` object; `None` without an `--auth-*` option. Without a secret the webhook's current secret stays; the
    /// server refuses the request if there is none.
    pub(super) fn auth(&self, environment: &Environment, stdin: &mut dyn Read) -> Result<Option<Value>, CliError> {
        let (mut auth, member) = match (&self.auth_basic, &self.auth_header) {
            (Some(username), _) => (json!({ "type": "basic", "username": username }), "password"),
            (None, Some(name)) => (json!({ "type": "header", "name": name }), "value"),
            (None, None) if self.auth_bearer => (json!({ "type": "bearer" }), "token"),
            (None, None) => return Ok(None),
        };
        let (variable, file) = (self.auth_secret_env.as_deref(), self.auth_secret_file.as_deref());
        if let Some(given) = secret_of(("--auth-secret", self.auth_secret), variable, file, environment, stdin)? {
            auth[member] = given.reveal().into();
        }
        Ok(Some(auth))
    }

    /// The `tls` object with the named files; `None` without files.
    pub(super) fn tls(&self) -> Result<Option<Value>, CliError> {
        let mut tls = Map::new();
        for (member, path) in [
            ("ca", &self.tls_ca),
            ("client_certificate", &self.tls_client_certificate),
            ("client_key", &self.tls_client_key),
        ] {
            if let Some(path) = path {
                tls.insert(member.to_owned(), secret_in(path)?.reveal().into());
            }
        }
        Ok((!tls.is_empty()).then(|| tls.into()))
    }
}
