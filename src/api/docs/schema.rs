//! Converts the schemas of the OpenAPI document to HTML tables of fields.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::html::Escaped;
use super::markdown;

/// The maximum depth of nested schemas. Deeper schemas are shown by name only.
const DEPTH_MAX: usize = 4;

/// The OpenAPI document, which resolves references.
#[derive(Clone, Copy)]
pub(super) struct Schemas<'a>(pub(super) &'a Value);

impl<'a> Schemas<'a> {
    /// Resolves a value that is a reference. Other values are returned unchanged.
    pub(super) fn resolve(self, value: &'a Value) -> &'a Value {
        let pointer = value["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
        pointer.and_then(|pointer| self.0.pointer(pointer)).map_or(value, |found| self.resolve(found))
    }

    /// The table of an object's fields, with nested tables for fields that are objects. Empty for a schema without fields.
    pub(super) fn table(self, schema: &'a Value) -> String {
        let mut out = String::new();
        self.fields(schema, 0, &mut out);
        out
    }

    fn fields(self, schema: &'a Value, depth: usize, out: &mut String) {
        let mut parts = Vec::new();
        self.collect(schema, &mut parts);
        let required: Vec<_> =
            parts.iter().filter_map(|part| part["required"].as_array()).flatten().filter_map(Value::as_str).collect();
        let fields = parts.iter().filter_map(|part| part["properties"].as_object()).flat_map(Map::iter);
        let mut rows = String::new();
        for (name, field) in fields {
            self.row(name, field, required.contains(&&**name), depth, &mut rows);
        }
        if !rows.is_empty() {
            let _ = write!(out, "<table class=\"fields\"><tbody>{rows}</tbody></table>");
        }
        for choices in parts.iter().flat_map(|part| [&part["oneOf"], &part["anyOf"]]) {
            for (n, choice) in choices.as_array().into_iter().flatten().enumerate() {
                let mut inner = String::new();
                self.fields(choice, depth, &mut inner);
                if !inner.is_empty() {
                    let or = if n == 0 && rows.is_empty() { "one way" } else { "or" };
                    let _ = write!(out, "<p class=\"or\">{or}</p>{inner}");
                }
            }
        }
    }

    fn row(self, name: &str, field: &'a Value, is_required: bool, depth: usize, out: &mut String) {
        let of = self.resolve(field);
        let _ = write!(out, "<tr><th scope=\"row\"><code>{}</code>", Escaped(name));
        if is_required {
            out.push_str(" <span class=\"required\">required</span>");
        }
        let _ = write!(out, "</th><td><span class=\"type\">{}</span>", Escaped(&self.kind(field)));
        for note in notes(of) {
            let _ = write!(out, " <span class=\"note\">{}</span>", Escaped(&note));
        }
        if let Some(description) = field["description"].as_str().or_else(|| of["description"].as_str()) {
            let _ = write!(out, "<div>{}</div>", markdown::blocks(description));
        }
        if depth < DEPTH_MAX {
            let mut inner = String::new();
            self.fields(items(self, of), depth + 1, &mut inner);
            if !inner.is_empty() {
                let _ = write!(out, "<details><summary>fields</summary>{inner}</details>");
            }
        }
        out.push_str("</td></tr>");
    }

    /// Collects a schema and the schemas of its `allOf`.
    fn collect(self, schema: &'a Value, parts: &mut Vec<&'a Value>) {
        let schema = self.resolve(schema);
        parts.push(schema);
        for more in schema["allOf"].as_array().into_iter().flatten() {
            self.collect(more, parts);
        }
    }

    /// The type of a value in words: `string`, `array of integer`, `RetryPolicy`.
    pub(super) fn kind(self, schema: &'a Value) -> String {
        let name = schema["$ref"].as_str().and_then(|to| to.strip_prefix("#/components/schemas/"));
        let of = self.resolve(schema);
        if let Some(choices) = of["oneOf"].as_array().or_else(|| of["anyOf"].as_array())
            && of.get("type").is_none()
        {
            let kinds: Vec<_> = choices.iter().map(|choice| self.kind(choice)).collect();
            return kinds.join(" or ");
        }
        match &of["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
            Value::String(kind) if kind == "array" => match of.get("items") {
                Some(items) => format!("array of {}", self.kind(items)),
                None => "array".to_owned(),
            },
            Value::String(kind) => name.filter(|_| kind == "object").unwrap_or(kind).to_owned(),
            _ => name.unwrap_or("any JSON").to_owned(),
        }
    }
}

fn items<'a>(schemas: Schemas<'a>, schema: &'a Value) -> &'a Value {
    schema.get("items").map_or(schema, |items| schemas.resolve(items))
}

/// The constraints of a value, as short texts.
fn notes(schema: &Value) -> Vec<String> {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut notes = Vec::new();
    if let Some(choices) = schema["enum"].as_array() {
        notes.push(choices.iter().map(shown).collect::<Vec<_>>().join(" | "));
    }
    for (key, words) in [
        ("const", "always"),
        ("format", ""),
        ("minimum", "from"),
        ("maximum", "to"),
        ("maxLength", "characters to"),
        ("maxItems", "items to"),
        ("default", "default"),
    ] {
        if let Some(value) = schema.get(key) {
            notes.push(format!("{words} {}", shown(value)).trim().to_owned());
        }
    }
    notes
}
