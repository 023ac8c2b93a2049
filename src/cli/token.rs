//! `hooktide token`: creates a token (JWT) with the configured secret, without calling a server.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::ServerArgs;
use super::error::CliError;
use super::parse::{role, span, tenant};
use crate::auth::{Claims, mint};
use crate::config::Environment;
use crate::model::{DEFAULT_TENANT, Role, Timestamp};
use crate::runtime::Clock;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The tenant that its bearer acts for
    #[arg(long, default_value = DEFAULT_TENANT, value_parser = tenant)]
    tenant: String,
    /// What its bearer may do: publisher, viewer, member or admin [default: auth.default_role]
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: Option<Role>,
    /// How long it lasts, such as 15m or 7d [default: auth.token_ttl_seconds]
    #[arg(long, value_name = "D", value_parser = span)]
    ttl: Option<Duration>,
    /// The user who bears it
    #[arg(long, value_name = "USER")]
    sub: Option<String>,
    /// The server's configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: Args, environment: Environment, out: &mut dyn Write) -> Result<(), CliError> {
    let server = ServerArgs { config: args.config, ..ServerArgs::default() };
    let auth = server.loader(false, environment).load_for_client()?.auth;
    let claims = Claims {
        tenant: args.tenant.into(),
        role: args.role.unwrap_or(auth.default_role),
        user: args.sub.map(Into::into),
    };
    let now = Clock::system(Timestamp::default()).now();
    let token =
        mint(&auth, &claims, now, now.plus(args.ttl.unwrap_or(auth.token_ttl))).ok_or(CliError::NoTokenSecret)?;
    Ok(writeln!(out, "{token}")?)
}
