//! Compiles profile settings to a [`Profile`]. Every error names the key of the wrong value.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use http::header::{self, HeaderName, HeaderValue};

use super::body_template::ObjectTemplate;
use super::header::HeaderTemplate;
use super::value::EnvelopeField;
use super::{BodyTemplate, Profile, ProfileSigning, RawEnvelope, RawProfile, RawSigning};
use crate::config::PartError;
use crate::limits::{
    PROFILE_FIELDS_MAX, PROFILE_HEADERS_MAX, PROFILE_NAME_BYTES_MAX, PROFILE_TEXT_BYTES_MAX, PROFILES_MAX,
};
use crate::model::header::HOPS;
use crate::outbound::{is_reserved_header, is_signature_header};
use crate::signature::standard::HEADER_PREFIX;
use crate::signature::{OneOrMany, OutboundScheme};

const HOMECHEF: &str = "homechef";

/// The settings of the built-in profiles.
static BUILT_IN_SETTINGS: LazyLock<BTreeMap<String, RawProfile>> =
    LazyLock::new(|| toml_edit::de::from_str(include_str!("built_in.toml")).unwrap_or_default());

/// The built-in profiles, the default first. A test checks that all profiles of the file are listed here.
pub(super) static BUILT_IN: LazyLock<Vec<Arc<Profile>>> = LazyLock::new(|| {
    let names = [Profile::STANDARD, RawEnvelope::RAW, HOMECHEF, "pyairtable", "epic"];
    let read = |name: &str| Some(Arc::new(ProfileChecker::default().profile(name, BUILT_IN_SETTINGS.get(name)?)));
    names.iter().filter_map(|name| read(name)).collect()
});

/// The built-in profiles, followed by the compiled profiles of `written`.
pub(super) fn all(
    written: &BTreeMap<String, RawProfile>,
    homechef_signature: Option<&str>,
) -> Result<Vec<Arc<Profile>>, Vec<PartError>> {
    let mut check = ProfileChecker::default();
    let mut all = BUILT_IN.clone();
    if let (Some(name), Some(raw)) = (homechef_signature, BUILT_IN_SETTINGS.get(HOMECHEF)) {
        let renamed = Arc::new(check.profile(HOMECHEF, &signing_in(raw, name)));
        all.iter_mut().filter(|profile| profile.name() == HOMECHEF).for_each(|old| *old = Arc::clone(&renamed));
    }
    if written.len() > PROFILES_MAX {
        check.errors.push(PartError { path: Vec::new(), problem: format!("at most {PROFILES_MAX} are allowed") });
    }
    for (name, raw) in written {
        if BUILT_IN_SETTINGS.contains_key(name) {
            check.add_error(name, &[], "this profile is built in; give yours another name");
        } else if !is_name(name) {
            let problem =
                format!("a profile's name is 1 to {PROFILE_NAME_BYTES_MAX} of a-z, 0-9 and -, not - at first");
            check.add_error(name, &[], problem);
        } else {
            all.push(Arc::new(check.profile(name, raw)));
        }
    }
    if check.errors.is_empty() { Ok(all) } else { Err(check.errors) }
}

/// The profile settings with another name for the signature header.
fn signing_in(raw: &RawProfile, header: &str) -> RawProfile {
    let mut raw = raw.clone();
    if let RawSigning::Scheme(scheme) = &mut raw.sign {
        scheme.sig = Some(OneOrMany::One(format!("header:{header}")));
    }
    raw
}

fn is_name(name: &str) -> bool {
    (1..=PROFILE_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
}

/// Compiles profiles and collects the errors.
#[derive(Default)]
struct ProfileChecker {
    errors: Vec<PartError>,
}

impl ProfileChecker {
    fn add_error(&mut self, profile: &str, path: &[&str], problem: impl Into<String>) {
        let path = [profile].iter().chain(path).map(|part| (*part).to_owned()).collect();
        self.errors.push(PartError { path, problem: problem.into() });
    }

    fn profile(&mut self, name: &str, raw: &RawProfile) -> Profile {
        let signing = self.signing(name, &raw.sign);
        let headers = self.headers(name, raw, &signing);
        if let ProfileSigning::Scheme(scheme) = &signing {
            for signed in scheme.signed_headers() {
                if headers.iter().all(|(own, _)| own != signed) {
                    let problem = format!("signs {{header:{signed}}}, which is none of the profile's headers");
                    self.add_error(name, &["sign", "signed"], problem);
                }
            }
        }
        Profile {
            name: name.into(),
            settings: Some(raw.clone()),
            body: self.body(name, &raw.envelope),
            headers,
            user_agent: raw.user_agent.as_deref().and_then(|text| self.user_agent(name, text)),
            signing,
        }
    }

    fn signing(&mut self, name: &str, sign: &RawSigning) -> ProfileSigning {
        match sign {
            RawSigning::Word(word) if word == RawSigning::STANDARD => ProfileSigning::Standard,
            RawSigning::Word(word) => {
                self.add_error(
                    name,
                    &["sign"],
                    format!("{word:?} is not {:?}, nor a scheme as a table", RawSigning::STANDARD),
                );
                ProfileSigning::NotConfigured
            }
            RawSigning::Scheme(raw) => match OutboundScheme::try_new(raw) {
                Ok(scheme) => {
                    for header in scheme.headers().filter(|header| !is_signature_header(header)) {
                        if let Some(problem) = refusal(header, false) {
                            self.add_error(name, &["sign"], format!("{header}: {problem}"));
                        }
                    }
                    ProfileSigning::Scheme(Box::new(scheme))
                }
                Err(errors) => {
                    for error in errors {
                        self.add_error(name, &["sign", error.field], error.detail);
                    }
                    ProfileSigning::NotConfigured
                }
            },
        }
    }

    fn headers(&mut self, name: &str, raw: &RawProfile, signing: &ProfileSigning) -> Vec<(HeaderName, HeaderTemplate)> {
        let is_standard = matches!(signing, ProfileSigning::Standard);
        let mut headers: Vec<(HeaderName, HeaderTemplate)> = Vec::with_capacity(raw.headers.len());
        if raw.headers.len() > PROFILE_HEADERS_MAX {
            self.add_error(name, &["headers"], format!("at most {PROFILE_HEADERS_MAX} are allowed"));
        }
        for (key, text) in &raw.headers {
            let at = ["headers", key.as_str()];
            let Ok(header) = HeaderName::try_from(key.as_str()) else {
                self.add_error(name, &at, "this is no header name: letters, digits and -");
                continue;
            };
            if let Some(problem) = refusal(&header, is_standard) {
                self.add_error(name, &at, problem);
            } else if headers.iter().any(|(other, _)| *other == header) {
                self.add_error(name, &at, "given twice; header names do not differ by case");
            } else if matches!(signing, ProfileSigning::Scheme(scheme) if scheme.headers().any(|own| *own == header)) {
                self.add_error(name, &at, "the signature sets this header");
            } else if text.len() > PROFILE_TEXT_BYTES_MAX {
                self.add_error(name, &at, format!("at most {PROFILE_TEXT_BYTES_MAX} characters are allowed"));
            } else {
                match text.parse() {
                    Ok(template) => headers.push((header, template)),
                    Err(problem) => self.add_error(name, &at, problem),
                }
            }
        }
        headers
    }

    fn body(&mut self, name: &str, envelope: &RawEnvelope) -> BodyTemplate {
        let written = match envelope {
            RawEnvelope::Word(word) if word == RawEnvelope::RAW => return BodyTemplate::Raw,
            RawEnvelope::Word(word) => {
                let problem = format!("{word:?} is not {:?}, nor a table of fields", RawEnvelope::RAW);
                self.add_error(name, &["envelope"], problem);
                return BodyTemplate::Raw;
            }
            RawEnvelope::Fields(written) => written,
        };
        if !(1..=PROFILE_FIELDS_MAX).contains(&written.len()) {
            self.add_error(name, &["envelope"], format!("expected 1 to {PROFILE_FIELDS_MAX} fields, or \"raw\""));
        }
        let mut fields: Vec<(String, EnvelopeField)> = Vec::with_capacity(written.len());
        for (key, value) in written {
            let at = ["envelope", key.as_str()];
            match EnvelopeField::from_name(value) {
                _ if key.len() > PROFILE_TEXT_BYTES_MAX => {
                    self.add_error(name, &["envelope"], format!("a name has at most {PROFILE_TEXT_BYTES_MAX} bytes"));
                }
                None => {
                    let names: Vec<_> = EnvelopeField::NAMES.iter().map(|(own, _)| *own).collect();
                    self.add_error(name, &at, format!("{value:?} is no value; allowed: {}", names.join(", ")));
                }
                Some(EnvelopeField::Data) if fields.iter().any(|(_, field)| *field == EnvelopeField::Data) => {
                    self.add_error(name, &at, "the data is there twice");
                }
                Some(field) => fields.push((key.clone(), field)),
            }
        }
        BodyTemplate::Object(ObjectTemplate::new(&fields))
    }

    fn user_agent(&mut self, name: &str, text: &str) -> Option<HeaderValue> {
        let fits =
            (1..=PROFILE_TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7F).contains(&b));
        let value = HeaderValue::from_str(text).ok().filter(|_| fits);
        if value.is_none() {
            let problem = format!("expected 1 to {PROFILE_TEXT_BYTES_MAX} visible characters of ASCII, and spaces");
            self.add_error(name, &["user_agent"], problem);
        }
        value
    }
}

/// Why a profile cannot set this header. Profiles that do not sign according to Standard Webhooks may use the headers
/// of that specification.
fn refusal(header: &HeaderName, is_standard: bool) -> Option<&'static str> {
    let is_free = header.as_str().starts_with(HEADER_PREFIX) && !is_standard && header != HOPS;
    if *header == header::USER_AGENT {
        return Some("has a key of its own, user_agent");
    }
    let is_ours = *header == header::CONTENT_TYPE || header.as_str().starts_with("content-");
    (is_ours || is_reserved_header(header) && !is_free).then_some("this header is set by the server or by HTTP itself")
}
