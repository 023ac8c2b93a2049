//! Formats responses as text: columns for lists, `name: value` lines for one object.

use std::io::{self, Write};

use serde_json::Value;

/// A column: its heading and the JSON pointer of its values.
pub(super) type Column = (&'static str, &'static str);

/// Prints a page of a list: its `data` in columns and the option for the next page. Prints `none` for an empty page.
pub(super) fn page(out: &mut dyn Write, answer: &Value, columns: &[Column], none: &str) -> io::Result<()> {
    let rows = answer.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return writeln!(out, "{none}");
    }
    let head = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let cells = rows.iter().map(|row| columns.iter().map(|(_, at)| row.pointer(at).map_or("-".into(), cell)).collect());
    table(out, &std::iter::once(head).chain(cells).collect::<Vec<Vec<String>>>())?;
    match answer.get("next_cursor").and_then(Value::as_str) {
        Some(cursor) => writeln!(out, "more: --cursor {cursor}"),
        None => Ok(()),
    }
}

/// Prints the named members that the object has, one line each. A list of objects is printed below its name.
pub(super) fn object(out: &mut dyn Write, value: &Value, names: &[&str]) -> io::Result<()> {
    for (name, value) in names.iter().filter_map(|name| Some((name, value.get(name)?))) {
        match value {
            Value::Null => {}
            Value::Object(members) if members.is_empty() => {}
            Value::Array(items) if items.iter().any(Value::is_object) => {
                writeln!(out, "{name}:")?;
                items.iter().try_for_each(|item| writeln!(out, "  {}", inline(item)))?;
            }
            _ => writeln!(out, "{name}: {}", cell(value))?,
        }
    }
    Ok(())
}

/// An object on one line, such as `number=1 http_status=500`.
fn inline(value: &Value) -> String {
    let members = value.as_object().into_iter().flatten();
    let shown = members.filter(|(_, value)| !value.is_null() && value.as_str() != Some(""));
    shown.map(|(name, value)| format!("{}={}", visible(name), cell(value))).collect::<Vec<_>>().join(" ")
}

/// Prints rows with aligned columns. The last column is not padded.
fn table(out: &mut dyn Write, rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |n: usize| rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.extend([format!("{cell:width$}").as_str(), "  "]);
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A value on one line. Control characters in foreign text do not reach the terminal.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => visible(text),
        Value::Array(items) if !items.iter().any(|item| item.is_object() || item.is_array()) => {
            items.iter().map(cell).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

/// Text with its control characters escaped, so that a terminal does not interpret them.
pub(super) fn visible(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_list_is_in_columns() {
        let answer = json!({"data": [
            {"id": "wh_1", "status": "active", "events": ["a", "b.*"]},
            {"id": "wh_22", "status": "paused", "events": [], "name": "x\u{1b}[2J"},
        ], "next_cursor": "abc"});
        let columns = [("ID", "/id"), ("STATUS", "/status"), ("NAME", "/name"), ("EVENTS", "/events")];
        assert_eq!(
            printed(|out| page(out, &answer, &columns, "none")),
            "ID     STATUS  NAME        EVENTS\n\
             wh_1   active  -           a,b.*\n\
             wh_22  paused  x\\u{1b}[2J\n\
             more: --cursor abc\n"
        );
        assert_eq!(printed(|out| page(out, &json!({"data": []}), &columns, "no webhooks")), "no webhooks\n");
    }

    #[test]
    fn named_members_of_an_object_are_shown_in_the_given_order() {
        let value = json!({"id": "dlv_1", "nothing": null, "attempts": [{"number": 1, "http_status": 500}], "metadata": {"a": 1},
            "headers": {}, "id_of_old_clients": "dlv_1"});
        assert_eq!(
            printed(|out| object(out, &value, &["id", "absent", "nothing", "metadata", "headers", "attempts"])),
            "id: dlv_1\nmetadata: {\"a\":1}\nattempts:\n  http_status=500 number=1\n"
        );
    }
}
