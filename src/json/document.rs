//! JSON text with fast repeated lookups by path.
//!
//! The first lookup in an object or array stores the positions of its members. Later lookups, for other rules or other
//! webhooks, use these positions and do not read the text again. Values that are not requested are skipped, once.

use super::pointer::unescape;
use super::scan::{ByteSpan, root_span, visit_children};
use crate::limits::{DOCUMENT_MEMBERS_MAX, FILTER_PATH_BYTES_MAX, FILTER_PATH_SEGMENTS_MAX};

/// Objects with at most this many members are searched linearly. Larger objects are sorted by name first.
const UNSORTED_MAX: usize = 32;
/// Units of work of a step of a path, without the members that are compared.
const STEP_WORK: u64 = 2;
/// Members whose names are compared in one unit of work.
const MEMBERS_PER_UNIT: u64 = 4;
/// Bytes of a container that are skipped in one unit of work.
const SKIPPED_BYTES_PER_UNIT: u64 = 16;
/// Units of work to index a member.
const MEMBER_WORK: u64 = 4;
/// Units of work to sort a member of a large object.
const SORTED_MEMBER_WORK: u64 = 16;
/// An index that is out of range for members and for containers.
const NO_CONTAINER: u32 = u32::MAX;

/// The path of a value: `customer.address.city`, `items.0.sku`, or a JSON pointer for names that contain dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Box<[PathStep]>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct PathStep {
    name: Box<str>,
    /// The name as an array index, if it is one.
    index: Option<usize>,
}

/// The text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a path such as \"customer.city\" or \"items.0.sku\", or a JSON pointer such as \"/a.b/c\": at most \
     {FILTER_PATH_SEGMENTS_MAX} names, none empty, and {FILTER_PATH_BYTES_MAX} bytes"
)]
pub struct PathError;

impl Path {
    /// Parses a path. Text that begins with `/` is a JSON pointer (RFC 6901).
    ///
    /// # Errors
    /// If a name is empty, or the path is too long or has too many names.
    pub fn try_new(text: &str) -> Result<Self, PathError> {
        if text.len() > FILTER_PATH_BYTES_MAX {
            return Err(PathError);
        }
        let names: Vec<String> = match text.strip_prefix('/') {
            Some(tokens) => tokens.split('/').map(unescape).collect::<Result<_, _>>().map_err(|_| PathError)?,
            None => text.split('.').map(str::to_owned).collect(),
        };
        if names.len() > FILTER_PATH_SEGMENTS_MAX || names.iter().any(String::is_empty) {
            return Err(PathError);
        }
        Ok(Self(names.iter().map(|name| PathStep::new(name)).collect()))
    }

    /// This path with `name` in front: the same value below a member with this name.
    #[must_use]
    pub fn prefixed_with(&self, name: &str) -> Self {
        Self(std::iter::once(PathStep::new(name)).chain(self.0.iter().cloned()).collect())
    }

    /// The first name and the rest of the path. The rest is `None` if the path has only one name.
    pub fn split_first(&self) -> (&str, Option<Self>) {
        match &*self.0 {
            [first, rest @ ..] => (&first.name, (!rest.is_empty()).then(|| Self(rest.into()))),
            [] => ("", None),
        }
    }
}

impl PathStep {
    /// An array index has no leading zeros (RFC 6901 section 4).
    fn new(name: &str) -> Self {
        let digits = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
        Self { name: name.into(), index: if digits { name.parse().ok() } else { None } }
    }
}

/// A lookup would need more work than is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lookup needs more work than is left")]
pub struct LookupTooLong;

/// A JSON document with an index of the objects and arrays that were searched before. The text must be validated JSON; in
/// other text, lookups find nothing or a wrong range of bytes.
#[derive(Debug, Clone)]
pub struct Document<'a> {
    text: &'a [u8],
    root: Option<ByteSpan>,
    /// The index of the root's container.
    inside: u32,
    containers: Vec<Container>,
    members: Vec<Member>,
    /// The unescaped form of member names that contain escapes.
    unescaped: String,
}

/// An indexed object or array: a range of [`Document::members`].
#[derive(Debug, Clone, Copy)]
struct Container {
    first: u32,
    len: u32,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    name: ByteSpan,
    value: ByteSpan,
    /// The index of the value's container, once the value was searched.
    inside: u32,
    /// Whether the name is stored in [`Document::unescaped`] and not in the text.
    is_unescaped: bool,
}

impl<'a> Document<'a> {
    /// A document over the text. The text is not read before the first lookup.
    pub fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            root: None,
            inside: NO_CONTAINER,
            containers: Vec::new(),
            members: Vec::new(),
            unescaped: String::new(),
        }
    }

    /// The value at the path, as written in the text. If a member name occurs twice, the last one wins.
    pub fn find(&mut self, path: &Path) -> Option<&'a [u8]> {
        self.find_within(path, &mut u64::MAX.clone()).ok().flatten()
    }

    /// The value at the path, as for [`Self::find`]. Subtracts the work of the lookup from `left`, in units of a few
    /// nanoseconds.
    ///
    /// # Errors
    /// [`LookupTooLong`] if more work is needed than is left. The part of the index that was built so far is kept.
    pub fn find_within(&mut self, path: &Path, left: &mut u64) -> Result<Option<&'a [u8]>, LookupTooLong> {
        if self.root.is_none() {
            self.root = root_span(self.text);
        }
        let Some(mut value) = self.root else { return Ok(None) };
        // The index of the member that holds `value`, or `NO_CONTAINER` for the root. `None`: the value is not indexed.
        let mut owner = Some(NO_CONTAINER);
        for step in &path.0 {
            let inside = match owner {
                Some(owner) => self.index_container(owner, value, left)?,
                None => None,
            };
            let next = if let Some(container) = inside {
                spend(left, STEP_WORK + u64::from(container.len).min(UNSORTED_MAX as u64) / MEMBERS_PER_UNIT)?;
                self.member(container, step, value).map(|at| (self.members[at].value, Some(at as u32)))
            } else {
                if is_container(value.of(self.text)) {
                    spend(left, value.len())?;
                }
                search(self.text, value, step).map(|value| (value, None))
            };
            let Some(next) = next else { return Ok(None) };
            (value, owner) = next;
        }
        Ok(Some(value.of(self.text)))
    }

    /// The container of the value, indexed now if it was not before. Returns `None` if the value is not an object or array,
    /// or the index is full.
    fn index_container(
        &mut self,
        owner: u32,
        value: ByteSpan,
        left: &mut u64,
    ) -> Result<Option<Container>, LookupTooLong> {
        let known = self.members.get(owner as usize).map_or(self.inside, |member| member.inside);
        if let Some(container) = self.containers.get(known as usize) {
            return Ok(Some(*container));
        }
        let text = self.text;
        if !is_container(value.of(text)) {
            return Ok(None);
        }
        spend(left, value.len() / SKIPPED_BYTES_PER_UNIT)?;
        let first = self.members.len();
        if first == 0 {
            self.members.reserve(UNSORTED_MAX);
        }
        let (mut is_object, mut fits, mut is_paid) = (false, true, true);
        let read = visit_children(text, value, |name, value| {
            is_paid = spend(left, MEMBER_WORK).is_ok();
            fits = is_paid && self.members.len() < DOCUMENT_MEMBERS_MAX;
            is_object = name.is_some();
            if fits && let Some(member) = self.read(name, value) {
                self.members.push(member);
            }
            fits
        });
        if !fits || read.is_none() {
            self.members.truncate(first);
            return if is_paid { Ok(None) } else { Err(LookupTooLong) };
        }
        let container = Container { first: first as u32, len: (self.members.len() - first) as u32 };
        if is_object && container.len as usize > UNSORTED_MAX {
            if spend(left, SORTED_MEMBER_WORK * u64::from(container.len)).is_err() {
                self.members.truncate(first);
                return Err(LookupTooLong);
            }
            let unescaped = &self.unescaped;
            self.members[first..].sort_unstable_by_key(|member| (member.name(text, unescaped), member.value.start));
        }
        let no = self.containers.len() as u32;
        self.containers.push(container);
        match self.members.get_mut(owner as usize) {
            Some(member) => member.inside = no,
            None => self.inside = no,
        }
        Ok(Some(container))
    }

    /// The index entry of a member. Returns `None` if its name has no UTF-8 form (half of a surrogate pair).
    fn read(&mut self, name: Option<super::scan::MemberName>, value: ByteSpan) -> Option<Member> {
        let here = ByteSpan { start: 0, end: 0 };
        let mut member =
            Member { name: name.map_or(here, |name| name.span), value, inside: NO_CONTAINER, is_unescaped: false };
        if let Some(name) = name.filter(|name| name.is_escaped) {
            let start = self.unescaped.len();
            self.unescaped.push_str(&unescape_name(self.text, name.span)?);
            member.name = ByteSpan { start: start as u32, end: self.unescaped.len() as u32 };
            member.is_unescaped = true;
        }
        Some(member)
    }

    /// The index of the member that the step selects.
    fn member(&self, container: Container, step: &PathStep, value: ByteSpan) -> Option<usize> {
        let first = container.first as usize;
        let members = self.members.get(first..first + container.len as usize)?;
        let name = step.name.as_bytes();
        let named = |member: &Member| member.name(self.text, &self.unescaped);
        let at = if value.of(self.text).first() == Some(&b'[') {
            step.index.filter(|index| *index < members.len())?
        } else if members.len() > UNSORTED_MAX {
            let end = members.partition_point(|member| named(member) <= name);
            end.checked_sub(1).filter(|at| named(&members[*at]) == name)?
        } else {
            members.iter().rposition(|member| named(member) == name)?
        };
        Some(first + at)
    }
}

impl Member {
    fn name<'t>(&self, text: &'t [u8], unescaped: &'t str) -> &'t [u8] {
        self.name.of(if self.is_unescaped { unescaped.as_bytes() } else { text })
    }
}

fn is_container(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'{' | b'['))
}

fn spend(left: &mut u64, work: u64) -> Result<(), LookupTooLong> {
    *left = left.checked_sub(work).ok_or(LookupTooLong)?;
    Ok(())
}

/// Searches for one step without the index.
fn search(text: &[u8], value: ByteSpan, step: &PathStep) -> Option<ByteSpan> {
    let mut found = None;
    match value.of(text).first()? {
        b'{' => visit_children(text, value, |name, value| {
            let is_it = name.is_some_and(|name| {
                let written = name.span.of(text);
                if name.is_escaped {
                    unescape_name(text, name.span).is_some_and(|name| *name == *step.name)
                } else {
                    written == step.name.as_bytes()
                }
            });
            if is_it {
                found = Some(value);
            }
            true
        })?,
        b'[' => {
            let wanted = step.index?;
            let mut index = 0;
            visit_children(text, value, |_, value| {
                found = (index == wanted).then_some(value);
                index += 1;
                found.is_none()
            })?;
        }
        _ => {}
    }
    found
}

/// Unescapes a member name.
fn unescape_name(text: &[u8], name: ByteSpan) -> Option<String> {
    let quoted = ByteSpan { start: name.start.checked_sub(1)?, end: name.end.checked_add(1)? };
    super::from_slice(quoted.of(text)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn found<'a>(document: &mut Document<'a>, path: &str) -> Option<&'a str> {
        document.find(&Path::try_new(path).unwrap()).map(|raw| std::str::from_utf8(raw).unwrap())
    }

    #[test]
    fn a_path_finds_its_value() {
        let text =
            r#" { "a" : {"b":[10, {"c":"x\"y"}, [ ]], "" : 0}, "a.b":2, "n":null, "tw\u006f":2, "a/b":[true] } "#;
        for (path, wanted) in [
            ("a.b", Some(r#"[10, {"c":"x\"y"}, [ ]]"#)),
            ("a.b.0", Some("10")),
            ("a.b.1.c", Some(r#""x\"y""#)),
            ("a.b.2", Some("[ ]")),
            ("a.b.3", None),
            ("a.b.01", None),
            ("a.b.2.0", None),
            ("a.b.c", None),
            ("a.b.99999999999999999999999", None),
            ("/a.b", Some("2")),
            ("/a~1b/0", Some("true")),
            ("n", Some("null")),
            ("n.x", None),
            ("two", Some("2")),
            ("tw\\u006f", None),
            ("b", None),
        ] {
            assert_eq!(found(&mut Document::new(text.as_bytes()), path), wanted, "{path}");
        }
        // Repeated lookups in one document.
        let mut one = Document::new(text.as_bytes());
        for _ in 0..2 {
            assert_eq!(found(&mut one, "a.b.1.c"), Some(r#""x\"y""#));
            assert_eq!(found(&mut one, "/a.b"), Some("2"));
            assert_eq!(found(&mut one, "a.b.0"), Some("10"));
        }
        assert_eq!(one.containers.len(), 4, "each container is read once");
    }

    #[test]
    fn the_last_member_with_a_name_wins() {
        for (text, path, wanted) in [
            (r#"{"a":1,"a":2}"#, "a", Some("2")),
            (r#"{"a":{"b":1},"a":{"c":2}}"#, "a.b", None),
            (r#"{"a":{"b":1},"a":5}"#, "a.b", None),
            (r#"{"a":1,"\u0061":2}"#, "a", Some("2")),
            (r#"{"\u0061":1,"a":2}"#, "a", Some("2")),
        ] {
            assert_eq!(found(&mut Document::new(text.as_bytes()), path), wanted, "{text}");
        }
        let many: String = (0..100).map(|n| format!("\"k{}\":{n},\"\\u006b{}\":-{n},", n % 40, n % 7)).collect();
        let text = format!("{{{many}\"z\":0}}");
        let mut document = Document::new(text.as_bytes());
        assert_eq!(found(&mut document, "k39"), Some("79"));
        assert_eq!(found(&mut document, "k1"), Some("-99"));
        assert_eq!(found(&mut document, "k17"), Some("97"));
        assert_eq!(found(&mut document, "k40"), None);
    }

    #[test]
    fn invalid_paths_are_rejected() {
        for text in ["", ".", "a.", ".a", "a..b", "/", "/a//b", "/~2"] {
            assert_eq!(Path::try_new(text), Err(PathError), "{text:?}");
        }
        assert!(Path::try_new(&vec!["a"; 16].join(".")).is_ok());
        assert_eq!(Path::try_new(&vec!["a"; 17].join(".")), Err(PathError));
        assert_eq!(Path::try_new(&"a".repeat(FILTER_PATH_BYTES_MAX + 1)), Err(PathError));
    }

    #[test]
    fn lookups_in_scalars_and_invalid_json_find_nothing() {
        for text in ["", " ", "7", "\"a\"", "null", "{", "{\"a\"", "{\"a\":", "{\"a\" 1}", "{a:1}", "[1", "{\"a\":1"] {
            assert_eq!(found(&mut Document::new(text.as_bytes()), "b"), None, "{text}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\é]{0,12}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 128, 50, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                proptest::collection::btree_map("[a-c\"\\\\é]{1,2}", inner, 0..50)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn lookups_find_the_same_values_as_a_full_parser(
            value in json(),
            is_pretty: bool,
            paths in proptest::collection::vec(proptest::collection::vec("[a-c\"\\\\é]{1,2}|[0-4]", 1..4), 1..20),
        ) {
            let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            let mut document = Document::new(text.as_bytes());
            for path in paths.iter().map(|names| format!("/{}", names.join("/"))) {
                let parsed = Path::try_new(&path).unwrap();
                let found = document.find(&parsed).map(|raw| serde_json::from_slice::<Value>(raw).unwrap());
                prop_assert_eq!(found.as_ref(), value.pointer(&path), "{}", path);
                let mut at = root_span(text.as_bytes());
                for step in &parsed.0 {
                    at = at.and_then(|at| search(text.as_bytes(), at, step));
                }
                let searched = at.map(|at| serde_json::from_slice::<Value>(at.of(text.as_bytes())).unwrap());
                prop_assert_eq!(searched.as_ref(), value.pointer(&path), "{}", path);
            }
        }
    }
}
