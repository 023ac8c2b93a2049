//! The meaning of filters, as tables. The guide describes the same in words.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::limits::{
    FILTER_DEPTH_MAX, FILTER_EVENT_WORK_MAX, FILTER_FIRST_WORK, FILTER_PATTERNS_MAX, FILTER_RULES_MAX,
    FILTER_SEARCHED_BYTES_MAX, FILTER_VALUES_MAX,
};

fn filter(written: &Value) -> Filter {
    Filter::compile(written).unwrap_or_else(|wrong| panic!("{written}: {wrong:?}"))
}

/// The errors of a filter, by pointer.
fn wrong(written: &Value) -> Vec<String> {
    let wrong = Filter::compile(written).expect_err(&written.to_string());
    wrong.into_iter().map(|error| error.pointer).collect()
}

fn condition(field: &str, operator: &str, value: &Value) -> Value {
    json!({"conditions": {"field": field, "operator": operator, "value": value}})
}

fn event_fields(data: &str) -> EventFields<'_> {
    EventFields {
        tenant: "acme",
        event_type: "order.created",
        source: "api",
        timestamp: Timestamp::from_millis(1_704_067_200_500),
        external_id: Some("ext-1"),
        resource_id: Some("res-1"),
        workspace_id: None,
        user_id: Some("123"),
        metadata: Some(r#"{"region":"eu","n":5}"#),
        data: data.as_bytes(),
    }
}

fn passes(written: &Value, data: &str) -> bool {
    let (filter, event_fields) = (filter(written), event_fields(data));
    let passes = filter.matches(&event_fields).unwrap();
    // Matching and explaining use different code. Both must agree.
    let mut results = Vec::new();
    let explained = filter.program.explain(&mut FilterInput::new(&event_fields), &mut results);
    assert_eq!(explained, Ok(passes), "{written} {data}");
    passes
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn operators_compare_values() {
    let data = r#"{"n":1000,"big":9007199254740993,"huge":123456789012345678901234567890,"f":1.5,"text":"Hello, W\u00f6rld","empty":"",
        "list":[1,"two",null,[3],2.0],"yes":true,"no":false,"null":null,"object":{"a":{"b":"c"}},"digits":"1000",
        "at":"2024-03-01T12:00:00+02:00","over":1e999,"zero":-0.0,"half":"\ud800"}"#;
    for (field, operator, value, wanted) in [
        ("n", "equals", json!(1000), true),
        ("n", "equals", json!(1000.0), true),
        ("n", "equals", json!(1000.5), false),
        ("n", "equals", json!("1000"), false),
        ("digits", "equals", json!(1000), false),
        ("big", "equals", json!(9_007_199_254_740_993_u64), true),
        ("big", "equals", json!(9_007_199_254_740_992_u64), false),
        ("big", "equals", json!(9_007_199_254_740_992.0), false),
        ("big", "greater_than", json!(9_007_199_254_740_992.0), true),
        ("huge", "equals", json!(1.234_567_890_123_456_8e29), true),
        ("huge", "greater_than", json!(u64::MAX), true),
        ("over", "greater_than", json!(0), true),
        ("over", "exists", json!(null), true),
        ("zero", "equals", json!(0), true),
        ("text", "equals", json!("Hello, Wörld"), true),
        ("text", "equals", json!("hello, wörld"), false),
        ("text", "equals", json!("Hello, W\\u00f6rld"), false),
        ("half", "equals", json!("x"), false),
        ("half", "not_equals", json!("x"), true),
        ("empty", "equals", json!(""), true),
        ("yes", "equals", json!(true), true),
        ("yes", "equals", json!("true"), false),
        ("no", "equals", json!(false), true),
        ("no", "equals", json!(null), false),
        ("null", "equals", json!(null), true),
        ("list", "equals", json!(1), false),
        ("object.a.b", "equals", json!("c"), true),
        ("/object/a/b", "equals", json!("c"), true),
        ("object", "equals", json!("c"), false),
        ("list.1", "equals", json!("two"), true),
        ("n", "not_equals", json!(1000), false),
        ("n", "not_equals", json!("1000"), true),
        ("absent", "not_equals", json!(1), true),
        ("absent", "equals", json!(null), false),
        ("n", "greater_than", json!(999), true),
        ("n", "greater_than", json!(1000), false),
        ("n", "greater_or_equal", json!(1000), true),
        ("n", "less_than", json!(1000.1), true),
        ("n", "less_or_equal", json!(999.9), false),
        ("f", "greater_than", json!(1), true),
        ("f", "less_than", json!(2), true),
        ("digits", "greater_than", json!(1), false),
        ("n", "greater_than", json!("1"), false),
        ("text", "greater_than", json!("Hello"), true),
        ("text", "less_than", json!("a"), true),
        ("at", "equals", json!("2024-03-01T10:00:00Z"), false),
        ("at", "greater_or_equal", json!("2024-03-01T10:00:00Z"), true),
        ("at", "greater_than", json!("2024-03-01T10:00:00Z"), false),
        ("at", "less_than", json!("2024-03-01T11:00:00Z"), true),
        ("yes", "greater_than", json!(0), false),
        ("absent", "less_than", json!(0), false),
        ("n", "in", json!([1, 1000]), true),
        ("n", "in", json!(["1000"]), false),
        ("n", "in", json!([1000.0]), true),
        ("text", "in", json!(["x", "Hello, Wörld"]), true),
        ("null", "in", json!([null]), true),
        ("no", "in", json!([true]), false),
        ("yes", "in", json!([true]), true),
        ("list", "in", json!(["two", "three"]), true),
        ("list", "in", json!([2]), true),
        ("list", "in", json!(["three", 3]), false),
        ("object", "in", json!(["c"]), false),
        ("absent", "in", json!([null]), false),
        ("absent", "not_in", json!([null]), true),
        ("n", "not_in", json!([1, 2]), true),
        ("n", "not_in", json!([1000]), false),
        ("text", "contains", json!("Wör"), true),
        ("text", "contains", json!("u00f6"), false),
        ("text", "contains", json!(""), true),
        ("list", "contains", json!("two"), true),
        ("list", "contains", json!(2), true),
        ("list", "contains", json!(null), true),
        ("list", "contains", json!("tw"), false),
        ("list", "contains", json!(3), false),
        ("n", "contains", json!("1"), false),
        ("digits", "contains", json!(1), false),
        ("object", "contains", json!("a"), false),
        ("n", "not_contains", json!("1"), true),
        ("list", "not_contains", json!("two"), false),
        ("absent", "not_contains", json!("x"), true),
        ("text", "starts_with", json!("Hello"), true),
        ("text", "starts_with", json!("ello"), false),
        ("n", "starts_with", json!("1"), false),
        ("text", "ends_with", json!("örld"), true),
        ("text", "ends_with", json!("Hello"), false),
        ("text", "matches", json!("^H.*W.rld$"), true),
        ("text", "matches", json!("w.rld"), false),
        ("text", "matches", json!("(?i)w.rld"), true),
        ("n", "matches", json!("1000"), false),
        ("absent", "matches", json!(""), false),
        ("null", "exists", json!(null), true),
        ("null", "not_exists", json!(null), false),
        ("absent", "exists", json!(null), false),
        ("absent", "not_exists", json!(true), true),
        ("object.a.x", "not_exists", json!(null), true),
    ] {
        assert_eq!(passes(&condition(field, operator, &value), data), wanted, "{field} {operator} {value}");
    }
}

#[test]
fn a_field_is_searched_in_the_data_then_in_the_event() {
    for (field, value, data, wanted) in [
        ("status", json!("a"), r#"{"status":"a","fields":{"status":"b"}}"#, true),
        ("status", json!("b"), r#"{"status":"a","fields":{"status":"b"}}"#, false),
        ("status", json!("b"), r#"{"fields":{"status":"b"}}"#, true),
        ("status", json!(null), r#"{"status":null,"fields":{"status":"b"}}"#, true),
        ("a.b", json!(1), r#"{"a":{"c":2},"fields":{"a":{"b":1}}}"#, true),
        ("type", json!("x"), r#"{"type":"x"}"#, true),
        ("type", json!("order.created"), "{}", true),
        ("event_type", json!("order.created"), "{}", true),
        ("source", json!("api"), "{}", true),
        ("tenant", json!("acme"), "{}", true),
        ("resource_id", json!("res-1"), "{}", true),
        ("external_id", json!("ext-1"), "{}", true),
        ("user_id", json!(123), "{}", true),
        ("user_id", json!("123"), "{}", true),
        ("user_id", json!(123.0), "{}", false),
        ("user_id", json!("123"), r#"{"user_id":123}"#, false),
        ("user_id", json!(123), r#"{"user_id":123}"#, true),
        ("timestamp", json!("2024-01-01T01:00:00.500+01:00"), "{}", true),
        ("metadata.region", json!("eu"), "{}", true),
        ("metadata.n", json!(5), "{}", true),
        ("data.status", json!("a"), r#"{"status":"a"}"#, true),
        ("data", json!("a text"), r#" "a text" "#, true),
        ("data", json!(5), "5", true),
        ("data.0", json!(5), "[5]", true),
        ("0", json!(5), "[5]", true),
        ("id", json!("ext-1"), "{}", false),
    ] {
        assert_eq!(passes(&condition(field, "equals", &value), data), wanted, "{field} {value} {data}");
    }
    assert!(passes(&condition("workspace_id", "not_exists", &json!(null)), "{}"));
    assert!(passes(&condition("user_id", "greater_than", &json!(100)), "{}"));
    assert!(!passes(&condition("resource_id", "greater_than", &json!(100)), "{}"));
    assert!(passes(&condition("timestamp", "less_than", &json!("2024-01-02T00:00:00Z")), "{}"));
    assert!(passes(&condition("timestamp", "starts_with", &json!("2024-01-01T00:00")), "{}"));
    assert!(passes(&condition("type", "matches", &json!(r"^order\.")), "{}"));
}

#[test]
fn all_parts_of_a_filter_must_match() {
    let data = r#"{"status":"completed","priority":"high","amount":1500,"tags":["a"]}"#;
    for (written, wanted) in [
        (json!({}), true),
        (json!({"fields": {}, "conditions": null}), true),
        (json!({"fields": {"status": "completed", "priority": "high"}}), true),
        (json!({"fields": {"status": "completed", "priority": "low"}}), false),
        (json!({"fields": {"priority": ["low", "high"]}}), true),
        (json!({"fields": {"tags": ["a", "b"]}}), true),
        (json!({"user_id": [123, 456]}), true),
        (json!({"user_id": ["123"]}), true),
        (json!({"user_id": 123}), true),
        (json!({"user_id": [1234]}), false),
        (json!({"resource_id": ["res-1"]}), true),
        (json!({"workspace_id": ["w"]}), false),
        (json!({"fields": {"status": "completed"}, "user_id": [1]}), false),
        (json!({"time_range": {"start": "2024-01-01T00:00:00.500Z", "end": "2024-01-01T00:00:00.500Z"}}), true),
        (json!({"time_range": {"start": "2024-01-01T00:00:00.501Z"}}), false),
        (json!({"time_range": {"end": "2024-01-01T00:00:00Z"}}), false),
        (json!({"time_range": {"start": null, "end": "2024-01-31T23:59:59Z"}}), true),
    ] {
        assert_eq!(passes(&written, data), wanted, "{written}");
    }
}

#[test]
fn ids_of_the_payload_replace_missing_ids_of_the_event() {
    let filter = filter(&json!({"user_id": [7, "eight"]}));
    for (own, data, wanted) in [
        (Some("7"), "{}", true),
        (Some("9"), r#"{"user_id":7}"#, false),
        (None, r#"{"user_id":7}"#, true),
        (None, r#"{"user_id":"7"}"#, true),
        (None, r#"{"fields":{"user_id":"eight"}}"#, true),
        (None, r#"{"user_id":null}"#, false),
        (None, r#"{"user_id":[7]}"#, false),
        (None, r#"{"user_id":7.0}"#, false),
        (None, "{}", false),
    ] {
        assert_eq!(
            filter.matches(&EventFields { user_id: own, data: data.as_bytes(), ..EventFields::default() }),
            Ok(wanted),
            "{data}"
        );
    }
}

#[test]
fn groups_combine_rules() {
    type Means = fn(bool, bool, bool) -> bool;

    let rule = |n: u8| json!({"field": format!("f{n}"), "operator": "equals", "value": true});
    let group = |operator: &str, rules: &[Value]| json!({"operator": operator, "rules": rules});
    let table: [(Value, Means); 6] = [
        (group("and", &[rule(0), rule(1), rule(2)]), |a, b, c| a && b && c),
        (group("or", &[rule(0), rule(1), rule(2)]), |a, b, c| a || b || c),
        (group("not", &[rule(0), rule(1)]), |a, b, _| !a && !b),
        (group("and", &[rule(0), group("or", &[rule(1), rule(2)])]), |a, b, c| a && (b || c)),
        (group("or", &[group("and", &[rule(0), rule(1)]), group("not", &[rule(2)])]), |a, b, c| (a && b) || !c),
        (group("not", &[group("not", &[rule(0), rule(2)])]), |a, _, c| a || c),
    ];
    for (conditions, means) in table {
        let written = json!({"conditions": conditions});
        for bits in 0..8_u8 {
            let [a, b, c] = [0, 1, 2].map(|n| bits >> n & 1 == 1);
            let data = format!(r#"{{"f0":{a},"f1":{b},"f2":{c}}}"#);
            assert_eq!(passes(&written, &data), means(a, b, c), "{written} {data}");
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn errors_are_reported_with_their_pointers() {
    let rule = |rule: Value| json!({"conditions": {"operator": "and", "rules": [rule]}});
    let of = |operator: &str, value: Value| rule(json!({"field": "a", "operator": operator, "value": value}));
    let value = "/conditions/rules/0/value";
    let mut deep = json!({"field": "a", "operator": "exists"});
    for _ in 0..=FILTER_DEPTH_MAX {
        deep = json!({"operator": "and", "rules": [deep]});
    }
    let many = |n: usize| json!({"conditions": {"operator": "or", "rules": vec![json!({"field": "a", "operator": "exists"}); n]}});
    for (written, wanted) in [
        (json!([]), &[""][..]),
        (json!("x"), &[""]),
        (json!({"field": {}, "a/b": 1}), &["/a~1b", "/field"]),
        (json!({"fields": []}), &["/fields"]),
        (
            json!({"fields": {"a": {"b": 1}, "": 1, "c": [[1]], "d": []}}),
            &["/fields/", "/fields/a", "/fields/c/0", "/fields/d"],
        ),
        (json!({"conditions": []}), &["/conditions"]),
        (json!({"conditions": {}}), &["/conditions"]),
        (json!({"conditions": {"operator": "xor", "rules": []}}), &["/conditions/operator", "/conditions/rules"]),
        (
            json!({"conditions": {"rules": [1], "x": 1}}),
            &["/conditions/x", "/conditions/operator", "/conditions/rules/0"],
        ),
        (rule(json!({"field": "a", "operator": "exists", "x": 1})), &["/conditions/rules/0/x"]),
        (
            rule(json!({"field": 5, "operator": "equal"})),
            &["/conditions/rules/0/field", "/conditions/rules/0/operator"],
        ),
        (rule(json!({"field": "a", "operator": "not_matches", "value": "a"})), &["/conditions/rules/0/operator"]),
        (rule(json!({"field": "a..b", "operator": "exists"})), &["/conditions/rules/0/field"]),
        (rule(json!({"field": "a", "operator": "equals"})), &[value]),
        (of("exists", json!(false)), &[value]),
        (of("equals", json!([1])), &[value]),
        (of("equals", json!("a".repeat(1025))), &[value]),
        (of("greater_than", json!(true)), &[value]),
        (of("less_or_equal", json!(null)), &[value]),
        (of("in", json!("a")), &[value]),
        (of("in", json!([])), &[value]),
        (of("not_in", json!([1, {}])), &["/conditions/rules/0/value/1"]),
        (of("in", json!(vec![1; FILTER_VALUES_MAX + 1])), &[value]),
        (of("contains", json!({})), &[value]),
        (of("starts_with", json!(1)), &[value]),
        (of("matches", json!("(")), &[value]),
        (of("matches", json!("(a)\\1")), &[value]),
        (of("matches", json!("(?=a)")), &[value]),
        (of("matches", json!("\\w{1000}")), &[value]),
        (of("matches", json!("(".repeat(100) + &")".repeat(100))), &[value]),
        (json!({"user_id": []}), &["/user_id"]),
        (json!({"user_id": [1, true]}), &["/user_id/1"]),
        (json!({"resource_id": true}), &["/resource_id"]),
        (json!({"time_range": {}}), &["/time_range"]),
        (
            json!({"time_range": {"start": "yesterday", "end": 5, "x": 1}}),
            &["/time_range/x", "/time_range/start", "/time_range/end"],
        ),
        (json!({"time_range": {"start": "2024-01-02T00:00:00Z", "end": "2024-01-01T00:00:00Z"}}), &["/time_range/end"]),
        (
            json!({ "conditions": deep }),
            &["/conditions/rules/0/rules/0/rules/0/rules/0/rules/0/rules/0/rules/0/rules/0"],
        ),
        (many(FILTER_RULES_MAX + 1), &[""]),
        (many(FILTER_RULES_MAX * 10), &[""]),
    ] {
        assert_eq!(wrong(&written), wanted, "{written}");
    }
    filter(&many(FILTER_RULES_MAX));
    filter(&of("in", json!(vec![1; FILTER_VALUES_MAX])));
    filter(&of("matches", json!("^\\w+@\\w+$")));
    filter(&of("matches", json!("^[0-9a-z]{1,100}$")));
    let patterns = |n: usize| {
        let rules: Vec<_> =
            (0..n).map(|n| json!({"field": "a", "operator": "matches", "value": n.to_string()})).collect();
        json!({"conditions": {"operator": "or", "rules": rules}})
    };
    filter(&patterns(FILTER_PATTERNS_MAX));
    assert_eq!(wrong(&patterns(FILTER_PATTERNS_MAX + 1)), [format!("/conditions/rules/{FILTER_PATTERNS_MAX}/value")]);
}

#[test]
fn an_invalid_expression_is_explained_in_one_line() {
    let wrong = Filter::compile(&condition("a", "matches", &json!("a(b"))).unwrap_err();
    assert_eq!(wrong[0].detail, "this is no regular expression of linear time: unclosed group");
}

#[test]
fn long_texts_are_not_searched() {
    let text = |n: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(n));
    let (fits, long) = (text(FILTER_SEARCHED_BYTES_MAX - 2), text(FILTER_SEARCHED_BYTES_MAX - 1));
    for operator in ["contains", "starts_with", "ends_with", "matches"] {
        let written = condition("a", operator, &json!("x"));
        assert_eq!((passes(&written, &fits), passes(&written, &long)), (true, false), "{operator}");
    }
    assert!(passes(&condition("a", "not_contains", &json!("x")), &long));
}

#[test]
fn the_last_of_two_equal_names_counts() {
    assert!(passes(&condition("a", "equals", &json!(2)), r#"{"a":1,"a":2}"#));
    assert!(!passes(&condition("a.b", "exists", &json!(null)), r#"{"a":{"b":1},"a":2}"#));
}

#[test]
fn each_rule_reports_the_value_that_it_found() {
    let written = json!({"conditions": {"operator": "and", "rules": [
        {"field": "amount", "operator": "greater_than", "value": 1000},
        {"operator": "not", "rules": [{"field": "gone", "operator": "exists"}]},
    ]}, "fields": {"long": "x"}, "user_id": [5]});
    let data = format!(r#"{{"amount":1500.50,"long":"{}"}}"#, "x".repeat(2000));
    let (filter, event_fields) = (filter(&written), event_fields(&data));
    let results = filter.explain(&mut FilterInput::new(&event_fields)).unwrap();
    assert_eq!(
        serde_json::to_string(&results).unwrap(),
        concat!(
            r#"[{"pointer":"/fields/long","matches":false,"found_bytes":2002},"#,
            r#"{"pointer":"/conditions","matches":true,"group":"and"},"#,
            r#"{"pointer":"/conditions/rules/0","matches":true,"found":1500.50},"#,
            r#"{"pointer":"/conditions/rules/1","matches":true,"group":"not"},"#,
            r#"{"pointer":"/conditions/rules/1/rules/0","matches":false,"missing":true},"#,
            r#"{"pointer":"/user_id","matches":false,"found":"123"}]"#
        )
    );
}

#[test]
fn a_sample_event_has_the_form_that_is_sent_or_shown() {
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
    let shown = raw(
        r#"{"id":"evt_1","type":"a.b","external_id":7,"source":"shop","tenant":"acme","timestamp":"2024-01-01T00:00:00Z",
        "received_at":"x","verified":true,"webhooks":3,"metadata":{"a":1},"user_id":null,"data":{"n":1.50}}"#,
    );
    let sample = SampleEvent::read(&shown, "default", Timestamp::default()).unwrap();
    let event_fields = sample.event_fields();
    assert_eq!(
        (event_fields.tenant, event_fields.event_type, event_fields.source, event_fields.external_id),
        ("acme", "a.b", "shop", Some("7"))
    );
    assert_eq!(
        (event_fields.user_id, event_fields.metadata, event_fields.data),
        (None, Some(r#"{"a":1}"#), &br#"{"n":1.50}"#[..])
    );
    assert_eq!(event_fields.timestamp.as_millis(), 1_704_067_200_000);
    let empty = raw("{}");
    let sample = SampleEvent::read(&empty, "default", Timestamp::from_millis(5)).unwrap();
    assert_eq!(
        (sample.event_fields().tenant, sample.event_fields().timestamp.as_millis(), sample.event_fields().data),
        ("default", 5, &b"null"[..])
    );
    for (text, wanted) in [
        ("[]", &[""][..]),
        (
            r#"{"type":5,"user_id":true,"metadata":[],"timestamp":"x","colour":1}"#,
            &["/type", "/timestamp", "/user_id", "/metadata", "/colour"],
        ),
    ] {
        let text = raw(text);
        let wrong = SampleEvent::read(&text, "default", Timestamp::default()).unwrap_err();
        assert_eq!(wrong.iter().map(|e| &*e.pointer).collect::<Vec<_>>(), wanted);
    }
    let deep = raw(&format!("{{\"data\":{}{}}}", "[".repeat(200), "]".repeat(200)));
    assert_eq!(SampleEvent::read(&deep, "default", Timestamp::default()).unwrap_err()[0].pointer, "/data");
}

proptest! {
    #[test]
    fn numbers_are_in_one_order(a: i64, b: f64, c in -100_i64..100, d in -100.0..100.0_f64) {
        for (whole, float) in [(a, b), (c, d), (c, c as f64), (a, a as f64)] {
            prop_assume!(float.is_finite());
            let data = format!("{{\"n\":{whole}}}");
            let holds = |operator: &str| passes(&condition("n", operator, &json!(float)), &data);
            let (less, equal, greater) = (holds("less_than"), holds("equals"), holds("greater_than"));
            prop_assert_eq!(u8::from(less) + u8::from(equal) + u8::from(greater), 1, "{} {}", whole, float);
            // Where a float holds the whole number exactly, the order of floats is the reference.
            if whole.unsigned_abs() < 1 << 53 {
                prop_assert_eq!(less, (whole as f64) < float);
                prop_assert_eq!(greater, (whole as f64) > float);
            }
        }
    }

    #[test]
    fn any_filter_compiles_or_is_refused_with_a_pointer(
        operator in "equals|in|not_in|contains|greater_than|matches|exists|and|x",
        value in prop_oneof![Just(json!(null)), Just(json!([1, "a"])), any::<i32>().prop_map(Value::from), "[a(*)]{0,4}".prop_map(Value::from)],
        field in "[a.b/~0]{0,5}",
    ) {
        match Filter::compile(&condition(&field, &operator, &value)) {
            Ok(filter) => {
                let matches = filter.matches(&event_fields(r#"{"a":{"b":1},"b":"a"}"#));
                prop_assert!(matches.is_ok());
            }
            Err(wrong) => prop_assert!(!wrong.is_empty() && wrong.iter().all(|e| e.pointer.starts_with("/conditions"))),
        }
    }
}

#[test]
fn equal_ids_give_equal_field_texts() {
    let data = r#"{"n":7,"text":"7","null":null,"yes":true,"list":[1, 2],"object":{"a":"b"},"esc":"\u0037","half":"\ud800",
        "resource_id":"mine","fields":{"deep":"d","n":8},"a.b":{"c":1.0}}"#;
    for (path, says) in [
        ("n", Some("7")),
        ("text", Some("7")),
        ("esc", Some("7")),
        ("null", None),
        ("missing", None),
        ("yes", Some("true")),
        ("list", Some("[1, 2]")),
        ("list.1", Some("2")),
        ("object.a", Some("b")),
        ("half", Some("\u{fffd}")),
        ("deep", Some("d")),
        ("/a.b/c", Some("1.0")),
        ("resource_id", Some("mine")),
        ("user_id", Some("123")),
        ("workspace_id", None),
        ("type", Some("order.created")),
        ("external_id", Some("ext-1")),
        ("metadata.region", Some("eu")),
        ("data.object.a", Some("b")),
        ("timestamp", Some("2024-01-01T00:00:00.500Z")),
    ] {
        assert_eq!(EventField::try_new(path).unwrap().text(&event_fields(data)).as_deref(), says, "{path}");
    }
    for path in ["", "a..b", ".a", "/", "/a~2", &"a.".repeat(200)] {
        assert!(EventField::try_new(path).is_err(), "{path}");
    }
    assert_eq!(EventField::try_new("a.b").unwrap(), EventField::try_new("a.b").unwrap());
    assert_ne!(EventField::try_new("a.b").unwrap(), EventField::try_new("/a/b").unwrap());
}

/// Text on which a general search for [`COSTLY`] makes a new state for each byte.
fn costly_text(bytes: usize) -> String {
    let mut random = 12_345_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if random >> 63 == 1 { 'a' } else { 'b' }
    };
    (0..bytes).map(|_| next()).collect()
}

const COSTLY: &str = "[ab]*a[ab]{400}c";

#[test]
fn the_work_of_filters_is_bounded_before_it_is_done() {
    let pattern = filter(&condition("a", "matches", &json!(COSTLY)));
    let short = format!(r#"{{"a":"{}"}}"#, costly_text(2_000));
    assert_eq!(pattern.matches(&event_fields(&short)), Ok(false));
    let long = format!(r#"{{"a":"{}"}}"#, costly_text(60_000));
    assert_eq!(pattern.matches(&event_fields(&long)), Err(TooCostly));
    // Nothing was searched, so nothing but the lookup was counted.
    let event_fields = event_fields(&long);
    let mut input = FilterInput::new(&event_fields);
    assert_eq!(pattern.matches_input(&mut input), Err(TooCostly));
    assert!(FILTER_EVENT_WORK_MAX - input.work_left() < 10_000);
    assert!(pattern.explain(&mut input).is_err());
}

#[test]
fn each_kind_of_costly_rule_is_counted() {
    let list: Vec<_> = (0..100).map(|n| json!({"field": "list", "operator": "in", "value": [n]})).collect();
    let texts: Vec<_> =
        (0..100).map(|n| json!({"field": "text", "operator": "contains", "value": n.to_string()})).collect();
    let names: Vec<_> = (0..100).map(|n| json!({"field": format!("map.{n}"), "operator": "exists"})).collect();
    let any = |rules: Vec<Value>| json!({"conditions": {"operator": "or", "rules": rules}});
    let data = |name: &str, value: String| format!(r#"{{"{name}":{value}}}"#);
    let numbers = |count: usize| format!("[{}]", vec!["1000000"; count].join(","));
    let map =
        |count: usize| format!("{{{}}}", (0..count).map(|n| format!(r#""x{n}":0"#)).collect::<Vec<_>>().join(","));
    let text = |bytes: usize| format!(r#""{}\\n""#, "x".repeat(bytes));
    for (rules, name, usual, costly) in [
        (list, "list", numbers(100), numbers(60_000)),
        (texts, "text", text(1_000), text(60_000)),
        (names, "map", map(1_000), map(400_000)),
    ] {
        let filter = filter(&any(rules));
        assert_eq!(filter.matches(&event_fields(&data(name, usual))), Ok(false), "{name}");
        assert_eq!(filter.matches(&event_fields(&data(name, costly))), Err(TooCostly), "{name}");
    }
}

#[test]
fn usual_filters_need_little_work() {
    let written = json!({"fields": {"status": ["paid", "open"], "customer.tier": "gold"}, "user_id": [123, 5],
        "conditions": {"operator": "and", "rules": [
            {"field": "amount", "operator": "greater_than", "value": 1000},
            {"field": "email", "operator": "matches", "value": r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$"}]}});
    let data = r#"{"status":"paid","customer":{"tier":"gold"},"amount":1500,"email":"somebody@example.com"}"#;
    let (filter, event_fields) = (filter(&written), event_fields(data));
    let mut input = FilterInput::new(&event_fields);
    assert_eq!(filter.matches_input(&mut input), Ok(true));
    let work = FILTER_EVENT_WORK_MAX - input.work_left();
    assert!(work < FILTER_FIRST_WORK / 4, "{work}");
}

#[test]
fn new_expressions_are_bounded_and_stored_ones_still_compile() {
    let written = condition("a", "matches", &json!("[ab]*a[ab]{3600}c"));
    let wrong = Filter::compile(&written).unwrap_err();
    assert_eq!(wrong[0].pointer, "/conditions/value");
    assert!(wrong[0].detail.contains("at most 1024 are allowed: fewer or smaller repetitions"), "{}", wrong[0]);
    assert!(Filter::compile_stored(&written).is_ok());
}
