//! The sources of a configuration file. Secrets are read from environment variables and files, and each source is built once
//! to check its settings.

use std::sync::Arc;

use super::{
    Identity, ManagedBy, PartnerToken, SecretSetting, SecretTable, Source, SourceSettings, TokenHash, file_source_id,
};
use crate::config::{Environment, PartError, SourceConfig, read_secret_file};
use crate::model::kind::PARTNER;
use crate::model::{DEFAULT_TENANT, FieldError, Secret, TENANT_NAME_ALLOWED, Timestamp, is_tenant_name};

/// A checked source of the configuration file.
#[derive(Debug, Clone)]
pub struct FileSource {
    /// The settings as written, with the secrets resolved from environment variables and files.
    pub settings: SourceSettings,
    /// The tenant that owns the source.
    pub tenant: Arc<str>,
    /// The hash of a partner's token.
    pub token: Option<TokenHash>,
}

/// The sources of a configuration file, with the errors and warnings found in them.
#[derive(Debug, Clone, Default)]
pub struct ConfiguredSources {
    /// One source per entry, in order. Must not be used if there are errors.
    pub sources: Vec<FileSource>,
    /// The errors. Each path begins with the index of the entry.
    pub errors: Vec<PartError>,
    /// The warnings, each with the index of the entry.
    pub warnings: Vec<(usize, String)>,
}

impl ConfiguredSources {
    /// Checks the entries of `[[sources]]` and resolves their secrets. Their default URLs are below `public_url`.
    pub fn compile(written: &[SourceConfig], environment: &Environment, public_url: &str) -> Self {
        let mut all = Self::default();
        for (index, source) in written.iter().enumerate() {
            let mut entry = SourceEntry { source, environment, violations: Vec::new() };
            let (checked, warnings) = entry.check(public_url, &all.sources);
            all.errors.extend(entry.violations.into_iter().map(|violation| PartError::of_entry(index, violation)));
            all.warnings.extend(warnings.into_iter().map(|warning| (index, warning)));
            all.sources.push(checked);
        }
        all
    }
}

/// An entry that is being checked.
struct SourceEntry<'a> {
    source: &'a SourceConfig,
    environment: &'a Environment,
    violations: Vec<FieldError>,
}

impl SourceEntry<'_> {
    fn check(&mut self, public_url: &str, before: &[FileSource]) -> (FileSource, Vec<String>) {
        let mut settings = self.source.settings.clone();
        let tenant: Arc<str> = settings.tenant.as_deref().unwrap_or(DEFAULT_TENANT).into();
        if !is_tenant_name(&tenant) {
            let problem = format!("{tenant:?} is not a tenant: {TENANT_NAME_ALLOWED}");
            self.add_violation("/tenant", problem);
        }
        if before.iter().any(|other| other.settings.name == settings.name && other.tenant == tenant) {
            self.add_violation("/name", format!("{:?} is there twice", settings.name));
        }
        let mut all_read = true;
        for (n, secret) in settings.secrets.iter_mut().enumerate() {
            match self.resolve(&format!("/secrets/{n}"), secret) {
                Some(resolved) => *secret = resolved,
                None => all_read = false,
            }
        }
        let token = self.token(&settings, before);
        let mut warnings = Vec::new();
        match Source::build(settings.clone(), identity(&tenant, &settings.name, token.clone()), public_url) {
            Ok(source) => warnings = source.warnings,
            Err(violations) => {
                // A secret that cannot be read is already reported.
                let known = |pointer: &str| !all_read && pointer.starts_with("/secrets");
                for violation in violations.iter().filter(|violation| !known(&violation.pointer)) {
                    self.add_violation(&violation.pointer, violation.detail.clone());
                }
            }
        }
        (FileSource { settings, tenant, token }, warnings)
    }

    /// The hash of a partner's token. The configuration must contain the token, because a generated one would be lost at a
    /// restart.
    fn token(&mut self, settings: &SourceSettings, before: &[FileSource]) -> Option<TokenHash> {
        let Some(written) = &self.source.token else {
            if settings.kind == PARTNER {
                self.add_violation(
                    "/token",
                    "a partner needs the token of its URL: 22 to 128 of A-Z, a-z, 0-9, - and _",
                );
            }
            return None;
        };
        if settings.kind != PARTNER {
            self.add_violation("/token", "only a source of kind \"partner\" has a token");
            return None;
        }
        let resolved = self.resolve("/token", written)?;
        let token = match PartnerToken::try_new(resolved.value()?.reveal()) {
            Ok(token) => token.hash(),
            Err(error) => {
                self.add_violation("/token", error.to_string());
                return None;
            }
        };
        if before.iter().any(|other| other.token.as_ref() == Some(&token)) {
            self.add_violation("/token", "this token is there twice");
        }
        Some(token)
    }

    /// Reads the secret from its environment variable or file. Returns `None` if it cannot be read, after reporting a
    /// violation.
    fn resolve(&mut self, at: &str, secret: &SecretSetting) -> Option<SecretSetting> {
        let SecretSetting::Table(table) = secret else { return Some(secret.clone()) };
        let read = match (&table.value, &table.env, &table.file) {
            (Some(value), None, None) => Ok(value.clone()),
            (None, Some(name), None) => {
                let missing = || ("/env", format!("the environment variable {name} is not set"));
                self.environment.get(name).map(Secret::new).ok_or_else(missing)
            }
            (None, None, Some(path)) => read_secret_file(path).map_err(|problem| ("/file", problem)),
            _ => Err(("", "expected exactly one of value, env and file".to_owned())),
        };
        let value = read.map_err(|(field, problem)| self.add_violation(&format!("{at}{field}"), problem)).ok()?;
        let (value, until, when) = (Some(value), table.until.clone(), table.when.clone());
        Some(SecretSetting::Table(SecretTable { value, env: None, file: None, until, when }))
    }

    fn add_violation(&mut self, pointer: &str, problem: impl Into<String>) {
        self.violations.push(FieldError::new(pointer, problem));
    }
}

/// The identity of a source that is built only as a check. The registry sets the times later.
fn identity(tenant: &Arc<str>, name: &str, token: Option<TokenHash>) -> Identity {
    Identity {
        id: file_source_id(tenant, name),
        tenant: Arc::clone(tenant),
        managed_by: ManagedBy::File,
        token,
        created_at: Timestamp::default(),
        modified_at: Timestamp::default(),
        deleted_at: None,
        version: 1,
    }
}
