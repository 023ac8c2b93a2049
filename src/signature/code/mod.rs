//! Signature schemes that need code: sorted parameters (Twilio, Mandrill), a list of signed headers (Contentful), a hashed key
//! (Braintree), and certificates by URL (PayPal, SNS).
//!
//! The key differs by scheme. For Twilio, the key is the auth token of the account. For PayPal, the key is the id of
//! the webhook, which is signed. For SNS, the key is the ARN of an allowed topic, because the signature only proves
//! that SNS sent the message. The caller fetches certificates from the URL that [`certificate_url`] returns.

pub(super) mod braintree;
mod certificate;
pub(super) mod contentful;
mod paypal;
#[cfg(test)]
mod proptests;
mod sns;
#[cfg(test)]
mod tests;
pub(super) mod twilio;

use std::str::FromStr;
use std::time::Duration;

use data_encoding::BASE64;
use http::HeaderMap;
use url::Url;

pub use certificate::{Certificate, CertificateError};
pub(super) use twilio::{body_hash, sign as sign_twilio};

use super::{RequestParts, ValueLocation, VerifyError};
use crate::limits::TOLERANCE_SECONDS_DEFAULT;
use crate::model::{Secret, Timestamp};

/// A scheme implemented in code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CodeScheme {
    Twilio,
    /// Signs as Twilio does, in another header.
    Mandrill,
    Contentful,
    Braintree,
    Paypal,
    Sns,
}

/// The tolerance for the time of PayPal if a source does not set one. PayPal names no value, so this is the value of
/// the Standard Webhooks libraries.
pub(super) const PAYPAL_TOLERANCE: Duration = Duration::from_secs(TOLERANCE_SECONDS_DEFAULT);

impl FromStr for CodeScheme {
    type Err = ();

    /// Parses the name after `code:`.
    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "twilio" => Ok(Self::Twilio),
            "mandrill" => Ok(Self::Mandrill),
            "contentful" => Ok(Self::Contentful),
            "braintree" => Ok(Self::Braintree),
            "paypal" => Ok(Self::Paypal),
            "sns" => Ok(Self::Sns),
            _ => Err(()),
        }
    }
}

/// The headers that PayPal signs completely.
const PAYPAL_SIGNED: [&str; 2] = ["paypal-transmission-id", "paypal-transmission-time"];
/// The fields of a message that SNS signs.
const SNS_SIGNED: [&str; 8] =
    ["/Message", "/MessageId", "/Subject", "/SubscribeURL", "/Timestamp", "/Token", "/TopicArn", "/Type"];

impl CodeScheme {
    /// The name of the scheme after `code:`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
            Self::Mandrill => "mandrill",
            Self::Contentful => "contentful",
            Self::Braintree => "braintree",
            Self::Paypal => "paypal",
            Self::Sns => "sns",
        }
    }

    /// The location of the signature.
    pub(super) fn signature_location(self) -> &'static str {
        match self {
            Self::Twilio => "header:X-Twilio-Signature",
            Self::Mandrill => "header:X-Mandrill-Signature",
            Self::Contentful => "header:X-Contentful-Signature",
            Self::Braintree => "form:bt_signature",
            Self::Paypal => "header:PAYPAL-TRANSMISSION-SIG",
            Self::Sns => "json:/Signature",
        }
    }

    /// The location of the time whose tolerance the settings can choose.
    pub(super) fn time_location(self) -> Option<&'static str> {
        match self {
            Self::Contentful => Some("header:X-Contentful-Timestamp"),
            Self::Paypal => Some("header:PAYPAL-TRANSMISSION-TIME"),
            Self::Twilio | Self::Mandrill | Self::Braintree | Self::Sns => None,
        }
    }

    /// Whether a source needs a key. The topic of SNS can also be checked later.
    pub(super) fn needs_secret(self) -> bool {
        self != Self::Sns
    }

    /// Whether the signature covers the value at this location.
    pub(super) fn covers(self, location: &ValueLocation) -> bool {
        match (self, location) {
            // The fields of a form are signed one by one. A JSON body is signed by its digest in the query. The query
            // is a part of the signed URL.
            (Self::Twilio | Self::Mandrill, location) => {
                !matches!(location, ValueLocation::Header(_) | ValueLocation::Sig(_))
            }
            (Self::Contentful, location) => {
                matches!(location, ValueLocation::Json(_) | ValueLocation::Form(_) | ValueLocation::Query(_))
            }
            (Self::Braintree, location) => {
                matches!(location, ValueLocation::Form(name) if **name == *braintree::PAYLOAD)
            }
            // The signature covers only the CRC-32 of the body, which can be forged.
            (Self::Paypal, ValueLocation::Header(names)) => {
                names.iter().all(|name| PAYPAL_SIGNED.contains(&name.as_str()))
            }
            (Self::Sns, ValueLocation::Json(pointer)) => SNS_SIGNED.contains(&pointer.as_str()),
            (Self::Paypal | Self::Sns, _) => false,
        }
    }

    /// Whether the public URL is signed.
    pub(super) fn needs_url(self) -> bool {
        matches!(self, Self::Twilio | Self::Mandrill | Self::Contentful)
    }
}

/// Verifies that one of the keys signed this request.
pub(super) fn verify(
    which: CodeScheme,
    keys: &[&Secret],
    certificate: Option<&Certificate>,
    request: &RequestParts<'_>,
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), VerifyError> {
    let required_certificate = || certificate.ok_or_else(|| VerifyError::Certificate("it could not be had".into()));
    match which {
        CodeScheme::Twilio => twilio::verify(keys, request, twilio::SIGNATURE),
        CodeScheme::Mandrill => twilio::verify(keys, request, twilio::MANDRILL_SIGNATURE),
        CodeScheme::Contentful => contentful::verify(keys, request, now, tolerance),
        CodeScheme::Braintree => braintree::verify(keys, request),
        CodeScheme::Paypal => {
            paypal::Transmission::read(request)?.verify(keys, required_certificate()?, request.body, now, tolerance)
        }
        CodeScheme::Sns => sns::SnsMessage::read(request)?.verify(keys, required_certificate()?, now),
    }
}

/// The URL of the certificate that signed this request; `None` if the scheme uses no certificate. Everything that needs
/// no certificate is checked before, so that fewer requests of strangers cause a fetch.
pub(super) fn certificate_url(which: CodeScheme, request: &RequestParts<'_>) -> Result<Option<Url>, VerifyError> {
    match which {
        CodeScheme::Twilio | CodeScheme::Mandrill | CodeScheme::Contentful | CodeScheme::Braintree => Ok(None),
        CodeScheme::Paypal => paypal::Transmission::read(request).map(|read| Some(read.certificate_url)),
        CodeScheme::Sns => sns::SnsMessage::read(request).map(|read| Some(read.certificate_url)),
    }
}

/// The value of a required header as text. A header with several different values is an error.
fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, VerifyError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().ok_or_else(|| VerifyError::Missing(name.into()))?;
    if values.any(|other| other != first) {
        return Err(VerifyError::Ambiguous(name.into()));
    }
    match first.to_str() {
        Ok("") | Err(_) => Err(VerifyError::Missing(name.into())),
        Ok(text) => Ok(text),
    }
}

/// Decodes a signature in base64.
fn signature(text: &str, location: &str) -> Result<Vec<u8>, VerifyError> {
    let none = || VerifyError::NoSignature { location: location.into(), form: "base64".into() };
    BASE64.decode(text.as_bytes()).ok().filter(|bytes| !bytes.is_empty()).ok_or_else(none)
}

/// Parses the URL of a certificate. A URL that a parser would repair is refused, so that no other program reads another
/// host than the checked host.
fn exact_https(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.scheme() == "https"
        && url.as_str() == text
        && url.username().is_empty()
        && url.password().is_none()
        && url.port().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    plain.then_some(url)
}
