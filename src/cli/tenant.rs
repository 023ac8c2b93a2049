//! `hooktide tenant`: creates and lists tenants.

use std::io::Write;

use serde::Serialize;

use super::error::CliError;
use super::webhook::print;
use super::{Client, ClientArgs, PageArgs, block_on, output};
use crate::config::Environment;
use crate::model::path::TENANTS;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a tenant, with defaults for its webhooks
    Add(Add),
    /// List the tenants that the key may know of, in the order of their names
    List {
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// The fields of a tenant that can be given on the command line, as the interface names them.
#[derive(Debug, clap::Args, Serialize)]
struct Add {
    /// Its name
    name: String,
    /// The profile of its new webhooks
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    /// What a member sees: tenant (all webhooks) or owner (those of their own)
    #[arg(long, value_parser = ["tenant", "owner"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    visibility: Option<String>,
    #[command(flatten)]
    #[serde(skip)]
    client: ClientArgs,
}

const COLUMNS: [output::Column; 5] = [
    ("NAME", "/name"),
    ("PROFILE", "/profile"),
    ("VISIBILITY", "/visibility"),
    ("MANAGED BY", "/managed_by"),
    ("CREATED", "/created_at"),
];
const SHOWN: [&str; 4] = ["name", "profile", "visibility", "managed_by"];

pub(super) fn run(args: Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    match args.command {
        Command::Add(add) => {
            let client = Client::try_new(&add.client, environment, false)?;
            let answer = block_on(async { Ok(client.post(TENANTS, &add).await?) })?;
            print(out, &answer, add.client.json, |out, value| output::object(out, value, &SHOWN))
        }
        Command::List { page, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            let path = format!("{TENANTS}?{}", page.query());
            let answer = block_on(async { Ok(client.get(&path).await?) })?;
            print(out, &answer, args.json, |out, value| output::page(out, value, &COLUMNS, "no tenants"))
        }
    }
}
