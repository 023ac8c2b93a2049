//! The example request of a guide.

use serde_json::{Map, Value, json};

use super::{PARTNER, Source, example_type};

/// The event type of the example if the source has no rules.
pub(super) const EVENT_TYPE: &str = "order.created";
/// The placeholder in the text for the time of sending.
pub(super) const NOW: &str = "<now>";
/// The sender's id of the example event.
pub(super) const ID: &str = "example-1";

/// The body and the headers of an example request.
pub(super) struct ExampleRequest {
    /// The body: JSON without `'`, `` ` `` and `$`, so that it can be quoted in every language.
    pub(super) text: String,
    /// Whether the body contains [`NOW`].
    pub(super) has_now: bool,
    /// The headers in addition to those of the signature.
    pub(super) headers: Vec<(String, String)>,
}

impl ExampleRequest {
    /// Builds an example request that the source accepts, apart from the signature.
    pub(super) fn for_source(source: &Source) -> Self {
        let mut body = if source.settings.kind == PARTNER {
            json!({ "event_type": EVENT_TYPE, "id": ID, "data": { "order_id": 1017 } })
        } else {
            json!({ "type": EVENT_TYPE, "data": { "order_id": 1017 } })
        };
        if let Some(rules) = &source.rules {
            rules.fill(&mut body);
        }
        let mut headers = Vec::new();
        for place in &source.recipe.id {
            match place.to_string().split_once(':') {
                Some(("header", name)) => {
                    headers.push((name.split('|').next().unwrap_or(name).to_owned(), ID.to_owned()));
                }
                Some(("json", pointer)) => put(&mut body, pointer.split('/').skip(1), json!(ID)),
                _ => {}
            }
        }
        let text = body.to_string();
        let text = text.replace('\'', "\\u0027").replace('`', "\\u0060").replace('$', "\\u0024");
        Self { has_now: text.contains(NOW), text, headers }
    }
}

/// Sets the value at the path unless there is a value other than `null`.
pub(in crate::inbound::source) fn put<'a>(body: &mut Value, path: impl IntoIterator<Item = &'a str>, value: Value) {
    let mut place = body;
    for part in path {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(fields) = place else { return };
        place = fields.entry(part).or_insert(Value::Null);
    }
    if place.is_null() {
        *place = value;
    }
}

impl crate::inbound::source::ValidationRules {
    /// Changes the body so that it satisfies the rules, as far as possible. For a schema, its first example is used if there
    /// is one.
    fn fill(&self, body: &mut Value) {
        if let Some(example) = self.schema_example() {
            *body = example.clone();
        }
        if let Some(pattern) = self.allowed_types().and_then(<[_]>::first) {
            let field = ["event_type", "type", "event"].into_iter().find(|name| body.get(name).is_some());
            let wanted = json!(example_type(pattern));
            if let Value::Object(fields) = body {
                fields.insert(field.unwrap_or("event_type").to_owned(), wanted);
            }
        }
        for path in self.required_paths() {
            put(body, path, json!("example"));
        }
        if let Some((pointer, path)) = self.time_path() {
            if let Some(place) = body.pointer_mut(&pointer) {
                *place = Value::Null;
            }
            put(body, path, json!(NOW));
        }
    }
}
