//! X.509 certificates (RFC 5280), which verify the signatures of a sender.

use ring::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters, UnparsedPublicKey,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::asn1_rs::{Any, FromDer, Sequence, Tag};
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::nom::{Offset, Parser};
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;

use crate::limits::CERTIFICATE_CHAIN_MAX;
use crate::model::Timestamp;
use crate::signature::VerifyError;

/// A certificate with an RSA key, and its chain.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate itself, followed by the certificates of its chain.
    chain: Box<[CertificateDer<'static>]>,
    trust: Trust,
    not_before: Timestamp,
    not_after: Timestamp,
    /// The key in the form of RFC 8017, which ring reads.
    key: Box<[u8]>,
    /// The DNS names.
    names: Box<[Box<str>]>,
}

/// Why a certificate is trusted to belong to the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// The settings of the source contain the certificate.
    Pinned,
    /// The certificate was fetched from a host of the provider.
    Fetched,
}

/// The digest of an RSA signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureDigest {
    Sha1,
    Sha256,
}

/// Why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The text is not PEM, or contains no certificate.
    #[error("expected a certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    Pem,
    /// The chain is too long.
    #[error("more than {CERTIFICATE_CHAIN_MAX} certificates")]
    TooMany,
    /// The certificate cannot be parsed.
    #[error("not a certificate of RFC 5280")]
    Malformed,
    /// The key is not an RSA key.
    #[error("its key is not RSA")]
    NotRsa,
}

impl Certificate {
    /// Reads a certificate from the settings of a source. The certificate is trusted without a check of its chain,
    /// within its validity period.
    ///
    /// # Errors
    /// [`CertificateError`] unless the text is PEM with one certificate or a chain, the sender's own certificate first,
    /// with an RSA key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        Self::read(pem, Trust::Pinned)
    }

    /// Reads a certificate that was fetched from a host of the provider. Its name and the chain that came with it are
    /// checked as well.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn fetched(pem: &[u8]) -> Result<Self, CertificateError> {
        Self::read(pem, Trust::Fetched)
    }

    fn read(pem: &[u8], trust: Trust) -> Result<Self, CertificateError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
            .take(CERTIFICATE_CHAIN_MAX + 1)
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::Pem)?;
        if chain.len() > CERTIFICATE_CHAIN_MAX {
            return Err(CertificateError::TooMany);
        }
        let leaf = chain.first().ok_or(CertificateError::Pem)?;
        let CertificateFields { not_before, not_after, key } = CertificateFields::read(leaf)?;
        // A certificate of version 1 has no such names.
        let names = EndEntityCert::try_from(leaf)
            .map(|leaf| leaf.valid_dns_names().map(|name| name.to_ascii_lowercase().into()).collect())
            .unwrap_or_default();
        Ok(Self { trust, not_before, not_after, key, names, chain: chain.into() })
    }

    /// The end of the validity period.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Checks that `now` is within the validity period.
    pub(super) fn check_dates(&self, now: Timestamp) -> Result<(), VerifyError> {
        if now < self.not_before {
            return Err(refused(format!("it is not valid before {}", self.not_before)));
        }
        if now > self.not_after {
            return Err(refused(format!("it was valid until {}", self.not_after)));
        }
        Ok(())
    }

    /// Checks that a fetched certificate has a name under `domain`. If the certificate came with a chain, the chain
    /// must lead to an authority that browsers trust. A certificate without a chain is trusted because of the host that
    /// served it, over a connection that was verified the same way. A certificate from the settings is not checked.
    pub(super) fn check_issued_below(&self, domain: &str, now: Timestamp) -> Result<(), VerifyError> {
        if self.trust == Trust::Pinned {
            return Ok(());
        }
        let below = |name: &str| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        if !self.names.iter().any(|name| below(name)) {
            return Err(refused(format!("it is not one for *.{domain}")));
        }
        match self.chain.len() {
            1 => Ok(()),
            _ => self.check_chain(webpki_roots::TLS_SERVER_ROOTS, now),
        }
    }

    /// Checks that the chain leads to one of these authorities.
    pub(super) fn check_chain(&self, anchors: &[TrustAnchor<'_>], now: Timestamp) -> Result<(), VerifyError> {
        let since_1970 = now.since(Timestamp::from_millis(0));
        let [leaf, others @ ..] = &*self.chain else { return Err(refused("there is none")) };
        EndEntityCert::try_from(leaf)
            .and_then(|leaf| {
                leaf.verify_for_usage(
                    webpki::ALL_VERIFICATION_ALGS,
                    anchors,
                    others,
                    UnixTime::since_unix_epoch(since_1970),
                    KeyUsage::server_auth(),
                    None,
                    None,
                )
                .map(|_| ())
            })
            .map_err(|why| refused(format!("its chain leads to no known authority: {why}")))
    }

    /// Verifies a signature by the key of the certificate (RSASSA-PKCS1-v1_5).
    pub(super) fn verify(&self, digest: SignatureDigest, message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        let parameters: &RsaParameters = match digest {
            SignatureDigest::Sha1 => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            SignatureDigest::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        let key = UnparsedPublicKey::new(parameters, &self.key);
        key.verify(message, signature).map_err(|_| VerifyError::Mismatch)
    }
}

/// The parts of a certificate that webpki does not give. webpki reads the DNS names and checks chains. But it does not
/// return dates, and it refuses certificates of version 1, which a source may still pin.
struct CertificateFields {
    not_before: Timestamp,
    not_after: Timestamp,
    key: Box<[u8]>,
}

impl CertificateFields {
    fn read(der: &[u8]) -> Result<Self, CertificateError> {
        // The contents of extensions are not parsed, because nothing here depends on them.
        let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
        let Ok(([], certificate)) = parser.parse(der) else { return Err(CertificateError::Malformed) };
        let public_key = certificate.public_key();
        if !has_exact_dates(&certificate) || public_key.subject_public_key.unused_bits != 0 {
            return Err(CertificateError::Malformed);
        }
        if public_key.algorithm.algorithm != OID_PKCS1_RSAENCRYPTION {
            return Err(CertificateError::NotRsa);
        }
        let validity = certificate.validity();
        let [not_before, not_after] = [validity.not_before, validity.not_after]
            .map(|date| Timestamp::from_millis(date.timestamp().saturating_mul(1000)));
        Ok(Self { not_before, not_after, key: (&*public_key.subject_public_key.data).into() })
    }
}

/// Whether both dates have seconds and are in UTC (RFC 5280 section 4.1.2.5). x509-parser also accepts other forms of
/// ASN.1 and does not keep the text. So this function reads the dates at their position between issuer and subject.
fn has_exact_dates(certificate: &X509Certificate<'_>) -> bool {
    let whole = certificate.as_raw();
    let (issuer, subject) = (certificate.issuer().as_raw(), certificate.subject().as_raw());
    let between = whole.get(whole.offset(issuer) + issuer.len()..whole.offset(subject));
    let Some(Ok(([], validity))) = between.map(Sequence::from_der) else { return false };
    let is_exact = |date: &Any<'_>| {
        let bytes = match date.tag() {
            Tag::UtcTime => "YYMMDDhhmmssZ".len(),
            Tag::GeneralizedTime => "YYYYMMDDhhmmssZ".len(),
            _ => return false,
        };
        date.data.len() == bytes && date.data.ends_with(b"Z")
    };
    let dates: Result<Vec<Any<'_>>, _> = validity.der_iter().collect();
    dates.is_ok_and(|dates| dates.len() == 2 && dates.iter().all(is_exact))
}

fn refused(why: impl Into<Box<str>>) -> VerifyError {
    VerifyError::Certificate(why.into())
}
