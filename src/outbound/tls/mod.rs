//! tls: the TLS settings of a webhook. PEM texts are compiled once to a configuration of rustls.
//!
//! Invariants:
//!
//! - Certificates are stored as re-encoded PEM, so no other text around them is ever shown.
//! - The configuration for one webhook never resumes a session of another webhook.
//! - Verification cannot be switched off. A private authority is trusted only if its certificate is given.
//!
//! This folder must never know connections, webhooks or files.

mod pem;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use self::pem::{certificates, private_key, to_pem};
use crate::limits::TLS_SESSIONS_PER_WEBHOOK;
use crate::model::Secret;

/// TLS settings as text. Certificates are in PEM, as [`EndpointTls::try_new`] writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The trusted certificates, which replace the default authorities; `None` means the default authorities.
    pub ca: Option<Box<str>>,
    /// The client certificate, followed by the certificates of its chain. An endpoint that requests a certificate
    /// receives it.
    pub client_certificate: Option<Box<str>>,
    /// The private key of the client certificate.
    pub client_key: Option<Secret>,
}

/// TLS settings with the configuration, which is built when the first connection needs it. Connections may be shared
/// only between users of the same instance. Equal texts are not enough.
pub struct EndpointTls {
    settings: TlsSettings,
    client_config: OnceLock<Result<Arc<ClientConfig>, Box<str>>>,
}

/// What is wrong with a TLS setting, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsSettingsError {
    /// The text contains no certificate.
    #[error("expected one or more certificates in PEM: -----BEGIN CERTIFICATE----- and what follows")]
    NoCertificate,
    /// The text contains a private key or another section that must not be shown.
    #[error("expected certificates alone; a private key belongs into client_key, and nothing else here")]
    NotOnlyCertificates,
    /// The PEM is truncated or damaged.
    #[error("the PEM cannot be read: {0}")]
    Pem(Box<str>),
    /// A certificate that rustls does not accept, with its position in the text, starting at 1.
    #[error("certificate {0} cannot be used: {1}")]
    Certificate(usize, Box<str>),
    /// The text contains no key, or a key that needs a password.
    #[error("expected one private key in PEM that is not encrypted: PKCS #8, SEC1 or PKCS #1")]
    NoKey,
    /// The key has an unsupported type.
    #[error("expected a key that is RSA of 2,048 to 4,096 bits, ECDSA on P-256 or P-384, or Ed25519")]
    UnsupportedKey,
    /// The key belongs to another certificate.
    #[error("is not the key of client_certificate, whose first certificate must be the client's own")]
    KeyMismatch,
    /// Only one of certificate and key is given.
    #[error("client_certificate and client_key belong together: expected both or neither")]
    IncompletePair,
}

/// The name of the wrong field, and what is wrong.
pub type TlsFieldError = (&'static str, TlsSettingsError);

impl EndpointTls {
    /// Checks all settings that a client gave, and encodes the certificates again, without the text around them.
    ///
    /// # Errors
    /// The first error.
    pub fn try_new(settings: TlsSettings) -> Result<Self, TlsFieldError> {
        let TlsSettings { ca, client_certificate, client_key } = settings;
        let rewritten = |field, text: Option<Box<str>>| {
            text.map(|text| certificates(&text).map(|all| to_pem(&all))).transpose().map_err(|error| (field, error))
        };
        let settings = TlsSettings {
            ca: rewritten("ca", ca)?,
            client_certificate: rewritten("client_certificate", client_certificate)?,
            client_key,
        };
        settings.roots()?;
        settings.identity()?;
        Ok(Self::stored(settings))
    }

    /// Wraps stored settings, which were checked when they were given. If this program can no longer use the settings,
    /// connections fail with the reason, and the server still starts.
    pub fn stored(settings: TlsSettings) -> Self {
        Self { settings, client_config: OnceLock::new() }
    }

    /// The stored settings.
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// The configuration for connections. `default_config` is the configuration of webhooks without settings. Every
    /// call must pass the same `default_config`.
    ///
    /// # Errors
    /// The reason as text, if the configuration cannot be built.
    pub fn config(&self, default_config: &ClientConfig) -> Result<Arc<ClientConfig>, Box<str>> {
        let make = || match self.settings.config(default_config) {
            Ok(config) => Ok(Arc::new(config)),
            Err((field, error)) => Err(format!("tls.{field}: {error}").into()),
        };
        self.client_config.get_or_init(make).clone()
    }
}

impl TlsSettings {
    /// Whether no setting is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn config(&self, default_config: &ClientConfig) -> Result<ClientConfig, TlsFieldError> {
        let mut config = match self.roots()? {
            Some(roots) => {
                client_config(roots).map_err(|why| ("ca", TlsSettingsError::Certificate(1, why.to_string().into())))?
            }
            None => default_config.clone(),
        };
        // A resumed session keeps the client identity of the first session, so sessions are not shared with other
        // webhooks.
        config.resumption = Resumption::in_memory_sessions(TLS_SESSIONS_PER_WEBHOOK);
        if let Some(identity) = self.identity()? {
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity));
        }
        Ok(config)
    }

    fn roots(&self) -> Result<Option<RootCertStore>, TlsFieldError> {
        let Some(text) = &self.ca else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for (n, certificate) in certificates(text).map_err(|error| ("ca", error))?.into_iter().enumerate() {
            roots
                .add(certificate)
                .map_err(|why| ("ca", TlsSettingsError::Certificate(n + 1, why.to_string().into())))?;
        }
        Ok(Some(roots))
    }

    fn identity(&self) -> Result<Option<CertifiedKey>, TlsFieldError> {
        let (text, key) = match (&self.client_certificate, &self.client_key) {
            (None, None) => return Ok(None),
            (Some(text), Some(key)) => (text, key),
            (None, Some(_)) => return Err(("client_certificate", TlsSettingsError::IncompletePair)),
            (Some(_), None) => return Err(("client_key", TlsSettingsError::IncompletePair)),
        };
        let chain = certificates(text).map_err(|error| ("client_certificate", error))?;
        let key = private_key(key.reveal()).map_err(|error| ("client_key", error))?;
        let key = ring::sign::any_supported_type(&key).map_err(|_| ("client_key", TlsSettingsError::UnsupportedKey))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => Ok(Some(certified)),
            Err(rustls::Error::InconsistentKeys(_)) => Err(("client_key", TlsSettingsError::KeyMismatch)),
            Err(why) => Err(("client_certificate", TlsSettingsError::Certificate(1, why.to_string().into()))),
        }
    }
}

impl fmt::Debug for EndpointTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// Creates a configuration that trusts `roots`, presents no client certificate, and speaks only HTTP/1.1.
///
/// # Errors
/// [`rustls::Error`] if rustls refuses the configuration.
pub fn client_config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
