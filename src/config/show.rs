//! Shows the configuration in force as TOML.

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, Value};

use super::origins::Origins;
use super::raw::RawConfig;
use super::{Config, SourceConfig};

/// Every key with its value, with secrets hidden. A value that is not the default has a comment with its origin, and
/// `"auto"` has a comment with the resulting number.
pub(super) fn toml(raw: &RawConfig, config: &Config, warnings: &[String], origins: &Origins) -> String {
    let hidden = RawConfig { sources: raw.sources.iter().map(SourceConfig::hidden).collect(), ..raw.clone() };
    let mut document = match toml_edit::ser::to_document(&hidden) {
        Ok(document) => document,
        // Structs of texts, numbers and lists always serialize.
        Err(_) => DocumentMut::new(),
    };
    let auto = |key: &str| match key {
        "server.workers" => Some(config.server.workers),
        "dispatch.shards" => Some(config.dispatch.shards),
        _ => None,
    };
    expand(document.as_table_mut(), &mut Vec::new(), &|path, value| {
        let origin = origins.origin_if_set(path);
        let meaning = auto(&path.join(".")).filter(|_| value.as_str() == Some("auto"));
        match (origin, meaning) {
            (Some(origin), Some(number)) => Some(format!("{number}; {origin}")),
            (None, Some(number)) => Some(format!("{number}")),
            (origin, None) => origin,
        }
    });
    let warnings = warnings.iter().map(|warning| format!("# warning: {warning}\n"));
    warnings.chain([document.to_string()]).collect()
}

/// Writes sections as `[tables]`, and adds the comments behind the values.
fn expand(table: &mut Table, path: &mut Vec<String>, comment: &dyn Fn(&[String], &Value) -> Option<String>) {
    let only_sections = table.iter().all(|(_, item)| item.is_table_like());
    table.set_implicit(only_sections);
    for (key, item) in table.iter_mut() {
        path.push(key.get().to_owned());
        if let Item::Value(Value::InlineTable(inline)) = item {
            *item = Item::Table(std::mem::take(inline).into_table());
        }
        if *path == ["sources"] || *path == ["event_types"] || *path == ["tenants"] {
            expand_list(item, path, comment);
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

/// Writes a list of tables as `[[tables]]`. Their inner tables stay on one line.
fn expand_list(item: &mut Item, path: &[String], comment: &dyn Fn(&[String], &Value) -> Option<String>) {
    let Item::Value(Value::Array(entries)) = item else { return };
    let mut tables = ArrayOfTables::new();
    for (index, entry) in std::mem::take(entries).into_iter().enumerate() {
        let Value::InlineTable(entry) = entry else { continue };
        let mut table = entry.into_table();
        for (key, item) in table.iter_mut() {
            let at: Vec<String> = path.iter().cloned().chain([index.to_string(), key.get().to_owned()]).collect();
            if let Some(value) = item.as_value_mut()
                && let Some(text) = comment(&at, value)
            {
                value.decor_mut().set_suffix(format!("  # {text}"));
            }
        }
        tables.push(table);
    }
    *item = Item::ArrayOfTables(tables);
}
