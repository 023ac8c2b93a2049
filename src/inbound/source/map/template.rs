//! Templates of event types, with the placeholders `{topic}` and `{source}`.

use crate::limits::EVENT_TYPE_BYTES_MAX;
use crate::model::{RESERVED_TYPE_PREFIX, is_event_type};
use crate::template::{Template, TemplateError, TemplatePart};

/// The topic that is used for an event without a topic.
pub(super) const NO_TOPIC: &str = "event";
/// The error for any other placeholder.
const UNKNOWN: &str = "the braces hold neither {topic} nor {source}";

/// A compiled template of an event type, in the syntax of [`template`](crate::template).
#[derive(Debug)]
pub(super) struct TypeTemplate(Template<TypePlaceholder>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TypePlaceholder {
    Topic,
    Source,
}

impl TypeTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// The template is invalid, or every type made from it would be invalid.
    pub(super) fn try_new(text: &str) -> Result<Self, String> {
        let template = parse(text).map_err(|error| error.to_string())?;
        let constant: usize = template.texts().map(str::len).sum();
        let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
        let good = match template.parts() {
            [] => false,
            [TemplatePart::Text(text)] => is_event_type(text),
            [first, ..] => {
                let starts = match first {
                    TemplatePart::Text(text) => text.starts_with(|c: char| c.is_ascii_alphanumeric()),
                    TemplatePart::Placeholder(_) => true,
                };
                starts && constant < EVENT_TYPE_BYTES_MAX && template.texts().all(letters)
            }
        };
        if !good {
            return Err(format!(
                "makes no event type: expected a letter or digit, then letters, digits and . _ : -, at most \
                 {EVENT_TYPE_BYTES_MAX} in all, with {{topic}} and {{source}} where these belong"
            ));
        }
        if matches!(template.parts().first(), Some(TemplatePart::Text(text)) if text.starts_with(RESERVED_TYPE_PREFIX))
        {
            return Err(format!("types that begin with {RESERVED_TYPE_PREFIX:?} are the gateway's own"));
        }
        Ok(Self(template))
    }

    /// The event type of an event. Returns `None` if the result is not a valid event type.
    pub(super) fn fill(&self, source: &str, topic: Option<&str>) -> Option<String> {
        let mut text = String::new();
        self.0.write(&mut text, |field, text| match field {
            TypePlaceholder::Source => text.push_str(source),
            TypePlaceholder::Topic => text.push_str(&topic_as_type(topic.unwrap_or(NO_TOPIC))),
        });
        (is_event_type(&text) && !text.starts_with(RESERVED_TYPE_PREFIX)).then_some(text)
    }
}

fn parse(text: &str) -> Result<Template<TypePlaceholder>, TemplateError<&'static str>> {
    let field = |name: &str| match name {
        "topic" => Ok(TypePlaceholder::Topic),
        "source" => Ok(TypePlaceholder::Source),
        _ => Err(UNKNOWN),
    };
    // Event types cannot contain braces, so the error does not explain how to escape them.
    Template::parse(text, field).map_err(|error| match error {
        TemplateError::Unbalanced { at } => TemplateError::Placeholder { at, error: UNKNOWN },
        error => error,
    })
}

/// Converts a topic to the characters of an event type. A leading `/`, as in a slash command, is removed; `/` becomes `.`;
/// characters that are not allowed become `_`.
pub(super) fn topic_as_type(topic: &str) -> String {
    let letter = |c| match c {
        '/' => '.',
        c if c.is_ascii_alphanumeric() || "._:-".contains(c) => c,
        _ => '_',
    };
    topic.strip_prefix('/').unwrap_or(topic).chars().map(letter).collect()
}
