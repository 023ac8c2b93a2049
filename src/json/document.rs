//! A JSON text in which many values are looked up, one after the other.
//!
//! A look at an object notes where its members are, so that the next look at it, for another rule or another webhook, finds
//! them without reading the text again. What nobody asks for is skipped, once.

use super::pointer::unescape;
use super::scan::{Span, each, whole};
use crate::limits::{DOCUMENT_MEMBERS_MAX, FILTER_PATH_BYTES_MAX, FILTER_PATH_STEPS_MAX};

/// Up to so many members are compared one by one; more are sorted by name first.
const UNSORTED_MAX: usize = 32;
const NOWHERE: u32 = u32::MAX;

/// A way to a value: `customer.address.city`, `items.0.sku`, or a JSON pointer for names with dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Box<[Step]>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    name: Box<str>,
    /// The same as a position in an array, if it can be one.
    index: Option<usize>,
}

/// Text that is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a path such as \"customer.city\" or \"items.0.sku\", or a JSON pointer such as \"/a.b/c\": at most \
     {FILTER_PATH_STEPS_MAX} names, none empty, and {FILTER_PATH_BYTES_MAX} bytes"
)]
pub struct PathError;

impl Path {
    /// Reads a path; one that begins with `/` is a JSON pointer (RFC 6901).
    ///
    /// # Errors
    /// For an empty name, and for one that is too long.
    pub fn try_new(text: &str) -> Result<Self, PathError> {
        if text.len() > FILTER_PATH_BYTES_MAX {
            return Err(PathError);
        }
        let names: Vec<String> = match text.strip_prefix('/') {
            Some(tokens) => tokens.split('/').map(unescape).collect::<Result<_, _>>().map_err(|_| PathError)?,
            None => text.split('.').map(str::to_owned).collect(),
        };
        if names.len() > FILTER_PATH_STEPS_MAX || names.iter().any(String::is_empty) {
            return Err(PathError);
        }
        Ok(Self(names.iter().map(|name| Step::new(name)).collect()))
    }

    /// The same way from a member of this name.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        Self(std::iter::once(Step::new(name)).chain(self.0.iter().cloned()).collect())
    }

    /// Its first name, and the way from there; `None` if it ends there.
    pub fn split_first(&self) -> (&str, Option<Self>) {
        match &*self.0 {
            [first, rest @ ..] => (&first.name, (!rest.is_empty()).then(|| Self(rest.into()))),
            [] => ("", None),
        }
    }
}

impl Step {
    /// RFC 6901 section 4: a position has no leading zeros.
    fn new(name: &str) -> Self {
        let digits = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
        Self { name: name.into(), index: if digits { name.parse().ok() } else { None } }
    }
}

/// See the module. The text is JSON that was checked before; in anything else nothing is found, or something that is not
/// there.
#[derive(Debug, Clone)]
pub struct Document<'a> {
    text: &'a [u8],
    root: Option<Span>,
    /// What [`Self::root`] holds.
    inside: u32,
    containers: Vec<Container>,
    members: Vec<Member>,
    /// Names that are written with escapes, as they mean.
    unescaped: String,
}

/// Members that lie together in [`Document::members`].
#[derive(Debug, Clone, Copy)]
struct Container {
    first: u32,
    len: u32,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    name: Span,
    value: Span,
    /// Which container the value is, once somebody looked into it.
    inside: u32,
    /// Whether the name lies in [`Document::unescaped`].
    is_unescaped: bool,
}

impl<'a> Document<'a> {
    /// Reads nothing yet.
    pub fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            root: None,
            inside: NOWHERE,
            containers: Vec::new(),
            members: Vec::new(),
            unescaped: String::new(),
        }
    }

    /// The value at the end of a path, as it stands in the text. Of a name that is there twice the last one counts.
    pub fn find(&mut self, path: &Path) -> Option<&'a [u8]> {
        if self.root.is_none() {
            self.root = Some(whole(self.text)?);
        }
        let mut value = self.root?;
        // The member whose value this is, or nobody's, which is the root; `None`: its place is not remembered.
        let mut owner = Some(NOWHERE);
        for step in &path.0 {
            let inside = owner.and_then(|owner| self.look_into(owner, value));
            if let Some(container) = inside {
                let at = self.member(container, step, value)?;
                (value, owner) = (self.members[at].value, Some(at as u32));
            } else {
                (value, owner) = (search(self.text, value, step)?, None);
            }
        }
        Some(value.of(self.text))
    }

    /// The container that this value is, read if it was not before; `None` where there is no room to remember it.
    fn look_into(&mut self, owner: u32, value: Span) -> Option<Container> {
        let known = self.members.get(owner as usize).map_or(self.inside, |member| member.inside);
        if let Some(container) = self.containers.get(known as usize) {
            return Some(*container);
        }
        let text = self.text;
        if !matches!(value.of(text).first(), Some(b'{' | b'[')) {
            return None;
        }
        let first = self.members.len();
        if first == 0 {
            self.members.reserve(UNSORTED_MAX);
        }
        let (mut is_object, mut fits) = (false, true);
        let read = each(text, value, |name, value| {
            fits = self.members.len() < DOCUMENT_MEMBERS_MAX;
            is_object = name.is_some();
            if fits && let Some(member) = self.read(name, value) {
                self.members.push(member);
            }
            fits
        });
        if !fits || read.is_none() {
            self.members.truncate(first);
            return None;
        }
        let container = Container { first: first as u32, len: (self.members.len() - first) as u32 };
        if is_object && container.len as usize > UNSORTED_MAX {
            let unescaped = &self.unescaped;
            self.members[first..].sort_unstable_by_key(|member| (member.name(text, unescaped), member.value.start));
        }
        let no = self.containers.len() as u32;
        self.containers.push(container);
        match self.members.get_mut(owner as usize) {
            Some(member) => member.inside = no,
            None => self.inside = no,
        }
        Some(container)
    }

    /// A member as it is remembered; `None` if no text can name it (half of a surrogate pair).
    fn read(&mut self, name: Option<super::scan::Name>, value: Span) -> Option<Member> {
        let here = Span { start: 0, end: 0 };
        let mut member =
            Member { name: name.map_or(here, |name| name.span), value, inside: NOWHERE, is_unescaped: false };
        if let Some(name) = name.filter(|name| name.is_escaped) {
            let start = self.unescaped.len();
            self.unescaped.push_str(&means(self.text, name.span)?);
            member.name = Span { start: start as u32, end: self.unescaped.len() as u32 };
            member.is_unescaped = true;
        }
        Some(member)
    }

    /// Which member of the container the step leads to.
    fn member(&self, container: Container, step: &Step, value: Span) -> Option<usize> {
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

/// One step without a memory.
fn search(text: &[u8], value: Span, step: &Step) -> Option<Span> {
    let mut found = None;
    match value.of(text).first()? {
        b'{' => each(text, value, |name, value| {
            let is_it = name.is_some_and(|name| {
                let written = name.span.of(text);
                if name.is_escaped {
                    means(text, name.span).is_some_and(|name| *name == *step.name)
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
            each(text, value, |_, value| {
                found = (index == wanted).then_some(value);
                index += 1;
                found.is_none()
            })?;
        }
        _ => {}
    }
    found
}

/// What a name with escapes means.
fn means(text: &[u8], name: Span) -> Option<String> {
    let quoted = Span { start: name.start.checked_sub(1)?, end: name.end.checked_add(1)? };
    serde_json::from_slice(quoted.of(text)).ok()
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
    fn what_is_found_by_a_path() {
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
        // All of them in one document, twice.
        let mut one = Document::new(text.as_bytes());
        for _ in 0..2 {
            assert_eq!(found(&mut one, "a.b.1.c"), Some(r#""x\"y""#));
            assert_eq!(found(&mut one, "/a.b"), Some("2"));
            assert_eq!(found(&mut one, "a.b.0"), Some("10"));
        }
        assert_eq!(one.containers.len(), 4, "each container is read once");
    }

    #[test]
    fn the_last_of_a_name_counts() {
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
    fn what_is_no_path() {
        for text in ["", ".", "a.", ".a", "a..b", "/", "/a//b", "/~2"] {
            assert_eq!(Path::try_new(text), Err(PathError), "{text:?}");
        }
        assert!(Path::try_new(&vec!["a"; 16].join(".")).is_ok());
        assert_eq!(Path::try_new(&vec!["a"; 17].join(".")), Err(PathError));
        assert_eq!(Path::try_new(&"a".repeat(FILTER_PATH_BYTES_MAX + 1)), Err(PathError));
    }

    #[test]
    fn nothing_is_in_what_is_no_container() {
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
        fn it_finds_what_a_parser_of_the_whole_finds(
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
                let mut at = whole(text.as_bytes());
                for step in &parsed.0 {
                    at = at.and_then(|at| search(text.as_bytes(), at, step));
                }
                let searched = at.map(|at| serde_json::from_slice::<Value>(at.of(text.as_bytes())).unwrap());
                prop_assert_eq!(searched.as_ref(), value.pointer(&path), "{}", path);
            }
        }
    }
}
