//! Checks a request: from its bytes to the MAC without a copy of them.

use std::borrow::Cow;
use std::time::Duration;

use data_encoding::BASE64;
use ring::{digest, hmac};
use smallvec::SmallVec;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::code::PAYPAL_TOLERANCE;
use super::encoding::Decoded;
use super::key::{Kind, token_digest};
use super::scheme::Method;
use super::template::{Part, Placeholder, Values};
use super::{Certificate, Key, Place, Request, Scheme, VerifyError, code};
use crate::json;
use crate::limits::SIGNATURES_MAX;
use crate::model::{Secret, Timestamp};

/// Keys kept without a heap: a source has one, or two while one is rotated.
const KEYS: usize = 8;

type Keys<'k> = SmallVec<[&'k Key; KEYS]>;
/// The values that hold signatures, each with its place.
type Given<'a> = SmallVec<[(&'a Place, Cow<'a, str>); 2]>;

impl Scheme {
    /// Whether one of the keys signed this request, `now` by the wall clock. Every key is tried with every signature that
    /// is given, so that how long it takes does not tell which of them fits.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k Key>,
        certificate: Option<&Certificate>,
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        let keys: Keys<'k> = keys.into_iter().collect();
        match &self.method {
            Method::None => return Ok(()),
            Method::Code(which) => {
                let secrets: SmallVec<[&Secret; KEYS]> = keys.iter().map(|key| key.secret()).collect();
                let tolerance =
                    self.time.as_ref().map_or(PAYPAL_TOLERANCE, |time| Duration::from_secs(time.tolerance_s));
                return code::verify(*which, &secrets, certificate, request, now, tolerance);
            }
            _ => (),
        }
        let Some(each) = &self.each else { return self.verify_one(&keys, request, now) };
        let missing = || VerifyError::Missing(Place::Json(each.clone()).to_string().into());
        let array = each.find(request.body).ok_or_else(missing)?;
        let elements = json::elements(array).filter(|elements| !elements.is_empty()).ok_or_else(missing)?;
        elements.into_iter().try_for_each(|element| {
            self.verify_one(&keys, &Request { body: element.get().as_bytes(), ..*request }, now)
        })
    }

    fn verify_one(&self, keys: &Keys<'_>, request: &Request<'_>, now: Timestamp) -> Result<(), VerifyError> {
        let given = self.given(request)?;
        if let Method::Token | Method::Basic = self.method {
            return self.verify_token(keys, &given);
        }
        let candidates = self.candidates(&given)?;
        // A time in the body is read only after the signature fits, if it is not needed for that: nothing parses what a
        // stranger sent.
        let is_late = !self.signed.has(&Placeholder::Time)
            && self.time.as_ref().is_some_and(|rule| matches!(rule.place, Place::Json(_) | Place::Form(_)));
        let time = if is_late { None } else { self.checked_time(request, &given, now)? };
        let id = self.id(request)?;
        let parts = self.signed.parts(request, Values { time: time.as_deref(), id: id.as_deref(), body: None })?;
        if !bool::from(any_fits(keys, &parts, &candidates)) {
            return Err(VerifyError::Mismatch);
        }
        if is_late {
            self.checked_time(request, &given, now)?;
        }
        Ok(())
    }

    /// What stands where signatures stand.
    fn given<'a>(&'a self, request: &Request<'a>) -> Result<Given<'a>, VerifyError> {
        let mut given = Given::new();
        for place in &self.sig {
            if let Some(value) = place.read(request)?.filter(|value| !value.is_empty()) {
                given.push((place, value));
            }
        }
        if given.is_empty() { Err(VerifyError::Missing(self.sig_place())) } else { Ok(given) }
    }

    fn sig_place(&self) -> Box<str> {
        self.sig.first().map(|place| place.to_string().into()).unwrap_or_default()
    }

    /// The signatures in a value, without their prefix: a list's elements are trimmed, those that have another prefix are
    /// of a scheme that is not ours.
    fn elements<'g>(&'g self, value: &'g str) -> impl Iterator<Item = &'g str> {
        self.raw_elements(value).filter_map(|element| element.strip_prefix(&*self.prefix))
    }

    fn raw_elements<'g>(&self, value: &'g str) -> impl Iterator<Item = &'g str> {
        let split = self.split;
        value
            .split(move |c| Some(c) == split)
            .map(move |element| if split.is_some() { element.trim_matches([' ', '\t']) } else { element })
    }

    fn candidates(&self, given: &Given<'_>) -> Result<SmallVec<[Decoded; SIGNATURES_MAX]>, VerifyError> {
        let mut candidates = SmallVec::new();
        let mut count = 0;
        for (place, value) in given {
            for element in self.elements(value) {
                count += 1;
                if count > SIGNATURES_MAX {
                    return Err(VerifyError::TooMany { place: place.to_string().into(), allowed: SIGNATURES_MAX });
                }
                let decoded = self.encoding.decode(element.as_bytes());
                candidates.extend(decoded.filter(|decoded| self.has_length(decoded.as_slice().len())));
            }
        }
        if candidates.is_empty() {
            let form = format!("{}{}", self.prefix, self.encoding.name()).into();
            return Err(VerifyError::NoSignature { place: self.sig_place(), form });
        }
        Ok(candidates)
    }

    fn has_length(&self, bytes: usize) -> bool {
        match &self.method {
            Method::Hmac(algorithm) => bytes == algorithm.digest_algorithm().output_len(),
            Method::Hash(algorithm) => bytes == algorithm.output_len(),
            Method::Ed25519 => bytes == 64,
            // In ASN.1 the numbers have the length they need.
            _ => true,
        }
    }

    /// The time as it is spelled, near enough to now; `None` if the scheme has none.
    fn checked_time<'a>(
        &self,
        request: &Request<'a>,
        given: &'a Given<'_>,
        now: Timestamp,
    ) -> Result<Option<Cow<'a, str>>, VerifyError> {
        let Some(rule) = &self.time else { return Ok(None) };
        let found = match &rule.place {
            Place::Sig(prefix) => self.element(given, prefix)?.map(Cow::Borrowed),
            place => place.read(request)?,
        };
        let time =
            found.filter(|time| !time.is_empty()).ok_or_else(|| VerifyError::Missing(rule.place.to_string().into()))?;
        rule.check(&time, now)?;
        Ok(Some(time))
    }

    /// The element of the signature's value that has this prefix.
    fn element<'g>(&self, given: &'g Given<'_>, prefix: &str) -> Result<Option<&'g str>, VerifyError> {
        let mut found = None;
        for element in given.iter().flat_map(|(_, value)| self.raw_elements(value)) {
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

    /// What `{id}` stands for.
    pub(super) fn id<'a>(&self, request: &Request<'a>) -> Result<Option<Cow<'a, str>>, VerifyError> {
        if !self.needs_id() {
            return Ok(None);
        }
        let mut joined: Option<Cow<'a, str>> = None;
        for place in &self.id {
            let value = place
                .read(request)?
                .filter(|value| !value.is_empty())
                .ok_or_else(|| VerifyError::Missing(place.to_string().into()))?;
            joined = Some(match joined {
                None => value,
                Some(before) => Cow::Owned(format!("{before}:{value}")),
            });
        }
        Ok(joined)
    }

    fn verify_token(&self, keys: &Keys<'_>, given: &Given<'_>) -> Result<(), VerifyError> {
        let mut found = Choice::from(0);
        let mut count = 0;
        for (place, value) in given {
            for token in self.elements(value).filter(|token| !token.is_empty()) {
                count += 1;
                if count > SIGNATURES_MAX {
                    return Err(VerifyError::TooMany { place: place.to_string().into(), allowed: SIGNATURES_MAX });
                }
                let digest = match self.method {
                    Method::Basic => basic(token).map(|pair| token_digest(&pair)),
                    _ => Some(token_digest(token.as_bytes())),
                };
                for key in keys {
                    if let (Some(digest), Kind::Token(expected)) = (&digest, &key.kind) {
                        found |= digest.as_ref().ct_eq(expected.as_ref());
                    }
                }
            }
        }
        if found.into() { Ok(()) } else { Err(VerifyError::Token) }
    }
}

/// `user:password` of `Basic BASE64` (RFC 7617): the user ends at the first colon, which both sides agree on if the whole
/// is the same.
fn basic(value: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    BASE64.decode(encoded.trim_matches(' ').as_bytes()).ok().map(Zeroizing::new)
}

/// Whether any key made any of the signatures.
fn any_fits(keys: &Keys<'_>, parts: &[Part<'_>], candidates: &[Decoded]) -> Choice {
    let mut joined: Option<Vec<u8>> = None;
    let mut found = Choice::from(0);
    let same = |made: &[u8]| candidates.iter().fold(Choice::from(0), |any, given| any | given.as_slice().ct_eq(made));
    for key in keys {
        found |= match &key.kind {
            Kind::Hmac(key) => same(mac(key, parts).as_ref()),
            Kind::Hash(algorithm, bytes) => same(hash(algorithm, bytes, parts).as_ref()),
            Kind::Public(public) => {
                let message = joined.get_or_insert_with(|| join(parts));
                let fits = candidates.iter().filter(|given| public.verify(message, given.as_slice()).is_ok()).count();
                Choice::from(u8::from(fits > 0))
            }
            Kind::Token(_) | Kind::Text => Choice::from(0),
        };
    }
    found
}

/// The MAC over the parts, each as it lies.
pub(super) fn mac(key: &hmac::Key, parts: &[Part<'_>]) -> hmac::Tag {
    let mut mac = hmac::Context::with_key(key);
    for part in parts {
        if let Part::Bytes(bytes) = part {
            mac.update(bytes);
        }
    }
    mac.sign()
}

/// The digest over the parts, the key among them.
pub(super) fn hash(algorithm: &'static digest::Algorithm, key: &[u8], parts: &[Part<'_>]) -> digest::Digest {
    let mut hash = digest::Context::new(algorithm);
    for part in parts {
        match part {
            Part::Bytes(bytes) => hash.update(bytes),
            Part::Key => hash.update(key),
        }
    }
    hash.finish()
}

/// The parts in one piece, for the algorithms that read what is signed twice.
pub(super) fn join(parts: &[Part<'_>]) -> Vec<u8> {
    let mut joined = Vec::new();
    for part in parts {
        if let Part::Bytes(bytes) = part {
            joined.extend_from_slice(bytes);
        }
    }
    joined
}
