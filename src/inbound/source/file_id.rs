//! The id of a source that the configuration file names.

use ring::digest::{SHA256, digest};

use crate::model::SourceId;

/// The same at each start, as it follows from the names.
pub fn file_id(tenant: &str, name: &str) -> SourceId {
    let hash = digest(&SHA256, format!("file:{tenant}/{name}").as_bytes());
    let mut bits = [0; 16];
    bits.copy_from_slice(&hash.as_ref()[..16]);
    SourceId::from_u128(u128::from_be_bytes(bits))
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
}
