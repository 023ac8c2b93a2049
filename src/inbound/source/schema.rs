//! JSON Schema (draft 2020-12) validation with bounded work.
//!
//! The library runs without network access and only with regular expressions of linear time. The remaining risk is the
//! schema itself: recursive references, and references that multiply. A schema is therefore expanded before it is compiled:
//! it may refer only to its own parts, must not be recursive, and has a bounded size with all references expanded. The work
//! of a check is at most this size times the size of the body, and this product is bounded too. The work of regular
//! expressions is counted for each byte of text, as the work of filters is.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

use super::validation::{json_pointer, truncated_detail};
use crate::filter::pattern_work_per_byte;
use crate::json::JsonSize;
use crate::limits::{
    FILTER_EVENT_WORK_MAX, FILTER_PATTERN_WORK_MAX, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_LIST_WORK_MAX,
    SCHEMA_NODES_MAX, SCHEMA_PATTERN_BYTES_MAX, SCHEMA_STEP_WORK, SCHEMA_TREE_BYTES_MAX, SCHEMA_TREE_BYTES_PER_UNIT,
    SCHEMA_WORK_MAX, VIOLATIONS_LISTED_MAX,
};
use crate::model::FieldError;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The number of text bytes that count as one value.
const BYTES_PER_VALUE: usize = 32;

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

/// A compiled schema.
pub(crate) struct Schema {
    validator: Validator,
    /// The maximum number of schemas that are applied to a value, with all references expanded.
    nodes: usize,
    /// The units of work of all regular expressions for each byte of text, with all references expanded.
    pattern_work: u64,
    /// The regular expressions that are too costly for a new schema.
    costly: Vec<FieldError>,
    example: Option<Value>,
}

/// The work of a check, computed before the check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckWork {
    /// Units of work.
    pub units: u64,
    /// About the bytes of memory of the parsed body.
    pub tree_bytes: usize,
}

impl CheckWork {
    /// The work to parse a body of this size.
    ///
    /// # Errors
    /// A violation if the parsed body would take too much memory.
    pub(super) fn of_body(size: &JsonSize) -> Result<Self, FieldError> {
        let tree_bytes = size.tree_bytes;
        if tree_bytes > SCHEMA_TREE_BYTES_MAX {
            let detail = format!(
                "takes about {tree_bytes} bytes of memory when it is parsed, at most {SCHEMA_TREE_BYTES_MAX} are allowed; \
                 send less at once, or fewer and longer objects"
            );
            return Err(FieldError::new("", detail));
        }
        Ok(Self { units: (tree_bytes / SCHEMA_TREE_BYTES_PER_UNIT) as u64, tree_bytes })
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schema").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl Schema {
    /// Validates and compiles a schema.
    ///
    /// # Errors
    /// The errors of the schema, up to [`VIOLATIONS_LISTED_MAX`]. The pointers begin with `root`.
    pub(crate) fn try_new(schema: &Value, root: &str) -> Result<Self, Vec<FieldError>> {
        let one = |at: &str, detail: String| vec![FieldError { pointer: format!("{root}{at}"), detail }];
        if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
            return Err(one("", "expected a JSON Schema, an object".to_owned()));
        }
        if schema.to_string().len() > SCHEMA_BYTES_MAX {
            return Err(one("", format!("expected at most {SCHEMA_BYTES_MAX} bytes")));
        }
        let mut walk = SchemaWalker { schema, refs: Vec::new(), visited: 0, costly: Vec::new() };
        let cost =
            walk.node(schema, &mut Vec::new(), 0).map_err(|UnsupportedSchema { at, detail }| one(&at, detail))?;
        let wrong: Vec<_> = jsonschema::draft202012::meta::validator()
            .iter_errors(schema)
            .take(VIOLATIONS_LISTED_MAX)
            .map(|error| FieldError {
                pointer: format!("{root}{}", error.instance_path().as_str()),
                detail: truncated_detail(&error.to_string()),
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
                let costly = walk.costly.into_iter().map(|(at, detail)| FieldError::new(format!("{root}{at}"), detail));
                Ok(Self { validator, nodes: cost.nodes, pattern_work: cost.pattern, costly: costly.collect(), example })
            }
            Err(error) => Err(one(error.instance_path().as_str(), truncated_detail(&error.to_string()))),
        }
    }

    /// The first of the schema's `examples`, if it is valid.
    pub(super) fn example(&self) -> Option<&Value> {
        self.example.as_ref()
    }

    /// The regular expressions that are too costly for a new schema, each with its location. A stored schema may have
    /// them: the work of each check is bounded.
    pub(crate) fn costly_patterns(&self) -> &[FieldError] {
        &self.costly
    }

    /// The work to parse a body and to check it.
    ///
    /// # Errors
    /// A violation if this would be too much work.
    pub(crate) fn work_on_text(&self, body: &str) -> Result<CheckWork, FieldError> {
        let size = JsonSize::of(body);
        let work = CheckWork::of_body(&size)?;
        Ok(CheckWork { units: work.units + self.work(&size)?, ..work })
    }

    /// The work of a check, without the work to parse the body.
    ///
    /// # Errors
    /// A violation if the check would be too much work.
    pub(crate) fn work(&self, size: &JsonSize) -> Result<u64, FieldError> {
        let steps = self.nodes.saturating_mul(size.values + size.text_bytes / BYTES_PER_VALUE);
        let searched = self.pattern_work.saturating_mul(size.text_bytes as u64);
        if steps > SCHEMA_WORK_MAX {
            let detail = "has more values than can be checked against the schema in time; send less at once";
            return Err(FieldError::new("", detail));
        }
        if searched > FILTER_EVENT_WORK_MAX {
            let detail = "has more text than can be checked against the regular expressions of the schema in time; send \
                          less at once";
            return Err(FieldError::new("", detail));
        }
        Ok(steps as u64 * SCHEMA_STEP_WORK + searched)
    }

    /// Validates a body and adds its violations. For a large body, only one violation without a location is added.
    pub(crate) fn check(&self, body: &Value, violations: &mut Vec<FieldError>) {
        let size = size(body);
        if let Err(violation) = self.work(&size) {
            violations.push(violation);
            return;
        }
        let steps = self.nodes.saturating_mul(size.values + size.text_bytes / BYTES_PER_VALUE);
        if steps > SCHEMA_LIST_WORK_MAX {
            if !self.validator.is_valid(body) {
                let detail = "does not fit the schema; the body is too large to say where";
                violations.push(FieldError { pointer: String::new(), detail: detail.to_owned() });
            }
        } else {
            violations
                .extend(self.validator.iter_errors(body).take(VIOLATIONS_LISTED_MAX).map(|error| as_violation(&error)));
        }
    }
}

/// Converts an error without the values of the body: they can be large, and the sender knows them.
fn as_violation(error: &jsonschema::ValidationError<'_>) -> FieldError {
    FieldError {
        pointer: error.instance_path().as_str().to_owned(),
        detail: truncated_detail(&error.masked().to_string()),
    }
}

/// The number of values and the bytes of texts in a body.
fn size(value: &Value) -> JsonSize {
    let (mut values, mut text_bytes) = (1, 0);
    let mut add = |size: JsonSize| {
        values += size.values;
        text_bytes += size.text_bytes;
    };
    match value {
        Value::Array(items) => items.iter().for_each(|item| add(size(item))),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            let size = size(value);
            add(JsonSize { text_bytes: size.text_bytes + key.len(), ..size });
        }),
        Value::String(text) => text_bytes = text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    JsonSize { values, text_bytes, tree_bytes: 0 }
}

/// A schema that is not supported, with the location of the reason.
struct UnsupportedSchema {
    at: String,
    detail: String,
}

/// Expands a schema and computes the cost of a check.
struct SchemaWalker<'a> {
    schema: &'a Value,
    /// The references that lead to the current schema.
    refs: Vec<&'a str>,
    visited: usize,
    /// The costly regular expressions, each with its JSON pointer.
    costly: Vec<(String, String)>,
}

/// The cost of checking one value.
#[derive(Clone, Copy, Default)]
struct CheckCost {
    /// The number of schemas that are applied.
    nodes: usize,
    /// The nesting depth of schemas that apply to the same value.
    height: usize,
    /// The units of work of the regular expressions for each byte.
    pattern: u64,
}

impl<'a> SchemaWalker<'a> {
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
            pattern = pattern.saturating_add(self.patterns(keyword, value, at));
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
    fn patterns(&mut self, keyword: &str, value: &'a Value, at: &[&'a str]) -> u64 {
        match (keyword, value) {
            ("pattern", Value::String(text)) => self.pattern(text, at),
            ("patternProperties", Value::Object(schemas)) => schemas.keys().map(|text| self.pattern(text, at)).sum(),
            _ => 0,
        }
    }

    fn pattern(&mut self, text: &str, at: &[&'a str]) -> u64 {
        // An expression in a syntax of JavaScript only is taken as the most costly one.
        let work = pattern_work_per_byte(text).unwrap_or(FILTER_PATTERN_WORK_MAX);
        if work > FILTER_PATTERN_WORK_MAX && self.costly.len() < VIOLATIONS_LISTED_MAX {
            let detail = format!(
                "a search for {} costs {work} units for each byte, at most {FILTER_PATTERN_WORK_MAX} are allowed: fewer or \
                 smaller repetitions, or ASCII classes such as [0-9A-Za-z]",
                truncated_detail(text)
            );
            self.costly.push((json_pointer(at.iter().copied()), detail));
        }
        u64::from(work)
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
