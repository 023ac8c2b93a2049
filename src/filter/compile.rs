//! Compiles a filter from JSON, or reports all errors in the filter.

use regex_automata::meta::BuildError;
use serde_json::{Map, Value};

use super::FilterError;
use super::input::{FieldLocation, IdField};
use super::pattern::Pattern;
use super::program::{Comparison, FilterGroup, FilterNode, FilterRule, GroupKind, RuleOperand, RuleTest};
use super::value::{Literal, ValueSet};
use crate::json::Path;
use crate::limits::{
    FILTER_DEPTH_MAX, FILTER_PATTERN_WORK_MAX, FILTER_PATTERNS_MAX, FILTER_RULES_MAX, FILTER_TEXT_BYTES_MAX,
    FILTER_VALUES_MAX, VIOLATIONS_LISTED_MAX,
};
use crate::model::Timestamp;

const PARTS: &str = "fields, conditions, user_id, resource_id, workspace_id, time_range";
const OPERATORS: [&str; 15] = [
    "equals",
    "not_equals",
    "greater_than",
    "greater_or_equal",
    "less_than",
    "less_or_equal",
    "in",
    "not_in",
    "contains",
    "not_contains",
    "starts_with",
    "ends_with",
    "matches",
    "exists",
    "not_exists",
];

/// A compiled filter, the size of its regular expressions in bytes, and the number of its rules and values.
pub(super) struct CompiledFilter {
    pub(super) node: FilterNode,
    pub(super) pattern_bytes: usize,
    pub(super) parts: usize,
}

/// Compiles a filter. A stored filter may have regular expressions that are too costly for a new filter: it was accepted
/// by an earlier version of the program, and the work of an event bounds what it costs.
///
/// # Errors
/// All errors of the filter, each with a JSON pointer.
pub(super) fn compile(filter: &Value, is_stored: bool) -> Result<CompiledFilter, Vec<FilterError>> {
    let mut compiler = FilterCompiler { is_stored, ..FilterCompiler::default() };
    let node = compiler.filter(filter);
    let FilterCompiler { errors, rules, values, pattern_bytes, .. } = compiler;
    if errors.is_empty() { Ok(CompiledFilter { node, pattern_bytes, parts: rules + values }) } else { Err(errors) }
}

/// Compiles one filter, collects the errors, and counts towards the limits of a filter.
#[derive(Default)]
struct FilterCompiler {
    errors: Vec<FilterError>,
    rules: usize,
    values: usize,
    patterns: usize,
    pattern_bytes: usize,
    /// Whether the filter was accepted before.
    is_stored: bool,
}

/// The value of a field. An absent field and `null` are the same, as in the other fields of a webhook.
fn non_null<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

impl FilterCompiler {
    fn add_error(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        if self.errors.len() < VIOLATIONS_LISTED_MAX {
            self.errors.push(FilterError { pointer: pointer.into(), detail: detail.into() });
        }
    }

    fn unknown(&mut self, at: &str, fields: &Map<String, Value>, allowed: &str) {
        for name in fields.keys().filter(|name| !allowed.split(", ").any(|known| known == *name)) {
            self.add_error(below(at, name), format!("unknown field; allowed: {allowed}"));
        }
    }

    fn filter(&mut self, filter: &Value) -> FilterNode {
        let mut nodes = Vec::new();
        if let Some(parts) = filter.as_object() {
            self.unknown("", parts, PARTS);
            if let Some(fields) = non_null(parts, "fields") {
                self.fields(fields, &mut nodes);
            }
            if let Some(conditions) = non_null(parts, "conditions") {
                nodes.extend(self.node("/conditions", conditions, 1));
            }
            for id in IdField::ALL {
                nodes.extend(non_null(parts, id.name()).and_then(|ids| self.ids(id, ids)));
            }
            nodes.extend(non_null(parts, "time_range").and_then(|range| self.time_range(range)));
        } else {
            self.add_error("", format!("expected an object; allowed: {PARTS}"));
        }
        match <[FilterNode; 1]>::try_from(nodes) {
            Ok([one]) => one,
            Err(nodes) => FilterNode::Group(FilterGroup { pointer: None, kind: GroupKind::And, nodes: nodes.into() }),
        }
    }

    fn fields(&mut self, fields: &Value, nodes: &mut Vec<FilterNode>) {
        let Some(fields) = fields.as_object() else {
            return self.add_error("/fields", "expected an object of fields and their values");
        };
        for (name, value) in fields {
            let pointer = below("/fields", name);
            let test = match value {
                Value::Array(values) => self.list(&pointer, values).map(RuleTest::In),
                Value::Object(_) => {
                    self.add_error(&*pointer, "expected text, a number, true, false, null, or a list of these; for a value within another write its path, as in \"customer.city\"");
                    None
                }
                value => self.literal(&pointer, value).map(RuleTest::Equals),
            };
            let location = self.location(&pointer, name);
            nodes.extend(self.rule(&pointer, location.map(RuleOperand::Field), test, false));
        }
    }

    /// Compiles a group or a rule of the conditions.
    fn node(&mut self, at: &str, node: &Value, depth: usize) -> Option<FilterNode> {
        match node.as_object() {
            Some(fields) if fields.contains_key("rules") => self.group(at, fields, depth),
            Some(fields) if fields.contains_key("field") => self.condition(at, fields),
            _ => {
                self.add_error(
                    at,
                    "expected a group {\"operator\",\"rules\"} or a rule {\"field\",\"operator\",\"value\"}",
                );
                None
            }
        }
    }

    fn group(&mut self, at: &str, fields: &Map<String, Value>, depth: usize) -> Option<FilterNode> {
        self.unknown(at, fields, "operator, rules");
        if depth > FILTER_DEPTH_MAX {
            self.add_error(at, format!("groups lie at most {FILTER_DEPTH_MAX} deep"));
            return None;
        }
        let word = fields.get("operator").and_then(Value::as_str);
        let kind = GroupKind::ALL.into_iter().find(|(name, _)| Some(*name) == word).map(|(_, kind)| kind);
        if kind.is_none() {
            self.add_error(below(at, "operator"), "expected and, or, or not");
        }
        let rules_at = below(at, "rules");
        let rules = fields.get("rules").and_then(Value::as_array).filter(|rules| !rules.is_empty());
        let Some(rules) = rules else {
            self.add_error(rules_at, "expected a list of one or more rules and groups");
            return None;
        };
        let mut nodes = Vec::new();
        for (n, rule) in rules.iter().enumerate() {
            // The rest of a filter with too many rules is not read.
            if self.rules > FILTER_RULES_MAX {
                break;
            }
            nodes.extend(self.node(&format!("{rules_at}/{n}"), rule, depth + 1));
        }
        Some(FilterNode::Group(FilterGroup { pointer: Some(at.into()), kind: kind?, nodes: nodes.into() }))
    }

    fn condition(&mut self, at: &str, fields: &Map<String, Value>) -> Option<FilterNode> {
        self.unknown(at, fields, "field, operator, value");
        let name = fields.get("field").and_then(Value::as_str).unwrap_or_default();
        let location = self.location(&below(at, "field"), name);
        let operator_at = below(at, "operator");
        let word = fields.get("operator").and_then(Value::as_str).filter(|word| OPERATORS.contains(word));
        let Some(word) = word else {
            self.add_error(operator_at, format!("expected one of {}", OPERATORS.join(", ")));
            return None;
        };
        let (positive, is_negated) = word.strip_prefix("not_").map_or((word, false), |positive| (positive, true));
        let test = self.test(positive, &below(at, "value"), fields.get("value"));
        self.rule(at, location.map(RuleOperand::Field), test, is_negated)
    }

    fn test(&mut self, operator: &str, at: &str, value: Option<&Value>) -> Option<RuleTest> {
        if operator == "exists" {
            if !matches!(value, None | Some(Value::Null | Value::Bool(true))) {
                self.add_error(at, "exists and not_exists take no value");
                return None;
            }
            return Some(RuleTest::Exists);
        }
        let Some(value) = value else {
            self.add_error(at, format!("{operator} needs a value"));
            return None;
        };
        let bound = |this: &mut Self, bound| match value {
            Value::Number(_) | Value::String(_) => {
                this.literal(at, value).map(|literal| RuleTest::Compare(bound, literal))
            }
            _ => {
                this.add_error(at, "expected a number, a time, or text");
                None
            }
        };
        match operator {
            "equals" => self.literal(at, value).map(RuleTest::Equals),
            "contains" => self.literal(at, value).map(RuleTest::Contains),
            "greater_than" => bound(self, Comparison::Greater),
            "greater_or_equal" => bound(self, Comparison::GreaterOrEqual),
            "less_than" => bound(self, Comparison::Less),
            "less_or_equal" => bound(self, Comparison::LessOrEqual),
            "in" => {
                let Some(values) = value.as_array() else {
                    self.add_error(at, "expected a list of text, numbers, true, false and null");
                    return None;
                };
                self.list(at, values).map(RuleTest::In)
            }
            "starts_with" => self.text(at, value).map(|text| RuleTest::StartsWith(text.into())),
            "ends_with" => self.text(at, value).map(|text| RuleTest::EndsWith(text.into())),
            _ => self.text(at, value).and_then(|text| self.pattern(at, text)).map(RuleTest::Matches),
        }
    }

    fn ids(&mut self, id: IdField, ids: &Value) -> Option<FilterNode> {
        let at = below("", id.name());
        let one;
        let values = match ids {
            Value::Array(values) => values,
            value => {
                one = vec![value.clone()];
                &one
            }
        };
        for (n, value) in values.iter().enumerate().filter(|(_, value)| !value.is_string() && !value.is_number()) {
            let shown = if ids.is_array() { format!("{at}/{n}") } else { at.clone() };
            self.add_error(shown, format!("expected an id, text or a number, not {}", kind(value)));
        }
        let list = self.list(&at, values);
        let location = self.location(&at, id.name())?;
        self.rule(&at, Some(RuleOperand::Id(id, location)), list.map(RuleTest::Ids), false)
    }

    fn time_range(&mut self, range: &Value) -> Option<FilterNode> {
        const AT: &str = "/time_range";
        let Some(fields) = range.as_object().filter(|fields| fields.values().any(|value| !value.is_null())) else {
            self.add_error(AT, "expected an object with start, end, or both");
            return None;
        };
        self.unknown(AT, fields, "start, end");
        let start = self.time(AT, fields, "start");
        let end = self.time(AT, fields, "end");
        if let (Some(start), Some(end)) = (start, end)
            && start > end
        {
            self.add_error(below(AT, "end"), "lies before start");
        }
        self.rule(AT, Some(RuleOperand::Timestamp), Some(RuleTest::Between(start, end)), false)
    }

    fn time(&mut self, at: &str, fields: &Map<String, Value>, name: &str) -> Option<Timestamp> {
        let value = non_null(fields, name)?;
        let time = value.as_str().and_then(|text| text.parse().ok());
        if time.is_none() {
            self.add_error(below(at, name), "expected an RFC 3339 time such as 2026-01-31T12:00:00Z");
        }
        time
    }

    /// Builds a rule; `None` if a part is invalid. An invalid rule counts towards the maximum number of rules.
    fn rule(
        &mut self,
        at: &str,
        operand: Option<RuleOperand>,
        test: Option<RuleTest>,
        is_negated: bool,
    ) -> Option<FilterNode> {
        self.rules += 1;
        if self.rules == FILTER_RULES_MAX + 1 {
            self.add_error("", format!("a filter has at most {FILTER_RULES_MAX} rules"));
        }
        Some(FilterNode::Rule(Box::new(FilterRule { pointer: at.into(), operand: operand?, test: test?, is_negated })))
    }

    fn location(&mut self, at: &str, path: &str) -> Option<FieldLocation> {
        match Path::try_new(path) {
            Ok(path) => Some(FieldLocation::new(path)),
            Err(error) => {
                self.add_error(at, error.to_string());
                None
            }
        }
    }

    fn literal(&mut self, at: &str, value: &Value) -> Option<Literal> {
        Literal::new(value).map_err(|detail| self.add_error(at, detail)).ok()
    }

    fn list(&mut self, at: &str, values: &[Value]) -> Option<ValueSet> {
        if values.is_empty() {
            self.add_error(at, "expected one or more values");
            return None;
        }
        self.values = self.values.saturating_add(values.len());
        if self.values > FILTER_VALUES_MAX {
            self.add_error(at, format!("the lists of a filter have at most {FILTER_VALUES_MAX} values together"));
            return None;
        }
        let literals: Vec<_> =
            values.iter().enumerate().filter_map(|(n, value)| self.literal(&format!("{at}/{n}"), value)).collect();
        (literals.len() == values.len()).then(|| ValueSet::new(&literals))
    }

    fn text<'a>(&mut self, at: &str, value: &'a Value) -> Option<&'a str> {
        let text = value.as_str().filter(|text| text.len() <= FILTER_TEXT_BYTES_MAX);
        if text.is_none() {
            self.add_error(at, format!("expected text of at most {FILTER_TEXT_BYTES_MAX} bytes"));
        }
        text
    }

    fn pattern(&mut self, at: &str, text: &str) -> Option<Pattern> {
        self.patterns += 1;
        if self.patterns > FILTER_PATTERNS_MAX {
            self.add_error(at, format!("a filter has at most {FILTER_PATTERNS_MAX} regular expressions"));
            return None;
        }
        let pattern = Pattern::try_new(text).map_err(|error| self.add_error(at, unusable(&error))).ok()?;
        self.pattern_bytes += pattern.compiled_bytes();
        if !self.is_stored && pattern.work_per_byte() > FILTER_PATTERN_WORK_MAX {
            let detail = format!(
                "a search for this regular expression costs {} units for each byte, at most {FILTER_PATTERN_WORK_MAX} are \
                 allowed: fewer or smaller repetitions, or ASCII classes such as [0-9A-Za-z]",
                pattern.work_per_byte()
            );
            self.add_error(at, detail);
            return None;
        }
        Some(pattern)
    }
}

fn unusable(error: &BuildError) -> String {
    let Some(error) = error.syntax_error() else {
        return "this regular expression is too large: fewer or smaller repetitions, or ASCII classes such as \
                [0-9A-Za-z]"
            .to_owned();
    };
    // The crate formats the error over several lines. The last line says what is wrong.
    let words = error.to_string();
    let last = words.lines().last().unwrap_or_default().trim_start_matches("error: ");
    format!("this is no regular expression of linear time: {last}")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
