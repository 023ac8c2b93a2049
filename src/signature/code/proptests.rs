//! Certificates from arbitrary bytes: each is parsed or refused, without a panic.

use std::fs;
use std::path::Path;

use data_encoding::BASE64;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::certificate::SignatureDigest;
use super::{Certificate, CertificateError};

/// What happens to the bytes of a certificate.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Truncate(Index),
}

impl Mutation {
    fn apply_all(mutations: &[Self], bytes: &mut Vec<u8>) {
        for mutation in mutations {
            mutation.apply(bytes);
        }
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |index: &Index| index.index(bytes.len().max(1)).min(bytes.len());
        match self {
            Self::Set(index, value) => {
                let at = at(index);
                bytes.splice(at..bytes.len().min(at + 1), [*value]);
            }
            Self::Insert(index, more) => {
                let at = at(index);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(index, length) => {
                let at = at(index);
                bytes.drain(at..bytes.len().min(at + length));
            }
            Self::Truncate(index) => bytes.truncate(at(index)),
        }
    }
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let one = prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Mutation::Set(at, value)),
        // Tags and lengths, which decide how the rest is read.
        2 => (any::<Index>(), select(vec![0x00, 0x02, 0x03, 0x06, 0x17, 0x18, 0x30, 0x31, 0x80, 0x84, 0xa0, 0xa3, 0xff]))
            .prop_map(|(at, value)| Mutation::Set(at, value)),
        1 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(|(at, more)| Mutation::Insert(at, more)),
        1 => (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        1 => any::<Index>().prop_map(Mutation::Truncate),
    ];
    prop::collection::vec(one, 1..6)
}

/// The certificates of `tests/data/certificates`, in PEM.
fn texts() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/certificates");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let files = ["chain.pem", "elliptic.pem", "other-name.pem", "root.pem"].map(read);
    let vectors: Vec<String> = read("vectors.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["key"].as_str().unwrap_or_default().to_owned())
        .filter(|key| key.contains("BEGIN CERTIFICATE"))
        .collect();
    assert!(!vectors.is_empty());
    files.into_iter().chain(vectors).collect()
}

fn ders() -> Vec<Vec<u8>> {
    let all = |text: String| CertificateDer::pem_slice_iter(text.as_bytes()).map(|der| der.unwrap().to_vec()).collect();
    texts().into_iter().flat_map::<Vec<_>, _>(all).collect()
}

fn wrap(der: &[u8]) -> Vec<u8> {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(der)).into_bytes()
}

/// Parses a certificate and calls every check that depends only on its bytes.
fn read(pem: &[u8]) -> Result<(), CertificateError> {
    for read in [Certificate::from_pem(pem), Certificate::fetched(pem)] {
        let certificate = read?;
        let not_after = certificate.not_after();
        let _ = (certificate.check_dates(not_after), certificate.not_after().to_string());
        let _ = certificate.check_issued_below("paypal.com", not_after);
        let _ = certificate.check_chain(webpki_roots::TLS_SERVER_ROOTS, not_after);
        assert!(certificate.verify(SignatureDigest::Sha256, b"never signed", &[0x5a; 256]).is_err());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(read(&bytes), Err(CertificateError::Pem));
        prop_assert!(read(&wrap(&bytes)).is_err());
    }

    #[test]
    fn a_changed_certificate_is_read_or_refused(der in select(ders()), mutations in mutations()) {
        let mut der = der;
        Mutation::apply_all(&mutations, &mut der);
        let _ = read(&wrap(&der));
    }

    #[test]
    fn a_cut_certificate_is_refused(der in select(ders()), at in any::<Index>()) {
        prop_assert!(read(&wrap(&der[..at.index(der.len())])).is_err());
    }

    #[test]
    fn changed_pem_is_read_or_refused(text in select(texts()), mutations in mutations()) {
        let mut bytes = text.into_bytes();
        Mutation::apply_all(&mutations, &mut bytes);
        let _ = read(&bytes);
    }
}
