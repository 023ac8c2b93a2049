//! catalogue: event types as people know them: what each is called, what it means, and what its data must be.
//!
//! Promises: a definition is built whole or not at all, with everything that is wrong named; its schema is compiled once.
//! Must never know: HTTP, redb, where a definition was written.
//!
//! [`Settings`] are what a person writes, the same in `config.toml`, in a catalogue's file, in the interface and in
//! registry.redb; a [`Definition`] is what they come to, and an [`EventType`] is one that is in force somewhere.

use std::sync::Arc;

use serde_json::Value;

use crate::inbound::source::{Breach, ManagedBy, Schema};
use crate::limits::{
    BREACHES_LISTED_MAX, EVENT_TYPE_CATEGORY_CHARS_MAX, EVENT_TYPE_DESCRIPTION_CHARS_MAX, EVENT_TYPE_EXAMPLE_BYTES_MAX,
};
use crate::model::{RESERVED_TYPES, Timestamp, is_event_type};

pub use crate::model::EventTypeSettings as Settings;

mod configured;
#[cfg(test)]
mod tests;

pub use configured::Collector;

/// Settings that hold, with the schema compiled.
#[derive(Debug)]
pub struct Definition {
    /// As written.
    pub settings: Settings,
    schema: Option<Schema>,
}

impl Definition {
    /// # Errors
    /// Everything that is wrong, by JSON pointer.
    pub fn try_new(settings: Settings) -> Result<Self, Vec<Breach>> {
        let mut breaches = Vec::new();
        let mut wrong = |pointer: &str, detail: String| breaches.push(Breach { pointer: pointer.to_owned(), detail });
        if !is_event_type(&settings.name) {
            wrong(
                "/name",
                "expected an event type: a letter or digit, then up to 127 of A-Z a-z 0-9 . _ : -".to_owned(),
            );
        } else if settings.name.starts_with(RESERVED_TYPES) {
            wrong("/name", format!("types that begin with {RESERVED_TYPES:?} are the gateway's own"));
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
                breaches.extend(found);
                None
            }
        };
        if let (Some(schema), Some(example)) = (&schema, &settings.example) {
            let mut found = Vec::new();
            schema.check(example, &mut found);
            breaches.extend(found.into_iter().map(|breach| below("/example", breach)));
        }
        if breaches.is_empty() { Ok(Self { settings, schema }) } else { Err(breaches) }
    }

    /// One that held once, by a program that took more: without its schema, which checks nothing then.
    pub fn without_schema(settings: Settings) -> Self {
        Self { settings, schema: None }
    }

    /// What of these data breaks the schema, by pointers that begin with `root`; nothing where the type does not ask for it.
    pub fn breaches(&self, data: &Value, root: &str) -> Vec<Breach> {
        let mut found = Vec::new();
        if let Some(schema) = self.schema.as_ref().filter(|_| self.settings.validate) {
            schema.check(data, &mut found);
        }
        found.into_iter().take(BREACHES_LISTED_MAX).map(|breach| below(root, breach)).collect()
    }

    /// Whether data are looked at at all.
    pub fn checks(&self) -> bool {
        self.settings.validate && self.schema.is_some()
    }

    /// What whoever still uses a deprecated type is told.
    pub fn deprecation(&self) -> Option<String> {
        let name = &self.settings.name;
        self.settings.deprecated.then(|| match &self.settings.replaced_by {
            Some(other) => format!("{name} is deprecated: use {other}"),
            None => format!("{name} is deprecated"),
        })
    }
}

fn below(root: &str, breach: Breach) -> Breach {
    Breach { pointer: format!("{root}{}", breach.pointer), detail: breach.detail }
}

/// An event type in force.
#[derive(Debug, Clone)]
pub struct EventType {
    /// What it is.
    pub definition: Arc<Definition>,
    /// Whose it is; `None`: every tenant's.
    pub tenant: Option<Arc<str>>,
    /// Who may change it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Rises by one with each change.
    pub version: u64,
}

impl EventType {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.definition.settings.name
    }
}

/// What the configuration says of event types.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Whether types that are not in the catalogue are refused.
    pub strict: bool,
    /// Those of the configuration and its catalogues, checked.
    pub files: Vec<Arc<Definition>>,
}

/// What holds for events of a type.
#[derive(Debug, Clone)]
pub enum TypeRule {
    /// Nothing: it is not in the catalogue, which is open.
    Free,
    /// It is not in the catalogue, which is strict.
    Unknown,
    /// It is.
    Known(Arc<EventType>),
}
