//! `hooktide send`: publishes an event.

use std::io::{Read, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::CliError;
use super::webhook::print;
use super::{Client, ClientArgs, block_on, output, parse};
use crate::config::Environment;
use crate::model::path::EVENTS;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The event's type, such as order.created
    #[arg(value_name = "TYPE", value_parser = parse::event_type)]
    event_type: String,
    /// The payload: JSON, @FILE, or - for standard input
    #[arg(value_name = "JSON|@FILE|-", default_value = "{}")]
    data: String,
    /// Your id of the event; another event with the same id is not stored again
    #[arg(long)]
    id: Option<String>,
    /// Whose event it is, for a key of all tenants
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// The request body of `POST /api/v1/events`.
#[derive(Serialize)]
struct PublishBody<'a> {
    r#type: &'a str,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
}

pub(super) fn run(args: &Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    let data = payload(&args.data, &mut std::io::stdin())?;
    let event =
        PublishBody { r#type: &args.event_type, data: &data, id: args.id.as_deref(), tenant: args.tenant.as_deref() };
    let client = Client::try_new(&args.client, environment, true)?;
    let answer = block_on(async { Ok(client.post(EVENTS, &event).await?) })?;
    print(out, &answer, args.client.json, |out, accepted| {
        let id = accepted.get("id").and_then(Value::as_str).unwrap_or("-");
        let duplicate = accepted.get("duplicate").and_then(Value::as_bool).unwrap_or(false);
        writeln!(out, "{}{}", output::visible(id), if duplicate { " (duplicate)" } else { "" })
    })
}

/// Reads the JSON of an argument (JSON, `@FILE`, or `-` for standard input) and keeps its bytes.
pub(super) fn payload(argument: &str, input: &mut dyn Read) -> Result<Box<RawValue>, CliError> {
    let read = match argument.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path),
        None if argument == "-" => {
            let mut text = String::new();
            input.read_to_string(&mut text).map(|_| text)
        }
        None => Ok(argument.to_owned()),
    };
    let text = read.map_err(|source| {
        let from = argument.strip_prefix('@').unwrap_or("standard input").to_owned();
        CliError::Payload { from, source }
    })?;
    serde_json::from_str(&text).map_err(CliError::NotJson)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_kept_as_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data.json");
        std::fs::write(&file, "[1, 2.50]\n").unwrap();
        let read =
            |argument: &str, input: &str| payload(argument, &mut input.as_bytes()).map(|raw| raw.get().to_owned());
        assert_eq!(read(r#"{"a":  1.0}"#, "").unwrap(), r#"{"a":  1.0}"#);
        assert_eq!(read(&format!("@{}", file.display()), "").unwrap(), "[1, 2.50]");
        assert_eq!(read("-", " null ").unwrap(), "null");
        assert!(matches!(read("{", ""), Err(CliError::NotJson(_))));
        assert!(matches!(read("@/nowhere/at/all", ""), Err(CliError::Payload { .. })));
    }
}
