//! Subjects of the event bus: the template in a `nats://` URL, and the patterns of the subjects that webhooks may use.
//!
//! An inserted value never adds a token to a subject, because its dots become `_`. So the number of tokens of a template
//! is fixed, and a pattern covers either all subjects of a template or is refused for it.

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::{Endpoint, Event};
use crate::json::{Document, Path, string};
use crate::limits::{SUBJECT_BYTES_MAX, URL_BYTES_MAX};
use crate::model::{NewEvent, SubjectError, SubjectPattern};
use crate::template::{Template, TemplateError, TemplatePart};

/// The beginning of a URL whose deliveries are published on the event bus.
pub const SUBJECT_SCHEME: &str = "nats://";

/// Stands for a placeholder in the text of [`Shape`]. No literal and no pattern contains it.
const VALUE: char = '\0';

/// The subject in the URL of a webhook, with placeholders for values of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectTemplate {
    /// The parts of the whole URL. The first one begins with [`SUBJECT_SCHEME`].
    url: Template<SubjectField>,
}

/// A placeholder of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SubjectField {
    Type,
    Tenant,
    Source,
    Data(Path),
}

/// Why a text is not the template of a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectTemplateError {
    /// The placeholders are wrong.
    #[error("{0}")]
    Template(#[from] TemplateError<String>),
    /// The literal text is wrong.
    #[error("{0}")]
    Subject(#[from] SubjectError),
}

/// The subject of an event cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the subject of this event has more than {SUBJECT_BYTES_MAX} bytes")]
pub struct SubjectTooLong;

impl SubjectTemplate {
    /// Parses a URL that begins with [`SUBJECT_SCHEME`].
    ///
    /// # Errors
    /// [`SubjectTemplateError`], with the place in the URL.
    pub fn parse(url: &str) -> Result<Self, SubjectTemplateError> {
        if url.len() > URL_BYTES_MAX {
            return Err(TemplateError::TooLong { bytes: url.len() }.into());
        }
        let template = Template::parse(url, field)?;
        let literals: String = template.texts().collect();
        let wrong = |c: &char| !c.is_ascii_graphic() || "*>{}".contains(*c);
        if let Some(character) = literals.chars().find(wrong) {
            let at = url.chars().position(|c| c == character).unwrap_or_default() + 1;
            return Err(SubjectError::Character { character, at }.into());
        }
        let parsed = Self { url: template };
        if parsed.shape().tokens().any(str::is_empty) {
            return Err(SubjectError::EmptyToken { example: "nats://hooktide.{tenant}.{type}" }.into());
        }
        let bytes = literals.len() - SUBJECT_SCHEME.len();
        if bytes > SUBJECT_BYTES_MAX { Err(SubjectError::TooLong { bytes }.into()) } else { Ok(parsed) }
    }

    /// The subject of an event.
    ///
    /// # Errors
    /// [`SubjectTooLong`] if the subject has more than [`SUBJECT_BYTES_MAX`] bytes.
    pub fn render(&self, event: &Event) -> Result<String, SubjectTooLong> {
        let data = event.data();
        self.render_parts(&event.head().event, &data)
    }

    fn render_parts(&self, fields: &NewEvent<'_>, data: &[u8]) -> Result<String, SubjectTooLong> {
        let mut document = Document::new(data);
        let mut url = String::with_capacity(SUBJECT_SCHEME.len() + SUBJECT_BYTES_MAX);
        self.url.write(&mut url, |field, out| match field {
            SubjectField::Type => push_value(fields.event_type, out),
            SubjectField::Tenant => push_value(fields.tenant, out),
            SubjectField::Source => push_value(fields.source, out),
            SubjectField::Data(path) => match document.find(path) {
                None | Some(b"null") => push_value("", out),
                Some(raw) => match string(raw) {
                    Some(text) => push_value(&text, out),
                    None => push_value(&String::from_utf8_lossy(raw), out),
                },
            },
        });
        let subject = url.split_off(SUBJECT_SCHEME.len());
        if subject.len() > SUBJECT_BYTES_MAX { Err(SubjectTooLong) } else { Ok(subject) }
    }

    /// Whether the pattern covers every subject of this template.
    pub fn is_covered_by(&self, pattern: &SubjectPattern) -> bool {
        pattern.covers_tokens(self.shape().tokens())
    }

    fn shape(&self) -> Shape {
        let part = |part: &TemplatePart<SubjectField>| match part {
            TemplatePart::Text(text) => text.to_string(),
            TemplatePart::Placeholder(_) => VALUE.to_string(),
        };
        let url: String = self.url.parts().iter().map(part).collect();
        Shape(url.strip_prefix(SUBJECT_SCHEME).unwrap_or_default().to_owned())
    }
}

/// The text of a template, with [`VALUE`] for each placeholder.
struct Shape(String);

impl Shape {
    fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

/// The placeholder with this name.
fn field(name: &str) -> Result<SubjectField, String> {
    match name {
        "type" => return Ok(SubjectField::Type),
        "tenant" => return Ok(SubjectField::Tenant),
        "source" => return Ok(SubjectField::Source),
        _ => {}
    }
    match name.strip_prefix("data.") {
        Some(path) => Path::try_new(path).map(SubjectField::Data).map_err(|error| format!("{{{name}}}: {error}")),
        None => Err(format!(
            "{{{name}}} is no placeholder of a subject; allowed: {{type}}, {{tenant}}, {{source}}, {{data.…}}"
        )),
    }
}

/// Appends a value as a part of one token. A long value is cut: its subject is too long anyway.
fn push_value(value: &str, out: &mut String) {
    let before = out.len();
    for c in value.chars() {
        match c {
            '.' | '$' => out.push('_'),
            '*' | '>' => {}
            c if c.is_control() || c.is_whitespace() => {}
            c => out.push(c),
        }
        if out.len() - before > SUBJECT_BYTES_MAX {
            return;
        }
    }
    if out.len() == before {
        out.push('_');
    }
}

impl Endpoint {
    /// The endpoint of a webhook whose deliveries are published on the event bus. It has no host.
    pub fn of_subject(url: &str, template: SubjectTemplate) -> Self {
        Self {
            url: url.into(),
            tls: false,
            host: "".into(),
            port: 0,
            authority: HeaderValue::from_static(""),
            target: PathAndQuery::from_static("/"),
            subject: Some(template.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn render(url: &str, event: &NewEvent<'_>, data: &str) -> Result<String, SubjectTooLong> {
        SubjectTemplate::parse(url).unwrap().render_parts(event, data.as_bytes())
    }

    fn event() -> NewEvent<'static> {
        NewEvent { tenant: "acme", event_type: "order.created", source: "shopify", ..NewEvent::default() }
    }

    #[test]
    fn values_of_the_event_are_inserted_as_one_token() {
        let data =
            r#"{"id": "a.b*c>d $x\n", "n": 7, "deep": {"list": ["é"]}, "none": null, "blank": " ", "o": {"a": "b"}}"#;
        for (url, subject) in [
            ("nats://hooktide.plain", "hooktide.plain"),
            ("nats://hooktide.{type}", "hooktide.order_created"),
            ("nats://hooktide.{tenant}.x-{source}-{type}", "hooktide.acme.x-shopify-order_created"),
            ("nats://h.{data.id}", "h.a_bcd_x"),
            ("nats://h.{data.n}.{data.deep.list.0}", "h.7.é"),
            ("nats://h.{data.none}.{data.blank}.{data.missing.x}", "h._._._"),
            ("nats://h.{data.o}", r#"h.{"a":"b"}"#),
        ] {
            assert_eq!(render(url, &event(), data).as_deref(), Ok(subject), "{url}");
        }
    }

    #[test]
    fn a_subject_has_at_most_255_bytes() {
        let data = |length: usize| format!(r#"{{"id":"{}"}}"#, "x".repeat(length));
        let longest = SUBJECT_BYTES_MAX - "h.".len();
        assert_eq!(render("nats://h.{data.id}", &event(), &data(longest)).unwrap().len(), SUBJECT_BYTES_MAX);
        assert_eq!(render("nats://h.{data.id}", &event(), &data(longest + 1)), Err(SubjectTooLong));
        assert_eq!(render("nats://h.{data.id}", &event(), &data(100_000)), Err(SubjectTooLong));
    }

    #[test]
    fn errors_name_the_place_in_the_url() {
        let long = format!("nats://{}", "x".repeat(SUBJECT_BYTES_MAX + 1));
        for (url, problem) in [
            ("nats://", "between"),
            ("nats://.a", "between"),
            ("nats://a..b", "between"),
            ("nats://a.{type}.", "between"),
            ("nats://a.b c", "' ' cannot be part of a subject (at character 11)"),
            ("nats://a.*", "'*' cannot be part of a subject (at character 10)"),
            ("nats://a.>", "'>' cannot"),
            ("nats://a.é", "'é' cannot be part of a subject (at character 10)"),
            ("nats://a.{{b}}", "'{' cannot"),
            ("nats://a.{typ}", "{typ} is no placeholder of a subject"),
            ("nats://a.{typ}", "(at character 10)"),
            ("nats://a.{type", "a brace is not closed"),
            ("nats://a.{data.}", "expected a path"),
            (&long, "has 256"),
        ] {
            let error = SubjectTemplate::parse(url).unwrap_err().to_string();
            assert!(error.contains(problem), "{url}: {error}");
        }
    }

    #[test]
    fn patterns_cover_templates() {
        for (pattern, template, is_covered) in [
            ("hooktide.>", "nats://hooktide.a", true),
            ("hooktide.>", "nats://hooktide.{type}.{tenant}", true),
            ("hooktide.>", "nats://hooktide", false),
            ("hooktide.>", "nats://other.a", false),
            ("hooktide.*", "nats://hooktide.{type}", true),
            ("hooktide.*", "nats://hooktide.a.b", false),
            ("hooktide.*.b", "nats://hooktide.x{type}.b", true),
            ("hooktide.a", "nats://hooktide.a", true),
            ("hooktide.a", "nats://hooktide.{type}", false),
            ("hooktide.a", "nats://hooktide.a{type}", false),
            ("hooktide.>", "nats://{type}.a", false),
        ] {
            let template = SubjectTemplate::parse(template).unwrap();
            assert_eq!(
                template.is_covered_by(&SubjectPattern::try_new(pattern).unwrap()),
                is_covered,
                "{pattern} {template:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_value_leaves_its_token(value in any::<String>()) {
            let data = serde_json::json!({ "id": value }).to_string();
            if let Ok(subject) = render("nats://hooktide.{data.id}.end", &event(), &data) {
                prop_assert!(SubjectPattern::try_new("hooktide.*.end").unwrap().matches(&subject), "{}", subject);
                prop_assert!(!subject.contains(|c: char| "*>$".contains(c) || c.is_control() || c.is_whitespace()));
            }
        }
    }
}
