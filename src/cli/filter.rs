//! `hooktide filter test`: tests a filter on an event and shows the result of each rule, without a server.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::process::ExitCode;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::error::CliError;
use super::{input, output};
use crate::filter::{Filter, FilterInput, SampleEvent};
use crate::model::{DEFAULT_TENANT, Timestamp};
use crate::runtime::Clock;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say whether an event passes, and what each rule found; exit code 0 if it does, 1 if not
    Test(TestArgs),
}

#[derive(Debug, clap::Args)]
struct TestArgs {
    /// The filter: a file, - for standard input, or JSON
    #[arg(value_name = "FILTER")]
    filter: String,
    /// The event, as it is sent or as the server shows it: a file, - for standard input, or JSON
    #[arg(value_name = "EVENT")]
    event: String,
    /// Print JSON, as the server answers it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, stdin: &mut dyn Read, out: &mut dyn Write) -> Result<ExitCode, CliError> {
    let Command::Test(args) = &args.command;
    if args.filter == "-" && args.event == "-" {
        return Err(CliError::StdinUsedTwice("the filter and the event"));
    }
    let filter: Value = input::json(&place(&args.filter), stdin)?;
    let filter = Filter::compile(&filter).map_err(|wrong| CliError::Filter { what: "the filter", wrong })?;
    let event: Box<RawValue> = input::json(&place(&args.event), stdin)?;
    let now = Clock::system(Timestamp::default()).now();
    let sample = SampleEvent::read(&event, DEFAULT_TENANT, now)
        .map_err(|wrong| CliError::Filter { what: "the event", wrong })?;
    let event_fields = sample.event_fields();
    let filter_input = &mut FilterInput::new(&event_fields);
    let matches = filter.matches_input(filter_input).map_err(CliError::FilterTooCostly)?;
    filter_input.set_work_left(u64::MAX);
    let rules = filter.explain(filter_input).map_err(CliError::FilterTooCostly)?;
    if args.json {
        writeln!(out, "{}", json!({"matches": matches, "rules": rules}))?;
    } else {
        writeln!(out, "matches: {}", if matches { "yes" } else { "no" })?;
        let columns = [("RULE", "/pointer"), ("HOLDS", "/matches"), ("FOUND", "/found")];
        output::page(out, &json!({"data": rules}), &columns, "no rules: every event passes")?;
    }
    Ok(if matches { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Translates an argument to the form of the other commands: text that is neither JSON nor `-` is a file name.
fn place(argument: &str) -> Cow<'_, str> {
    let is_named = argument == "-" || argument.starts_with('@') || argument.trim_start().starts_with('{');
    if is_named { Cow::Borrowed(argument) } else { Cow::Owned(format!("@{argument}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(filter: &str, event: &str, is_json: bool, stdin: &str) -> Result<(bool, String), CliError> {
        let command = Command::Test(TestArgs { filter: filter.to_owned(), event: event.to_owned(), json: is_json });
        let mut out = Vec::new();
        let code = run(&Args { command }, &mut stdin.as_bytes(), &mut out)?;
        Ok((format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS), String::from_utf8(out).unwrap()))
    }

    #[test]
    fn a_filter_is_tried_on_files_and_input() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let filter = file("filter.json", r#"{"fields":{"status":"completed"},"user_id":[7]}"#);
        let event = file("event.json", r#"{"type":"a","user_id":7,"data":{"status":"completed"}}"#);
        let shown =
            "matches: yes\nRULE            HOLDS  FOUND\n/fields/status  true   completed\n/user_id        true   7\n";
        assert_eq!(test(&filter, &event, false, "").unwrap(), (true, shown.to_owned()));
        assert_eq!(
            test(&format!("@{filter}"), "-", false, r#"{"data":{}}"#).unwrap().1.lines().next(),
            Some("matches: no")
        );
        let (passes, answer) = test("-", r#"{"data":{"status":1.50}}"#, true, r#"{"fields":{"status":"x"}}"#).unwrap();
        assert!(!passes);
        let wanted =
            "{\"matches\":false,\"rules\":[{\"found\":1.5,\"matches\":false,\"pointer\":\"/fields/status\"}]}\n";
        assert_eq!(answer, wanted);
        assert_eq!(
            test("{}", "{}", false, "").unwrap(),
            (true, "matches: yes\nno rules: every event passes\n".to_owned())
        );
    }

    #[test]
    fn each_error_has_its_own_line() {
        let said = |filter: &str, event: &str| test(filter, event, false, "").unwrap_err().to_string();
        let wrong = said(r#"{"field":{},"conditions":{"rules":[]}}"#, "{}");
        assert!(wrong.starts_with("the filter cannot be used:\n  /field: unknown field; allowed: fields, "), "{wrong}");
        assert!(wrong.contains("\n  /conditions/operator: expected and, or, or not\n"), "{wrong}");
        assert!(said("{}", r#"{"timestamp":5}"#).starts_with("the event cannot be used:\n  /timestamp: "));
        assert!(said("@/nowhere/at/all", "{}").starts_with("/nowhere/at/all cannot be read: "));
        assert_eq!(said("-", "-"), "only one of the filter and the event can come from standard input");
    }
}
