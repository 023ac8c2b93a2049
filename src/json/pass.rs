//! One pass over a JSON text that leaves the values of a tree of pointers in their slots.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::pointer::Node;

type Slots<'s, 'a> = &'s mut [Option<&'a RawValue>];

/// Fills the slots of a tree, and gives the body back as text; `None` if it is not one JSON value in UTF-8.
pub(super) fn read<'a>(root: &Node, body: &'a [u8], values: Slots<'_, 'a>) -> Option<&'a str> {
    // A string that no pointer leads to is skipped without a look at its bytes, so they are looked at here.
    let text = std::str::from_utf8(body).ok()?;
    let mut from = serde_json::Deserializer::from_str(text);
    Walk { node: root, values }.deserialize(&mut from).ok()?;
    from.end().ok().map(|()| text)
}

/// What is to be done with the value that comes next.
struct Walk<'n, 's, 'a> {
    node: &'n Node,
    values: Slots<'s, 'a>,
}

impl Walk<'_, '_, '_> {
    /// Forgets what an earlier member of the same name left.
    fn clear(node: &Node, values: Slots<'_, '_>) {
        if let Some(value) = node.slot.and_then(|slot| values.get_mut(slot)) {
            *value = None;
        }
        node.children.iter().for_each(|child| Self::clear(child, values));
    }
}

impl<'a> DeserializeSeed<'a> for Walk<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<(), D::Error> {
        let Some(slot) = self.node.slot else {
            if self.node.children.is_empty() {
                return from.deserialize_ignored_any(IgnoredAny).map(|_| ());
            }
            return from.deserialize_any(self);
        };
        let raw: &'a RawValue = serde::Deserialize::deserialize(from)?;
        if let Some(value) = self.values.get_mut(slot) {
            *value = Some(raw);
        }
        if self.node.children.is_empty() {
            return Ok(());
        }
        // A value that is asked for whole and in parts is read again for the parts.
        let mut again = serde_json::Deserializer::from_str(raw.get());
        again.deserialize_any(self).map_err(Error::custom)
    }
}

impl<'a> Visitor<'a> for Walk<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(Name(&self.node.children))? {
            let Some(node) = child else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            Self::clear(node, self.values);
            map.next_value_seed(Walk { node, values: self.values })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        for index in 0.. {
            let more = match self.node.children.iter().find(|child| child.index == Some(index)) {
                Some(node) => seq.next_element_seed(Walk { node, values: self.values })?.is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The name of a member: which of these children it is.
struct Name<'n>(&'n [Node]);

impl<'n, 'a> DeserializeSeed<'a> for Name<'n> {
    type Value = Option<&'n Node>;

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Name<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|child| &*child.token == name))
    }
}
