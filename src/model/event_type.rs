//! An event type as it is written. `registry` compiles it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An event type as it is written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTypeSettings {
    /// `order.created`
    pub name: String,
    /// Whose it is; `None`: of the file every tenant's, of the interface the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What it belongs to: `orders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// What it means, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What its data must be: a JSON Schema (draft 2020-12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Data as an event of this type has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
    /// Whether it will go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deprecated: bool,
    /// The type to use in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    /// Whether events that break the schema are refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub validate: bool,
}
