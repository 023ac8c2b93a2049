//! An event to try a source with.

use serde_json::{Map, Value, json};

use super::{PARTNER, Source, of_pattern};

/// Of an event of a source without rules.
pub(super) const EVENT_TYPE: &str = "order.created";
/// Stands in the text for the time at which it is sent.
pub(super) const NOW: &str = "<now>";
/// The sender's own id.
pub(super) const ID: &str = "example-1";

/// A body, with what else a request of it has.
pub(super) struct Sample {
    /// JSON in which no `'`, `` ` `` and `$` stands, so that it can stand between quotes of every kind.
    pub(super) text: String,
    /// Whether [`NOW`] stands in it.
    pub(super) has_now: bool,
    /// Headers that its rules want beside those of the signature.
    pub(super) headers: Vec<(String, String)>,
}

impl Sample {
    pub(super) fn of(source: &Source) -> Self {
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

/// Puts a value there unless one is there already.
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

impl crate::inbound::source::Rules {
    /// Makes an event keep these rules, as far as that can be told: what a schema wants is in its first example, if it has
    /// one.
    fn fill(&self, body: &mut Value) {
        if let Some(example) = self.schema_example() {
            *body = example.clone();
        }
        if let Some(pattern) = self.allowed_types().and_then(<[_]>::first) {
            let field = ["event_type", "type", "event"].into_iter().find(|name| body.get(name).is_some());
            let wanted = json!(of_pattern(pattern));
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
