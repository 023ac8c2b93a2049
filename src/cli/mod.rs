//! The command line interface. `serve` runs the server. The other commands call a running server over HTTP or read its
//! files.
//!
//! Guarantees:
//! - The exit code is 0 for success, 1 for a failure at run time, and 2 for wrong usage or configuration.
//! - Errors are sentences on standard error.
//! - `--json` prints the server's response byte for byte.
//!
//! This module must not know the pipeline stages, except the log's `stat` and `verify`.

mod apply;
mod client;
mod dead_letter;
mod delivery;
mod error;
mod event_type;
mod filter;
mod input;
mod key;
mod listen;
mod log;
mod output;
mod parse;
mod replay;
mod send;
mod serve;
mod signing;
mod source;
mod tenant;
mod token;
mod trigger;
mod webhook;
mod webhook_auth;
mod webhook_fields;
mod webhook_test;

use crate::bench;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use url::form_urlencoded;

use crate::app::CompiledConfig;
use crate::config::{Environment, Flags, Loader};
use crate::model::Timestamp;
use crate::runtime::Clock;
use client::Client;
use error::CliError;

#[derive(Debug, Parser)]
#[command(name = "hooktide", version, about, disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServerArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server; `hooktide` alone is `serve --dev`
    Serve(ServerArgs),
    /// Check the configuration and print what is in force, secrets hidden
    Check(ServerArgs),
    /// Manage webhooks
    Webhook(webhook::Args),
    /// Manage those whom webhooks come from: providers and partners
    Source(source::Args),
    /// Send an event as a provider would, with its signature, to a source or any URL
    Trigger(Box<trigger::Args>),
    /// Sign a body in any scheme, and print the headers
    Sign(Box<signing::SignArgs>),
    /// Check the signature of a body in any scheme; exit code 0 if it is valid, 1 if not
    Verify(Box<signing::VerifyArgs>),
    /// Publish an event
    Send(send::Args),
    /// Receive events on this machine and verify their signatures
    Listen(listen::Args),
    /// Manage the catalogue of event types
    EventType(event_type::Args),
    /// Make webhooks and event types as a file declares them
    Apply(apply::Args),
    /// Look at deliveries and their attempts, and try one again
    Delivery(delivery::Args),
    /// Look at dead letters, deliver them again or discard them
    DeadLetter(dead_letter::Args),
    /// Deliver again what was accepted in a span of time; watch and cancel that
    Replay(Box<replay::Args>),
    /// Try a filter on an event, without a server
    Filter(filter::Args),
    /// Make, list and revoke API keys
    Key(key::Args),
    /// Make a token (JWT) with the configured secret
    Token(token::Args),
    /// Make and list tenants
    Tenant(tenant::Args),
    /// Count or verify the events in a data folder
    Log(log::Args),
    /// Measure what this machine can take and deliver
    Bench(bench::Args),
}

/// Where the server's configuration comes from.
#[derive(Debug, Clone, Default, Args)]
struct ServerArgs {
    /// Configuration file [default: none; every key has a default]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of all data [default: hooktide-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on; may be given several times [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Address for management and metrics alone
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,
    /// For development: listen on loopback only, and let webhooks reach loopback
    #[arg(long)]
    dev: bool,
}

/// Which server a command speaks to, as whom, and how it prints.
#[derive(Debug, Clone, Default, Args)]
struct ClientArgs {
    /// The server [env: HOOKTIDE_URL; default: the configured one on this machine]
    #[arg(long, value_name = "URL", help_heading = "Server")]
    url: Option<String>,
    /// API key [env: HOOKTIDE_KEY; default: admin.key in the server's data folder]
    #[arg(long, value_name = "KEY", help_heading = "Server")]
    key: Option<String>,
    /// Configuration file of the server on this machine
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    config: Option<PathBuf>,
    /// Data folder of the server on this machine
    #[arg(long, value_name = "DIR", help_heading = "Server")]
    data_dir: Option<PathBuf>,
    /// Print JSON, as the server answered
    #[arg(long)]
    json: bool,
}

/// Which page of a list.
#[derive(Debug, Clone, Args)]
struct PageArgs {
    /// Rows
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=250))]
    limit: u16,
    /// Where the page before ended
    #[arg(long, value_name = "CURSOR", value_parser = parse::path_part)]
    cursor: Option<String>,
}

/// Which deliveries or dead letters of a list.
#[derive(Debug, Clone, Args)]
struct SearchArgs {
    /// Only events whose type matches
    #[arg(long = "type", value_name = "PATTERN", value_parser = parse::pattern)]
    event_type: Option<String>,
    /// Only this event
    #[arg(long, value_name = "ID", value_parser = parse::path_part)]
    event: Option<String>,
    /// Since a time, or how long ago, such as 2h
    #[arg(long, value_name = "T", value_parser = parse::PastTime::parse)]
    since: Option<parse::PastTime>,
    /// Before a time, or how long ago
    #[arg(long, value_name = "T", value_parser = parse::PastTime::parse)]
    until: Option<parse::PastTime>,
    /// Only those that hold this text: in type, error, answer, correlation id
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

impl ServerArgs {
    fn loader(self, dev: bool, environment: Environment) -> Loader {
        let flags = Flags { listen: self.listen, admin_listen: self.admin_listen, data_dir: self.data_dir };
        Loader { file: self.config, dev, environment, flags }
    }
}

impl SearchArgs {
    /// The query parameters of the search, with a leading `&`; empty without options.
    fn query(&self) -> String {
        let now = Clock::system(Timestamp::default()).now();
        let time = |when: Option<parse::PastTime>| when.map(|when| when.before(now).to_string());
        let mut query = form_urlencoded::Serializer::new(String::new());
        let pairs = [
            ("event_type", self.event_type.clone()),
            ("event_id", self.event.clone()),
            ("since", time(self.since)),
            ("until", time(self.until)),
            ("q", self.search.clone()),
        ];
        for (name, value) in pairs.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            query.append_pair(name, &value);
        }
        let query = query.finish();
        if query.is_empty() { query } else { format!("&{query}") }
    }
}

impl PageArgs {
    fn query(&self) -> String {
        let cursor = self.cursor.as_ref().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        format!("limit={}{cursor}", self.limit)
    }
}

/// Runs the command given by these arguments. The first argument is the program name.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help goes to standard output with exit code 0, a usage error to standard error with exit code 2. If the
            // output cannot be written, the error cannot be reported anywhere.
            let _ = e.print();
            return ExitCode::from(e.exit_code() as u8);
        }
    };
    let done = dispatch(cli, Environment::new(environment), &mut std::io::stdout());
    done.unwrap_or_else(|e| {
        let _ = writeln!(std::io::stderr(), "{e}");
        e.exit_code()
    })
}

fn dispatch(cli: Cli, environment: Environment, out: &mut dyn Write) -> Result<ExitCode, CliError> {
    match cli.command {
        None => {
            let dev = cli.serve.dev || cli.serve.config.is_none();
            return serve::run(cli.serve.loader(dev, environment));
        }
        Some(Command::Serve(args)) => {
            let dev = args.dev;
            return serve::run(args.loader(dev, environment));
        }
        Some(Command::Check(args)) => {
            let dev = args.dev;
            out.write_all(CompiledConfig::load(&args.loader(dev, environment))?.shown.as_bytes())?;
        }
        Some(Command::Webhook(args)) => webhook::run(args, &environment, out)?,
        Some(Command::Source(args)) => return source::run(args, &environment, out),
        Some(Command::Trigger(args)) => return trigger::run(&args, &environment, out),
        Some(Command::Sign(args)) => signing::sign(&args, &environment, &mut std::io::stdin(), out)?,
        Some(Command::Verify(args)) => return signing::verify(&args, &environment, &mut std::io::stdin(), out),
        Some(Command::Send(args)) => send::run(&args, &environment, out)?,
        Some(Command::Listen(args)) => listen::run(&args, &environment, out)?,
        Some(Command::EventType(args)) => event_type::run(args, &environment, out)?,
        Some(Command::Apply(args)) => apply::run(&args, &environment, out)?,
        Some(Command::Delivery(args)) => delivery::run(args, &environment, out)?,
        Some(Command::DeadLetter(args)) => dead_letter::run(args, &environment, out)?,
        Some(Command::Replay(args)) => replay::run(&args, &environment, out)?,
        Some(Command::Filter(args)) => return filter::run(&args, &mut std::io::stdin(), out),
        Some(Command::Key(args)) => key::run(args, &environment, out)?,
        Some(Command::Token(args)) => token::run(args, environment, out)?,
        Some(Command::Tenant(args)) => tenant::run(args, &environment, out)?,
        Some(Command::Log(args)) => log::run(args, environment, out)?,
        Some(Command::Bench(args)) => return Ok(bench::run(&args)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a client command on the current thread.
fn block_on<T>(task: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}

#[cfg(test)]
mod tests;
