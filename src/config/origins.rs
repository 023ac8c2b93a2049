//! Where the value of each key comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use figment::Figment;
use figment::value::Tag;

use super::error::{ConfigError, key_of};
use super::layers::TomlFile;

/// The origin of a value that nobody set.
const DEFAULT: &str = "default";

/// The origin of each key's value: `config.toml:12`, `environment variable PORT`, `flag --listen`, `default`.
#[derive(Clone)]
pub struct Origins {
    figment: Figment,
    file: Option<Arc<TomlFile>>,
    /// Origins of values that the configuration made itself, by their paths; each holds for what is below its path, too.
    made: BTreeMap<Vec<String>, String>,
}

impl Origins {
    pub(super) fn new(figment: Figment, file: Option<Arc<TomlFile>>) -> Self {
        Self { figment, file, made: BTreeMap::new() }
    }

    /// Everything that was set, for those who read it.
    pub(super) fn values(&self) -> &Figment {
        &self.figment
    }

    /// Sets the origin of the values at and below this path.
    pub(super) fn set(&mut self, path: &[&str], origin: String) {
        self.made.insert(path.iter().map(|&part| part.to_owned()).collect(), origin);
    }

    /// The origin of the value at this path.
    pub fn of(&self, path: &[String]) -> String {
        self.known(path).unwrap_or_else(|| DEFAULT.to_owned())
    }

    /// An error at this path.
    pub fn error(&self, path: &[String], problem: impl Into<String>) -> ConfigError {
        ConfigError { key: key_of(path), origin: self.of(path), problem: problem.into() }
    }

    /// The origin of the value at this path; `None`: it is a default.
    pub(super) fn known(&self, path: &[String]) -> Option<String> {
        let made = (1..=path.len()).rev().find_map(|n| self.made.get(&path[..n]));
        made.cloned().or_else(|| self.of_tag(self.tag(path)?, path))
    }

    /// The keys of the table at this path, in the order in which the file has them.
    pub(super) fn order(&self, path: &[String]) -> Vec<String> {
        self.file.as_ref().map(|file| file.keys(path)).unwrap_or_default()
    }

    /// The tag of the value at this path, or of the nearest one around it.
    fn tag(&self, path: &[String]) -> Option<Tag> {
        // An index cannot be looked up by figment; a list comes whole from one place anyway.
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
            // The defaults, which come from the code.
            _ => None,
        }
    }
}

impl fmt::Debug for Origins {
    /// Without the values: some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins").field("made", &self.made).finish_non_exhaustive()
    }
}
