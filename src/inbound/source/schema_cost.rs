//! The cost of a JSON Schema, computed before the schema is compiled.
//!
//! A schema is expanded: it may refer only to its own parts, must not be recursive, and has a bounded size with all
//! references expanded.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::validation::{json_pointer, truncated_detail};
use crate::filter::{PatternCost, pattern_cost};
use crate::limits::{
    FILTER_PATTERN_WORK_MAX, SCHEMA_COMPILED_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_NODES_MAX, SCHEMA_PATTERN_BYTES_MAX,
    SCHEMA_PATTERN_CACHE_BYTES, VIOLATIONS_LISTED_MAX,
};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The number of text bytes that count as one value.
pub(super) const BYTES_PER_VALUE: usize = 32;

/// Keywords whose value is a schema.
const SCHEMA_KEYWORDS: [&str; 12] = [
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
/// Keywords whose value is a list of schemas.
const SCHEMA_LIST_KEYWORDS: [&str; 5] = ["allOf", "anyOf", "items", "oneOf", "prefixItems"];
/// Keywords whose value is an object of schemas.
const SCHEMA_MAP_KEYWORDS: [&str; 6] =
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];
/// Keywords whose schemas apply to the same value as the schema that contains them.
const IN_PLACE_KEYWORDS: [&str; 10] =
    ["$ref", "allOf", "anyOf", "dependencies", "dependentSchemas", "else", "if", "not", "oneOf", "then"];
const UNEVALUATED_KEYWORDS: [&str; 2] = ["unevaluatedItems", "unevaluatedProperties"];
/// Keywords that make the expanded size unpredictable. They are not supported.
const UNSUPPORTED_KEYWORDS: [&str; 4] = ["$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor"];

/// A schema that is not supported, with the location of the reason.
pub(super) struct UnsupportedSchema {
    pub(super) at: String,
    pub(super) detail: String,
}

/// Expands a schema and computes the cost of a check.
pub(super) struct SchemaWalker<'a> {
    schema: &'a Value,
    /// The references that lead to the current schema.
    refs: Vec<&'a str>,
    /// The number of subschemas so far.
    pub(super) visited: usize,
    /// The costly regular expressions, each with its JSON pointer.
    pub(super) costly: Vec<(String, String)>,
    /// The cost of each regular expression.
    patterns: HashMap<&'a str, PatternCost>,
    /// The bytes of all regular expressions, compiled, about.
    pub(super) pattern_bytes: usize,
}

/// The cost of checking one value.
#[derive(Clone, Copy, Default)]
pub(super) struct CheckCost {
    /// The number of schemas that are applied.
    pub(super) nodes: usize,
    /// The nesting depth of schemas that apply to the same value.
    height: usize,
    /// The units of work of the regular expressions for each byte.
    pub(super) pattern: u64,
}

impl<'a> SchemaWalker<'a> {
    pub(super) fn new(schema: &'a Value) -> Self {
        Self { schema, refs: Vec::new(), visited: 0, costly: Vec::new(), patterns: HashMap::new(), pattern_bytes: 0 }
    }

    /// The cost of the whole schema.
    pub(super) fn walk(&mut self) -> Result<CheckCost, UnsupportedSchema> {
        self.node(self.schema, &mut Vec::new(), 0)
    }

    fn node(&mut self, node: &'a Value, at: &mut Vec<&'a str>, depth: usize) -> Result<CheckCost, UnsupportedSchema> {
        self.visited += 1;
        if self.visited > SCHEMA_NODES_MAX {
            return too_large();
        }
        if depth > SCHEMA_DEPTH_MAX {
            return refuse(at, format!("lies deeper than {SCHEMA_DEPTH_MAX} with its references written out"));
        }
        let Value::Object(keywords) = node else { return Ok(CheckCost { nodes: 1, height: 1, pattern: 0 }) };
        Self::check_supported(keywords, at)?;
        let (mut here, mut below, mut pattern) = (CheckCost::default(), 1, 0u64);
        for (keyword, value) in keywords {
            at.push(keyword);
            // A list of values is searched for each value.
            below += value.as_array().map_or(0, |values| values.len() / BYTES_PER_VALUE);
            let parts = self.parts(keyword, value, at, depth)?;
            pattern = pattern.saturating_add(self.patterns(keyword, value, at)?);
            at.pop();
            if IN_PLACE_KEYWORDS.contains(&keyword.as_str()) {
                here.nodes = here.nodes.saturating_add(parts.nodes);
                here.pattern = here.pattern.saturating_add(parts.pattern);
                here.height = here.height.max(parts.height);
            } else {
                below += parts.nodes;
                pattern = pattern.saturating_add(parts.pattern);
            }
        }
        // To find unevaluated values, the other schemas are evaluated again at each level.
        let times =
            if UNEVALUATED_KEYWORDS.iter().any(|name| keywords.contains_key(*name)) { here.height + 1 } else { 1 };
        let nodes = below.saturating_add(here.nodes.saturating_mul(times));
        let pattern = pattern.saturating_add(here.pattern.saturating_mul(times as u64));
        if nodes > SCHEMA_NODES_MAX { too_large() } else { Ok(CheckCost { nodes, height: here.height + 1, pattern }) }
    }

    /// The units of work of the regular expressions of a keyword for each byte.
    fn patterns(&mut self, keyword: &str, value: &'a Value, at: &[&'a str]) -> Result<u64, UnsupportedSchema> {
        match (keyword, value) {
            ("pattern", Value::String(text)) => self.pattern(text, at),
            ("patternProperties", Value::Object(schemas)) => schemas.keys().map(|text| self.pattern(text, at)).sum(),
            _ => Ok(0),
        }
    }

    fn pattern(&mut self, text: &'a str, at: &[&'a str]) -> Result<u64, UnsupportedSchema> {
        if let Some(known) = self.patterns.get(text) {
            return Ok(u64::from(known.work_per_byte));
        }
        // An expression in a syntax of JavaScript only is taken as the most costly one.
        let unknown = PatternCost { work_per_byte: FILTER_PATTERN_WORK_MAX, compiled_bytes: SCHEMA_PATTERN_BYTES_MAX };
        let cost = pattern_cost(text).unwrap_or(unknown);
        self.patterns.insert(text, cost);
        // The states that searches have met need memory too, if there is no table of all states.
        let cache = if cost.work_per_byte > 1 { SCHEMA_PATTERN_CACHE_BYTES } else { 0 };
        self.pattern_bytes += cost.compiled_bytes + cache;
        if self.pattern_bytes > SCHEMA_COMPILED_BYTES_MAX {
            let detail = format!(
                "the regular expressions of the schema take more than {SCHEMA_COMPILED_BYTES_MAX} bytes when they are \
                 compiled: fewer or smaller expressions, or ASCII classes such as [0-9A-Za-z]"
            );
            return refuse(at, detail);
        }
        let work = cost.work_per_byte;
        if work > FILTER_PATTERN_WORK_MAX && self.costly.len() < VIOLATIONS_LISTED_MAX {
            let detail = format!(
                "a search for {} costs {work} units for each byte, at most {FILTER_PATTERN_WORK_MAX} are allowed: fewer or \
                 smaller repetitions, or ASCII classes such as [0-9A-Za-z]",
                truncated_detail(text)
            );
            self.costly.push((json_pointer(at.iter().copied()), detail));
        }
        Ok(u64::from(work))
    }

    /// The cost of the schemas of a keyword.
    fn parts(
        &mut self,
        keyword: &'a str,
        value: &'a Value,
        at: &mut Vec<&'a str>,
        depth: usize,
    ) -> Result<CheckCost, UnsupportedSchema> {
        let mut sum = CheckCost::default();
        let mut add = |cost: CheckCost| {
            sum = CheckCost {
                nodes: sum.nodes.saturating_add(cost.nodes),
                height: sum.height.max(cost.height),
                pattern: sum.pattern.saturating_add(cost.pattern),
            };
        };
        match value {
            Value::Object(schemas) if SCHEMA_MAP_KEYWORDS.contains(&keyword) => {
                for (name, schema) in schemas {
                    at.push(name);
                    add(self.node(schema, at, depth + 1)?);
                    at.pop();
                }
            }
            Value::Array(schemas) if SCHEMA_LIST_KEYWORDS.contains(&keyword) => {
                for schema in schemas {
                    add(self.node(schema, at, depth + 1)?);
                }
            }
            Value::Object(_) | Value::Bool(_) if SCHEMA_KEYWORDS.contains(&keyword) => {
                add(self.node(value, at, depth + 1)?);
            }
            Value::String(to) if keyword == "$ref" => add(self.reference(to, at, depth)?),
            _ => {}
        }
        Ok(sum)
    }

    fn check_supported(keywords: &Map<String, Value>, at: &[&str]) -> Result<(), UnsupportedSchema> {
        let below = |keyword| [at, &[keyword]].concat();
        for keyword in UNSUPPORTED_KEYWORDS {
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
        // With this format, each text of a body would be compiled as a regular expression.
        if keywords.get("format").is_some_and(|format| format == "regex") {
            return refuse(&below("format"), "\"regex\" is not supported".to_owned());
        }
        Ok(())
    }

    fn reference(&mut self, to: &'a str, at: &mut Vec<&'a str>, depth: usize) -> Result<CheckCost, UnsupportedSchema> {
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

fn refuse<T>(at: &[&str], detail: String) -> Result<T, UnsupportedSchema> {
    Err(UnsupportedSchema { at: json_pointer(at.iter().copied()), detail })
}

fn too_large<T>() -> Result<T, UnsupportedSchema> {
    refuse(&[], format!("has more than {SCHEMA_NODES_MAX} parts with its references written out"))
}
