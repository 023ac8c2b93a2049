//! The field `auth` of a webhook: the credentials that deliveries send to the endpoint. This module parses and renders
//! it.

use std::sync::Arc;

use http::HeaderName;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::headers::header_name;
use crate::limits::{AUTH_PASSWORD_CHARS_MAX, AUTH_USERNAME_CHARS_MAX, AUTH_VALUE_CHARS_MAX};
use crate::model::{FieldError, HIDDEN, Secret};
use crate::outbound::{Credentials, EndpointAuth};
use crate::service::fields::{DocumentFields, FieldUpdate, pointer};

/// The types of credentials and the members of each. All members except `username` and `name` are secrets.
const KINDS: [(&str, &[&str]); 3] =
    [("basic", &["username", "password"]), ("bearer", &["token"]), ("header", &["name", "value"])];

/// The credentials that absent or hidden members fall back to.
struct PresentCredentials<'a> {
    /// The present credentials, if they have the same type. A secret of `***` keeps their secret.
    kept: Option<&'a Credentials>,
    /// Whether absent members keep their present value.
    merge: bool,
}

impl DocumentFields {
    /// Reads `auth`. A patch is merged with present credentials of the same type. A secret of `***` keeps the present
    /// secret.
    pub(super) fn auth(&mut self, present: Option<&EndpointAuth>, merge: bool) -> FieldUpdate<Arc<EndpointAuth>> {
        let read = |value: Value| match value {
            Value::Object(given) => Ok(given),
            _ => Err("expected an object with type: basic, bearer or header".to_owned()),
        };
        let mut part = match self.take("auth", read) {
            FieldUpdate::Value(given) => Self::new(given),
            FieldUpdate::Null => return FieldUpdate::Null,
            FieldUpdate::Absent => return FieldUpdate::Absent,
        };
        let credentials = credentials(&mut part, present.map(EndpointAuth::credentials), merge);
        let below = |error: FieldError| FieldError { pointer: format!("/auth{}", error.pointer), ..error };
        let is_good = part.errors.is_empty();
        self.errors.extend(part.errors.into_iter().map(below));
        match credentials.map(EndpointAuth::try_new) {
            Some(Ok(auth)) if is_good => FieldUpdate::Value(Arc::new(auth)),
            Some(Err(_)) if is_good => {
                self.wrong("/auth", "expected what a header can carry");
                FieldUpdate::Absent
            }
            _ => FieldUpdate::Absent,
        }
    }
}

/// The JSON pointer of the field that names the header of the credentials.
pub(super) fn place(auth: &EndpointAuth) -> &'static str {
    match auth.credentials() {
        Credentials::Header { .. } => "/auth/name",
        Credentials::Basic { .. } | Credentials::Bearer { .. } => "/auth",
    }
}

fn credentials(part: &mut DocumentFields, present: Option<&Credentials>, merge: bool) -> Option<Credentials> {
    let kind = part.unread.remove("type").or(present.filter(|_| merge).map(|present| kind_of(present).into()));
    let kind = kind.as_ref().and_then(Value::as_str);
    let Some((kind, members)) = KINDS.into_iter().find(|(known, _)| kind == Some(*known)) else {
        part.wrong("/type", "is required: basic, bearer or header");
        return None;
    };
    // A client that changes the type may set the members of the previous type to `null`.
    let is_others = |key: &str| !members.contains(&key) && KINDS.iter().any(|(_, all)| all.contains(&key));
    part.unread.retain(|key, value| !(value.is_null() && is_others(key)));
    let present = PresentCredentials { kept: present.filter(|present| kind_of(present) == kind), merge };
    let read = match kind {
        "basic" => basic(part, &present),
        "bearer" => part.secret("token", &present, token).map(|token| Credentials::Bearer { token }),
        _ => header(part, &present),
    };
    for key in part.unread.keys() {
        let detail = format!("unknown field; allowed with this type: type, {}", members.join(", "));
        part.errors.push(FieldError::new(pointer(key), detail));
    }
    read
}

fn basic(part: &mut DocumentFields, present: &PresentCredentials<'_>) -> Option<Credentials> {
    let kept = match present.kept {
        Some(Credentials::Basic { username, .. }) => Some(username.clone()),
        _ => None,
    };
    let allowed =
        format!("expected text of at most {AUTH_USERNAME_CHARS_MAX} characters, without : and control characters");
    let read = |value: Value| match value.as_str() {
        Some(text) if is_text(text, AUTH_USERNAME_CHARS_MAX) && !text.contains(':') => Ok(text.into()),
        _ => Err(allowed.clone()),
    };
    let username = part.member("username", kept.filter(|_| present.merge), &allowed, read);
    let password = part.secret("password", present, password);
    Some(Credentials::Basic { username: username?, password: password? })
}

fn header(part: &mut DocumentFields, present: &PresentCredentials<'_>) -> Option<Credentials> {
    let kept = match present.kept {
        Some(Credentials::Header { name, .. }) => Some(name.clone()),
        _ => None,
    };
    let read = |value: Value| header_name(value.as_str().unwrap_or_default());
    let name: Option<HeaderName> = part.member("name", kept.filter(|_| present.merge), "expected a header name", read);
    let value = part.secret("value", present, value);
    Some(Credentials::Header { name: name?, value: value? })
}

impl DocumentFields {
    /// Reads a member that is required unless its present value is kept.
    fn member<T>(
        &mut self,
        key: &str,
        kept: Option<T>,
        allowed: &str,
        read: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        let is_given = self.unread.contains_key(key);
        match self.take(key, read) {
            FieldUpdate::Value(value) => return Some(value),
            // The error is already recorded.
            FieldUpdate::Absent if is_given => return None,
            FieldUpdate::Absent if kept.is_some() => return kept,
            FieldUpdate::Absent | FieldUpdate::Null => {}
        }
        self.wrong(pointer(key), format!("is required: {allowed}"));
        None
    }

    fn secret(
        &mut self,
        key: &str,
        present: &PresentCredentials<'_>,
        read: fn(&str) -> Result<(), String>,
    ) -> Option<Secret> {
        let kept = present.kept.map(secret_of).cloned();
        let stays = kept.clone().filter(|_| present.merge);
        self.member(key, stays, "the secret", |value| match value {
            Value::String(text) if text == HIDDEN => {
                kept.ok_or_else(|| format!("{HIDDEN} keeps a secret, and there is none"))
            }
            Value::String(text) => read(&text).map(|()| Secret::new(text)),
            _ => Err("expected text".to_owned()),
        })
    }
}

fn password(text: &str) -> Result<(), String> {
    let allowed = || format!("expected text of 1 to {AUTH_PASSWORD_CHARS_MAX} characters, without control characters");
    if !text.is_empty() && is_text(text, AUTH_PASSWORD_CHARS_MAX) { Ok(()) } else { Err(allowed()) }
}

fn token(text: &str) -> Result<(), String> {
    let allowed = || format!("expected 1 to {AUTH_VALUE_CHARS_MAX} visible characters of ASCII");
    let is_good = (1..=AUTH_VALUE_CHARS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if is_good { Ok(()) } else { Err(allowed()) }
}

fn value(text: &str) -> Result<(), String> {
    let allowed =
        || format!("expected 1 to {AUTH_VALUE_CHARS_MAX} visible characters of ASCII, and spaces between them");
    let is_good = (1..=AUTH_VALUE_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| (0x20..0x7F).contains(&b))
        && text.trim_matches(' ').len() == text.len();
    if is_good { Ok(()) } else { Err(allowed()) }
}

fn is_text(text: &str, chars_max: usize) -> bool {
    text.chars().count() <= chars_max && !text.chars().any(char::is_control)
}

fn kind_of(credentials: &Credentials) -> &'static str {
    match credentials {
        Credentials::Basic { .. } => "basic",
        Credentials::Bearer { .. } => "bearer",
        Credentials::Header { .. } => "header",
    }
}

fn secret_of(credentials: &Credentials) -> &Secret {
    match credentials {
        Credentials::Basic { password, .. } => password,
        Credentials::Bearer { token } => token,
        Credentials::Header { value, .. } => value,
    }
}

/// Renders credentials with their secret as `***`.
pub(super) struct AuthDocument<'a>(pub(super) &'a EndpointAuth);

impl Serialize for AuthDocument<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let credentials = self.0.credentials();
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("type", kind_of(credentials))?;
        let secret = match credentials {
            Credentials::Basic { username, .. } => {
                map.serialize_entry("username", username)?;
                "password"
            }
            Credentials::Bearer { .. } => "token",
            Credentials::Header { name, .. } => {
                map.serialize_entry("name", name.as_str())?;
                "value"
            }
        };
        map.serialize_entry(secret, HIDDEN)?;
        map.end()
    }
}
