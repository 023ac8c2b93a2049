//! `hooktide event-type`: manages the catalogue of event types.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::error::CliError;
use super::webhook::print;
use super::{Client, ClientArgs, PageArgs, block_on, input, output, parse};
use crate::config::Environment;
use crate::model::path::EVENT_TYPES;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List event types, by name
    List {
        /// Only of this category
        #[arg(long)]
        category: Option<String>,
        /// Only those with this text in name, category or description
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
        /// Only those that will go
        #[arg(long)]
        deprecated: bool,
        /// Whose catalogue, for a key of all tenants
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show one event type
    Show(EventTypeArgs),
    /// Add an event type, or with --replace put it in the place of the one of its name
    Add(Box<Add>),
    /// Remove an event type
    Remove(EventTypeArgs),
}

#[derive(Debug, clap::Args)]
struct EventTypeArgs {
    /// The event type
    #[arg(value_name = "NAME", value_parser = parse::event_type)]
    name: String,
    /// Whose catalogue, for a key of all tenants
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    one: EventTypeArgs,
    /// What it belongs to
    #[arg(long)]
    category: Option<String>,
    /// What it means, for people
    #[arg(long)]
    description: Option<String>,
    /// What its data must be: a JSON Schema, as JSON, @FILE or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    schema: Option<String>,
    /// Data as an event of this type has it
    #[arg(long, value_name = "JSON|@FILE|-")]
    example: Option<String>,
    /// Refuse events that break the schema
    #[arg(long, requires = "schema")]
    validate: bool,
    /// It will go
    #[arg(long)]
    deprecated: bool,
    /// The type to use in its place
    #[arg(long, value_name = "NAME", requires = "deprecated", value_parser = parse::event_type)]
    replaced_by: Option<String>,
    /// Replace the one that is there
    #[arg(long)]
    replace: bool,
}

/// Members of an event type in the text output.
const SHOWN: [&str; 12] = [
    "name",
    "category",
    "description",
    "deprecated",
    "replaced_by",
    "validate",
    "schema",
    "example",
    "tenant",
    "managed_by",
    "created_at",
    "updated_at",
];

pub(super) fn run(args: Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    match args.command {
        Command::List { category, q, deprecated, tenant, page, client: args } => {
            let deprecated = deprecated.then(|| "true".to_owned());
            let given = [("category", category), ("q", q), ("deprecated", deprecated), ("tenant", tenant)];
            let path = query(EVENT_TYPES, given) + "&" + &page.query();
            let client = Client::try_new(&args, environment, false)?;
            let answer = block_on(async { Ok(client.get(&path).await?) })?;
            let columns = [
                ("NAME", "/name"),
                ("CATEGORY", "/category"),
                ("DEPRECATED", "/deprecated"),
                ("FROM", "/managed_by"),
                ("DESCRIPTION", "/description"),
            ];
            print(out, &answer, args.json, |out, value| output::page(out, value, &columns, "no event types"))
        }
        Command::Show(one) => {
            let client = Client::try_new(&one.client, environment, false)?;
            let answer = block_on(async { Ok(client.get(&path(&one)).await?) })?;
            print(out, &answer, one.client.json, |out, value| output::object(out, value, &SHOWN))
        }
        Command::Add(add) => {
            let body = body(&add, &mut io::stdin())?;
            let client = Client::try_new(&add.one.client, environment, false)?;
            let answer = block_on(async {
                let path = query(EVENT_TYPES, [("tenant", add.one.tenant.clone())]);
                let made = if add.replace {
                    client.put(&self::path(&add.one), &body).await
                } else {
                    client.post(&path, &body).await
                };
                Ok(made?)
            })?;
            print(out, &answer, add.one.client.json, |out, value| output::object(out, value, &SHOWN))
        }
        Command::Remove(one) => {
            let client = Client::try_new(&one.client, environment, false)?;
            block_on(async { Ok(client.delete(&path(&one)).await?) })?;
            if !one.client.json {
                writeln!(out, "{} removed", one.name)?;
            }
            Ok(())
        }
    }
}

fn body(add: &Add, input: &mut dyn io::Read) -> Result<Map<String, Value>, CliError> {
    let jsons = [&add.schema, &add.example];
    if jsons.iter().filter(|given| given.as_deref() == Some("-")).count() > 1 {
        return Err(CliError::StdinUsedTwice("schema and example"));
    }
    let mut body = Map::from_iter([("name".to_owned(), Value::from(add.one.name.as_str()))]);
    let texts = [("category", &add.category), ("description", &add.description), ("replaced_by", &add.replaced_by)];
    for (name, text) in texts {
        body.extend(text.as_deref().map(|text| (name.to_owned(), Value::from(text))));
    }
    for (name, given) in ["schema", "example"].into_iter().zip(jsons) {
        if let Some(given) = given {
            body.insert(name.to_owned(), input::json(given, input)?);
        }
    }
    let flags = [("validate", add.validate), ("deprecated", add.deprecated)];
    body.extend(flags.into_iter().filter(|(_, is)| *is).map(|(name, is)| (name.to_owned(), is.into())));
    Ok(body)
}

fn path(one: &EventTypeArgs) -> String {
    query(&format!("{EVENT_TYPES}/{}", one.name), [("tenant", one.tenant.clone())])
}

/// The path with the given parameters. The result always contains a `?`.
fn query<const N: usize>(path: &str, given: [(&str, Option<String>); N]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in given {
        if let Some(value) = value {
            query.append_pair(name, &value);
        }
    }
    format!("{path}?{}", query.finish())
}
