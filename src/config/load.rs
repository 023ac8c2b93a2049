//! From the layers to a checked configuration, as often as it is asked for: at the start, and at each SIGHUP.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::Figment;
use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Tag, Value};

use super::check::check;
use super::error::{ConfigError, ConfigErrors, describe, key_of};
use super::layers::{Environment, Flags, TomlFile, stack};
use super::raw::Raw;
use super::{Config, access, event_types, profiles, show, sources};
use crate::service::apply::{Declared, Fault};

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

/// A configuration that holds, with what `hooktide check` shows of it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// The same as TOML, secrets hidden; what is not a default has a comment that says where it comes from.
    pub shown: String,
}

impl Loader {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All that is wrong, not only the first thing.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        self.explain().map(|loaded| loaded.config)
    }

    /// Reads and checks everything, and writes down what came of it.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn explain(&self) -> Result<Loaded, ConfigErrors> {
        self.read(true)
    }

    /// What a client of the server needs to know of it. The sources are left out: their secrets are the server's alone, and
    /// what holds them need not be there.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn load_for_client(&self) -> Result<Config, ConfigErrors> {
        self.read(false).map(|loaded| loaded.config)
    }

    fn read(&self, with_sources: bool) -> Result<Loaded, ConfigErrors> {
        let mut errors = Vec::new();
        let file = self.file.as_deref().and_then(|path| TomlFile::read(path).map_err(|e| errors.push(e)).ok());
        let defaults = Figment::from(Serialized::defaults(Raw::default()));
        let figment = stack(defaults, file.as_ref(), &self.environment, &self.flags, &mut errors);
        let origins = Origins { figment: &figment, file: file.as_ref() };
        let mut raw = extract(&origins, &mut errors);
        if self.dev {
            raw.reach_loopback();
        }
        let mut config = check(&raw, self.dev, &origins, &mut errors);
        if with_sources {
            if !raw.auth.jwks_file.is_empty() {
                config.auth.jwt = access::read_jwks(&raw.auth.jwks_file, &origins, &mut errors);
            }
            let mut warnings = Vec::new();
            config.source_body_bytes =
                sources::add_old_names(&mut raw.sources, &self.environment, &mut errors, &mut warnings);
            config.profiles = profiles::check(&mut raw.profiles, &self.environment, &origins, &mut errors);
            tenants_profiles(&raw, &config, &origins, &mut errors);
            let (whole, environment) = (&raw, &self.environment);
            config.sources = sources::check(&whole.sources, &config, environment, &origins, &mut errors, &mut warnings);
            config.warnings = warnings;
            config.event_types = event_types::check(whole, &origins, &mut errors);
            config.apply = apply(&whole.apply, environment, &origins, &mut errors);
        }
        match (ConfigErrors::try_new(errors), config) {
            (None, config) => Ok(Loaded { shown: show::toml(&raw, &config, &origins), config }),
            (Some(errors), _) => Err(errors),
        }
    }
}

/// Each profile that a tenant's webhooks get must be there.
fn tenants_profiles(raw: &Raw, config: &Config, origins: &Origins<'_>, errors: &mut Vec<ConfigError>) {
    for (n, tenant) in raw.tenants.iter().enumerate() {
        let Some(profile) = tenant.profile.as_deref() else { continue };
        let path = ["tenants".to_owned(), n.to_string(), "profile".to_owned()];
        let key = key_of(&path);
        // Of one that is written, but wrong, its own faults are told.
        let is_there = config.profiles.get(profile).is_some() || raw.profiles.contains_key(profile);
        if !is_there && errors.iter().all(|known| known.key != key) {
            let names = config.profiles.names().collect::<Vec<_>>().join(", ");
            let origin = origins.of(&path).unwrap_or_else(|| "default".to_owned());
            errors.push(ConfigError { key, origin, problem: format!("{profile:?} is no profile; there are: {names}") });
        }
    }
}

/// The file of declared webhooks, if one is named: it must be readable and right before the server starts.
fn apply(
    path: &str,
    environment: &Environment,
    origins: &Origins<'_>,
    errors: &mut Vec<ConfigError>,
) -> Option<Arc<Declared>> {
    if path.is_empty() {
        return None;
    }
    match Declared::read(Path::new(path), environment) {
        Ok(declared) => Some(Arc::new(declared)),
        Err(faults) => {
            let place = ["apply".to_owned()];
            let origin = origins.of(&place).unwrap_or_else(|| "default".to_owned());
            let of = |fault: Fault| ConfigError {
                key: "apply".to_owned(),
                origin: origin.clone(),
                problem: fault.to_string(),
            };
            errors.extend(faults.into_iter().map(of));
            None
        }
    }
}

/// Says of each key where its value came from.
pub(super) struct Origins<'a> {
    figment: &'a Figment,
    file: Option<&'a TomlFile>,
}

impl Origins<'_> {
    /// Of the value in force at this path; `None`: a default.
    pub(super) fn of(&self, path: &[String]) -> Option<String> {
        // An index cannot be looked up by figment; a list comes whole from one place anyway.
        let named: Vec<&str> =
            path.iter().map(String::as_str).take_while(|part| !part.bytes().all(|b| b.is_ascii_digit())).collect();
        let tag = (0..named.len()).rev().find_map(|n| {
            let value = self.figment.find_value(&named[..=n].join(".")).ok()?;
            Some(value.tag())
        });
        self.of_tag(tag?, path)
    }

    /// The keys of the table at this path, in the order in which the file has them.
    pub(super) fn order(&self, path: &[String]) -> Vec<String> {
        self.file.map(|file| file.keys(path)).unwrap_or_default()
    }

    fn of_tag(&self, tag: Tag, path: &[String]) -> Option<String> {
        let metadata = self.figment.get_metadata(tag)?;
        match (&metadata.source, self.file) {
            (Some(figment::Source::File(_)), Some(file)) => Some(file.origin(path)),
            (None, _) => Some(metadata.name.to_string()),
            // The defaults, which come from the code.
            _ => None,
        }
    }
}

/// What was written, with every value that does not fit its key taken out and reported.
fn extract(origins: &Origins<'_>, errors: &mut Vec<ConfigError>) -> Raw {
    let mut value = match origins.figment.find_value("") {
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
            let origin = origins.of(&path).unwrap_or_else(|| "default".to_owned());
            errors.push(ConfigError { key, origin, problem: describe(&error.kind, &path) });
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
