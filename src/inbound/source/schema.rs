//! JSON Schema (draft 2020-12) validation with bounded work.
//!
//! The library runs without network access and only with regular expressions of linear time. The remaining risk is the
//! schema itself: recursive references, and references that multiply. The size of a schema with all references expanded is
//! therefore computed and bounded before it is compiled ([`super::schema_cost`]). The work of a check is at most this size times the size of the body, and this product is bounded too. The work of regular
//! expressions is counted for each byte of text, as the work of filters is.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::schema_cost::{BYTES_PER_VALUE, SchemaWalker, UnsupportedSchema};
use super::validation::truncated_detail;
use crate::json::JsonSize;
use crate::limits::{
    FILTER_EVENT_WORK_MAX, SCHEMA_BYTES_MAX, SCHEMA_LIST_WORK_MAX, SCHEMA_PATTERN_BYTES_MAX,
    SCHEMA_PATTERN_CACHE_BYTES, SCHEMA_STEP_WORK, SCHEMA_TREE_BYTES_MAX, SCHEMA_TREE_BYTES_PER_UNIT, SCHEMA_WORK_MAX,
    VIOLATIONS_LISTED_MAX,
};
use crate::model::FieldError;

/// The bytes of a compiled subschema, about. A part of the schema counts as often as references lead to it.
const SCHEMA_NODE_BYTES: usize = 1_024;
/// The bytes of memory for each byte of the schema's text: the values that it lists, and the text itself.
const SCHEMA_BYTES_PER_TEXT_BYTE: usize = 16;

/// A compiled schema.
pub(crate) struct Schema {
    validator: Validator,
    /// The maximum number of schemas that are applied to a value, with all references expanded.
    nodes: usize,
    /// The units of work of all regular expressions for each byte of text, with all references expanded.
    pattern_work: u64,
    /// The regular expressions that are too costly for a new schema.
    costly: Vec<FieldError>,
    memory_bytes: usize,
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
        let text = schema.to_string();
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(one("", format!("expected at most {SCHEMA_BYTES_MAX} bytes")));
        }
        let mut walk = SchemaWalker::new(schema);
        let cost = walk.walk().map_err(|UnsupportedSchema { at, detail }| one(&at, detail))?;
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
            PatternOptions::regex().size_limit(SCHEMA_PATTERN_BYTES_MAX).dfa_size_limit(SCHEMA_PATTERN_CACHE_BYTES);
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
                let memory_bytes =
                    walk.pattern_bytes + walk.visited * SCHEMA_NODE_BYTES + text.len() * SCHEMA_BYTES_PER_TEXT_BYTE;
                let (nodes, pattern_work, costly) = (cost.nodes, cost.pattern, costly.collect());
                Ok(Self { validator, nodes, pattern_work, costly, memory_bytes, example })
            }
            Err(error) => Err(one(error.instance_path().as_str(), truncated_detail(&error.to_string()))),
        }
    }

    /// The bytes of memory that the compiled schema needs, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
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
