//! The settings of an event type. The folder `registry` compiles them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The settings of an event type, in the same form in the catalogue file and in the API.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTypeSettings {
    /// The name, such as `order.created`.
    pub name: String,
    /// The tenant that the type belongs to. `None` means every tenant in the catalogue file, and the tenant of the
    /// caller in the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The category, such as `orders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// A description for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON Schema (draft 2020-12) of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Example data of an event of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
    /// Whether the type is deprecated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deprecated: bool,
    /// The type to use instead of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    /// Whether ingest refuses events whose data violates the schema.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub validate: bool,
}
