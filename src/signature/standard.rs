//! The Standard Webhooks scheme
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>): HMAC-SHA256 (`v1`)
//! or Ed25519 (`v1a`) in base64 over `id.timestamp.body`. During a rotation of the secret, one header contains several
//! signatures.

use std::time::Duration;

use data_encoding::BASE64;
use ring::hmac;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use smallvec::SmallVec;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::encoding::{DecodedSignature, Encoding};
use super::{SigningKey, SigningKind};
use crate::limits::TOLERANCE_SECONDS_DEFAULT;
use crate::model::{Secret, Timestamp};
use crate::runtime::Random;

/// The header with the message id, which is the same for every attempt.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the time of the attempt in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures, separated by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// The allowed difference between the timestamp of a message and the clock of the receiver, in both directions.
pub const TOLERANCE: Duration = Duration::from_secs(TOLERANCE_SECONDS_DEFAULT);

/// The maximum length of one signature in characters: `v1a,` and 64 bytes in base64.
pub const SIGNATURE_CHARS_MAX: usize = VERSION_ED25519.len() + 88;

/// The prefix of all headers of the specification.
pub const HEADER_PREFIX: &str = "webhook-";

const VERSION: &str = "v1,";
const VERSION_ED25519: &str = "v1a,";
/// The prefix of a symmetric secret.
pub const SECRET_PREFIX: &str = "whsec_";
/// The prefix of an Ed25519 private key.
pub const PRIVATE_PREFIX: &str = "whsk_";
/// The prefix of an Ed25519 public key.
pub const PUBLIC_PREFIX: &str = "whpk_";
const SECRET_BYTES_MIN: usize = 24;
const SECRET_BYTES_MAX: usize = 64;
const GENERATED_SECRET_BYTES: usize = 32;
const TAG_BYTES: usize = 32;
const SEED_BYTES: usize = 32;
const ED25519_SIGNATURE_BYTES: usize = 64;

/// The signed content of a message. The parts are added to the MAC one after the other, without joining them.
#[derive(Debug, Clone, Copy)]
pub struct StandardMessage<'a> {
    /// The `webhook-id` header.
    pub id: &'a [u8],
    /// The `webhook-timestamp` header, as text.
    pub timestamp: &'a [u8],
    /// The body, in parts.
    pub body: &'a [&'a [u8]],
}

impl StandardMessage<'_> {
    fn compute_mac(&self, key: &hmac::Key) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(key);
        mac.update(self.id);
        mac.update(b".");
        mac.update(self.timestamp);
        mac.update(b".");
        for part in self.body {
            mac.update(part);
        }
        mac.sign()
    }

    /// The signature by this key as written in the header, `v1,<base64>` or `v1a,<base64>`; `None` for a key that does
    /// not belong to this specification.
    pub fn sign(&self, key: &SigningKey) -> Option<Signature> {
        match &key.kind {
            SigningKind::Hmac(key) => Some(encode_signature(VERSION, self.compute_mac(key).as_ref())),
            // Ed25519 reads the signed content twice, so the content must be in one piece.
            SigningKind::Ed25519(pair) => Some(encode_signature(VERSION_ED25519, pair.sign(&self.joined()).as_ref())),
            SigningKind::Scheme(_) | SigningKind::Unusable(_) => None,
        }
    }

    fn joined(&self) -> Vec<u8> {
        let mut joined = [self.id, b".", self.timestamp, b"."].concat();
        self.body.iter().for_each(|part| joined.extend_from_slice(part));
        joined
    }
}

/// A signature as text, on the stack.
pub type Signature = SmallVec<[u8; SIGNATURE_CHARS_MAX]>;

fn encode_signature(version: &str, signature: &[u8]) -> Signature {
    let mut text = Signature::from_slice(version.as_bytes());
    text.resize(version.len() + BASE64.encode_len(signature.len()), 0);
    if let Some(encoded) = text.get_mut(version.len()..) {
        BASE64.encode_mut(signature, encoded);
    }
    text
}

/// The text of a public key for receivers: `whpk_` and base64.
pub fn public_key(pair: &Ed25519KeyPair) -> String {
    format!("{PUBLIC_PREFIX}{}", BASE64.encode(pair.public_key().as_ref()))
}

/// Why a text is not a secret of this scheme. The message never contains the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The prefix is missing.
    #[error("a secret starts with \"whsec_\", or with \"whsk_\" if it is an Ed25519 key")]
    Prefix,
    /// The text after the prefix is not base64.
    #[error("what follows \"whsec_\" or \"whsk_\" is base64 (RFC 4648 section 4, with padding)")]
    Base64,
    /// The secret is too short to be safe, or longer than the specification allows. The value is its length in bytes.
    #[error("what follows \"whsec_\" is {0} bytes in base64; 24 to 64 are allowed")]
    Length(usize),
    /// The text is not an Ed25519 private key.
    #[error("what follows \"whsk_\" is an Ed25519 key in base64: a seed of 32 bytes, or seed and public key, 64 bytes")]
    Ed25519,
}

impl SigningKey {
    /// Parses a secret and prepares its key: `whsec_` and 24 to 64 bytes in base64, or `whsk_` and an Ed25519 private
    /// key.
    ///
    /// # Errors
    /// [`SecretError`] if the secret is not valid.
    pub fn try_new(secret: Secret) -> Result<Self, SecretError> {
        let (encoded, is_private) = match secret.reveal().strip_prefix(PRIVATE_PREFIX) {
            Some(encoded) => (encoded, true),
            None => (secret.reveal().strip_prefix(SECRET_PREFIX).ok_or(SecretError::Prefix)?, false),
        };
        let bytes = Zeroizing::new(BASE64.decode(encoded.as_bytes()).map_err(|_| SecretError::Base64)?);
        let kind = match bytes.len() {
            _ if is_private => SigningKind::Ed25519(Box::new(pair(&bytes)?)),
            SECRET_BYTES_MIN..=SECRET_BYTES_MAX => SigningKind::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
            other => return Err(SecretError::Length(other)),
        };
        Ok(Self { secret, kind })
    }

    /// Generates a secret of 32 random bytes and its key.
    pub fn generate() -> Self {
        let bytes = Zeroizing::new(Random::secret::<GENERATED_SECRET_BYTES>());
        let kind = SigningKind::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &*bytes));
        Self { secret: encoded(SECRET_PREFIX, &*bytes), kind }
    }

    /// Generates an Ed25519 key. Its secret contains the seed and the public key.
    ///
    /// # Errors
    /// [`SecretError`] if the key cannot be made from the seed.
    pub fn generate_ed25519() -> Result<Self, SecretError> {
        let seed = Zeroizing::new(Random::secret::<SEED_BYTES>());
        let pair = pair(&*seed)?;
        let bytes = Zeroizing::new([&*seed, pair.public_key().as_ref()].concat());
        Ok(Self { secret: encoded(PRIVATE_PREFIX, &bytes), kind: SigningKind::Ed25519(Box::new(pair)) })
    }
}

fn encoded(prefix: &str, bytes: &[u8]) -> Secret {
    let mut text = String::with_capacity(prefix.len() + BASE64.encode_len(bytes.len()));
    text.push_str(prefix);
    BASE64.encode_append(bytes, &mut text);
    Secret::new(text)
}

fn pair(bytes: &[u8]) -> Result<Ed25519KeyPair, SecretError> {
    match bytes.split_at_checked(SEED_BYTES) {
        Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
        Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
        None => return Err(SecretError::Ed25519),
    }
    .map_err(|_| SecretError::Ed25519)
}

/// The headers of a received message; `None` for a missing header.
#[derive(Debug, Clone, Copy, Default)]
pub struct StandardHeaders<'a> {
    /// The value of [`ID_HEADER`].
    pub id: Option<&'a [u8]>,
    /// The value of [`TIMESTAMP_HEADER`].
    pub timestamp: Option<&'a [u8]>,
    /// The value of [`SIGNATURE_HEADER`].
    pub signatures: Option<&'a [u8]>,
}

/// Why a message fails verification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StandardVerifyError {
    /// A header is missing or empty.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// The timestamp is not a whole number of seconds.
    #[error("the header {TIMESTAMP_HEADER} holds no whole number of seconds since 1970")]
    Timestamp,
    /// The message was sent too long ago. Either the message is a replay, or a clock is wrong.
    #[error("the message was sent {0} seconds ago, more than the {allowed} allowed", allowed = TOLERANCE.as_secs())]
    TooOld(u64),
    /// The timestamp is too far in the future, because a clock is wrong.
    #[error("the message is dated {0} seconds ahead, more than the {allowed} allowed", allowed = TOLERANCE.as_secs())]
    TooNew(u64),
    /// No signature has a known version.
    #[error("the header {SIGNATURE_HEADER} holds no signature of the secret's version (v1, or v1a of an Ed25519 key)")]
    NoSignature,
    /// None of the signatures was made with one of the secrets over this body.
    #[error("no signature in {SIGNATURE_HEADER} fits the body and the secret")]
    Mismatch,
}

/// Verifies a message with each of the keys. `body` is the body before any parsing. `now` is a time of the wall clock.
///
/// # Errors
/// [`StandardVerifyError`] with the reason why the message is refused.
pub fn verify<'k>(
    keys: impl IntoIterator<Item = &'k SigningKey>,
    received: StandardHeaders<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), StandardVerifyError> {
    let present =
        |value: Option<_>, name| value.filter(|v: &&[u8]| !v.is_empty()).ok_or(StandardVerifyError::Missing(name));
    let id = present(received.id, ID_HEADER)?;
    let timestamp = present(received.timestamp, TIMESTAMP_HEADER)?;
    let signatures = present(received.signatures, SIGNATURE_HEADER)?;
    check_time(timestamp, now)?;

    let message = StandardMessage { id, timestamp, body: &[body] };
    let mut found = Choice::from(0);
    let mut any = false;
    for key in keys {
        let (is_given, fits) = match &key.kind {
            SigningKind::Hmac(key) => {
                let tag = message.compute_mac(key);
                any_fits(signatures, VERSION, TAG_BYTES, |given| given.ct_eq(tag.as_ref()))
            }
            SigningKind::Ed25519(pair) => {
                let public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
                let joined = message.joined();
                let fits = |given: &[u8]| Choice::from(u8::from(public.verify(&joined, given).is_ok()));
                any_fits(signatures, VERSION_ED25519, ED25519_SIGNATURE_BYTES, fits)
            }
            SigningKind::Scheme(_) | SigningKind::Unusable(_) => continue,
        };
        any |= is_given;
        found |= fits;
    }
    match (any, bool::from(found)) {
        (_, true) => Ok(()),
        (true, false) => Err(StandardVerifyError::Mismatch),
        (false, false) => Err(StandardVerifyError::NoSignature),
    }
}

/// Whether there are signatures of this version, and whether any of them matches. All signatures are compared.
fn any_fits(signatures: &[u8], version: &str, length: usize, fits: impl Fn(&[u8]) -> Choice) -> (bool, Choice) {
    let mut given = signatures.split(|b| *b == b' ').filter_map(|text| decode(text, version, length)).peekable();
    let is_given = given.peek().is_some();
    (is_given, given.fold(Choice::from(0), |any, one| any | fits(one.as_slice())))
}

/// Decodes a signature of this version; `None` for another version, an empty signature, or a wrong length. In another
/// library, an empty signature once matched (CVE-2024-21491).
fn decode(signature: &[u8], version: &str, length: usize) -> Option<DecodedSignature> {
    let encoded = signature.strip_prefix(version.as_bytes())?;
    Encoding::Base64.decode(encoded).filter(|decoded| decoded.as_slice().len() == length)
}

fn check_time(timestamp: &[u8], now: Timestamp) -> Result<(), StandardVerifyError> {
    let sent: i64 = std::str::from_utf8(timestamp)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or(StandardVerifyError::Timestamp)?;
    let now = now.as_secs();
    let distance = now.abs_diff(sent);
    match distance > TOLERANCE.as_secs() {
        false => Ok(()),
        true if sent < now => Err(StandardVerifyError::TooOld(distance)),
        true => Err(StandardVerifyError::TooNew(distance)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// (secret, id, seconds, body, signature). The first vector is from the libraries of the specification. The package
    /// `standardwebhooks` of PyPI made all vectors.
    const VECTORS: [(&str, &str, i64, &str, &str); 3] = [
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "evt_01HQZ8Y3N6W5Q2R7T9V1X4B8CD",
            1_711_015_200,
            r#"{"type":"order.created","timestamp":"2024-03-21T10:00:00.120Z","data":{"id":1,"name":"größe"}}"#,
            "v1,ANFYvQzS4PWeDKek66pRrp+sWbxUAmqhWYoVBKqW6yE=",
        ),
        (
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==",
            "evt_0",
            0,
            "",
            "v1,X9bkjT8dAINwnm+jiF3osfvj8pF8psWRinRGsDiZ7+A=",
        ),
    ];

    fn key(secret: &str) -> SigningKey {
        SigningKey::try_new(Secret::new(secret)).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn check(signatures: &str, now: i64) -> Result<(), StandardVerifyError> {
        let (secret, id, seconds, body, _) = VECTORS[0];
        let timestamp = seconds.to_string();
        let received = StandardHeaders {
            id: Some(id.as_bytes()),
            timestamp: Some(timestamp.as_bytes()),
            signatures: Some(signatures.as_bytes()),
        };
        verify([&key(secret)], received, body.as_bytes(), at(now))
    }

    #[test]
    fn signatures_are_those_of_the_reference_implementation() {
        for (secret, id, seconds, body, signature) in VECTORS {
            let timestamp = seconds.to_string();
            let (id, timestamp) = (id.as_bytes(), timestamp.as_bytes());
            let (head, tail) = body.as_bytes().split_at(body.len() / 2);
            let signed = StandardMessage { id, timestamp, body: &[head, b"", tail] }.sign(&key(secret)).unwrap();
            assert_eq!(std::str::from_utf8(&signed), Ok(signature));
            let received = StandardHeaders { id: Some(id), timestamp: Some(timestamp), signatures: Some(&signed) };
            assert_eq!(verify([&key(secret)], received, body.as_bytes(), at(seconds)), Ok(()));
        }
    }

    /// The first key of RFC 8032 section 7.1, in base64.
    const SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";

    #[test]
    fn ed25519_signs_as_v1a_and_its_public_key_is_that_of_the_rfc() {
        let key = key(&format!("whsk_{SEED}"));
        assert_eq!(key.public_key().as_deref(), Some("whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="));
        let message = StandardMessage { id: b"evt_1", timestamp: b"1711015200", body: &[b"{", b"}"] };
        let signed = message.sign(&key).unwrap();
        assert!(signed.starts_with(b"v1a,") && signed.len() == SIGNATURE_CHARS_MAX);
        let received =
            StandardHeaders { id: Some(b"evt_1"), timestamp: Some(b"1711015200"), signatures: Some(&signed) };
        assert_eq!(verify([&key], received, b"{}", at(1_711_015_200)), Ok(()));
        assert_eq!(verify([&key], received, b"{ }", at(1_711_015_200)), Err(StandardVerifyError::Mismatch));
        let hmac = SigningKey::generate();
        assert_eq!(verify([&hmac], received, b"{}", at(1_711_015_200)), Err(StandardVerifyError::NoSignature));
        let both = [&message.sign(&hmac).unwrap()[..], &signed].join(&b' ');
        for key in [&key, &hmac] {
            assert_eq!(
                verify([key], StandardHeaders { signatures: Some(&both), ..received }, b"{}", at(1_711_015_200)),
                Ok(())
            );
        }
    }

    #[test]
    fn every_signature_given_is_looked_at() {
        let good = VECTORS[0].4;
        let other = VECTORS[1].4;
        let now = VECTORS[0].2;
        assert_eq!(check(&format!("{other} v1a,abc {good}"), now), Ok(()));
        assert_eq!(check(&format!("{good} {other}"), now), Ok(()));
        assert_eq!(check(other, now), Err(StandardVerifyError::Mismatch));
    }

    #[test]
    fn an_empty_or_cut_signature_is_none() {
        let now = VECTORS[0].2;
        let good = VECTORS[0].4;
        for text in ["v1,", "v1", " ", "v1, v1,", "v2,abc", &good[..good.len() - 1], &good.replace("v1,", "v2,")] {
            assert_eq!(check(text, now), Err(StandardVerifyError::NoSignature), "{text:?}");
        }
        assert_eq!(check("", now), Err(StandardVerifyError::Missing(SIGNATURE_HEADER)));
    }

    #[test]
    fn the_time_may_be_off_by_five_minutes_either_way() {
        let (sent, good) = (VECTORS[0].2, VECTORS[0].4);
        for (now, result) in [
            (sent + 300, Ok(())),
            (sent - 300, Ok(())),
            (sent + 301, Err(StandardVerifyError::TooOld(301))),
            (sent - 301, Err(StandardVerifyError::TooNew(301))),
        ] {
            assert_eq!(check(good, now), result, "{now}");
        }
    }

    #[test]
    fn a_timestamp_is_a_whole_number() {
        let key = key(VECTORS[0].0);
        for text in ["soon", "1e9", "-1", "+1", "1.5", "99999999999999999999", "١"] {
            let received =
                StandardHeaders { id: Some(b"a"), timestamp: Some(text.as_bytes()), signatures: Some(b"v1,x") };
            assert_eq!(verify([&key], received, b"", at(0)), Err(StandardVerifyError::Timestamp), "{text}");
        }
        let farthest = i64::MAX.to_string();
        let received =
            StandardHeaders { id: Some(b"a"), timestamp: Some(farthest.as_bytes()), signatures: Some(b"v1,x") };
        assert!(matches!(verify([&key], received, b"", at(-9)), Err(StandardVerifyError::TooNew(_))));
    }

    #[test]
    fn secrets_have_a_prefix_and_a_length() {
        let encoded = |bytes: usize| format!("whsec_{}", BASE64.encode(&vec![7; bytes]));
        for (secret, error) in [
            (encoded(24), None),
            (encoded(64), None),
            (encoded(23), Some(SecretError::Length(23))),
            (encoded(65), Some(SecretError::Length(65))),
            ("whsec_".into(), Some(SecretError::Length(0))),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(), Some(SecretError::Prefix)),
            ("whsec_not base64!".into(), Some(SecretError::Base64)),
            ("whsk_not base64!".into(), Some(SecretError::Base64)),
            (format!("whsk_{SEED}"), None),
            (format!("whsk_{}", BASE64.encode(&[7; 31])), Some(SecretError::Ed25519)),
            (format!("whsk_{}", BASE64.encode(&[7; 33])), Some(SecretError::Ed25519)),
            // A public key of another seed.
            (format!("whsk_{}", BASE64.encode(&[7; 64])), Some(SecretError::Ed25519)),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n".into(), Some(SecretError::Base64)),
        ] {
            assert_eq!(SigningKey::try_new(Secret::new(secret.as_str())).err(), error, "{secret}");
        }
    }

    #[test]
    fn a_generated_secret_reads_back_as_the_same_key() {
        let message = StandardMessage { id: b"evt_1", timestamp: b"1", body: &[b"{}"] };
        for made in [SigningKey::generate(), SigningKey::generate_ed25519().unwrap()] {
            let read = SigningKey::try_new(made.secret.clone()).unwrap();
            assert_eq!(message.sign(&made), message.sign(&read));
            assert_eq!(made.public_key(), read.public_key());
        }
        let made = SigningKey::generate();
        assert!(made.secret != SigningKey::generate().secret);
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_and_nothing_else(
            body in proptest::collection::vec(any::<u8>(), 0..200), flip in any::<proptest::sample::Index>(), cut in any::<proptest::sample::Index>(),
        ) {
            let key = key(VECTORS[1].0);
            let (head, tail) = body.split_at(cut.index(body.len() + 1));
            let signed = StandardMessage { id: b"evt_1", timestamp: b"1711015200", body: &[head, tail] }.sign(&key).unwrap();
            let received = StandardHeaders { id: Some(b"evt_1"), timestamp: Some(b"1711015200"), signatures: Some(&signed) };
            prop_assert_eq!(verify([&key], received, &body, at(1_711_015_200)), Ok(()));
            let mut other = body.clone();
            if other.is_empty() { other.push(0) } else { let i = flip.index(other.len()); other[i] ^= 1 }
            prop_assert_eq!(verify([&key], received, &other, at(1_711_015_200)), Err(StandardVerifyError::Mismatch));
        }

        #[test]
        fn no_header_panics(signatures in proptest::collection::vec(any::<u8>(), 0..120)) {
            let received = StandardHeaders { id: Some(b"a"), timestamp: Some(b"0"), signatures: Some(&signatures) };
            prop_assert!(verify([&key(VECTORS[0].0)], received, b"", at(0)).is_err());
        }
    }
}
