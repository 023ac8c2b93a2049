//! `hooktide source`: manages the sources of inbound webhooks.

mod add;
mod check;

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use url::{Host, Url};

use super::error::CliError;
use super::input::{InputArg, SecretArgs};
use super::webhook::print;
use super::{Client, ClientArgs, PageArgs, block_on, output, parse};
use crate::config::Environment;
use crate::model::path::SOURCES;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a source; prints the URL to give to the provider
    Add(Box<add::Args>),
    /// List sources, the newest first
    List {
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show one source
    Show(SourceArgs),
    /// Say what a source still lacks; exit code 0 if it is ready, 1 if not
    Check(SourceArgs),
    /// Give a source another secret, or a partner another token
    Rotate(Rotate),
    /// Remove the secret that a handshake brought, so that the next handshake brings a new one
    ForgetSecret(SourceArgs),
    /// Take nothing from a source any more, as if it were not there
    Disable(SourceArgs),
    /// Take its requests again
    Enable(SourceArgs),
    /// Remove a source; it can be restored
    Delete(SourceArgs),
    /// Bring a removed source back
    Restore(SourceArgs),
    /// Print the integration guide for the sender, in Markdown
    Guide(SourceArgs),
    /// List the last requests that were refused, and why
    Rejections(SourceArgs),
}

#[derive(Debug, clap::Args)]
struct SourceArgs {
    /// The source's name or id
    #[arg(value_name = "NAME", value_parser = parse::path_part)]
    name: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    /// The source's name or id
    #[arg(value_name = "NAME", value_parser = parse::path_part)]
    name: String,
    #[command(flatten)]
    secret: SecretArgs,
    /// Seconds for which the secrets before stay in force
    #[arg(long, value_name = "SECONDS", conflicts_with = "token")]
    overlap: Option<u64>,
    /// Only for requests like these, such as header:X-Shopify-Shop-Domain=a.myshopify.com
    #[arg(long, value_name = "PLACE=VALUE", conflicts_with = "token")]
    when: Option<String>,
    /// Another token for a partner, of your own (- for standard input) or a new one; the old URL ends
    #[arg(long, value_name = "-", num_args = 0..=1, value_parser = InputArg::parse, conflicts_with_all = ["secret", "secret_env", "secret_file"])]
    #[expect(clippy::option_option, reason = "clap's form of a flag that may have a value")]
    token: Option<Option<InputArg>>,
    #[command(flatten)]
    client: ClientArgs,
}

/// Members of a source in the text output.
const SHOWN: [&str; 29] = [
    "id",
    "name",
    "kind",
    "status",
    "url",
    "tenant",
    "description",
    "secret_hints",
    "secrets",
    "verify",
    "delivery_id",
    "type",
    "dedup",
    "handshake",
    "respond",
    "tolerance",
    "options",
    "event_map",
    "validation_config",
    "max_body_bytes",
    "rate_limit_rps",
    "burst",
    "subjects",
    "durable",
    "stream",
    "managed_by",
    "created_at",
    "modified_at",
    "deleted_at",
];

pub(super) fn run(args: Args, environment: &Environment, out: &mut dyn Write) -> Result<ExitCode, CliError> {
    let input = &mut io::stdin();
    match args.command {
        Command::Add(add) => add::run(&add, environment, input, out)?,
        Command::List { page, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            let answer = block_on(async { Ok(client.get(&format!("{SOURCES}?{}", page.query())).await?) })?;
            let columns = [("NAME", "/name"), ("KIND", "/kind"), ("STATUS", "/status"), ("ID", "/id"), ("URL", "/url")];
            print(out, &answer, args.json, |out, value| output::page(out, value, &columns, "no sources"))?;
        }
        Command::Show(one) => {
            let answer = read(&one, "", environment)?;
            print(out, &answer, one.client.json, |out, source| {
                output::object(out, source, &SHOWN)?;
                warnings(out, source)
            })?;
        }
        Command::Check(one) => return check::run(&one, environment, out),
        Command::Rotate(rotate) => run_rotate(&rotate, environment, input, out)?,
        Command::ForgetSecret(one) => {
            let client = Client::try_new(&one.client, environment, false)?;
            let answer = block_on(async { Ok(client.post(&path(&one.name, "/forget-secret"), &json!({})).await?) })?;
            print(out, &answer, one.client.json, |out, source| {
                let name = output::visible(text(source, "name"));
                writeln!(out, "{name} has no secret; the next handshake of the sender brings one")
            })?;
        }
        Command::Disable(one) => set_status(&one, "inactive", environment, out)?,
        Command::Enable(one) => set_status(&one, "active", environment, out)?,
        Command::Delete(one) => {
            let client = Client::try_new(&one.client, environment, false)?;
            block_on(async { Ok(client.delete(&path(&one.name, "")).await?) })?;
            if !one.client.json {
                writeln!(out, "{} deleted", one.name)?;
            }
        }
        Command::Restore(one) => {
            let client = Client::try_new(&one.client, environment, false)?;
            let answer = block_on(async { Ok(client.post(&path(&one.name, "/restore"), &json!({})).await?) })?;
            print(out, &answer, one.client.json, |out, source| status(out, &one.name, source))?;
        }
        Command::Guide(one) => markdown(out, &String::from_utf8_lossy(&read(&one, "/guide", environment)?))?,
        Command::Rejections(one) => {
            let answer = read(&one, "/rejections", environment)?;
            let columns = [("WHEN", "/at"), ("STATUS", "/status"), ("REQUEST", "/request"), ("REASON", "/reason")];
            print(out, &answer, one.client.json, |out, value| {
                output::page(out, value, &columns, "nothing was refused since the server's start")
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The API path of a source, by name or id.
fn path(name: &str, below: &str) -> String {
    format!("{SOURCES}/{name}{below}")
}

fn read(one: &SourceArgs, below: &str, environment: &Environment) -> Result<bytes::Bytes, CliError> {
    let client = Client::try_new(&one.client, environment, false)?;
    block_on(async { Ok(client.get(&path(&one.name, below)).await?) })
}

fn set_status(one: &SourceArgs, to: &str, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    let client = Client::try_new(&one.client, environment, false)?;
    let answer = block_on(async { Ok(client.patch(&path(&one.name, ""), &json!({ "status": to })).await?) })?;
    print(out, &answer, one.client.json, |out, source| status(out, &one.name, source))
}

fn status(out: &mut dyn Write, name: &str, source: &Value) -> io::Result<()> {
    writeln!(out, "{name} {}", output::visible(text(source, "status")))
}

fn run_rotate(
    args: &Rotate,
    environment: &Environment,
    input: &mut dyn io::Read,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut body = Map::new();
    let below = if let Some(given) = args.token {
        if let Some(token) = given {
            body.insert("token".into(), token.read("--token", input)?.reveal().into());
        }
        "/rotate-token"
    } else {
        if let Some(secret) = args.secret.read(environment, input)? {
            body.insert("secret".into(), secret.reveal().into());
        }
        body.extend(args.overlap.map(|seconds| ("overlap_seconds".to_owned(), seconds.into())));
        body.extend(args.when.as_deref().map(|when| ("when".to_owned(), when.into())));
        "/rotate-secret"
    };
    let client = Client::try_new(&args.client, environment, false)?;
    let answer = block_on(async { Ok(client.post(&path(&args.name, below), &body).await?) })?;
    print(out, &answer, args.client.json, print_with_secrets)
}

/// Prints a created source, or a source with a new secret or token. Secret and token are shown only this once.
fn print_with_secrets(out: &mut dyn Write, source: &Value) -> io::Result<()> {
    for name in ["id", "url", "token", "secret"] {
        if let Some(value) = source.get(name).and_then(Value::as_str) {
            writeln!(out, "{name}: {}", output::visible(value))?;
        }
    }
    if let Some(hints) = source.get("secret_hints").and_then(Value::as_array).filter(|hints| !hints.is_empty()) {
        let hints: Vec<String> = hints.iter().filter_map(Value::as_str).map(output::visible).collect();
        writeln!(out, "secrets in force: {}", hints.join(", "))?;
    }
    if source.get("token").is_none()
        && let Some(warning) = source.get("url").and_then(Value::as_str).and_then(unreachable_reason)
    {
        writeln!(out, "warning: {warning}")?;
    }
    warnings(out, source)?;
    if let Some(guide) = source.get("guide").and_then(Value::as_str) {
        writeln!(out)?;
        markdown(out, guide)?;
    }
    Ok(())
}

fn warnings(out: &mut dyn Write, source: &Value) -> io::Result<()> {
    let warnings = source.get("warnings").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    warnings.iter().filter_map(Value::as_str).try_for_each(|text| writeln!(out, "warning: {}", output::visible(text)))
}

/// Prints Markdown with its control characters escaped.
fn markdown(out: &mut dyn Write, text: &str) -> io::Result<()> {
    text.lines().try_for_each(|line| writeln!(out, "{}", output::visible(line)))
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or("-")
}

/// The reason why providers cannot reach this URL; `None` if it is a public address.
fn unreachable_reason(url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok()?;
    let (own, near) = match parsed.host()? {
        Host::Domain(name) => (name == "localhost" || name.ends_with(".localhost"), false),
        Host::Ipv4(ip) => (ip.is_loopback() || ip.is_unspecified(), ip.is_private() || ip.is_link_local()),
        Host::Ipv6(ip) => (ip.is_loopback() || ip.is_unspecified(), ip.is_unique_local()),
    };
    let of = if own {
        "this machine"
    } else if near {
        "a private network"
    } else {
        return None;
    };
    Some(format!(
        "{} is an address of {of}, which no provider reaches: set server.public_url to the one that the outside sees",
        output::visible(url)
    ))
}

#[cfg(test)]
mod tests;
