//! catalogue: event types with their names, descriptions and schemas.
//!
//! [`Settings`] are what a person writes. They have one form in `config.toml`, in a catalogue file, in the API and in
//! registry.redb. An [`EventTypeDefinition`] is the compiled form of valid settings. An [`EventType`] is a definition
//! in force.
//!
//! Guarantees: settings with an error give no definition, and all errors are reported; a schema is compiled once.
//!
//! Must never know: HTTP, redb, and where a definition was written.

use std::sync::Arc;

use serde_json::Value;

use crate::inbound::source::{CheckWork, ManagedBy, Schema};
use crate::json;
use crate::limits::{
    DEFINITION_BASE_BYTES, EVENT_TYPE_CATEGORY_CHARS_MAX, EVENT_TYPE_DESCRIPTION_CHARS_MAX,
    EVENT_TYPE_EXAMPLE_BYTES_MAX, VIOLATIONS_LISTED_MAX,
};
use crate::model::{FieldError, RESERVED_TYPE_PREFIX, Timestamp, is_event_type};

pub use crate::model::EventTypeSettings as Settings;

mod builder;
#[cfg(test)]
mod tests;

pub use builder::CatalogueBuilder;

/// Valid settings with the compiled schema.
#[derive(Debug)]
pub struct EventTypeDefinition {
    /// The settings as written.
    pub settings: Settings,
    schema: Option<Schema>,
}

impl EventTypeDefinition {
    /// Checks the settings and compiles the schema.
    ///
    /// # Errors
    /// All errors, by JSON pointer.
    pub fn try_new(settings: Settings) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut wrong = |pointer: &str, detail: String| errors.push(FieldError { pointer: pointer.to_owned(), detail });
        if !is_event_type(&settings.name) {
            wrong(
                "/name",
                "expected an event type: a letter or digit, then up to 127 of A-Z a-z 0-9 . _ : -".to_owned(),
            );
        } else if settings.name.starts_with(RESERVED_TYPE_PREFIX) {
            wrong("/name", format!("types that begin with {RESERVED_TYPE_PREFIX:?} are the gateway's own"));
        }
        let texts = [
            ("/category", &settings.category, EVENT_TYPE_CATEGORY_CHARS_MAX),
            ("/description", &settings.description, EVENT_TYPE_DESCRIPTION_CHARS_MAX),
        ];
        for (pointer, text, chars_max) in texts {
            if text.as_ref().is_some_and(|text| text.chars().count() > chars_max) {
                wrong(pointer, format!("expected text of at most {chars_max} characters"));
            }
        }
        match settings.replaced_by.as_deref() {
            Some(_) if !settings.deprecated => wrong("/replaced_by", "needs deprecated to be true".to_owned()),
            Some(other) if !is_event_type(other) || other == settings.name => {
                wrong("/replaced_by", "expected another event type".to_owned());
            }
            Some(_) | None => {}
        }
        if settings.validate && settings.schema.is_none() {
            wrong("/validate", "needs a schema".to_owned());
        }
        let is_large = |example: &Value| example.to_string().len() > EVENT_TYPE_EXAMPLE_BYTES_MAX;
        if settings.example.as_ref().is_some_and(is_large) {
            wrong("/example", format!("expected at most {EVENT_TYPE_EXAMPLE_BYTES_MAX} bytes of JSON"));
        }
        let schema = match settings.schema.as_ref().map(|schema| Schema::try_new(schema, "/schema")).transpose() {
            Ok(schema) => schema,
            Err(found) => {
                errors.extend(found);
                None
            }
        };
        if let (Some(schema), Some(example)) = (&schema, &settings.example) {
            let mut found = Vec::new();
            schema.check(example, &mut found);
            errors.extend(found.into_iter().map(|error| below("/example", error)));
        }
        if errors.is_empty() { Ok(Self { settings, schema }) } else { Err(errors) }
    }

    /// A definition whose schema this version cannot compile, although an earlier version accepted it. It validates
    /// nothing.
    pub fn without_schema(settings: Settings) -> Self {
        Self { settings, schema: None }
    }

    /// Validates data against the schema. The pointers of the errors begin with `root`. There are no errors if the
    /// event type does not set `validate`.
    pub fn validate(&self, data: &Value, root: &str) -> Vec<FieldError> {
        let mut found = Vec::new();
        if let Some(schema) = self.schema.as_ref().filter(|_| self.settings.validate) {
            schema.check(data, &mut found);
        }
        found.into_iter().take(VIOLATIONS_LISTED_MAX).map(|error| below(root, error)).collect()
    }

    /// The work of [`Self::validate_text`] on these data.
    ///
    /// # Errors
    /// The violation at `root`, if the check would be too much work.
    pub fn work(&self, data: &str, root: &str) -> Result<CheckWork, FieldError> {
        let schema = self.schema.as_ref().filter(|_| self.settings.validate);
        let work = schema.map_or_else(|| Ok(CheckWork::default()), |schema| schema.work_on_text(data));
        work.map_err(|error| below(root, error))
    }

    /// As [`Self::validate`], for data as text, which is valid JSON.
    pub fn validate_text(&self, data: &[u8], root: &str) -> Vec<FieldError> {
        self.validate(&json::from_slice(data).unwrap_or_default(), root)
    }

    /// The bytes of memory that the definition needs, about.
    pub fn memory_bytes(&self) -> usize {
        let example = self.settings.example.as_ref().map_or(0, |example| example.to_string().len());
        DEFINITION_BASE_BYTES + example * 8 + self.schema.as_ref().map_or(0, Schema::memory_bytes)
    }

    /// The regular expressions of the schema that are too costly for a new schema.
    pub fn costly_patterns(&self) -> &[FieldError] {
        self.schema.as_ref().map_or(&[], Schema::costly_patterns)
    }

    /// Whether the event type validates data.
    pub fn checks(&self) -> bool {
        self.settings.validate && self.schema.is_some()
    }

    /// The warning for senders of a deprecated event type.
    pub fn deprecation(&self) -> Option<String> {
        let name = &self.settings.name;
        self.settings.deprecated.then(|| match &self.settings.replaced_by {
            Some(other) => format!("{name} is deprecated: use {other}"),
            None => format!("{name} is deprecated"),
        })
    }
}

fn below(root: &str, error: FieldError) -> FieldError {
    FieldError { pointer: format!("{root}{}", error.pointer), detail: error.detail }
}

/// An event type in force.
#[derive(Debug, Clone)]
pub struct EventType {
    /// The definition.
    pub definition: Arc<EventTypeDefinition>,
    /// The tenant that the event type applies to; `None`: every tenant.
    pub tenant: Option<Arc<str>>,
    /// Who may change the event type.
    pub managed_by: ManagedBy,
    /// When the event type was created.
    pub created_at: Timestamp,
    /// When the event type was last changed.
    pub updated_at: Timestamp,
    /// Rises by one with each change.
    pub version: u64,
}

impl EventType {
    /// The event type's name.
    pub fn name(&self) -> &str {
        &self.definition.settings.name
    }
}

/// The event types of the configuration.
#[derive(Debug, Clone, Default)]
pub struct CatalogueSetup {
    /// Whether events of types that are not in the catalogue are refused.
    pub strict: bool,
    /// The definitions of the configuration and its catalogue files, checked.
    pub files: Vec<Arc<EventTypeDefinition>>,
}

/// The rule for events of a type.
#[derive(Debug, Clone)]
pub enum TypeRule {
    /// The type is not in the catalogue, and the catalogue is not strict: no rule.
    Free,
    /// The type is not in the catalogue, and the catalogue is strict: events are refused.
    Unknown,
    /// The type is in the catalogue.
    Known(Arc<EventType>),
}
