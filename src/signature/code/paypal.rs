//! PayPal: an RSA signature over `{transmission id}|{time}|{webhook id}|{CRC32 of the body}`, by a certificate whose
//! URL is in a header (<https://developer.paypal.com/api/rest/webhooks/rest/>).
//!
//! Only a CRC32 binds the body, and anyone can find another body with the same CRC32. So an attacker who has seen one
//! signed request could send others with the same signature. Therefore the transmission id, which is signed, is
//! accepted only once (the setting `nonce` of the recipe).

use std::time::Duration;

use url::Url;

use super::certificate::SignatureDigest;
use super::{Certificate, exact_https, header, signature};
use crate::model::{Secret, Timestamp};
use crate::signature::{RequestParts, VerifyError};

const ID: &str = "paypal-transmission-id";
const TIME: &str = "paypal-transmission-time";
const SIGNATURE: &str = "paypal-transmission-sig";
const CERTIFICATE_URL: &str = "paypal-cert-url";
const ALGORITHM: &str = "paypal-auth-algo";

/// The only accepted algorithm, whatever a request names.
const SHA256_WITH_RSA: &str = "SHA256withRSA";
const HOSTS: [&str; 4] = ["api.paypal.com", "api-m.paypal.com", "api.sandbox.paypal.com", "api-m.sandbox.paypal.com"];
/// The path of certificates on these hosts. Other content of the hosts is not accepted as a certificate.
const PATH: &str = "/v1/notifications/certs/";
const DOMAIN: &str = "paypal.com";

/// The signature headers of a request.
#[derive(Debug)]
pub(super) struct Transmission<'a> {
    id: &'a str,
    time: &'a str,
    sent_at: Timestamp,
    signature: Vec<u8>,
    pub(super) certificate_url: Url,
}

impl<'a> Transmission<'a> {
    /// Parses the headers and checks everything that needs no certificate.
    pub(super) fn read(request: &RequestParts<'a>) -> Result<Self, VerifyError> {
        let text = |name| header(request.headers, name);
        let signature = signature(text(SIGNATURE)?, SIGNATURE)?;
        if text(ALGORITHM)? != SHA256_WITH_RSA {
            return Err(VerifyError::NoSignature { location: ALGORITHM.into(), form: SHA256_WITH_RSA.into() });
        }
        let time = text(TIME)?;
        let sent_at = time.parse().map_err(|_| VerifyError::Time { location: TIME.into(), unit: "RFC 3339" })?;
        let certificate_url = certificate_url(text(CERTIFICATE_URL)?).ok_or_else(|| {
            VerifyError::Certificate(format!("{CERTIFICATE_URL} is not a certificate's address at PayPal").into())
        })?;
        Ok(Self { id: text(ID)?, time, sent_at, signature, certificate_url })
    }

    /// Verifies that the key of the certificate signed the request for one of the webhook ids.
    pub(super) fn verify(
        &self,
        webhook_ids: &[&Secret],
        certificate: &Certificate,
        body: &[u8],
        now: Timestamp,
        tolerance: Duration,
    ) -> Result<(), VerifyError> {
        self.check_time(now, tolerance)?;
        certificate.check_dates(now)?;
        let crc = crc32fast::hash(body);
        let made = |webhook_id: &Secret| {
            let signed = format!("{}|{}|{}|{crc}", self.id, self.time, webhook_id.reveal());
            certificate.verify(SignatureDigest::Sha256, signed.as_bytes(), &self.signature)
        };
        if !webhook_ids.iter().any(|id| made(id).is_ok()) {
            return Err(VerifyError::Mismatch);
        }
        // This check is the most expensive one. So it comes last, and only for a valid signature.
        certificate.check_issued_below(DOMAIN, now)
    }

    fn check_time(&self, now: Timestamp, tolerance: Duration) -> Result<(), VerifyError> {
        let (old, ahead, allowed) = (now.since(self.sent_at), self.sent_at.since(now), tolerance.as_secs());
        let seconds = |by: Duration| by.as_millis().div_ceil(1000) as u64;
        if old > tolerance {
            return Err(VerifyError::TooOld { seconds: seconds(old), allowed });
        }
        if ahead > tolerance {
            return Err(VerifyError::TooNew { seconds: seconds(ahead), allowed });
        }
        Ok(())
    }
}

fn certificate_url(text: &str) -> Option<Url> {
    let url = exact_https(text)?;
    let name = url.path().strip_prefix(PATH)?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (is_name && url.host_str().is_some_and(|host| HOSTS.contains(&host))).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_only_taken_from_paypal() {
        for host in HOSTS {
            let url = format!("https://{host}/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77");
            assert_eq!(certificate_url(&url).map(String::from), Some(url));
        }
        for bad in [
            "http://api.paypal.com/v1/notifications/certs/CERT-1",
            "ftp://api.paypal.com/v1/notifications/certs/CERT-1",
            "//api.paypal.com/v1/notifications/certs/CERT-1",
            "https:api.paypal.com/v1/notifications/certs/CERT-1",
            "https:\\\\api.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com",
            "https://api.paypal.com/",
            "https://api.paypal.com/v1/notifications/certs/",
            "https://api.paypal.com/v1/notifications/certs/../../x",
            "https://api.paypal.com/v1/notifications/certs/%2e%2e/x",
            "https://api.paypal.com/v1/notifications/certs/a/b",
            "https://api.paypal.com/v1/notifications/certs/CERT-1?x=1",
            "https://api.paypal.com/v1/notifications/certs/CERT-1#x",
            "https://api.paypal.com/v2/notifications/certs/CERT-1",
            "https://api.paypal.com/upload/v1/notifications/certs/CERT-1",
            "https://api.paypal.com:443/v1/notifications/certs/CERT-1",
            "https://api.paypal.com:8443/v1/notifications/certs/CERT-1",
            "https://api.paypal.com./v1/notifications/certs/CERT-1",
            "https://API.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1",
            "https://evil@api.paypal.com/v1/notifications/certs/CERT-1",
            "https://evil:x@api.paypal.com/v1/notifications/certs/CERT-1",
            "https://@api.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
            "https://evilapi.paypal.com/v1/notifications/certs/CERT-1",
            "https://xapi-paypal.com/v1/notifications/certs/CERT-1",
            "https://www.paypal.com/v1/notifications/certs/CERT-1",
            "https://paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypa1.com/v1/notifications/certs/CERT-1",
            "https://api.p\u{430}ypal.com/v1/notifications/certs/CERT-1",
            "https://api%2epaypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com%00.evil.example/v1/notifications/certs/CERT-1",
            "https://api.paypal.com\\.evil.example/v1/notifications/certs/CERT-1",
            "https://evil.example\\@api.paypal.com/v1/notifications/certs/CERT-1",
            "https://evil.example/#@api.paypal.com/v1/notifications/certs/CERT-1",
            "https://127.0.0.1/v1/notifications/certs/CERT-1",
            "https://169.254.169.254/v1/notifications/certs/CERT-1",
            "https://[::1]/v1/notifications/certs/CERT-1",
            "https://2130706433/v1/notifications/certs/CERT-1",
            "https://localhost/v1/notifications/certs/CERT-1",
            " https://api.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com/v1/notifications/certs/CERT-1 ",
            "https://api.pay\tpal.com/v1/notifications/certs/CERT-1",
            "file:///v1/notifications/certs/CERT-1",
            "",
        ] {
            assert_eq!(certificate_url(bad), None, "{bad}");
        }
    }
}
