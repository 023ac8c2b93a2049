//! The size of a JSON text as a tree of values, computed without building the tree.

use serde_json::Value;

/// The size of a JSON text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JsonSize {
    /// Values, with arrays and objects. Names are not counted.
    pub values: usize,
    /// Bytes of texts and names, as written.
    pub text_bytes: usize,
    /// About the bytes of memory of the tree of `serde_json`, in which a short object takes far more than its text.
    pub tree_bytes: usize,
}

/// Bytes of a node of the map of an object, with a part of the nodes above it.
const NODE_BYTES: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 96;
/// Members of a node that is full, and of a node that was split.
const NODE_MEMBERS: (usize, usize) = (11, 5);
/// Bytes that an allocation takes in addition to its content, at most.
const ALLOCATION_BYTES: usize = 16;
/// Elements for which the first allocation of an array has room.
const ARRAY_MIN: usize = 4;

/// An array or object that is being read.
#[derive(Clone, Copy)]
struct OpenContainer {
    is_object: bool,
    /// Members or elements so far.
    count: usize,
}

impl JsonSize {
    /// The size of a text, which must be valid JSON. For another text the result has no meaning.
    pub fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let (mut size, mut open) = (Self::default(), Vec::<OpenContainer>::new());
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b' ' | b'\n' | b'\t' | b'\r' | b',' => {}
                // The text before it was a name.
                b':' => size.values = size.values.saturating_sub(1),
                b'{' | b'[' => {
                    size.begin_value(&mut open);
                    open.push(OpenContainer { is_object: *byte == b'{', count: 0 });
                }
                b'}' | b']' => size.end_container(open.pop()),
                b'"' => {
                    let end = text_end(bytes, at + 1);
                    let is_name = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                    if is_name {
                        size.values += 1;
                    } else {
                        size.begin_value(&mut open);
                    }
                    let len = end.saturating_sub(at + 2);
                    size.text_bytes += len;
                    size.tree_bytes += len + ALLOCATION_BYTES;
                    at = end - 1;
                }
                _ => {
                    size.begin_value(&mut open);
                    let rest = bytes[at..]
                        .iter()
                        .position(|byte| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace());
                    at += rest.unwrap_or(bytes.len() - at).max(1) - 1;
                }
            }
            at += 1;
        }
        size
    }

    fn begin_value(&mut self, open: &mut [OpenContainer]) {
        self.values += 1;
        if let Some(container) = open.last_mut() {
            container.count += 1;
        }
    }

    fn end_container(&mut self, container: Option<OpenContainer>) {
        let Some(OpenContainer { is_object, count }) = container.filter(|container| container.count > 0) else {
            return;
        };
        self.tree_bytes += match is_object {
            true if count <= NODE_MEMBERS.0 => NODE_BYTES,
            true => count.div_ceil(NODE_MEMBERS.1) * NODE_BYTES,
            false => count.max(ARRAY_MIN).next_power_of_two() * size_of::<Value>(),
        };
    }
}

/// The position after the closing quote of the text that begins at `at`.
fn text_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(value: &Value) -> (usize, usize) {
        match value {
            Value::Array(items) => items.iter().map(count).fold((1, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (count(value).0, count(value).1 + serde_json::to_string(name).unwrap().len() - 2))
                .fold((1, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
            Value::String(_) => (1, value.to_string().len() - 2),
            Value::Null | Value::Bool(_) | Value::Number(_) => (1, 0),
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\é:,{}]{0,12}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
                proptest::collection::btree_map("[a-c\"\\\\é:]{0,2}", inner, 0..20)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_and_texts_are_counted(value in json(), is_pretty: bool) {
            let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let size = JsonSize::of(&text);
            prop_assert_eq!((size.values, size.text_bytes), count(&value));
        }

        #[test]
        fn no_text_panics(text in ".{0,50}", json in r#"["\[\]{}:,a1 \\]{0,30}"#) {
            let _ = (JsonSize::of(&text), JsonSize::of(&json));
        }

        /// The computed size is not less than the memory of the tree, and not far more.
        #[test]
        fn the_size_of_the_tree_is_the_memory_that_it_takes(value in json()) {
            let text = value.to_string();
            let mut tree = None;
            let used = allocation_counter::measure(|| tree = serde_json::from_str::<Value>(&text).ok());
            let size = JsonSize::of(&text).tree_bytes as i64;
            prop_assert!(size >= used.bytes_current, "{size} for {} in {text}", used.bytes_current);
            prop_assert!(size <= used.bytes_current * 4 + 64, "{size} for {} in {text}", used.bytes_current);
        }
    }

    #[test]
    fn short_objects_take_far_more_than_their_text() {
        let text = format!("[{}]", vec![r#"{"":0}"#; 1_000].join(","));
        let size = JsonSize::of(&text);
        assert_eq!((size.values, size.text_bytes), (2_001, 0));
        assert!(size.tree_bytes > 80 * text.len(), "{size:?}");
    }
}
