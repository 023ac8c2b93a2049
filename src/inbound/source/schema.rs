//! A JSON Schema (draft 2020-12) whose check always ends soon.
//!
//! The library has no network here and takes only expressions of linear time. What is left that could run away is the schema
//! itself: references that come round again, or that multiply. So a schema is unrolled before it is compiled: it may refer
//! only to its own parts, never round in a circle, and has a bounded size with every reference written out. The work of a
//! check is then at most that size times the body's, and that product is bounded too.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

use super::Breach;
use super::rules::pointer;
use crate::limits::{
    BREACH_CHARS_MAX, BREACHES_LISTED_MAX, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_LIST_WORK_MAX, SCHEMA_NODES_MAX,
    SCHEMA_PATTERN_BYTES_MAX, SCHEMA_WORK_MAX,
};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Bytes of a text that cost as much as one value.
const BYTES_PER_VALUE: usize = 32;

/// Keywords with a schema.
const ONE: [&str; 12] = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// … with a list of schemas.
const LIST: [&str; 5] = ["allOf", "anyOf", "items", "oneOf", "prefixItems"];
/// … with schemas by name.
const NAMED: [&str; 6] =
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];
/// Keywords whose schemas look at the same value as the one that they stand in.
const SAME_VALUE: [&str; 10] =
    ["$ref", "allOf", "anyOf", "dependencies", "dependentSchemas", "else", "if", "not", "oneOf", "then"];
const UNEVALUATED: [&str; 2] = ["unevaluatedItems", "unevaluatedProperties"];
/// Keywords with which the size cannot be told beforehand.
const REFUSED: [&str; 4] = ["$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor"];

/// A compiled schema.
pub(crate) struct Schema {
    validator: Validator,
    /// Schemas that a value meets at most, with every reference written out.
    nodes: usize,
    example: Option<Value>,
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schema").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl Schema {
    /// # Errors
    /// Everything that is wrong; pointers begin with `root`.
    pub(crate) fn try_new(schema: &Value, root: &str) -> Result<Self, Vec<Breach>> {
        let one = |at: &str, detail: String| vec![Breach { pointer: format!("{root}{at}"), detail }];
        if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
            return Err(one("", "expected a JSON Schema, an object".to_owned()));
        }
        if schema.to_string().len() > SCHEMA_BYTES_MAX {
            return Err(one("", format!("expected at most {SCHEMA_BYTES_MAX} bytes")));
        }
        let mut walk = Walk { schema, refs: Vec::new(), visited: 0 };
        let cost = walk.node(schema, &mut Vec::new(), 0).map_err(|Refused { at, detail }| one(&at, detail))?;
        let wrong: Vec<_> = jsonschema::draft202012::meta::validator()
            .iter_errors(schema)
            .take(BREACHES_LISTED_MAX)
            .map(|error| Breach {
                pointer: format!("{root}{}", error.instance_path().as_str()),
                detail: cut(&error.to_string()),
            })
            .collect();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let patterns =
            PatternOptions::regex().size_limit(SCHEMA_PATTERN_BYTES_MAX).dfa_size_limit(SCHEMA_PATTERN_BYTES_MAX);
        let built = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            .should_validate_formats(true)
            .with_pattern_options(patterns)
            .build(schema);
        match built {
            Ok(validator) => {
                let example = schema.pointer("/examples/0").filter(|example| validator.is_valid(example)).cloned();
                Ok(Self { validator, nodes: cost.nodes, example })
            }
            Err(error) => Err(one(error.instance_path().as_str(), cut(&error.to_string()))),
        }
    }

    /// The first of its `examples`, if it is one.
    pub(super) fn example(&self) -> Option<&Value> {
        self.example.as_ref()
    }

    /// Adds the breaches of a body; of one that is large only that there are some.
    pub(crate) fn check(&self, body: &Value, breaches: &mut Vec<Breach>) {
        let work = self.nodes.saturating_mul(size(body));
        if work > SCHEMA_WORK_MAX {
            let detail = "has more values than can be checked against the schema in time; send less at once";
            breaches.push(Breach { pointer: String::new(), detail: detail.to_owned() });
        } else if work > SCHEMA_LIST_WORK_MAX {
            if !self.validator.is_valid(body) {
                let detail = "does not fit the schema; the body is too large to say where";
                breaches.push(Breach { pointer: String::new(), detail: detail.to_owned() });
            }
        } else {
            breaches.extend(self.validator.iter_errors(body).take(BREACHES_LISTED_MAX).map(|error| as_breach(&error)));
        }
    }
}

/// Values of the body are left out of the words: they may be large, and are known to whoever sent them.
fn as_breach(error: &jsonschema::ValidationError<'_>) -> Breach {
    Breach { pointer: error.instance_path().as_str().to_owned(), detail: cut(&error.masked().to_string()) }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(BREACH_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How many values a body has, long texts counted by their length.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 1,
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| size(value) + key.len() / BYTES_PER_VALUE).sum::<usize>() + 1
        }
        Value::String(text) => text.len() / BYTES_PER_VALUE + 1,
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

/// A schema that is not taken.
struct Refused {
    at: String,
    detail: String,
}

/// Unrolls a schema and counts what a check of it costs.
struct Walk<'a> {
    schema: &'a Value,
    /// References that are being followed.
    refs: Vec<&'a str>,
    visited: usize,
}

/// What one value costs to check.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// Schemas that are looked at.
    nodes: usize,
    /// Schemas that lie above each other at the same value.
    height: usize,
}

impl<'a> Walk<'a> {
    fn node(&mut self, node: &'a Value, at: &mut Vec<&'a str>, depth: usize) -> Result<Cost, Refused> {
        self.visited += 1;
        if self.visited > SCHEMA_NODES_MAX {
            return too_large();
        }
        if depth > SCHEMA_DEPTH_MAX {
            return refuse(at, format!("lies deeper than {SCHEMA_DEPTH_MAX} with its references written out"));
        }
        let Value::Object(keywords) = node else { return Ok(Cost { nodes: 1, height: 1 }) };
        Self::refusals(keywords, at)?;
        let (mut here, mut below) = (Cost::default(), 1);
        for (keyword, value) in keywords {
            at.push(keyword);
            // A list of values is looked through for each.
            below += value.as_array().map_or(0, |values| values.len() / BYTES_PER_VALUE);
            let parts = self.parts(keyword, value, at, depth)?;
            at.pop();
            if SAME_VALUE.contains(&keyword.as_str()) {
                here.nodes = here.nodes.saturating_add(parts.nodes);
                here.height = here.height.max(parts.height);
            } else {
                below += parts.nodes;
            }
        }
        // To know what the others have seen, they are asked again at each height.
        let times = if UNEVALUATED.iter().any(|name| keywords.contains_key(*name)) { here.height + 1 } else { 1 };
        let nodes = below.saturating_add(here.nodes.saturating_mul(times));
        if nodes > SCHEMA_NODES_MAX { too_large() } else { Ok(Cost { nodes, height: here.height + 1 }) }
    }

    /// The schemas of a keyword.
    fn parts(
        &mut self,
        keyword: &'a str,
        value: &'a Value,
        at: &mut Vec<&'a str>,
        depth: usize,
    ) -> Result<Cost, Refused> {
        let mut sum = Cost::default();
        let mut add = |cost: Cost| {
            sum = Cost { nodes: sum.nodes.saturating_add(cost.nodes), height: sum.height.max(cost.height) };
        };
        match value {
            Value::Object(schemas) if NAMED.contains(&keyword) => {
                for (name, schema) in schemas {
                    at.push(name);
                    add(self.node(schema, at, depth + 1)?);
                    at.pop();
                }
            }
            Value::Array(schemas) if LIST.contains(&keyword) => {
                for schema in schemas {
                    add(self.node(schema, at, depth + 1)?);
                }
            }
            Value::Object(_) | Value::Bool(_) if ONE.contains(&keyword) => add(self.node(value, at, depth + 1)?),
            Value::String(to) if keyword == "$ref" => add(self.reference(to, at, depth)?),
            _ => {}
        }
        Ok(sum)
    }

    fn refusals(keywords: &Map<String, Value>, at: &[&str]) -> Result<(), Refused> {
        let below = |keyword| [at, &[keyword]].concat();
        for keyword in REFUSED {
            if keywords.contains_key(keyword) {
                return refuse(&below(keyword), "is not supported; use $ref".to_owned());
            }
        }
        if !at.is_empty() && keywords.contains_key("$id") {
            return refuse(&below("$id"), "is supported only at the top".to_owned());
        }
        let draft = keywords.get("$schema").map(|draft| draft.as_str().unwrap_or_default().trim_end_matches('#'));
        if draft.is_some_and(|draft| draft != DRAFT) {
            return refuse(&below("$schema"), format!("expected {DRAFT}"));
        }
        // Each text would be compiled as an expression.
        if keywords.get("format").is_some_and(|format| format == "regex") {
            return refuse(&below("format"), "\"regex\" is not supported".to_owned());
        }
        Ok(())
    }

    fn reference(&mut self, to: &'a str, at: &mut Vec<&'a str>, depth: usize) -> Result<Cost, Refused> {
        let place = to.strip_prefix('#').filter(|place| place.is_empty() || place.starts_with('/'));
        let Some(place) = place.filter(|place| !place.contains('%')) else {
            return refuse(at, "expected a reference into this schema, such as \"#/$defs/name\"".to_owned());
        };
        if self.refs.contains(&to) {
            return refuse(at, "leads back to itself; a schema may not be recursive".to_owned());
        }
        let Some(schema) = self.schema.pointer(place) else {
            return refuse(at, "leads nowhere".to_owned());
        };
        self.refs.push(to);
        let cost = self.node(schema, at, depth + 1)?;
        self.refs.pop();
        Ok(cost)
    }
}

fn refuse<T>(at: &[&str], detail: String) -> Result<T, Refused> {
    Err(Refused { at: pointer(at.iter().copied()), detail })
}

fn too_large<T>() -> Result<T, Refused> {
    refuse(&[], format!("has more than {SCHEMA_NODES_MAX} parts with its references written out"))
}
