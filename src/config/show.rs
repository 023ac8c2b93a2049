//! What is in force, as TOML.

use toml_edit::{DocumentMut, Item, Table, Value};

use super::Config;
use super::load::Origins;
use super::raw::Raw;

/// Every key with its value, secrets hidden; behind what is not a default stands where it comes from, behind `"auto"`
/// what it comes to.
pub(super) fn toml(raw: &Raw, config: &Config, origins: &Origins<'_>) -> String {
    let mut document = match toml_edit::ser::to_document(raw) {
        Ok(document) => document,
        // Structs of text, numbers and lists always serialise.
        Err(_) => DocumentMut::new(),
    };
    let auto = |key: &str| match key {
        "server.workers" => Some(config.server.workers),
        "dispatch.shards" => Some(config.dispatch.shards),
        _ => None,
    };
    expand(document.as_table_mut(), &mut Vec::new(), &|path, value| {
        let origin = origins.of(path);
        let meaning = auto(&path.join(".")).filter(|_| value.as_str() == Some("auto"));
        match (origin, meaning) {
            (Some(origin), Some(number)) => Some(format!("{number}; {origin}")),
            (None, Some(number)) => Some(format!("{number}")),
            (origin, None) => origin,
        }
    });
    document.to_string()
}

/// Sections as `[tables]`, and a comment behind each value that has one.
fn expand(table: &mut Table, path: &mut Vec<String>, comment: &dyn Fn(&[String], &Value) -> Option<String>) {
    let only_sections = table.iter().all(|(_, item)| item.is_table_like());
    table.set_implicit(only_sections);
    for (key, item) in table.iter_mut() {
        path.push(key.get().to_owned());
        if let Item::Value(Value::InlineTable(inline)) = item {
            *item = Item::Table(std::mem::take(inline).into_table());
        }
        match item {
            Item::Table(inner) => expand(inner, path, comment),
            Item::Value(value) => {
                if let Some(text) = comment(path, value) {
                    value.decor_mut().set_suffix(format!("  # {text}"));
                }
            }
            _ => {}
        }
        path.pop();
    }
}
