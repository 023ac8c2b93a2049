//! `hooktide dead-letter`: lists, shows, discards and replays dead letters.

use std::io::Write;

use serde_json::json;

use super::error::CliError;
use super::webhook::{self, print};
use super::{Client, ClientArgs, PageArgs, SearchArgs, block_on, output, parse};
use crate::config::Environment;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List dead letters, the newest event first
    List {
        /// The webhook's id [default: all webhooks]
        #[arg(value_name = "WEBHOOK", value_parser = parse::path_part)]
        webhook: Option<String>,
        /// Only those that ended for this reason
        #[arg(long, value_parser = ["exhausted", "not_retryable", "gone", "disabled", "removed", "expired", "filter_too_costly"])]
        reason: Option<String>,
        #[command(flatten)]
        search: SearchArgs,
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show one dead letter with its payload
    Show {
        /// The webhook's id
        #[arg(value_name = "WEBHOOK", value_parser = parse::path_part)]
        webhook: String,
        /// The dead letter's id
        #[arg(value_name = "ID", value_parser = parse::path_part)]
        id: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Forget dead letters: they can no longer be delivered
    Discard {
        /// The webhook's id
        #[arg(value_name = "WEBHOOK", value_parser = parse::path_part)]
        webhook: String,
        /// Ids of dead letters
        #[arg(value_name = "ID", value_parser = parse::path_part, required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Deliver dead letters again, with a new retry schedule
    Replay {
        /// The webhook's id
        #[arg(value_name = "WEBHOOK", value_parser = parse::path_part)]
        webhook: String,
        /// Ids of dead letters, or --all
        #[arg(value_name = "ID", value_parser = parse::path_part, required_unless_present = "all")]
        ids: Vec<String>,
        /// All dead letters of the webhook
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Members of a dead letter in the text output.
const SHOWN: [&str; 9] = [
    "id",
    "webhook_id",
    "event_id",
    "event_type",
    "failure_reason",
    "error_message",
    "attempt_count",
    "created_at",
    "payload",
];

pub(super) fn run(args: Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    match args.command {
        Command::List { webhook, reason, search, page, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            let place = webhook.map_or_else(|| "/api/v1".to_owned(), |webhook| webhook::path(&webhook));
            let reason = reason.map(|reason| format!("&failure_reason={reason}")).unwrap_or_default();
            let path = format!("{place}/dead-letters?{}{reason}{}", page.query(), search.query());
            let answer = block_on(async { Ok(client.get(&path).await?) })?;
            let columns = [
                ("ID", "/id"),
                ("ATTEMPTS", "/attempt_count"),
                ("CREATED", "/created_at"),
                ("EVENT", "/event_type"),
                ("REASON", "/failure_reason"),
                ("ERROR", "/error_message"),
            ];
            print(out, &answer, args.json, |out, value| output::page(out, value, &columns, "no dead letters"))
        }
        Command::Show { webhook, id, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            let path = format!("{}/dead-letters/{id}", webhook::path(&webhook));
            let answer = block_on(async { Ok(client.get(&path).await?) })?;
            print(out, &answer, args.json, |out, value| output::object(out, value, &SHOWN))
        }
        Command::Discard { webhook, ids, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            block_on(async {
                for id in &ids {
                    client.delete(&format!("{}/dead-letters/{id}", webhook::path(&webhook))).await?;
                    if !args.json {
                        writeln!(out, "{id} discarded")?;
                    }
                }
                Ok(())
            })
        }
        Command::Replay { webhook, ids, all, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            let wanted = if all { json!({}) } else { json!({ "ids": ids }) };
            let path = format!("{}/dead-letters/bulk-replay", webhook::path(&webhook));
            let answer = block_on(async { Ok(client.post(&path, &wanted).await?) })?;
            print(out, &answer, args.json, |out, value| output::object(out, value, &["replayed"]))
        }
    }
}
