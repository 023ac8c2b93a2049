//! Sets a value in JSON text and keeps every other byte unchanged.

use super::Pointer;

/// Returns the body with `value` (JSON) at the pointer. An existing value is replaced; otherwise a member is appended to the
/// parent object, and missing parent objects are created. Returns `None` if the parent is not an object or the body is not
/// JSON.
pub fn set(body: &[u8], pointer: &Pointer, value: &str) -> Option<Vec<u8>> {
    if let Some(raw) = pointer.find(body) {
        let start = raw.get().as_ptr().addr().checked_sub(body.as_ptr().addr())?;
        return Some(splice(body, start, start + raw.get().len(), &[value]));
    }
    let (parent, _) = pointer.as_str().rsplit_once('/')?;
    let parent = Pointer::try_new(parent).ok()?;
    let name = serde_json::to_string(&pointer.last_token()?).ok()?;
    let Some(object) = parent.find(body) else {
        return set(body, &parent, &format!("{{{name}:{value}}}"));
    };
    let inside = object.get().strip_prefix('{')?.strip_suffix('}')?;
    let end = (object.get().as_ptr().addr() + object.get().len() - 1).checked_sub(body.as_ptr().addr())?;
    let comma = if inside.trim_ascii().is_empty() { "" } else { "," };
    Some(splice(body, end, end, &[comma, &name, ":", value]))
}

fn splice(body: &[u8], start: usize, end: usize, parts: &[&str]) -> Vec<u8> {
    let (head, tail) = (body.get(..start).unwrap_or_default(), body.get(end..).unwrap_or_default());
    let mut edited = head.to_vec();
    for part in parts {
        edited.extend_from_slice(part.as_bytes());
    }
    edited.extend_from_slice(tail);
    edited
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_replaces_or_appends_the_value_at_the_pointer() {
        for (body, pointer, edited) in [
            (r#"{"a": 1.50, "b":2}"#, "/b", r#"{"a": 1.50, "b":"x"}"#),
            (r#"{"a":1}"#, "/b", r#"{"a":1,"b":"x"}"#),
            ("{ }", "/b", r#"{ "b":"x"}"#),
            ("{}", "/a/b~1c", r#"{"a":{"b/c":"x"}}"#),
            (r#"[{"a":{}},{"a":{"b":0}}]"#, "/0/a/b", r#"[{"a":{"b":"x"}},{"a":{"b":0}}]"#),
            ("5", "", r#""x""#),
        ] {
            let edited_now = set(body.as_bytes(), &Pointer::try_new(pointer).unwrap(), r#""x""#).unwrap();
            assert_eq!(String::from_utf8(edited_now).unwrap(), edited);
        }
        for (body, pointer) in [("[]", "/0"), ("5", "/a"), (r#"{"a":5}"#, "/a/b"), ("{", "/a"), ("", "")] {
            assert_eq!(set(body.as_bytes(), &Pointer::try_new(pointer).unwrap(), "1"), None, "{body} {pointer}");
        }
    }
}
