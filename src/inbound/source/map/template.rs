//! The type that a rule gives: text with `{topic}` and `{source}` in it.

use crate::limits::EVENT_TYPE_BYTES_MAX;
use crate::model::{RESERVED_TYPES, is_event_type};
use crate::template::{Part, Template, TemplateError};

/// What stands for the topic of an event that has none.
pub(super) const NO_TOPIC: &str = "event";
/// What is said of any other placeholder.
const UNKNOWN: &str = "the braces hold neither {topic} nor {source}";

/// A compiled type: see [`template`](crate::template).
#[derive(Debug)]
pub(super) struct TypeTemplate(Template<Field>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Topic,
    Source,
}

impl TypeTemplate {
    /// # Errors
    /// What is wrong, as far as it shows before there is an event.
    pub(super) fn try_new(text: &str) -> Result<Self, String> {
        let template = parse(text).map_err(|error| error.to_string())?;
        let constant: usize = template.texts().map(str::len).sum();
        let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
        let good = match template.parts() {
            [] => false,
            [Part::Text(text)] => is_event_type(text),
            [first, ..] => {
                let starts =
                    !matches!(first, Part::Text(text) if !text.starts_with(|c: char| c.is_ascii_alphanumeric()));
                starts && constant < EVENT_TYPE_BYTES_MAX && template.texts().all(letters)
            }
        };
        if !good {
            return Err(format!(
                "makes no event type: expected a letter or digit, then letters, digits and . _ : -, at most \
                 {EVENT_TYPE_BYTES_MAX} in all, with {{topic}} and {{source}} where these belong"
            ));
        }
        if matches!(template.parts().first(), Some(Part::Text(text)) if text.starts_with(RESERVED_TYPES)) {
            return Err(format!("types that begin with {RESERVED_TYPES:?} are the gateway's own"));
        }
        Ok(Self(template))
    }

    /// The type of an event; `None` if it comes to none.
    pub(super) fn fill(&self, source: &str, topic: Option<&str>) -> Option<String> {
        let mut text = String::new();
        self.0.write(&mut text, |field, text| match field {
            Field::Source => text.push_str(source),
            Field::Topic => text.push_str(&plain_topic(topic.unwrap_or(NO_TOPIC))),
        });
        (is_event_type(&text) && !text.starts_with(RESERVED_TYPES)).then_some(text)
    }
}

fn parse(text: &str) -> Result<Template<Field>, TemplateError<&'static str>> {
    let field = |name: &str| match name {
        "topic" => Ok(Field::Topic),
        "source" => Ok(Field::Source),
        _ => Err(UNKNOWN),
    };
    // No type has a brace, so that nobody is told how one is written.
    Template::parse(text, field).map_err(|error| match error {
        TemplateError::Unbalanced { at } => TemplateError::Placeholder { at, error: UNKNOWN },
        error => error,
    })
}

/// A topic in the letters of an event type: `/` as `.` (one at the beginning, as a slash command has, goes), what no type
/// may have as `_`.
pub(super) fn plain_topic(topic: &str) -> String {
    let letter = |c| match c {
        '/' => '.',
        c if c.is_ascii_alphanumeric() || "._:-".contains(c) => c,
        _ => '_',
    };
    topic.strip_prefix('/').unwrap_or(topic).chars().map(letter).collect()
}
