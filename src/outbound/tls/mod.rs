//! tls: whom a webhook trusts and as whom it comes, where it has settings of its own: from PEM to what rustls wants, made once.
//!
//! Promises: certificates are kept as what was read of them, so that nothing else that stood beside them is ever shown; a
//! configuration of one webhook's settings resumes no session of another's. Verification cannot be switched off: a private
//! authority is trusted by being named. Must never know: connections, webhooks, files.

mod pem;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use self::pem::{certificates, private_key, written};
use crate::limits::TLS_SESSIONS_PER_WEBHOOK;
use crate::model::Secret;

/// Settings as text. Certificates are in PEM, as [`EndpointTls::try_new`] writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates that are trusted in place of the usual authorities; `None`: the usual ones.
    pub ca: Option<Box<str>>,
    /// The certificate shown to an endpoint that asks for one, with those that lead from it to its authority.
    pub client_certificate: Option<Box<str>>,
    /// Its key.
    pub client_key: Option<Secret>,
}

/// Settings, and the configuration made from them when the first connection needs it. Who holds the same one may share
/// connections; equal texts are not enough.
pub struct EndpointTls {
    settings: TlsSettings,
    made: OnceLock<Result<Arc<ClientConfig>, Box<str>>>,
}

/// What is wrong with settings, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// No certificate at all.
    #[error("expected one or more certificates in PEM: -----BEGIN CERTIFICATE----- and what follows")]
    NoCertificate,
    /// A key, or something else that should not be shown.
    #[error("expected certificates alone; a private key belongs into client_key, and nothing else here")]
    NotOnlyCertificates,
    /// PEM that is cut or damaged.
    #[error("the PEM cannot be read: {0}")]
    Pem(Box<str>),
    /// A certificate that rustls does not take.
    #[error("certificate {0} cannot be used: {1}")]
    Certificate(usize, Box<str>),
    /// No key, or one that needs a password.
    #[error("expected one private key in PEM that is not encrypted: PKCS #8, SEC1 or PKCS #1")]
    NoKey,
    /// A kind of key that cannot sign here.
    #[error("expected a key that is RSA of 2,048 to 4,096 bits, ECDSA on P-256 or P-384, or Ed25519")]
    UnsupportedKey,
    /// The key of another certificate.
    #[error("is not the key of client_certificate, whose first certificate must be the client's own")]
    OtherKey,
    /// One without the other.
    #[error("client_certificate and client_key belong together: expected both or neither")]
    Half,
}

/// The field that is wrong, and why.
pub type FieldFault = (&'static str, TlsFault);

impl EndpointTls {
    /// Settings that were just given: checked whole, and certificates written anew, without what stood around them.
    ///
    /// # Errors
    /// For the first thing that is wrong.
    pub fn try_new(settings: TlsSettings) -> Result<Self, FieldFault> {
        let TlsSettings { ca, client_certificate, client_key } = settings;
        let rewritten = |field, text: Option<Box<str>>| {
            text.map(|text| certificates(&text).map(|all| written(&all))).transpose().map_err(|fault| (field, fault))
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

    /// Settings that were checked when they were given. What this program cannot use any more fails connections, with its
    /// reason, and does not keep a server from starting.
    pub fn stored(settings: TlsSettings) -> Self {
        Self { settings, made: OnceLock::new() }
    }

    /// As they are kept.
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// The configuration for connections; `usual` is that of webhooks without settings, always the same one.
    ///
    /// # Errors
    /// In words, if it cannot be made.
    pub fn config(&self, usual: &ClientConfig) -> Result<Arc<ClientConfig>, Box<str>> {
        let make = || match self.settings.config(usual) {
            Ok(config) => Ok(Arc::new(config)),
            Err((field, fault)) => Err(format!("tls.{field}: {fault}").into()),
        };
        self.made.get_or_init(make).clone()
    }
}

impl TlsSettings {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn config(&self, usual: &ClientConfig) -> Result<ClientConfig, FieldFault> {
        let mut config = match self.roots()? {
            Some(roots) => {
                client_config(roots).map_err(|why| ("ca", TlsFault::Certificate(1, why.to_string().into())))?
            }
            None => usual.clone(),
        };
        // A session that is resumed has the identity that it began with.
        config.resumption = Resumption::in_memory_sessions(TLS_SESSIONS_PER_WEBHOOK);
        if let Some(identity) = self.identity()? {
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity));
        }
        Ok(config)
    }

    fn roots(&self) -> Result<Option<RootCertStore>, FieldFault> {
        let Some(text) = &self.ca else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for (n, certificate) in certificates(text).map_err(|fault| ("ca", fault))?.into_iter().enumerate() {
            roots.add(certificate).map_err(|why| ("ca", TlsFault::Certificate(n + 1, why.to_string().into())))?;
        }
        Ok(Some(roots))
    }

    fn identity(&self) -> Result<Option<CertifiedKey>, FieldFault> {
        let (text, key) = match (&self.client_certificate, &self.client_key) {
            (None, None) => return Ok(None),
            (Some(text), Some(key)) => (text, key),
            (None, Some(_)) => return Err(("client_certificate", TlsFault::Half)),
            (Some(_), None) => return Err(("client_key", TlsFault::Half)),
        };
        let chain = certificates(text).map_err(|fault| ("client_certificate", fault))?;
        let key = private_key(key.reveal()).map_err(|fault| ("client_key", fault))?;
        let key = ring::sign::any_supported_type(&key).map_err(|_| ("client_key", TlsFault::UnsupportedKey))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => Ok(Some(certified)),
            Err(rustls::Error::InconsistentKeys(_)) => Err(("client_key", TlsFault::OtherKey)),
            Err(why) => Err(("client_certificate", TlsFault::Certificate(1, why.to_string().into()))),
        }
    }
}

impl fmt::Debug for EndpointTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// A configuration that trusts `roots`, shows no certificate, and speaks HTTP/1.1 alone.
///
/// # Errors
/// When rustls takes none such.
pub fn client_config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
