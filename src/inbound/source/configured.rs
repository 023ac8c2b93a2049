//! The sources of a configuration. Secrets are read from variables and files, and each source is built once as a test.

use std::sync::Arc;

use super::{Breach, Identity, ManagedBy, SecretSetting, SecretTable, Settings, Source, Token, TokenHash, file_id};
use crate::config::{Environment, PartError, SourceConfig, read_secret_file};
use crate::model::kind::PARTNER;
use crate::model::{DEFAULT_TENANT, Secret, TENANT_NAME_ALLOWED, Timestamp, is_tenant_name};

/// A source of the configuration, checked.
#[derive(Debug, Clone)]
pub struct FileSource {
    /// As written, but with the secrets that variables and files hold.
    pub settings: Settings,
    /// The tenant it belongs to.
    pub tenant: Arc<str>,
    /// The hash of a partner's token.
    pub token: Option<TokenHash>,
}

/// The sources of a configuration, with what was found in them.
#[derive(Debug, Clone, Default)]
pub struct Configured {
    /// One for each entry, in their order; of no use if there are errors.
    pub sources: Vec<FileSource>,
    /// What is wrong; each path begins with the index of the entry.
    pub errors: Vec<PartError>,
    /// What a person should know, each with the index of the entry.
    pub warnings: Vec<(usize, String)>,
}

impl Configured {
    /// Compiles the entries of `[[sources]]`. Their URLs are below `public_url`.
    pub fn compile(written: &[SourceConfig], environment: &Environment, public_url: &str) -> Self {
        let mut all = Self::default();
        for (index, source) in written.iter().enumerate() {
            let mut entry = Entry { source, environment, breaches: Vec::new() };
            let (checked, warnings) = entry.check(public_url, &all.sources);
            all.errors.extend(entry.breaches.into_iter().map(|breach| PartError::of_entry(index, breach)));
            all.warnings.extend(warnings.into_iter().map(|warning| (index, warning)));
            all.sources.push(checked);
        }
        all
    }
}

/// An entry that is being checked.
struct Entry<'a> {
    source: &'a SourceConfig,
    environment: &'a Environment,
    breaches: Vec<Breach>,
}

impl Entry<'_> {
    fn check(&mut self, public_url: &str, before: &[FileSource]) -> (FileSource, Vec<String>) {
        let mut settings = self.source.settings.clone();
        let tenant: Arc<str> = settings.tenant.as_deref().unwrap_or(DEFAULT_TENANT).into();
        if !is_tenant_name(&tenant) {
            let problem = format!("{tenant:?} is not a tenant: {TENANT_NAME_ALLOWED}");
            self.wrong("/tenant", problem);
        }
        if before.iter().any(|other| other.settings.name == settings.name && other.tenant == tenant) {
            self.wrong("/name", format!("{:?} is there twice", settings.name));
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
            Err(breaches) => {
                // A secret that cannot be read is an error already.
                let known = |pointer: &str| !all_read && pointer.starts_with("/secrets");
                for breach in breaches.iter().filter(|breach| !known(&breach.pointer)) {
                    self.wrong(&breach.pointer, breach.detail.clone());
                }
            }
        }
        (FileSource { settings, tenant, token }, warnings)
    }

    /// The hash of a partner's token. The configuration must give the token: one that the server made would not stay.
    fn token(&mut self, settings: &Settings, before: &[FileSource]) -> Option<TokenHash> {
        let Some(written) = &self.source.token else {
            if settings.kind == PARTNER {
                self.wrong("/token", "a partner needs the token of its URL: 22 to 128 of A-Z, a-z, 0-9, - and _");
            }
            return None;
        };
        if settings.kind != PARTNER {
            self.wrong("/token", "only a source of kind \"partner\" has a token");
            return None;
        }
        let resolved = self.resolve("/token", written)?;
        let token = match Token::try_new(resolved.value()?.reveal()) {
            Ok(token) => token.hash(),
            Err(error) => {
                self.wrong("/token", error.to_string());
                return None;
            }
        };
        if before.iter().any(|other| other.token.as_ref() == Some(&token)) {
            self.wrong("/token", "this token is there twice");
        }
        Some(token)
    }

    /// The secret, read from the variable or file that holds it. `None`: it cannot be read, and a breach says so.
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
        let value = read.map_err(|(field, problem)| self.wrong(&format!("{at}{field}"), problem)).ok()?;
        let (value, until, when) = (Some(value), table.until.clone(), table.when.clone());
        Some(SecretSetting::Table(SecretTable { value, env: None, file: None, until, when }))
    }

    fn wrong(&mut self, pointer: &str, problem: impl Into<String>) {
        self.breaches.push(Breach::new(pointer, problem));
    }
}

/// The identity of a source that is built as a test. The registry gives the source its times later.
fn identity(tenant: &Arc<str>, name: &str, token: Option<TokenHash>) -> Identity {
    Identity {
        id: file_id(tenant, name),
        tenant: Arc::clone(tenant),
        managed_by: ManagedBy::File,
        token,
        created_at: Timestamp::default(),
        modified_at: Timestamp::default(),
        deleted_at: None,
        version: 1,
    }
}
