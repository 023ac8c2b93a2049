//! Tests of valid and invalid event maps.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::inbound::source::testing::build;
use crate::limits::{MAP_DATA_BYTES_MAX, MAP_DATA_DEPTH_MAX, MAP_DATA_NODES_MAX};
use crate::model::is_event_type;

fn source() -> Source {
    build("name = \"shop\"\nkind = \"none\"").unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap())).collect()
}

fn map(rules: &Value) -> EventMap {
    EventMap::try_new(rules.as_array().unwrap()).unwrap()
}

/// Applies the rules to an event with this topic and payload.
fn apply(rules: &Value, topic: Option<&str>, data: &str) -> Result<Option<MappedEvent>, MapError> {
    let headers = headers(&[("x-shop", "a.example"), ("x-empty", "")]);
    map(rules).apply(&MapInput { source: &source(), topic, data, headers: &headers })
}

fn data(data: &Value, payload: &str) -> String {
    let rules = json!([{"when": "*", "type": "a", "data": data}]);
    apply(&rules, Some("orders/create"), payload).unwrap().unwrap().data.unwrap()
}

fn types(rules: &Value, topic: Option<&str>) -> Option<String> {
    apply(rules, topic, "{}").unwrap().map(|mapped| mapped.event_type)
}

fn pointers(rules: &Value) -> Vec<String> {
    let violations = EventMap::try_new(rules.as_array().unwrap()).unwrap_err();
    violations.into_iter().map(|violation| violation.pointer).collect()
}

#[test]
fn type_templates_are_filled() {
    for (template, becomes) in [
        ("a", "a"),
        ("{topic}", "t"),
        ("{source}", "shop"),
        ("{source}{topic}{source}", "shoptshop"),
        ("a.{topic}:b", "a.t:b"),
        ("{topic}.{topic}", "t.t"),
        ("{topic}.", "t."),
    ] {
        assert_eq!(types(&json!([{"when": "*", "type": template}]), Some("t")).as_deref(), Some(becomes), "{template}");
    }
    for template in [
        "",
        "{",
        "}",
        "{}",
        "a{",
        "a}",
        "{{",
        "}}",
        "{{}}",
        "{{topic}}",
        "{{topic}",
        "{topic}}",
        "{topic}}}",
        "{{{topic}}}",
        "{a{topic}",
        "{ topic}",
        "{Topic}",
        "{topic",
        "topic}",
        "a {topic}",
        r#"{"a":1}"#,
        "{tenant}",
    ] {
        assert_eq!(pointers(&json!([{"when": "*", "type": template}])), ["/event_map/0/type"], "{template}");
    }
    for (template, words) in [
        ("a.{tenant}", "the braces hold neither {topic} nor {source}"),
        ("a.{topic", "the braces hold neither {topic} nor {source}"),
        ("a.topic}", "the braces hold neither {topic} nor {source}"),
        ("a {topic}", "makes no event type: expected a letter or digit, then letters, digits and . _ : -, at most 128"),
        ("hooktide.{topic}", "types that begin with \"hooktide.\" are the gateway's own"),
    ] {
        let rules = [json!({"when": "*", "type": template})];
        let detail = EventMap::try_new(&rules).unwrap_err().remove(0).detail;
        assert!(detail.starts_with(words), "{template}: {detail}");
    }
}

#[test]
fn the_first_matching_rule_is_applied() {
    let rules = json!([
        {"when": "orders/create", "type": "order.created"},
        {"when": "orders/*", "type": "order.other"},
        {"when": "orders/paid", "type": "never"},
        {"when": "orders/create", "type": "never"},
        {"when": "charge.dispute.*", "type": "dispute"},
        {"when": "*", "type": "{source}.{topic}"},
    ]);
    for (topic, becomes) in [
        (Some("orders/create"), "order.created"),
        (Some("orders/paid"), "order.other"),
        (Some("orders/"), "shop.orders."),
        (Some("Orders/create"), "shop.Orders.create"),
        (Some("charge.dispute.closed"), "dispute"),
        (Some("v2.core.account[requirements].updated"), "shop.v2.core.account_requirements_.updated"),
        (None, "shop.event"),
    ] {
        assert_eq!(types(&rules, topic).as_deref(), Some(becomes), "{topic:?}");
    }
    let narrow = json!([{"when": "a", "type": "b"}, {"when": "c/*", "type": "d"}]);
    for topic in [None, Some("b"), Some("c"), Some("c/")] {
        assert_eq!(types(&narrow, topic), None, "{topic:?}");
    }
    assert_eq!(types(&json!([]), Some("a")), None);
}

#[test]
fn data_is_built_from_the_payload_the_headers_and_the_source() {
    let payload = r#"{"id":1,"total_price":"10.00","customer":{"e/mail":"x"},"lines":[{"sku":"s"}]}"#;
    let built = data(
        &json!({
            "order_id": "/id", "total": "/total_price", "mail": "/customer/e~1mail", "sku": "/lines/0/sku",
            "shop": "$header.x-shop", "empty": "$header.X-Empty", "source": "$source.name", "kind": "$source.kind",
            "topic": "$topic", "tenant": "$source.tenant", "id": "$source.id",
            "nested": {"list": ["/id", 1, null, true, "text", {"x": "/id"}]},
            "slash": "//id", "dollar": "$$topic", "blank": "", "question": "why?",
        }),
        payload,
    );
    let expected = json!({
        "order_id": 1, "total": "10.00", "mail": "x", "sku": "s", "shop": "a.example", "empty": "", "source": "shop",
        "kind": "none", "topic": "orders/create", "tenant": "default", "id": "src_00000000000000000000000007",
        "nested": {"list": [1, 1, null, true, "text", {"x": 1}]},
        "slash": "/id", "dollar": "$topic", "blank": "", "question": "why?",
    });
    assert_eq!(serde_json::from_str::<Value>(&built).unwrap(), expected);
}

#[test]
fn values_are_copied_byte_for_byte() {
    for value in
        ["1.10", "1e400", "123456789012345678901234567890", r#""\u00e9\/""#, r#"{ "b":1, "a" : [ 2 ] }"#, "null"]
    {
        let payload = format!(r#"{{"a": {value} ,"b":0}}"#);
        assert_eq!(data(&json!({"x": "/a"}), &payload), format!(r#"{{"x":{value}}}"#));
        assert_eq!(data(&json!({"x": "$payload"}), &payload), format!(r#"{{"x":{payload}}}"#));
        assert_eq!(data(&json!("/a"), &payload), value);
    }
}

#[test]
fn missing_optional_values_are_omitted() {
    let optional =
        json!({"a": "/a?", "b": "/b?", "list": ["/a?", "/b?", "/c?"], "h": "$header.x-none?", "in": {"a": "/a?"}});
    assert_eq!(data(&optional, r#"{"b":2}"#), r#"{"b":2,"in":{},"list":[2]}"#);
    assert_eq!(data(&optional, "7"), r#"{"in":{},"list":[]}"#);
}

#[test]
fn a_missing_required_value_is_an_error_with_its_location() {
    for (taken, place) in [("/b", "/b"), ("$header.x-none", "$header.x-none"), ("/a/0", "/a/0"), ("/list/-", "/list/-")]
    {
        let rules = json!([{"when": "b", "type": "b"}, {"when": "*", "type": "a", "data": {"in": {"x": taken}}}]);
        let missing = MapError::Missing { rule: 1, place: place.into() };
        assert_eq!(apply(&rules, Some("a"), r#"{"a":1,"list":[]}"#), Err(missing));
    }
    let rules = json!([{"when": "*", "type": "a", "data": {"topic": "$topic"}}]);
    assert_eq!(apply(&rules, None, "{}"), Err(MapError::Missing { rule: 0, place: "$topic".into() }));
    let optional = json!([{"when": "*", "type": "a", "data": {"topic": "$topic?"}}]);
    assert_eq!(apply(&optional, None, "{}").unwrap().unwrap().data.as_deref(), Some("{}"));
}

#[test]
fn an_invalid_event_type_is_an_error() {
    for topic in ["/", "", "hooktide.webhook.disabled", &"a".repeat(129)] {
        let rules = json!([{"when": "*", "type": "{topic}"}]);
        assert_eq!(apply(&rules, Some(topic), "{}"), Err(MapError::Type { rule: 0 }), "{topic}");
    }
    assert_eq!(types(&json!([{"when": "*", "type": "{topic}"}]), Some(&"a".repeat(128))), Some("a".repeat(128)));
}

#[test]
fn the_size_of_the_data_is_bounded() {
    let payload = format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20));
    let rules = json!([{"when": "*", "type": "a", "data": {"list": vec!["/a"; MAP_DATA_NODES_MAX - 2]}}]);
    assert_eq!(apply(&rules, None, &payload), Err(MapError::TooLarge { rule: 0 }));
    const { assert!(MAP_DATA_BYTES_MAX < (MAP_DATA_NODES_MAX - 2) << 20) };
}

#[test]
fn invalid_rules_are_reported_by_pointer() {
    let deep = (0..=MAP_DATA_DEPTH_MAX).fold(json!("/a"), |value, _| json!({"x": value}));
    let rules = |rule: Value| json!([{"when": "*", "type": "a"}, rule]);
    for (rule, wrong) in [
        (json!(7), vec!["/event_map/1"]),
        (json!({}), vec!["/event_map/1/when", "/event_map/1/type"]),
        (json!({"when": "", "type": ""}), vec!["/event_map/1/when", "/event_map/1/type"]),
        (json!({"when": "a*b", "type": "a"}), vec!["/event_map/1/when"]),
        (json!({"when": "**", "type": "a"}), vec!["/event_map/1/when"]),
        (json!({"when": "*", "type": "a", "then": 1, "a/b": 2}), vec!["/event_map/1/a~1b", "/event_map/1/then"]),
        (json!({"when": "*", "type": "größe"}), vec!["/event_map/1/type"]),
        (json!({"when": "*", "type": ".{topic}"}), vec!["/event_map/1/type"]),
        (json!({"when": "*", "type": "{topic} x"}), vec!["/event_map/1/type"]),
        (json!({"when": "*", "type": "a.{id}"}), vec!["/event_map/1/type"]),
        (json!({"when": "*", "type": "a.{topic"}), vec!["/event_map/1/type"]),
        (json!({"when": "*", "type": "a}"}), vec!["/event_map/1/type"]),
        (json!({"when": "*", "type": "hooktide.x"}), vec!["/event_map/1/type"]),
        (json!({"when": "*", "type": "hooktide.{topic}"}), vec!["/event_map/1/type"]),
        (json!({"when": "*", "type": "a".repeat(129)}), vec!["/event_map/1/type"]),
        (json!({"when": "*", "type": "a".repeat(128) + "{topic}"}), vec!["/event_map/1/type"]),
        (json!({"when": "*", "type": "a", "data": []}), vec!["/event_map/1/data"]),
        (json!({"when": "*", "type": "a", "data": "text"}), vec!["/event_map/1/data"]),
        (json!({"when": "*", "type": "a", "data": "/a?"}), vec!["/event_map/1/data"]),
        (json!({"when": "*", "type": "a", "data": {"total": "/a~2"}}), vec!["/event_map/1/data/total"]),
        (json!({"when": "*", "type": "a", "data": {"a/b": ["$x"]}}), vec!["/event_map/1/data/a~1b/0"]),
        (json!({"when": "*", "type": "a", "data": {"x": "$header.a b"}}), vec!["/event_map/1/data/x"]),
        (json!({"when": "*", "type": "a", "data": {"x": "$header.Authorization"}}), vec!["/event_map/1/data/x"]),
        (json!({"when": "*", "type": "a", "data": {"x": "$header.x-gitlab-token?"}}), vec!["/event_map/1/data/x"]),
        (
            json!({"when": "*", "type": "a", "data": deep}),
            vec![&*format!("/event_map/1/data{}", "/x".repeat(MAP_DATA_DEPTH_MAX + 1))],
        ),
        (
            json!({"when": "*", "type": "a", "data": {"x": vec![0; MAP_DATA_NODES_MAX]}}),
            vec![&*format!("/event_map/1/data/x/{}", MAP_DATA_NODES_MAX - 2)],
        ),
    ] {
        assert_eq!(pointers(&rules(rule.clone())), wrong, "{rule}");
    }
    let many = vec![json!({"when": "*", "type": "a"}); MAP_RULES_MAX + 1];
    assert_eq!(pointers(&Value::Array(many)), ["/event_map"]);
    assert_eq!(pointers(&Value::Array(vec![json!(1); 100])).len(), VIOLATIONS_LISTED_MAX);
}

#[test]
fn default_event_types() {
    for (topic, becomes) in [
        (Some("orders/create"), "shop.orders.create"),
        (Some("a b[ü]"), "shop.a_b___"),
        (Some("/weather"), "shop.weather"),
        (Some(""), "shop.event"),
        (None, "shop.event"),
    ] {
        assert_eq!(default_event_type("shop", topic), becomes);
    }
    assert_eq!(default_event_type("shop", Some(&"ü".repeat(500))).len(), EVENT_TYPE_BYTES_MAX);
}

/// Values of rules; most of them are invalid.
fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[/$]?[a-z/~?$.{}* ]{0,6}",
        Just("$payload".to_owned()),
        Just("$topic?".to_owned()),
        Just("/a".to_owned()),
        Just("/a/0?".to_owned()),
        Just("$header.x-shop".to_owned()),
    ];
    let leaf = prop_oneof![text.prop_map(Value::from), any::<i64>().prop_map(Value::from), Just(Value::Null)];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map("[a-c\"/é]{0,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// JSON with unusual whitespace, numbers and escapes.
fn payload() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1.0".to_owned()),
        Just("1e999".to_owned()),
        Just(r#""\ud83d\ude00\/""#.to_owned()),
        Just("\"é\"".to_owned()),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[ {} ]", items.join(" ,"))),
            proptest::collection::vec(("[a-c]", inner), 0..4).prop_map(|fields| {
                let fields: Vec<_> = fields.into_iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_rules_compile_or_are_reported(rules in proptest::collection::vec(value(), 0..4)) {
        if let Err(violations) = EventMap::try_new(&rules) {
            prop_assert!(!violations.is_empty());
            for violation in violations {
                prop_assert!(violation.pointer.starts_with("/event_map"), "{}", violation.pointer);
            }
        }
    }

    #[test]
    fn the_output_of_a_map_is_a_valid_type_and_json(
        when in "[a-b/]{0,2}\\*?", event_type in "([a-z._]|\\{topic\\}|\\{source\\}){0,3}", data in value(),
        topic in proptest::option::of("[a-bA-Z/é\\[ ]{0,3}"), payload in payload(),
    ) {
        let rules = [json!({"when": when, "type": event_type, "data": data}), json!({"when": "*", "type": "x", "data": data})];
        let Ok(map) = EventMap::try_new(&rules) else { return Ok(()) };
        let headers = headers(&[("x-shop", "\"\\ a")]);
        if let Ok(mapped) = map.apply(&MapInput { source: &source(), topic: topic.as_deref(), data: &payload, headers: &headers }) {
            let mapped = mapped.expect("a rule wants everything");
            prop_assert!(is_event_type(&mapped.event_type), "{}", mapped.event_type);
            if let Some(data) = mapped.data {
                prop_assert!(serde_json::from_str::<&serde_json::value::RawValue>(&data).is_ok(), "{data}");
            }
        }
    }

    #[test]
    fn values_are_never_reserialized(value in payload(), other in payload()) {
        let payload = format!(r#"{{"other": {other} , "a": {value}}}"#);
        prop_assert_eq!(data(&json!({"x": {"y": ["/a"]}}), &payload), format!(r#"{{"x":{{"y":[{value}]}}}}"#));
    }

    #[test]
    fn the_default_event_type_is_always_valid(topic in proptest::option::of(".{0,200}")) {
        prop_assert!(is_event_type(&default_event_type("0-shop", topic.as_deref())));
    }
}

/// The fenced code blocks of the guide, with the text before each block.
fn blocks(guide: &str) -> Vec<(&str, &str, &str)> {
    let mut parts = guide.split("```");
    let mut blocks = Vec::new();
    while let (Some(before), Some(block)) = (parts.next(), parts.next()) {
        let (language, text) = block.split_once('\n').unwrap();
        blocks.push((before, language, text));
    }
    blocks
}

/// The text in backticks after `mark`.
fn word<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(&format!("{mark} `")).and_then(|(_, rest)| rest.split('`').next()).unwrap()
}

#[test]
fn the_examples_of_the_guide_are_correct() {
    let blocks = blocks(include_str!("../../../../docs/guides/event-maps.md"));
    let json: Vec<_> = blocks.iter().filter(|(_, language, _)| *language == "json").collect();
    assert!(json.len() >= 9 && json.len().is_multiple_of(3), "{}", json.len());
    for example in json.chunks(3) {
        let [(_, _, rules), (sends, _, payload), (becomes, _, data)] = example else { unreachable!() };
        let rules = serde_json::from_str(rules).unwrap();
        let mapped = apply(&rules, Some(word(sends, "topic")), payload.trim()).unwrap().unwrap();
        assert_eq!(mapped.event_type, word(becomes, "becomes"));
        assert_eq!(mapped.data.as_deref(), Some(data.trim()));
    }
    let toml: Vec<_> = blocks.iter().filter(|(_, language, _)| *language == "toml").collect();
    assert_eq!(toml.len(), 1);
    let source = build(toml[0].2.trim().strip_prefix("[[sources]]").unwrap()).unwrap();
    let event = MapInput { source: &source, topic: Some("orders/paid"), data: "{}", headers: &HeaderMap::new() };
    assert_eq!(source.event_map.apply(&event).unwrap().unwrap().event_type, "order.changed");
}
