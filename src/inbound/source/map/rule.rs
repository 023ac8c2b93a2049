//! One rule: which events it wants, the type it gives them, the data it builds.

use std::borrow::Cow;

use http::HeaderName;
use serde_json::{Map, Value};

use super::template::TypeTemplate;
use super::{Breach, Incoming, MapError, Mapped};
use crate::inbound::source::check::escape;
use crate::inbound::source::form::push_text;
use crate::json::{Found, Pointer, PointerSet};
use crate::limits::{MAP_DATA_BYTES_MAX, MAP_DEPTH_MAX, MAP_NODES_MAX};
use crate::model::is_secret_name;

/// Which topics a rule wants.
#[derive(Debug)]
pub(super) enum When {
    /// This one.
    Exact(Box<str>),
    /// Those that begin so and go on.
    Prefix(Box<str>),
    /// All, and no topic as well.
    All,
}

/// A compiled rule.
#[derive(Debug)]
pub(super) struct Rule {
    event_type: TypeTemplate,
    data: Option<Node>,
    /// Every pointer of `data`, so that one pass over the payload answers them.
    pointers: PointerSet,
}

/// A value of the data.
#[derive(Debug)]
enum Node {
    /// The same for every event, as JSON.
    Constant(Box<str>),
    /// Taken from the event; the text is how the rule wrote it.
    Taken {
        from: Origin,
        optional: bool,
        text: Box<str>,
    },
    /// Names are JSON strings.
    Object(Vec<(Box<str>, Node)>),
    Array(Vec<Node>),
}

/// Where a value is taken from.
#[derive(Debug)]
enum Origin {
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

/// Why a node made nothing.
enum Gap<'a> {
    /// It is optional and not there.
    LeftOut,
    /// It is needed and not there.
    Missing(&'a str),
    TooLarge,
}

impl When {
    fn try_new(text: &str) -> Option<Self> {
        match text.split_once('*') {
            None if !text.is_empty() => Some(Self::Exact(text.into())),
            Some(("", "")) => Some(Self::All),
            Some((prefix, "")) => Some(Self::Prefix(prefix.into())),
            None | Some(_) => None,
        }
    }

    pub(super) fn wants(&self, topic: Option<&str>) -> bool {
        match (self, topic) {
            (Self::All, _) => true,
            (_, None) => false,
            (Self::Exact(text), Some(topic)) => **text == *topic,
            (Self::Prefix(prefix), Some(topic)) => topic.len() > prefix.len() && topic.starts_with(&**prefix),
        }
    }
}

impl Rule {
    /// A rule and what it wants. `at` is where it stands, for breaches.
    pub(super) fn try_new(rule: &Value, at: &str) -> Result<(When, Self), Vec<Breach>> {
        let Value::Object(fields) = rule else {
            return Err(vec![Breach::new(at, "expected an object with when, type and perhaps data")]);
        };
        let mut compiler = Compiler { pointers: PointerSet::default(), nodes: 0, breaches: Vec::new() };
        for name in fields.keys().filter(|name| !["when", "type", "data"].contains(&name.as_str())) {
            compiler.wrong(&format!("{at}/{}", escape(name)), "unknown; allowed: when, type, data");
        }
        let when = fields.get("when").and_then(Value::as_str).and_then(When::try_new);
        if when.is_none() {
            compiler.wrong(
                &format!("{at}/when"),
                "expected a type of the provider's, the beginning of one and * (orders/*), or *",
            );
        }
        let event_type = fields.get("type").and_then(Value::as_str).ok_or_else(|| "expected text".to_owned());
        let event_type = event_type.and_then(TypeTemplate::try_new);
        let event_type = event_type.map_err(|detail| compiler.wrong(&format!("{at}/type"), detail)).ok();
        let data = fields.get("data").and_then(|data| compiler.data(data, &format!("{at}/data")));
        match (when, event_type) {
            (Some(when), Some(event_type)) if compiler.breaches.is_empty() => {
                Ok((when, Self { event_type, data, pointers: compiler.pointers }))
            }
            _ => Err(compiler.breaches),
        }
    }

    /// What an event becomes by this rule, the `index`th.
    pub(super) fn apply(&self, index: usize, event: &Incoming<'_>) -> Result<Mapped, MapError> {
        let event_type = self.event_type.fill(&event.source.name, event.topic).ok_or(MapError::Type { rule: index })?;
        let Some(node) = &self.data else { return Ok(Mapped { event_type, data: None }) };
        let found = self.pointers.read(event.data.as_bytes()).unwrap_or_default();
        let mut writer = Writer { event, found: &found, text: String::new() };
        match writer.write(node) {
            Ok(()) => Ok(Mapped { event_type, data: Some(writer.text) }),
            Err(Gap::Missing(place)) => Err(MapError::Missing { rule: index, place: place.into() }),
            Err(Gap::TooLarge) => Err(MapError::TooLarge { rule: index }),
            // What is optional stands in an object or a list, which is there without it.
            Err(Gap::LeftOut) => Ok(Mapped { event_type, data: None }),
        }
    }
}

struct Compiler {
    pointers: PointerSet,
    nodes: usize,
    breaches: Vec<Breach>,
}

impl Compiler {
    fn wrong(&mut self, at: &str, detail: impl Into<String>) {
        self.breaches.push(Breach::new(at, detail));
    }

    fn data(&mut self, data: &Value, at: &str) -> Option<Node> {
        let node = match data {
            Value::Object(_) | Value::String(_) => self.node(data, at, 0)?,
            _ => {
                self.wrong(at, "expected an object whose values say where they are taken from, or one such value");
                return None;
            }
        };
        match node {
            Node::Taken { optional: true, .. } => self.wrong(at, "the data itself cannot be optional"),
            Node::Constant(_) if data.is_string() => {
                self.wrong(at, "expected a value that is taken: /pointer or $payload");
            }
            node => return Some(node),
        }
        None
    }

    fn node(&mut self, value: &Value, at: &str, depth: usize) -> Option<Node> {
        self.nodes += 1;
        if depth > MAP_DEPTH_MAX || self.nodes > MAP_NODES_MAX {
            // Told once: what follows is not looked at.
            if self.nodes <= MAP_NODES_MAX + 1 {
                self.wrong(at, format!("expected at most {MAP_NODES_MAX} values, {MAP_DEPTH_MAX} deep"));
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
                Some(Node::Array(nodes))
            }
            constant => Some(Node::Constant(constant.to_string().into())),
        }
    }

    fn object(&mut self, fields: &Map<String, Value>, at: &str, depth: usize) -> Node {
        let mut nodes = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let node = self.node(value, &format!("{at}/{}", escape(name)), depth + 1);
            nodes.extend(node.map(|node| (json_text(name), node)));
        }
        Node::Object(nodes)
    }

    fn text(&mut self, text: &str, at: &str) -> Option<Node> {
        if let Some(constant) = text.strip_prefix("//").map(|rest| format!("/{rest}")) {
            return Some(Node::Constant(json_text(&constant)));
        }
        if let Some(constant) = text.strip_prefix("$$").map(|rest| format!("${rest}")) {
            return Some(Node::Constant(json_text(&constant)));
        }
        if !text.starts_with(['/', '$']) {
            return Some(Node::Constant(json_text(text)));
        }
        let place = text.strip_suffix('?').unwrap_or(text);
        let from = if place.starts_with('/') {
            Pointer::try_new(place)
                .map(|pointer| Origin::Pointer(self.pointers.add(&pointer)))
                .map_err(|e| e.to_string())
        } else {
            origin(place)
        };
        let from = from.map_err(|detail| self.wrong(at, detail)).ok()?;
        Some(Node::Taken { from, optional: place.len() < text.len(), text: place.into() })
    }
}

fn origin(place: &str) -> Result<Origin, String> {
    if let Some(name) = place.strip_prefix("$header.") {
        let header = name.parse::<HeaderName>().map_err(|_| format!("{name:?} is no name of a header"))?;
        if is_secret_name(header.as_str()) {
            return Err(format!("the header {header} holds a secret, which has no place in an event"));
        }
        return Ok(Origin::Header(header));
    }
    match place {
        "$topic" => Ok(Origin::Topic),
        "$payload" => Ok(Origin::Payload),
        "$source.name" => Ok(Origin::SourceName),
        "$source.kind" => Ok(Origin::SourceKind),
        "$source.id" => Ok(Origin::SourceId),
        "$source.tenant" => Ok(Origin::Tenant),
        _ => Err("expected $header.NAME, $source.name, $source.kind, $source.id, $source.tenant, $topic or $payload; \
                  text that begins with $ is written with $$"
            .to_owned()),
    }
}

struct Writer<'e> {
    event: &'e Incoming<'e>,
    found: &'e Found<'e>,
    text: String,
}

impl<'e> Writer<'e> {
    /// Writes a node after what is there; after an error only what was there before is of use.
    fn write<'n>(&mut self, node: &'n Node) -> Result<(), Gap<'n>> {
        match node {
            Node::Constant(json) => self.push(json),
            Node::Taken { from, optional, text } => match self.take(from) {
                Some(json) => self.push(&json),
                None if *optional => Err(Gap::LeftOut),
                None => Err(Gap::Missing(text)),
            },
            Node::Object(fields) => self.list(('{', '}'), fields.iter().map(|(name, node)| (Some(&**name), node))),
            Node::Array(nodes) => self.list(('[', ']'), nodes.iter().map(|node| (None, node))),
        }
    }

    fn list<'n>(
        &mut self,
        (open, close): (char, char),
        items: impl Iterator<Item = (Option<&'n str>, &'n Node)>,
    ) -> Result<(), Gap<'n>> {
        self.text.push(open);
        let empty = self.text.len();
        for (name, node) in items {
            let mark = self.text.len();
            if mark > empty {
                self.text.push(',');
            }
            if let Some(name) = name {
                self.text.push_str(name);
                self.text.push(':');
            }
            match self.write(node) {
                Err(Gap::LeftOut) => self.text.truncate(mark),
                written => written?,
            }
        }
        self.text.push(close);
        Ok(())
    }

    fn push<'n>(&mut self, json: &str) -> Result<(), Gap<'n>> {
        if self.text.len() + json.len() > MAP_DATA_BYTES_MAX {
            return Err(Gap::TooLarge);
        }
        self.text.push_str(json);
        Ok(())
    }

    /// A value as JSON.
    fn take(&self, from: &Origin) -> Option<Cow<'e, str>> {
        let text = |text: &str| Some(Cow::Owned(json_text(text).into()));
        match from {
            Origin::Pointer(slot) => self.found.raw(*slot).map(|value| Cow::Borrowed(value.get())),
            Origin::Payload => Some(Cow::Borrowed(self.event.data)),
            Origin::Header(name) => text(&String::from_utf8_lossy(self.event.headers.get(name)?.as_bytes())),
            Origin::Topic => text(self.event.topic?),
            Origin::SourceName => text(&self.event.source.name),
            Origin::SourceKind => text(&self.event.source.settings.kind),
            Origin::SourceId => text(&self.event.source.id.to_string()),
            Origin::Tenant => text(&self.event.source.tenant),
        }
    }
}

/// Text as a JSON string.
fn json_text(text: &str) -> Box<str> {
    let mut json = String::with_capacity(text.len() + 2);
    push_text(&mut json, text);
    json.into()
}
