//! `hooktide source add`: creates a source.

use std::io::{Read, Write};

use serde_json::{Map, Value};

use super::super::error::CliError;
use super::super::input::{self, InputArg, SecretArgs};
use super::super::webhook::print;
use super::super::{Client, ClientArgs, block_on};
use super::print_with_secrets;
use crate::config::Environment;
use crate::model::kind::PARTNER;
use crate::model::path::SOURCES;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its name, which stands in its URL: a-z, 0-9 and -
    #[arg(value_name = "NAME")]
    name: String,
    /// Who sends: shopify, stripe, github, …, standard-webhooks, custom, token, basic, none
    #[arg(long, value_name = "KIND", required_unless_present = "partner")]
    kind: Option<String>,
    /// A partner, with a URL of its own that holds a token
    #[arg(long, conflicts_with = "kind")]
    partner: bool,
    #[command(flatten)]
    secret: SecretArgs,
    /// Only for requests like these, such as header:X-Shopify-Shop-Domain=a.myshopify.com
    #[arg(long, value_name = "PLACE=VALUE")]
    when: Option<String>,
    /// A partner's token of your own, from standard input, so that an old URL lives on; without it one is made
    #[arg(long, value_name = "-", conflicts_with = "kind", value_parser = InputArg::parse)]
    token: Option<InputArg>,
    /// What a partner's events must be: JSON or @FILE, the short form or {"schema": …}
    #[arg(long, value_name = "JSON|@FILE")]
    validation: Option<String>,
    /// What events become, in place of the kind's own map: JSON or @FILE, a list of rules
    #[arg(long, value_name = "JSON|@FILE")]
    event_map: Option<String>,
    /// How a custom source is verified: JSON or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    verify: Option<String>,
    /// Where the delivery's id stands, such as header:X-Delivery or json:/id; several are joined
    #[arg(long, value_name = "PLACE")]
    id: Vec<String>,
    /// Where the event's type stands, such as json:/type; the first that is there counts
    #[arg(long = "type", value_name = "PLACE")]
    event_type: Vec<String>,
    /// What makes two events the same
    #[arg(long, value_parser = ["id", "id+body", "body", "never"])]
    dedup: Option<String>,
    /// What the kind asks for beside secrets, such as webhook_id=… for PayPal; may be given several times
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = option)]
    options: Vec<(String, String)>,
    /// Largest body, such as "2 MiB"
    #[arg(long, value_name = "BYTES")]
    max_body: Option<String>,
    /// Requests a second
    #[arg(long, value_name = "RATE")]
    rate: Option<f64>,
    /// Requests at once within that rate
    #[arg(long, value_name = "N", requires = "rate")]
    burst: Option<u32>,
    /// Subject that a source of kind nats consumes, such as "orders.>"; may be given several times
    #[arg(long = "subject", value_name = "SUBJECT")]
    subjects: Vec<String>,
    /// Durable consumer of a source of kind nats
    #[arg(long, value_name = "NAME")]
    durable: Option<String>,
    /// Stream of a source of kind nats, unless it is the one that has the first subject
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// A description for people
    #[arg(long)]
    description: Option<String>,
    /// Whose it is, for a key of all tenants
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

fn option(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').filter(|(name, _)| !name.is_empty());
    split.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "expected KEY=VALUE".to_owned())
}

pub(super) fn run(
    args: &Args,
    environment: &Environment,
    stdin: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let body = body(args, environment, stdin)?;
    let client = Client::try_new(&args.client, environment, false)?;
    let answer = block_on(async { Ok(client.post(SOURCES, &body).await?) })?;
    print(out, &answer, args.client.json, print_with_secrets)
}

/// The request body of `POST /api/v1/sources`.
fn body(args: &Args, environment: &Environment, stdin: &mut dyn Read) -> Result<Map<String, Value>, CliError> {
    let jsons = [&args.validation, &args.event_map, &args.verify].map(Option::as_deref);
    let inputs = jsons.iter().filter(|given| **given == Some("-")).count();
    if inputs + usize::from(args.secret.reads_input()) + usize::from(args.token.is_some()) > 1 {
        return Err(CliError::StdinUsedTwice("the secret, the token and the JSON"));
    }
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("name", Some(args.name.as_str().into()));
    set("kind", Some(args.kind.as_deref().unwrap_or(PARTNER).into()));
    if let Some(secret) = args.secret.read(environment, stdin)? {
        let value = secret.reveal();
        let when = args.when.as_deref();
        let secret =
            when.map_or_else(|| Value::from(value), |when| serde_json::json!({ "value": value, "when": when }));
        set("secrets", Some(Value::from(vec![secret])));
    }
    if let Some(token) = args.token {
        set("token", Some(token.read("--token", stdin)?.reveal().into()));
    }
    for (name, given) in ["validation_config", "event_map", "verify"].into_iter().zip(jsons) {
        set(name, given.map(|given| input::json(given, stdin)).transpose()?);
    }
    set("id", (!args.id.is_empty()).then(|| places(&args.id)));
    set("type", (!args.event_type.is_empty()).then(|| places(&args.event_type)));
    set("dedup", args.dedup.as_deref().map(Value::from));
    let options = || args.options.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    set("options", (!args.options.is_empty()).then(|| Value::Object(options())));
    set("max_body_bytes", args.max_body.as_deref().map(Value::from));
    set("rate_limit_rps", args.rate.map(Value::from));
    set("burst", args.burst.map(Value::from));
    set("subjects", (!args.subjects.is_empty()).then(|| Value::from(&*args.subjects)));
    set("durable", args.durable.as_deref().map(Value::from));
    set("stream", args.stream.as_deref().map(Value::from));
    set("description", args.description.as_deref().map(Value::from));
    set("tenant", args.tenant.as_deref().map(Value::from));
    Ok(body)
}

/// One place as a string, several places as a list.
fn places(places: &[String]) -> Value {
    match places {
        [one] => Value::from(one.as_str()),
        several => Value::from(several),
    }
}
