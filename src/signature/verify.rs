//! Verifies the signature of a request. The MAC is computed over the bytes of the request without a copy.

use std::borrow::Cow;
use std::time::Duration;

use data_encoding::BASE64;
use ring::{digest, hmac};
use smallvec::{SmallVec, smallvec};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::code::PAYPAL_TOLERANCE;
use super::encoding::DecodedSignature;
use super::jwt::bearer;
use super::key::{VerifyingKeyKind, token_digest};
use super::scheme::Method;
use super::signed_content::{ContentPart, ContentPlaceholder, SignedContentValues};
use super::{Certificate, RequestParts, Scheme, ValueLocation, VerifyError, VerifyingKey, code};
use crate::json;
use crate::limits::SIGNATURES_MAX;
use crate::model::{Secret, Timestamp};

/// The number of keys that are kept without an allocation. A source has one key, or two during a rotation.
const KEYS: usize = 8;

/// The position that stands for the first element of the signature value (Recurly: `sig:[0]`).
pub(super) const FIRST_ELEMENT: &str = "[0]";

type VerifyingKeys<'k> = SmallVec<[&'k VerifyingKey; KEYS]>;
/// The values that contain signatures, each with its location.
type SignatureValues<'a> = SmallVec<[(&'a ValueLocation, Cow<'a, str>); 2]>;

impl Scheme {
    /// Verifies that one of the keys signed this request. `now` is a time of the wall clock. Every key is tried with
    /// every given signature, so the duration does not reveal which of them matches.
    ///
    /// # Errors
    /// [`VerifyError`] with the reason why the request is refused.
    pub fn verify<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifyingKey>,
        certificate: Option<&Certificate>,
        request: &RequestParts<'_>,
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        let keys: VerifyingKeys<'k> = keys.into_iter().collect();
        match &self.method {
            Method::None => return Ok(()),
            Method::Jwt(_) => return self.verify_by_key_set(keys, None, request, now),
            Method::Code(which) => {
                let secrets: SmallVec<[&Secret; KEYS]> = keys.iter().map(|key| key.secret()).collect();
                let tolerance =
                    self.time.as_ref().map_or(PAYPAL_TOLERANCE, |time| Duration::from_secs(time.tolerance_s));
                return code::verify(*which, &secrets, certificate, request, now, tolerance);
            }
            _ => (),
        }
        let Some(each) = &self.each else { return self.verify_one(&keys, request, now) };
        let missing = || VerifyError::Missing(ValueLocation::Json(each.clone()).to_string().into());
        let array = each.find(request.body).ok_or_else(missing)?;
        let elements = json::elements(array).filter(|elements| !elements.is_empty()).ok_or_else(missing)?;
        elements.into_iter().try_for_each(|element| {
            self.verify_one(&keys, &RequestParts { body: element.get().as_bytes(), ..*request }, now)
        })
    }

    fn verify_one(
        &self,
        keys: &VerifyingKeys<'_>,
        request: &RequestParts<'_>,
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        let signature_values = self.signature_values(request)?;
        if let Method::Token | Method::Basic = self.method {
            return self.verify_token(keys, &signature_values);
        }
        let groups = self.groups(&signature_values)?;
        if groups.is_empty() {
            return self.verify_values(keys, request, &signature_values, now);
        }
        // While a secret is rotated, a sender may sign twice, each time with a time of its own: any of them may match.
        let mut refusal = None;
        for group in groups {
            match self.verify_values(keys, request, &group, now) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or(VerifyError::Mismatch))
    }

    /// The lists of a signature value that has several, separated by spaces: `t=1,v1=a t=2,v1=b`. Empty if there is at
    /// most one list in each value.
    fn groups<'g>(
        &self,
        signature_values: &'g SignatureValues<'_>,
    ) -> Result<SmallVec<[SignatureValues<'g>; 1]>, VerifyError> {
        let mut groups = SmallVec::new();
        let Some(separator) = self.split.filter(|separator| *separator != ' ') else { return Ok(groups) };
        for (location, value) in signature_values {
            let mut start = 0;
            for (space, _) in value.match_indices(' ') {
                let (before, after) = (value[..space].trim_end(), value[space..].trim_start());
                let is_between_lists =
                    !before.ends_with(separator) && !after.starts_with(separator) && !after.is_empty();
                if is_between_lists && !value[start..space].trim().is_empty() {
                    groups.push(smallvec![(*location, Cow::Borrowed(value[start..space].trim()))]);
                    start = space;
                }
            }
            if start > 0 {
                groups.push(smallvec![(*location, Cow::Borrowed(value[start..].trim()))]);
            }
            if groups.len() > SIGNATURES_MAX {
                return Err(VerifyError::TooMany { location: location.to_string().into(), allowed: SIGNATURES_MAX });
            }
        }
        Ok(groups)
    }

    fn verify_values(
        &self,
        keys: &VerifyingKeys<'_>,
        request: &RequestParts<'_>,
        signature_values: &SignatureValues<'_>,
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        let candidates = self.candidates(signature_values)?;
        // A timestamp in the body is read only after the signature matches, unless the timestamp is needed for the
        // signature. So no data of an unverified sender is parsed.
        let is_late = !self.signed.has(&ContentPlaceholder::Time)
            && self.time.as_ref().is_some_and(|rule| {
                matches!(rule.location, ValueLocation::Json(_) | ValueLocation::Form(_) | ValueLocation::FormJson(..))
            });
        let time = if is_late { None } else { self.checked_time(request, signature_values, now)? };
        let id = self.id(request)?;
        let parts =
            self.signed.parts(request, SignedContentValues { time: time.as_deref(), id: id.as_deref(), body: None })?;
        if !bool::from(any_fits(keys, &parts, &candidates)) {
            return Err(VerifyError::Mismatch);
        }
        if is_late {
            self.checked_time(request, signature_values, now)?;
        }
        Ok(())
    }

    /// The value of the first location that has one: a token.
    pub(super) fn token<'a>(&'a self, request: &RequestParts<'a>) -> Result<Cow<'a, str>, VerifyError> {
        let values = self.signature_values(request)?;
        values.into_iter().next().map(|(_, value)| value).ok_or_else(|| VerifyError::Missing(self.sig_place()))
    }

    /// The values at the locations of signatures.
    fn signature_values<'a>(&'a self, request: &RequestParts<'a>) -> Result<SignatureValues<'a>, VerifyError> {
        let mut signature_values = SignatureValues::new();
        for location in &self.sig {
            if let Some(value) = location.read(request)?.filter(|value| !value.is_empty()) {
                signature_values.push((location, value));
            }
        }
        if signature_values.is_empty() { Err(VerifyError::Missing(self.sig_place())) } else { Ok(signature_values) }
    }

    fn sig_place(&self) -> Box<str> {
        self.sig.first().map(|location| location.to_string().into()).unwrap_or_default()
    }

    /// The signatures in a value, without their prefix. The elements of a list are trimmed. Elements with another
    /// prefix belong to another scheme and are left out.
    fn elements<'g>(&'g self, value: &'g str) -> impl Iterator<Item = &'g str> {
        self.raw_elements(value).filter_map(|element| element.strip_prefix(&*self.prefix))
    }

    fn raw_elements<'g>(&self, value: &'g str) -> impl Iterator<Item = &'g str> {
        let split = self.split;
        value
            .split(move |c| Some(c) == split)
            .map(move |element| if split.is_some() { element.trim_matches([' ', '\t']) } else { element })
    }

    fn candidates(
        &self,
        signature_values: &SignatureValues<'_>,
    ) -> Result<SmallVec<[DecodedSignature; SIGNATURES_MAX]>, VerifyError> {
        let mut candidates = SmallVec::new();
        let mut count = 0;
        for (location, value) in signature_values {
            for element in self.elements(value) {
                count += 1;
                if count > SIGNATURES_MAX {
                    return Err(VerifyError::TooMany {
                        location: location.to_string().into(),
                        allowed: SIGNATURES_MAX,
                    });
                }
                let decoded = self.encoding.decode(element.as_bytes());
                candidates.extend(decoded.filter(|decoded| self.has_length(decoded.as_slice().len())));
            }
        }
        if candidates.is_empty() {
            let form = format!("{}{}", self.prefix, self.encoding.name()).into();
            return Err(VerifyError::NoSignature { location: self.sig_place(), form });
        }
        Ok(candidates)
    }

    fn has_length(&self, bytes: usize) -> bool {
        match &self.method {
            Method::Hmac(algorithm) => bytes == algorithm.digest_algorithm().output_len(),
            Method::Hash(algorithm) => bytes == algorithm.output_len(),
            Method::Ed25519 => bytes == 64,
            // In ASN.1, the length of a signature varies.
            _ => true,
        }
    }

    /// The text of the timestamp after the tolerance was checked; `None` if the scheme has no timestamp.
    fn checked_time<'a>(
        &self,
        request: &RequestParts<'a>,
        signature_values: &'a SignatureValues<'_>,
        now: Timestamp,
    ) -> Result<Option<Cow<'a, str>>, VerifyError> {
        let Some(rule) = &self.time else { return Ok(None) };
        let found = match &rule.location {
            ValueLocation::Sig(prefix) => self.element(signature_values, prefix)?.map(Cow::Borrowed),
            location => location.read(request)?,
        };
        let time = found
            .filter(|time| !time.is_empty())
            .ok_or_else(|| VerifyError::Missing(rule.location.to_string().into()))?;
        rule.check(&time, now)?;
        Ok(Some(time))
    }

    /// The element of the signature value with this prefix.
    fn element<'g>(
        &self,
        signature_values: &'g SignatureValues<'_>,
        prefix: &str,
    ) -> Result<Option<&'g str>, VerifyError> {
        if prefix == FIRST_ELEMENT {
            return Ok(signature_values.iter().find_map(|(_, value)| self.raw_elements(value).next()));
        }
        let mut found = None;
        for element in signature_values.iter().flat_map(|(_, value)| self.raw_elements(value)) {
            match (element.strip_prefix(prefix), found) {
                (Some(value), Some(other)) if value != other => {
                    return Err(VerifyError::Ambiguous(format!("sig:{prefix}").into()));
                }
                (Some(value), _) => found = Some(value),
                (None, _) => (),
            }
        }
        Ok(found)
    }

    /// The value of `{id}`; `None` if the scheme does not sign `{id}`.
    pub(super) fn id<'a>(&self, request: &RequestParts<'a>) -> Result<Option<Cow<'a, str>>, VerifyError> {
        if !self.needs_id() {
            return Ok(None);
        }
        let mut joined: Option<Cow<'a, str>> = None;
        for location in &self.id {
            let value = location
                .read(request)?
                .filter(|value| !value.is_empty())
                .ok_or_else(|| VerifyError::Missing(location.to_string().into()))?;
            joined = Some(match joined {
                None => value,
                Some(before) => Cow::Owned(format!("{before}:{value}")),
            });
        }
        Ok(joined)
    }

    fn verify_token(
        &self,
        keys: &VerifyingKeys<'_>,
        signature_values: &SignatureValues<'_>,
    ) -> Result<(), VerifyError> {
        let mut found = Choice::from(0);
        let mut count = 0;
        for (location, value) in signature_values {
            for token in self.elements(value).filter(|token| !token.is_empty()) {
                count += 1;
                if count > SIGNATURES_MAX {
                    return Err(VerifyError::TooMany {
                        location: location.to_string().into(),
                        allowed: SIGNATURES_MAX,
                    });
                }
                // A secret may be pasted with the word `Bearer` before it or without.
                let without_word = bearer(token);
                let [digest, other] = match self.method {
                    Method::Basic => [basic(token).map(|pair| token_digest(&pair)), None],
                    _ => [Some(token), Some(without_word).filter(|plain| *plain != token)]
                        .map(|token| token.map(|token| token_digest(token.as_bytes()))),
                };
                for key in keys {
                    if let VerifyingKeyKind::Token(expected) = &key.kind {
                        for digest in [&digest, &other].into_iter().flatten() {
                            found |= digest.as_ref().ct_eq(expected.as_ref());
                        }
                    }
                }
            }
        }
        if found.into() { Ok(()) } else { Err(VerifyError::Token) }
    }
}

/// Decodes `user:password` from `Basic BASE64` (RFC 7617). The user name ends at the first colon. Equal texts therefore
/// mean equal users and passwords.
fn basic(value: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    BASE64.decode(encoded.trim_matches(' ').as_bytes()).ok().map(Zeroizing::new)
}

/// Whether any of the keys made any of the signatures.
fn any_fits(keys: &VerifyingKeys<'_>, parts: &[ContentPart<'_>], candidates: &[DecodedSignature]) -> Choice {
    let mut joined: Option<Vec<u8>> = None;
    let mut found = Choice::from(0);
    let same =
        |made: &[u8]| candidates.iter().fold(Choice::from(0), |any, candidate| any | candidate.as_slice().ct_eq(made));
    for key in keys {
        found |= match &key.kind {
            VerifyingKeyKind::Hmac(key) => same(mac(key, parts).as_ref()),
            VerifyingKeyKind::Hash(algorithm, bytes) => same(hash(algorithm, bytes, parts).as_ref()),
            VerifyingKeyKind::Public(public) => {
                let message = joined.get_or_insert_with(|| join(parts));
                let fits =
                    candidates.iter().filter(|candidate| public.verify(message, candidate.as_slice()).is_ok()).count();
                Choice::from(u8::from(fits > 0))
            }
            VerifyingKeyKind::Token(_) | VerifyingKeyKind::Jwt(_) | VerifyingKeyKind::Text => Choice::from(0),
        };
    }
    found
}

/// The MAC over the parts, without joining them.
pub(super) fn mac(key: &hmac::Key, parts: &[ContentPart<'_>]) -> hmac::Tag {
    let mut mac = hmac::Context::with_key(key);
    for part in parts {
        if let ContentPart::Bytes(bytes) = part {
            mac.update(bytes);
        }
    }
    mac.sign()
}

/// The digest over the parts, with the key at its position.
pub(super) fn hash(algorithm: &'static digest::Algorithm, key: &[u8], parts: &[ContentPart<'_>]) -> digest::Digest {
    let mut hash = digest::Context::new(algorithm);
    for part in parts {
        match part {
            ContentPart::Bytes(bytes) => hash.update(bytes),
            ContentPart::Key => hash.update(key),
        }
    }
    hash.finish()
}

/// Joins the parts, for algorithms that read the signed content twice.
pub(super) fn join(parts: &[ContentPart<'_>]) -> Vec<u8> {
    let mut joined = Vec::new();
    for part in parts {
        if let ContentPart::Bytes(bytes) = part {
            joined.extend_from_slice(bytes);
        }
    }
    joined
}
