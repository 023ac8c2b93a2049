//! `[[sources]]`: as it is written, and checked: secrets are read from where they stand, and each source is built once.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::error::{ConfigError, key_of};
use super::layers::{Environment, variable};
use super::load::Origins;
use super::{Config, FileSource};
use crate::inbound::source::{
    Identity, ManagedBy, SecretSetting, SecretTable, Settings, Source, Token, TokenHash, file_id,
};
use crate::limits::{SECRET_FILE_BYTES_MAX, SOURCE_BODY_BYTES_MAX};
use crate::model::kind::PARTNER;
use crate::model::{DEFAULT_TENANT, HIDDEN, Secret, TENANT_NAME_ALLOWED, Timestamp, is_tenant_name};

/// Variables of replaced systems that make a source, and the name and kind of it.
const OLD_NAMES: [(&str, &str); 2] = [("SHOPIFY_WEBHOOK_SECRET", "shopify"), ("STRIPE_WEBHOOK_SECRET", "stripe")];
/// Megabytes of a body, for sources that do not say.
const OLD_SIZE: &str = "MAX_PAYLOAD_SIZE_MB";

/// An entry as it is written: the settings, and a partner's token, which is no setting as only its hash is kept.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RawSource {
    #[serde(flatten)]
    pub(super) settings: Settings,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<SecretSetting>,
    /// The variable that made it, not the file.
    #[serde(skip)]
    variable: Option<&'static str>,
    /// Whether a variable says how large its bodies may be.
    #[serde(skip)]
    is_sized: bool,
}

impl RawSource {
    /// Where a value below this entry comes from, if not from the file.
    pub(super) fn origin(&self, key: Option<&str>) -> Option<String> {
        let sized = Some(OLD_SIZE).filter(|_| self.is_sized && key == Some("max_body_bytes"));
        sized.or(self.variable).map(variable)
    }

    /// To be shown: secrets are hidden anyway, and any option may be one.
    pub(super) fn hidden(&self) -> Self {
        let mut shown = self.clone();
        shown.settings.options.values_mut().for_each(|value| HIDDEN.clone_into(value));
        shown
    }
}

impl<'de> Deserialize<'de> for RawSource {
    /// As [`Settings`], so that an unknown key is refused, with the token taken out on the way.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entry;

        impl<'de> Visitor<'de> for Entry {
            type Value = RawSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawSource, A::Error> {
                let mut token = None;
                let settings = Settings::deserialize(MapAccessDeserializer::new(Rest { map, token: &mut token }))?;
                Ok(RawSource { settings, token, variable: None, is_sized: false })
            }
        }

        from.deserialize_map(Entry)
    }
}

/// The entries of a table but for `token`.
struct Rest<'t, A> {
    map: A,
    token: &'t mut Option<SecretSetting>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if key != "token" {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            *self.token = Some(self.map.next_value()?);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// What variables of replaced systems add: sources, unless one of that name is configured, and how large the bodies of
/// those may be that do not say.
pub(super) fn add_old_names(
    sources: &mut Vec<RawSource>,
    environment: &Environment,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<String>,
) -> Option<u64> {
    for (name, kind) in OLD_NAMES {
        if environment.get(name).is_none() {
            continue;
        }
        let is_default = |settings: &Settings| settings.tenant.as_deref().unwrap_or(DEFAULT_TENANT) == DEFAULT_TENANT;
        if sources.iter().any(|source| source.settings.name == kind && is_default(&source.settings)) {
            warnings.push(format!("{} is not used: the source {kind:?} is configured", variable(name)));
            continue;
        }
        let secret = SecretTable { env: Some(name.to_owned()), ..SecretTable::default() };
        let mut settings = Settings::new(kind, kind);
        settings.secrets.push(SecretSetting::Table(secret));
        sources.push(RawSource { settings, token: None, variable: Some(name), is_sized: false });
    }
    let text = environment.get(OLD_SIZE)?;
    let most = SOURCE_BODY_BYTES_MAX as u64 >> 20;
    let Some(megabytes) = text.trim().parse().ok().filter(|megabytes| (1..=most).contains(megabytes)) else {
        let problem = format!("{text:?} is not a whole number of megabytes from 1 to {most}");
        errors.push(ConfigError { key: "sources.max_body_bytes".to_owned(), origin: variable(OLD_SIZE), problem });
        return None;
    };
    for source in sources.iter_mut().filter(|source| source.settings.max_body_bytes.is_none()) {
        source.settings.max_body_bytes = Some(Value::from(format!("{megabytes} MiB")));
        source.is_sized = true;
    }
    Some(megabytes << 20)
}

/// The sources that are in force; of no use if `errors` grow.
pub(super) fn check(
    raw: &[RawSource],
    config: &Config,
    environment: &Environment,
    origins: &Origins<'_>,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<String>,
) -> Vec<FileSource> {
    let public_url = config.server.public_url();
    let unread = errors.clone();
    let mut sources: Vec<FileSource> = Vec::with_capacity(raw.len());
    for (index, source) in raw.iter().enumerate() {
        let mut entry = Entry { index, source, environment, origins, unread: &unread, errors: Vec::new() };
        let (checked, said) = entry.check(&public_url, &sources);
        errors.extend(entry.errors);
        warnings.extend(said);
        sources.push(checked);
    }
    sources
}

/// An entry that is being checked.
struct Entry<'a> {
    index: usize,
    source: &'a RawSource,
    environment: &'a Environment,
    origins: &'a Origins<'a>,
    /// Of values that could not even be read.
    unread: &'a [ConfigError],
    errors: Vec<ConfigError>,
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
                // Of secrets that could not be read there is no more to say.
                let known = |pointer: &str| !all_read && pointer.starts_with("/secrets");
                for breach in breaches.iter().filter(|breach| !known(&breach.pointer)) {
                    self.wrong(&breach.pointer, breach.detail.clone());
                }
            }
        }
        let (key, origin) = self.place("");
        let warnings = warnings.into_iter().map(|said| format!("{key} ({origin}): {said}")).collect();
        (FileSource { settings, tenant, token }, warnings)
    }

    /// A partner's token: the file has no other way to give one that stays.
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

    /// The secret itself in place of the variable or file that holds it; `None`: it cannot be read, which is said.
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
        let (key, origin) = self.place(pointer);
        // Of what could not be read it is no news that it or a part of it is missing.
        let unread = |e: &ConfigError| {
            key.strip_prefix(&*e.key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if !self.unread.iter().any(unread) {
            self.errors.push(ConfigError { key, origin, problem: problem.into() });
        }
    }

    /// The key of what stands at a pointer into the entry, and where it comes from.
    fn place(&self, pointer: &str) -> (String, String) {
        let unescaped = |part: &str| part.replace("~1", "/").replace("~0", "~");
        let parts = pointer.split('/').skip(1).map(unescaped);
        let path: Vec<String> = ["sources".to_owned(), self.index.to_string()].into_iter().chain(parts).collect();
        let own = self.source.origin(path.get(2).map(String::as_str));
        let origin = own.or_else(|| self.origins.of(&path)).unwrap_or_else(|| "default".to_owned());
        (key_of(&path), origin)
    }
}

/// Of a source of the file before it is in force: the registry gives it its times.
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

/// The secret in a file, without the line end after it.
pub(crate) fn read_secret_file(path: &str) -> Result<Secret, String> {
    let failed = |e| format!("{path} cannot be read: {e}");
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(failed)?;
    let bytes = file.take(SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if bytes as u64 > SECRET_FILE_BYTES_MAX {
        return Err(format!("{path} is longer than a secret, which has at most {SECRET_FILE_BYTES_MAX} bytes"));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let secret = line.strip_suffix('\r').unwrap_or(line);
    if secret.is_empty() { Err(format!("{path} is empty")) } else { Ok(Secret::new(secret)) }
}
