//! Converts forms (`application/x-www-form-urlencoded`, `multipart/form-data`) and queries to JSON objects.

use std::borrow::Cow;
use std::collections::HashMap;

use data_encoding::HEXLOWER;
use ring::digest;
use url::form_urlencoded;

use super::{ContentKind, Source};
use crate::limits::FORM_FIELDS_MAX;
use crate::signature::{MultipartField, RequestParts};

impl Source {
    /// The JSON in the field of a form that is read as the body (`payload=` of GitHub and Slack). `None` if the kind has no
    /// such field, or the field has no JSON object or array.
    pub fn json_in_form<'a>(&self, request: &RequestParts<'a>, content: ContentKind) -> Option<Cow<'a, str>> {
        let is_form = matches!(content, ContentKind::Form | ContentKind::Multipart);
        let location = self.recipe.form_json.as_ref().filter(|_| is_form)?;
        let text = location.read(request).ok().flatten()?;
        text.trim_start().starts_with(['{', '[']).then_some(text)
    }
}

/// Converts an urlencoded form to a JSON object, with the fields in the order of their first occurrence. A field that occurs
/// more than once becomes an array of its values. Invalid percent encodings are kept, and invalid UTF-8 becomes U+FFFD (WHATWG
/// URL, section 5.1). Returns `None` if the body has more than [`FORM_FIELDS_MAX`] fields, which no provider sends.
pub fn form_object(body: &[u8]) -> Option<String> {
    let mut object = FormObject::default();
    for (count, (name, value)) in form_urlencoded::parse(body).enumerate() {
        if count == FORM_FIELDS_MAX {
            return None;
        }
        object.add(name, FormValue::Text(value));
    }
    Some(object.text(body.len()))
}

/// Converts the fields of a multipart form to a JSON object, as [`form_object`] does. A file becomes an object with its
/// `name`, `content_type`, `size` in bytes and `sha256`; its content is not kept.
pub(super) fn multipart_object(fields: Vec<MultipartField<'_>>) -> String {
    let mut object = FormObject::default();
    let mut bytes = 0;
    for field in fields {
        let value = match field.file_name {
            None => FormValue::Text(String::from_utf8_lossy(field.content)),
            Some(name) => FormValue::File(file_json(&name, field.content_type, field.content)),
        };
        bytes += value.bytes();
        object.add(field.name, value);
    }
    object.text(bytes)
}

/// The parameters of a query as a JSON object, without those with these names. Returns `None` for too many parameters.
pub(super) fn query_object(query: &str, without: &[&str]) -> Option<String> {
    let mut object = FormObject::default();
    for (count, (name, value)) in form_urlencoded::parse(query.as_bytes()).enumerate() {
        if count == FORM_FIELDS_MAX {
            return None;
        }
        if !without.contains(&&*name) {
            object.add(name, FormValue::Text(value));
        }
    }
    Some(object.text(query.len()))
}

fn file_json(name: &str, content_type: Option<&str>, content: &[u8]) -> String {
    let mut text = String::from("{\"name\":");
    push_json_string(&mut text, name);
    text.push_str(",\"content_type\":");
    match content_type {
        Some(content_type) => push_json_string(&mut text, content_type),
        None => text.push_str("null"),
    }
    let digest = HEXLOWER.encode(digest::digest(&digest::SHA256, content).as_ref());
    text.push_str(&format!(",\"size\":{},\"sha256\":\"{digest}\"}}", content.len()));
    text
}

/// The value of a field.
enum FormValue<'a> {
    Text(Cow<'a, str>),
    /// The JSON of a file.
    File(String),
}

impl FormValue<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::File(json) => json.len(),
        }
    }

    fn push(&self, to: &mut String) {
        match self {
            Self::Text(text) => push_json_string(to, text),
            Self::File(json) => to.push_str(json),
        }
    }
}

/// The fields of a form, with all values of a name.
#[derive(Default)]
struct FormObject<'a> {
    slots: HashMap<Cow<'a, str>, usize>,
    fields: Vec<(Cow<'a, str>, Vec<FormValue<'a>>)>,
}

impl<'a> FormObject<'a> {
    fn add(&mut self, name: Cow<'a, str>, value: FormValue<'a>) {
        if let Some(&slot) = self.slots.get(&name) {
            self.fields[slot].1.push(value);
        } else {
            self.slots.insert(name.clone(), self.fields.len());
            self.fields.push((name, vec![value]));
        }
    }

    /// The JSON text. `bytes` is the expected length of names and values.
    fn text(&self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 16 * self.fields.len() + 2);
        text.push('{');
        for (slot, (name, values)) in self.fields.iter().enumerate() {
            if slot > 0 {
                text.push(',');
            }
            push_json_string(&mut text, name);
            text.push(':');
            match values.as_slice() {
                [one] => one.push(&mut text),
                many => {
                    text.push('[');
                    for (index, value) in many.iter().enumerate() {
                        if index > 0 {
                            text.push(',');
                        }
                        value.push(&mut text);
                    }
                    text.push(']');
                }
            }
        }
        text.push('}');
        text
    }
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

    #[test]
    fn a_file_becomes_its_name_type_size_and_digest() {
        let field = |name: &'static str, file: Option<&'static str>, content: &'static [u8]| MultipartField {
            name: name.into(),
            file_name: file.map(Into::into),
            content_type: file.map(|_| "image/png"),
            content,
        };
        let object = multipart_object(vec![
            field("subject", None, b"hi \"you\""),
            field("attachment", Some("a.png"), b"abc"),
            field("subject", None, b"\xff"),
        ]);
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let file = format!("{{\"name\":\"a.png\",\"content_type\":\"image/png\",\"size\":3,\"sha256\":\"{digest}\"}}");
        assert_eq!(object, format!("{{\"subject\":[\"hi \\\"you\\\"\",\"\u{fffd}\"],\"attachment\":{file}}}"));
        assert_eq!(query_object("a=1&token=x&a=2", &["token"]).as_deref(), Some("{\"a\":[\"1\",\"2\"]}"));
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
