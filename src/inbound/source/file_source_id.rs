//! The ids of sources in the configuration file.

use ring::digest::{SHA256, digest};

use crate::model::SourceId;

/// The id of a source in the configuration file. It is derived from the names, so it is the same at each start.
pub fn file_source_id(tenant: &str, name: &str) -> SourceId {
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
        assert_eq!(file_source_id("default", "shopify").to_string(), "src_2AR0H3W9XFPT11ETSMX8WYKE4Z");
        assert_ne!(file_source_id("default", "shopify"), file_source_id("acme", "shopify"));
        assert_ne!(file_source_id("default", "shopify"), file_source_id("default", "stripe"));
    }
}
