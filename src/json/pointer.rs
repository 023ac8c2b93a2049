//! JSON pointers (RFC 6901): a single pointer, or a set that is evaluated in one pass over the text.

use std::fmt;
use std::str::FromStr;

use serde_json::value::RawValue;

use super::extract;
use crate::limits::JSON_DEPTH_MAX;

/// A valid JSON pointer: empty, or a `/` before each token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pointer {
    text: Box<str>,
    root: PointerNode,
}

/// The text is not a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a JSON pointer is empty or begins with \"/\"; ~ stands only before 0 or 1; at most {JSON_DEPTH_MAX} names")]
pub struct PointerError;

/// A node of the tree of pointers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct PointerNode {
    /// The reference token of this node, unescaped.
    pub(super) token: Box<str>,
    /// The token as an array index, if it is one.
    pub(super) index: Option<usize>,
    /// The slot for the value, if a pointer ends here.
    pub(super) slot: Option<usize>,
    pub(super) children: Vec<PointerNode>,
}

impl PointerNode {
    /// An array index has no leading zeros (RFC 6901 section 4).
    fn new(token: &str) -> Self {
        let digits = token.bytes().all(|b| b.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
        let index = if digits { token.parse().ok() } else { None };
        Self { token: token.into(), index, ..Self::default() }
    }

    fn child(&mut self, token: &str) -> &mut Self {
        let at = self.children.iter().position(|child| &*child.token == token).unwrap_or_else(|| {
            self.children.push(Self::new(token));
            self.children.len() - 1
        });
        &mut self.children[at]
    }

    /// The node at which the pointer ends. Missing nodes are created.
    fn end(&mut self, pointer: &str) -> Result<&mut Self, PointerError> {
        let Some(tokens) = pointer.strip_prefix('/') else {
            return if pointer.is_empty() { Ok(self) } else { Err(PointerError) };
        };
        // No accepted JSON is nested deeper. The bound also limits the recursion that drops the tree.
        if tokens.split('/').count() > JSON_DEPTH_MAX {
            return Err(PointerError);
        }
        tokens.split('/').try_fold(self, |node, token| Ok(node.child(&unescape(token)?)))
    }
}

pub(super) fn unescape(token: &str) -> Result<String, PointerError> {
    let mut parts = token.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (escaped, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', &part[1..]),
            Some(b'1') => ('/', &part[1..]),
            _ => return Err(PointerError),
        };
        text.push(escaped);
        text.push_str(rest);
    }
    Ok(text)
}

impl Pointer {
    /// Parses a JSON pointer.
    ///
    /// # Errors
    /// If the text is not a JSON pointer, or has more tokens than the maximum depth of JSON.
    pub fn try_new(text: &str) -> Result<Self, PointerError> {
        let mut root = PointerNode::default();
        root.end(text)?.slot = Some(0);
        Ok(Self { text: text.into(), root })
    }

    /// The pointer as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Splits the pointer at its first array index: the pointer to the array, and the pointer from the array's element to the
    /// value. Returns `None` if no token is an index.
    pub fn split_at_index(&self) -> Option<(Self, Self)> {
        let is_index = |token: &str| PointerNode::new(token).index.is_some();
        let starts = self.text.match_indices('/').map(|(at, _)| at);
        starts
            .filter_map(|at| Some((at, self.text[at + 1..].split('/').next()?)))
            .find(|(_, token)| is_index(token))
            .and_then(|(at, token)| {
                let (array, rest) = (&self.text[..at], &self.text[at + 1 + token.len()..]);
                Some((Self::try_new(array).ok()?, Self::try_new(rest).ok()?))
            })
    }

    /// The last token, unescaped. Returns `None` for the empty pointer, which selects the whole document.
    pub(super) fn last_token(&self) -> Option<String> {
        self.text.rsplit_once('/').and_then(|(_, token)| unescape(token).ok())
    }

    /// The value at this pointer, as written in the body. Returns `None` if there is none or the body is not one JSON value
    /// in UTF-8.
    pub fn find<'a>(&self, body: &'a [u8]) -> Option<&'a RawValue> {
        let mut values = [None];
        extract::read(&self.root, body, &mut values)?;
        values[0]
    }
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        Self::try_new(text)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A set of pointers whose values are found in one pass.
#[derive(Debug, Clone, Default)]
pub struct PointerSet {
    root: PointerNode,
    slots: usize,
}

/// The values found by [`PointerSet::read`], by the slots that [`PointerSet::add`] returned.
#[derive(Debug, Clone, Default)]
pub struct PointerValues<'a> {
    text: &'a str,
    values: Vec<Option<&'a RawValue>>,
}

impl PointerSet {
    /// Adds a pointer and returns the slot of its value in [`PointerValues`]. The same pointer always has the same slot.
    pub fn add(&mut self, pointer: &Pointer) -> usize {
        let fresh = self.slots;
        // Cannot fail: the text was validated when the pointer was created.
        let Ok(node) = self.root.end(pointer.as_str()) else { return fresh };
        let slot = *node.slot.get_or_insert(fresh);
        self.slots = self.slots.max(slot + 1);
        slot
    }

    /// Reads the values from the body in one pass. Returns `None` if the body is not one JSON value in UTF-8.
    ///
    /// The containers that a pointer descends through may be nested 127 levels deep. Selected and skipped values are read
    /// without recursion, so their depth is not limited.
    pub fn read<'a>(&self, body: &'a [u8]) -> Option<PointerValues<'a>> {
        let mut values = vec![None; self.slots];
        let text = extract::read(&self.root, body, &mut values)?;
        Some(PointerValues { text, values })
    }
}

impl<'a> PointerValues<'a> {
    /// The whole body as text. The text is valid JSON.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The value of the slot, as written in the body. Returns `None` if the body has no such value.
    pub fn raw(&self, slot: usize) -> Option<&'a RawValue> {
        self.values.get(slot).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::text;
    use super::*;

    fn found(body: &str, pointer: &str) -> Option<String> {
        Pointer::try_new(pointer).unwrap().find(body.as_bytes()).map(|raw| raw.get().to_owned())
    }

    #[test]
    fn the_examples_of_rfc_6901() {
        let body = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        for (pointer, value) in [
            ("", body),
            ("/foo", r#"["bar","baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            assert_eq!(found(body, pointer).as_deref(), Some(value), "{pointer:?}");
        }
    }

    #[test]
    fn a_pointer_is_split_at_its_first_index() {
        for (pointer, parts) in [
            ("/a/0/b/1/c", Some(("/a", "/b/1/c"))),
            ("/0/id", Some(("", "/id"))),
            ("/a~1b/12", Some(("/a~1b", ""))),
            ("/a/00/b", None),
            ("/a/b", None),
            ("/", None),
            ("", None),
        ] {
            let split = Pointer::try_new(pointer).unwrap().split_at_index();
            let split = split.as_ref().map(|(array, rest)| (array.as_str(), rest.as_str()));
            assert_eq!(split, parts, "{pointer}");
        }
    }

    #[test]
    fn invalid_pointers_are_rejected() {
        for text in ["a", "a/b", "/~", "/~2", "/a~", "#/a", " "] {
            assert_eq!(Pointer::try_new(text), Err(PointerError), "{text:?}");
        }
    }

    #[test]
    fn array_indexes_have_no_leading_zeros_but_names_may() {
        assert_eq!(found("[1,2]", "/01"), None);
        assert_eq!(found("[1,2]", "/+1"), None);
        assert_eq!(found("[1,2]", "/-"), None);
        assert_eq!(found("[1,2]", "/2"), None);
        assert_eq!(found("[1,2]", "/99999999999999999999999"), None);
        assert_eq!(found(r#"{"01":1,"-":2}"#, "/01").as_deref(), Some("1"));
        assert_eq!(found(r#"{"01":1,"-":2}"#, "/-").as_deref(), Some("2"));
    }

    #[test]
    fn the_last_member_with_a_name_wins() {
        assert_eq!(found(r#"{"a":1,"a":2}"#, "/a").as_deref(), Some("2"));
        assert_eq!(found(r#"{"a":{"b":1},"a":{"c":2}}"#, "/a/b"), None);
        assert_eq!(found(r#"{"a":{"b":1},"a":5}"#, "/a/b"), None);
        assert_eq!(found(r#"{"a":1,"\u0061":2}"#, "/a").as_deref(), Some("2"));
    }

    #[test]
    fn a_value_and_what_is_in_it_are_found_in_one_pass() {
        let mut set = PointerSet::default();
        let slots = ["", "/a", "/a/b", "/a/b/1", "/x"].map(|text| set.add(&Pointer::try_new(text).unwrap()));
        assert_eq!(set.add(&Pointer::try_new("/a/b").unwrap()), slots[2]);
        let body = br#" {"x":null, "a" : {"b" : [1, "two"]}} "#;
        let found = set.read(body).unwrap();
        let values = slots.map(|slot| found.raw(slot).unwrap().get());
        assert_eq!(
            values,
            [r#"{"x":null, "a" : {"b" : [1, "two"]}}"#, r#"{"b" : [1, "two"]}"#, r#"[1, "two"]"#, r#""two""#, "null"]
        );
        assert!(found.raw(99).is_none());
    }

    #[test]
    fn a_body_that_is_not_one_json_value_has_no_values() {
        let mut set = PointerSet::default();
        set.add(&Pointer::try_new("/a").unwrap());
        for body in ["", " ", r#"{"a":1"#, r#"{"a":1}}"#, r#"{"a":1} 2"#, r#"{"a":01}"#, "nul", r#"{"a":1,}"#, "[1 2]"]
        {
            assert!(set.read(body.as_bytes()).is_none(), "{body}");
            assert!(PointerSet::default().read(body.as_bytes()).is_none(), "{body}");
        }
        assert!(set.read(b"{\"a\":\"\xff\"}").is_none());
        assert!(set.read(b"{\"b\":\"\xff\"}").is_none());
        assert!(set.read(b"5").unwrap().raw(0).is_none());
    }

    #[test]
    fn deep_nesting_uses_no_stack() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let pointer = "/0".repeat(128);
        assert_eq!(Pointer::try_new(&"/0".repeat(200_000)), Err(PointerError));
        assert!(Pointer::try_new("/a").unwrap().find(format!("{{\"b\":{deep},\"a\":1}}").as_bytes()).is_some());
        assert!(Pointer::try_new("/a").unwrap().find(format!("{{\"a\":{deep}}}").as_bytes()).is_some());
        let mut both = PointerSet::default();
        both.add(&Pointer::try_new(&pointer).unwrap());
        assert!(both.read(deep.as_bytes()).is_none(), "through more than 127 levels leads no pointer");
        let hundred = format!("{}7{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(found(&hundred, &pointer[..200]).as_deref(), Some("7"));
    }

    #[test]
    fn values_are_converted_to_text() {
        let says =
            |raw: &str| text(&serde_json::from_str::<Box<RawValue>>(raw).unwrap()).map(std::borrow::Cow::into_owned);
        assert_eq!(says(r#""a\u00e9\n\/""#).as_deref(), Some("aé\n/"));
        assert_eq!(says("1.50").as_deref(), Some("1.50"));
        assert_eq!(says("true").as_deref(), Some("true"));
        assert_eq!(says("null"), None);
        assert_eq!(says(r#""null""#).as_deref(), Some("null"));
        assert_eq!(says(r#""a\ud800""#).as_deref(), Some("a\u{fffd}"));
        assert_eq!(says("[1, 2]").as_deref(), Some("[1, 2]"));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c~/\"\\\\é\n]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-b0-2~/\"é]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Every pointer that selects a value, and a few that select nothing.
    fn pointers(value: &Value, at: &str, into: &mut Vec<String>) {
        into.push(at.to_owned());
        into.push(format!("{at}/a"));
        into.push(format!("{at}/0"));
        match value {
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, item)| pointers(item, &format!("{at}/{i}"), into));
            }
            Value::Object(map) => map.iter().for_each(|(name, item)| {
                pointers(item, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), into);
            }),
            _ => (),
        }
    }

    proptest! {
        #[test]
        fn a_set_finds_the_same_values_as_a_parsed_tree(
            value in values(), pretty in any::<bool>(),
            chosen in proptest::collection::vec(any::<proptest::sample::Index>(), 1..12),
        ) {
            let body = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let mut all = Vec::new();
            pointers(&value, "", &mut all);
            let mut set = PointerSet::default();
            let asked: Vec<_> = chosen.iter().map(|i| i.get(&all)).map(|text| (text, set.add(&Pointer::try_new(text).unwrap()))).collect();
            let found = set.read(body.as_bytes()).unwrap();
            for (text, slot) in asked {
                let there = found.raw(slot).map(|raw| serde_json::from_str::<Value>(raw.get()).unwrap());
                prop_assert_eq!(there.as_ref(), value.pointer(text), "{} in {}", text, body);
                let alone = Pointer::try_new(text).unwrap().find(body.as_bytes()).map(RawValue::get);
                prop_assert_eq!(alone, found.raw(slot).map(RawValue::get));
            }
        }

        #[test]
        fn nothing_panics(body in proptest::collection::vec(any::<u8>(), 0..60), pointer in ".{0,20}") {
            let mut set = PointerSet::default();
            set.add(&Pointer::try_new("/a/0").unwrap());
            if let Ok(pointer) = Pointer::try_new(&pointer) { set.add(&pointer); }
            let _ = set.read(&body);
        }
    }
}
