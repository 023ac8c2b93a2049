//! PEM (RFC 7468): certificates and keys out of it, certificates back into it.

use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsFault;

/// The label of the only kind of section that a list of certificates may have.
const LABEL: &str = "CERTIFICATE";

/// All certificates of a text that has no other kind of PEM section.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    // rustls-pki-types skips other sections without a word. A private key among certificates is a mistake to report.
    let mut labels = text.lines().filter_map(|line| line.trim_start().strip_prefix("-----BEGIN "));
    if labels.any(|label| label.trim_end().strip_suffix("-----") != Some(LABEL)) {
        return Err(TlsFault::NotOnlyCertificates);
    }
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let all = all.map_err(|why| damaged(&why))?;
    if all.is_empty() { Err(TlsFault::NoCertificate) } else { Ok(all) }
}

/// The first key.
pub(super) fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, TlsFault> {
    match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(key) => Ok(key),
        Err(Error::NoItemsFound) => Err(TlsFault::NoKey),
        // What it says of the text may be a part of the key.
        Err(_) => Err(TlsFault::Pem("it is cut or damaged".into())),
    }
}

fn damaged(why: &Error) -> TlsFault {
    match why {
        Error::MissingSectionEnd { .. } => TlsFault::Pem("a section has no end".into()),
        Error::Base64Decode(_) => TlsFault::Pem("a section is not base64".into()),
        _ => TlsFault::Pem("a section is damaged".into()),
    }
}

/// Certificates as PEM, and nothing else.
pub(super) fn written(certificates: &[CertificateDer<'_>]) -> Box<str> {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let section = |der: &CertificateDer<'_>| pem::encode_config(&Pem::new(LABEL, der.as_ref()), config);
    certificates.iter().map(section).collect::<String>().into()
}
