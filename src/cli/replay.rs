//! `hooktide replay`: creates, follows, lists, shows and cancels replays.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::client::ClientError;
use super::error::CliError;
use super::parse::PastTime;
use super::webhook::print;
use super::{Client, ClientArgs, PageArgs, block_on, output, parse};
use crate::config::Environment;
use crate::model::Timestamp;
use crate::model::path::REPLAYS;
use crate::runtime::Clock;

/// Interval between two requests for the progress.
const POLL_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 500 });

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Events received since: a time, or how long ago, such as 2h
    #[arg(long, value_name = "T", value_parser = PastTime::parse, required = true)]
    since: Option<PastTime>,
    /// Events received before
    #[arg(long, value_name = "T", value_parser = PastTime::parse)]
    until: Option<PastTime>,
    /// To this webhook alone
    #[arg(long, value_name = "ID", value_parser = parse::path_part)]
    webhook: Option<String>,
    /// Only types that match; may be given several times
    #[arg(long = "type", value_name = "PATTERN", value_parser = parse::pattern)]
    types: Vec<String>,
    /// To webhooks as well that match today and did not when the event was accepted
    #[arg(long)]
    include_unmatched: bool,
    /// To webhooks as well that are paused or inactive; a webhook that is named is meant in any case
    #[arg(long)]
    include_paused: bool,
    /// Print the replay's id and do not wait for its end
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List replays, the newest first
    List {
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show one replay and how far it is
    Show(ReplayArgs),
    /// Stop a replay; what it has made by then is delivered
    Cancel(ReplayArgs),
}

#[derive(Debug, clap::Args)]
struct ReplayArgs {
    /// The replay's id
    #[arg(value_name = "ID", value_parser = parse::path_part)]
    id: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Serialize)]
struct CreateReplayBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    types: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    include_unmatched: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    include_paused: bool,
}

/// Members of a replay in the text output.
const SHOWN: [&str; 15] = [
    "id",
    "kind",
    "status",
    "tenant",
    "since",
    "until",
    "types",
    "webhook_id",
    "event_id",
    "include_unmatched",
    "include_paused",
    "events",
    "deliveries",
    "created_at",
    "ended_at",
];

pub(super) fn run(args: &Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    if let Some(command) = &args.command {
        return run_command(command, environment, out);
    }
    let client = Client::try_new(&args.client, environment, false)?;
    let now = Clock::system(Timestamp::default()).now();
    let body = CreateReplayBody {
        since: args.since.map(|since| since.before(now)),
        until: args.until.map(|until| until.before(now)),
        webhook_id: args.webhook.as_deref(),
        types: &args.types,
        include_unmatched: args.include_unmatched,
        include_paused: args.include_paused,
    };
    block_on(async {
        let created = client.post(REPLAYS, &body).await?;
        if args.detach {
            return print(out, &created, args.client.json, |out, replay| writeln!(out, "{}", id_of(replay)));
        }
        wait(&client, created.to_vec(), args.client.json, out).await
    })
}

fn run_command(command: &Command, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    match command {
        Command::List { page, client: args } => {
            let client = Client::try_new(args, environment, false)?;
            let answer = block_on(async { Ok(client.get(&format!("{REPLAYS}?{}", page.query())).await?) })?;
            let columns = [
                ("ID", "/id"),
                ("STATUS", "/status"),
                ("KIND", "/kind"),
                ("EVENTS", "/events"),
                ("DELIVERIES", "/deliveries"),
                ("CREATED", "/created_at"),
                ("ENDED", "/ended_at"),
            ];
            print(out, &answer, args.json, |out, value| output::page(out, value, &columns, "no replays"))
        }
        Command::Show(ReplayArgs { id, client: args }) => {
            let client = Client::try_new(args, environment, false)?;
            let answer = block_on(async { Ok(client.get(&format!("{REPLAYS}/{id}")).await?) })?;
            print(out, &answer, args.json, |out, value| output::object(out, value, &SHOWN))
        }
        Command::Cancel(ReplayArgs { id, client: args }) => {
            let client = Client::try_new(args, environment, false)?;
            block_on(async { Ok(client.delete(&format!("{REPLAYS}/{id}")).await?) })?;
            if !args.json {
                writeln!(out, "{id} cancelled")?;
            }
            Ok(())
        }
    }
}

/// Polls the replay until it ends. Prints a line for each change.
async fn wait(client: &Client, created: Vec<u8>, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let mut answer = created;
    let mut shown = String::new();
    loop {
        let replay: Value = serde_json::from_slice(&answer).map_err(ClientError::Answer)?;
        let id = id_of(&replay);
        let status = replay.get("status").and_then(Value::as_str).unwrap_or("unknown").to_owned();
        let line = progress(&replay);
        if !json && line != shown {
            writeln!(out, "{id} {line}")?;
            out.flush()?;
            shown = line;
        }
        match &*status {
            "running" => {}
            "done" => {
                if json {
                    print(out, &answer, true, |_, _| Ok(()))?;
                }
                return Ok(());
            }
            _ => return Err(CliError::Replay { id, status }),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        answer = client.get(&format!("{REPLAYS}/{id}")).await?.to_vec();
    }
}

fn id_of(replay: &Value) -> String {
    match replay.get("id") {
        Some(Value::String(id)) => output::visible(id),
        Some(other) => other.to_string(),
        None => "-".to_owned(),
    }
}

/// The status and every number of the response, such as `running events=120 deliveries=40`.
fn progress(replay: &Value) -> String {
    let status = replay.get("status").and_then(Value::as_str).unwrap_or("unknown");
    let members = replay.as_object().into_iter().flatten();
    let numbers = members.filter(|(name, value)| value.is_number() && *name != "id");
    numbers.fold(output::visible(status), |line, (name, value)| format!("{line} {}={value}", output::visible(name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn progress_is_one_line() {
        let replay = json!({"id": 7, "status": "running", "events": 120, "deliveries": 40, "until": null});
        assert_eq!(progress(&replay), "running deliveries=40 events=120");
        assert_eq!(id_of(&replay), "7");
    }
}
