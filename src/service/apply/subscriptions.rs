//! Plans the changes that turn the subscriptions of a webhook into those that a file declares.

use serde_json::{Map, Value};

use super::{Difference, JsonObject};

/// One change. Creations come before deletions, so that no event is missed between them.
#[derive(Debug, PartialEq)]
pub(super) enum SubscriptionStep {
    /// Create a subscription. The number is its index in the file.
    Create(usize, JsonObject),
    /// Replace the subscription with this id. The number is its index in the file.
    Replace(usize, String, JsonObject),
    /// Delete the subscription with this id.
    Delete(String),
}

/// Returns the steps from the present subscriptions to the declared ones, and the differences that they make.
pub(super) fn steps(present: &[JsonObject], wanted: &[JsonObject]) -> (Vec<SubscriptionStep>, Vec<Difference>) {
    let mut left: Vec<&JsonObject> = present.iter().collect();
    let mut open = Vec::new();
    for (n, body) in wanted.iter().enumerate() {
        let wanted = normal(body);
        match left.iter().position(|there| normal(there) == wanted) {
            Some(at) => drop(left.remove(at)),
            None => open.push((n, wanted)),
        }
    }
    let (mut steps, mut differences) = (Vec::new(), Vec::new());
    let difference = |of: &Value, from: Option<&Value>, to: Option<&Value>| Difference {
        field: format!("subscription {}", of["event_type"].as_str().unwrap_or("?")),
        from: from.cloned(),
        to: to.cloned(),
    };
    for (n, wanted) in open {
        // A subscription with the same event type and resource is changed in place.
        let same =
            |there: &&JsonObject| ["event_type", "resource_id"].iter().all(|key| normal(there)[*key] == wanted[*key]);
        if let Some(at) = left.iter().position(same) {
            let there = left.remove(at);
            differences.push(difference(&wanted, Some(&normal(there)), Some(&wanted)));
            steps.push(SubscriptionStep::Replace(n, id(there), wanted_body(wanted)));
        } else {
            differences.push(difference(&wanted, None, Some(&wanted)));
            steps.push(SubscriptionStep::Create(n, wanted_body(wanted)));
        }
    }
    for there in left {
        let there_now = normal(there);
        differences.push(difference(&there_now, Some(&there_now), None));
        steps.push(SubscriptionStep::Delete(id(there)));
    }
    (steps, differences)
}

fn id(there: &JsonObject) -> String {
    there.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The fields that identify a subscription, with defaults filled in. A numeric resource id is converted to text.
fn normal(subscription: &JsonObject) -> Value {
    let mut fields = subscription.clone();
    for key in ["id", "webhook_id", "created_at", "updated_at"] {
        fields.remove(key);
    }
    fields.entry("is_active").or_insert(Value::Bool(true));
    if let Some(Value::Number(number)) = fields.get("resource_id") {
        let text = number.to_string();
        fields.insert("resource_id".to_owned(), Value::from(text));
    }
    // The API shows absent filters as an empty object. An empty table in the file means the same.
    if fields.get("filters").and_then(Value::as_object).is_some_and(Map::is_empty) {
        fields.remove("filters");
    }
    for key in ["resource_id", "filters"] {
        fields.entry(key).or_insert(Value::Null);
    }
    Value::Object(fields)
}

fn wanted_body(wanted: Value) -> JsonObject {
    let Value::Object(fields) = wanted else { return JsonObject::new() };
    fields.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unchanged_subscriptions_stay_and_removed_ones_go_last() {
        let wanted = |value: Value| value.as_object().unwrap().clone();
        let present = [
            json!({"id": "sub_1", "webhook_id": "wh_1", "event_type": "a", "resource_id": null, "is_active": true, "filters": null}),
            json!({"id": "sub_2", "event_type": "b", "resource_id": "7", "is_active": true, "filters": {"user_id": [1]}}),
            json!({"id": "sub_3", "event_type": "c", "is_active": true, "filters": {}}),
        ]
        .map(wanted);
        let same = [
            wanted(json!({"event_type": "c"})),
            wanted(json!({"event_type": "a", "is_active": true})),
            wanted(json!({"event_type": "b", "resource_id": 7, "filters": {"user_id": [1]}})),
        ];
        assert_eq!(steps(&present, &same), (Vec::new(), Vec::new()));
        let other = [wanted(json!({"event_type": "d"})), wanted(json!({"event_type": "b", "resource_id": "7"}))];
        let (made, differences) = steps(&present, &other);
        assert_eq!(
            made,
            [
                SubscriptionStep::Create(0, wanted(json!({"event_type": "d", "is_active": true}))),
                SubscriptionStep::Replace(
                    1,
                    "sub_2".into(),
                    wanted(json!({"event_type": "b", "resource_id": "7", "is_active": true}))
                ),
                SubscriptionStep::Delete("sub_1".into()),
                SubscriptionStep::Delete("sub_3".into()),
            ]
        );
        let fields: Vec<_> = differences.iter().map(|difference| &*difference.field).collect();
        assert_eq!(fields, ["subscription d", "subscription b", "subscription a", "subscription c"]);
        // Two equal subscriptions count as two.
        let twice = [wanted(json!({"event_type": "c"})), wanted(json!({"event_type": "c"}))];
        assert_eq!(steps(&present[2..], &twice).0.len(), 1);
    }
}
