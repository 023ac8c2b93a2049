//! PEM (RFC 7468): decodes certificates and keys, and encodes certificates.

use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsSettingsError;

/// The label of the only kind of section that a list of certificates may contain.
const LABEL: &str = "CERTIFICATE";

/// Decodes all certificates of a text. A text with another kind of PEM section is refused.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, TlsSettingsError> {
    // rustls-pki-types skips other sections silently. A private key among certificates is a mistake to report.
    let mut labels = text.lines().filter_map(|line| line.trim_start().strip_prefix("-----BEGIN "));
    if labels.any(|label| label.trim_end().strip_suffix("-----") != Some(LABEL)) {
        return Err(TlsSettingsError::NotOnlyCertificates);
    }
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let all = all.map_err(|why| damaged(&why))?;
    if all.is_empty() { Err(TlsSettingsError::NoCertificate) } else { Ok(all) }
}

/// Decodes the first private key.
pub(super) fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, TlsSettingsError> {
    match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(key) => Ok(key),
        Err(Error::NoItemsFound) => Err(TlsSettingsError::NoKey),
        // The error message may contain a part of the key.
        Err(_) => Err(TlsSettingsError::Pem("it is cut or damaged".into())),
    }
}

fn damaged(why: &Error) -> TlsSettingsError {
    match why {
        Error::MissingSectionEnd { .. } => TlsSettingsError::Pem("a section has no end".into()),
        Error::Base64Decode(_) => TlsSettingsError::Pem("a section is not base64".into()),
        _ => TlsSettingsError::Pem("a section is damaged".into()),
    }
}

/// Encodes certificates as PEM.
pub(super) fn to_pem(certificates: &[CertificateDer<'_>]) -> Box<str> {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let section = |der: &CertificateDer<'_>| pem::encode_config(&Pem::new(LABEL, der.as_ref()), config);
    certificates.iter().map(section).collect::<String>().into()
}
