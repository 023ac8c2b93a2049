//! A filter can be tested without a server, and the guide's examples give the documented results.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn guide() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guides/filters.md")).unwrap()
}

/// The text between two texts of the guide.
fn between<'a>(guide: &'a str, start: &str, end: &str) -> &'a str {
    guide.split_once(start).and_then(|(_, rest)| rest.split_once(end)).expect(start).0
}

fn try_filter(filter: &str, event: &str) -> Output {
    let mut command = Command::new(crate::support::binary());
    command.env_clear().args(["filter", "test", filter, event]).output().unwrap()
}

#[test]
fn the_guides_filter_gives_the_documented_result() {
    let guide = guide();
    let webhook: Value = serde_json::from_str(between(&guide, "-d '", "'\n```")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let event = json!({"type": "order.created",
        "data": {"status": "completed", "amount": 500, "customer": {"tier": "gold"}}});
    let [filter, event] = [("filter.json", &webhook["filters"]), ("event.json", &event)].map(|(name, value)| {
        let path = folder.path().join(name);
        fs::write(&path, value.to_string()).unwrap();
        path.display().to_string()
    });
    let run = try_filter(&filter, &event);
    let shown = between(&guide, "```text\n", "```");
    assert_eq!((String::from_utf8(run.stdout).unwrap().as_str(), run.status.code()), (shown, Some(1)));
    let run = try_filter(&filter, r#"{"data":{"status":"completed","amount":5000,"customer":{"tier":"gold"}}}"#);
    assert_eq!(run.status.code(), Some(0));
}

#[test]
fn an_invalid_filter_gives_exit_code_2_and_one_line_per_error() {
    let run = try_filter(r#"{"colour":1,"user_id":[]}"#, "{}");
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!((run.status.code(), said.lines().count()), (Some(2), 3), "{said}");
    assert!(said.starts_with("the filter cannot be used:\n  /colour: unknown field; allowed: fields"), "{said}");
}
