//! Extracts the values of a tree of JSON pointers in one pass over the text.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::lenient;
use super::pointer::PointerNode;

/// The depth that serde_json descends to.
const LEVELS_MAX: u8 = 127;

type ValueSlots<'s, 'a> = &'s mut [Option<&'a RawValue>];

/// Fills the slots of the pointer tree and returns the body as text. Returns `None` if the body is not one JSON value in
/// UTF-8.
pub(super) fn read<'a>(root: &PointerNode, body: &'a [u8], values: ValueSlots<'_, 'a>) -> Option<&'a str> {
    // serde_json skips a string that no pointer selects without checking its UTF-8, so the whole body is checked here.
    let text = std::str::from_utf8(body).ok()?;
    if read_text(root, text, values, false).is_none() {
        // A value on the way to a pointer may be one that Rust cannot represent: such a value is skipped as written, which
        // needs a second pass over its containers. Names are then read without a check of their grammar.
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        values.fill(None);
        read_text(root, text, values, true)?;
    }
    Some(text)
}

fn read_text<'a>(root: &PointerNode, text: &'a str, values: ValueSlots<'_, 'a>, is_lenient: bool) -> Option<()> {
    let mut from = serde_json::Deserializer::from_str(text);
    PointerVisitor { node: root, values, is_lenient, levels: LEVELS_MAX }.deserialize(&mut from).ok()?;
    from.end().ok()
}

/// Handles the next value: stores it in the slot of the node, or descends into it.
struct PointerVisitor<'n, 's, 'a> {
    node: &'n PointerNode,
    values: ValueSlots<'s, 'a>,
    /// Whether only containers are descended into, and everything else is read as written.
    is_lenient: bool,
    /// The containers that may still be descended into, as in one pass.
    levels: u8,
}

impl PointerVisitor<'_, '_, '_> {
    /// Clears the values of an earlier member with the same name.
    fn clear(node: &PointerNode, values: ValueSlots<'_, '_>) {
        if let Some(value) = node.slot.and_then(|slot| values.get_mut(slot)) {
            *value = None;
        }
        node.children.iter().for_each(|child| Self::clear(child, values));
    }
}

impl<'a> DeserializeSeed<'a> for PointerVisitor<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<(), D::Error> {
        if self.node.slot.is_none() && !self.is_lenient {
            if self.node.children.is_empty() {
                return from.deserialize_ignored_any(IgnoredAny).map(|_| ());
            }
            return from.deserialize_any(self);
        }
        let raw: &'a RawValue = serde::Deserialize::deserialize(from)?;
        if let Some(value) = self.node.slot.and_then(|slot| self.values.get_mut(slot)) {
            *value = Some(raw);
        }
        if self.node.children.is_empty() || !raw.get().starts_with(['{', '[']) {
            return Ok(());
        }
        // The whole value and parts of it are selected: the value is parsed again for the parts.
        if self.levels == 0 {
            return Err(Error::custom("nested too deeply"));
        }
        let mut again = serde_json::Deserializer::from_str(raw.get());
        again.deserialize_any(self).map_err(Error::custom)
    }
}

impl<'a> Visitor<'a> for PointerVisitor<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let levels = self.levels.saturating_sub(1);
        while let Some(child) =
            map.next_key_seed(MemberNameSeed { children: &self.node.children, is_lenient: self.is_lenient })?
        {
            let Some(node) = child else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            Self::clear(node, self.values);
            map.next_value_seed(PointerVisitor { node, values: self.values, is_lenient: self.is_lenient, levels })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        let levels = self.levels.saturating_sub(1);
        for index in 0.. {
            let more = match self.node.children.iter().find(|child| child.index == Some(index)) {
                Some(node) => {
                    let visitor = PointerVisitor { node, values: self.values, is_lenient: self.is_lenient, levels };
                    seq.next_element_seed(visitor)?.is_some()
                }
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

/// Deserializes a member name into the child node with this name, if there is one.
struct MemberNameSeed<'n> {
    children: &'n [PointerNode],
    /// Whether the name may have half of a surrogate pair.
    is_lenient: bool,
}

impl<'n, 'a> DeserializeSeed<'a> for MemberNameSeed<'n> {
    type Value = Option<&'n PointerNode>;

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<Self::Value, D::Error> {
        // Only as bytes, a name may have half of a surrogate pair.
        if self.is_lenient { from.deserialize_bytes(self) } else { from.deserialize_str(self) }
    }
}

impl<'n> Visitor<'_> for MemberNameSeed<'n> {
    type Value = Option<&'n PointerNode>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.children.iter().find(|child| &*child.token == name))
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        let name = lenient::name(name);
        Ok(self.children.iter().find(|child| *child.token == *name))
    }
}
