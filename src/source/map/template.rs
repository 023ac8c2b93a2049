//! The type that a rule gives: text with `{topic}` and `{source}` in it.

use crate::limits::EVENT_TYPE_BYTES_MAX;
use crate::model::{RESERVED_TYPES, is_event_type};

/// What stands for the topic of an event that has none.
pub(super) const NO_TOPIC: &str = "event";

/// A compiled type.
#[derive(Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Topic,
    Source,
}

impl Template {
    /// # Errors
    /// What is wrong, as far as it shows before there is an event.
    pub(super) fn try_new(text: &str) -> Result<Self, String> {
        let parts = parse(text)?;
        let constant: usize = parts.iter().map(|part| if let Part::Text(text) = part { text.len() } else { 0 }).sum();
        let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
        let good = match parts.as_slice() {
            [] => false,
            [Part::Text(text)] => is_event_type(text),
            [first, ..] => {
                let texts = parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(text) } else { None });
                let starts =
                    !matches!(first, Part::Text(text) if !text.starts_with(|c: char| c.is_ascii_alphanumeric()));
                starts && constant < EVENT_TYPE_BYTES_MAX && texts.into_iter().all(|text| letters(text))
            }
        };
        if !good {
            return Err(format!(
                "makes no event type: expected a letter or digit, then letters, digits and . _ : -, at most \
                 {EVENT_TYPE_BYTES_MAX} in all, with {{topic}} and {{source}} where these belong"
            ));
        }
        if matches!(parts.first(), Some(Part::Text(text)) if text.starts_with(RESERVED_TYPES)) {
            return Err(format!("types that begin with {RESERVED_TYPES:?} are the gateway's own"));
        }
        Ok(Self { parts })
    }

    /// The type of an event; `None` if it comes to none.
    pub(super) fn fill(&self, source: &str, topic: Option<&str>) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(constant) => text.push_str(constant),
                Part::Source => text.push_str(source),
                Part::Topic => text.push_str(&plain_topic(topic.unwrap_or(NO_TOPIC))),
            }
        }
        (is_event_type(&text) && !text.starts_with(RESERVED_TYPES)).then_some(text)
    }
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

fn parse(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(open);
        if !before.is_empty() {
            parts.push(Part::Text(before.into()));
        }
        let (part, name) = match from {
            _ if from.starts_with("{topic}") => (Part::Topic, "{topic}"),
            _ if from.starts_with("{source}") => (Part::Source, "{source}"),
            _ => return Err("the braces hold neither {topic} nor {source}".to_owned()),
        };
        parts.push(part);
        rest = &from[name.len()..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    Ok(parts)
}
