//! Names of sources, which stand in URLs beside fixed words and ids.

use ring::digest::{SHA256, digest};

use super::Breach;
use crate::model::SourceId;

/// Characters in a name.
const NAME_CHARS_MAX: usize = 63;
/// Words that mean something else below `/api/v1/webhooks/`.
const RESERVED: [&str; 2] = ["events", "deliveries"];
/// What ids begin with.
const ID_PREFIXES: [&str; 2] = ["wh_", "src_"];

/// The id of a source that the configuration file names: the same at each start, as it follows from the names.
pub fn file_id(tenant: &str, name: &str) -> SourceId {
    let hash = digest(&SHA256, format!("file:{tenant}/{name}").as_bytes());
    let mut bits = [0; 16];
    bits.copy_from_slice(&hash.as_ref()[..16]);
    SourceId::from_u128(u128::from_be_bytes(bits))
}

/// Checks the name of a source.
///
/// # Errors
/// For a name that is not `[a-z0-9][a-z0-9-]{0,62}`, or means something else where names stand.
pub fn check_name(name: &str) -> Result<(), Breach> {
    let wrong = |detail: String| Err(Breach { pointer: "/name".to_owned(), detail });
    if RESERVED.contains(&name) {
        return wrong(format!("{name:?} is a fixed word of the interface; choose another name"));
    }
    if ID_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return wrong(format!("{name:?} looks like an id; a name does not begin with wh_ or src_"));
    }
    let is_name = (1..=NAME_CHARS_MAX).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if is_name { Ok(()) } else { wrong(format!("{name:?} is not a name: 1 to 63 of a-z, 0-9 and -, not - at first")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_of_the_file_has_the_same_id_at_each_start() {
        assert_eq!(file_id("default", "shopify").to_string(), "src_2AR0H3W9XFPT11ETSMX8WYKE4Z");
        assert_ne!(file_id("default", "shopify"), file_id("acme", "shopify"));
        assert_ne!(file_id("default", "shopify"), file_id("default", "stripe"));
    }

    #[test]
    fn names() {
        let long = "a".repeat(64);
        for (name, said) in [
            ("shopify", ""),
            ("a", ""),
            ("0-a", ""),
            (&long[..63], ""),
            (&long, "is not a name"),
            ("", "is not a name"),
            ("-a", "is not a name"),
            ("A", "is not a name"),
            ("a/b", "is not a name"),
            ("events", "is a fixed word"),
            ("deliveries", "is a fixed word"),
            ("wh_1", "looks like an id"),
            ("src_x", "looks like an id"),
        ] {
            let detail = check_name(name).err().map(|breach| breach.detail).unwrap_or_default();
            assert!(detail.contains(said) && detail.is_empty() == said.is_empty(), "{name}: {detail}");
        }
    }
}
