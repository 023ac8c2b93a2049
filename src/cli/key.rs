//! `hooktide key`: creates, lists, shows and revokes API keys.

use std::io::Write;

use serde::Serialize;
use serde_json::Value;

use super::error::CliError;
use super::parse::{FutureTime, path_part, role, tenant_or_all};
use super::webhook::print;
use super::{Client, ClientArgs, PageArgs, block_on, output};
use crate::config::Environment;
use crate::model::path::KEYS;
use crate::model::{Role, Timestamp};
use crate::runtime::Clock;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make an API key; it is shown this once
    Add(Add),
    /// List the keys that were made, the newest first; those of the configuration file are not among them
    List {
        /// Of this tenant alone
        #[arg(long, value_name = "TENANT", value_parser = path_part)]
        tenant: Option<String>,
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show one key, not its text
    Show(KeyArgs),
    /// Take a key out of force, at once
    Revoke(KeyArgs),
}

#[derive(Debug, clap::Args)]
struct KeyArgs {
    /// The key's id
    #[arg(value_name = "ID", value_parser = path_part)]
    id: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
struct Add {
    /// What it may do: publisher, viewer, member or admin
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: Role,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// Its tenant, or * for all [default: the caller's own, or default]
    #[arg(long, value_parser = tenant_or_all)]
    tenant: Option<String>,
    /// When it ends: a time, or how long from now, such as 90d
    #[arg(long, value_name = "T", value_parser = FutureTime::parse)]
    expires: Option<FutureTime>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Serialize)]
struct CreateKeyBody<'a> {
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

const SHOWN: [&str; 8] = ["id", "name", "prefix", "role", "tenant", "created_at", "created_by", "expires_at"];
const COLUMNS: [output::Column; 6] = [
    ("ID", "/id"),
    ("PREFIX", "/prefix"),
    ("ROLE", "/role"),
    ("TENANT", "/tenant"),
    ("EXPIRES", "/expires_at"),
    ("NAME", "/name"),
];

pub(super) fn run(args: Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    match args.command {
        Command::Add(add) => {
            let client = Client::try_new(&add.client, environment, false)?;
            let now = Clock::system(Timestamp::default()).now();
            let body = CreateKeyBody {
                role: add.role,
                name: add.name.as_deref(),
                tenant: add.tenant.as_deref(),
                expires_at: add.expires.map(|end| end.from(now)),
            };
            let answer = block_on(async { Ok(client.post(KEYS, &body).await?) })?;
            print(out, &answer, add.client.json, |out, made| {
                let text = |name: &str| output::visible(made.get(name).and_then(Value::as_str).unwrap_or("-"));
                writeln!(out, "id: {}\nkey: {}", text("id"), text("key"))
            })
        }
        Command::List { tenant, page, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            let tenant = tenant.map(|tenant| format!("&tenant={tenant}")).unwrap_or_default();
            let path = format!("{KEYS}?{}{tenant}", page.query());
            let answer = block_on(async { Ok(client.get(&path).await?) })?;
            print(out, &answer, args.json, |out, value| output::page(out, value, &COLUMNS, "no keys"))
        }
        Command::Show(one) => {
            let client = Client::try_new(&one.client, environment, false)?;
            let answer = block_on(async { Ok(client.get(&path(&one.id)).await?) })?;
            print(out, &answer, one.client.json, |out, value| output::object(out, value, &SHOWN))
        }
        Command::Revoke(one) => {
            let client = Client::try_new(&one.client, environment, false)?;
            block_on(async { Ok(client.delete(&path(&one.id)).await?) })?;
            if !one.client.json {
                writeln!(out, "{} revoked", one.id)?;
            }
            Ok(())
        }
    }
}

fn path(id: &str) -> String {
    format!("{KEYS}/{id}")
}
