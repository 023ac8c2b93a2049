//! `hooktide webhook`

use std::io::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::error::CliError;
use super::{Client, ClientArgs, PageArgs, block_on, output, parse};
use crate::config::Environment;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a webhook; its secret is shown this once
    Add(Add),
    /// List webhooks, the newest first
    List {
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show one webhook
    Show(One),
    /// Hold deliveries without losing one
    Pause(One),
    /// Send what was held, and what comes
    Resume(One),
    /// Send a test event at once and show the attempt; fails unless the endpoint takes it
    Test(super::webhook_test::Args),
    /// Remove a webhook; what waits for it is abandoned
    Remove(One),
}

#[derive(Debug, clap::Args)]
struct One {
    /// The webhook's id
    #[arg(value_name = "ID", value_parser = parse::path_part)]
    id: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// The fields of a webhook that can be given on the command line, as the interface names them.
#[derive(Debug, clap::Args, Serialize)]
struct Add {
    /// Where events go: https://… or http://…
    #[arg(value_name = "ENDPOINT")]
    #[serde(rename = "url")]
    endpoint: String,
    /// Which events: a type, order.* or *; may be given several times
    #[arg(long = "event", value_name = "PATTERN", required = true, value_parser = parse::pattern)]
    events: Vec<String>,
    /// A name for people
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// A description for people
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Secret of your own, whsec_ and 24 to 64 bytes in base64; without it one is made
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Seconds for one attempt
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<u32>,
    /// Deliveries at once
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u16>,
    /// Deliveries a second
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit_rps: Option<f64>,
    /// Whose it is, for a key of all tenants
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[command(flatten)]
    #[serde(skip)]
    client: ClientArgs,
}

/// What a person is shown of a webhook: each thing under one of its names.
const SHOWN: [&str; 18] = [
    "id",
    "status",
    "url",
    "events",
    "name",
    "description",
    "tenant",
    "user_id",
    "secret_hint",
    "retry_policy",
    "timeout_seconds",
    "rate_limit_rps",
    "burst",
    "max_in_flight",
    "headers",
    "metadata",
    "created_at",
    "updated_at",
];

pub(super) fn run(args: Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    match args.command {
        Command::Add(add) => {
            let client = Client::try_new(&add.client, environment, false)?;
            let answer = block_on(async { Ok(client.post("/api/v1/webhooks", &add).await?) })?;
            print(out, &answer, add.client.json, added)
        }
        Command::List { page, client: args } => {
            let client = Client::try_new(&args, environment, false)?;
            let path = format!("/api/v1/webhooks?{}", page.query());
            let answer = block_on(async { Ok(client.get(&path).await?) })?;
            let columns =
                [("ID", "/id"), ("STATUS", "/status"), ("EVENTS", "/events"), ("URL", "/url"), ("NAME", "/name")];
            print(out, &answer, args.json, |out, value| output::page(out, value, &columns, "no webhooks"))
        }
        Command::Show(one) => {
            let client = Client::try_new(&one.client, environment, false)?;
            let answer = block_on(async { Ok(client.get(&path(&one.id)).await?) })?;
            print(out, &answer, one.client.json, |out, value| output::object(out, value, &SHOWN))
        }
        Command::Pause(one) => set_status(&one, "paused", environment, out),
        Command::Resume(one) => set_status(&one, "active", environment, out),
        Command::Test(test) => super::webhook_test::run(&test, environment, out),
        Command::Remove(one) => {
            let client = Client::try_new(&one.client, environment, false)?;
            block_on(async { Ok(client.delete(&path(&one.id)).await?) })?;
            if !one.client.json {
                writeln!(out, "{} removed", one.id)?;
            }
            Ok(())
        }
    }
}

fn set_status(one: &One, status: &str, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    let client = Client::try_new(&one.client, environment, false)?;
    let answer = block_on(async { Ok(client.patch(&path(&one.id), &json!({ "status": status })).await?) })?;
    print(out, &answer, one.client.json, |out, value| {
        writeln!(out, "{} {}", one.id, value.get("status").and_then(Value::as_str).unwrap_or(status))
    })
}

/// The webhook's place in the interface.
pub(super) fn path(id: &str) -> String {
    format!("/api/v1/webhooks/{id}")
}

fn added(out: &mut dyn Write, webhook: &Value) -> std::io::Result<()> {
    let text = |name: &str| webhook.get(name).and_then(Value::as_str).unwrap_or("-");
    writeln!(out, "id: {}\nsecret: {}", output::visible(text("id")), output::visible(text("secret")))?;
    let warnings = webhook.get("warnings").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    warnings.iter().filter_map(Value::as_str).try_for_each(|text| writeln!(out, "warning: {}", output::visible(text)))
}

/// The answer as it came, or as `human` shows it.
pub(super) fn print(
    out: &mut dyn Write,
    answer: &[u8],
    json: bool,
    human: impl FnOnce(&mut dyn Write, &Value) -> std::io::Result<()>,
) -> Result<(), CliError> {
    if json {
        out.write_all(answer)?;
        return Ok(writeln!(out)?);
    }
    let value = serde_json::from_slice(answer).map_err(super::client::ClientError::Answer)?;
    Ok(human(out, &value)?)
}
