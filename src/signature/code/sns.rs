//! Amazon SNS: an RSA signature over some fields of the message, by a certificate whose URL is another field
//! (<https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html>).
//!
//! The signature proves that SNS sent the message, but not that the topic is the user's own, because anyone can have a
//! topic. Therefore the allowed topics are the keys of this scheme. Without keys, the caller checks the topic, which is
//! signed. Requests of "raw message delivery" are not signed at all.

use serde::Deserialize;
use subtle::{Choice, ConstantTimeEq};
use url::Url;

use super::certificate::SignatureDigest;
use super::{Certificate, exact_https, signature};
use crate::model::{Secret, Timestamp};
use crate::signature::{RequestParts, VerifyError};

const RAW_DELIVERY: &str = "x-amz-sns-rawdelivery";

/// The fields of the body. A duplicate field makes the body invalid, so that no reader takes another value than the
/// signed value.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MessageFields {
    r#type: Option<String>,
    message_id: Option<String>,
    topic_arn: Option<String>,
    subject: Option<String>,
    message: Option<String>,
    timestamp: Option<String>,
    token: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
    signature_version: Option<String>,
    #[serde(rename = "SigningCertURL")]
    signing_cert_url: Option<String>,
    signature: Option<String>,
}

/// A parsed message.
#[derive(Debug)]
pub(super) struct SnsMessage {
    topic: String,
    digest: SignatureDigest,
    signature: Vec<u8>,
    signed: String,
    pub(super) certificate_url: Url,
}

impl SnsMessage {
    /// Parses the body and checks everything that needs no certificate.
    pub(super) fn read(request: &RequestParts<'_>) -> Result<Self, VerifyError> {
        if request.headers.contains_key(RAW_DELIVERY) {
            return Err(VerifyError::Missing("a signature (raw message delivery is on for this subscription)".into()));
        }
        let fields: MessageFields =
            serde_json::from_slice(request.body).map_err(|_| VerifyError::Body("JSON of SNS"))?;
        let signature = signature(required(fields.signature.as_ref(), "Signature")?, "Signature")?;
        let digest = match required(fields.signature_version.as_ref(), "SignatureVersion")? {
            "1" => SignatureDigest::Sha1,
            "2" => SignatureDigest::Sha256,
            _ => return Err(VerifyError::NoSignature { location: "SignatureVersion".into(), form: "1 or 2".into() }),
        };
        let certificate_url = certificate_url(required(fields.signing_cert_url.as_ref(), "SigningCertURL")?)
            .ok_or_else(|| VerifyError::Certificate("SigningCertURL is not a certificate's address at SNS".into()))?;
        let topic = required(fields.topic_arn.as_ref(), "TopicArn")?.to_owned();
        Ok(Self { topic, digest, signature, signed: fields.signed()?, certificate_url })
    }

    /// Verifies that the key of the certificate signed the message and that the topic is one of `topics`. An empty list
    /// allows any topic.
    pub(super) fn verify(
        &self,
        topics: &[&Secret],
        certificate: &Certificate,
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        certificate.check_dates(now)?;
        certificate.verify(self.digest, self.signed.as_bytes(), &self.signature)?;
        let known = |topic: &&Secret| topic.reveal().as_bytes().ct_eq(self.topic.as_bytes());
        let found = topics.iter().map(known).fold(Choice::from(0), |found, this| found | this);
        if topics.is_empty() || bool::from(found) { Ok(()) } else { Err(VerifyError::Token) }
    }
}

impl MessageFields {
    /// The signed content: the names and values in the order of the names, each on a line.
    fn signed(&self) -> Result<String, VerifyError> {
        let kind = required(self.r#type.as_ref(), "Type")?;
        let confirms = match kind {
            "Notification" => false,
            "SubscriptionConfirmation" | "UnsubscribeConfirmation" => true,
            _ => return Err(VerifyError::Body("a message of a type that SNS signs")),
        };
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            for part in [name, "\n", value, "\n"] {
                text.push_str(part);
            }
        };
        // An empty message is valid, and so is an empty subject.
        let message = self.message.as_deref().ok_or_else(|| VerifyError::Missing("Message".into()))?;
        line("Message", message);
        line("MessageId", required(self.message_id.as_ref(), "MessageId")?);
        if confirms {
            line("SubscribeURL", required(self.subscribe_url.as_ref(), "SubscribeURL")?);
        } else if let Some(subject) = &self.subject {
            line("Subject", subject);
        }
        line("Timestamp", required(self.timestamp.as_ref(), "Timestamp")?);
        if confirms {
            line("Token", required(self.token.as_ref(), "Token")?);
        }
        line("TopicArn", required(self.topic_arn.as_ref(), "TopicArn")?);
        line("Type", kind);
        Ok(text)
    }
}

fn required<'a>(value: Option<&'a String>, name: &str) -> Result<&'a str, VerifyError> {
    value.map(String::as_str).filter(|value| !value.is_empty()).ok_or_else(|| VerifyError::Missing(name.into()))
}

fn certificate_url(text: &str) -> Option<Url> {
    let url = exact_https(text)?;
    let file = url.path().strip_prefix('/')?.strip_suffix(".pem")?;
    let is_file = !file.is_empty() && file.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (is_file && url.host_str().is_some_and(is_host)).then_some(url)
}

/// Whether a host is `sns.REGION.amazonaws.com`, in China with `.cn`. Looser patterns have let other hosts pass:
/// `sns.s3-us-west-2.amazonaws.com` is a bucket that anyone can own.
fn is_host(host: &str) -> bool {
    let Some(rest) = host.strip_prefix("sns.") else { return false };
    let rest = rest.strip_suffix(".cn").unwrap_or(rest);
    rest.strip_suffix(".amazonaws.com").is_some_and(is_region)
}

/// Whether a name is a region, such as `us-west-2` or `us-gov-east-1`.
fn is_region(name: &str) -> bool {
    let parts: Vec<&str> = name.split('-').collect();
    let [area, directions @ .., number] = &*parts else { return false };
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase());
    area.len() == 2
        && is_word(area)
        && matches!(directions.len(), 1..=2)
        && directions.iter().all(|word| is_word(word))
        && (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_only_taken_from_sns() {
        for good in [
            "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
            "https://sns.us-gov-east-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
            "https://sns.cn-northwest-1.amazonaws.com.cn/SimpleNotificationService-f3ec.pem",
            "https://sns.ap-southeast-7.amazonaws.com/x.pem",
        ] {
            assert_eq!(certificate_url(good).map(String::from).as_deref(), Some(good));
        }
        for bad in [
            "http://sns.us-west-2.amazonaws.com/c.pem",
            "https://sns.us-west-2.amazonaws.com:443/c.pem",
            "https://sns.us-west-2.amazonaws.com:8443/c.pem",
            "https://sns.us-west-2.amazonaws.com./c.pem",
            "https://SNS.us-west-2.amazonaws.com/c.pem",
            "https://x@sns.us-west-2.amazonaws.com/c.pem",
            "https://sns.us-west-2.amazonaws.com@evil.example/c.pem",
            "https://sns.us-west-2.amazonaws.com.evil.example/c.pem",
            "https://sns.us-west-2.amazonaws.com.cn.evil.example/c.pem",
            "https://evil-sns.us-west-2.amazonaws.com/c.pem",
            "https://evil.sns.us-west-2.amazonaws.com/c.pem",
            "https://sns.us-west-2.amazonaws.org/c.pem",
            "https://sns.us-west-2.amazonaws.com.br/c.pem",
            "https://sns.us-west-2.evilamazonaws.com/c.pem",
            "https://sns.evil.example.amazonaws.com/c.pem",
            // Buckets called "sns".
            "https://sns.s3.amazonaws.com/c.pem",
            "https://sns.s3-us-west-2.amazonaws.com/c.pem",
            "https://sns.s3.us-west-2.amazonaws.com/c.pem",
            "https://sns.amazonaws.com/c.pem",
            "https://sns..amazonaws.com/c.pem",
            "https://sns.-.amazonaws.com/c.pem",
            "https://sns.us--2.amazonaws.com/c.pem",
            "https://sns.us-west-.amazonaws.com/c.pem",
            "https://sns.us-west-222.amazonaws.com/c.pem",
            "https://127.0.0.1/c.pem",
            "https://[::1]/c.pem",
            "https://169.254.169.254/latest/c.pem",
            "https://localhost/c.pem",
            "https://sns.us-west-2.amazonaws.com/c.pem?x=1",
            "https://sns.us-west-2.amazonaws.com/c.pem#x",
            "https://sns.us-west-2.amazonaws.com/?x=.pem",
            "https://sns.us-west-2.amazonaws.com/.pem",
            "https://sns.us-west-2.amazonaws.com/c.pem.exe",
            "https://sns.us-west-2.amazonaws.com/a/c.pem",
            "https://sns.us-west-2.amazonaws.com/../c.pem",
            "https://sns.us-west-2.amazonaws.com/%2e%2e/c.pem",
            "https://sns.us-west-2.amazonaws.com\\c.pem",
            "https://sns.us-west-2.amazonaws.com",
            "sns.us-west-2.amazonaws.com/c.pem",
            " https://sns.us-west-2.amazonaws.com/c.pem",
            "https://sns.us-west-2.amazonaws.com/c.pem\n",
            "file:///c.pem",
            "",
        ] {
            assert_eq!(certificate_url(bad), None, "{bad}");
        }
    }
}
