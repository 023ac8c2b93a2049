//! Validates the settings of a source one by one and reports each violation.

use serde_json::Value;

use super::{BusSubscription, PLAIN_KINDS, SourceSettings};
use crate::config::parse_size;
use crate::inbound::provider::{self, DedupMode, RawRecipe};
use crate::limits::{
    BUS_SUBJECTS_MAX, SOURCE_BODY_BYTES_MAX, SOURCE_DESCRIPTION_CHARS_MAX, SOURCE_OPTION_BYTES_MAX,
    SOURCE_RESPOND_BYTES_MAX, SOURCE_TOLERANCE_MAX, URL_BYTES_MAX,
};
use crate::model::path::RESERVED_WEBHOOK_SEGMENTS;
use crate::model::{
    BUS_NAME_ALLOWED, FieldError, OPERATIONAL_SOURCE, OneOrMany, RateLimit, SubjectPattern, is_bus_name,
    is_secret_name, kind,
};
use crate::signature::{RawScheme, Scheme, SchemeError};

/// The maximum length of a name: that of a DNS label.
const NAME_CHARS_MAX: usize = 63;
const BODY_BYTES_MIN: usize = 1024;
const RATE_RANGE: std::ops::RangeInclusive<f64> = 0.01..=100_000.0;
const BURST_RANGE: std::ops::RangeInclusive<u32> = 1..=100_000;
/// The prefix of the description of a required option in the provider table.
const REQUIRED_PREFIX: &str = "required: ";
/// The maximum number of kinds that are suggested for an unknown kind.
const SUGGESTIONS_MAX: usize = 3;

/// Validation of the settings, with the violations and warnings found so far.
pub(super) struct SettingsCheck<'a> {
    pub(super) settings: &'a SourceSettings,
    pub(super) violations: Vec<FieldError>,
    pub(super) warnings: Vec<String>,
}

impl<'a> SettingsCheck<'a> {
    pub(super) fn new(settings: &'a SourceSettings) -> Self {
        Self { settings, violations: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn add_violation(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.violations.push(FieldError::new(pointer, detail));
    }

    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    pub(super) fn name(&mut self) {
        let name = self.settings.name.as_str();
        // Event types of a source begin with its name. Those of operational events begin with `hooktide`.
        if RESERVED_WEBHOOK_SEGMENTS.contains(&name) || name == OPERATIONAL_SOURCE {
            self.add_violation("/name", format!("{name} means something else in paths or types; choose another name"));
        } else if !is_name(name) {
            self.add_violation("/name", "expected 1 to 63 of a-z, 0-9 and -, not - at first");
        }
    }

    /// Checks the texts that only have a maximum length.
    pub(super) fn texts(&mut self) {
        let settings = self.settings;
        if settings.description.as_ref().is_some_and(|text| text.chars().count() > SOURCE_DESCRIPTION_CHARS_MAX) {
            self.add_violation("/description", format!("expected at most {SOURCE_DESCRIPTION_CHARS_MAX} characters"));
        }
        if settings.respond.as_ref().is_some_and(|text| text.len() > SOURCE_RESPOND_BYTES_MAX) {
            self.add_violation("/respond", format!("expected at most {SOURCE_RESPOND_BYTES_MAX} bytes"));
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
            self.add_violation(
                "/max_body_bytes",
                "expected a size such as \"10 MiB\" or a number of bytes, 1 KiB to 25 MiB",
            );
        }
        allowed
    }

    pub(super) fn rate_limit(&mut self) -> Option<RateLimit> {
        let (rate, burst) = (self.settings.rate_limit_rps, self.settings.burst);
        if rate.is_some_and(|rate| !RATE_RANGE.contains(&rate)) {
            self.add_violation("/rate_limit_rps", format!("expected {} to {}", RATE_RANGE.start(), RATE_RANGE.end()));
        }
        if burst.is_some_and(|burst| !BURST_RANGE.contains(&burst)) {
            self.add_violation("/burst", format!("expected {} to {}", BURST_RANGE.start(), BURST_RANGE.end()));
        }
        let Some(per_second) = rate else {
            if burst.is_some() {
                self.add_violation("/burst", "needs rate_limit_rps");
            }
            return None;
        };
        // The default burst is the number of requests in one second, at least one.
        Some(RateLimit { per_second, burst: burst.unwrap_or((per_second.ceil() as u32).max(1)) })
    }

    /// What a source of kind `nats` consumes. Other kinds have none of these settings.
    pub(super) fn bus(&mut self) -> Option<BusSubscription> {
        let settings = self.settings;
        let given = [
            ("/subjects", settings.subjects.is_some()),
            ("/durable", settings.durable.is_some()),
            ("/stream", settings.stream.is_some()),
        ];
        if settings.kind != kind::NATS {
            for (pointer, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
                self.add_violation(pointer, "is for a source of kind nats");
            }
            return None;
        }
        if settings.url.is_some() {
            self.add_violation("/url", "a source of kind nats consumes messages and has no URL");
        }
        let mut subjects = Vec::new();
        for (n, text) in settings.subjects.iter().flat_map(OneOrMany::iter).enumerate() {
            match SubjectPattern::try_new(text) {
                Ok(pattern) => subjects.push(pattern),
                Err(error) => self.add_violation(format!("/subjects/{n}"), format!("{text:?}: {error}")),
            }
        }
        if !(1..=BUS_SUBJECTS_MAX).contains(&settings.subjects.iter().flat_map(OneOrMany::iter).count()) {
            let detail = format!("expected 1 to {BUS_SUBJECTS_MAX} subjects, such as [\"orders.>\"]");
            self.add_violation("/subjects", detail);
        }
        let name = |name: &Option<String>| name.as_deref().filter(|name| is_bus_name(name)).map(Box::from);
        let (durable, stream) = (name(&settings.durable), name(&settings.stream));
        if durable.is_none() {
            self.add_violation("/durable", format!("the name of a durable consumer is needed: {BUS_NAME_ALLOWED}"));
        }
        if settings.stream.is_some() && stream.is_none() {
            self.add_violation("/stream", BUS_NAME_ALLOWED);
        }
        Some(BusSubscription { subjects, durable: durable?, stream })
    }

    /// The URL in the settings, if there is one and it is valid.
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
            self.add_violation(
                "/url",
                "expected an absolute http or https URL without a query, a fragment or a password",
            );
        }
        // The URL is kept as written, because the provider signs the text that was configured there.
        good.then(|| text.into())
    }

    pub(super) fn needs_url(&mut self, scheme: &Scheme, known: bool) {
        if scheme.needs_url() && !known {
            self.add_violation("/url", "its sender signs the URL it calls: set url, or server.public_url");
        }
    }

    pub(super) fn options(&mut self, raw: &RawRecipe) {
        let settings = self.settings;
        for (name, value) in &settings.options {
            let pointer = format!("/options/{}", escape_pointer_token(name));
            if !raw.options.contains_key(name) {
                let known = raw.options.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let none = format!("kind {} has no options", settings.kind);
                self.add_violation(pointer, if known.is_empty() { none } else { format!("unknown; allowed: {known}") });
            } else if value.trim().is_empty() || value.len() > SOURCE_OPTION_BYTES_MAX {
                self.add_violation(pointer, format!("expected text of 1 to {SOURCE_OPTION_BYTES_MAX} bytes"));
            } else if is_secret_name(name) && value.trim() != value {
                self.warn(format!("the option {name} begins or ends with white space"));
            }
        }
        for (name, meaning) in raw.options.iter().filter(|(name, _)| !settings.options.contains_key(*name)) {
            if let Some(meaning) = meaning.strip_prefix(REQUIRED_PREFIX) {
                self.add_violation(
                    format!("/options/{}", escape_pointer_token(name)),
                    format!("kind {} needs it: {meaning}", settings.kind),
                );
            }
        }
    }

    /// The `dedup` of the settings. `has_id` says whether events have an id.
    pub(super) fn dedup(&mut self, has_id: bool) -> Option<DedupMode> {
        let Ok(dedup) = self.settings.dedup.as_deref()?.parse() else {
            self.add_violation("/dedup", "expected id, id+body, body or never");
            return None;
        };
        if matches!(dedup, DedupMode::Id | DedupMode::IdAndBody) && !has_id {
            self.add_violation(
                "/dedup",
                "needs an id: say where it stands in `id` (such as header:X-Id, json:/id or form:id), or take body \
                 (the same body is the same event) or never (each request is an event)",
            );
        }
        Some(dedup)
    }

    pub(super) fn tolerance(&mut self, scheme: &RawScheme) {
        let Some(tolerance) = self.settings.tolerance else { return };
        if scheme.time.is_none() && scheme.scheme != "jwt" {
            self.add_violation("/tolerance", "no time is signed here");
        } else if !(1..=SOURCE_TOLERANCE_MAX).contains(&tolerance) {
            self.add_violation("/tolerance", format!("expected 1 to {SOURCE_TOLERANCE_MAX} seconds"));
        }
    }

    /// Reports an error of the recipe that results from the settings and the kind.
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
        // A violation that is already reported for this pointer is more specific.
        if self.violations.iter().all(|violation| violation.pointer != pointer) {
            self.add_violation(pointer, error.detail.clone());
        }
    }

    pub(super) fn unknown_kind(&mut self) {
        let plain = PLAIN_KINDS.into_iter().map(|kind| (kind.to_owned(), kind));
        let near = nearest(&self.settings.kind, plain.chain(provider::search_words()));
        let detail = match near.as_slice() {
            [] => format!("unknown; a provider that is not known is of kind custom, or of {}", PLAIN_KINDS.join(", ")),
            near => format!("unknown; is it {}?", near.join(" or ")),
        };
        self.add_violation("/kind", detail);
    }
}

/// Whether the name matches `[a-z0-9][a-z0-9-]{0,62}`.
fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Escapes a reference token of a JSON pointer (RFC 6901).
pub(super) fn escape_pointer_token(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

/// The kinds of the names that are similar to the word, the most similar first. A name that is the word excludes others.
fn nearest<'n>(word: &str, names: impl Iterator<Item = (String, &'n str)>) -> Vec<&'n str> {
    let word = word.trim().to_lowercase().replace([' ', '_'], "-");
    if word.is_empty() || word.len() > NAME_CHARS_MAX {
        return Vec::new();
    }
    let contains = |name: &str| word.len() > 2 && (name.contains(&word) || (name.len() > 2 && word.contains(name)));
    // Other words must fit better than the name of a kind: a title has words such as "management".
    let mut near: Vec<_> =
        names
            .map(|(name, kind)| (distance(&word, &name), kind, name))
            .filter(|(distance, kind, name)| {
                if name == kind { *distance <= word.len() / 3 || contains(name) } else { *distance <= word.len() / 5 }
            })
            .map(|(distance, kind, _)| (distance, kind))
            .collect();
    near.sort_unstable();
    let is_exact = near.first().is_some_and(|(distance, _)| *distance == 0);
    let mut kinds: Vec<&str> = Vec::new();
    for (distance, kind) in near {
        if (distance == 0 || !is_exact) && !kinds.contains(&kind) && kinds.len() < SUGGESTIONS_MAX {
            kinds.push(kind);
        }
    }
    kinds
}

/// The Levenshtein distance of two words, computed in one row of the table.
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
    fn similar_names_are_suggested() {
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
            let names = names.into_iter().map(|name| (name.to_owned(), name));
            assert_eq!(nearest(word, names), near, "{word}");
        }
    }

    #[test]
    fn the_names_that_people_type_suggest_their_kind() {
        for (word, kind) in [
            ("whatsapp", "meta"),
            ("WhatsApp", "meta"),
            ("facebook", "meta"),
            ("Instagram", "meta"),
            ("messenger", "meta"),
            ("Google Drive", "google-push"),
            ("teams", "microsoft-graph"),
            ("twitter", "x-twitter"),
            ("sns", "aws-sns"),
            ("forjejo", "gitea"),
            ("Dropbox Sign", "dropbox-sign"),
            ("paypal-webhook", "paypal"),
            ("pubsub", "google-pubsub"),
            ("shpify", "shopify"),
        ] {
            let near = nearest(word, provider::search_words());
            assert!(near.contains(&kind), "{word}: {near:?}");
        }
        let near = nearest("facebook", provider::search_words());
        assert_eq!(near, ["meta"], "a word that is right excludes those that are only similar");
    }

    #[test]
    fn the_distance_counts_insertions_removals_and_replacements() {
        for (from, to, steps) in [("", "", 0), ("a", "", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(from, to), steps, "{from} {to}");
        }
    }
}
