//! PEM (RFC 7468): certificates and keys out of it, certificates back into it.

use data_encoding::BASE64;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsFault;

const BEGIN: &str = "-----BEGIN ";
const CERTIFICATE: &str = "CERTIFICATE-----";
/// Characters of a line.
const LINE: usize = 64;

/// All certificates, if there is nothing else but text between them.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let mut sections = text.lines().filter_map(|line| line.trim_start().strip_prefix(BEGIN));
    if sections.any(|label| label.trim_end() != CERTIFICATE) {
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
    let mut text = String::new();
    for certificate in certificates {
        let base64 = BASE64.encode(certificate);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for start in (0..base64.len()).step_by(LINE) {
            text.push_str(&base64[start..base64.len().min(start + LINE)]);
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text.into()
}
