//! `hooktide dead-letter`

use std::io::Write;

use serde_json::json;

use super::error::CliError;
use super::webhook::{self, print};
use super::{Client, ClientArgs, PageArgs, block_on, output, parse};
use crate::config::Environment;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List a webhook's dead letters, the newest first
    List {
        /// The webhook's id
        #[arg(value_name = "WEBHOOK", value_parser = parse::path_part)]
        webhook: String,
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Deliver dead letters again, the retry schedule starting anew
    Replay {
        /// The webhook's id
        #[arg(value_name = "WEBHOOK", value_parser = parse::path_part)]
        webhook: String,
        /// Ids of dead letters
        #[arg(value_name = "ID", value_parser = parse::path_part, required_unless_present = "all")]
        ids: Vec<String>,
        /// All of the webhook's
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
}

pub(super) fn run(args: Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    match args.command {
        Command::List { webhook, page, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            let path = format!("{}/dead-letters?{}", webhook::path(&webhook), page.query());
            let answer = block_on(async { Ok(client.get(&path).await?) })?;
            let columns = [
                ("ID", "/id"),
                ("ATTEMPTS", "/attempt_count"),
                ("CREATED", "/created_at"),
                ("EVENT", "/event_type"),
                ("REASON", "/failure_reason"),
            ];
            print(out, &answer, args.json, |out, value| output::page(out, value, &columns, "no dead letters"))
        }
        Command::Replay { webhook, ids, all, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            let wanted = if all { json!({}) } else { json!({ "ids": ids }) };
            let path = format!("{}/dead-letters/bulk-replay", webhook::path(&webhook));
            let answer = block_on(async { Ok(client.post(&path, &wanted).await?) })?;
            print(out, &answer, args.json, output::object)
        }
    }
}
