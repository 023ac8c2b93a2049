//! validation_config: what a partner's events must be.

use serde_json::Value;

use super::Breach;
use crate::model::Timestamp;

/// Compiled rules.
#[derive(Debug)]
pub struct Rules {}

impl Rules {
    /// # Errors
    /// Everything that is wrong with the rules; pointers begin with `/validation_config`.
    pub fn try_new(_config: &Value) -> Result<Self, Vec<Breach>> {
        Ok(Self {})
    }

    /// # Errors
    /// Every breach, up to a bound, by JSON pointer into the body.
    pub fn check(&self, _body: &Value, _now: Timestamp) -> Result<(), Vec<Breach>> {
        Ok(())
    }

    /// The rules in words, one sentence each, for the integration guide.
    pub fn describe(&self) -> Vec<String> {
        Vec::new()
    }
}
