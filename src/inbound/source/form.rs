//! Converts a form (`application/x-www-form-urlencoded`) to a JSON object.

use std::borrow::Cow;
use std::collections::HashMap;

use url::form_urlencoded;

use crate::limits::FORM_FIELDS_MAX;

/// Converts a form to a JSON object, with the fields in the order of their first occurrence. A field that occurs more than
/// once becomes an array of its values. Invalid percent encodings are kept, and invalid UTF-8 becomes U+FFFD (WHATWG URL,
/// section 5.1). Returns `None` if the body has more than [`FORM_FIELDS_MAX`] fields, which no provider sends.
pub fn form_object(body: &[u8]) -> Option<String> {
    let mut slots: HashMap<Cow<'_, str>, usize> = HashMap::new();
    let mut fields: Vec<(Cow<'_, str>, Vec<Cow<'_, str>>)> = Vec::new();
    for (count, (name, value)) in form_urlencoded::parse(body).enumerate() {
        if count == FORM_FIELDS_MAX {
            return None;
        }
        if let Some(&slot) = slots.get(&name) {
            fields[slot].1.push(value);
        } else {
            slots.insert(name.clone(), fields.len());
            fields.push((name, vec![value]));
        }
    }
    let mut text = String::with_capacity(body.len() + 16 * fields.len() + 2);
    text.push('{');
    for (slot, (name, values)) in fields.iter().enumerate() {
        if slot > 0 {
            text.push(',');
        }
        push_json_string(&mut text, name);
        text.push(':');
        match values.as_slice() {
            [one] => push_json_string(&mut text, one),
            many => {
                text.push('[');
                for (index, value) in many.iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    push_json_string(&mut text, value);
                }
                text.push(']');
            }
        }
    }
    text.push('}');
    Some(text)
}

/// Appends the text as a JSON string.
pub(super) fn push_json_string(to: &mut String, text: &str) {
    // Most texts need no escapes and are appended without an allocation.
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        to.push('"');
        to.push_str(text);
        to.push('"');
    } else {
        // Serializing text as JSON cannot fail.
        to.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_form_becomes_an_object_in_the_order_of_its_fields() {
        for (form, json) in [
            ("", "{}"),
            ("b=1&a=2", r#"{"b":"1","a":"2"}"#),
            ("a=1&b=2&a=3&a=", r#"{"a":["1","3",""],"b":"2"}"#),
            ("text=a+b%20c%2B&plus=%2b", r#"{"text":"a b c+","plus":"+"}"#),
            ("alone&=nameless&&x=", r#"{"alone":"","":"nameless","x":""}"#),
            ("a=b=c&q=100%&h=%zz", r#"{"a":"b=c","q":"100%","h":"%zz"}"#),
            ("payload=%7B%22a%22%3A%22%5C%22%22%7D", r#"{"payload":"{\"a\":\"\\\"\"}"}"#),
            ("u=%C3%BC&bad=%FF&nul=%00", "{\"u\":\"ü\",\"bad\":\"\u{fffd}\",\"nul\":\"\\u0000\"}"),
        ] {
            assert_eq!(form_object(form.as_bytes()).as_deref(), Some(json), "{form}");
        }
    }

    #[test]
    fn a_form_with_too_many_fields_is_rejected() {
        let form = |fields: usize| vec!["a"; fields].join("&");
        assert!(form_object(form(FORM_FIELDS_MAX).as_bytes()).is_some());
        assert_eq!(form_object(form(FORM_FIELDS_MAX + 1).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn no_value_is_lost(pairs in proptest::collection::vec(("[a-c]{0,2}", ".{0,8}"), 0..20)) {
            let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            let object: Value = serde_json::from_str(&form_object(form.as_bytes()).unwrap()).unwrap();
            for (name, _) in &pairs {
                let sent: Vec<&str> = pairs.iter().filter(|(other, _)| other == name).map(|(_, v)| v.as_str()).collect();
                let got: Vec<&str> = match &object[name] {
                    Value::Array(values) => values.iter().map(|value| value.as_str().unwrap()).collect(),
                    value => vec![value.as_str().unwrap()],
                };
                prop_assert_eq!(got, sent);
            }
        }

        #[test]
        fn any_body_becomes_an_object(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let object: Value = serde_json::from_str(&form_object(&body).unwrap()).unwrap();
            prop_assert!(object.is_object());
        }
    }
}
