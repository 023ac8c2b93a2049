//! The provider table: `table.toml`, parsed once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::RawRecipe;
use super::handshake::{HandshakeRules, RawHandshakeRule};

/// The key of `table.toml` that contains the handshakes. Every other key is a recipe.
const HANDSHAKES: &str = "handshakes";

const TEXT: &str = include_str!("table.toml");

/// The parsed table. A test checks that it contains every entry of the text.
static TABLE: LazyLock<ProviderTable> = LazyLock::new(|| ProviderTable::read(TEXT).0);

#[derive(Debug, Default)]
struct ProviderTable {
    recipes: BTreeMap<String, RawRecipe>,
    /// Recipe names by alias.
    aliases: BTreeMap<String, String>,
    handshakes: BTreeMap<String, HandshakeRules>,
}

impl ProviderTable {
    /// Parses the table. Also returns the errors of the entries that cannot be used.
    fn read(text: &str) -> (Self, Vec<String>) {
        let mut table = Self::default();
        let mut wrong = Vec::new();
        let mut entries: Map<String, Value> = match toml_edit::de::from_str(text) {
            Ok(entries) => entries,
            Err(error) => return (table, vec![error.to_string()]),
        };
        if let Some(Value::Object(handshakes)) = entries.remove(HANDSHAKES) {
            for (name, rules) in handshakes {
                let parsed = Vec::<RawHandshakeRule>::deserialize(rules).map_err(|error| error.to_string());
                match parsed.and_then(|rules| HandshakeRules::try_new(&name, rules)) {
                    Ok(parsed) => drop(table.handshakes.insert(name, parsed)),
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

/// An entry with the fields that it inherits through `like`. A chain longer than the table is a cycle and ends.
fn inherited(entries: &Map<String, Value>, name: &str) -> Map<String, Value> {
    /// Fields that are not inherited.
    const OWN: [&str; 3] = ["like", "also", "found_by"];
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

/// The built-in recipe with this name or alias, with the inherited fields. Returns `None` if there is none.
pub fn recipe(kind: &str) -> Option<&'static RawRecipe> {
    let name = TABLE.aliases.get(kind).map_or(kind, String::as_str);
    TABLE.recipes.get(name)
}

/// All built-in recipes with their names. Aliases are not included.
pub fn recipes() -> impl Iterator<Item = (&'static str, &'static RawRecipe)> {
    TABLE.recipes.iter().map(|(name, recipe)| (name.as_str(), recipe))
}

/// The words that suggest a built-in recipe, in lower case, each with the name of the recipe: the name, the aliases, the words
/// of the title, and the words by which it is found.
pub fn search_words() -> impl Iterator<Item = (String, &'static str)> {
    let without_spaces = |text: &str| text.to_lowercase().replace(' ', "-");
    recipes().flat_map(move |(name, recipe)| {
        let title = recipe.title.split([':', ',']).flat_map(|part| part.split(' ').chain([part.trim()]));
        let others = recipe.also.iter().chain(&recipe.found_by).map(String::as_str);
        others.chain(title).map(without_spaces).chain([name.to_owned()]).map(move |word| (word, name))
    })
}

/// The rules of the handshake with this name.
pub(super) fn handshake_rules(name: &str) -> Option<&'static HandshakeRules> {
    TABLE.handshakes.get(name)
}

/// The rules of all handshakes of the table.
pub(super) fn all_handshake_rules() -> impl Iterator<Item = &'static HandshakeRules> {
    TABLE.handshakes.values()
}

/// The errors of the table.
#[cfg(test)]
pub(super) fn wrong() -> Vec<String> {
    ProviderTable::read(TEXT).1
}

/// The recipes as written in `table.toml`, without inherited fields.
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
