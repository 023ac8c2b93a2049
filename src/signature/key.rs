//! Keys: what a secret's text stands for, prepared once.

/// A key that verifies. Prints as `***`.
pub struct Key {}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
