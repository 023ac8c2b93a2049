//! `hooktide webhook test`: sends a test event to a webhook and shows the attempt.

use std::io::Write;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::ClientError;
use super::error::CliError;
use super::send::payload;
use super::{Client, ClientArgs, block_on, output, parse};
use crate::config::Environment;
use crate::limits::CLI_TEST_TIMEOUT;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The webhook's id
    #[arg(value_name = "ID", value_parser = parse::path_part)]
    id: String,
    /// The event's type; without it the first that the webhook names
    #[arg(long = "type", value_name = "TYPE", value_parser = parse::event_type)]
    event_type: Option<String>,
    /// The payload: JSON, @FILE, or - for standard input; without it a small one is made
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// The request body of the test call.
#[derive(Serialize)]
struct TestBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// Members of the attempt in the text output.
const SHOWN: [&str; 6] = ["event_type", "status", "latency_ms", "error", "body", "delivery_id"];

/// Sends a test event immediately. The result is an error unless the endpoint accepts the delivery.
pub(super) fn run(args: &Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    let data = args.data.as_deref().map(|data| payload(data, &mut std::io::stdin())).transpose()?;
    let test = TestBody { event_type: args.event_type.as_deref(), data: data.as_deref() };
    let client = Client::try_new(&args.client, environment, false)?.with_timeout(CLI_TEST_TIMEOUT);
    let path = format!("{}/test", super::webhook::path(&args.id));
    let answer = block_on(async { Ok(client.post(&path, &test).await?) })?;
    let value: Value = serde_json::from_slice(&answer).map_err(ClientError::Answer)?;
    if args.client.json {
        out.write_all(&answer)?;
        writeln!(out)?;
    } else {
        output::object(out, &value, &SHOWN)?;
    }
    if value.get("success").and_then(Value::as_bool) == Some(true) { Ok(()) } else { Err(CliError::TestFailed) }
}
