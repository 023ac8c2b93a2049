//! setup: a configuration with everything that its values are compiled to.
//!
//! Each part is compiled by the folder that it belongs to: `inbound` compiles sources, `outbound` profiles, `registry`
//! event types, `auth` the keys of tokens, `service` declared webhooks. These folders name the place of an error within
//! their part. Here the place becomes a key, and the key's origin is added.

#[cfg(test)]
mod event_type_tests;
#[cfg(test)]
mod profile_tests;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::auth::Access;
use crate::config::{Config, ConfigError, ConfigErrors, Draft, Environment, Loaded, Loader, PartError, key_of};
use crate::inbound::source::{Configured, FileSource};
use crate::outbound::profile::Profiles;
use crate::registry::catalogue::{self, Collector};
use crate::service::apply::Declared;

/// A configuration in which nothing is wrong, compiled.
#[derive(Debug)]
pub struct Setup {
    /// The plain values.
    pub config: Config,
    /// `[[sources]]`
    pub sources: Vec<FileSource>,
    /// The built-in profiles and those of `[profiles]`.
    pub profiles: Profiles,
    /// `[events]` and `[[event_types]]`
    pub event_types: catalogue::Setup,
    /// Who may ask without an API key, and from which sites.
    pub access: Arc<Access>,
    /// The webhooks that the file of `apply` declares.
    pub declared: Option<Arc<Declared>>,
    /// What a person should know although nothing is wrong, in sentences.
    pub warnings: Vec<String>,
    /// The configuration as TOML, secrets hidden. What is not a default has a comment that names its origin.
    pub shown: String,
}

impl Setup {
    /// Reads, checks and compiles everything.
    ///
    /// # Errors
    /// All that is wrong, not only the first thing.
    pub fn load(loader: &Loader) -> Result<Self, ConfigErrors> {
        let environment = &loader.environment;
        let mut draft = loader.draft();
        let access = access(&mut draft);
        draft.add_old_names(environment);
        let profiles = profiles(&mut draft);
        check_tenants(&mut draft, &profiles);
        let sources = sources(&mut draft, environment);
        let event_types = event_types(&mut draft);
        let declared = declared(&mut draft, environment);
        let Loaded { config, warnings, shown } = draft.finish()?;
        Ok(Self { config, sources, profiles, event_types, access, declared, warnings, shown })
    }
}

/// The rules of `[auth]`; none if they are wrong.
fn access(draft: &mut Draft) -> Arc<Access> {
    match Access::try_new(&draft.config) {
        Ok(access) => Arc::new(access),
        Err(error) => {
            let error = located(draft, "auth", error);
            draft.errors.push(error);
            Arc::default()
        }
    }
}

/// The profiles; only the built-in ones if any is wrong.
fn profiles(draft: &mut Draft) -> Profiles {
    let written = &draft.config.profiles;
    let wrong = match Profiles::try_new(&written.written, written.homechef_signature.as_deref()) {
        Ok(profiles) => return profiles,
        Err(wrong) => wrong,
    };
    let before = draft.errors.len();
    for error in wrong {
        let error = located(draft, "profiles", PartError { path: error.path, problem: error.problem });
        // A value that cannot be read is missing afterwards, which is not an error of its own.
        let unread = |known: &ConfigError| known.key.starts_with(&*error.key) || error.key.starts_with(&*known.key);
        if !draft.errors[..before].iter().any(unread) {
            draft.errors.push(error);
        }
    }
    Profiles::default()
}

/// Each profile that a tenant's webhooks get must exist.
fn check_tenants(draft: &mut Draft, profiles: &Profiles) {
    for (n, tenant) in draft.config.tenants.iter().enumerate() {
        let Some(profile) = tenant.settings.profile.as_deref() else { continue };
        let path = ["tenants".to_owned(), n.to_string(), "profile".to_owned()];
        let key = key_of(&path);
        // The errors of a profile that is written, but wrong, are reported already.
        let exists = profiles.get(profile).is_some() || draft.config.profiles.written.contains_key(profile);
        if !exists && draft.errors.iter().all(|known| known.key != key) {
            let names = profiles.names().collect::<Vec<_>>().join(", ");
            draft.errors.push(draft.origins.error(&path, format!("{profile:?} is no profile; there are: {names}")));
        }
    }
}

/// The sources; of no use if any is wrong.
fn sources(draft: &mut Draft, environment: &Environment) -> Vec<FileSource> {
    let public_url = draft.config.server.public_url();
    let Configured { sources, errors, warnings } = Configured::compile(&draft.config.sources, environment, &public_url);
    let before = draft.errors.len();
    for error in errors {
        let error = located(draft, "sources", error);
        // A value that cannot be read is missing afterwards, which is not an error of its own.
        let unread = |known: &ConfigError| {
            let rest = error.key.strip_prefix(&*known.key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if !draft.errors[..before].iter().any(unread) {
            draft.errors.push(error);
        }
    }
    for (index, warning) in warnings {
        let path = ["sources".to_owned(), index.to_string()];
        draft.warnings.push(format!("{} ({}): {warning}", key_of(&path), draft.origins.of(&path)));
    }
    sources
}

/// The event types of the configuration and of its catalogues; of no use if any is wrong.
fn event_types(draft: &mut Draft) -> catalogue::Setup {
    let Draft { config, origins, errors, .. } = draft;
    let written = &config.event_types;
    let mut types = Collector::default();
    for (index, settings) in written.types.iter().enumerate() {
        for breach in types.add(settings.clone()) {
            let PartError { path, problem } = below("event_types", PartError::of_entry(index, breach));
            add_unless_known(errors, origins.error(&path, problem));
        }
    }
    for (n, catalogue) in written.catalogues.iter().enumerate() {
        let (entries, file) = match catalogue.read(n, origins) {
            Ok(read) => read,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        for (index, settings) in entries.into_iter().enumerate() {
            for breach in types.add(settings) {
                let PartError { path, problem } = below("event_types", PartError::of_entry(index, breach));
                add_unless_known(errors, ConfigError { key: key_of(&path), origin: file.origin(&path), problem });
            }
        }
    }
    types.finish(written.strict)
}

/// Adds an error, unless there is one of the same key or of one around it: an entry that cannot be read has no name.
fn add_unless_known(errors: &mut Vec<ConfigError>, error: ConfigError) {
    if !errors.iter().any(|known| error.key.starts_with(&known.key)) {
        errors.push(error);
    }
}

/// The declared webhooks, if a file of them is named: it must be readable and right before the server starts.
fn declared(draft: &mut Draft, environment: &Environment) -> Option<Arc<Declared>> {
    match Declared::read(draft.config.apply.as_deref()?, environment) {
        Ok(declared) => Some(Arc::new(declared)),
        Err(faults) => {
            let path = ["apply".to_owned()];
            draft.errors.extend(faults.iter().map(|fault| draft.origins.error(&path, fault.to_string())));
            None
        }
    }
}

/// The error of a part with its key and origin.
fn located(draft: &Draft, section: &str, error: PartError) -> ConfigError {
    let PartError { path, problem } = below(section, error);
    draft.origins.error(&path, problem)
}

/// The error with the path from the root of the configuration on.
fn below(section: &str, error: PartError) -> PartError {
    let path = std::iter::once(section.to_owned()).chain(error.path).collect();
    PartError { path, problem: error.problem }
}
