//! Reads the layers into a draft of the configuration, at the start and at each SIGHUP.

use std::path::PathBuf;
use std::sync::Arc;

use figment::Figment;
use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Value};

use super::check::check;
use super::error::{ConfigError, ConfigErrors, describe, key_of};
use super::layers::{Environment, Flags, TomlFile, merge_layers};
use super::origins::Origins;
use super::raw::RawConfig;
use super::{Config, ConfigDraft};
use crate::model::RawEnvelope;

/// Where the configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Loader {
    /// `--config`; `None`: no file.
    pub file: Option<PathBuf>,
    /// `--dev`: the server listens on loopback only, and `egress.allow` covers loopback.
    pub dev: bool,
    /// The variables of the process.
    pub environment: Environment,
    /// The flags of the command line.
    pub flags: Flags,
}

impl Loader {
    /// Reads and checks the configuration. The draft has the errors. The parts that other folders compile are not
    /// compiled yet.
    pub fn draft(&self) -> ConfigDraft {
        let mut errors = Vec::new();
        let file = self.file.as_deref().and_then(|path| TomlFile::read(path).map_err(|e| errors.push(e)).ok());
        let defaults = Figment::from(Serialized::defaults(RawConfig::default()));
        let figment = merge_layers(defaults, file.as_ref(), &self.environment, &self.flags, &mut errors);
        let origins = Origins::new(figment, file.map(Arc::new));
        let mut raw = extract(&origins, &mut errors);
        if self.dev {
            raw.reach_loopback();
        }
        order_envelopes(&mut raw, &origins);
        let config = check(&raw, self.dev, &origins, &mut errors);
        ConfigDraft::new(raw, config, origins, errors)
    }

    /// The configuration for client commands. The parts that other folders compile are not compiled: the secrets of
    /// sources belong to the server, and their files need not exist on a client.
    ///
    /// # Errors
    /// All errors.
    pub fn load_for_client(&self) -> Result<Config, ConfigErrors> {
        self.draft().finish().map(|loaded| loaded.config)
    }
}

/// Sorts the fields of envelopes in the order of the file. Parsing loses the order of a table, but receivers can see
/// it.
fn order_envelopes(raw: &mut RawConfig, origins: &Origins) {
    for (name, profile) in &mut raw.profiles {
        if let RawEnvelope::Fields(fields) = &mut profile.envelope {
            let order = origins.order(&["profiles", name, "envelope"].map(str::to_owned));
            fields.sort_by_key(|(field, _)| order.iter().position(|key| key == field));
        }
    }
}

/// Deserializes the merged values. Every value that does not fit its key is removed and reported.
fn extract(origins: &Origins, errors: &mut Vec<ConfigError>) -> RawConfig {
    let mut value = match origins.values().find_value("") {
        Ok(value) => value,
        Err(e) => {
            errors.push(ConfigError { key: String::new(), origin: "configuration".to_owned(), problem: e.to_string() });
            return RawConfig::default();
        }
    };
    loop {
        let error = match value.deserialize::<RawConfig>() {
            Ok(raw) => return raw,
            Err(error) => error,
        };
        let mut path = path_of(&error);
        let key = key_of(&path);
        if errors.iter().any(|known| known.key == key) {
            // An entry of a list that cannot be a table either: removes the whole list.
            path.pop();
        } else {
            errors.push(origins.error(&path, describe(&error.kind, &path)));
        }
        // The other values can be read without this one. If the value is not at the path of the error, all values are
        // replaced by defaults.
        if !take_out(&mut value, &path) {
            return RawConfig::default();
        }
    }
}

pub(super) fn path_of(error: &figment::Error) -> Vec<String> {
    match &error.kind {
        Kind::UnknownField(field, _) if error.path.last() != Some(field) => {
            error.path.iter().chain([field]).cloned().collect()
        }
        _ => error.path.clone(),
    }
}

/// Removes the value at the path. An entry of a list becomes an empty table, so that the other entries keep their
/// indices. Returns whether anything changed.
fn take_out(value: &mut Value, path: &[String]) -> bool {
    let Some((part, rest)) = path.split_first() else { return false };
    match value {
        Value::Dict(_, dict) if rest.is_empty() => dict.remove(part).is_some(),
        Value::Dict(_, dict) => dict.get_mut(part).is_some_and(|inner| take_out(inner, rest)),
        Value::Array(_, items) => {
            let Some(item) = part.parse().ok().and_then(|n: usize| items.get_mut(n)) else { return false };
            if !rest.is_empty() {
                return take_out(item, rest);
            }
            let was_table = matches!(item, Value::Dict(_, dict) if dict.is_empty());
            *item = Value::from(Dict::new());
            !was_table
        }
        _ => false,
    }
}
