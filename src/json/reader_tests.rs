//! All readers find the same values in a document, whatever the grammar of JSON allows in it.

use proptest::prelude::*;
use serde_json::Value;

use super::{Document, Path, Pointer, exceeds_depth, from_slice, from_str, text};
use crate::limits::JSON_DEPTH_MAX;

/// Names and strings as written, without the quotes.
fn written() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "é",
        "\\ud83d",
        "\\udead",
        "\\uD83D\\uDE00",
        "\\u0061",
        "\\\\",
        "\\\"",
        "\\n",
        "0",
    ]);
    prop::collection::vec(part, 1..3).prop_map(|parts| parts.concat())
}

/// The text of a document with duplicate names, halves of surrogate pairs and numbers of any size.
fn document() -> impl Strategy<Value = String> {
    let number =
        prop::sample::select(vec!["0", "-0", "1.5e3", "1e400", "-1E+999", "12345678901234567890123", "1e-400"]);
    let leaf = prop_oneof![
        3 => written().prop_map(|text| format!("\"{text}\"")),
        3 => number.prop_map(str::to_owned),
        1 => prop::sample::select(vec!["null", "true", "[]", "{}"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let member = (written(), inner.clone()).prop_map(|(name, value)| format!("\"{name}\" : {value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

/// The JSON pointer of each value below `value`.
fn pointers(value: &Value, at: &str, all: &mut Vec<(String, Value)>) {
    let mut below = |name: &str, value: &Value| {
        let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        all.push((pointer.clone(), value.clone()));
        pointers(value, &pointer, all);
    };
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(n, value)| below(&n.to_string(), value)),
        Value::Object(members) => members.iter().for_each(|(name, value)| below(name, value)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn all_readers_find_the_same_values(json in document()) {
        let tree: Value = from_str(&json).unwrap();
        prop_assert_eq!(&from_slice::<Value>(json.as_bytes()).unwrap(), &tree);
        if let Ok(strict) = serde_json::from_str::<Value>(&json) {
            prop_assert_eq!(&strict, &tree);
        }
        let (mut all, mut document) = (Vec::new(), Document::new(json.as_bytes()));
        pointers(&tree, "", &mut all);
        for (pointer, value) in all {
            let found = document.find(&Path::try_new(&pointer).unwrap());
            let found = found.map(|raw| from_slice::<Value>(raw).unwrap());
            prop_assert_eq!(found.as_ref(), Some(&value), "filter path {} in {}", pointer, json);
            let found = Pointer::try_new(&pointer).unwrap().find(json.as_bytes());
            prop_assert_eq!(found.and_then(text).is_none(), value.is_null(), "text at {} in {}", pointer, json);
            let found = found.map(|raw| from_str::<Value>(raw.get()).unwrap());
            prop_assert_eq!(found.as_ref(), Some(&value), "pointer {} in {}", pointer, json);
        }
    }
}

#[test]
fn a_document_of_the_greatest_depth_is_read_also_inside_a_request() {
    for hard in ["1", r#""\ud83d""#, "1e400"] {
        let nested = |levels: usize| format!("{}{hard}{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        let data = nested(JSON_DEPTH_MAX);
        assert!(!exceeds_depth(&data, JSON_DEPTH_MAX));
        for json in [data.clone(), format!(r#"{{"event":{{"data":{data}}}}}"#), format!(r#"[{{"example":{data}}}]"#)] {
            assert!(from_str::<Value>(&json).is_ok(), "{json}");
            assert!(from_slice::<Value>(json.as_bytes()).is_ok(), "{json}");
        }
        let error = from_str::<Value>(&nested(100_000)).unwrap_err();
        assert!(error.to_string().contains("recursion limit"), "{error}");
    }
}
