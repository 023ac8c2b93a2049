//! An event map rule: the topics it matches, the event type it sets and the data it builds.

use std::borrow::Cow;

use http::HeaderName;
use serde_json::{Map, Value};

use super::template::TypeTemplate;
use super::{MapError, MapInput, MappedEvent};
use crate::inbound::source::check::escape_pointer_token;
use crate::inbound::source::form::push_json_string;
use crate::json::{Pointer, PointerSet, PointerValues};
use crate::limits::{
    MAP_DATA_BYTES_ALWAYS, MAP_DATA_BYTES_MAX, MAP_DATA_DEPTH_MAX, MAP_DATA_GROWTH_MAX, MAP_DATA_NODES_MAX,
};
use crate::model::{FieldError, is_secret_name};

/// The topics that a rule matches.
#[derive(Debug)]
pub(super) enum TopicPattern {
    /// Exactly this topic.
    Exact(Box<str>),
    /// Longer topics with this prefix.
    Prefix(Box<str>),
    /// All events, also those without a topic.
    All,
}

/// A compiled rule.
#[derive(Debug)]
pub(super) struct MapRule {
    event_type: TypeTemplate,
    data: Option<DataNode>,
    /// All pointers of `data`, which are read in one pass over the payload.
    pointers: PointerSet,
}

/// A value of the data that a rule builds.
#[derive(Debug)]
enum DataNode {
    /// A constant, as JSON.
    Constant(Box<str>),
    /// A value that is copied from the event. `text` is the location as written in the rule.
    Extracted {
        from: ValueOrigin,
        optional: bool,
        text: Box<str>,
    },
    /// Members with their names, which are JSON strings.
    Object(Vec<(Box<str>, DataNode)>),
    Array(Vec<DataNode>),
}

/// The part of an event from which a value is copied.
#[derive(Debug)]
enum ValueOrigin {
    /// A slot of the rule's pointers.
    Pointer(usize),
    Payload,
    Header(HeaderName),
    Topic,
    SourceName,
    SourceKind,
    SourceId,
    Tenant,
}

/// The reason why a node produced no value.
enum NodeError<'a> {
    /// The value is optional and missing.
    Omitted,
    /// The value is required and missing.
    Missing(&'a str),
    TooLarge,
}

impl TopicPattern {
    fn try_new(text: &str) -> Option<Self> {
        match text.split_once('*') {
            None if !text.is_empty() => Some(Self::Exact(text.into())),
            Some(("", "")) => Some(Self::All),
            Some((prefix, "")) => Some(Self::Prefix(prefix.into())),
            None | Some(_) => None,
        }
    }

    pub(super) fn matches(&self, topic: Option<&str>) -> bool {
        match (self, topic) {
            (Self::All, _) => true,
            (_, None) => false,
            (Self::Exact(text), Some(topic)) => **text == *topic,
            (Self::Prefix(prefix), Some(topic)) => topic.len() > prefix.len() && topic.starts_with(&**prefix),
        }
    }
}

impl MapRule {
    /// Compiles a rule and the topics it matches. `at` is the JSON pointer of the rule, for violations.
    pub(super) fn try_new(rule: &Value, at: &str) -> Result<(TopicPattern, Self), Vec<FieldError>> {
        let Value::Object(fields) = rule else {
            return Err(vec![FieldError::new(at, "expected an object with when, type and perhaps data")]);
        };
        let mut compiler = RuleCompiler { pointers: PointerSet::default(), nodes: 0, violations: Vec::new() };
        for name in fields.keys().filter(|name| !["when", "type", "data"].contains(&name.as_str())) {
            compiler
                .add_violation(&format!("{at}/{}", escape_pointer_token(name)), "unknown; allowed: when, type, data");
        }
        let when = fields.get("when").and_then(Value::as_str).and_then(TopicPattern::try_new);
        if when.is_none() {
            compiler.add_violation(
                &format!("{at}/when"),
                "expected a type of the provider's, the beginning of one and * (orders/*), or *",
            );
        }
        let event_type = fields.get("type").and_then(Value::as_str).ok_or_else(|| "expected text".to_owned());
        let event_type = event_type.and_then(TypeTemplate::try_new);
        let event_type = event_type.map_err(|detail| compiler.add_violation(&format!("{at}/type"), detail)).ok();
        let data = fields.get("data").and_then(|data| compiler.data(data, &format!("{at}/data")));
        match (when, event_type) {
            (Some(when), Some(event_type)) if compiler.violations.is_empty() => {
                Ok((when, Self { event_type, data, pointers: compiler.pointers }))
            }
            _ => Err(compiler.violations),
        }
    }

    /// Applies the rule to an event. `index` is the index of the rule, for errors.
    pub(super) fn apply(&self, index: usize, event: &MapInput<'_>) -> Result<MappedEvent, MapError> {
        let event_type = self.event_type.fill(&event.source.name, event.topic).ok_or(MapError::Type { rule: index })?;
        let Some(node) = &self.data else { return Ok(MappedEvent { event_type, data: None }) };
        let found = self.pointers.read(event.data.as_bytes()).unwrap_or_default();
        let mut writer = DataWriter { event, found: &found, text: String::new() };
        match writer.write(node) {
            Ok(()) => Ok(MappedEvent { event_type, data: Some(writer.text) }),
            Err(NodeError::Missing(place)) => Err(MapError::Missing { rule: index, place: place.into() }),
            Err(NodeError::TooLarge) => Err(MapError::TooLarge { rule: index }),
            // Not reached: an optional value is always inside an object or an array.
            Err(NodeError::Omitted) => Ok(MappedEvent { event_type, data: None }),
        }
    }
}

struct RuleCompiler {
    pointers: PointerSet,
    nodes: usize,
    violations: Vec<FieldError>,
}

impl RuleCompiler {
    fn add_violation(&mut self, at: &str, detail: impl Into<String>) {
        self.violations.push(FieldError::new(at, detail));
    }

    fn data(&mut self, data: &Value, at: &str) -> Option<DataNode> {
        let node = match data {
            Value::Object(_) | Value::String(_) => self.node(data, at, 0)?,
            _ => {
                self.add_violation(
                    at,
                    "expected an object whose values say where they are taken from, or one such value",
                );
                return None;
            }
        };
        match node {
            DataNode::Extracted { optional: true, .. } => self.add_violation(at, "the data itself cannot be optional"),
            DataNode::Constant(_) if data.is_string() => {
                self.add_violation(at, "expected a value that is taken: /pointer or $payload");
            }
            node => return Some(node),
        }
        None
    }

    fn node(&mut self, value: &Value, at: &str, depth: usize) -> Option<DataNode> {
        self.nodes += 1;
        if depth > MAP_DATA_DEPTH_MAX || self.nodes > MAP_DATA_NODES_MAX {
            // Reported once: the following values are not compiled.
            if self.nodes <= MAP_DATA_NODES_MAX + 1 {
                self.add_violation(
                    at,
                    format!("expected at most {MAP_DATA_NODES_MAX} values, {MAP_DATA_DEPTH_MAX} deep"),
                );
            }
            return None;
        }
        match value {
            Value::String(text) => self.text(text, at),
            Value::Object(fields) => Some(self.object(fields, at, depth)),
            Value::Array(values) => {
                let nodes = values.iter().enumerate();
                let nodes: Vec<_> =
                    nodes.filter_map(|(index, value)| self.node(value, &format!("{at}/{index}"), depth + 1)).collect();
                Some(DataNode::Array(nodes))
            }
            constant => Some(DataNode::Constant(constant.to_string().into())),
        }
    }

    fn object(&mut self, fields: &Map<String, Value>, at: &str, depth: usize) -> DataNode {
        let mut nodes = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let node = self.node(value, &format!("{at}/{}", escape_pointer_token(name)), depth + 1);
            nodes.extend(node.map(|node| (json_text(name), node)));
        }
        DataNode::Object(nodes)
    }

    fn text(&mut self, text: &str, at: &str) -> Option<DataNode> {
        if let Some(constant) = text.strip_prefix("//").map(|rest| format!("/{rest}")) {
            return Some(DataNode::Constant(json_text(&constant)));
        }
        if let Some(constant) = text.strip_prefix("$$").map(|rest| format!("${rest}")) {
            return Some(DataNode::Constant(json_text(&constant)));
        }
        if !text.starts_with(['/', '$']) {
            return Some(DataNode::Constant(json_text(text)));
        }
        let place = text.strip_suffix('?').unwrap_or(text);
        let from = if place.starts_with('/') {
            Pointer::try_new(place)
                .map(|pointer| ValueOrigin::Pointer(self.pointers.add(&pointer)))
                .map_err(|e| e.to_string())
        } else {
            origin(place)
        };
        let from = from.map_err(|detail| self.add_violation(at, detail)).ok()?;
        Some(DataNode::Extracted { from, optional: place.len() < text.len(), text: place.into() })
    }
}

fn origin(place: &str) -> Result<ValueOrigin, String> {
    if let Some(name) = place.strip_prefix("$header.") {
        let header = name.parse::<HeaderName>().map_err(|_| format!("{name:?} is no name of a header"))?;
        if is_secret_name(header.as_str()) {
            return Err(format!("the header {header} holds a secret, which has no place in an event"));
        }
        return Ok(ValueOrigin::Header(header));
    }
    match place {
        "$topic" => Ok(ValueOrigin::Topic),
        "$payload" => Ok(ValueOrigin::Payload),
        "$source.name" => Ok(ValueOrigin::SourceName),
        "$source.kind" => Ok(ValueOrigin::SourceKind),
        "$source.id" => Ok(ValueOrigin::SourceId),
        "$source.tenant" => Ok(ValueOrigin::Tenant),
        _ => Err("expected $header.NAME, $source.name, $source.kind, $source.id, $source.tenant, $topic or $payload; \
                  text that begins with $ is written with $$"
            .to_owned()),
    }
}

struct DataWriter<'e> {
    event: &'e MapInput<'e>,
    found: &'e PointerValues<'e>,
    text: String,
}

impl<'e> DataWriter<'e> {
    /// Appends the JSON of a node. After an error, the text after the previous length is incomplete.
    fn write<'n>(&mut self, node: &'n DataNode) -> Result<(), NodeError<'n>> {
        match node {
            DataNode::Constant(json) => self.push(json),
            DataNode::Extracted { from, optional, text } => match self.value(from) {
                Some(json) => self.push(&json),
                None if *optional => Err(NodeError::Omitted),
                None => Err(NodeError::Missing(text)),
            },
            DataNode::Object(fields) => self.list(('{', '}'), fields.iter().map(|(name, node)| (Some(&**name), node))),
            DataNode::Array(nodes) => self.list(('[', ']'), nodes.iter().map(|node| (None, node))),
        }
    }

    fn list<'n>(
        &mut self,
        (open, close): (char, char),
        items: impl Iterator<Item = (Option<&'n str>, &'n DataNode)>,
    ) -> Result<(), NodeError<'n>> {
        self.text.push(open);
        let start = self.text.len();
        for (name, node) in items {
            let mark = self.text.len();
            if mark > start {
                self.text.push(',');
            }
            if let Some(name) = name {
                self.text.push_str(name);
                self.text.push(':');
            }
            match self.write(node) {
                Err(NodeError::Omitted) => self.text.truncate(mark),
                written => written?,
            }
        }
        self.text.push(close);
        Ok(())
    }

    fn push<'n>(&mut self, json: &str) -> Result<(), NodeError<'n>> {
        let most = (self.event.data.len() * MAP_DATA_GROWTH_MAX + MAP_DATA_BYTES_ALWAYS).min(MAP_DATA_BYTES_MAX);
        if self.text.len() + json.len() > most {
            return Err(NodeError::TooLarge);
        }
        self.text.push_str(json);
        Ok(())
    }

    /// The value at the origin, as JSON.
    fn value(&self, from: &ValueOrigin) -> Option<Cow<'e, str>> {
        let text = |text: &str| Some(Cow::Owned(json_text(text).into()));
        match from {
            ValueOrigin::Pointer(slot) => self.found.raw(*slot).map(|value| Cow::Borrowed(value.get())),
            ValueOrigin::Payload => Some(Cow::Borrowed(self.event.data)),
            ValueOrigin::Header(name) => text(&String::from_utf8_lossy(self.event.headers.get(name)?.as_bytes())),
            ValueOrigin::Topic => text(self.event.topic?),
            ValueOrigin::SourceName => text(&self.event.source.name),
            ValueOrigin::SourceKind => text(&self.event.source.settings.kind),
            ValueOrigin::SourceId => text(&self.event.source.id.to_string()),
            ValueOrigin::Tenant => text(&self.event.source.tenant),
        }
    }
}

/// The text as a JSON string.
fn json_text(text: &str) -> Box<str> {
    let mut json = String::with_capacity(text.len() + 2);
    push_json_string(&mut json, text);
    json.into()
}
