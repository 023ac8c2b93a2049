//! compiled_config: the configuration together with the compiled form of its values.
//!
//! Each folder compiles its own part: `inbound` compiles sources, `outbound` profiles, `registry` event types, `auth`
//! the keys of tokens, and `service` declared webhooks. Their errors have a place within the part. This module turns
//! the place into a key, and adds the origin of the value.

#[cfg(test)]
mod event_type_tests;
#[cfg(test)]
mod profile_tests;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::auth::AccessRules;
use crate::bus::BusSettings;
use crate::config::{
    Config, ConfigDraft, ConfigError, ConfigErrors, Environment, LoadedConfig, Loader, PartError, key_of,
};
use crate::inbound::source::{ConfiguredSources, FileSource};
use crate::model::kind;
use crate::outbound::profile::Profiles;
use crate::registry::catalogue::{self, CatalogueBuilder};
use crate::service::apply::DeclarationFile;

/// A valid configuration, compiled.
#[derive(Debug)]
pub struct CompiledConfig {
    /// The plain values.
    pub config: Config,
    /// `[[sources]]`
    pub sources: Vec<FileSource>,
    /// The built-in profiles and those of `[profiles]`.
    pub profiles: Profiles,
    /// `[events]` and `[[event_types]]`
    pub event_types: catalogue::CatalogueSetup,
    /// `[nats]`; `None`: there is no event bus.
    pub bus: Option<Arc<BusSettings>>,
    /// The rules for requests without an API key, and for requests from other sites.
    pub access: Arc<AccessRules>,
    /// The declared webhooks of the file in `apply`.
    pub declared: Option<Arc<DeclarationFile>>,
    /// Warnings about the configuration, in sentences.
    pub warnings: Vec<String>,
    /// The configuration as TOML, with secrets hidden. A value that is not the default has a comment with its origin.
    pub shown: String,
}

impl CompiledConfig {
    /// Reads, checks and compiles the whole configuration.
    ///
    /// # Errors
    /// All errors.
    pub fn load(loader: &Loader) -> Result<Self, ConfigErrors> {
        let environment = &loader.environment;
        let mut draft = loader.draft();
        let access = access(&mut draft);
        draft.add_legacy_variables(environment);
        let profiles = profiles(&mut draft);
        check_tenants(&mut draft, &profiles);
        let sources = sources(&mut draft, environment);
        let event_types = event_types(&mut draft);
        let bus = bus(&mut draft, environment);
        let declared = declared(&mut draft, environment);
        let LoadedConfig { config, warnings, shown } = draft.finish()?;
        Ok(Self { config, sources, profiles, event_types, bus, access, declared, warnings, shown })
    }
}

/// Compiles the rules of `[auth]`. They are empty after an error.
fn access(draft: &mut ConfigDraft) -> Arc<AccessRules> {
    match AccessRules::try_new(&draft.config) {
        Ok(access) => Arc::new(access),
        Err(error) => {
            let error = located(draft, "auth", error);
            draft.errors.push(error);
            Arc::default()
        }
    }
}

/// Compiles the event bus. It must not be used after an error.
fn bus(draft: &mut ConfigDraft, environment: &Environment) -> Option<Arc<BusSettings>> {
    match BusSettings::try_new(draft.config.nats.as_ref()?, environment) {
        Ok(settings) => Some(Arc::new(settings)),
        Err(errors) => {
            for error in errors {
                let error = located(draft, "nats", error);
                draft.errors.push(error);
            }
            None
        }
    }
}

/// Compiles the profiles. After an error there are only the built-in ones.
fn profiles(draft: &mut ConfigDraft) -> Profiles {
    let written = &draft.config.profiles;
    let wrong = match Profiles::try_new(&written.written, written.homechef_signature.as_deref()) {
        Ok(profiles) => return profiles,
        Err(wrong) => wrong,
    };
    let before = draft.errors.len();
    for error in wrong {
        let error = located(draft, "profiles", error);
        // A value that could not be read is missing now, which is not another error.
        let unread = |known: &ConfigError| known.key.starts_with(&*error.key) || error.key.starts_with(&*known.key);
        if !draft.errors[..before].iter().any(unread) {
            draft.errors.push(error);
        }
    }
    Profiles::default()
}

/// Checks that the profile of each tenant exists.
fn check_tenants(draft: &mut ConfigDraft, profiles: &Profiles) {
    for (n, tenant) in draft.config.tenants.iter().enumerate() {
        let Some(profile) = tenant.settings.profile.as_deref() else { continue };
        let path = ["tenants".to_owned(), n.to_string(), "profile".to_owned()];
        let key = key_of(&path);
        // The errors of an invalid profile are already reported.
        let exists = profiles.get(profile).is_some() || draft.config.profiles.written.contains_key(profile);
        if !exists && draft.errors.iter().all(|known| known.key != key) {
            let names = profiles.names().collect::<Vec<_>>().join(", ");
            draft.errors.push(draft.origins.error(&path, format!("{profile:?} is no profile; there are: {names}")));
        }
    }
}

/// Compiles the sources. They must not be used after an error.
fn sources(draft: &mut ConfigDraft, environment: &Environment) -> Vec<FileSource> {
    let public_url = draft.config.server.public_url();
    let ConfiguredSources { sources, errors, warnings } =
        ConfiguredSources::compile(&draft.config.sources, environment, &public_url);
    let before = draft.errors.len();
    for error in errors {
        let error = located(draft, "sources", error);
        // A value that could not be read is missing now, which is not another error.
        let unread = |known: &ConfigError| {
            let rest = error.key.strip_prefix(&*known.key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if !draft.errors[..before].iter().any(unread) {
            draft.errors.push(error);
        }
    }
    for (index, source) in draft.config.sources.iter().enumerate().filter(|_| draft.config.nats.is_none()) {
        if source.settings.kind == kind::NATS {
            let path = ["sources".to_owned(), index.to_string(), "kind".to_owned()];
            let problem = "kind nats needs an event bus, and the configuration has none: set nats.url";
            draft.errors.push(draft.origins.error(&path, problem.to_owned()));
        }
    }
    for (index, warning) in warnings {
        let path = ["sources".to_owned(), index.to_string()];
        draft.warnings.push(format!("{} ({}): {warning}", key_of(&path), draft.origins.of(&path)));
    }
    sources
}

/// Compiles the event types of the configuration and of its catalogues. They must not be used after an error.
fn event_types(draft: &mut ConfigDraft) -> catalogue::CatalogueSetup {
    let ConfigDraft { config, origins, errors, .. } = draft;
    let written = &config.event_types;
    let mut types = CatalogueBuilder::default();
    for (index, settings) in written.types.iter().enumerate() {
        for violation in types.add(settings.clone()) {
            let PartError { path, problem } = below("event_types", PartError::of_entry(index, violation));
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
            for violation in types.add(settings) {
                let PartError { path, problem } = below("event_types", PartError::of_entry(index, violation));
                add_unless_known(errors, ConfigError { key: key_of(&path), origin: file.origin(&path), problem });
            }
        }
    }
    types.finish(written.strict)
}

/// Adds an error, unless the same key or a key around it has one: an entry that cannot be read has no name.
fn add_unless_known(errors: &mut Vec<ConfigError>, error: ConfigError) {
    if !errors.iter().any(|known| error.key.starts_with(&known.key)) {
        errors.push(error);
    }
}

/// Reads the declared webhooks, if the configuration names a file. The file must be valid before the server starts.
fn declared(draft: &mut ConfigDraft, environment: &Environment) -> Option<Arc<DeclarationFile>> {
    match DeclarationFile::read(draft.config.apply.as_deref()?, environment) {
        Ok(declared) => Some(Arc::new(declared)),
        Err(faults) => {
            let path = ["apply".to_owned()];
            draft.errors.extend(faults.iter().map(|fault| draft.origins.error(&path, fault.to_string())));
            None
        }
    }
}

/// The error of a part, with its key and origin.
fn located(draft: &ConfigDraft, section: &str, error: PartError) -> ConfigError {
    let PartError { path, problem } = below(section, error);
    draft.origins.error(&path, problem)
}

/// The error with its path from the root of the configuration.
fn below(section: &str, error: PartError) -> PartError {
    let path = std::iter::once(section.to_owned()).chain(error.path).collect();
    PartError { path, problem: error.problem }
}
