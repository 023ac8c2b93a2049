//! `hooktide delivery`: lists, shows and retries deliveries.

use std::io::Write;

use serde_json::json;

use super::error::CliError;
use super::webhook::{self, print};
use super::{Client, ClientArgs, PageArgs, SearchArgs, block_on, output, parse};
use crate::config::Environment;
use crate::model::path::DELIVERIES;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List deliveries, the newest first
    List {
        /// The webhook's id [default: all webhooks]
        #[arg(value_name = "WEBHOOK", value_parser = parse::path_part)]
        webhook: Option<String>,
        /// Only those of this status
        #[arg(long, value_parser = ["pending", "retrying", "delivered", "failed", "abandoned"])]
        status: Option<String>,
        #[command(flatten)]
        search: SearchArgs,
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show one delivery with each of its attempts
    Show {
        /// The delivery's id
        #[arg(value_name = "ID", value_parser = parse::path_part)]
        id: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Try a delivery once more, now
    Retry {
        /// The delivery's id
        #[arg(value_name = "ID", value_parser = parse::path_part)]
        id: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Members of a delivery in the text output. Each value is shown under one of its names.
const SHOWN: [&str; 17] = [
    "id",
    "status",
    "webhook_id",
    "event_id",
    "event_type",
    "attempt_count",
    "http_status",
    "error_message",
    "failure_reason",
    "correlation_id",
    "next_retry_at",
    "delivered_at",
    "failed_at",
    "created_at",
    "attempts",
    "payload",
    "request",
];

pub(super) fn run(args: Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    match args.command {
        Command::List { webhook, status, search, page, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            let status = status.map(|status| format!("&status={status}")).unwrap_or_default();
            let place = webhook.map_or_else(|| "/api/v1".to_owned(), |webhook| webhook::path(&webhook));
            let path = format!("{place}/deliveries?{}{status}{}", page.query(), search.query());
            let answer = block_on(async { Ok(client.get(&path).await?) })?;
            let columns = [
                ("ID", "/id"),
                ("STATUS", "/status"),
                ("ATTEMPTS", "/attempt_count"),
                ("HTTP", "/http_status"),
                ("CREATED", "/created_at"),
                ("EVENT", "/event_type"),
                ("ERROR", "/error_message"),
            ];
            print(out, &answer, args.json, |out, value| output::page(out, value, &columns, "no deliveries"))
        }
        Command::Show { id, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            let answer = block_on(async { Ok(client.get(&format!("{DELIVERIES}/{id}")).await?) })?;
            print(out, &answer, args.json, |out, value| output::object(out, value, &SHOWN))
        }
        Command::Retry { id, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            let path = format!("{DELIVERIES}/{id}/retry");
            let answer = block_on(async { Ok(client.post(&path, &json!({})).await?) })?;
            print(out, &answer, args.json, |out, value| output::object(out, value, &["id", "status", "next_retry_at"]))
        }
    }
}
