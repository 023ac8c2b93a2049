//! `[nats]`: the event bus. The folder `bus` compiles the values.

use super::check::ConfigChecker;
use super::raw;
use crate::model::SecretSetting;

/// `[nats]`, as written.
#[derive(Debug, Clone)]
pub struct NatsConfig {
    /// The URLs of the servers, at least one.
    pub urls: Vec<String>,
    /// The token of the connection.
    pub token: Option<SecretSetting>,
    /// The file with a JWT and its NKey seed.
    pub credentials_file: Option<String>,
    /// The file with an NKey seed.
    pub nkey_file: Option<String>,
    /// The file with the certificate authorities of the servers, in PEM.
    pub ca_file: Option<String>,
    /// The file with the client certificate, in PEM.
    pub client_certificate_file: Option<String>,
    /// The file with the key of the client certificate, in PEM.
    pub client_key_file: Option<String>,
    /// The name of the stream that webhooks publish to.
    pub stream: String,
    /// The subjects that webhooks may publish to.
    pub subjects: Vec<String>,
    /// The URLs at which the servers are monitored.
    pub monitor_urls: Vec<String>,
}

impl ConfigChecker<'_> {
    /// The section, if it has a URL.
    pub(super) fn nats(&mut self, raw: &raw::Nats) -> Option<NatsConfig> {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let token = match &raw.token {
            SecretSetting::Text(secret) if secret.reveal().is_empty() => None,
            given => Some(given.clone()),
        };
        let config = NatsConfig {
            urls: raw.url.0.iter().filter(|url| !url.is_empty()).cloned().collect(),
            token,
            credentials_file: text(&raw.credentials_file),
            nkey_file: text(&raw.nkey_file),
            ca_file: text(&raw.ca_file),
            client_certificate_file: text(&raw.client_certificate_file),
            client_key_file: text(&raw.client_key_file),
            stream: raw.stream.clone(),
            subjects: raw.subjects.0.clone(),
            monitor_urls: raw.monitor_url.0.iter().filter(|url| !url.is_empty()).cloned().collect(),
        };
        if !config.urls.is_empty() {
            return Some(config);
        }
        let files = [&config.credentials_file, &config.nkey_file, &config.ca_file, &config.client_certificate_file];
        if config.token.is_some() || files.iter().any(|file| file.is_some()) || !config.monitor_urls.is_empty() {
            self.wrong("nats.url", "the section has other keys, so the URL of a server is needed: nats://HOST:PORT");
        }
        None
    }
}
