//! The event type catalogue in ingest requests.

use super::*;
use crate::inbound::source::ManagedBy;
use crate::registry::catalogue::EventTypeDefinition;

fn known(settings: Value) -> Arc<EventType> {
    let definition = EventTypeDefinition::try_new(serde_json::from_value(settings).unwrap()).unwrap();
    Arc::new(EventType {
        definition: Arc::new(definition),
        tenant: None,
        managed_by: ManagedBy::File,
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
        version: 1,
    })
}

/// A strict catalogue.
pub(super) fn catalogue() -> Vec<Arc<EventType>> {
    let schema = json!({"type": "object", "required": ["id"], "properties": {"n": {"type": "integer"}}});
    vec![
        known(json!({"name": "order.created", "schema": schema, "validate": true})),
        known(json!({"name": "order.noted", "schema": schema})),
        known(json!({"name": "order.old", "deprecated": true, "replaced_by": "order.created"})),
    ]
}

fn strict() -> Served {
    Served::with(Fake { types: catalogue(), ..Fake::default() })
}

#[test]
fn an_event_with_an_unknown_type_or_invalid_data_is_refused_with_each_violation() {
    let served = strict();
    for (body, code, pointers) in [
        (json!({"type": "order.lost", "data": {}}), "unknown_event_type", &["/type"][..]),
        (json!({"type": "order.created", "data": {"n": "1"}}), "invalid_body", &["/data", "/data/n"]),
        (json!({"type": "order.created", "data": null}), "invalid_body", &["/data"]),
    ] {
        let (status, answer) = served.post(KEY, &body.to_string());
        let found: Vec<_> =
            answer["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
        assert_eq!((status, answer["code"].as_str(), &*found), (422, Some(code), pointers), "{answer}");
    }
    assert!(served.fake.stored().is_empty());
    for body in [
        json!({"type": "order.created", "data": {"id": 1, "n": 1}}),
        // Its schema is only documentation.
        json!({"type": "order.noted", "data": 7}),
    ] {
        let (status, answer) = served.post(KEY, &body.to_string());
        assert_eq!((status, answer.get("warnings")), (202, None), "{answer}");
    }
}

#[test]
fn a_deprecated_type_is_accepted_with_a_warning() {
    let served = strict();
    let warning = json!(["order.old is deprecated: use order.created"]);
    let (status, answer) = served.post(KEY, r#"{"type":"order.old","data":{}}"#);
    assert_eq!((status, &answer["warnings"], &answer["webhooks"]), (202, &warning, &json!(1)));

    let batch = r#"[{"type":"order.lost","data":1},{"type":"order.noted","data":1},{"type":"order.old","data":1},
        {"type":"order.created","data":{}}]"#;
    let (status, answer) = served.post(KEY, batch);
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (202, &json!(2), &json!(2)), "{answer}");
    let events = answer["events"].as_array().unwrap();
    let error = |n: usize| (events[n]["error"]["code"].as_str(), events[n]["error"]["errors"][0]["pointer"].as_str());
    assert_eq!(error(0), (Some("unknown_event_type"), Some("/0/type")));
    assert_eq!(error(3), (Some("invalid_body"), Some("/3/data")));
    assert_eq!((events[1].get("warnings"), &events[2]["warnings"]), (None, &warning));
}
