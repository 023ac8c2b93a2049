//! The secrets of a source: validation, and selection of the active secrets for a request.

use smallvec::SmallVec;

use super::check::SettingsCheck;
use super::{SecretSetting, Source, SourceSecret};
use crate::inbound::provider::{Handshake, Recipe};
use crate::limits::{SOURCE_SECRET_CHARS_MAX, SOURCE_SECRET_CHARS_RECOMMENDED, SOURCE_SECRETS_MAX};
use crate::model::{Secret, Timestamp};
use crate::signature::{AmbiguousHeader, RequestParts, ValueLocation, VerifyingKey};

impl Source {
    /// The secrets with which a request may be signed: the secrets whose `when` matches, or else those without `when`.
    /// Expired secrets are excluded.
    ///
    /// # Errors
    /// If a header in `when` occurs twice with different values.
    pub(super) fn secrets_for(
        &self,
        request: &RequestParts<'_>,
        now: Timestamp,
    ) -> Result<SmallVec<[&SourceSecret; 4]>, AmbiguousHeader> {
        let (mut own, mut general) = (SmallVec::new(), SmallVec::new());
        for secret in self.secrets.iter().filter(|secret| secret.until.is_none_or(|until| now <= until)) {
            match &secret.when {
                None => general.push(secret),
                Some((place, value)) if place.read(request)?.is_some_and(|found| *found == **value) => own.push(secret),
                Some(_) => {}
            }
        }
        Ok(if own.is_empty() { general } else { own })
    }
}

impl SettingsCheck<'_> {
    /// The secrets with their keys. Invalid secrets are reported and omitted.
    pub(super) fn secrets(&mut self, recipe: &Recipe) -> Vec<SourceSecret> {
        let given = &self.settings.secrets;
        let kind = &self.settings.kind;
        if !recipe.scheme.takes_secrets() {
            // A handshake may need a secret even if the scheme does not.
            if !given.is_empty() && recipe.handshake.is_none() {
                self.add_violation(
                    "/secrets",
                    format!("kind {kind} checks no signature with a secret, so it has none"),
                );
            }
            return Vec::new();
        }
        if given.is_empty() && recipe.scheme.needs_secret() && !recipe.handshake.is_some_and(Handshake::provides_secret)
        {
            self.add_violation("/secrets", format!("kind {kind} needs at least one"));
        }
        if given.len() > SOURCE_SECRETS_MAX {
            self.add_violation("/secrets", format!("expected at most {SOURCE_SECRETS_MAX}"));
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
            self.add_violation(
                value,
                "the secret itself is missing; only the configuration file may name env or file in its place",
            );
            return None;
        };
        let key = self.key(secret, value, index, recipe);
        let until = match until.map(str::parse::<Timestamp>) {
            Some(Err(error)) => {
                self.add_violation(at("/until"), error.to_string());
                return None;
            }
            until => until.and_then(Result::ok),
        };
        let when = match when.map(parse_when) {
            Some(None) => {
                self.add_violation(at("/when"), "expected header:NAME=VALUE, query:NAME=VALUE or path=VALUE");
                return None;
            }
            when => when.flatten(),
        };
        Some(SourceSecret { secret: secret.clone(), key: key?, until, when })
    }

    fn key(&mut self, secret: &Secret, pointer: String, index: usize, recipe: &Recipe) -> Option<VerifyingKey> {
        let text = secret.reveal();
        let chars = text.chars().count();
        if text.trim().is_empty() || chars > SOURCE_SECRET_CHARS_MAX {
            self.add_violation(pointer, format!("expected 1 to {SOURCE_SECRET_CHARS_MAX} characters, not blank"));
            return None;
        }
        if text.trim() != text {
            self.warn(format!("secret {index} begins or ends with white space, which is hardly a part of it"));
        }
        if chars < SOURCE_SECRET_CHARS_RECOMMENDED {
            self.warn(format!(
                "secret {index} has fewer than {SOURCE_SECRET_CHARS_RECOMMENDED} characters: it can be guessed"
            ));
        }
        let hint = format_hint(text, recipe);
        let key = recipe.scheme.key(secret);
        if let (Ok(_), Some(hint)) = (&key, hint) {
            self.warn(format!("secret {index} {hint}"));
        }
        let hint = hint.map_or(String::new(), |hint| format!("; the text {hint}"));
        key.map_err(|error| self.add_violation(pointer, format!("{}{hint}", error.detail))).ok()
    }
}

/// What is odd about the text of a secret that was copied with its surroundings, or belongs to another kind.
fn format_hint(text: &str, recipe: &Recipe) -> Option<&'static str> {
    let text = text.trim();
    let is_quoted = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if is_quoted('"') || is_quoted('\'') {
        Some("stands in quotes, which are hardly a part of it")
    } else if recipe.scheme.reads_key_prefix() {
        None
    } else if text.starts_with("v1,whsec_") {
        Some("begins with v1,whsec_, as Supabase shows it; kinds supabase-auth and standard-webhooks read that form")
    } else if text.starts_with("whpk_") || text.starts_with("v1a,whpk_") {
        Some("begins with whpk_, which is a public key of kind standard-webhooks-asymmetric")
    } else {
        None
    }
}

/// Parses `header:X-Shopify-Shop-Domain=a.myshopify.com`. Locations in the body are not allowed, because the body is not yet
/// verified.
fn parse_when(text: &str) -> Option<(ValueLocation, Box<str>)> {
    let (place, value) = text.split_once('=')?;
    let place: ValueLocation = place.trim().parse().ok()?;
    let value = value.trim();
    let before_the_body = matches!(place, ValueLocation::Header(_) | ValueLocation::Query(_) | ValueLocation::Path);
    (before_the_body && !value.is_empty()).then(|| (place, value.into()))
}
