//! The schemes that no record of fields can say: sorted parameters (Twilio), certificates by URL (PayPal, SNS).
//!
//! What a key is differs: Twilio's is the account's auth token; of PayPal it is the webhook's id, which is signed; of SNS
//! the ARN of a topic that may speak, because the signature only says that it was SNS. Certificates are fetched by whoever
//! calls, from the address that [`certificate_url`] gave.

mod certificate;
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

use super::{Place, Request, VerifyError};
use crate::limits::TOLERANCE_SECONDS_DEFAULT;
use crate::model::{Secret, Timestamp};

/// One of the schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Twilio,
    Paypal,
    Sns,
}

/// How far PayPal's time may be off where a source does not say: the figure of the Standard Webhooks libraries, as PayPal
/// names none.
pub(super) const PAYPAL_TOLERANCE: Duration = Duration::from_secs(TOLERANCE_SECONDS_DEFAULT);

impl FromStr for Code {
    type Err = ();

    /// The name after `code:`.
    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "twilio" => Ok(Self::Twilio),
            "paypal" => Ok(Self::Paypal),
            "sns" => Ok(Self::Sns),
            _ => Err(()),
        }
    }
}

/// What PayPal signs whole.
const PAYPAL_SIGNED: [&str; 2] = ["paypal-transmission-id", "paypal-transmission-time"];
/// What SNS signs of a message.
const SNS_SIGNED: [&str; 8] =
    ["/Message", "/MessageId", "/Subject", "/SubscribeURL", "/Timestamp", "/Token", "/TopicArn", "/Type"];

impl Code {
    /// Its name, as it stands after `code:`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
            Self::Paypal => "paypal",
            Self::Sns => "sns",
        }
    }

    /// Whether a source cannot do without a key. SNS's topic may be looked at afterwards.
    pub(super) fn needs_secret(self) -> bool {
        self != Self::Sns
    }

    /// Whether the signature covers what stands at this place.
    pub(super) fn covers(self, place: &Place) -> bool {
        match (self, place) {
            // A form's fields are signed one by one, a JSON body by its digest in the query, the query by the URL.
            (Self::Twilio, place) => !matches!(place, Place::Header(_) | Place::Sig(_)),
            // The body is signed by its CRC-32 only, which is no obstacle.
            (Self::Paypal, Place::Header(names)) => names.iter().all(|name| PAYPAL_SIGNED.contains(&name.as_str())),
            (Self::Sns, Place::Json(pointer)) => SNS_SIGNED.contains(&pointer.as_str()),
            (Self::Paypal | Self::Sns, _) => false,
        }
    }

    /// Whether the public URL is signed.
    pub(super) fn needs_url(self) -> bool {
        self == Self::Twilio
    }
}

/// Whether one of the keys signed this request.
pub(super) fn verify(
    which: Code,
    keys: &[&Secret],
    certificate: Option<&Certificate>,
    request: &Request<'_>,
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), VerifyError> {
    let vouched = || certificate.ok_or_else(|| VerifyError::Certificate("it could not be had".into()));
    match which {
        Code::Twilio => twilio::verify(keys, request),
        Code::Paypal => paypal::Transmission::read(request)?.verify(keys, vouched()?, request.body, now, tolerance),
        Code::Sns => sns::Message::read(request)?.verify(keys, vouched()?, now),
    }
}

/// Where the certificate is that a request was signed with; `None`: the scheme has none. Whatever needs no certificate is
/// checked before, so that less of what strangers send makes us ask for one.
pub(super) fn certificate_url(which: Code, request: &Request<'_>) -> Result<Option<Url>, VerifyError> {
    match which {
        Code::Twilio => Ok(None),
        Code::Paypal => paypal::Transmission::read(request).map(|read| Some(read.certificate_url)),
        Code::Sns => sns::Message::read(request).map(|read| Some(read.certificate_url)),
    }
}

/// The value of a header that must be there once, as text.
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

/// A signature in base64, decoded.
fn signature(text: &str, place: &str) -> Result<Vec<u8>, VerifyError> {
    let none = || VerifyError::NoSignature { place: place.into(), form: "base64".into() };
    BASE64.decode(text.as_bytes()).ok().filter(|bytes| !bytes.is_empty()).ok_or_else(none)
}

/// The address of a certificate, if it is one in exactly this spelling: what a parser would repair is refused, so that
/// nobody reads another host than the one that was checked.
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
