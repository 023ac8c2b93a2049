//! Variables of replaced systems that only the server reads. They add sources and change a built-in profile.

use serde_json::Value;

use super::layers::{Environment, variable};
use super::{ConfigDraft, ConfigError, SourceConfig};
use crate::limits::SOURCE_BODY_BYTES_MAX;
use crate::model::{DEFAULT_TENANT, SecretSetting, SecretTable, SourceSettings};

/// Variables that add a source, each with the source's name and kind.
const SOURCES: [(&str, &str); 2] = [("SHOPIFY_WEBHOOK_SECRET", "shopify"), ("STRIPE_WEBHOOK_SECRET", "stripe")];
/// The maximum body in megabytes, for sources without this setting.
const BODY_SIZE: &str = "MAX_PAYLOAD_SIZE_MB";
/// The header for signatures of the built-in profile [`HOMECHEF`].
const SIGNATURE_HEADER: &str = "WEBHOOK_SIGNATURE_HEADER";
const HOMECHEF: &str = "homechef";
/// The keys of a profile. The variable is the origin of each key, but not of the profile, which may be in the file.
const PROFILE_KEYS: [&str; 4] = ["envelope", "headers", "sign", "user_agent"];

impl ConfigDraft {
    /// Applies the variables of replaced systems that concern sources and profiles. Client commands do not need them.
    pub fn add_legacy_variables(&mut self, environment: &Environment) {
        self.add_sources(environment);
        self.config.source_body_bytes = self.body_bytes(environment);
        self.config.sources.clone_from(&self.raw.sources);
        let header = environment.get(SIGNATURE_HEADER);
        self.config.profiles.homechef_signature = header.map(Into::into);
        for key in PROFILE_KEYS.iter().filter(|_| header.is_some()) {
            self.origins.set(&["profiles", HOMECHEF, key], variable(SIGNATURE_HEADER));
        }
    }

    /// Adds one source for each variable, unless the configuration has a source of that name.
    fn add_sources(&mut self, environment: &Environment) {
        let sources = &mut self.raw.sources;
        for (name, kind) in SOURCES.into_iter().filter(|(name, _)| environment.get(name).is_some()) {
            let is_default =
                |settings: &SourceSettings| settings.tenant.as_deref().unwrap_or(DEFAULT_TENANT) == DEFAULT_TENANT;
            if sources.iter().any(|source| source.settings.name == kind && is_default(&source.settings)) {
                self.warnings.push(format!("{} is not used: the source {kind:?} is configured", variable(name)));
                continue;
            }
            let secret = SecretTable { env: Some(name.to_owned()), ..SecretTable::default() };
            let mut settings = SourceSettings::new(kind, kind);
            settings.secrets.push(SecretSetting::Table(secret));
            self.origins.set(&["sources", &sources.len().to_string()], variable(name));
            sources.push(SourceConfig { settings, token: None });
        }
    }

    /// Gives the body limit of the variable to all sources without a limit, and returns it.
    fn body_bytes(&mut self, environment: &Environment) -> Option<u64> {
        let text = environment.get(BODY_SIZE)?;
        let most = SOURCE_BODY_BYTES_MAX as u64 >> 20;
        let Some(megabytes) = text.trim().parse().ok().filter(|megabytes| (1..=most).contains(megabytes)) else {
            let problem = format!("{text:?} is not a whole number of megabytes from 1 to {most}");
            let key = "sources.max_body_bytes".to_owned();
            self.errors.push(ConfigError { key, origin: variable(BODY_SIZE), problem });
            return None;
        };
        for (index, source) in self.raw.sources.iter_mut().enumerate() {
            if source.settings.max_body_bytes.is_none() {
                source.settings.max_body_bytes = Some(Value::from(format!("{megabytes} MiB")));
                self.origins.set(&["sources", &index.to_string(), "max_body_bytes"], variable(BODY_SIZE));
            }
        }
        Some(megabytes << 20)
    }
}
