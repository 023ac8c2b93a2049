//! Errors in a configuration. Each error is one line, and all are reported together.

use std::fmt;

use figment::error::{Actual, Kind};

use crate::model::FieldError;

/// One error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} ({origin}): {problem}")]
pub struct ConfigError {
    /// The key, as `section.key`.
    pub key: String,
    /// The origin of the value: `config.toml:12`, `environment variable PORT`, `flag --listen`, `default`.
    pub origin: String,
    /// What is wrong and what is allowed. Never contains a secret.
    pub problem: String,
}

/// One error in a part of a configuration, as the folder that compiles the part reports it.
///
/// The folder knows neither the key of the part nor the origin of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartError {
    /// The place within the part, such as `["0", "secrets", "1"]`.
    pub path: Vec<String>,
    /// What is wrong and what is allowed. Never contains a secret.
    pub problem: String,
}

impl PartError {
    /// An error in the entry at this index of a list.
    pub fn of_entry(index: usize, error: FieldError) -> Self {
        let path = std::iter::once(index.to_string()).chain(pointer_parts(&error.pointer)).collect();
        Self { path, problem: error.detail }
    }
}

/// All errors, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, or `None` if there are none.
    pub(super) fn try_new(errors: Vec<ConfigError>) -> Option<Self> {
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// The single errors.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The text for an error that figment found at this path.
pub(super) fn describe(kind: &Kind, path: &[String]) -> String {
    match kind {
        Kind::UnknownField(field, known) if is_source(path) => unknown_key(field, &[*known, &["token"]].concat()),
        Kind::UnknownField(field, known) => unknown_key(field, known),
        Kind::MissingField(field) => format!("{field} is missing"),
        // Serde does not list the forms of an untagged enum.
        Kind::Message(text) if text.ends_with("enum SecretSetting") => {
            "what stands here (hidden) is neither text nor a table of value, env or file, with until and when"
                .to_owned()
        }
        Kind::Message(text) if text.ends_with("enum Catalogue") => {
            "this is neither the path of a file nor a table of file and tenant".to_owned()
        }
        Kind::Message(text) if text.ends_with("enum OneOrMany") => {
            "this is neither text nor a list of texts".to_owned()
        }
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            let expected = match &**expected {
                "a sequence" => "a list",
                "a map" => "a table",
                section if section.starts_with("struct ") => "a table",
                words => words,
            };
            format!("{} is not {expected}", written(actual, path))
        }
        // Errors that cannot occur with these types keep serde's text, on one line.
        other => figment::Error::from(other.clone()).to_string().replace('\n', " "),
    }
}

/// The parts of a JSON pointer, without escapes.
fn pointer_parts(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"))
}

/// A path as people write it: `auth.api_keys[0].role`.
pub(crate) fn key_of(path: &[String]) -> String {
    let mut key = String::new();
    for part in path {
        if part.bytes().all(|b| b.is_ascii_digit()) {
            key.push('[');
            key.push_str(part);
            key.push(']');
        } else {
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(part);
        }
    }
    key
}

fn unknown_key(field: &str, known: &[&str]) -> String {
    match known.iter().map(|name| (distance(field, name), name)).min() {
        Some((far, name)) if far <= 1 + name.len() / 4 => format!("unknown key; did you mean {name:?}?"),
        _ => format!("unknown key; allowed here: {}", known.join(", ")),
    }
}

fn written(actual: &Actual, path: &[String]) -> String {
    if is_secret(path) {
        return "what stands here (hidden)".to_owned();
    }
    match actual {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        Actual::Float(number) => number.to_string(),
        Actual::Str(text) => format!("{text:?}"),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// Whether the value at this path may hold a secret. In `auth.api_keys` every value may, whatever its shape, except
/// `role` and `tenant`. In a source, `secrets`, `token` and `options` may.
fn is_secret(path: &[String]) -> bool {
    match path {
        [auth, api_keys, ..] if auth == "auth" && api_keys == "api_keys" => {
            !path.last().is_some_and(|key| key == "role" || key == "tenant")
        }
        [auth, key, ..] if auth == "auth" && key == "jwt_secret" => true,
        [nats, token, ..] if nats == "nats" && token == "token" => true,
        [sources, _, key, ..] if sources == "sources" => matches!(key.as_str(), "secrets" | "token" | "options"),
        _ => false,
    }
}

/// Whether this is an entry of `[[sources]]`, or a key of an entry.
fn is_source(path: &[String]) -> bool {
    matches!(path, [sources, _] | [sources, _, _] if sources == "sources")
}

/// The Levenshtein distance: the number of letters to add, remove or change.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            let shortest = changed.min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], shortest);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, letters) in [
            ("", "", 0),
            ("listen", "listen", 0),
            ("lisen", "listen", 1),
            ("abc", "", 3),
            ("", "ab", 2),
            ("port", "prot", 2),
        ] {
            assert_eq!(distance(a, b), letters, "{a} {b}");
        }
    }
}
