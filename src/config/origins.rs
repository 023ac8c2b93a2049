//! The origins of the configuration's values.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use figment::Figment;
use figment::value::Tag;

use super::error::{ConfigError, key_of};
use super::layers::TomlFile;

/// The origin of a default value.
const DEFAULT: &str = "default";

/// The origin of each key's value: `config.toml:12`, `environment variable PORT`, `flag --listen`, `default`.
#[derive(Clone)]
pub struct Origins {
    figment: Figment,
    file: Option<Arc<TomlFile>>,
    /// Origins of generated values, by path. An origin also applies to the paths below its path.
    generated: BTreeMap<Vec<String>, String>,
}

impl Origins {
    pub(super) fn new(figment: Figment, file: Option<Arc<TomlFile>>) -> Self {
        Self { figment, file, generated: BTreeMap::new() }
    }

    /// All values that were set.
    pub(super) fn values(&self) -> &Figment {
        &self.figment
    }

    /// Sets the origin of the values at and below this path.
    pub(super) fn set(&mut self, path: &[&str], origin: String) {
        self.generated.insert(path.iter().map(|&part| part.to_owned()).collect(), origin);
    }

    /// The origin of the value at this path.
    pub fn of(&self, path: &[String]) -> String {
        self.origin_if_set(path).unwrap_or_else(|| DEFAULT.to_owned())
    }

    /// An error at this path.
    pub fn error(&self, path: &[String], problem: impl Into<String>) -> ConfigError {
        ConfigError { key: key_of(path), origin: self.of(path), problem: problem.into() }
    }

    /// The origin of the value at this path; `None`: it is a default.
    pub(super) fn origin_if_set(&self, path: &[String]) -> Option<String> {
        let generated = (1..=path.len()).rev().find_map(|n| self.generated.get(&path[..n]));
        generated.cloned().or_else(|| self.of_tag(self.tag(path)?, path))
    }

    /// The keys of the table at this path, in the order of the file.
    pub(super) fn order(&self, path: &[String]) -> Vec<String> {
        self.file.as_ref().map(|file| file.keys(path)).unwrap_or_default()
    }

    /// The tag of the value at this path, or of the nearest value around it.
    fn tag(&self, path: &[String]) -> Option<Tag> {
        // figment cannot look up an index, and a whole list has one origin.
        let named: Vec<&str> =
            path.iter().map(String::as_str).take_while(|part| !part.bytes().all(|b| b.is_ascii_digit())).collect();
        (0..named.len()).rev().find_map(|n| {
            let value = self.figment.find_value(&named[..=n].join(".")).ok()?;
            Some(value.tag())
        })
    }

    fn of_tag(&self, tag: Tag, path: &[String]) -> Option<String> {
        let metadata = self.figment.get_metadata(tag)?;
        match (&metadata.source, &self.file) {
            (Some(figment::Source::File(_)), Some(file)) => Some(file.origin(path)),
            (None, _) => Some(metadata.name.to_string()),
            // The defaults come from the code.
            _ => None,
        }
    }
}

impl fmt::Debug for Origins {
    /// Leaves out the values, because some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins").field("generated", &self.generated).finish_non_exhaustive()
    }
}
