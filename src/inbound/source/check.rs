//! The settings of a source, one by one: each is read, and named if it is wrong.

use serde_json::Value;

use super::{Breach, PLAIN_KINDS, Settings};
use crate::config::parse_size;
use crate::inbound::provider::{self, Dedup, RawRecipe};
use crate::limits::{
    SOURCE_BODY_BYTES_MAX, SOURCE_DESCRIPTION_CHARS_MAX, SOURCE_OPTION_BYTES_MAX, SOURCE_RESPOND_BYTES_MAX,
    SOURCE_TOLERANCE_MAX, URL_BYTES_MAX,
};
use crate::model::path::WEBHOOK_WORDS;
use crate::model::{OWN_SOURCE, RateLimit, is_secret_name};
use crate::signature::{RawScheme, Scheme, SchemeError};

/// Characters of a name: a DNS label's.
const NAME_CHARS_MAX: usize = 63;
const BODY_BYTES_MIN: usize = 1024;
const RATE: std::ops::RangeInclusive<f64> = 0.01..=100_000.0;
const BURST: std::ops::RangeInclusive<u32> = 1..=100_000;
/// So the table begins what it says of an option that a source cannot do without.
const REQUIRED: &str = "required: ";
/// Kinds offered for one that is unknown.
const NEAREST: usize = 3;

/// What was found so far.
pub(super) struct Check<'a> {
    pub(super) settings: &'a Settings,
    pub(super) breaches: Vec<Breach>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Check<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self { settings, breaches: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn wrong(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.breaches.push(Breach::new(pointer, detail));
    }

    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    pub(super) fn name(&mut self) {
        let name = self.settings.name.as_str();
        // The types of a source's events begin with its name, and those of the gateway's own with `hooktide`.
        if WEBHOOK_WORDS.contains(&name) || name == OWN_SOURCE {
            self.wrong("/name", format!("{name} means something else in paths or types; choose another name"));
        } else if !is_name(name) {
            self.wrong("/name", "expected 1 to 63 of a-z, 0-9 and -, not - at first");
        }
    }

    /// What is only bounded.
    pub(super) fn texts(&mut self) {
        let settings = self.settings;
        if settings.description.as_ref().is_some_and(|text| text.chars().count() > SOURCE_DESCRIPTION_CHARS_MAX) {
            self.wrong("/description", format!("expected at most {SOURCE_DESCRIPTION_CHARS_MAX} characters"));
        }
        if settings.respond.as_ref().is_some_and(|text| text.len() > SOURCE_RESPOND_BYTES_MAX) {
            self.wrong("/respond", format!("expected at most {SOURCE_RESPOND_BYTES_MAX} bytes"));
        }
    }

    pub(super) fn max_body_bytes(&mut self) -> Option<usize> {
        let bytes = match self.settings.max_body_bytes.as_ref()? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => parse_size(text),
            _ => None,
        };
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let allowed = bytes.filter(|bytes| (BODY_BYTES_MIN..=SOURCE_BODY_BYTES_MAX).contains(bytes));
        if allowed.is_none() {
            self.wrong("/max_body_bytes", "expected a size such as \"10 MiB\" or a number of bytes, 1 KiB to 25 MiB");
        }
        allowed
    }

    pub(super) fn rate_limit(&mut self) -> Option<RateLimit> {
        let (rate, burst) = (self.settings.rate_limit_rps, self.settings.burst);
        if rate.is_some_and(|rate| !RATE.contains(&rate)) {
            self.wrong("/rate_limit_rps", format!("expected {} to {}", RATE.start(), RATE.end()));
        }
        if burst.is_some_and(|burst| !BURST.contains(&burst)) {
            self.wrong("/burst", format!("expected {} to {}", BURST.start(), BURST.end()));
        }
        let Some(per_second) = rate else {
            if burst.is_some() {
                self.wrong("/burst", "needs rate_limit_rps");
            }
            return None;
        };
        // As much as a second lets through, at least one.
        Some(RateLimit { per_second, burst: burst.unwrap_or((per_second.ceil() as u32).max(1)) })
    }

    /// The source's own URL.
    pub(super) fn url(&mut self) -> Option<Box<str>> {
        let text = self.settings.url.as_deref()?;
        let url = url::Url::parse(text).ok().filter(|_| text.len() <= URL_BYTES_MAX);
        let good = url.is_some_and(|url| {
            ["http", "https"].contains(&url.scheme())
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        });
        if !good {
            self.wrong("/url", "expected an absolute http or https URL without a query, a fragment or a password");
        }
        // As written: what is signed is the text that the provider was given.
        good.then(|| text.into())
    }

    pub(super) fn needs_url(&mut self, scheme: &Scheme, known: bool) {
        if scheme.needs_url() && !known {
            self.wrong("/url", "its sender signs the URL it calls: set url, or server.public_url");
        }
    }

    pub(super) fn options(&mut self, raw: &RawRecipe) {
        let settings = self.settings;
        for (name, value) in &settings.options {
            let pointer = format!("/options/{}", escape(name));
            if !raw.options.contains_key(name) {
                let known = raw.options.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let none = format!("kind {} has no options", settings.kind);
                self.wrong(pointer, if known.is_empty() { none } else { format!("unknown; allowed: {known}") });
            } else if value.trim().is_empty() || value.len() > SOURCE_OPTION_BYTES_MAX {
                self.wrong(pointer, format!("expected text of 1 to {SOURCE_OPTION_BYTES_MAX} bytes"));
            } else if is_secret_name(name) && value.trim() != value {
                self.warn(format!("the option {name} begins or ends with white space"));
            }
        }
        for (name, meaning) in raw.options.iter().filter(|(name, _)| !settings.options.contains_key(*name)) {
            if let Some(meaning) = meaning.strip_prefix(REQUIRED) {
                self.wrong(format!("/options/{}", escape(name)), format!("kind {} needs it: {meaning}", settings.kind));
            }
        }
    }

    /// What the settings say of it; `has_id`: whether there is an id at all.
    pub(super) fn dedup(&mut self, has_id: bool) -> Option<Dedup> {
        let Ok(dedup) = self.settings.dedup.as_deref()?.parse() else {
            self.wrong("/dedup", "expected id, id+body, body or never");
            return None;
        };
        if matches!(dedup, Dedup::Id | Dedup::IdAndBody) && !has_id {
            self.wrong("/dedup", "needs an id: say where it stands in `id`, or take body");
        }
        Some(dedup)
    }

    pub(super) fn tolerance(&mut self, scheme: &RawScheme) {
        let Some(tolerance) = self.settings.tolerance else { return };
        if scheme.time.is_none() {
            self.wrong("/tolerance", "no time is signed here");
        } else if !(1..=SOURCE_TOLERANCE_MAX).contains(&tolerance) {
            self.wrong("/tolerance", format!("expected 1 to {SOURCE_TOLERANCE_MAX} seconds"));
        }
    }

    /// An error of the recipe that the settings and the kind come to together.
    pub(super) fn recipe(&mut self, error: &SchemeError) {
        let settings = self.settings;
        let given = match error.field {
            "id" => settings.id.is_some(),
            "type" => settings.r#type.is_some(),
            "dedup" => settings.dedup.is_some(),
            "handshake" => settings.handshake.is_some(),
            "respond" => settings.respond.is_some(),
            "tolerance" => settings.tolerance.is_some(),
            _ => false,
        };
        let pointer = match (given, &settings.verify) {
            (true, _) => format!("/{}", error.field),
            (false, Some(_)) => format!("/verify/{}", error.field),
            (false, None) => "/kind".to_owned(),
        };
        // One of ours says more.
        if self.breaches.iter().all(|breach| breach.pointer != pointer) {
            self.wrong(pointer, error.detail.clone());
        }
    }

    pub(super) fn unknown_kind(&mut self) {
        let known = PLAIN_KINDS.into_iter().chain(provider::recipes().map(|(name, _)| name));
        let near = nearest(&self.settings.kind, known);
        let detail = match near.as_slice() {
            [] => format!("unknown; a provider that is not known is of kind custom, or of {}", PLAIN_KINDS.join(", ")),
            near => format!("unknown; is it {}?", near.join(" or ")),
        };
        self.wrong("/kind", detail);
    }
}

/// `[a-z0-9][a-z0-9-]{0,62}`
fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// One token of a JSON pointer.
pub(super) fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

/// The names that somebody may have meant, the nearest first.
fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let word = word.to_ascii_lowercase();
    if word.is_empty() || word.len() > NAME_CHARS_MAX {
        return Vec::new();
    }
    let contains = |name: &str| word.len() > 2 && (name.contains(&word) || (name.len() > 2 && word.contains(name)));
    let mut near: Vec<_> = names
        .map(|name| (distance(&word, name), name))
        .filter(|(distance, name)| *distance <= word.len() / 3 || contains(name))
        .collect();
    near.sort_unstable();
    near.into_iter().map(|(_, name)| name).take(NEAREST).collect()
}

/// Characters to insert, remove or replace until one word is the other (Levenshtein), in one row of the table.
fn distance(from: &str, to: &str) -> usize {
    let to = to.as_bytes();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        let names = ["github", "gitlab", "gitlab-token", "shopify", "stripe", "adyen-payment", "adyen-header", "none"];
        for (word, near) in [
            ("Shopify", &["shopify"][..]),
            ("shpify", &["shopify"]),
            ("gitlabb", &["gitlab"]),
            ("githib", &["github", "gitlab"]),
            ("adyen", &["adyen-header", "adyen-payment"]),
            ("xyz", &[]),
            ("", &[]),
        ] {
            assert_eq!(nearest(word, names.into_iter()), near, "{word}");
        }
    }

    #[test]
    fn distances() {
        for (from, to, steps) in [("", "", 0), ("a", "", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(from, to), steps, "{from} {to}");
        }
    }
}
