//! Secrets of a source: which are in force, and for which requests.

use smallvec::SmallVec;

use super::check::Check;
use super::{SecretSetting, Source, SourceSecret};
use crate::limits::{SOURCE_SECRET_CHARS_GOOD, SOURCE_SECRET_CHARS_MAX, SOURCE_SECRETS_MAX};
use crate::model::{Secret, Timestamp};
use crate::provider::{Handshake, Recipe};
use crate::signature::{Key, Place, Request};

impl Source {
    /// The keys that a request may have been signed with: of the secrets in force those that are for such requests; where
    /// there is none, those that are for every request.
    pub fn keys(&self, request: &Request<'_>, now: Timestamp) -> SmallVec<[&Key; 2]> {
        let in_force = || self.secrets.iter().filter(|secret| secret.is_in_force(now));
        let chosen: SmallVec<[&Key; 2]> =
            in_force().filter(|secret| secret.is_for(request)).map(|secret| &secret.key).collect();
        if chosen.is_empty() {
            in_force().filter(|secret| secret.when.is_none()).map(|secret| &secret.key).collect()
        } else {
            chosen
        }
    }

    /// What the settings say for an option of the kind.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.settings.options.get(name).map(String::as_str)
    }
}

impl SourceSecret {
    /// Whether its end has not come.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now <= until)
    }

    /// Whether it is for this request by name; a secret for every request is for none by name. A value that is there twice
    /// chooses nothing: the signature would have to be believed first.
    fn is_for(&self, request: &Request<'_>) -> bool {
        let Some((place, value)) = &self.when else { return false };
        matches!(place.read(request), Ok(Some(found)) if *found == **value)
    }
}

impl Check<'_> {
    /// The secrets with their keys; what is wrong with one leaves it out.
    pub(super) fn secrets(&mut self, recipe: &Recipe) -> Vec<SourceSecret> {
        let given = &self.settings.secrets;
        let kind = &self.settings.kind;
        if !recipe.scheme.needs_secret() {
            // A handshake may need what the scheme does not.
            if !given.is_empty() && recipe.handshake.is_none() {
                self.wrong("/secrets", format!("kind {kind} checks no signature with a secret, so it has none"));
            }
            return Vec::new();
        }
        if given.is_empty() && !recipe.handshake.is_some_and(Handshake::learns) {
            self.wrong("/secrets", format!("kind {kind} needs at least one"));
        }
        if given.len() > SOURCE_SECRETS_MAX {
            self.wrong("/secrets", format!("expected at most {SOURCE_SECRETS_MAX}"));
            return Vec::new();
        }
        let read = |(index, setting)| self.secret(index, setting, recipe);
        given.iter().enumerate().filter_map(read).collect()
    }

    fn secret(&mut self, index: usize, setting: &SecretSetting, recipe: &Recipe) -> Option<SourceSecret> {
        let at = |field: &str| format!("/secrets/{index}{field}");
        let (secret, until, when) = match setting {
            SecretSetting::Text(secret) => (Some(secret), None, None),
            SecretSetting::Table(table) => (table.value.as_ref(), table.until.as_deref(), table.when.as_deref()),
        };
        let value = if matches!(setting, SecretSetting::Text(_)) { at("") } else { at("/value") };
        let Some(secret) = secret else {
            self.wrong(
                value,
                "the secret itself is missing; only the configuration file may name env or file in its place",
            );
            return None;
        };
        let key = self.key(secret, value, index, recipe);
        let until = match until.map(str::parse::<Timestamp>) {
            Some(Err(error)) => {
                self.wrong(at("/until"), error.to_string());
                return None;
            }
            until => until.and_then(Result::ok),
        };
        let when = match when.map(parse_when) {
            Some(None) => {
                self.wrong(at("/when"), "expected header:NAME=VALUE, query:NAME=VALUE or path=VALUE");
                return None;
            }
            when => when.flatten(),
        };
        Some(SourceSecret { secret: secret.clone(), key: key?, until, when })
    }

    fn key(&mut self, secret: &Secret, pointer: String, index: usize, recipe: &Recipe) -> Option<Key> {
        let text = secret.reveal();
        let chars = text.chars().count();
        if text.trim().is_empty() || chars > SOURCE_SECRET_CHARS_MAX {
            self.wrong(pointer, format!("expected 1 to {SOURCE_SECRET_CHARS_MAX} characters, not blank"));
            return None;
        }
        if text.trim() != text {
            self.warn(format!("secret {index} begins or ends with white space, which is hardly a part of it"));
        }
        if chars < SOURCE_SECRET_CHARS_GOOD {
            self.warn(format!(
                "secret {index} has fewer than {SOURCE_SECRET_CHARS_GOOD} characters: it can be guessed"
            ));
        }
        recipe.scheme.key(secret).map_err(|error| self.wrong(pointer, error.detail)).ok()
    }
}

/// `header:X-Shopify-Shop-Domain=a.myshopify.com`; nothing of the body, which is not believed yet.
fn parse_when(text: &str) -> Option<(Place, Box<str>)> {
    let (place, value) = text.split_once('=')?;
    let place: Place = place.trim().parse().ok()?;
    let value = value.trim();
    let before_the_body = matches!(place, Place::Header(_) | Place::Query(_) | Place::Path);
    (before_the_body && !value.is_empty()).then(|| (place, value.into()))
}
