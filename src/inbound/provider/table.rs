//! The table as a program reads it: `table.toml`, parsed once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::RawRecipe;
use super::handshake::{Form, RawRule};

/// The key of `table.toml` below which handshakes stand; every other key is a recipe.
const HANDSHAKES: &str = "handshakes";

const TEXT: &str = include_str!("table.toml");

/// What was read. A test holds that every entry of the text is here.
static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(TEXT).0);

#[derive(Debug, Default)]
struct Table {
    recipes: BTreeMap<String, RawRecipe>,
    /// Other names of recipes.
    aliases: BTreeMap<String, String>,
    handshakes: BTreeMap<String, Form>,
}

impl Table {
    /// The table, and what of it cannot be used.
    fn read(text: &str) -> (Self, Vec<String>) {
        let mut table = Self::default();
        let mut wrong = Vec::new();
        let mut entries: Map<String, Value> = match toml_edit::de::from_str(text) {
            Ok(entries) => entries,
            Err(error) => return (table, vec![error.to_string()]),
        };
        if let Some(Value::Object(forms)) = entries.remove(HANDSHAKES) {
            for (name, rules) in forms {
                let form = Vec::<RawRule>::deserialize(rules).map_err(|error| error.to_string());
                match form.and_then(|rules| Form::try_new(&name, rules)) {
                    Ok(form) => drop(table.handshakes.insert(name, form)),
                    Err(error) => wrong.push(format!("{HANDSHAKES}.{name}: {error}")),
                }
            }
        }
        for name in entries.keys() {
            match RawRecipe::deserialize(Value::Object(inherited(&entries, name))) {
                Ok(recipe) => {
                    table.aliases.extend(recipe.also.iter().map(|alias| (alias.clone(), name.clone())));
                    table.recipes.insert(name.clone(), recipe);
                }
                Err(error) => wrong.push(format!("{name}: {error}")),
            }
        }
        (table, wrong)
    }
}

/// An entry with everything that it takes from the one it is `like`; a chain longer than the table goes round and ends.
fn inherited(entries: &Map<String, Value>, name: &str) -> Map<String, Value> {
    /// What belongs to one entry alone.
    const OWN: [&str; 2] = ["like", "also"];
    let mut whole = Map::new();
    let mut next = Some(name);
    for depth in 0..=entries.len() {
        let Some(Value::Object(entry)) = next.and_then(|name| entries.get(name)) else { break };
        for (key, value) in entry.iter().filter(|(key, _)| depth == 0 || !OWN.contains(&key.as_str())) {
            whole.entry(key.clone()).or_insert_with(|| value.clone());
        }
        next = entry.get("like").and_then(Value::as_str);
    }
    whole
}

/// The built-in recipe of this name or alias, with what it inherits filled in.
pub fn recipe(kind: &str) -> Option<&'static RawRecipe> {
    let name = TABLE.aliases.get(kind).map_or(kind, String::as_str);
    TABLE.recipes.get(name)
}

/// Every built-in recipe, by name; aliases are not listed.
pub fn recipes() -> impl Iterator<Item = (&'static str, &'static RawRecipe)> {
    TABLE.recipes.iter().map(|(name, recipe)| (name.as_str(), recipe))
}

/// The handshake of this name.
pub(super) fn form(name: &str) -> Option<&'static Form> {
    TABLE.handshakes.get(name)
}

/// Every handshake of the table.
pub(super) fn forms() -> impl Iterator<Item = &'static Form> {
    TABLE.handshakes.values()
}

/// What of the table cannot be used.
#[cfg(test)]
pub(super) fn wrong() -> Vec<String> {
    Table::read(TEXT).1
}

/// The recipes as they are written.
#[cfg(test)]
pub(super) fn entries() -> impl Iterator<Item = (String, Map<String, Value>)> {
    let entries: Map<String, Value> = toml_edit::de::from_str(TEXT).unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|(name, entry)| match entry {
            Value::Object(entry) => Some((name, entry)),
            _ => None,
        })
        .filter(|(name, _)| name != HANDSHAKES)
}
