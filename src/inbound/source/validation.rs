//! `validation_config`: validation rules for the events of a partner.
//!
//! There are two forms, which can be combined: short rules (required fields, event types, age) and a JSON Schema in
//! `schema`. All rules are compiled when the source is built.

use serde_json::{Map, Value};

use super::schema::{CheckWork, Schema};
use crate::json::{self, JsonSize};
use crate::limits::{
    RULES_ENTRIES_MAX, RULES_PATH_BYTES_MAX, RULES_PATH_SEGMENTS_MAX, VIOLATION_CHARS_MAX, VIOLATIONS_LISTED_MAX,
};
use crate::model::{EventPattern, FieldError, Timestamp};

const ROOT: &str = "/validation_config";
const ALLOWED: &str = "required_fields, allowed_event_types, max_age_seconds, timestamp_field, schema";
/// The fields that can contain the type of a partner's event. They are the same as for an application's event.
const TYPE_FIELDS: [&str; 3] = ["event_type", "type", "event"];
const TIMESTAMP_FIELD: &str = "timestamp";
/// The largest allowed `max_age_seconds`: one year.
const AGE_SECONDS_MAX: u64 = 366 * 24 * 60 * 60;
/// Numbers from this value are times in milliseconds. As seconds, it would be in the year 5138.
const MILLIS_FROM: f64 = 1e11;
/// Numbers from here on are times: seconds since March 1973. A smaller number is another value.
const SECONDS_FROM: f64 = 1e8;
/// The first number of milliseconds after the year 9999.
const MILLIS_TO: f64 = 253_402_300_800_000.0;

/// Compiled validation rules.
#[derive(Debug)]
pub struct ValidationRules {
    required: Vec<FieldPath>,
    types: Option<Vec<EventPattern>>,
    age: Option<AgeLimit>,
    schema: Option<Schema>,
}

#[derive(Debug)]
struct AgeLimit {
    seconds_max: u64,
    field: FieldPath,
}

/// The path of a field, written as `data.user_id` or as a JSON pointer.
#[derive(Debug)]
struct FieldPath {
    written: Box<str>,
    segments: Vec<Box<str>>,
}

impl ValidationRules {
    /// Compiles the rules.
    ///
    /// # Errors
    /// All errors of the rules. The pointers begin with `/validation_config`.
    pub fn try_new(config: &Value) -> Result<Self, Vec<FieldError>> {
        let Some(fields) = config.as_object() else {
            return Err(vec![FieldError::new(ROOT, format!("expected an object; allowed: {ALLOWED}"))]);
        };
        let mut violations = Vec::new();
        let known = |key: &str| ALLOWED.split(", ").any(|name| name == key);
        for key in fields.keys().filter(|key| !known(key)) {
            violations.push(FieldError::new(
                format!("{ROOT}{}", json_pointer([&**key])),
                format!("unknown field; allowed: {ALLOWED}"),
            ));
        }
        let required = required(fields, &mut violations);
        let types = types(fields, &mut violations);
        let age = age(fields, &mut violations);
        let schema = given(fields, "schema").and_then(|schema| {
            let wrong = |found| violations.extend(found);
            Schema::try_new(schema, &format!("{ROOT}/schema")).map_err(wrong).ok()
        });
        if violations.is_empty() { Ok(Self { required, types, age, schema }) } else { Err(violations) }
    }

    /// The work of [`Self::check_text`], from the size of the body.
    ///
    /// # Errors
    /// The violation, if the check would be too much work.
    pub fn work(&self, body: &str) -> Result<CheckWork, FieldError> {
        match &self.schema {
            Some(schema) => schema.work_on_text(body),
            None => CheckWork::of_body(&JsonSize::of(body)),
        }
    }

    /// The bytes of memory that the compiled schema needs, about.
    pub fn memory_bytes(&self) -> usize {
        self.schema.as_ref().map_or(0, Schema::memory_bytes)
    }

    /// The regular expressions that are too costly for new rules.
    pub fn costly_patterns(&self) -> &[FieldError] {
        self.schema.as_ref().map_or(&[], Schema::costly_patterns)
    }

    /// Validates the body of an event, which is JSON. [`Self::work`] says what this costs.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub fn check_text(&self, body: &str, now: Timestamp) -> Result<(), Vec<FieldError>> {
        self.check(&json::from_str(body).unwrap_or_default(), now)
    }

    /// Validates the body of an event.
    ///
    /// # Errors
    /// The violations, up to [`VIOLATIONS_LISTED_MAX`], by JSON pointer into the body.
    pub fn check(&self, body: &Value, now: Timestamp) -> Result<(), Vec<FieldError>> {
        let mut violations = Vec::new();
        for path in &self.required {
            if path.find(body).is_none_or(Value::is_null) {
                violations.push(FieldError::new(path.pointer(), "is required"));
            }
        }
        if let Some(types) = &self.types {
            check_type(types, body, &mut violations);
        }
        if let Some(age) = &self.age {
            violations.extend(age.check(body, now));
        }
        if let Some(schema) = &self.schema {
            schema.check(body, &mut violations);
        }
        // A field that two rules require is reported once.
        let mut listed: Vec<FieldError> = Vec::with_capacity(violations.len().min(VIOLATIONS_LISTED_MAX));
        for found in violations {
            let is_said = listed.contains(&found);
            if !is_said && listed.len() < VIOLATIONS_LISTED_MAX {
                listed.push(found);
            }
        }
        if listed.is_empty() { Ok(()) } else { Err(listed) }
    }

    /// The allowed event types. `None` if all are allowed.
    pub(super) fn allowed_types(&self) -> Option<&[EventPattern]> {
        self.types.as_deref()
    }

    /// The paths of the required fields, each as its segments.
    pub(super) fn required_paths(&self) -> impl Iterator<Item = impl Iterator<Item = &str>> {
        self.required.iter().map(FieldPath::segments)
    }

    /// The path of the time field, as a JSON pointer and as its segments. `None` if the age is not checked.
    pub(super) fn time_path(&self) -> Option<(String, impl Iterator<Item = &str>)> {
        self.age.as_ref().map(|age| (age.field.pointer(), age.field.segments()))
    }

    /// The valid example in the schema, if there is one.
    pub(super) fn schema_example(&self) -> Option<&Value> {
        self.schema.as_ref().and_then(Schema::example)
    }

    /// Describes the rules for the integration guide, one sentence per rule.
    pub fn describe(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if !self.required.is_empty() {
            let names: Vec<_> = self.required.iter().map(|path| format!("`{}`", path.written)).collect();
            sentences.push(format!("These fields must be there and not be null: {}.", names.join(", ")));
        }
        if let Some(types) = &self.types {
            let names: Vec<_> = types.iter().map(|pattern| format!("`{pattern}`")).collect();
            let stars = if types.iter().any(|pattern| !matches!(pattern, EventPattern::Exact(_))) {
                " (`*` stands for one or more parts)"
            } else {
                ""
            };
            sentences.push(format!("The event type is one of {}{stars}.", names.join(", ")));
        }
        if let Some(AgeLimit { seconds_max, field }) = &self.age {
            sentences.push(format!(
                "`{}` is the time of the event, as RFC 3339 text or in seconds or milliseconds since 1970, and lies at most \
                 {seconds_max} seconds from ours.",
                field.written
            ));
        }
        if self.schema.is_some() {
            sentences.push("The body fits the JSON Schema (draft 2020-12) below.".to_owned());
        }
        sentences
    }
}

fn required(fields: &Map<String, Value>, violations: &mut Vec<FieldError>) -> Vec<FieldPath> {
    let at = format!("{ROOT}/required_fields");
    let allowed = format!("expected an array of at most {RULES_ENTRIES_MAX} fields such as \"data.user_id\"");
    let Some(value) = given(fields, "required_fields") else { return Vec::new() };
    let Some(names) = value.as_array().filter(|names| names.len() <= RULES_ENTRIES_MAX) else {
        violations.push(FieldError::new(at, allowed));
        return Vec::new();
    };
    let mut paths = Vec::with_capacity(names.len());
    for (n, name) in names.iter().enumerate() {
        match FieldPath::try_new(name) {
            Ok(path) => paths.push(path),
            Err(detail) => violations.push(FieldError::new(format!("{at}/{n}"), detail)),
        }
    }
    paths
}

fn types(fields: &Map<String, Value>, violations: &mut Vec<FieldError>) -> Option<Vec<EventPattern>> {
    let at = format!("{ROOT}/allowed_event_types");
    let value = given(fields, "allowed_event_types")?;
    let Some(texts) = value.as_array().filter(|texts| (1..=RULES_ENTRIES_MAX).contains(&texts.len())) else {
        violations.push(FieldError::new(at, format!("expected 1 to {RULES_ENTRIES_MAX} event types and patterns")));
        return None;
    };
    let mut patterns = Vec::with_capacity(texts.len());
    for (n, text) in texts.iter().enumerate() {
        match EventPattern::try_new(text.as_str().unwrap_or_default()) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => violations.push(FieldError::new(format!("{at}/{n}"), error.to_string())),
        }
    }
    Some(patterns)
}

fn age(fields: &Map<String, Value>, violations: &mut Vec<FieldError>) -> Option<AgeLimit> {
    let field = match given(fields, "timestamp_field") {
        None => FieldPath::of(TIMESTAMP_FIELD),
        Some(name) => match FieldPath::try_new(name) {
            Ok(path) => path,
            Err(detail) => {
                violations.push(FieldError::new(format!("{ROOT}/timestamp_field"), detail));
                return None;
            }
        },
    };
    let Some(seconds) = given(fields, "max_age_seconds") else {
        if given(fields, "timestamp_field").is_some() {
            violations.push(FieldError::new(format!("{ROOT}/timestamp_field"), "needs max_age_seconds"));
        }
        return None;
    };
    let Some(seconds_max) = seconds.as_u64().filter(|seconds| (1..=AGE_SECONDS_MAX).contains(seconds)) else {
        let detail = format!("expected a whole number of seconds, 1 to {AGE_SECONDS_MAX}");
        violations.push(FieldError::new(format!("{ROOT}/max_age_seconds"), detail));
        return None;
    };
    Some(AgeLimit { seconds_max, field })
}

/// The value of a key. `null` is treated as absent.
fn given<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    fields.get(key).filter(|value| !value.is_null())
}

/// Checks every field that can contain the type, so that no reader of the event uses an unchecked type.
fn check_type(allowed: &[EventPattern], body: &Value, violations: &mut Vec<FieldError>) {
    let mut found = false;
    for name in TYPE_FIELDS {
        let Some(value) = body.get(name) else { continue };
        found = true;
        let fits = value.as_str().is_some_and(|text| allowed.iter().any(|pattern| wants(pattern, text)));
        if !fits {
            let list: Vec<_> = allowed.iter().take(TYPES_LISTED_MAX).map(ToString::to_string).collect();
            let more = if allowed.len() > TYPES_LISTED_MAX { ", …" } else { "" };
            violations
                .push(FieldError::new(json_pointer([name]), format!("expected one of {}{more}", list.join(", "))));
        }
    }
    if !found {
        violations.push(FieldError::new(json_pointer([TYPE_FIELDS[0]]), "is required"));
    }
}

/// The maximum number of allowed types that a violation lists.
const TYPES_LISTED_MAX: usize = 16;

fn wants(pattern: &EventPattern, text: &str) -> bool {
    match pattern {
        EventPattern::Exact(exact) => **exact == *text,
        EventPattern::Prefix(prefix) => text.len() > prefix.len() && text.starts_with(&**prefix),
        EventPattern::All => true,
    }
}

impl AgeLimit {
    fn check(&self, body: &Value, now: Timestamp) -> Option<FieldError> {
        let wrong = |detail: String| Some(FieldError::new(self.field.pointer(), detail));
        let Some(value) = self.field.find(body).filter(|value| !value.is_null()) else {
            return wrong("is required".to_owned());
        };
        let Some(at) = event_time(value) else {
            return wrong(TIME_EXPECTED.to_owned());
        };
        let (past, ahead) = (now.since(at).as_millis(), at.since(now).as_millis());
        let allowed = u128::from(self.seconds_max) * 1000;
        let max = self.seconds_max;
        match (past > allowed, ahead > allowed) {
            (true, _) => wrong(format!("is {} s old; {max} s are allowed", past / 1000)),
            (_, true) => wrong(format!("is {} s ahead; {max} s are allowed (is a clock wrong?)", ahead / 1000)),
            (false, false) => None,
        }
    }
}

/// What [`event_time`] reads.
pub(super) const TIME_EXPECTED: &str = "expected a time: RFC 3339 text, or seconds or milliseconds since 1970";

/// The time that a partner writes into a body: RFC 3339 text, or a number of seconds or milliseconds since 1970.
pub(super) fn event_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => {
            let n = number.as_f64().filter(|n| (SECONDS_FROM..MILLIS_TO).contains(n))?;
            Some(Timestamp::from_millis(if n >= MILLIS_FROM { n } else { n * 1000.0 } as i64))
        }
        _ => None,
    }
}

impl FieldPath {
    fn of(name: &str) -> Self {
        Self { written: name.into(), segments: vec![name.into()] }
    }

    fn try_new(value: &Value) -> Result<Self, String> {
        let written = value.as_str().filter(|text| (1..=RULES_PATH_BYTES_MAX).contains(&text.len()));
        let written = written.ok_or_else(|| {
            format!("expected a field such as \"data.user_id\" or \"/data/user_id\", 1 to {RULES_PATH_BYTES_MAX} bytes")
        })?;
        let segments: Vec<Box<str>> = match written.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~").into()).collect(),
            None => written.split('.').map(Into::into).collect(),
        };
        if segments.len() > RULES_PATH_SEGMENTS_MAX {
            return Err(format!("expected at most {RULES_PATH_SEGMENTS_MAX} parts"));
        }
        if !written.starts_with('/') && segments.iter().any(|part| part.is_empty()) {
            return Err("no part of a field may be empty".to_owned());
        }
        Ok(Self { written: written.into(), segments })
    }

    fn find<'a>(&self, body: &'a Value) -> Option<&'a Value> {
        self.segments.iter().try_fold(body, |value, part| match value {
            Value::Object(fields) => fields.get(&**part),
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            _ => None,
        })
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(|part| &**part)
    }

    fn pointer(&self) -> String {
        json_pointer(self.segments())
    }
}

/// The JSON pointer of these segments (RFC 6901).
pub(super) fn json_pointer<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    parts.into_iter().fold(String::new(), |text, part| text + "/" + &part.replace('~', "~0").replace('/', "~1"))
}

/// The text, at most [`VIOLATION_CHARS_MAX`] characters of it.
pub(super) fn truncated_detail(text: &str) -> String {
    match text.char_indices().nth(VIOLATION_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::limits::{SCHEMA_NODES_MAX, SCHEMA_PATTERN_CACHE_BYTES, VIOLATION_CHARS_MAX};

    const NOW: Timestamp = Timestamp::from_millis(1_711_015_200_000);

    fn rules(config: &Value) -> ValidationRules {
        ValidationRules::try_new(config).unwrap_or_else(|violations| panic!("{config}: {violations:?}"))
    }

    /// The pointers of the errors of the rules, below `/validation_config`.
    fn refused(config: &Value) -> Vec<String> {
        let violations = ValidationRules::try_new(config).err().unwrap_or_default();
        violations.iter().map(|violation| violation.pointer.strip_prefix(ROOT).unwrap().to_owned()).collect()
    }

    /// The pointers of the violations of a body.
    fn wrong(rules: &ValidationRules, body: &Value) -> Vec<String> {
        let violations = rules.check(body, NOW).err().unwrap_or_default();
        violations.iter().map(|violation| violation.pointer.clone()).collect()
    }

    #[test]
    fn short_rules_are_checked() {
        let rules = rules(&json!({
            "required_fields": ["event_type", "data.user_id", "/data/a.b", "data.list.1"],
            "allowed_event_types": ["user.*", "ping"], "max_age_seconds": 300, "timestamp_field": "timestamp",
        }));
        let good = json!({
            "event_type": "user.created", "timestamp": "2024-03-21T09:58:00Z",
            "data": { "user_id": 0, "a.b": "", "list": [null, false] },
        });
        assert_eq!(rules.check(&good, NOW), Ok(()));
        let with = |pointer: &str, value: Value| {
            let mut body = good.clone();
            *body.pointer_mut(pointer).unwrap() = value;
            wrong(&rules, &body)
        };
        assert_eq!(with("/data", json!(7)), ["/data/user_id", "/data/a.b", "/data/list/1"]);
        assert_eq!(with("/data/user_id", json!(null)), ["/data/user_id"]);
        assert_eq!(with("/data/list", json!([1])), ["/data/list/1"]);
        for (event_type, fits) in [
            ("user.created", true),
            ("user.a.b", true),
            ("ping", true),
            ("user.", false),
            ("user", false),
            ("pinging", false),
            ("", false),
        ] {
            assert_eq!(with("/event_type", json!(event_type)).is_empty(), fits, "{event_type}");
        }
        assert_eq!(with("/event_type", json!(["user.created"])), ["/event_type"]);
        for (time, fits) in [
            (json!("2024-03-21T10:55:00+01:00"), true),
            (json!("2024-03-21T09:54:59Z"), false),
            (json!("2024-03-21T10:05:00Z"), true),
            (json!("2024-03-21T10:05:01Z"), false),
            (json!(1_711_015_200), true),
            (json!(1_711_014_900.0), true),
            (json!(1_711_014_899), false),
            (json!(1_711_015_200_000_i64), true),
            (json!(1_711_014_899_999_i64), false),
            (json!(1e300), false),
            (json!(-5), false),
            (json!(17), false),
            (json!("1711015200"), false),
            (json!(null), false),
            (json!({}), false),
        ] {
            let pointers = with("/timestamp", time.clone());
            assert_eq!(pointers, if fits { vec![] } else { vec!["/timestamp"] }, "{time}");
        }
        assert_eq!(wrong(&rules, &json!([])).len(), 5, "type, three fields, time");
    }

    #[test]
    fn every_type_field_is_checked() {
        let rules = rules(&json!({ "allowed_event_types": ["a.*"] }));
        for name in TYPE_FIELDS {
            assert_eq!(rules.check(&json!({ name: "a.b" }), NOW), Ok(()));
        }
        assert_eq!(wrong(&rules, &json!({ "event_type": "a.b", "type": "secret.x" })), ["/type"]);
        assert_eq!(wrong(&rules, &json!({})), ["/event_type"]);
    }

    #[test]
    fn a_schema_reports_every_violation_and_no_value() {
        let rules = rules(&json!({ "schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object", "required": ["id", "data"],
            "properties": {
                "id": { "type": "string", "pattern": "^[a-z]+$" },
                "mail": { "type": "string", "format": "email" },
                "data": { "$ref": "#/$defs/data" },
                "list": { "type": "array", "items": { "$ref": "#/$defs/data" }, "uniqueItems": true },
            },
            "$defs": { "data": { "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 } } },
        }}));
        let good = json!({ "id": "abc", "mail": "a@example.com", "data": { "n": 1 }, "list": [{}, { "n": 2 }] });
        assert_eq!(rules.check(&good, NOW), Ok(()));
        let bad = json!({ "id": "canary1", "mail": "canary", "list": [{ "a/b": -1 }, { "~": "canary" }] });
        let violations = rules.check(&bad, NOW).unwrap_err();
        let mut pointers: Vec<_> = violations.iter().map(|violation| &*violation.pointer).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["", "/id", "/list/0/a~1b", "/list/1/~0", "/mail"]);
        assert!(violations.iter().all(|violation| !violation.detail.contains("canary")), "{violations:?}");
        assert!(violations.iter().any(|violation| violation.detail.contains("\"data\"")), "{violations:?}");
    }

    #[test]
    fn invalid_rules_are_reported_by_pointer() {
        let deep = (0..100).fold(json!({}), |schema, _| json!({ "not": schema }));
        let twice = |below: Value| json!({ "allOf": [below, below], "unevaluatedProperties": false });
        for (config, pointers) in [
            (json!([]), vec![""]),
            (json!({ "required": ["a"] }), vec!["/required"]),
            (json!({ "required_fields": "a" }), vec!["/required_fields"]),
            (
                json!({ "required_fields": ["a", 1, "", "a..b", "x.".repeat(40)] }),
                vec!["/required_fields/1", "/required_fields/2", "/required_fields/3", "/required_fields/4"],
            ),
            (json!({ "allowed_event_types": [] }), vec!["/allowed_event_types"]),
            (json!({ "allowed_event_types": ["a.*", "a*"] }), vec!["/allowed_event_types/1"]),
            (json!({ "max_age_seconds": 0 }), vec!["/max_age_seconds"]),
            (json!({ "max_age_seconds": "5" }), vec!["/max_age_seconds"]),
            (json!({ "timestamp_field": "at" }), vec!["/timestamp_field"]),
            (json!({ "timestamp_field": 1, "max_age_seconds": 5 }), vec!["/timestamp_field"]),
            (json!({ "schema": "a" }), vec!["/schema"]),
            (json!({ "schema": { "type": "text" } }), vec!["/schema/type"]),
            (
                json!({ "schema": { "properties": { "a/b": { "minimum": "1" } } } }),
                vec!["/schema/properties/a~1b/minimum"],
            ),
            (json!({ "schema": { "$ref": "https://example.com/schema.json" } }), vec!["/schema/$ref"]),
            (json!({ "schema": { "$ref": "file:///etc/passwd" } }), vec!["/schema/$ref"]),
            (json!({ "schema": { "$ref": "#name" } }), vec!["/schema/$ref"]),
            (json!({ "schema": { "$ref": "#/$defs/none" } }), vec!["/schema/$ref"]),
            (json!({ "schema": { "$ref": "#" } }), vec!["/schema/$ref/$ref"]),
            (
                json!({ "schema": { "properties": { "a": { "$ref": "#" } } } }),
                vec!["/schema/properties/a/$ref/properties/a/$ref"],
            ),
            (json!({ "schema": { "$dynamicRef": "#a" } }), vec!["/schema/$dynamicRef"]),
            (json!({ "schema": { "not": { "$id": "https://example.com/" } } }), vec!["/schema/not/$id"]),
            (json!({ "schema": { "$schema": "http://json-schema.org/draft-07/schema#" } }), vec!["/schema/$schema"]),
            (json!({ "schema": { "format": "regex" } }), vec!["/schema/format"]),
            (json!({ "schema": deep }), vec![&*format!("/schema{}", "/not".repeat(65))]),
            (json!({ "schema": { "description": "x".repeat(70_000) } }), vec!["/schema"]),
            (json!({ "schema": (0..20).fold(json!({}), |schema, _| twice(schema)) }), vec!["/schema"]),
            (json!({ "nope": 1, "max_age_seconds": -1, "schema": 5 }), vec!["/nope", "/max_age_seconds", "/schema"]),
        ] {
            assert_eq!(refused(&config), pointers, "{config}");
        }
        let pattern = |text: &str| !refused(&json!({ "schema": { "pattern": text } })).is_empty();
        assert!(pattern("(a)\\1") && pattern("(?=a)") && pattern("(") && pattern("((a{1,500}){1,500}){1,500}"));
        assert!(!pattern("(a+)+$"));
        for config in [
            json!({}),
            json!({ "schema": {} }),
            json!({ "schema": true, "required_fields": null }),
            json!({ "schema": { "$id": "https://example.com/acme", "$ref": "#/$defs/a", "$defs": { "a": {} } } }),
        ] {
            assert_eq!(refused(&config), Vec::<&str>::new(), "{config}");
        }
    }

    #[test]
    fn nested_references_are_bounded() {
        let name = |n: usize| format!("d{n}");
        let mut defs: Map<_, _> = (1..40)
            .map(|n| {
                let below = json!({ "$ref": format!("#/$defs/d{}", n - 1) });
                (name(n), json!({ "allOf": [below, below] }))
            })
            .collect();
        defs.insert(name(0), json!({ "type": "object" }));
        assert_eq!(refused(&json!({ "schema": { "$defs": defs, "$ref": "#/$defs/d39" } })), ["/schema"]);
    }

    #[test]
    fn violations_and_the_work_for_large_bodies_are_bounded() {
        let many: Vec<_> = (0..256).map(|n| format!("f{n}")).collect();
        let required = rules(&json!({ "required_fields": many, "schema": { "required": many } }));
        let violations = required.check(&json!({}), NOW).unwrap_err();
        assert_eq!(violations.len(), VIOLATIONS_LISTED_MAX);
        let long = rules(&json!({ "schema": { "const": "y".repeat(5_000) } }));
        let violations = long.check(&json!("x".repeat(100_000)), NOW).unwrap_err();
        assert_eq!(violations[0].detail.chars().count(), VIOLATION_CHARS_MAX + 1);

        let items = rules(&json!({ "schema": { "items": { "type": "integer" } } }));
        let mut large = json!(vec![1; 300_000]);
        assert_eq!(items.check(&large, NOW), Ok(()));
        large[299_999] = json!("a");
        let violations = items.check(&large, NOW).unwrap_err();
        assert_eq!((violations.len(), &*violations[0].pointer), (1, ""));

        let wide = vec![json!({ "type": "integer" }); SCHEMA_NODES_MAX / 2];
        let wide = rules(&json!({ "schema": { "items": { "allOf": wide } } }));
        let violations = wide.check(&json!(vec![1; 30_000]), NOW).unwrap_err();
        assert!(violations[0].detail.contains("more values"), "{violations:?}");
    }

    #[test]
    fn the_work_of_regular_expressions_is_counted_in_bytes() {
        let usual = rules(&json!({ "schema": { "properties": { "id": { "pattern": "^evt_[0-9a-z]+$" } } } }));
        let costly = rules(&json!({ "schema": { "properties": { "id": { "pattern": "[ab]*a[ab]{400}c" } } } }));
        let body = |bytes: usize| json!({ "id": "a".repeat(bytes) }).to_string();
        assert!(usual.work(&body(1_000_000)).is_ok());
        assert!(costly.work(&body(4_000)).is_ok());
        let wrong = costly.work(&body(256 * 1024)).unwrap_err();
        assert!(wrong.detail.contains("more text than can be checked"), "{wrong:?}");
        let wrong = costly.check(&json!({ "id": "a".repeat(256 * 1024) }), NOW).unwrap_err();
        assert!(wrong[0].detail.contains("more text than can be checked"), "{wrong:?}");
        // Each of the expressions may search each text.
        let names: Map<_, _> = (0..100).map(|n| (format!("[ab]{{80}}{n}\\b"), json!(true))).collect();
        let many = rules(&json!({ "schema": { "patternProperties": names } }));
        assert!(many.work(&body(100)).is_ok() && many.work(&body(1_000)).is_err());
        let twice = json!({ "$ref": "#/$defs/a" });
        let shared =
            rules(&json!({ "schema": { "allOf": vec![twice; 100], "$defs": { "a": { "pattern": "\\bfoo" } } } }));
        assert!(shared.work(&body(1_000)).is_ok() && shared.work(&body(10_000)).is_err(), "references are written out");
    }

    #[test]
    fn the_memory_of_all_regular_expressions_of_a_schema_is_bounded() {
        let schema = |count: usize, text: &str| {
            let names: Map<_, _> = (0..count).map(|n| (format!("{text}{n}"), json!(true))).collect();
            let rules = json!({ "schema": { "patternProperties": names } });
            ValidationRules::try_new(&rules).map(|rules| rules.memory_bytes())
        };
        let usual = schema(500, "^evt_[0-9a-z]+").unwrap();
        assert!((500_000..8 << 20).contains(&usual), "{usual}");
        for (count, text) in [(2, r"\w{3}x"), (140, r"\bfoo")] {
            let bytes = schema(count / 2, text).unwrap();
            assert!(bytes >= count / 2 * SCHEMA_PATTERN_CACHE_BYTES, "{text}: {bytes}");
        }
        for (count, text) in [(60, r"\w{3}x"), (140, r"\bfoo")] {
            let wrong = schema(count, text).unwrap_err();
            assert_eq!(wrong[0].pointer, "/validation_config/schema/patternProperties", "{wrong:?}");
            assert!(wrong[0].detail.contains("take more than 8388608 bytes when they are compiled"), "{wrong:?}");
        }
    }

    #[test]
    fn expressions_that_are_too_costly_for_new_rules_are_named() {
        let costly = rules(
            &json!({ "schema": { "items": { "pattern": "[ab]{3600}" }, "patternProperties": { "[ab]{3601}c": {} } } }),
        );
        let found: Vec<_> = costly.costly_patterns().iter().map(|error| &*error.pointer).collect();
        assert_eq!(found, ["/validation_config/schema/items/pattern", "/validation_config/schema/patternProperties",]);
        assert!(rules(&json!({ "required_fields": ["a"] })).costly_patterns().is_empty());
    }

    #[test]
    fn a_body_that_multiplies_when_it_is_parsed_is_refused() {
        let required = rules(&json!({ "required_fields": ["0"] }));
        let short = format!("[{}]", vec![r#"{"":0}"#; 1_000].join(","));
        let long = format!("[{}]", vec![r#"{"":0}"#; 100_000].join(","));
        assert!(required.work(&short).is_ok());
        let wrong = required.work(&long).unwrap_err();
        assert!(wrong.detail.contains("at most 33554432 are allowed; send less at once"), "{wrong:?}");
        let text = format!(r#"{{"text":"{}"}}"#, "x".repeat(10 << 20));
        assert!(required.work(&text).is_ok(), "a long text does not multiply");
    }

    #[test]
    fn rules_are_described_in_sentences() {
        let rules = rules(&json!({
            "required_fields": ["event_type", "data.user_id"], "allowed_event_types": ["user.*"],
            "max_age_seconds": 300, "schema": {},
        }));
        assert_eq!(
            rules.describe(),
            [
                "These fields must be there and not be null: `event_type`, `data.user_id`.",
                "The event type is one of `user.*` (`*` stands for one or more parts).",
                "`timestamp` is the time of the event, as RFC 3339 text or in seconds or milliseconds since 1970, and lies at \
                 most 300 seconds from ours.",
                "The body fits the JSON Schema (draft 2020-12) below.",
            ]
        );
        assert_eq!(ValidationRules::try_new(&json!({})).unwrap().describe(), Vec::<String>::new());
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z#/$~.*]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let name = prop_oneof![
                proptest::sample::select(vec![
                    "required_fields",
                    "allowed_event_types",
                    "max_age_seconds",
                    "timestamp_field",
                    "schema",
                    "$ref",
                    "$defs",
                    "properties",
                    "items",
                    "allOf",
                    "not",
                    "type",
                    "pattern",
                    "format",
                    "unevaluatedProperties",
                    "$id",
                    "enum",
                    "timestamp",
                    "event_type",
                ])
                .prop_map(str::to_owned),
                "[a-z~/]{0,3}",
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::vec((name, inner), 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_rules_and_no_body_panic(config in json_value(), schema in json_value(), body in json_value()) {
            for config in [config, json!({ "schema": schema })] {
                match ValidationRules::try_new(&config) {
                    Err(violations) => {
                        prop_assert!(!violations.is_empty());
                        prop_assert!(violations.iter().all(|violation| violation.pointer.starts_with(ROOT)));
                    }
                    Ok(rules) => {
                        rules.describe();
                        let violations = rules.check(&body, NOW).err().unwrap_or_default();
                        prop_assert!(violations.len() <= VIOLATIONS_LISTED_MAX);
                    }
                }
            }
        }
    }
}
