//! Generates the integration guide for the senders of a source, in Markdown, from its settings.

mod code;
mod example;
mod signing;

use std::fmt::Write as _;

use super::{BusSubscription, PartnerToken, Source};
use crate::inbound::provider::{self, DedupMode};
use crate::limits::EVENT_TYPE_BYTES_MAX;
use crate::model::EventPattern;
use crate::model::kind::{self, PARTNER};
use crate::signature::{OneOrMany, RawScheme};
use example::ExampleRequest;
use signing::SigningSteps;

/// The kinds whose senders write their own code.
const OWN_CODE: [&str; 6] = [PARTNER, kind::CUSTOM, kind::STANDARD_WEBHOOKS, kind::TOKEN, kind::BASIC, kind::NONE];

/// The guide of a source that consumes from the event bus.
fn bus_guide(name: &str, bus: &BusSubscription) -> String {
    let subjects: Vec<_> = bus.subjects.iter().map(|subject| format!("`{subject}`")).collect();
    format!(
        "# {name}: messages of NATS\n\n\
         Publish messages to {} with JetStream. Each message becomes an event. The message is acknowledged when the event \
         is on the disk.\n\n\
         - The body is the data of the event: JSON, or text.\n\
         - Set the header `Nats-Msg-Id` to an id of the event. A message with the same id is a duplicate. Without the \
         header, only a redelivery of the same message is one.\n\
         - The event type is `{name}.` and the subject, unless the source has another `type` or an event map.\n\
         - The durable consumer is `{}`.\n",
        subjects.join(", "),
        bus.durable
    )
}

impl Source {
    /// The URL for the sender. A partner's URL ends with the token, which is known only when it is created. Without `token`,
    /// it ends with `…` and the last characters of the token.
    pub fn address(&self, token: Option<&PartnerToken>) -> String {
        if self.settings.kind != PARTNER {
            return self.url.to_string();
        }
        let base = self.url.trim_end_matches('/');
        match (token, &self.token) {
            (Some(token), _) => format!("{base}/{}", token.reveal()),
            (None, Some(kept)) => format!("{base}/…{}", kept.hint),
            (None, None) => format!("{base}/…"),
        }
    }

    /// The guide in Markdown. `token` is the token of a partner if it was just created.
    pub fn guide(&self, token: Option<&PartnerToken>) -> String {
        let guide = Guide { source: self, address: self.address(token), scheme: self.scheme_as_written() };
        // Writing to a string cannot fail.
        let mut text = String::new();
        if let Some(bus) = &self.bus {
            return bus_guide(&self.name, bus);
        }
        let _ = if OWN_CODE.contains(&&*self.settings.kind) {
            guide.write_for_developer(&mut text)
        } else {
            guide.write_for_provider(&mut text)
        };
        text
    }

    /// The signature scheme as a user would write it in the settings.
    fn scheme_as_written(&self) -> RawScheme {
        let settings = &self.settings;
        let usual = |scheme: &str| RawScheme {
            scheme: scheme.to_owned(),
            sig: Some(OneOrMany::One("header:Authorization".to_owned())),
            ..RawScheme::default()
        };
        let mut scheme = match (&settings.verify, &*settings.kind) {
            (Some(verify), _) => verify.clone(),
            (None, "token" | "basic") => usual(&settings.kind),
            (None, kind) => provider::recipe(kind).map_or_else(|| usual("none"), |recipe| recipe.verify.clone()),
        };
        scheme.tolerance = settings.tolerance.or(scheme.tolerance);
        scheme
    }
}

struct Guide<'a> {
    source: &'a Source,
    address: String,
    scheme: RawScheme,
}

impl Guide<'_> {
    /// Writes the guide for developers of a sender.
    fn write_for_developer(&self, to: &mut String) -> std::fmt::Result {
        let source = self.source;
        let is_partner = source.settings.kind == PARTNER;
        let example = ExampleRequest::for_source(source);
        writeln!(to, "# Sending events to `{}`\n", source.name)?;
        if let Some(description) = &source.settings.description {
            writeln!(to, "{description}\n")?;
        }
        writeln!(to, "Send each event as one `POST` with a JSON body to\n\n    {}\n", self.address)?;
        if is_partner {
            writeln!(
                to,
                "The last part of this URL is a secret that names you. Keep it like a password: not in code that others see,"
            )?;
            writeln!(to, "not in logs. If it is lost, ask for another; from then on only the new URL works.\n")?;
        }
        let signing = SigningSteps::try_new(source, &self.scheme);
        writeln!(
            to,
            "## Try it\n\n```sh\n{}```\n",
            code::shell(&self.address, &example, signing.as_ref(), &self.scheme)
        )?;
        writeln!(
            to,
            "The answer is `202` with the event's id. Sent once more it is `200` with `\"duplicate\":true`.\n"
        )?;
        Self::format(to, is_partner)?;
        self.rules(to)?;
        self.dedup(to)?;
        self.signature(to, signing.as_ref(), &example)?;
        self.answers(to)?;
        self.limits(to)
    }

    fn format(to: &mut String, is_partner: bool) -> std::fmt::Result {
        if !is_partner {
            return Ok(());
        }
        writeln!(to, "## The event\n\n| field | what it is |\n|---|---|")?;
        writeln!(
            to,
            "| `event_type` | What happened, such as `order.created`: a letter or digit, then up to {} of letters, digits and `._:-`. \
             `type` and `event` are read as well. |",
            EVENT_TYPE_BYTES_MAX - 1
        )?;
        writeln!(to, "| `data` | What there is to say of it, any JSON. |")?;
        writeln!(
            to,
            "| `timestamp` | When it happened: RFC 3339 such as `2026-01-31T12:00:00Z`, or seconds or milliseconds since 1970. |"
        )?;
        writeln!(to, "| `id` | Your own id of the event, text of at most 256 characters. |\n")
    }

    fn rules(&self, to: &mut String) -> std::fmt::Result {
        let sentences = self.source.rules.as_ref().map(super::ValidationRules::describe).unwrap_or_default();
        if sentences.is_empty() {
            return Ok(());
        }
        writeln!(to, "## Rules\n\nAn event that breaks one of these is refused with `422`, every breach named.\n")?;
        for sentence in sentences {
            writeln!(to, "- {sentence}")?;
        }
        let schema = self.source.settings.validation_config.as_ref().and_then(|config| config.get("schema"));
        if let Some(schema) = schema.filter(|schema| !schema.is_null()) {
            writeln!(to, "\n```json\n{schema:#}\n```")?;
        }
        writeln!(to)
    }

    fn dedup(&self, to: &mut String) -> std::fmt::Result {
        let source = self.source;
        if source.recipe.dedup == DedupMode::Never {
            return Ok(());
        }
        writeln!(to, "## Once and only once\n")?;
        let places: Vec<_> = source.recipe.id.iter().map(|place| format!("`{place}`")).collect();
        let id = match (places.is_empty(), source.settings.kind == PARTNER) {
            (false, _) => format!("An event's id stands at {}.", places.join(" and ")),
            (true, true) => "Give each event an `id` of its own, or send an `Idempotency-Key` header.".to_owned(),
            (true, false) => String::new(),
        };
        let same = match (source.recipe.dedup, id.is_empty()) {
            (DedupMode::Body, _) | (_, true) => "Two requests with the same body, byte for byte, are one event.",
            (DedupMode::Id | DedupMode::Never, false) => "Two requests with the same id are one event.",
            (DedupMode::IdAndBody, false) => "Two requests with the same id and the same body are one event.",
        };
        writeln!(to, "{} {same} So send again whatever you are not sure of,", id.trim_end())?;
        writeln!(to, "unchanged: what was taken before is answered `200` with the first one's id.\n")
    }

    fn signature(&self, to: &mut String, signing: Option<&SigningSteps>, sample: &ExampleRequest) -> std::fmt::Result {
        let scheme = &self.scheme;
        match &*scheme.scheme {
            "none" => return Ok(()),
            "token" | "basic" => {
                writeln!(to, "## Credentials\n\n{}\n", credentials(scheme))?;
                return Ok(());
            }
            _ => {}
        }
        writeln!(to, "## Signature\n\nEvery request is signed; one that is not is answered `401`.\n")?;
        signing::table(to, scheme, self.source)?;
        let Some(signing) = signing else { return writeln!(to) };
        writeln!(
            to,
            "\nSign the bytes that you send: make the body once, sign it, send it. The secret is read from the"
        )?;
        writeln!(to, "environment (`WEBHOOK_SECRET`) in these programs.\n")?;
        for (title, language, text) in [
            ("Python", "python", code::python(&self.address, sample, signing)),
            ("Node", "js", code::node(&self.address, sample, signing)),
            ("Go", "go", code::go(&self.address, sample, signing)),
        ] {
            writeln!(to, "### {title}\n\n```{language}\n{text}```\n")?;
        }
        Ok(())
    }

    fn answers(&self, to: &mut String) -> std::fmt::Result {
        let is_partner = self.source.settings.kind == PARTNER;
        let unknown = match (is_partner, &*self.scheme.scheme) {
            (true, "none") => "The URL is not, or no longer, the right one. Ask for the current one.",
            (true, _) => "The URL is not the right one, or the signature is missing or wrong. Compare both.",
            (false, _) => "The signature or the credentials are missing or wrong.",
        };
        writeln!(to, "## Answers\n\n| status | what it means | what to do |\n|---|---|---|")?;
        for (status, means, action) in [
            ("202", "Taken, and safely on disk.", "Nothing."),
            ("200", "It was taken before.", "Nothing."),
            (
                "400, 415, 422",
                "The body is no JSON, or breaks a rule; `errors` names each place.",
                "Mend it. Sending it again unchanged does not help.",
            ),
            ("401", unknown, "Mend it, then send again."),
            ("403", "You are suspended.", "Ask us."),
            ("404", "There is nobody at this URL.", "Compare the URL."),
            ("413", "The body is too large.", "Send less at once."),
            ("429", "Too many requests.", "Wait as long as `Retry-After` says, then send again."),
            (
                "408, 500, 503, no answer",
                "It may or may not have been taken.",
                "Send it again, unchanged: after `Retry-After` where it is given, otherwise with growing pauses, for a day.",
            ),
        ] {
            writeln!(to, "| {status} | {means} | {action} |")?;
        }
        writeln!(
            to,
            "\nErrors are JSON (`application/problem+json`): `code` is made for programs, `detail` for people, `request_id` is what to"
        )?;
        writeln!(to, "name when you ask us.\n")
    }

    fn limits(&self, to: &mut String) -> std::fmt::Result {
        let source = self.source;
        writeln!(to, "## Limits\n\n- A body has at most {} bytes.", source.max_body_bytes)?;
        if let Some(limit) = source.rate_limit {
            writeln!(to, "- At most {} requests a second, {} of them at once.", limit.per_second, limit.burst)?;
        }
        if source.recipe.accepts_forms {
            writeln!(to, "- `Content-Type` is `application/json`; forms are taken as well.")
        } else {
            writeln!(to, "- `Content-Type` is `application/json`, in UTF-8.")
        }
    }

    /// Writes the guide for users who configure a provider.
    fn write_for_provider(&self, to: &mut String) -> std::fmt::Result {
        let source = self.source;
        let kind = source.settings.kind.as_str();
        let recipe = provider::recipe(kind);
        let title = recipe.map(|recipe| recipe.title.as_str()).filter(|title| !title.is_empty()).unwrap_or(kind);
        writeln!(to, "# Webhooks of {title} to `{}`\n", source.name)?;
        if let Some(description) = &source.settings.description {
            writeln!(to, "{description}\n")?;
        }
        writeln!(
            to,
            "## Set it up\n\n1. In the settings of {title}, make a webhook with this URL:\n\n       {}\n",
            self.address
        )?;
        if source.recipe.scheme.needs_secret() {
            writeln!(
                to,
                "2. Give the secret that {title} shows for it to this source: `hooktide source rotate {} --secret -`.",
                source.name
            )?;
            writeln!(to, "   Several may be in force at once, so that none is lost while one is changed.")?;
        }
        if let Some(notes) = recipe.map(|recipe| recipe.notes.trim()).filter(|notes| !notes.is_empty()) {
            writeln!(to, "\n{notes}")?;
        }
        if let Some(options) = recipe.map(|recipe| &recipe.options).filter(|options| !options.is_empty()) {
            writeln!(to, "\n## Options\n\n| option | what it is |\n|---|---|")?;
            for (name, what) in options {
                writeln!(to, "| `{name}` | {what} |")?;
            }
        }
        writeln!(to, "\n## Signature\n")?;
        signing::table(to, &self.scheme, source)?;
        writeln!(to)?;
        self.dedup(to)?;
        self.topics(to)?;
        writeln!(to, "## If nothing arrives\n")?;
        writeln!(
            to,
            "`hooktide source check {0}` says what is lacking, `hooktide source rejections {0}` what was refused, and why.\n",
            source.name
        )?;
        self.limits(to)
    }

    /// Writes the event types to which the topics are mapped.
    fn topics(&self, to: &mut String) -> std::fmt::Result {
        let source = self.source;
        let own = source.settings.event_map.as_deref();
        let rules = own.or_else(|| provider::default_map(&source.settings.kind)).unwrap_or_default();
        writeln!(to, "## Events\n")?;
        let rows: Vec<_> =
            rules.iter().filter_map(|rule| Some((rule.get("when")?.as_str()?, rule.get("type")?.as_str()?))).collect();
        if !rows.is_empty() {
            writeln!(to, "| of the sender | becomes |\n|---|---|")?;
            for (when, event_type) in rows {
                writeln!(to, "| `{when}` | `{event_type}` |")?;
            }
            writeln!(to)?;
        }
        writeln!(to, "What no rule names becomes `{}.` and the sender's own type, with `/` as `.`.\n", source.name)
    }
}

fn credentials(scheme: &RawScheme) -> String {
    let place = signing::first(scheme.sig.as_ref()).unwrap_or("header:Authorization");
    match (&*scheme.scheme, signing::header(place)) {
        ("basic", _) => {
            "Every request carries `Authorization: Basic …` (RFC 7617): the user and the password that you were given."
                .to_owned()
        }
        (_, Some(name)) => format!(
            "Every request carries the token that you were given in the header `{name}`{}.",
            scheme.prefix.as_deref().map(|prefix| format!(", after `{prefix}`")).unwrap_or_default()
        ),
        (_, None) => format!("Every request carries the token that you were given at `{place}`."),
    }
}

/// An event type that matches the pattern.
fn example_type(pattern: &EventPattern) -> String {
    match pattern {
        EventPattern::Exact(text) => text.to_string(),
        EventPattern::Prefix(prefix) => format!("{prefix}created"),
        EventPattern::All => example::EVENT_TYPE.to_owned(),
    }
}

#[cfg(test)]
mod tests;
