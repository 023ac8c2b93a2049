//! Checks of definitions, and the catalogue files of this repository.

use serde_json::json;

use super::*;

fn settings(value: Value) -> Settings {
    serde_json::from_value(value).unwrap()
}

#[test]
fn each_error_of_a_definition_is_reported() {
    let long = "x".repeat(EVENT_TYPE_DESCRIPTION_CHARS_MAX + 1);
    for (written, pointers) in [
        (json!({"name": "order.created"}), &[][..]),
        (json!({"name": "a", "deprecated": true, "replaced_by": "b"}), &[]),
        (json!({"name": "a", "schema": {"type": "object"}, "example": {}, "validate": true}), &[]),
        (json!({"name": "order created"}), &["/name"]),
        (json!({"name": "hooktide.webhook.disabled"}), &["/name"]),
        (json!({"name": "a", "category": "x".repeat(65), "description": long}), &["/category", "/description"]),
        (json!({"name": "a", "replaced_by": "b"}), &["/replaced_by"]),
        (json!({"name": "a", "deprecated": true, "replaced_by": "a"}), &["/replaced_by"]),
        (json!({"name": "a", "validate": true}), &["/validate"]),
        (json!({"name": "a", "schema": {"type": "objekt"}}), &["/schema/type"]),
        (json!({"name": "a", "schema": {"required": ["id"]}, "example": {}}), &["/example"]),
        (
            json!({"name": "a", "schema": {"properties": {"n": {"type": "integer"}}}, "example": {"n": "1"}}),
            &["/example/n"],
        ),
        (json!({"name": "a", "example": "x".repeat(EVENT_TYPE_EXAMPLE_BYTES_MAX)}), &["/example"]),
    ] {
        let found = EventTypeDefinition::try_new(settings(written.clone())).err().unwrap_or_default();
        let found: Vec<_> = found.iter().map(|error| &*error.pointer).collect();
        assert_eq!(found, pointers, "{written}");
    }
    assert!(serde_json::from_value::<Settings>(json!({"name": "a", "colour": "red"})).is_err());
}

#[test]
fn data_are_validated_only_if_the_type_requires_it() {
    let schema = json!({"type": "object", "required": ["id", "n"], "properties": {"n": {"minimum": 1}}});
    let of = |validate: bool| {
        let written = json!({"name": "a", "schema": schema, "validate": validate});
        EventTypeDefinition::try_new(settings(written)).unwrap()
    };
    let pointers = |definition: &EventTypeDefinition, data: Value| {
        definition.validate(&data, "/data").into_iter().map(|error| error.pointer).collect::<Vec<_>>()
    };
    assert_eq!(pointers(&of(true), json!({"n": 0})), ["/data", "/data/n"]);
    assert_eq!(pointers(&of(true), json!({"n": 1, "id": 2})), [""; 0]);
    assert_eq!(pointers(&of(false), json!({"n": 0})), [""; 0]);
    assert!(of(true).checks() && !of(false).checks());
    // The number of listed errors is bounded.
    let names: Vec<_> = (0..200).map(|n| format!("f{n}")).collect();
    let wide =
        EventTypeDefinition::try_new(settings(json!({"name": "a", "schema": {"required": names}, "validate": true})));
    assert_eq!(wide.unwrap().validate(&json!({}), "/data").len(), VIOLATIONS_LISTED_MAX);
}

#[test]
fn the_warning_of_a_deprecated_type_names_its_replacement() {
    let said = |written| EventTypeDefinition::try_new(settings(written)).unwrap().deprecation();
    assert_eq!(said(json!({"name": "a"})), None);
    assert_eq!(said(json!({"name": "a", "deprecated": true})).as_deref(), Some("a is deprecated"));
    let replaced = json!({"name": "a", "deprecated": true, "replaced_by": "b"});
    assert_eq!(said(replaced).as_deref(), Some("a is deprecated: use b"));
}
