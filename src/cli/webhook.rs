//! `hooktide webhook`: creates, lists, shows, updates, pauses, resumes, tests and deletes webhooks.

use std::io::{Read, Write};

use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::error::CliError;
use super::input::SecretArgs;
use super::webhook_fields::FieldArgs;
use super::{Client, ClientArgs, PageArgs, block_on, output, parse};
use crate::config::Environment;
use crate::model::path::WEBHOOKS;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a webhook; its secret is shown this once
    Add(Box<Add>),
    /// List webhooks, the newest first
    List(List),
    /// Show one webhook
    Show(WebhookArgs),
    /// Change what is given of a webhook; the rest stays
    Update(Box<Update>),
    /// Hold deliveries without losing one
    Pause(WebhookArgs),
    /// Send what was held, and what comes
    Resume(WebhookArgs),
    /// Send a test event at once and show the attempt; fails unless the endpoint takes it
    Test(super::webhook_test::Args),
    /// Remove a webhook; what waits for it is abandoned
    Remove(WebhookArgs),
}

#[derive(Debug, clap::Args)]
struct WebhookArgs {
    /// The webhook's id or uid
    #[arg(value_name = "ID", value_parser = parse::path_part)]
    id: String,
    /// Whose uid it is, for a key of all tenants [default: default]
    #[arg(long, value_parser = parse::path_part)]
    tenant: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
struct Add {
    /// Where events go: https://… or http://…
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
    #[command(flatten)]
    fields: FieldArgs,
    /// A secret of your own; without one it is made
    #[command(flatten)]
    secret: SecretArgs,
    /// Whose it is, for a key of all tenants
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
struct Update {
    #[command(flatten)]
    one: WebhookArgs,
    /// Where events go from now on
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    #[command(flatten)]
    fields: FieldArgs,
    /// Field that goes back to its default, as the interface names it, such as rate_limit_rps; may be given several times
    #[arg(long, value_name = "FIELD")]
    unset: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct List {
    #[arg(long, value_parser = ["active", "paused", "inactive", "failed"], help = "Only those of this status")]
    status: Option<String>,
    /// Only those that want events of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = parse::event_type)]
    event_type: Option<String>,
    /// Only those with this text in their name, description, uid or URL
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only those of this user
    #[arg(long, value_name = "ID")]
    user_id: Option<String>,
    /// Only those of this workspace
    #[arg(long, value_name = "ID")]
    workspace_id: Option<String>,
    /// Only the one with this uid
    #[arg(long)]
    uid: Option<String>,
    /// Only those of this tenant, for a key of all tenants
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// Members of a webhook in the text output. Each value is shown under one of its names.
const SHOWN: [&str; 28] = [
    "id",
    "uid",
    "status",
    "url",
    "events",
    "subscription_count",
    "filters",
    "workspace_id",
    "name",
    "description",
    "tenant",
    "user_id",
    "profile",
    "secret_hint",
    "retry_policy",
    "timeout_seconds",
    "rate_limit_rps",
    "burst",
    "max_in_flight",
    "breaker",
    "ordered",
    "ordered_by",
    "headers",
    "auth",
    "tls",
    "metadata",
    "created_at",
    "updated_at",
];

pub(super) fn run(args: Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    let stdin = &mut std::io::stdin();
    match args.command {
        Command::Add(add) => {
            let body = add.body(environment, stdin)?;
            let client = Client::try_new(&add.client, environment, false)?;
            let answer = block_on(async { Ok(client.post(WEBHOOKS, &body).await?) })?;
            print(out, &answer, add.client.json, added)
        }
        Command::List(list) => {
            let client = Client::try_new(&list.client, environment, false)?;
            let answer = block_on(async { Ok(client.get(&list.path()).await?) })?;
            let columns =
                [("ID", "/id"), ("STATUS", "/status"), ("EVENTS", "/events"), ("URL", "/url"), ("NAME", "/name")];
            print(out, &answer, list.client.json, |out, value| output::page(out, value, &columns, "no webhooks"))
        }
        Command::Show(one) => {
            let client = Client::try_new(&one.client, environment, false)?;
            let answer = block_on(async { Ok(client.get(&one.path()).await?) })?;
            print(out, &answer, one.client.json, |out, value| output::object(out, value, &SHOWN))
        }
        Command::Update(update) => {
            let body = update.body(environment, stdin)?;
            let client = Client::try_new(&update.one.client, environment, false)?;
            let answer = block_on(async { Ok(client.patch(&update.one.path(), &body).await?) })?;
            print(out, &answer, update.one.client.json, |out, value| {
                output::object(out, value, &SHOWN)?;
                warnings(out, value)
            })
        }
        Command::Pause(one) => set_status(&one, "paused", environment, out),
        Command::Resume(one) => set_status(&one, "active", environment, out),
        Command::Test(test) => super::webhook_test::run(&test, environment, out),
        Command::Remove(one) => {
            let client = Client::try_new(&one.client, environment, false)?;
            block_on(async { Ok(client.delete(&one.path()).await?) })?;
            if !one.client.json {
                writeln!(out, "{} removed", one.id)?;
            }
            Ok(())
        }
    }
}

fn set_status(one: &WebhookArgs, status: &str, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    let client = Client::try_new(&one.client, environment, false)?;
    let answer = block_on(async { Ok(client.patch(&one.path(), &json!({ "status": status })).await?) })?;
    print(out, &answer, one.client.json, |out, value| {
        writeln!(out, "{} {}", one.id, value.get("status").and_then(Value::as_str).unwrap_or(status))
    })
}

impl WebhookArgs {
    fn path(&self) -> String {
        let path = path(&self.id);
        self.tenant.as_ref().map_or_else(|| path.clone(), |tenant| format!("{path}?tenant={tenant}"))
    }
}

impl Add {
    fn body(&self, environment: &Environment, stdin: &mut dyn Read) -> Result<Map<String, Value>, CliError> {
        if self.fields.inputs() + usize::from(self.secret.reads_input()) > 1 {
            return Err(CliError::StdinUsedTwice("the secrets and the JSON"));
        }
        let mut body = Map::from_iter([("url".to_owned(), Value::from(self.endpoint.as_str()))]);
        if let Some(secret) = self.secret.read(environment, stdin)? {
            body.insert("secret".to_owned(), secret.reveal().into());
        }
        if let Some(tenant) = &self.tenant {
            body.insert("tenant".to_owned(), tenant.as_str().into());
        }
        self.fields.fill(&mut body, environment, stdin)?;
        Ok(body)
    }
}

impl Update {
    fn body(&self, environment: &Environment, stdin: &mut dyn Read) -> Result<Map<String, Value>, CliError> {
        if self.fields.inputs() > 1 {
            return Err(CliError::StdinUsedTwice("the secret and the JSON"));
        }
        let mut body: Map<_, _> = self.unset.iter().map(|field| (field.clone(), Value::Null)).collect();
        if let Some(endpoint) = &self.endpoint {
            body.insert("url".to_owned(), endpoint.as_str().into());
        }
        self.fields.fill(&mut body, environment, stdin)?;
        Ok(body)
    }
}

impl List {
    fn path(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, given) in [
            ("status", &self.status),
            ("event_type", &self.event_type),
            ("q", &self.search),
            ("user_id", &self.user_id),
            ("workspace_id", &self.workspace_id),
            ("uid", &self.uid),
            ("tenant", &self.tenant),
        ] {
            query.extend_pairs(given.iter().map(|value| (name, value)));
        }
        let filters = query.finish();
        let and = if filters.is_empty() { "" } else { "&" };
        format!("{WEBHOOKS}?{}{and}{filters}", self.page.query())
    }
}

/// The API path of a webhook.
pub(super) fn path(id: &str) -> String {
    format!("{WEBHOOKS}/{id}")
}

fn added(out: &mut dyn Write, webhook: &Value) -> std::io::Result<()> {
    let text = |name: &str| webhook.get(name).and_then(Value::as_str).unwrap_or("-");
    writeln!(out, "id: {}\nsecret: {}", output::visible(text("id")), output::visible(text("secret")))?;
    warnings(out, webhook)
}

fn warnings(out: &mut dyn Write, webhook: &Value) -> std::io::Result<()> {
    let warnings = webhook.get("warnings").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    warnings.iter().filter_map(Value::as_str).try_for_each(|text| writeln!(out, "warning: {}", output::visible(text)))
}

/// Prints the response: with `json` byte for byte, else with `human`.
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
    let value = crate::json::from_slice(answer).map_err(super::client::ClientError::Answer)?;
    Ok(human(out, &value)?)
}
