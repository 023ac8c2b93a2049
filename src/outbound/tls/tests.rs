//! Tests of TLS settings: which are accepted, how they are stored, and why others are refused.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use rustls::pki_types::CertificateDer;

use super::*;

const CA: &str = include_str!("../../../tests/data/tls/ca.pem");
const ONE: &str = include_str!("../../../tests/data/tls/client-one.pem");
const ONE_KEY: &str = include_str!("../../../tests/data/tls/client-one.key");
const TWO: &str = include_str!("../../../tests/data/tls/client-two.pem");
const TWO_KEY: &str = include_str!("../../../tests/data/tls/client-two.key");
/// ECDSA on P-521, with which rustls does not sign.
const P521_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIBz4HrI5mxkTBtkkZu
uP8j+FuIE8yHR6G1yf5N2wAOcCQ8wWBKuzMwfRq4lBRZfeiYhnhm4BOziE7o7V1r
bEfhc56hgYkDgYYABAH/2yZJ/378XIRb9pUPHith+QUqoBMI76rWLj3ObB7r5mWd
ATW90nkKj/BhdVtP7kPle8eApauvEBWMJGdkx8m47AHiH4//Ki9ZtJN/lKmbqaUW
9SIaVn2pcYdJwSIShheC3UpLhnxLgrZceerdkD752GasNdlYNn7MLu/4yaxLssmt
sw==
-----END PRIVATE KEY-----
";

fn settings(ca: &str, certificate: &str, key: &str) -> TlsSettings {
    let given = |text: &str| (!text.is_empty()).then(|| text.into());
    TlsSettings { ca: given(ca), client_certificate: given(certificate), client_key: given(key).map(Secret::new) }
}

fn default_config() -> ClientConfig {
    client_config(RootCertStore::empty()).unwrap()
}

#[test]
fn matching_settings_are_accepted() {
    let chain = format!("{TWO}{ONE}");
    for (ca, certificate, key) in
        [(CA, "", ""), ("", ONE, ONE_KEY), (CA, TWO, TWO_KEY), (&chain, &chain, TWO_KEY), ("", "", "")]
    {
        let tls = EndpointTls::try_new(settings(ca, certificate, key)).unwrap();
        let config = tls.config(&default_config()).unwrap();
        assert_eq!(config.client_auth_cert_resolver.has_certs(), !key.is_empty());
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
        assert!(Arc::ptr_eq(&config, &tls.config(&default_config()).unwrap()), "made once");
    }
}

#[test]
fn certificates_are_stored_without_other_text() {
    let around = format!("subject=CN = canary\r\n{}\nBag Attributes: canary\n", CA.replace('\n', "\r\n"));
    let tls = EndpointTls::try_new(settings(&around, "", "")).unwrap();
    assert_eq!(tls.settings().ca.as_deref(), Some(CA), "and in the usual form");
}

#[test]
fn invalid_settings_are_refused_with_their_field() {
    let both = format!("{ONE}{ONE_KEY}");
    let cut = CA.replace("-----END CERTIFICATE-----\n", "");
    let not_base64 = CA.replacen("MII", "M*I", 1);
    let no_certificate = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nYWJj\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let cut_key = ONE_KEY.replace("-----END PRIVATE KEY-----\n", "");
    let other_order = format!("{CA}{ONE}");
    for (ca, certificate, key, field, words) in [
        ("no PEM", "", "", "ca", "expected one or more certificates"),
        (ONE_KEY, "", "", "ca", "certificates alone"),
        (&cut, "", "", "ca", "a section has no end"),
        (&not_base64, "", "", "ca", "not base64"),
        (no_certificate, "", "", "ca", "certificate 1 cannot be used"),
        ("", &both, ONE_KEY, "client_certificate", "certificates alone"),
        ("", no_certificate, ONE_KEY, "client_certificate", "certificate 1 cannot be used"),
        ("", ONE, "", "client_key", "both or neither"),
        ("", "", ONE_KEY, "client_certificate", "both or neither"),
        ("", ONE, "no PEM", "client_key", "expected one private key"),
        ("", ONE, encrypted, "client_key", "not encrypted"),
        ("", ONE, &cut_key, "client_key", "cut or damaged"),
        ("", ONE, P521_KEY, "client_key", "P-256 or P-384"),
        ("", ONE, TWO_KEY, "client_key", "not the key of client_certificate"),
        ("", &other_order, ONE_KEY, "client_key", "must be the client's own"),
    ] {
        let (wrong, fault) = EndpointTls::try_new(settings(ca, certificate, key)).unwrap_err();
        assert_eq!(wrong, field, "{fault}");
        assert!(fault.to_string().contains(words), "{fault}");
    }
}

#[test]
fn other_pem_sections_are_refused() {
    for label in
        ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "PUBLIC KEY", "X509 CRL", "TRUSTED CERTIFICATE", "ANYTHING", ""]
    {
        let other = format!("-----BEGIN {label}-----\nYWJj\n-----END {label}-----\n");
        for text in [format!("{CA}{other}"), format!("{other}{CA}"), other.clone(), format!("{CA}-----BEGIN {label}\n")]
        {
            assert_eq!(certificates(&text), Err(TlsSettingsError::NotOnlyCertificates), "{label}");
        }
    }
}

proptest! {
    #[test]
    fn written_certificates_are_read_back(
        ders in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..4),
    ) {
        let ders: Vec<CertificateDer<'static>> = ders.into_iter().map(CertificateDer::from).collect();
        let text = to_pem(&ders);
        prop_assert!(text.lines().all(|line| line.len() <= 64) && text.ends_with("-----END CERTIFICATE-----\n"));
        prop_assert_eq!(certificates(&text), Ok(ders));
    }

    #[test]
    fn any_text_is_read_or_refused(
        from in select(vec![CA, ONE, ONE_KEY, TWO, TWO_KEY, "", "-----BEGIN CERTIFICATE-----\n"]),
        at in any::<Index>(),
        length in 0..80_usize,
        more in "(-----(BEGIN|END) (CERTIFICATE|PRIVATE KEY|X)-----|[A-Za-z=+/ \\-]|\n|\r|\\PC){0,12}",
    ) {
        let mut text = from.to_owned();
        let start = at.index(text.len() + 1);
        text.replace_range(start..(start + length).min(from.len()), &more);
        let _ = (certificates(&text), private_key(&text));
        let _ = EndpointTls::try_new(settings(&text, &text, &text));
        let _ = EndpointTls::try_new(settings("", ONE, &text));
    }
}

#[test]
fn unusable_stored_settings_fail_when_used() {
    let tls = EndpointTls::stored(settings("", ONE, P521_KEY));
    let why = tls.config(&default_config()).unwrap_err();
    assert!(why.starts_with("tls.client_key: expected a key that is RSA"), "{why}");
    assert!(!format!("{tls:?}").contains("MIHu"), "no key is printed");
}
