//! From a profile as it is written to one that deliveries can have: everything that is wrong is named by its key.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use http::header::{self, HeaderName, HeaderValue};

use super::envelope::Object;
use super::header::HeaderTemplate;
use super::value::Field;
use super::{Body, Envelope, Profile, ProfileError, RawProfile, Sign, Signing};
use crate::limits::{
    PROFILE_FIELDS_MAX, PROFILE_HEADERS_MAX, PROFILE_NAME_BYTES_MAX, PROFILE_TEXT_BYTES_MAX, PROFILES_MAX,
};
use crate::model::header::HOPS;
use crate::outbound::{is_reserved_header, is_signature_header};
use crate::signature::standard::HEADER_PREFIX;
use crate::signature::{OneOrMany, Outbound};

const HOMECHEF: &str = "homechef";

/// The profiles as they are written in the program.
static WRITTEN: LazyLock<BTreeMap<String, RawProfile>> =
    LazyLock::new(|| toml_edit::de::from_str(include_str!("built_in.toml")).unwrap_or_default());

/// The default first; a test sees to it that all of the file are here.
pub(super) static BUILT_IN: LazyLock<Vec<Arc<Profile>>> = LazyLock::new(|| {
    let names = [Profile::STANDARD, Envelope::RAW, HOMECHEF, "pyairtable", "epic"];
    let read = |name: &str| Some(Arc::new(Check::default().profile(name, WRITTEN.get(name)?)));
    names.iter().filter_map(|name| read(name)).collect()
});

/// Those built in, then these.
pub(super) fn all(
    written: &BTreeMap<String, RawProfile>,
    homechef_signature: Option<&str>,
) -> Result<Vec<Arc<Profile>>, Vec<ProfileError>> {
    let mut check = Check::default();
    let mut all = BUILT_IN.clone();
    if let (Some(name), Some(raw)) = (homechef_signature, WRITTEN.get(HOMECHEF)) {
        let renamed = Arc::new(check.profile(HOMECHEF, &signing_in(raw, name)));
        all.iter_mut().filter(|profile| profile.name() == HOMECHEF).for_each(|old| *old = Arc::clone(&renamed));
    }
    if written.len() > PROFILES_MAX {
        check.errors.push(ProfileError { path: Vec::new(), problem: format!("at most {PROFILES_MAX} are allowed") });
    }
    for (name, raw) in written {
        if WRITTEN.contains_key(name) {
            check.wrong(name, &[], "this profile is built in; give yours another name");
        } else if !is_name(name) {
            let problem =
                format!("a profile's name is 1 to {PROFILE_NAME_BYTES_MAX} of a-z, 0-9 and -, not - at first");
            check.wrong(name, &[], problem);
        } else {
            all.push(Arc::new(check.profile(name, raw)));
        }
    }
    if check.errors.is_empty() { Ok(all) } else { Err(check.errors) }
}

/// The profile with another header for its signature.
fn signing_in(raw: &RawProfile, header: &str) -> RawProfile {
    let mut raw = raw.clone();
    if let Sign::Scheme(scheme) = &mut raw.sign {
        scheme.sig = Some(OneOrMany::One(format!("header:{header}")));
    }
    raw
}

fn is_name(name: &str) -> bool {
    (1..=PROFILE_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
}

/// Collects what is wrong.
#[derive(Default)]
struct Check {
    errors: Vec<ProfileError>,
}

impl Check {
    fn wrong(&mut self, profile: &str, path: &[&str], problem: impl Into<String>) {
        let path = [profile].iter().chain(path).map(|part| (*part).to_owned()).collect();
        self.errors.push(ProfileError { path, problem: problem.into() });
    }

    fn profile(&mut self, name: &str, raw: &RawProfile) -> Profile {
        let signing = self.signing(name, &raw.sign);
        let headers = self.headers(name, raw, &signing);
        if let Signing::Scheme(scheme) = &signing {
            for signed in scheme.signed_headers() {
                if headers.iter().all(|(own, _)| own != signed) {
                    let problem = format!("signs {{header:{signed}}}, which is none of the profile's headers");
                    self.wrong(name, &["sign", "signed"], problem);
                }
            }
        }
        Profile {
            name: name.into(),
            written: Some(raw.clone()),
            body: self.body(name, &raw.envelope),
            headers,
            user_agent: raw.user_agent.as_deref().and_then(|text| self.user_agent(name, text)),
            signing,
        }
    }

    fn signing(&mut self, name: &str, sign: &Sign) -> Signing {
        match sign {
            Sign::Word(word) if word == Sign::STANDARD => Signing::Standard,
            Sign::Word(word) => {
                self.wrong(name, &["sign"], format!("{word:?} is not {:?}, nor a scheme as a table", Sign::STANDARD));
                Signing::Unknown
            }
            Sign::Scheme(raw) => match Outbound::try_new(raw) {
                Ok(scheme) => {
                    for header in scheme.headers().filter(|header| !is_signature_header(header)) {
                        if let Some(problem) = refusal(header, false) {
                            self.wrong(name, &["sign"], format!("{header}: {problem}"));
                        }
                    }
                    Signing::Scheme(Box::new(scheme))
                }
                Err(errors) => {
                    for error in errors {
                        self.wrong(name, &["sign", error.field], error.detail);
                    }
                    Signing::Unknown
                }
            },
        }
    }

    fn headers(&mut self, name: &str, raw: &RawProfile, signing: &Signing) -> Vec<(HeaderName, HeaderTemplate)> {
        let is_standard = matches!(signing, Signing::Standard);
        let mut headers: Vec<(HeaderName, HeaderTemplate)> = Vec::with_capacity(raw.headers.len());
        if raw.headers.len() > PROFILE_HEADERS_MAX {
            self.wrong(name, &["headers"], format!("at most {PROFILE_HEADERS_MAX} are allowed"));
        }
        for (key, text) in &raw.headers {
            let at = ["headers", key.as_str()];
            let Ok(header) = HeaderName::try_from(key.as_str()) else {
                self.wrong(name, &at, "this is no header name: letters, digits and -");
                continue;
            };
            if let Some(problem) = refusal(&header, is_standard) {
                self.wrong(name, &at, problem);
            } else if headers.iter().any(|(other, _)| *other == header) {
                self.wrong(name, &at, "given twice; header names do not differ by case");
            } else if matches!(signing, Signing::Scheme(scheme) if scheme.headers().any(|own| *own == header)) {
                self.wrong(name, &at, "the signature sets this header");
            } else if text.len() > PROFILE_TEXT_BYTES_MAX {
                self.wrong(name, &at, format!("at most {PROFILE_TEXT_BYTES_MAX} characters are allowed"));
            } else {
                match text.parse() {
                    Ok(template) => headers.push((header, template)),
                    Err(problem) => self.wrong(name, &at, problem),
                }
            }
        }
        headers
    }

    fn body(&mut self, name: &str, envelope: &Envelope) -> Body {
        let written = match envelope {
            Envelope::Word(word) if word == Envelope::RAW => return Body::Raw,
            Envelope::Word(word) => {
                let problem = format!("{word:?} is not {:?}, nor a table of fields", Envelope::RAW);
                self.wrong(name, &["envelope"], problem);
                return Body::Raw;
            }
            Envelope::Fields(written) => written,
        };
        if !(1..=PROFILE_FIELDS_MAX).contains(&written.len()) {
            self.wrong(name, &["envelope"], format!("expected 1 to {PROFILE_FIELDS_MAX} fields, or \"raw\""));
        }
        let mut fields: Vec<(String, Field)> = Vec::with_capacity(written.len());
        for (key, value) in written {
            let at = ["envelope", key.as_str()];
            match Field::named(value) {
                _ if key.len() > PROFILE_TEXT_BYTES_MAX => {
                    self.wrong(name, &["envelope"], format!("a name has at most {PROFILE_TEXT_BYTES_MAX} bytes"));
                }
                None => {
                    let names: Vec<_> = Field::NAMES.iter().map(|(own, _)| *own).collect();
                    self.wrong(name, &at, format!("{value:?} is no value; allowed: {}", names.join(", ")));
                }
                Some(Field::Data) if fields.iter().any(|(_, field)| *field == Field::Data) => {
                    self.wrong(name, &at, "the data is there twice");
                }
                Some(field) => fields.push((key.clone(), field)),
            }
        }
        Body::Object(Object::new(&fields))
    }

    fn user_agent(&mut self, name: &str, text: &str) -> Option<HeaderValue> {
        let fits =
            (1..=PROFILE_TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7F).contains(&b));
        let value = HeaderValue::from_str(text).ok().filter(|_| fits);
        if value.is_none() {
            let problem = format!("expected 1 to {PROFILE_TEXT_BYTES_MAX} visible characters of ASCII, and spaces");
            self.wrong(name, &["user_agent"], problem);
        }
        value
    }
}

/// Why a profile cannot set this header. Those of Standard Webhooks are free where that does not sign.
fn refusal(header: &HeaderName, is_standard: bool) -> Option<&'static str> {
    let is_free = header.as_str().starts_with(HEADER_PREFIX) && !is_standard && header != HOPS;
    if *header == header::USER_AGENT {
        return Some("has a key of its own, user_agent");
    }
    let is_ours = *header == header::CONTENT_TYPE || header.as_str().starts_with("content-");
    (is_ours || is_reserved_header(header) && !is_free).then_some("this header is set by the server or by HTTP itself")
}
