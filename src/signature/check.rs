//! Compiles the settings of a signature scheme to a [`Scheme`]. All violated rules are reported, not only the first.

use ring::{digest, hmac};

use super::code::CodeScheme;
use super::encoding::Encoding;
use super::jwt::JwtRules;
use super::key::SecretFormat;
use super::scheme::Method;
use super::signed_content::{ContentPlaceholder, SignedContent};
use super::time::{TimeRule, TimestampUnit};
use super::{RawScheme, Scheme, SchemeError, ValueLocation};
use crate::json::Pointer;
use crate::limits::{TOLERANCE_SECONDS_DEFAULT, TOLERANCE_SECONDS_MAX};

/// Collects the errors of a scheme.
#[derive(Default)]
struct SchemeErrors(Vec<SchemeError>);

impl SchemeErrors {
    fn add(&mut self, field: &'static str, detail: impl Into<String>) {
        self.0.push(SchemeError { field, detail: detail.into() });
    }

    /// Returns the value, or adds the error and returns `None`.
    fn take<T>(&mut self, field: &'static str, result: Result<T, impl ToString>) -> Option<T> {
        result.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// Adds an error for each given field that has no meaning with this scheme.
    fn refuse(&mut self, fields: &[(&'static str, bool)], scheme: &str) {
        for (field, is_given) in fields {
            if *is_given {
                self.add(field, format!("has no meaning with scheme = {scheme:?}"));
            }
        }
    }
}

/// Compiles a scheme, for [`Scheme::try_new`].
pub(super) fn scheme(raw: &RawScheme) -> Result<Scheme, Vec<SchemeError>> {
    let mut errors = SchemeErrors::default();
    let parsed = method(raw, &mut errors).map(|method| {
        let form = form(raw, &method, &mut errors);
        let sig = locations(raw, &method, &mut errors);
        let split = split(raw, &mut errors);
        let scheme = Scheme {
            encoding: encoding(raw, &method, &mut errors),
            signed: signed(raw, &method, &mut errors),
            time: time(raw, &mut errors),
            prefix: raw.prefix.as_deref().unwrap_or_default().into(),
            id: Vec::new(),
            each: each(raw, &mut errors),
            method,
            form,
            sig,
            split,
        };
        relations(&scheme, raw, &mut errors);
        scheme
    });
    match parsed {
        Some(scheme) if errors.0.is_empty() => Ok(scheme),
        _ => Err(errors.0),
    }
}

fn method(raw: &RawScheme, errors: &mut SchemeErrors) -> Option<Method> {
    let method = match raw.scheme.as_str() {
        "hmac" => Some(Method::Hmac(hmac::HMAC_SHA256)),
        "hash" => Some(Method::Hash(&digest::SHA256)),
        "ed25519" => Some(Method::Ed25519),
        "ecdsa-p256" => Some(Method::EcdsaP256),
        "token" => Some(Method::Token),
        "basic" => Some(Method::Basic),
        "jwt" => return jwt(raw, errors),
        "none" => Some(Method::None),
        other => other.strip_prefix("code:").and_then(|name| name.parse::<CodeScheme>().ok()).map(Method::Code),
    };
    let Some(method) = method else {
        let allowed = "hmac, hash, ed25519, ecdsa-p256, jwt, token, basic, none, code:twilio, code:mandrill, code:contentful, \
                       code:braintree, code:paypal, code:sns";
        errors.add("scheme", format!("{:?} is not known; allowed: {allowed}", raw.scheme));
        return None;
    };
    errors.refuse(&[("jwt", raw.jwt.is_some())], &raw.scheme);
    let Some(alg) = raw.alg.as_deref() else { return Some(method) };
    let named = match (&method, alg) {
        (Method::Hmac(_), "sha1") => Method::Hmac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        (Method::Hmac(_), "sha256") => Method::Hmac(hmac::HMAC_SHA256),
        (Method::Hmac(_), "sha512") => Method::Hmac(hmac::HMAC_SHA512),
        (Method::Hash(_), "sha1") => Method::Hash(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        (Method::Hash(_), "sha256") => Method::Hash(&digest::SHA256),
        (Method::Hash(_), "sha512") => Method::Hash(&digest::SHA512),
        (Method::Hmac(_) | Method::Hash(_), _) => {
            errors.add("alg", format!("{alg:?} is not known; allowed: sha1, sha256, sha512"));
            method
        }
        _ => {
            errors.refuse(&[("alg", true)], &raw.scheme);
            method
        }
    };
    Some(named)
}

/// The rules of a token. `tolerance` is the allowed age of its time of issue.
fn jwt(raw: &RawScheme, errors: &mut SchemeErrors) -> Option<Method> {
    let has_no_meaning = [
        ("alg", raw.alg.is_some()),
        ("split", raw.split.is_some()),
        ("prefix", raw.prefix.is_some()),
        ("encoding", raw.encoding.is_some()),
        ("signed", raw.signed.is_some()),
        ("time", raw.time.is_some()),
        ("unit", raw.unit.is_some()),
        ("each", raw.each.is_some()),
    ];
    errors.refuse(&has_no_meaning, &raw.scheme);
    if raw.tolerance.is_some_and(|tolerance| !(1..=TOLERANCE_SECONDS_MAX).contains(&tolerance)) {
        errors.add("tolerance", format!("expected 1 to {TOLERANCE_SECONDS_MAX} seconds"));
    }
    let Some(jwt) = &raw.jwt else {
        errors.add("jwt", "is missing: { alg, jwks, claims, … }");
        return None;
    };
    let rules = JwtRules::try_new(jwt, raw.tolerance);
    rules
        .map_err(|wrong| wrong.into_iter().for_each(|detail| errors.add("jwt", detail)))
        .ok()
        .map(Box::new)
        .map(Method::Jwt)
}

fn form(raw: &RawScheme, method: &Method, errors: &mut SchemeErrors) -> SecretFormat {
    let all = [
        ("utf8", SecretFormat::Utf8),
        ("hex", SecretFormat::Hex),
        ("base64", SecretFormat::Base64),
        ("whsec", SecretFormat::Whsec),
        ("whpk", SecretFormat::Whpk),
        ("spki-base64", SecretFormat::SpkiBase64),
    ];
    let allowed: &[SecretFormat] = match method {
        Method::Hmac(_) | Method::Hash(_) => {
            &[SecretFormat::Utf8, SecretFormat::Hex, SecretFormat::Base64, SecretFormat::Whsec]
        }
        Method::Ed25519 => &[SecretFormat::Hex, SecretFormat::Base64, SecretFormat::Whpk, SecretFormat::SpkiBase64],
        Method::EcdsaP256 => &[SecretFormat::Hex, SecretFormat::Base64, SecretFormat::SpkiBase64],
        Method::Jwt(rules) if rules.is_shared() => &[SecretFormat::Utf8, SecretFormat::Hex, SecretFormat::Base64],
        Method::Token | Method::Basic | Method::Jwt(_) | Method::None | Method::Code(_) => &[SecretFormat::Utf8],
    };
    let given = raw.key.as_deref().unwrap_or("utf8");
    let found = all.iter().find(|(name, form)| *name == given && allowed.contains(form)).map(|(_, form)| *form);
    found.unwrap_or_else(|| {
        let names: Vec<_> = all.iter().filter(|(_, form)| allowed.contains(form)).map(|(name, _)| *name).collect();
        errors.add("key", format!("{given:?} is no key of scheme = {:?}; allowed: {}", raw.scheme, names.join(", ")));
        SecretFormat::Utf8
    })
}

fn locations(raw: &RawScheme, method: &Method, errors: &mut SchemeErrors) -> Vec<ValueLocation> {
    let Some(written) = &raw.sig else {
        if !matches!(method, Method::None | Method::Code(_)) {
            errors.add("sig", "is missing: where does the signature stand?");
        }
        return Vec::new();
    };
    let mut locations = Vec::new();
    for text in written.iter() {
        match errors.take("sig", text.parse::<ValueLocation>()) {
            Some(ValueLocation::Sig(_) | ValueLocation::Const(_)) => {
                errors.add("sig", format!("{text}: no signature stands there"));
            }
            Some(location) => locations.push(location),
            None => (),
        }
    }
    if written.iter().next().is_none() {
        errors.add("sig", "is empty: where does the signature stand?");
    }
    locations
}

fn split(raw: &RawScheme, errors: &mut SchemeErrors) -> Option<char> {
    let mut chars = raw.split.as_deref()?.chars();
    let (Some(one @ (',' | ';' | ' ')), None) = (chars.next(), chars.next()) else {
        errors.add("split", "expected \",\", \";\" or \" \"");
        return None;
    };
    if raw.prefix.as_deref().is_some_and(|prefix| prefix.contains(one)) {
        errors.add("prefix", "holds what separates signatures, so that none has it");
    }
    Some(one)
}

fn encoding(raw: &RawScheme, method: &Method, errors: &mut SchemeErrors) -> Encoding {
    let is_needed = matches!(method, Method::Hmac(_) | Method::Hash(_) | Method::Ed25519 | Method::EcdsaP256);
    match raw.encoding.as_deref() {
        Some("hex") => Encoding::Hex,
        Some("base64") => Encoding::Base64,
        Some("base64url") => Encoding::Base64Url,
        None if !is_needed => Encoding::Hex,
        None => {
            errors.add("encoding", "is missing; allowed: hex, base64, base64url");
            Encoding::Hex
        }
        Some(other) => {
            errors.add("encoding", format!("{other:?} is not known; allowed: hex, base64, base64url"));
            Encoding::Hex
        }
    }
}

fn signed(raw: &RawScheme, method: &Method, errors: &mut SchemeErrors) -> SignedContent {
    let is_signed = matches!(method, Method::Hmac(_) | Method::Hash(_) | Method::Ed25519 | Method::EcdsaP256);
    let text = if is_signed { raw.signed.as_deref().unwrap_or("{body}") } else { "" };
    let Some(signed) = errors.take("signed", text.parse::<SignedContent>()) else { return SignedContent::default() };
    if is_signed && !signed.depends_on_request() {
        errors.add("signed", "holds nothing of the request, so that one signature would fit all");
    }
    match (signed.has(&ContentPlaceholder::Key), method) {
        (false, Method::Hash(_)) => errors.add("signed", "a hash without {key} is no signature: anybody can make it"),
        (true, Method::Hash(_)) | (false, _) => (),
        (true, _) => errors.add("signed", "{key} has a meaning with scheme = \"hash\" only"),
    }
    signed
}

fn time(raw: &RawScheme, errors: &mut SchemeErrors) -> Option<TimeRule> {
    let Some(text) = &raw.time else {
        let is_age = raw.scheme == "jwt";
        for (field, is_given) in [("unit", raw.unit.is_some()), ("tolerance", raw.tolerance.is_some() && !is_age)] {
            if is_given {
                errors.add(field, "has a meaning with `time` only");
            }
        }
        return None;
    };
    let location = errors.take("time", text.parse::<ValueLocation>());
    if let Some(ValueLocation::Const(_) | ValueLocation::Path) = location {
        errors.add("time", format!("{text}: no time stands there"));
    }
    let unit = match raw.unit.as_deref() {
        None | Some("s") => TimestampUnit::Seconds,
        Some("ms") => TimestampUnit::Millis,
        Some("s-or-ms") => TimestampUnit::SecondsOrMillis,
        Some("rfc3339") => TimestampUnit::Rfc3339,
        Some(other) => {
            errors.add("unit", format!("{other:?} is not known; allowed: s, ms, s-or-ms, rfc3339"));
            TimestampUnit::Seconds
        }
    };
    let tolerance_s = raw.tolerance.unwrap_or(TOLERANCE_SECONDS_DEFAULT);
    if !(1..=TOLERANCE_SECONDS_MAX).contains(&tolerance_s) {
        errors.add("tolerance", format!("expected 1 to {TOLERANCE_SECONDS_MAX} seconds"));
    }
    location.map(|location| TimeRule { location, unit, tolerance_s })
}

fn each(raw: &RawScheme, errors: &mut SchemeErrors) -> Option<Pointer> {
    let text = raw.each.as_deref()?;
    errors.take("each", Pointer::try_new(text.strip_prefix("json:").unwrap_or(text)))
}

/// The code of a scheme decides what is signed and where. The settings may say so, but not otherwise.
fn code_scheme(which: CodeScheme, scheme: &Scheme, raw: &RawScheme, errors: &mut SchemeErrors) {
    let has_no_meaning = [
        ("split", raw.split.is_some()),
        ("prefix", raw.prefix.is_some()),
        ("encoding", raw.encoding.is_some()),
        ("signed", raw.signed.is_some()),
        ("each", raw.each.is_some()),
    ];
    errors.refuse(&has_no_meaning, &raw.scheme);
    let fixed = |text: &str| text.parse::<ValueLocation>().ok();
    let sig = which.signature_location();
    if scheme.sig.iter().any(|location| Some(location) != fixed(sig).as_ref()) {
        let other = match which {
            CodeScheme::Twilio => "; code:mandrill reads header:X-Mandrill-Signature",
            CodeScheme::Mandrill => "; code:twilio reads header:X-Twilio-Signature",
            _ => "",
        };
        errors.add("sig", format!("scheme = {:?} reads its signature at {sig}: leave it out{other}", raw.scheme));
    }
    let Some(time) = &scheme.time else { return };
    let wanted = which.time_location();
    if wanted.and_then(fixed).as_ref() != Some(&time.location) {
        let detail = match wanted {
            Some(wanted) => format!("scheme = {:?} reads its time at {wanted}", raw.scheme),
            None => format!("has no meaning with scheme = {:?}", raw.scheme),
        };
        errors.add("time", detail);
    }
}

/// Checks rules that concern several fields.
fn relations(scheme: &Scheme, raw: &RawScheme, errors: &mut SchemeErrors) {
    match scheme.method {
        Method::Code(which) => return code_scheme(which, scheme, raw, errors),
        Method::Jwt(_) => {
            let is_in_head =
                |location: &ValueLocation| matches!(location, ValueLocation::Header(_) | ValueLocation::Query(_));
            if !scheme.sig.iter().all(is_in_head) {
                errors.add("sig", "a token stands in a header or in the query: header:NAME, query:NAME");
            }
            return;
        }
        Method::None => errors.refuse(
            &[
                ("sig", raw.sig.is_some()),
                ("split", raw.split.is_some()),
                ("prefix", raw.prefix.is_some()),
                ("each", raw.each.is_some()),
            ],
            &raw.scheme,
        ),
        _ => (),
    }
    if let Method::Token | Method::Basic | Method::None = scheme.method {
        let given =
            [("encoding", raw.encoding.is_some()), ("signed", raw.signed.is_some()), ("time", raw.time.is_some())];
        return errors.refuse(&given, &raw.scheme);
    }
    // A signature cannot cover itself.
    for location in &scheme.sig {
        let is_inside = match location {
            ValueLocation::Json(_) | ValueLocation::Form(_) | ValueLocation::FormJson(..) => {
                scheme.signed.has(&ContentPlaceholder::Body)
            }
            ValueLocation::Query(_) | ValueLocation::Path => scheme.signed.has_url(),
            _ => false,
        } || scheme.signed.covers(location);
        if is_inside {
            errors.add("signed", format!("covers {location}, where the signature itself stands"));
        }
    }
    if scheme.each.is_some() && !scheme.sig.iter().all(|location| matches!(location, ValueLocation::Json(_))) {
        errors.add("sig", "with `each` the signature of an element stands in it: json:/POINTER");
    }
    let Some(time) = &scheme.time else {
        if scheme.signed.has(&ContentPlaceholder::Time) && raw.time.is_none() {
            errors.add("time", "is missing, but {time} is signed: where does it stand?");
        }
        return;
    };
    if let ValueLocation::Sig(_) = time.location
        && (scheme.split.is_none() || scheme.sig.len() != 1)
    {
        errors.add("time", "sig: needs `split`, and one place in `sig`");
    }
    if !scheme.signed.has(&ContentPlaceholder::Time) && !scheme.signed.covers(&time.location) {
        errors.add("time", "is not signed, so that anybody can change it: add {time} to `signed`");
    }
}
