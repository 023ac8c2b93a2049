//! From the layers to a draft of a configuration, as often as it is asked for: at the start, and at each SIGHUP.

use std::path::PathBuf;
use std::sync::Arc;

use figment::Figment;
use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Value};

use super::check::check;
use super::error::{ConfigError, ConfigErrors, describe, key_of};
use super::layers::{Environment, Flags, TomlFile, stack};
use super::origins::Origins;
use super::raw::Raw;
use super::{Config, Draft};
use crate::model::Envelope;

/// Remembers where the configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Loader {
    /// `--config`; `None`: no file.
    pub file: Option<PathBuf>,
    /// `--dev`: loopback only, and `egress.allow` covers loopback.
    pub dev: bool,
    /// The process's variables.
    pub environment: Environment,
    /// The command line's part.
    pub flags: Flags,
}

impl Loader {
    /// Reads everything and checks it in itself. The errors are in the draft; what others compile is not compiled yet.
    pub fn draft(&self) -> Draft {
        let mut errors = Vec::new();
        let file = self.file.as_deref().and_then(|path| TomlFile::read(path).map_err(|e| errors.push(e)).ok());
        let defaults = Figment::from(Serialized::defaults(Raw::default()));
        let figment = stack(defaults, file.as_ref(), &self.environment, &self.flags, &mut errors);
        let origins = Origins::new(figment, file.map(Arc::new));
        let mut raw = extract(&origins, &mut errors);
        if self.dev {
            raw.reach_loopback();
        }
        order_envelopes(&mut raw, &origins);
        let config = check(&raw, self.dev, &origins, &mut errors);
        Draft::new(raw, config, origins, errors)
    }

    /// The configuration as a client of the server reads it. What others compile is not looked at: secrets of sources are
    /// the server's alone, and the files that hold them need not be there.
    ///
    /// # Errors
    /// All that is wrong, not only the first thing.
    pub fn load_for_client(&self) -> Result<Config, ConfigErrors> {
        self.draft().finish().map(|loaded| loaded.config)
    }
}

/// Sorts the fields of envelopes as the file has them: a table loses its order on its way here, and receivers may see it.
fn order_envelopes(raw: &mut Raw, origins: &Origins) {
    for (name, profile) in &mut raw.profiles {
        if let Envelope::Fields(fields) = &mut profile.envelope {
            let order = origins.order(&["profiles", name, "envelope"].map(str::to_owned));
            fields.sort_by_key(|(field, _)| order.iter().position(|key| key == field));
        }
    }
}

/// What was written, with every value that does not fit its key taken out and reported.
fn extract(origins: &Origins, errors: &mut Vec<ConfigError>) -> Raw {
    let mut value = match origins.values().find_value("") {
        Ok(value) => value,
        Err(e) => {
            errors.push(ConfigError { key: String::new(), origin: "configuration".to_owned(), problem: e.to_string() });
            return Raw::default();
        }
    };
    loop {
        let error = match value.deserialize::<Raw>() {
            Ok(raw) => return raw,
            Err(error) => error,
        };
        let mut path = path_of(&error);
        let key = key_of(&path);
        if errors.iter().any(|known| known.key == key) {
            // An entry of a list that cannot be a table either: the list goes.
            path.pop();
        } else {
            errors.push(origins.error(&path, describe(&error.kind, &path)));
        }
        // Without the value the rest can be looked at. If it is not where the error says, the rest is taken as right.
        if !take_out(&mut value, &path) {
            return Raw::default();
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

/// Removes what stands at the path; an entry of a list becomes an empty table, so that the others keep their numbers.
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
